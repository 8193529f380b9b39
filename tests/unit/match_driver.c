// Reads pools and requests from stdin and prints what the pool core decides, for comparison with
// another implementation (tests/component/test_match_differential.py). Lines of words:
//   pool <wall s>                                begins a pool, which lasts to the next
//   license <uuid> <feature> <version> <edition> <modules|-> <count> <issued> <from|-> <until|->
//           <signature byte> <foreign 0|1>
//   borrow <uuid> <feature> <from> <until>
//   request <feature> <version> <edition> <modules|->
// A request prints "granted <uuid>", or "no-license" or "no-seat" and uuid:feature:reason of each
// that was considered, and omitted=<n>. Sessions stay for the life of the pool.
#include "services/pool/core/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LICENSES_MAX 64
#define WORDS_MAX 16

static struct license_fields fields[LICENSES_MAX];
static uint8_t signatures[LICENSES_MAX][64];
static struct pool_record records[LICENSES_MAX];
static size_t records_len;
static struct pool *pool;
static struct pool_now now;
static bool loaded;
static uint64_t next_id;

static void fail(const char *what)
{
    fprintf(stderr, "match_driver: %s\n", what);
    exit(2);
}

static struct match_terms parse_terms(char **word)
{
    struct match_terms t = {.edition = EDITION_STEADY};
    const char *modules = strcmp(word[2], "-") ? word[2] : "";
    if (version_parse(word[0], strlen(word[0]), &t.version) ||
        edition_parse(word[1], strlen(word[1]), &t.edition) ||
        modules_parse(modules, strlen(modules), &t.modules))
        fail("bad terms");
    return t;
}

static struct wall_time parse_time(const char *word, struct wall_time none)
{
    return strcmp(word, "-") ? (struct wall_time){strtoll(word, NULL, 10)} : none;
}

static void begin_pool(char **word)
{
    static const uint8_t key[16] = {1};
    pool_free(&pool);
    pool = pool_new(&(struct pool_settings){120000, 0}, key);
    now = (struct pool_now){{strtoll(word[0], NULL, 10)}, {1000}};
    records_len = 0;
    loaded = false;
}

static void add_license(char **word)
{
    if (records_len == LICENSES_MAX)
        fail("too many licenses");
    struct license_fields *f = &fields[records_len];
    struct match_terms t = parse_terms(word + 2);
    *f = (struct license_fields){.version = t.version, .edition = t.edition, .modules = t.modules};
    snprintf(f->uuid, sizeof f->uuid, "%s", word[0]);
    snprintf(f->feature, sizeof f->feature, "%s", word[1]);
    f->count = (uint32_t)strtoul(word[5], NULL, 10);
    f->issued.s = strtoll(word[6], NULL, 10);
    f->valid_from = parse_time(word[7], WALL_MIN);
    f->valid_until = parse_time(word[8], WALL_MAX);
    memset(signatures[records_len], atoi(word[9]), 64);
    records[records_len] =
        (struct pool_record){f, signatures[records_len], (uint32_t)records_len, *word[10] == '1'};
    records_len++;
}

static void add_borrow(char **word)
{
    struct pool_borrow_entry e = {
        word[0], word[1], {parse_time(word[2], WALL_MIN), parse_time(word[3], WALL_MAX), "host"}};
    pool_add_borrow(pool, &e, now);
}

static void ask(char **word)
{
    if (!loaded)
        pool_load(pool, records, records_len, now);
    loaded = true;
    struct pool_request request = {.feature = word[0], .terms = parse_terms(word + 1)};
    struct session_id id = {{0}};
    next_id++;
    memcpy(id.bytes, &next_id, sizeof next_id);
    struct pool_result result;
    if (pool_request(pool, &request, id, now, &result) == POOL_GRANTED) {
        printf("granted %s\n", result.license.uuid);
        return;
    }
    printf("%s", result.outcome == POOL_NO_SEAT ? "no-seat" : "no-license");
    for (size_t i = 0; i < result.considered_len; i++)
        printf(" %s:%s:%s", result.considered[i].uuid, result.considered[i].feature,
               result.considered[i].reason);
    printf(" omitted=%u\n", result.omitted);
}

int main(void)
{
    static const struct {
        const char *name;
        int words;
        void (*run)(char **word);
    } commands[] = {{"pool", 1, begin_pool},
                    {"license", 11, add_license},
                    {"borrow", 4, add_borrow},
                    {"request", 4, ask}};
    char line[1024];
    while (fgets(line, sizeof line, stdin)) {
        char *word[WORDS_MAX], *rest = NULL;
        int len = 0;
        for (char *w = strtok_r(line, " \n", &rest); w && len < WORDS_MAX;
             w = strtok_r(NULL, " \n", &rest))
            word[len++] = w;
        size_t c = 0;
        while (c < 4 && len && strcmp(commands[c].name, word[0]))
            c++;
        if (c == 4 || commands[c].words != len - 1 || (c && !pool))
            fail("bad line");
        commands[c].run(word + 1);
    }
    pool_free(&pool);
    return 0;
}
