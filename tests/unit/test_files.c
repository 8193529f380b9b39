#include "common/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

// Who may read a secret: the mode, the owner and the reader decide.
static void secrets(void **state)
{
    (void)state;
    const struct {
        mode_t mode;
        uid_t owner, reader;
        bool private;
    } cases[] = {
        {0600, 0, 0, true},          {0400, 0, 0, true},         {0600, 10001, 10001, true},
        {0400, 10001, 10001, true},  {0600, 0, 10001, true}, // it cannot be read, but that is no
                                                             // leak
        {0440, 0, 10001, true},      {0640, 0, 10001, true}, // mounted for a group of the reader's
        {0440, 0, 0, false},         {0640, 0, 0, false},    // as root nobody made a group for it
        {0640, 10001, 10001, false}, {0440, 1000, 10001, false}, {0660, 0, 10001, false},
        {0650, 0, 10001, false},     {0644, 0, 10001, false},    {0444, 0, 10001, false},
        {0604, 10001, 10001, false}, {0644, 0, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct stat st = {.st_mode = S_IFREG | cases[i].mode, .st_uid = cases[i].owner};
        if (file_is_private(&st, cases[i].reader) != cases[i].private)
            fail_msg("mode %04o owner %u reader %u", (unsigned)cases[i].mode, cases[i].owner,
                     cases[i].reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(secrets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
