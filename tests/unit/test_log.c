// Logs: both formats, quoting of what comes from outside, secrets cut, levels.
#include "common/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/berth-log-XXXXXX";
static char text[4096];

static const char *logged(enum log_format format, void (*write_lines)(void))
{
    unlink(path);
    assert_int_equal(log_init("berth-x", LOG_INFO, format, path), 0);
    write_lines();
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void write_some(void)
{
    log_debug("not.shown");
    log_warn("license.refused", LOG_S("file", "a b.dat"), LOG_I("line", -7), LOG_S("plain", "x/y"),
             LOG_S("bad", "q\"\n\xff"), LOG_S("none", NULL), LOG_ID("session", "0123456789abcdef"));
}

static void as_text(void **state)
{
    (void)state;
    const char *line = logged(LOG_TEXT, write_some);
    assert_null(strstr(line, "not.shown"));
    assert_non_null(strstr(line,
                           "Z warn  berth-x license.refused file=\"a b.dat\" line=-7 plain=x/y "
                           "bad=\"q\\\"\\n?\" none=\"\" session=012345…\n"));
}

static void as_json(void **state)
{
    (void)state;
    const char *line = logged(LOG_JSON, write_some);
    assert_non_null(
        strstr(line, "\",\"level\":\"warn\",\"process\":\"berth-x\",\"event\":"
                     "\"license.refused\",\"file\":\"a b.dat\",\"line\":-7,\"plain\":"
                     "\"x/y\",\"bad\":\"q\\\"\\n?\",\"none\":\"\",\"session\":\"012345…\"}\n"));
    assert_null(strstr(line, "6789abcdef"));
}

static void reopens(void **state)
{
    (void)state;
    logged(LOG_TEXT, write_some);
    unlink(path);
    assert_int_equal(log_reopen(), 0);
    write_some();
    assert_int_equal(access(path, R_OK), 0);
    assert_true(log_init("x", LOG_INFO, LOG_TEXT, "/nonexistent/folder/log") < 0);
}

int main(void)
{
    close(mkstemp(path));
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_text), cmocka_unit_test(as_json),
                                       cmocka_unit_test(reopens)};
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    log_init("x", LOG_INFO, LOG_TEXT, NULL);
    unlink(path);
    return r;
}
