#include "tools/berth-cloud/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_TIMEOUT_MS 5000

struct store {
    sqlite3 *db;
    sqlite3_stmt *read, *write, *keys;
};

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
    "CREATE TABLE IF NOT EXISTS servers(server_id TEXT PRIMARY KEY, held INTEGER NOT NULL,"
    " current BLOB NOT NULL, previous BLOB, last_seen_s INTEGER NOT NULL,"
    " ledger_sequence INTEGER, ledger_hash TEXT, ledger_epoch TEXT, place BLOB, rival BLOB,"
    " rival_place BLOB, rival_since_s INTEGER, displaced BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS revoked(server_id TEXT PRIMARY KEY, since_s INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS revoked_keys(key_id TEXT PRIMARY KEY) WITHOUT ROWID;";

#define SELECT_ALL                                                                                 \
    "SELECT ids.id, servers.held, servers.current, servers.previous, servers.last_seen_s,"         \
    " servers.ledger_sequence, servers.ledger_hash, revoked.server_id IS NOT NULL,"               \
    " servers.ledger_epoch, servers.place, servers.rival, servers.rival_place,"                    \
    " servers.rival_since_s, servers.displaced FROM "

static const char select_one[] =
    SELECT_ALL "(SELECT ?1 AS id) AS ids LEFT JOIN servers ON servers.server_id = ids.id"
               " LEFT JOIN revoked ON revoked.server_id = ids.id";
static const char select_each[] =
    SELECT_ALL "(SELECT server_id AS id FROM servers UNION SELECT server_id FROM revoked) AS ids"
               " LEFT JOIN servers ON servers.server_id = ids.id"
               " LEFT JOIN revoked ON revoked.server_id = ids.id ORDER BY ids.id";
static const char upsert[] =
    "INSERT OR REPLACE INTO servers(server_id, held, current, previous, last_seen_s,"
    " ledger_sequence, ledger_hash, ledger_epoch, place, rival, rival_place,"
    " rival_since_s, displaced)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

static int failed(const struct store *s, struct error *err)
{
    int code = sqlite3_errcode(s->db);
    error_set(err, "the state file: %s", sqlite3_errmsg(s->db));
    return (code & 0xff) == SQLITE_BUSY ? -EBUSY : -EIO;
}

static int run(struct store *s, const char *sql, struct error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(s, err);
}

static int prepare(struct store *s, const char *sql, sqlite3_stmt **out, struct error *err)
{
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    return rc == SQLITE_OK ? 0 : failed(s, err);
}

// A file that an earlier version made has fewer columns.
static int upgrade(struct store *s, struct error *err)
{
    static const char *const columns[][2] = {
        {"ledger_epoch", "TEXT"}, {"place", "BLOB"},           {"rival", "BLOB"},
        {"rival_place", "BLOB"},  {"rival_since_s", "INTEGER"}, {"displaced", "BLOB"},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof columns / sizeof *columns; i++) {
        char sql[160];
        sqlite3_stmt *st = NULL;
        snprintf(sql, sizeof sql, "SELECT 1 FROM pragma_table_info('servers') WHERE name = '%s'",
                 columns[i][0]);
        r = prepare(s, sql, &st, err);
        bool there = r == 0 && sqlite3_step(st) == SQLITE_ROW;
        sqlite3_finalize(st);
        snprintf(sql, sizeof sql, "ALTER TABLE servers ADD COLUMN %s %s", columns[i][0],
                 columns[i][1]);
        if (r == 0 && !there)
            r = run(s, sql, err);
    }
    return r;
}

int store_open(struct store **out, const char *path, bool create, struct error *err)
{
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
    int r = 0;
    if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK)
        r = failed(s, err);
    if (r == 0) {
        sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
        r = run(s, schema, err);
    }
    if (r == 0)
        r = upgrade(s, err);
    if (r == 0)
        r = prepare(s, select_one, &s->read, err);
    if (r == 0)
        r = prepare(s, upsert, &s->write, err);
    if (r == 0)
        r = prepare(s, "SELECT key_id FROM revoked_keys ORDER BY key_id", &s->keys, err);
    if (r < 0) {
        error_prefix(err, "%s", path);
        store_close(&s);
    }
    *out = s;
    return r;
}

void store_close(struct store **store)
{
    struct store *s = *store;
    if (s == NULL)
        return;
    sqlite3_finalize(s->read);
    sqlite3_finalize(s->write);
    sqlite3_finalize(s->keys);
    sqlite3_close(s->db);
    free(s);
    *store = NULL;
}

int store_begin(struct store *store, struct error *err)
{
    return run(store, "BEGIN IMMEDIATE", err);
}

int store_commit(struct store *store, struct error *err)
{
    return run(store, "COMMIT", err);
}

void store_rollback(struct store *store)
{
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

static void column_hash(sqlite3_stmt *st, int column, uint8_t out[LEASE_HASH_BYTES])
{
    if (sqlite3_column_bytes(st, column) == LEASE_HASH_BYTES)
        memcpy(out, sqlite3_column_blob(st, column), LEASE_HASH_BYTES);
}

static void column_place(sqlite3_stmt *st, int column, struct lease_place *out)
{
    out->known = sqlite3_column_bytes(st, column) == 2 * LEASE_PLACE_BYTES;
    if (!out->known)
        return;
    const uint8_t *bytes = sqlite3_column_blob(st, column);
    memcpy(out->boot, bytes, LEASE_PLACE_BYTES);
    memcpy(out->folder, bytes + LEASE_PLACE_BYTES, LEASE_PLACE_BYTES);
}

static void bind_place(sqlite3_stmt *st, int parameter, const struct lease_place *place)
{
    uint8_t bytes[2 * LEASE_PLACE_BYTES];
    if (!place->known)
        return;
    memcpy(bytes, place->boot, LEASE_PLACE_BYTES);
    memcpy(bytes + LEASE_PLACE_BYTES, place->folder, LEASE_PLACE_BYTES);
    sqlite3_bind_blob(st, parameter, bytes, sizeof bytes, SQLITE_TRANSIENT);
}

// Three columns: tokens, place, time.
static void column_rival(sqlite3_stmt *st, int column, struct lease_rival *out)
{
    if (sqlite3_column_bytes(st, column) != sizeof out->tokens)
        return;
    memcpy(&out->tokens, sqlite3_column_blob(st, column), sizeof out->tokens);
    column_place(st, column + 1, &out->place);
    out->since_s = sqlite3_column_int64(st, column + 2);
}

static void bind_rival(sqlite3_stmt *st, int parameter, const struct lease_rival *rival)
{
    if (!rival->place.known)
        return;
    sqlite3_bind_blob(st, parameter, &rival->tokens, sizeof rival->tokens, SQLITE_STATIC);
    bind_place(st, parameter + 1, &rival->place);
    sqlite3_bind_int64(st, parameter + 2, rival->since_s);
}

static void column_text(sqlite3_stmt *st, int column, char *out, size_t cap)
{
    const unsigned char *text = sqlite3_column_text(st, column);
    snprintf(out, cap, "%s", text != NULL ? (const char *)text : "");
}

static void row_read(sqlite3_stmt *st, struct store_server *out)
{
    memset(out, 0, sizeof *out);
    column_text(st, 0, out->id, sizeof out->id);
    out->lease.held = sqlite3_column_int(st, 1) != 0;
    column_hash(st, 2, out->lease.tokens.current);
    column_hash(st, 3, out->lease.tokens.previous);
    column_hash(st, 13, out->lease.tokens.displaced);
    out->lease.last_seen_s = sqlite3_column_int64(st, 4);
    out->head.present = sqlite3_column_type(st, 5) != SQLITE_NULL;
    out->head.sequence = sqlite3_column_int64(st, 5);
    column_text(st, 6, out->head.hash, sizeof out->head.hash);
    out->revoked = sqlite3_column_int(st, 7) != 0;
    column_text(st, 8, out->head.epoch, sizeof out->head.epoch);
    column_place(st, 9, &out->lease.place);
    column_rival(st, 10, &out->lease.rival);
}

int store_read(struct store *store, const char *id, struct store_server *out, struct error *err)
{
    sqlite3_bind_text(store->read, 1, id, -1, SQLITE_STATIC);
    int r = sqlite3_step(store->read) == SQLITE_ROW ? 0 : failed(store, err);
    if (r == 0)
        row_read(store->read, out);
    sqlite3_reset(store->read);
    return r;
}

int store_write(struct store *store, const struct store_server *server, struct error *err)
{
    sqlite3_stmt *st = store->write;
    const struct lease *l = &server->lease;
    sqlite3_clear_bindings(st);
    sqlite3_bind_text(st, 1, server->id, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 2, l->held);
    sqlite3_bind_blob(st, 3, l->tokens.current, LEASE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(st, 4, l->tokens.previous, LEASE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(st, 13, l->tokens.displaced, LEASE_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(st, 5, l->last_seen_s);
    if (server->head.present) {
        sqlite3_bind_int64(st, 6, server->head.sequence);
        sqlite3_bind_text(st, 7, server->head.hash, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 8, server->head.epoch, -1, SQLITE_STATIC);
    }
    bind_place(st, 9, &l->place);
    bind_rival(st, 10, &l->rival);
    int r = sqlite3_step(st) == SQLITE_DONE ? 0 : failed(store, err);
    sqlite3_reset(st);
    return r;
}

static int change(struct store *store, const char *sql, const char *text, int64_t number,
                  struct error *err)
{
    sqlite3_stmt *st = NULL;
    int r = prepare(store, sql, &st, err);
    if (r < 0)
        return r;
    sqlite3_bind_text(st, 1, text, -1, SQLITE_STATIC);
    if (sqlite3_bind_parameter_count(st) > 1)
        sqlite3_bind_int64(st, 2, number);
    r = sqlite3_step(st) == SQLITE_DONE ? sqlite3_changes(store->db) == 0 : failed(store, err);
    sqlite3_finalize(st);
    return r;
}

int store_revoke(struct store *store, const char *id, bool revoked, int64_t now_s,
                 struct error *err)
{
    return revoked ? change(store, "INSERT OR IGNORE INTO revoked VALUES(?1, ?2)", id, now_s, err)
                   : change(store, "DELETE FROM revoked WHERE server_id = ?1", id, 0, err);
}

int store_revoke_key(struct store *store, const char *key_id, bool revoked, struct error *err)
{
    return revoked ? change(store,
                            "INSERT OR IGNORE INTO revoked_keys SELECT ?1 WHERE"
                            " (SELECT count(*) FROM revoked_keys) < ?2",
                            key_id, REVOKED_KEYS_MAX, err)
                   : change(store, "DELETE FROM revoked_keys WHERE key_id = ?1", key_id, 0, err);
}

int store_revoked_keys(struct store *store, char ids[REVOKED_KEYS_MAX][17], struct error *err)
{
    int n = 0, rc;
    while ((rc = sqlite3_step(store->keys)) == SQLITE_ROW && n < REVOKED_KEYS_MAX)
        column_text(store->keys, 0, ids[n++], 17);
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        n = failed(store, err);
    sqlite3_reset(store->keys);
    return n;
}

enum store_status store_status(const struct store_server *server, int64_t now_s,
                               const struct lease_policy *policy)
{
    if (server->revoked)
        return STORE_REVOKED;
    if (!server->lease.held)
        return STORE_FREE;
    return now_s - server->lease.last_seen_s >= policy->silence_s ? STORE_SILENT : STORE_IN_USE;
}

const char *store_status_name(enum store_status status)
{
    static const char *const names[] = {"free", "in use", "silent", "revoked"};
    return names[status];
}

int store_each(struct store *store, void (*fn)(void *ctx, const struct store_server *server),
               void *ctx, struct error *err)
{
    sqlite3_stmt *st = NULL;
    int r = prepare(store, select_each, &st, err);
    if (r < 0)
        return r;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct store_server server;
        row_read(st, &server);
        fn(ctx, &server);
    }
    r = rc == SQLITE_DONE ? 0 : failed(store, err);
    sqlite3_finalize(st);
    return r;
}
