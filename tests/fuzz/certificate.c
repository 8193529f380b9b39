// Any bytes as a certificate: everything that is read from one before it is trusted.
#include "common/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct crypto_cert *cert = NULL;
    if (crypto_cert_load_pem(&cert, (const char *)data, size, NULL) &&
        crypto_cert_load_der(&cert, data, size, NULL))
        return 0;
    char name[65], *json = NULL;
    size_t len;
    struct buf text = {0};
    crypto_cert_common_name(cert, name, sizeof name);
    crypto_cert_dns_name(cert, name, sizeof name);
    crypto_cert_has_usage(cert, USAGE_LICENSE_KEY);
    crypto_cert_describe(cert, &text);
    crypto_cert_extension(cert, OID_SERVER_LICENSE_EXTENSION, &json, &len);
    free(json);
    buf_fini(&text);
    crypto_cert_free(&cert);
    return 0;
}
