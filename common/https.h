// One HTTPS request, blocking, over libcurl (its only caller). Used by trust's cloud check (on a
// worker thread) and by the command line tools. Thread-safe.
#pragma once

#include "common/core/buf.h"
#include "common/core/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct crypto_cert;
struct crypto_key;

struct https_request {
    const char *url;    // https:// only; redirects are not followed
    const char *method; // GET, POST
    const char *body;   // POST
    size_t body_len;
    const char *const *headers;       // "Name: value", NULL-terminated, or NULL
    const char *ca_file;              // trusted CA bundle (PEM file), nothing else is trusted
    const char *ca_pem;               // the same as text; used if ca_file is NULL
    const struct crypto_cert *cert;   // client certificate, or NULL
    const struct crypto_key *key;     // its key
    bool tolerate_clock;              // see crypto_tls_context_tolerate_clock()
    const char *proxy;                // NULL: the environment's https_proxy
    int64_t timeout_ms;               // whole request
    size_t max_answer_bytes;
    const atomic_bool *cancel; // set by another thread: ends the request (-ECANCELED) within 1 s
};

struct https_answer {
    int status;
    struct buf body;
    int64_t date_s; // of the Date header, UTC seconds; 0: none
};

// 0 when any HTTP answer came; or -errno: -ETIMEDOUT, -EPROTO (TLS), -ECONNREFUSED (no connection),
// -EMSGSIZE (answer too large), -ECANCELED, -EINVAL (no https URL, no CA), -EIO; err says what went
// wrong, for people.
int https_perform(const struct https_request *request, struct https_answer *answer,
                  struct error *err);
void https_answer_fini(struct https_answer *answer);
