// Stands in for pool, trust and borrow, so that the gateway is tested alone. What a call asks for
// says how it is answered; EndSessionV1 with "verdict:…" or "pages:…" switches a mode.
//   fake_backend DIR        serves ipc://DIR/{pool,trust,borrow}
#include "borrow.pb-c.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/rpc.h"
#include "pool.pb-c.h"
#include "trust.pb-c.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 64
#define PAGE_SESSIONS 400

static struct loop *loop;
static unsigned requested, returned; // calls carried out
static char verdict_mode[16] = "valid";
static bool huge_pages, slow_pages;

static char *text(const char *s)
{
    return (char *)(uintptr_t)s; // protobuf-c has no const
}

// ---- errors: every member is filled, so that the gateway has to choose ----

static void fail_with(void *closure_data, int code)
{
    Berth__Considered one = BERTH__CONSIDERED__INIT;
    Berth__Considered *list[] = {&one};
    Berth__Error error = BERTH__ERROR__INIT;
    one.uuid = text("u-1");
    one.feature = text("F");
    one.reason = text("version");
    error.code = code;
    error.message = text("what is wrong and what to do");
    error.reason = text("some-reason");
    error.field = text("instanceId");
    error.service = text("pool");
    error.has_retry_after_s = 1;
    error.retry_after_s = 7;
    error.n_considered = 1;
    error.considered = list;
    error.has_omitted = 1;
    error.omitted = 3;
    error.limit = text("7 d");
    error.has_from_s = error.has_until_s = 1;
    error.from_s = 1795507200;
    error.until_s = 1795593600;
    rpc_fail(closure_data, &error);
}

// "code:1001" → 1001; else 0.
static int code_of(const char *s)
{
    return strncmp(s, "code:", 5) ? 0 : atoi(s + 5);
}

// ---- answers that come later ----

struct later {
    struct loop_timer timer;
    Berth__RevalidateSessionReply_Closure closure;
    void *closure_data;
};

static void on_later(void *ctx)
{
    struct later *l = ctx;
    Berth__RevalidateSessionReply reply = BERTH__REVALIDATE_SESSION_REPLY__INIT;
    reply.revalidate_within_s = 1;
    l->closure(&reply, l->closure_data);
    free(l);
}

// ---- pool ----

static void fill_license(Berth__LicenseRef *l, const char *uuid)
{
    berth__license_ref__init(l);
    l->feature = text("F");
    l->uuid = text(uuid);
    l->version = text("24.11");
    l->edition = text("Steady");
    l->modules = text("fc1");
}

static void fill_grant(Berth__Grant *g, ProtobufCBinaryData nonce)
{
    static uint8_t bytes[] = {1, 2, 3, 4};
    berth__grant__init(g);
    g->payload = nonce;
    g->signature = (ProtobufCBinaryData){sizeof bytes, bytes};
    g->delegation = (ProtobufCBinaryData){2, bytes};
    g->certificate = text("-----BEGIN CERTIFICATE-----\n");
}

static void list_licenses(Berth__Pool_Service *s, const Berth__Empty *call,
                          Berth__ListLicensesReply_Closure closure, void *data)
{
    Berth__LicenseRef refs[2];
    Berth__LicenseInfo infos[2] = {BERTH__LICENSE_INFO__INIT, BERTH__LICENSE_INFO__INIT};
    Berth__LicenseInfo *list[] = {&infos[0], &infos[1]};
    Berth__Interval interval = BERTH__INTERVAL__INIT;
    Berth__Interval *intervals[] = {&interval};
    Berth__ListLicensesReply reply = BERTH__LIST_LICENSES_REPLY__INIT;
    fill_license(&refs[0], "u-<1>");
    fill_license(&refs[1], "u-2");
    infos[0].license = &refs[0];
    infos[0].count = requested;
    infos[0].available = returned;
    infos[1].license = &refs[1];
    infos[1].count = 5;
    infos[1].available = 4;
    infos[1].has_valid_from_s = infos[1].has_valid_until_s = 1;
    infos[1].valid_from_s = 1795507200;
    infos[1].valid_until_s = 1795593600;
    interval.valid_from_s = 1795507200;
    interval.valid_until_s = 1795507201;
    interval.host_id = text("00:11:22:33:44:55");
    infos[1].n_borrowed = 1;
    infos[1].borrowed = intervals;
    reply.n_licenses = 2;
    reply.licenses = list;
    closure(&reply, data);
}

static void request_session(Berth__Pool_Service *s, const Berth__RequestSessionCall *call,
                            Berth__RequestSessionReply_Closure closure, void *data)
{
    char uuid[600];
    Berth__LicenseRef license;
    Berth__Grant grant;
    Berth__RequestSessionReply reply = BERTH__REQUEST_SESSION_REPLY__INIT;
    requested++;
    if (code_of(call->feature)) {
        fail_with(data, code_of(call->feature));
        return;
    }
    if (!strcmp(call->feature, "die"))
        _exit(9);
    if (!strcmp(call->feature, "silent"))
        return;
    fill_license(&license, uuid);
    snprintf(uuid, sizeof uuid, "%s|%s|%s", call->client->host_id ? call->client->host_id : "-",
             call->client->address, call->instance_id ? call->instance_id : "-");
    reply.session_id = text("s-1");
    reply.revalidate_within_s = 120;
    reply.license = &license;
    if (call->has_nonce) {
        fill_grant(&grant, call->nonce);
        reply.grant = &grant;
    }
    closure(&reply, data);
}

static void revalidate_session(Berth__Pool_Service *s, const Berth__RevalidateSessionCall *call,
                               Berth__RevalidateSessionReply_Closure closure, void *data)
{
    Berth__Grant grant;
    Berth__RevalidateSessionReply reply = BERTH__REVALIDATE_SESSION_REPLY__INIT;
    if (!strncmp(call->session_id, "later:", 6)) {
        struct later *l = calloc(1, sizeof *l);
        if (!l)
            abort();
        l->closure = closure;
        l->closure_data = data;
        loop_timer_init(&l->timer, on_later, l);
        loop_timer_arm(loop, &l->timer, mono_after(clock_mono(), atoi(call->session_id + 6)));
        return;
    }
    if (!strcmp(call->session_id, "silent"))
        return;
    if (code_of(call->session_id)) {
        fail_with(data, code_of(call->session_id));
        return;
    }
    reply.revalidate_within_s = 120;
    if (call->has_nonce) {
        fill_grant(&grant, call->nonce);
        reply.grant = &grant;
    }
    closure(&reply, data);
}

static void return_session(Berth__Pool_Service *s, const Berth__ReturnSessionCall *call,
                           Berth__Empty_Closure closure, void *data)
{
    Berth__Empty reply = BERTH__EMPTY__INIT;
    returned++;
    closure(&reply, data);
}

struct later_page {
    struct loop_timer timer;
    Berth__ListSessionsReply_Closure closure;
    void *closure_data;
};

static void on_later_page(void *ctx)
{
    static uint8_t next[1] = {1};
    struct later_page *l = ctx;
    Berth__ListSessionsReply reply = BERTH__LIST_SESSIONS_REPLY__INIT;
    reply.has_cursor = 1;
    reply.cursor = (ProtobufCBinaryData){1, next};
    l->closure(&reply, l->closure_data);
    free(l);
}

// A page without end after 3 s: two are more than a request may take.
static void list_slowly(Berth__ListSessionsReply_Closure closure, void *data)
{
    struct later_page *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->closure = closure;
    l->closure_data = data;
    loop_timer_init(&l->timer, on_later_page, l);
    loop_timer_arm(loop, &l->timer, mono_after(clock_mono(), 3000));
}

static void list_sessions(Berth__Pool_Service *s, const Berth__ListSessionsCall *call,
                          Berth__ListSessionsReply_Closure closure, void *data)
{
    static Berth__SessionInfo infos[PAGE_SESSIONS];
    static Berth__SessionInfo *list[PAGE_SESSIONS];
    static char long_host[1024];
    Berth__LicenseRef license;
    Berth__ClientInfo client = BERTH__CLIENT_INFO__INIT;
    Berth__ListSessionsReply reply = BERTH__LIST_SESSIONS_REPLY__INIT;
    unsigned page = call->has_cursor ? call->cursor.data[0] : 0U;
    size_t n = huge_pages ? PAGE_SESSIONS : 1;
    char id[16];
    uint8_t next[1] = {(uint8_t)(page + 1)};
    if (slow_pages) {
        list_slowly(closure, data);
        return;
    }
    snprintf(id, sizeof id, "s-%u", page);
    fill_license(&license, "u-1");
    memset(long_host, 'h', sizeof long_host - 1);
    client.hostname = huge_pages ? long_host : text("host");
    client.address = text("127.0.0.1");
    for (size_t i = 0; i < n; i++) {
        berth__session_info__init(&infos[i]);
        infos[i].session_id = id;
        infos[i].license = &license;
        infos[i].client = page == 1 ? NULL : &client;
        infos[i].since_s = 1795507200;
        infos[i].last_seen_s = 1795507201;
        infos[i].expires_s = 1795507202;
        list[i] = &infos[i];
    }
    reply.n_sessions = n;
    reply.sessions = list;
    if (page < 2 || huge_pages) {
        reply.has_cursor = 1;
        reply.cursor = (ProtobufCBinaryData){1, next};
    }
    closure(&reply, data);
}

static void end_session(Berth__Pool_Service *s, const Berth__EndSessionCall *call,
                        Berth__Empty_Closure closure, void *data)
{
    Berth__Empty reply = BERTH__EMPTY__INIT;
    if (!strncmp(call->session_id, "verdict:", 8))
        snprintf(verdict_mode, sizeof verdict_mode, "%s", call->session_id + 8);
    else if (!strncmp(call->session_id, "pages:", 6)) {
        huge_pages = !strcmp(call->session_id + 6, "huge");
        slow_pages = !strcmp(call->session_id + 6, "slow");
    } else if (code_of(call->session_id)) {
        fail_with(data, code_of(call->session_id));
        return;
    }
    closure(&reply, data);
}

// ---- trust ----

static struct {
    Berth__Verdict_Closure closure;
    void *data;
} waiting[WAITING_MAX];
static size_t waiting_len;
static struct loop_timer poll_timer;
static uint64_t generation;

static void on_poll(void *ctx)
{
    char *addons[] = {text("borrow")};
    Berth__Verdict v = BERTH__VERDICT__INIT;
    loop_timer_arm(loop, &poll_timer, mono_after(clock_mono(), 100));
    if (!strcmp(verdict_mode, "silent"))
        return;
    v.generation = ++generation;
    v.variant = text("cloud-ready");
    v.server_id = text("SRV-1");
    v.n_addons = 1;
    v.addons = addons;
    v.state = BERTH__STATE__VALID;
    v.reason = text("");
    if (!strcmp(verdict_mode, "grace")) {
        v.state = BERTH__STATE__GRACE;
        v.reason = text("backend-unreachable");
        v.has_grace_seconds_left = 1;
        v.grace_seconds_left = 1234;
    } else if (!strcmp(verdict_mode, "invalid")) {
        v.state = BERTH__STATE__INVALID;
        v.reason = text("revoked");
    }
    for (size_t i = 0; i < waiting_len; i++)
        waiting[i].closure(&v, waiting[i].data);
    waiting_len = 0;
}

static void watch(Berth__Trust_Service *s, const Berth__WatchCall *call,
                  Berth__Verdict_Closure closure, void *data)
{
    if (waiting_len == WAITING_MAX)
        abort();
    waiting[waiting_len].closure = closure;
    waiting[waiting_len++].data = data;
}

// ---- borrow ----

static void fill_borrowed(Berth__BorrowedLicense *b, const char *id)
{
    static char file[] = "the file\nüñ\n";
    berth__borrowed_license__init(b);
    b->borrow_id = text(id);
    b->uuid = text("u-1");
    b->feature = text("F");
    b->host_id = text("00:11:22:33:44:55");
    b->valid_from_s = 1795507200;
    b->valid_until_s = 1795593600;
    b->file_name = text("license_borrowed_b-1.dat");
    b->has_license = 1;
    b->license = (ProtobufCBinaryData){sizeof file - 1, (uint8_t *)file};
}

static void list_borrowed(Berth__Borrow_Service *s, const Berth__Empty *call,
                          Berth__ListBorrowedReply_Closure closure, void *data)
{
    Berth__BorrowedLicense one;
    Berth__BorrowedLicense *list[] = {&one};
    Berth__ListBorrowedReply reply = BERTH__LIST_BORROWED_REPLY__INIT;
    fill_borrowed(&one, "b-1");
    reply.n_borrowed = 1;
    reply.borrowed = list;
    closure(&reply, data);
}

static void borrow_license(Berth__Borrow_Service *s, const Berth__BorrowLicenseCall *call,
                           Berth__BorrowedLicense_Closure closure, void *data)
{
    Berth__BorrowedLicense one;
    requested++;
    if (code_of(call->uuid)) {
        fail_with(data, code_of(call->uuid));
        return;
    }
    fill_borrowed(&one, "b-1");
    one.uuid = call->uuid;
    one.valid_from_s = call->has_valid_from_s ? call->valid_from_s : 0;
    one.valid_until_s = call->valid_until_s;
    closure(&one, data);
}

static void get_borrowed(Berth__Borrow_Service *s, const Berth__GetBorrowedCall *call,
                         Berth__BorrowedLicense_Closure closure, void *data)
{
    Berth__BorrowedLicense one;
    if (code_of(call->borrow_id)) {
        fail_with(data, code_of(call->borrow_id));
        return;
    }
    fill_borrowed(&one, call->borrow_id);
    closure(&one, data);
}

// ---- process ----

static void serve(struct rpc_server **out, const char *dir, const char *name,
                  ProtobufCService *service)
{
    char url[512];
    snprintf(url, sizeof url, "ipc://%s/%s", dir, name);
    if (rpc_server_new(out, loop, url, service, NULL)) {
        fprintf(stderr, "cannot serve %s\n", url);
        exit(1);
    }
}

static void on_term(void *ctx)
{
    loop_stop(loop);
}

int main(int argc, char **argv)
{
    static Berth__Pool_Service pool;
    static Berth__Trust_Service trust;
    static Berth__Borrow_Service borrow = BERTH__BORROW__INIT();
    struct rpc_server *servers[3] = {NULL};
    if (argc != 2 || loop_new(&loop))
        return 2;
    // The gateway calls these; pool's and trust's other methods are for others.
    berth__pool__init(&pool, NULL);
    berth__trust__init(&trust, NULL);
    pool.list_licenses = list_licenses;
    pool.request_session = request_session;
    pool.revalidate_session = revalidate_session;
    pool.return_session = return_session;
    pool.list_sessions = list_sessions;
    pool.end_session = end_session;
    trust.watch = watch;
    borrow.list_borrowed = list_borrowed;
    borrow.borrow_license = borrow_license;
    borrow.get_borrowed = get_borrowed;
    log_init("fake", LOG_INFO, LOG_TEXT, NULL);
    loop_signal(loop, SIGTERM, on_term, NULL);
    serve(&servers[0], argv[1], "pool", &pool.base);
    serve(&servers[1], argv[1], "trust", &trust.base);
    serve(&servers[2], argv[1], "borrow", &borrow.base);
    loop_timer_init(&poll_timer, on_poll, NULL);
    loop_timer_arm(loop, &poll_timer, clock_mono());
    int r = loop_run(loop);
    for (size_t i = 0; i < 3; i++)
        rpc_server_free(&servers[i]);
    loop_free(&loop);
    return r ? 1 : 0;
}
