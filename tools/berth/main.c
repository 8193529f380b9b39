#include "tools/berth/berth.h"

#include <stddef.h>

// Of every command that asks a server.
#define CLIENT_USAGE                                                                               \
    "  --ca FILE     certificate (PEM) that the server's certificate is checked against\n"         \
    "  -c FILE       configuration file of a server on this machine; default, without --server:\n" \
    "                config.yaml next to the executable, if there is one\n"

static const struct command commands[] = {
    {"serve", "runs the server: trust, pool, borrow and gateway under one supervisor",
     "all|licenses [-c FILE]\n"
     "  all       with the admin listener\n"
     "  licenses  without it\n"
     "  -c FILE   configuration file; default: config.yaml next to the executable",
     command_serve},
    {"check-config", "says whether a configuration file is right, and if not, all that is wrong",
     "FILE", command_check_config},
    {"check-license", "says whether license files are good, and if not, why; borrowed ones too",
     "FILE… [-c FILE] [--ca FILE] [--server-license FILE] [--server-id ID] [--host-id H]\n"
     "  -c FILE                configuration file of the server: its vendor CA and server license\n"
     "  --ca FILE              the vendor's CA (vendor-ca.pem)\n"
     "  --server-license FILE  server-license.pem: the server's ID and the license keys it trusts\n"
     "  --server-id ID         the server that the licenses must be issued for\n"
     "  --host-id H            the host that a borrowed license must be for\n"
     "For a borrowed license file --ca is enough.",
     command_check_license},
    {"rpc-keys", "makes the certificates with which the processes know each other over tls+tcp://",
     "DIR\n"
     "  DIR  is made; it gets ca.pem and, for each process, NAME.pem and NAME.key. Give every\n"
     "       process ca.pem and its own two files as the folder rpc.keys. Nothing is overwritten.",
     command_rpc_keys},
    {"status", "shows verdict, licenses, sessions and borrows of a server at a glance",
     "(--server URL --ca FILE | -c FILE) [--json]\n"
     "  --server URL  of the server, https://HOST:22022\n" CLIENT_USAGE
     "  --json        one JSON object instead of text\n"
     "The sessions are shown with -c only: they are on the admin port.",
     command_status},
    {"licenses", "shows what licenses a server has, and how much of them is free",
     "(--server URL --ca FILE | -c FILE) [--json]\n"
     "  --server URL  of the server, https://HOST:22022\n" CLIENT_USAGE
     "  --json        the server's answer instead of a table",
     command_licenses},
    {"borrow", "borrows a license: a file that one host can use for a time without the server",
     "--uuid U --feature F --host-id H --until T [--from T] [-o FILE]\n"
     "        (--server URL --ca FILE [--token-file FILE] | -c FILE) [--json]\n"
     "  --uuid U, --feature F  the license, as berth licenses shows it\n"
     "  --host-id H   the host: its MAC address, or its dongle's ID\n"
     "  --until T     end of the period: 2026-11-30, or 2026-11-30T12:00:00Z; at most 7 days\n"
     "  --from T      its beginning; default: now\n"
     "  -o FILE       where the borrowed license file goes; default: standard output\n"
     "  --server URL  of the server, https://HOST:22022\n" CLIENT_USAGE
     "  --token-file FILE  borrow.token of the server\n"
     "  --json        the server's answer\n"
     "A borrow cannot be returned. The same command again fetches the same file.",
     command_borrow},
    {"borrowed", "shows what is borrowed, now and in future",
     "(--server URL --ca FILE | -c FILE) [--json]\n"
     "  --server URL  of the server, https://HOST:22022\n" CLIENT_USAGE
     "  --json        the server's answer instead of a table",
     command_borrowed},
    {"sessions", "shows who holds a seat",
     "(--server URL --ca FILE --token-file FILE | -c FILE) [--json]\n"
     "  --server URL  of the server's admin port, https://HOST:22023\n" CLIENT_USAGE
     "  --token-file FILE  admin.token of the server\n"
     "  --json        the server's answer instead of a table, with whole session IDs",
     command_sessions},
    {NULL},
};

int main(int argc, char **argv)
{
    static const struct command_table berth = {
        "berth", commands, "exit: 0 done, 1 refused, 2 wrong usage, 3 server not reachable\n"};
    return command_run(&berth, argc, argv);
}
