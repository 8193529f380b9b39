#include "services/trust/message.h"

#include <stdio.h>
#include <string.h>

static const char *const sentences[][2] = {
    {"revoked", "The server license %s was revoked by its vendor. Ask the vendor."},
    {"expired", "The server license %s has expired. Ask the vendor for a new one."},
    {"in-use-elsewhere",
     "The server license %s is in use on another host. Stop the server there; after a stop without "
     "goodbye it is free again in ten minutes."},
    {"ledger-rollback",
     "The borrow ledger of server license %s is older than the vendor knows it. Put the newest "
     "ledger back, or ask the vendor."},
    {"dongle-absent", "The dongle with the server license %s is not plugged in, or does not "
                      "answer. Plug it in: the server goes on by itself."},
    {"dongle-busy", "Another program holds the dongle with the server license %s, mostly pcscd or "
                    "scdaemon. Stop it: the server goes on by itself."},
    {"dongle-no-permission", "The server may not open the dongle with the server license %s. "
                             "Install the udev rule and add its group to trust."},
    {"dongle-unsupported", "What is plugged in instead of the dongle with the server license %s is "
                           "no token with PIV that can be used. Plug in the right one."},
    {"certificate", "What is plugged in holds no server license of the vendor, as the dongle with "
                    "the server license %s did. Plug in the right one, or ask the vendor."},
    {"proof-failed", "The dongle does not prove that it has the key of the server license %s. Plug "
                     "it in anew; if that does not help, ask the vendor."},
    {"clock", "This host's clock is wrong (server license %s). Set it right: the server goes on by "
              "itself."},
};

void message_write(char *out, size_t cap, const struct verdict_view *view,
                   const struct message_facts *facts)
{
    out[0] = '\0';
    if (view->state == VERDICT_GRACE) {
        snprintf(out, cap,
                 "The server license %s cannot be checked at %s (%s). The server goes on for the "
                 "grace period.",
                 facts->server_id, facts->where, facts->last_error);
    } else if (view->state == VERDICT_INVALID) {
        for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++) {
            if (strcmp(sentences[i][0], view->reason) == 0) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                snprintf(out, cap, sentences[i][1], facts->server_id);
#pragma GCC diagnostic pop
                return;
            }
        }
        snprintf(out, cap,
                 "The server license %s could not be checked at %s (%s) and the grace period is "
                 "over. Make the backend reachable: the server goes on by itself.",
                 facts->server_id, facts->where,
                 facts->last_error[0] != '\0' ? facts->last_error : "no check has ended yet");
    }
}
