#include "tools/berth-vendor/vendor.h"
#include "tools/command.h"

#include <stddef.h>

static const struct command commands[] = {
    {"init", "makes the vendor's CA, the license key and KEYS/cloud for the backend's host",
     "--dir KEYS [--name \"Example Vision GmbH\"] [--cloud-name NAME]…", vendor_init},
    {"cloud-license", "makes server-license.pem and server-license.key",
     "--dir KEYS --server-id ID --cloud-url URL [--addon borrow]…\n"
     "        [--valid-until DATE] [--renew server-license.pem] --out DIR\n"
     "  --renew keeps the key",
     vendor_cloud_license},
    {"dongle-license", "makes the certificate for a key in a token",
     "--dir KEYS --server-id ID [--valid-until DATE]\n"
     "        (--csr FILE (--attestation CERT… | --unattested) | --token) --out FILE\n"
     "        [--management-key-file FILE]\n"
     "  --token makes the token plugged in here a dongle",
     vendor_dongle_license},
    {"license", "signs a license file",
     "--dir KEYS --server-id ID --feature F --version V --edition E --modules M\n"
     "        --count N [--uuid U] [--issued T] [--valid-from T] [--valid-until T]\n"
     "        [--server-url URL]… --out license_x.dat",
     vendor_license},
    {"rotate-license-key", "makes a new license key; licenses are signed with it from now on",
     "--dir KEYS", vendor_rotate_license_key},
    {"restore-ledger", "says what is wrong with a server's borrow ledger, and makes a new one",
     "--dir KEYS --server-id ID --from FILE|FOLDER… [--out DIR]\n"
     "  --from takes ledgers, also damaged ones, and borrowed license files; only what was\n"
     "         provably lent is in the new ledger",
     vendor_restore_ledger},
    {"inspect", "says what a certificate, server license or license file holds, and checks it",
     "FILE [--ca vendor-ca.pem] [--dir KEYS]", vendor_inspect},
    {NULL},
};

int main(int argc, char **argv)
{
    static const struct command_table vendor = {
        "berth-vendor", commands,
        "Dates: 2027-11-24, or 2027-11-24T08:00:00Z; a date as the end means the end of that\n"
        "day.\n"};
    return command_run(&vendor, argc, argv);
}
