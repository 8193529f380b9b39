#include "tools/berth-vendor/vendor.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
} commands[] = {
    {"init", vendor_init,
     "--dir KEYS [--name \"Example Vision GmbH\"] [--cloud-name NAME]…\n"
     "        makes the vendor's CA, the license key and KEYS/cloud for the backend's host"},
    {"cloud-license", vendor_cloud_license,
     "--dir KEYS --server-id ID --cloud-url URL [--addon borrow]…\n"
     "        [--valid-until DATE] [--renew server-license.pem] --out DIR\n"
     "        makes server-license.pem and server-license.key; --renew keeps the key"},
    {"dongle-license", vendor_dongle_license,
     "--dir KEYS --server-id ID [--valid-until DATE]\n"
     "        (--csr FILE (--attestation CERT… | --unattested) | --token) --out FILE\n"
     "        [--management-key-file FILE]\n"
     "        makes the certificate for a key in a token; --token: makes the token plugged in\n"
     "        here a dongle"},
    {"license", vendor_license,
     "--dir KEYS --server-id ID --feature F --version V --edition E --modules M\n"
     "        --count N [--uuid U] [--issued T] [--valid-from T] [--valid-until T]\n"
     "        [--server-url URL]… --out license_x.dat\n"
     "        signs a license file"},
    {"rotate-license-key", vendor_rotate_license_key,
     "--dir KEYS\n"
     "        makes a new license key; licenses are signed with it from now on"},
    {"restore-ledger", vendor_restore_ledger,
     "--dir KEYS --server-id ID --from FILE|FOLDER… [--out DIR]\n"
     "        says what is wrong with a server's borrow ledger, and makes a new one of what was\n"
     "        provably lent: --from takes ledgers, also damaged ones, and borrowed license files"},
    {"inspect", vendor_inspect,
     "FILE [--ca vendor-ca.pem] [--dir KEYS]\n"
     "        says what a certificate, server license or license file holds, and checks it"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static void usage(FILE *out)
{
    fputs("usage:\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  berth-vendor %s %s\n", commands[i].name, commands[i].usage);
    fputs("  berth-vendor -h | --version\n"
          "Dates: 2027-11-24, or 2027-11-24T08:00:00Z; a date as the end means the end of that\n"
          "day.\n",
          out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "-h") || !strcmp(name, "--help"))
        return usage(stdout), 0;
    if (!strcmp(name, "--version"))
        return puts("berth-vendor " BERTH_VERSION), 0;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        for (int k = 2; k < argc; k++) {
            if (!strcmp(argv[k], "-h") || !strcmp(argv[k], "--help"))
                return printf("usage: berth-vendor %s %s\n", name, commands[i].usage), 0;
        }
        int status = commands[i].run(argc - 1, argv + 1);
        if (status == 2)
            fprintf(stderr, "usage: berth-vendor %s %s\n", name, commands[i].usage);
        return status;
    }
    if (*name)
        fprintf(stderr, "berth-vendor: there is no command \"%s\"\n", name);
    usage(stderr);
    return 2;
}
