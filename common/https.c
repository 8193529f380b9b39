#include "common/https.h"

#include "common/crypto_tls.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define HEADER_BYTES_MAX (64 * 1024)

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_init_once(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct transfer {
    const struct https_request *request;
    struct https_answer *answer;
    size_t header_bytes;
    bool too_large;
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * n;
    if (len > t->request->max_answer_bytes - t->answer->body.len) {
        t->too_large = true;
        return 0;
    }
    buf_add(&t->answer->body, data, len);
    return len;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * n;
    t->header_bytes += len;
    if (t->header_bytes > HEADER_BYTES_MAX) {
        t->too_large = true;
        return 0;
    }
    // A new status line begins another answer (100, or a proxy's): only the last one's date counts.
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        t->answer->date_s = 0;
    } else if (len > 5 && len < 128 && strncasecmp(data, "date:", 5) == 0) {
        char text[128];
        memcpy(text, data + 5, len - 5);
        text[len - 5] = '\0';
        time_t date = curl_getdate(text, NULL);
        t->answer->date_s = date > 0 ? (int64_t)date : 0;
    }
    return len;
}

static int on_progress(void *ctx, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    const struct transfer *t = ctx;
    return t->request->cancel != NULL && atomic_load(t->request->cancel);
}

static CURLcode on_tls_context(CURL *curl, void *ssl_ctx, void *ctx)
{
    const struct https_request *r = ctx;
    if (r->tolerate_clock)
        crypto_tls_context_tolerate_clock(ssl_ctx);
    return crypto_tls_context_use(ssl_ctx, r->cert, r->key) < 0 ? CURLE_SSL_CERTPROBLEM : CURLE_OK;
}

static void set_trust(CURL *curl, const struct https_request *r)
{
    if (r->ca_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, r->ca_file);
    } else {
        struct curl_blob blob = {.data = (void *)(uintptr_t)r->ca_pem,
                                 .len = strlen(r->ca_pem),
                                 .flags = CURL_BLOB_COPY};
        curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob);
    }
    // The distribution's libcurl has a default CA folder: the system's CAs must not count here.
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r->cert != NULL) {
        curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
        curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, r);
    }
}

static void set_request(CURL *curl, const struct https_request *r, struct curl_slist *headers)
{
    curl_easy_setopt(curl, CURLOPT_URL, r->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (r->proxy != NULL)
        curl_easy_setopt(curl, CURLOPT_PROXY, r->proxy);
    if (strcmp(r->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, r->body != NULL ? r->body : "");
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
    }
}

static int code_to_errno(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return -EPROTO;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -ECONNREFUSED;
    case CURLE_ABORTED_BY_CALLBACK:
        return -ECANCELED;
    default:
        return -EIO;
    }
}

static struct curl_slist *headers_make(const struct https_request *r)
{
    // Without this, curl waits for "100 Continue" before a larger body.
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    for (const char *const *h = r->headers; h != NULL && *h != NULL; h++)
        list = curl_slist_append(list, *h);
    return list;
}

static int result(CURL *curl, CURLcode code, const struct transfer *t, const char *detail,
                  struct error *err)
{
    if (t->too_large)
        return error_set(err, "the answer is larger than %zu bytes", t->request->max_answer_bytes),
               -EMSGSIZE;
    if (code != CURLE_OK)
        return error_set(err, "%s", detail[0] != '\0' ? detail : curl_easy_strerror(code)),
               code_to_errno(code);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    t->answer->status = (int)status;
    return 0;
}

int https_perform(const struct https_request *request, struct https_answer *answer,
                  struct error *err)
{
    *answer = (struct https_answer){0};
    if (strncasecmp(request->url, "https://", 8) != 0)
        return error_set(err, "\"%s\" is not an https:// URL", request->url), -EINVAL;
    if (request->ca_file == NULL && request->ca_pem == NULL)
        return error_set(err, "no CA is given that could be trusted"), -EINVAL;
    pthread_once(&curl_once, curl_init_once);
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return error_set(err, "libcurl cannot be initialised"), -EIO;

    struct transfer t = {.request = request, .answer = answer};
    char detail[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = headers_make(request);
    set_request(curl, request, headers);
    set_trust(curl, request);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &t);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);

    CURLcode code = curl_easy_perform(curl);
    int r = result(curl, code, &t, detail, err);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (r < 0)
        https_answer_fini(answer);
    return r;
}

void https_answer_fini(struct https_answer *answer)
{
    buf_fini(&answer->body);
    *answer = (struct https_answer){0};
}
