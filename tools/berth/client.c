#include "tools/berth/client.h"

#include "common/core/buf.h"
#include "common/crypto.h"
#include "common/https.h"
#include "common/json.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000
#define ANSWER_MAX_BYTES (64U * 1024 * 1024)
#define TOKEN_MAX_BYTES 4096

// ---- arguments ----

static int check_source(const struct client *client)
{
    if (client->config || (client->server && client->ca))
        return BERTH_OK;
    if (client->server)
        fprintf(stderr, "berth %s: --server needs --ca FILE\n", client->name);
    else
        fprintf(stderr, "berth %s: give --server URL and --ca FILE, or -c FILE of the server\n",
                client->name);
    return BERTH_USAGE;
}

static int load_config(struct client *client, const char *path)
{
    struct error err = {""};
    if (!config_load(&client->config, path, &err))
        return BERTH_OK;
    fprintf(stderr, "berth %s: %s\n", client->name, err.text);
    return BERTH_REFUSED;
}

enum { COMMON_OPTIONS = 5, OWN = 256 };

// Options of getopt_long, and its string of short ones, for the common ones and a command's own.
static void join_options(struct option *out, char *letters, const struct client_option *own)
{
    static const struct option common[COMMON_OPTIONS] = {{"server", required_argument, NULL, 's'},
                                                         {"ca", required_argument, NULL, 'a'},
                                                         {"token-file", required_argument, NULL,
                                                          't'},
                                                         {"config", required_argument, NULL, 'c'},
                                                         {"json", no_argument, NULL, 'j'}};
    memcpy(out, common, sizeof common);
    out += COMMON_OPTIONS;
    strcpy(letters, "c:");
    for (int i = 0; own && own[i].name && i < CLIENT_OPTIONS_MAX; i++) {
        if (own[i].name[1] == '-') {
            *out++ = (struct option){own[i].name + 2, required_argument, NULL, OWN + i};
        } else {
            size_t len = strlen(letters);
            letters[len] = own[i].name[1];
            strcpy(letters + len + 1, ":");
        }
    }
    *out = (struct option){NULL, 0, NULL, 0};
}

static void take_letter(struct client_option *own, int letter, const char *value)
{
    for (int i = 0; own && own[i].name; i++) {
        if (own[i].name[1] == letter)
            own[i].value = value;
    }
}

int client_init(struct client *client, int argc, char **argv, struct client_option *own)
{
    struct option options[COMMON_OPTIONS + CLIENT_OPTIONS_MAX + 1];
    char letters[2 * CLIENT_OPTIONS_MAX + 3];
    *client = (struct client){.name = argv[0]};
    const char *config = NULL;
    int c;
    join_options(options, letters, own);
    optind = 0; // the main program may have read options of its own
    while ((c = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        switch (c) {
        case 's': client->server = optarg; break;
        case 'a': client->ca = optarg; break;
        case 't': client->token_file = optarg; break;
        case 'c': config = optarg; break;
        case 'j': client->json = true; break;
        case '?': return BERTH_USAGE;
        default:
            if (c >= OWN)
                own[c - OWN].value = optarg;
            else
                take_letter(own, c, optarg);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "berth %s: unknown argument \"%s\"\n", client->name, argv[optind]);
        return BERTH_USAGE;
    }
    if (config || (!client->server && config_lies_beside())) {
        int status = load_config(client, config);
        if (status)
            return status;
    }
    client->arena = arena_new(65536);
    return check_source(client);
}

void client_fini(struct client *client)
{
    config_free(&client->config);
    if (client->arena)
        arena_free(&client->arena);
    *client = (struct client){0};
}

// ---- where the server is ----

struct target {
    const char *ca;
    const char *urls[CLIENT_HOSTS_MAX]; // tried in order while the certificate does not fit
    size_t urls_len;
};

static void add_host(struct client *client, struct target *t, const char *host, uint16_t port)
{
    bool v6 = strchr(host, ':') != NULL;
    const char *url = arena_printf(client->arena, v6 ? "https://[%s]:%u" : "https://%s:%u", host,
                                   port);
    for (size_t i = 0; i < t->urls_len; i++) {
        if (!strcmp(t->urls[i], url))
            return;
    }
    if (t->urls_len < CLIENT_HOSTS_MAX)
        t->urls[t->urls_len++] = url;
}

// The configuration says where the server listens, not which of its certificate's names leads
// there: the names that can are tried.
static void find_configured(struct client *client, enum client_port port, struct target *t)
{
    const struct config *c = client->config;
    bool admin = port == CLIENT_ADMIN;
    const char *host = admin ? c->serve.admin.host : c->serve.licenses.host;
    uint16_t number = admin ? c->serve.admin.port : c->serve.licenses.port;
    const char *certificate = admin && c->serve.admin.tls.certificate
                                  ? c->serve.admin.tls.certificate
                                  : c->serve.licenses.tls.certificate;
    if (!t->ca)
        t->ca = certificate; // its own certificate is anchor enough
    bool any = !strcmp(host, "0.0.0.0") || !strcmp(host, "::");
    if (!any)
        add_host(client, t, host, number);
    if (any || !strncmp(host, "127.", 4) || !strcmp(host, "::1"))
        add_host(client, t, "localhost", number);
    if (any)
        add_host(client, t, "127.0.0.1", number);
    struct crypto_cert *cert = NULL;
    char name[256];
    if (certificate && !crypto_cert_load_file(&cert, certificate, NULL) &&
        !crypto_cert_dns_name(cert, name, sizeof name))
        add_host(client, t, name, number);
    crypto_cert_free(&cert);
}

static void find_target(struct client *client, enum client_port port, struct target *t)
{
    *t = (struct target){.ca = client->ca};
    if (!client->server) {
        find_configured(client, port, t);
        return;
    }
    size_t len = strlen(client->server);
    while (len && client->server[len - 1] == '/')
        len--;
    t->urls[t->urls_len++] = arena_strndup(client->arena, client->server, len);
}

// ---- requests ----

// 1: none is given, and none is needed to ask.
static int read_token(struct client *client, enum client_port port, char *token, size_t cap,
                      struct error *err)
{
    const char *path = client->token_file;
    if (!path && client->config)
        path = port == CLIENT_ADMIN         ? client->config->serve.admin.token_file
               : client->config->borrow.open ? NULL
                                             : client->config->borrow.token_file;
    if (!path && port == CLIENT_BORROW)
        return 1;
    if (!path)
        return error_set(err, "give --token-file FILE"), -ENOENT;
    FILE *f = fopen(path, "re");
    if (!f)
        return error_set(err, "%s: %s", path, strerror(errno)), -ENOENT;
    size_t len = fread(token, 1, cap - 1, f);
    fclose(f);
    while (len && strchr(" \t\r\n", token[len - 1]))
        len--;
    token[len] = '\0';
    if (!len || strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                              "-._~+/=") != len)
        return error_set(err, "%s holds no token", path), -EINVAL;
    return 0;
}

static int perform(struct client *client, enum client_port port, const char *path,
                   struct https_request *request, struct https_answer *answer, struct error *err)
{
    struct target t;
    find_target(client, port, &t);
    int r = -EPROTO;
    for (size_t i = 0; r == -EPROTO && i < t.urls_len; i++) {
        request->url = arena_printf(client->arena, "%s%s", t.urls[i], path);
        request->ca_file = t.ca;
        request->timeout_ms = TIMEOUT_MS;
        request->max_answer_bytes = ANSWER_MAX_BYTES;
        struct error why = {""};
        r = https_perform(request, answer, &why);
        if (r)
            error_set(err, "%s: %s", t.urls[i], why.text);
    }
    if (!r)
        return BERTH_OK;
    return r == -EINVAL ? BERTH_USAGE : BERTH_UNREACHABLE;
}

static int read_answer(struct client *client, const struct https_request *request,
                       const struct https_answer *answer, cJSON **out, struct error *err)
{
    if (answer->status == 404)
        return error_set(err, "%s: no such path: is this the right port?", request->url),
               BERTH_REFUSED;
    if (answer->status != 200 && answer->status != 401 && answer->status != 429)
        return error_set(err, "%s: HTTP status %d", request->url, answer->status), BERTH_REFUSED;
    struct error why = {""};
    *out = json_parse(client->arena, answer->body.data ? answer->body.data : "", answer->body.len,
                      &why);
    if (*out)
        return BERTH_OK;
    return error_set(err, "%s: HTTP status %d, %s", request->url, answer->status, why.text),
           BERTH_REFUSED;
}

static int exchange(struct client *client, enum client_port port, const char *path,
                    struct https_request *request, cJSON **out, struct error *err)
{
    struct https_answer answer;
    int status = perform(client, port, path, request, &answer, err);
    if (status)
        return status;
    status = read_answer(client, request, &answer, out, err);
    https_answer_fini(&answer);
    return status;
}

static int report(const struct client *client, int status, const struct error *err)
{
    if (status)
        fprintf(stderr, "berth %s: %s\n", client->name, err->text);
    return status;
}

int client_get(struct client *client, enum client_port port, const char *path, cJSON **out)
{
    struct https_request request = {.method = "GET"};
    struct error err = {""};
    return report(client, exchange(client, port, path, &request, out, &err), &err);
}

// A message of the server may hold anything: nothing of it may steer the terminal.
static char *printable(struct client *client, const char *text)
{
    char *copy = arena_strndup(client->arena, text, strlen(text));
    for (char *p = copy; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    return copy;
}

int client_try(struct client *client, enum client_port port, const char *method,
               const char *params, cJSON **out, struct error *err)
{
    char token[TOKEN_MAX_BYTES], authorization[TOKEN_MAX_BYTES + 32];
    const char *headers[3] = {"Content-Type: application/json"};
    int r = port == CLIENT_LICENSES ? 1 : read_token(client, port, token, sizeof token, err);
    if (r < 0)
        return BERTH_REFUSED;
    if (r == 0) {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", token);
        headers[1] = authorization;
    }
    const char *body =
        arena_printf(client->arena, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"%s%s}", method,
                     params ? ",\"params\":" : "", params ? params : "");
    struct https_request request = {
        .method = "POST", .body = body, .body_len = strlen(body), .headers = headers};
    cJSON *root;
    int status = exchange(client, port, port == CLIENT_ADMIN ? "/admin" : "/licenses", &request,
                          &root, err);
    crypto_wipe(token, sizeof token);
    crypto_wipe(authorization, sizeof authorization);
    if (status)
        return status;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
    *out = cJSON_GetObjectItemCaseSensitive(root, "result");
    if (!error && *out)
        return BERTH_OK;
    error_set(err, "the server refuses: %s (%.0f)",
              printable(client, client_string(error, "message")), client_number(error, "code"));
    return BERTH_REFUSED;
}

int client_call(struct client *client, enum client_port port, const char *method,
                const char *params, cJSON **out)
{
    struct error err = {""};
    return report(client, client_try(client, port, method, params, out, &err), &err);
}

// ---- answers ----

void client_print_json(const cJSON *value)
{
    char *text = cJSON_Print(value);
    if (!text)
        abort();
    puts(text);
    cJSON_free(text);
}

const char *client_string(const cJSON *object, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return s ? s : "";
}

double client_number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}
