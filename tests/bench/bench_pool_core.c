// What the pool core costs as its state grows (design: performance.md, "Asked of the product").
// Prints one figure per line: name, value, unit.
#include "common/core/text.h"
#include "services/pool/core/pool.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INTERVAL_MS 120000

static struct pool_now now = {{1000000}, {1000000}};
static uint64_t seed = 1;

static uint64_t next_random(void)
{
    seed += 0x9e3779b97f4a7c15ULL;
    uint64_t z = seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static double clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct session_id random_id(void)
{
    uint64_t words[2] = {next_random(), next_random()};
    struct session_id id;
    memcpy(id.bytes, words, sizeof id.bytes);
    return id;
}

// All licenses of one feature; kinds different versions and module sets.
static struct pool *make_pool(uint32_t licenses, uint32_t kinds, uint32_t count)
{
    static const uint8_t key[16] = {7};
    struct pool *p = pool_new(&(struct pool_settings){INTERVAL_MS, 0}, key);
    struct license_fields *fields = calloc(licenses, sizeof *fields);
    struct pool_record *records = calloc(licenses, sizeof *records);
    static const uint8_t signature[64];
    for (uint32_t i = 0; i < licenses; i++) {
        struct license_fields *f = &fields[i];
        snprintf(f->uuid, sizeof f->uuid, "00000000-0000-4000-8000-%012u", i);
        strcpy(f->feature, "MVTec_HALCON");
        strcpy(f->version_text, "24.11");
        f->version = (struct version){{24, 11 + i % kinds / 64}};
        f->edition = EDITION_STEADY;
        f->modules = (module_set)(1 | i % kinds % 64 << 1);
        f->count = count;
        f->valid_from = WALL_MIN;
        f->valid_until = WALL_MAX;
        records[i] = (struct pool_record){f, signature, i, false};
    }
    pool_load(p, records, licenses, now);
    free(records);
    free(fields);
    return p;
}

static enum pool_outcome request_one(struct pool *p, struct pool_result *result)
{
    struct session_id id = random_id();
    char instance[SESSION_ID_TEXT_BYTES];
    hex_encode(random_id().bytes, SESSION_ID_BYTES, instance);
    struct pool_request request = {
        .feature = "MVTec_HALCON",
        .terms = {{{24, 11}}, EDITION_STEADY, 1},
        .instance_id = instance,
        .client = {"ws-0815.example.com", "aa:bb:cc:dd:ee:ff", "alice", "inspect", "12345",
                   "10.0.0.17"},
    };
    return pool_request(p, &request, id, now, result);
}

static double revalidate_ns(uint32_t sessions, double *bytes_per_session)
{
    struct pool *p = make_pool(100, 10, sessions / 100);
    struct session_id *ids = malloc(sessions * sizeof *ids);
    struct pool_result result;
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (uint32_t i = 0; i < sessions; i++) {
        if (request_one(p, &result) != POOL_GRANTED)
            abort();
        ids[i] = result.id;
    }
    *bytes_per_session = (double)(mallinfo2().uordblks + mallinfo2().hblkhd - before) / sessions;
    const int rounds = 1000000;
    uint32_t within;
    double start = 0;
    for (int i = -rounds; i < rounds; i++) { // the first half warms up
        if (i == 0)
            start = clock_ns();
        if (pool_revalidate(p, &ids[next_random() % sessions], now, &within) != POOL_SESSION_OK)
            abort();
    }
    double took = (clock_ns() - start) / rounds;
    free(ids);
    pool_free(&p);
    return took;
}

// Request and return, with all licenses but the last ones full if most_full; refused: all are.
static double request_ns(uint32_t licenses, uint32_t kinds, bool most_full, bool refused)
{
    struct pool *p = make_pool(licenses, kinds, 1);
    struct pool_result result;
    uint32_t fill = refused ? licenses : most_full ? licenses - 1 : 0;
    for (uint32_t i = 0; i < fill; i++)
        request_one(p, &result);
    const int rounds = 300000;
    double start = 0;
    for (int i = -rounds / 10; i < rounds; i++) {
        if (i == 0)
            start = clock_ns();
        if (request_one(p, &result) == POOL_GRANTED)
            pool_return(p, &result.id, now);
    }
    double took = (clock_ns() - start) / rounds;
    pool_free(&p);
    return took;
}

// 100,000 sessions fall due in one moment while clients go on asking; the longest single call.
static void expiry(uint32_t sessions, double *longest_ms, double *total_ms)
{
    struct pool *p = make_pool(1, 1, sessions);
    struct pool_result result;
    for (uint32_t i = 0; i < sessions; i++)
        request_one(p, &result);
    now.mono.ms += INTERVAL_MS + 1000;
    *longest_ms = *total_ms = 0;
    double begin = clock_ns(), last = begin;
    bool more = true;
    while (more) {
        more = pool_tick(p, now, 1000);
        if (request_one(p, &result) != POOL_GRANTED)
            abort();
        double t = clock_ns();
        if (t - last > *longest_ms * 1e6)
            *longest_ms = (t - last) / 1e6;
        last = t;
    }
    *total_ms = (last - begin) / 1e6;
    pool_free(&p);
}

int main(void)
{
    double few_bytes, many_bytes, longest, total;
    double few = revalidate_ns(1000, &few_bytes), many = revalidate_ns(1000000, &many_bytes);
    printf("revalidate_1000_sessions %.1f ns\n", few);
    printf("revalidate_1000000_sessions %.1f ns\n", many);
    printf("session_memory_at_1000000 %.0f bytes\n", many_bytes);
    for (int full = 0; full < 2; full++) {
        for (int kinds = 0; kinds < 2; kinds++) {
            printf("request_10_licenses%s%s %.1f ns\n", kinds ? "_all_kinds" : "",
                   full ? "_most_full" : "", request_ns(10, kinds ? 10 : 1, full, false));
            printf("request_10000_licenses%s%s %.1f ns\n", kinds ? "_all_kinds" : "",
                   full ? "_most_full" : "", request_ns(10000, kinds ? 10000 : 1, full, false));
        }
    }
    printf("refused_10_licenses %.1f ns\n", request_ns(10, 10, false, true));
    printf("refused_10000_licenses %.1f ns\n", request_ns(10000, 10000, false, true));
    expiry(100000, &longest, &total);
    printf("expiry_of_100000_longest_call %.2f ms\n", longest);
    printf("expiry_of_100000_total %.2f ms\n", total);
    return 0;
}
