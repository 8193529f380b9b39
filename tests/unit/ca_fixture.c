#include "tests/unit/ca_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DAY 86400

void test_ca_make(struct test_ca *ca, struct wall_time now)
{
    struct error err = {""};
    const struct crypto_issue what = {.common_name = "Test License CA",
                                      .not_before = {now.s - 10 * DAY},
                                      .not_after = {now.s + 3650LL * DAY},
                                      .ca = true};
    assert_int_equal(crypto_key_new_p256(&ca->key), 0);
    assert_int_equal(crypto_cert_issue(&ca->cert, &what, ca->key, NULL, NULL, &err), 0);
    char *pem = crypto_cert_pem(ca->cert);
    assert_int_equal(crypto_ca_load_pem(&ca->ca, pem, strlen(pem), &err), 0);
    free(pem);
}

void test_ca_drop(struct test_ca *ca)
{
    crypto_key_free(&ca->key);
    crypto_cert_free(&ca->cert);
    crypto_ca_free(&ca->ca);
}
