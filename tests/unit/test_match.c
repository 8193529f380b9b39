// licenses.md, "Matching", sentence by sentence.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "services/pool/core/match.h"

static struct match_terms terms(const char *version, const char *edition, const char *modules)
{
    struct match_terms t;
    assert_int_equal(version_parse(version, strlen(version), &t.version), 0);
    assert_int_equal(edition_parse(edition, strlen(edition), &t.edition), 0);
    assert_int_equal(modules_parse(modules, strlen(modules), &t.modules), 0);
    return t;
}

static void test_serves(void **state)
{
    static const struct {
        const char *lv, *le, *lm, *rv, *re, *rm;
        enum match_reason reason;
    } cases[] = {
        // its modules contain all that are requested
        {"24.11", "Steady", "fc12d", "24.11", "Steady", "fc", MATCH_SERVES},
        {"24.11", "Steady", "fc12d", "24.11", "Steady", "", MATCH_SERVES},
        {"24.11", "Steady", "", "24.11", "Steady", "", MATCH_SERVES},
        {"24.11", "Steady", "fc", "24.11", "Steady", "fd", MATCH_MODULES_MISSING},
        {"24.11", "Steady", "", "24.11", "Steady", "t", MATCH_MODULES_MISSING},
        // its version is the requested one or newer, number by number
        {"24.11", "Steady", "f", "24.5", "Steady", "f", MATCH_SERVES},
        {"24.5", "Steady", "f", "24.11", "Steady", "f", MATCH_VERSION_OLDER},
        {"24.11", "Steady", "f", "24.11.0", "Steady", "f", MATCH_SERVES},
        {"24.11.0.0", "Steady", "f", "24.11", "Steady", "f", MATCH_SERVES},
        {"24.11", "Steady", "f", "24.11.0.1", "Steady", "f", MATCH_VERSION_OLDER},
        {"24", "Steady", "f", "24.0.0", "Steady", "f", MATCH_SERVES},
        {"9.99", "Steady", "f", "10", "Steady", "f", MATCH_VERSION_OLDER},
        // its edition covers the requested one
        {"24.11", "Progress", "f", "24.11", "Progress", "f", MATCH_SERVES},
        {"24.11", "Steady", "f", "24.11", "Progress", "f", MATCH_EDITION},
        {"24.11", "Steady-Progress", "f", "24.11", "Progress", "f", MATCH_SERVES},
        {"24.5", "Steady-Progress", "f", "24.5", "Steady", "f", MATCH_SERVES},
        {"24.11", "Progress", "f", "24.11", "Steady", "f", MATCH_SERVES},
        {"25.5", "Progress", "f", "24.11", "Steady", "f", MATCH_SERVES},
        {"25.5", "Progress", "f", "24.5", "Steady", "f", MATCH_EDITION},
        {"25.5", "Progress", "f", "24.10.9.9", "Steady", "f", MATCH_EDITION},
        // the first reason that applies
        {"23.5", "Steady", "", "24.11", "Progress", "f", MATCH_EDITION},
        {"23.5", "Steady", "", "24.11", "Steady", "f", MATCH_VERSION_OLDER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct match_terms l = terms(cases[i].lv, cases[i].le, cases[i].lm);
        struct match_terms r = terms(cases[i].rv, cases[i].re, cases[i].rm);
        if (match_terms_check(&l, &r) != cases[i].reason)
            fail_msg("case %zu: %d instead of %d", i, match_terms_check(&l, &r), cases[i].reason);
    }
}

// Each license is taken before the next one.
static void test_order(void **state)
{
    static const struct {
        const char *version, *edition, *modules;
    } order[] = {
        {"24.11", "Steady", "fc"},          // exact, the precise edition
        {"24.11", "Steady-Progress", "fc"}, // exact
        {"24.11", "Steady", "fcd"},         // more modules, fewest surplus first
        {"24.11", "Steady", "fcdo"},        {"24.11", "Steady-Progress", "fcd"},
        {"25.5", "Steady", "fc"}, // newer, fewest surplus before the older version
        {"24.12", "Steady", "fcd"},         {"25.5", "Steady-Progress", "fc"},
        {"25.5", "Progress", "fc"}, // Progress for Steady, any version
        {"24.11", "Progress", "fcd"},
    };
    struct match_terms request = terms("24.11", "Steady", "fc");
    for (size_t i = 0; i + 1 < sizeof order / sizeof *order; i++) {
        struct match_terms a = terms(order[i].version, order[i].edition, order[i].modules);
        struct match_terms b =
            terms(order[i + 1].version, order[i + 1].edition, order[i + 1].modules);
        if (match_rank(&a, &request) >= match_rank(&b, &request))
            fail_msg("license %zu is not taken before the next", i);
        assert_true(match_rank(&b, &request) < 256);
    }
    struct match_terms older = terms("24.12", "Steady", "fcd"),
                       newer = terms("25.5", "Steady", "fco");
    assert_int_equal(match_rank(&older, &request), match_rank(&newer, &request));
}

static void test_reason_names(void **state)
{
    char buf[MATCH_REASON_BYTES];
    assert_string_equal(match_reason_format(MATCH_SERVER_ID, 0, buf), "server-id");
    assert_string_equal(match_reason_format(MATCH_NOT_YET_VALID, 0, buf), "not-yet-valid");
    assert_string_equal(match_reason_format(MATCH_ALL_BORROWED, 0, buf), "all-borrowed");
    assert_string_equal(match_reason_format(MATCH_ALL_IN_USE, 0, buf), "all-in-use");
    struct match_terms all = terms("1", "Steady", MODULE_LETTERS);
    assert_string_equal(match_reason_format(MATCH_MODULES_MISSING, all.modules, buf),
                        "modules-missing:" MODULE_LETTERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serves),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_reason_names),
    };
    return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
