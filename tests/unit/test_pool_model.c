// Random operations on a pool and on a model. Every answer must be the same.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/pool_model.h"

static uint64_t seed;
static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((seed >> 33) % n);
}

static const struct version versions[] = {{{24, 5}}, {{24, 11}}, {{24, 11, 1}}, {{25, 5}}};

// Licenses offer more than requests ask for, so that most requests have something to choose from.
static struct match_terms random_terms(bool license)
{
    uint32_t version = below(4), other = below(4), modules = below(8);
    version = license == (other > version) ? other : version;
    modules = license ? modules | below(8) : modules & below(8);
    return (struct match_terms){versions[version], (enum edition)(1 + below(license ? 3 : 2)),
                                (module_set)modules};
}

static void do_load(struct pool *p, struct model *m)
{
    struct pool_record given[RECORDS_MAX];
    m->records_len = below(10) ? RECORDS_MAX - below(5) : below(4);
    for (size_t i = 0; i < m->records_len; i++) {
        struct license_fields *f = &m->records[i];
        struct match_terms t = random_terms(true);
        *f = (struct license_fields){.version = t.version,
                                     .edition = t.edition,
                                     .modules = t.modules,
                                     .count = 1 + below(5),
                                     .issued = {below(4)}};
        strcpy(f->uuid, model_uuids[below(UUIDS)]);
        strcpy(f->feature, model_features[below(FEATURES)]);
        snprintf(f->version_text, sizeof f->version_text, "%zu", i);
        f->valid_from = below(5) ? WALL_MIN : (struct wall_time){1000 + below(200)};
        f->valid_until = below(5) ? WALL_MAX : (struct wall_time){1000 + below(200)};
        for (int k = 0; k < 64; k++)
            m->signatures[i][k] = (uint8_t)below(256);
        m->foreign[i] = below(8) == 0;
        given[i] = (struct pool_record){f, m->signatures[i], (uint32_t)i, m->foreign[i]};
    }
    pool_load(p, given, m->records_len, m->now);
}

// The k-th borrow of the model as the pool gets it.
static struct pool_borrow_entry borrow_entry(const struct model *m, size_t k)
{
    static const char *const ids[BORROW_IDS] = {"id-0", "id-1", "id-2", "id-3"};
    int license = m->borrows[k].license;
    return (struct pool_borrow_entry){model_uuids[license / FEATURES],
                                      model_features[license % FEATURES],
                                      {m->borrows[k].from, m->borrows[k].until, "aa:bb"},
                                      m->borrows[k].id < 0 ? NULL : ids[m->borrows[k].id]};
}

// The place of the borrow of this license and ID, or of a new one.
static size_t borrow_place(struct model *m, int license, int id)
{
    for (size_t k = 0; k < m->borrows_len; k++) {
        if (id >= 0 && m->borrows[k].license == license && m->borrows[k].id == id)
            return k;
    }
    m->borrows[m->borrows_len].id = id;
    return m->borrows_len++;
}

static void do_borrow(struct pool *p, struct model *m)
{
    bool all = m->borrows_len == BORROWS_MAX || below(4) == 0;
    struct pool_borrow_entry given[BORROWS_MAX];
    size_t add = all ? below(BORROWS_MAX) : 1, at = 0;
    if (all)
        m->borrows_len = 0;
    for (; add; add--) {
        int license = (int)below(UUIDS * FEATURES);
        at = borrow_place(m, license, (int)below(BORROW_IDS + 1) - 1);
        m->borrows[at].license = license;
        m->borrows[at].from.s = 1000 + below(200);
        m->borrows[at].until.s = m->borrows[at].from.s + 1 + below(60);
    }
    for (size_t k = 0; k < m->borrows_len; k++)
        given[k] = borrow_entry(m, k);
    if (all)
        pool_set_borrows(p, given, m->borrows_len, m->now);
    else
        pool_add_borrow(p, &given[at], m->now);
}

static void do_request(struct pool *p, struct model *m)
{
    int feature = (int)below(20) ? (int)below(FEATURES) : FEATURES;
    struct match_terms terms = random_terms(false);
    int instance = below(4) ? (int)below(INSTANCES) : -1, host = (int)below(3);
    char instance_text[16], host_text[16];
    snprintf(instance_text, sizeof instance_text, "i%d", instance);
    snprintf(host_text, sizeof host_text, "h%d", host);
    struct pool_request request = {model_features[feature],
                                   terms,
                                   instance < 0 ? NULL : instance_text,
                                   {.host_id = host < 2 ? host_text : NULL, .address = host_text}};
    struct session_id id;
    for (int i = 0; i < SESSION_ID_BYTES; i++)
        id.bytes[i] = (uint8_t)below(256);
    int license = -1;
    size_t existing = 0;
    enum pool_outcome expected =
        model_request(m, feature, &terms, instance, host, &license, &existing);
    struct pool_result result;
    assert_int_equal(pool_request(p, &request, id, m->now, &result), expected);
    if (expected == POOL_EXISTING) {
        assert_memory_equal(&result.id, &m->sessions[existing].id, sizeof id);
        m->sessions[existing].expires_ms = m->now.mono.ms + m->interval_ms;
    } else if (expected == POOL_GRANTED) {
        assert_memory_equal(&result.id, &id, sizeof id);
        assert_string_equal(result.license.uuid, model_uuids[license / FEATURES]);
        assert_string_equal(result.license.version,
                            m->records[model_record(m, license)].version_text);
        assert_true(m->sessions_len < SESSIONS_MAX);
        m->sessions[m->sessions_len++] = (struct model_session){
            id, license, terms, instance, host, m->now.mono.ms + m->interval_ms, POOL_SESSION_OK};
    } else if (expected == POOL_NO_SEAT) {
        assert_true(result.considered_len > 0);
        assert_in_range(result.retry_after_s, 1, (uint64_t)m->interval_ms / 1000);
        assert_memory_equal(result.considered[0].reason, "all-", 4);
    }
}

// Of a session that lives or has ended not long ago, so that its reason is still known.
static void do_session(struct pool *p, struct model *m)
{
    if (!m->sessions_len)
        return;
    size_t recent = m->sessions_len < 40 ? m->sessions_len : 40;
    size_t at = m->sessions_len - 1 - below((uint32_t)recent);
    struct model_session *s = &m->sessions[at];
    enum pool_session_state before = s->state, expected = model_check(m, at);
    uint32_t within;
    if (before == POOL_SESSION_UNKNOWN) { // or its expiry was noticed after the snapshot began
        enum pool_session_state answer = pool_revalidate(p, &s->id, m->now, &within);
        assert_true(answer == POOL_SESSION_UNKNOWN || answer == POOL_SESSION_EXPIRED);
        return;
    }
    switch (below(4)) {
    case 0:
        if (before == POOL_SESSION_OK && s->expires_ms > m->now.mono.ms)
            expected = POOL_SESSION_OK;
        assert_int_equal(pool_return(p, &s->id, m->now), expected);
        s->state = expected == POOL_SESSION_OK ? POOL_SESSION_RETURNED : expected;
        break;
    case 1:
        if (below(4))
            break;
        if (before == POOL_SESSION_OK && s->expires_ms > m->now.mono.ms)
            expected = POOL_SESSION_OK;
        assert_int_equal(pool_end(p, &s->id, m->now), expected);
        s->state = expected == POOL_SESSION_OK ? POOL_SESSION_ENDED : expected;
        break;
    default:
        assert_int_equal(pool_revalidate(p, &s->id, m->now, &within), expected);
        s->state = expected;
        if (expected == POOL_SESSION_OK) {
            s->expires_ms = m->now.mono.ms + m->interval_ms;
            assert_int_equal(within, m->interval_ms / 1000);
        }
    }
}

static void do_time(struct pool *p, struct model *m)
{
    m->now.mono.ms += below(below(6) ? 50 : 2000);
    m->now.wall.s += below(3);
    if (below(30) == 0 || m->now.wall.s > 1220)
        m->now.wall.s = 990 + below(230); // somebody sets the clock
    while (pool_tick(p, m->now, 1 + below(5))) {
    }
    while (m->first_live < m->sessions_len && !model_live(m, &m->sessions[m->first_live])) {
        struct model_session *s = &m->sessions[m->first_live++];
        if (s->state == POOL_SESSION_OK)
            s->state = POOL_SESSION_EXPIRED;
    }
}

static void do_settings(struct pool *p, struct model *m)
{
    m->interval_ms = 1000 + below(8000);
    m->max_per_client = below(3) ? 0 : 1 + below(6);
    struct pool_settings settings = {m->interval_ms, m->max_per_client};
    pool_set_settings(p, &settings);
}

static const uint8_t key[16] = "0123456789abcdef";

// Half of a snapshot, some operations into the journal behind it, the other half; then a new
// process.
static void do_restart(struct pool **p, struct model *m)
{
    struct buf store = {0};
    uint64_t cursor = 0;
    pool_tick(*p, m->now, SIZE_MAX);
    for (size_t i = 0; i < m->sessions_len; i++) {
        m->sessions[i].forgotten = !model_live(m, &m->sessions[i]);
    }
    pool_write_header(&store);
    pool_set_journal(*p, &store);
    bool more = pool_write_sessions(*p, &cursor, 1 + below(20), &store);
    for (int i = 0; i < 10; i++) {
        if (below(2))
            do_request(*p, m);
        else
            do_session(*p, m);
    }
    while (more)
        more = pool_write_sessions(*p, &cursor, 3, &store);
    struct pool_settings settings = {m->interval_ms, m->max_per_client};
    struct pool *fresh = pool_new(&settings, key);
    struct pool_record given[RECORDS_MAX];
    for (size_t i = 0; i < m->records_len; i++)
        given[i] =
            (struct pool_record){&m->records[i], m->signatures[i], (uint32_t)i, m->foreign[i]};
    struct pool_borrow_entry borrows[BORROWS_MAX];
    for (size_t i = 0; i < m->borrows_len; i++)
        borrows[i] = borrow_entry(m, i);
    bool first = below(2);
    struct pool_store_info info;
    struct error err;
    if (first)
        assert_int_equal(pool_restore(fresh, store.data, store.len, m->now, &info, &err), 0);
    pool_load(fresh, given, m->records_len, m->now);
    pool_set_borrows(fresh, borrows, m->borrows_len, m->now);
    if (!first)
        assert_int_equal(pool_restore(fresh, store.data, store.len, m->now, &info, &err), 0);
    assert_int_equal(info.good_len, store.len);
    for (size_t i = 0; i < m->sessions_len; i++) {
        m->sessions[i].expires_ms = m->now.mono.ms + m->interval_ms;
        if (m->sessions[i].forgotten)
            m->sessions[i].state = POOL_SESSION_UNKNOWN;
    }
    buf_fini(&store);
    pool_free(p);
    *p = fresh;
}

static void compare_lists(struct pool *p, const struct model *m)
{
    size_t count = pool_license_count(p, m->now), expected = 0;
    for (int l = 0; l < UUIDS * FEATURES; l++)
        expected += model_record(m, l) >= 0;
    assert_int_equal(count, expected);
    for (size_t i = 0; i < count; i++) {
        struct pool_license shown;
        pool_license_at(p, i, &shown);
        struct license_fields f = {0};
        strcpy(f.uuid, shown.ref.uuid);
        strcpy(f.feature, shown.ref.feature);
        int license = license_of(&f);
        int r = model_record(m, license);
        assert_int_equal(shown.tag, r);
        assert_int_equal(shown.borrowed, model_borrowed(m, license));
        // Due ones of the running 64 ms are freed by the next request that needs them.
        assert_true(shown.live >= model_live_before(m, license, m->sessions_len));
        size_t current = 0;
        for (size_t k = 0; k < m->borrows_len; k++)
            current += m->borrows[k].license == license && m->borrows[k].until.s > m->now.wall.s;
        assert_int_equal(shown.borrows_len, current);
        for (size_t k = 0; k < current; k++) {
            struct pool_borrow b, before;
            pool_license_borrow(p, i, k, &b);
            pool_license_borrow(p, i, k ? k - 1 : 0, &before);
            assert_true(before.from.s <= b.from.s);
            assert_true(b.until.s > m->now.wall.s);
        }
    }
    uint64_t cursor = 0;
    struct pool_session session;
    size_t walked = 0, live = 0;
    while (pool_session_next(p, &cursor, m->now, &session))
        walked++;
    for (size_t i = m->first_live; i < m->sessions_len; i++)
        live += model_live(m, &m->sessions[i]);
    assert_int_equal(walked, live);
}

static void run(uint64_t start, int operations)
{
    seed = start;
    struct model m = {.now = {{1000}, {5000}}};
    m.sessions = calloc(SESSIONS_MAX, sizeof *m.sessions);
    struct pool *p = pool_new(&(struct pool_settings){2000, 0}, key);
    do_settings(p, &m);
    do_load(p, &m);
    for (int i = 0; i < operations; i++) {
        uint32_t what = below(1000);
        if (what < 4)
            do_load(p, &m);
        else if (what < 40)
            do_borrow(p, &m);
        else if (what < 45)
            do_settings(p, &m);
        else if (what < 50)
            do_restart(&p, &m);
        else if (what < 200)
            do_time(p, &m);
        else if (what < 550)
            do_request(p, &m);
        else if (what < 990)
            do_session(p, &m);
        else
            compare_lists(p, &m);
    }
    pool_free(&p);
    free(m.sessions);
}

static void test_random(void **state)
{
    for (uint64_t i = 1; i <= 20; i++)
        run(i * 7919, 15000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests_name("pool model", tests, NULL, NULL);
}
