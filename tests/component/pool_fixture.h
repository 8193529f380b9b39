// berth-pool in one process with a trust and a borrow that the test plays, over real RPC.
#pragma once

#include "common/crypto.h"
#include "common/grant.h"
#include "common/rpc.h"
#include "pool.pb-c.h"
#include "services/pool/service.h"
#include "trust.pb-c.h"

struct pool_fixture {
    char folder[64];
    struct loop *loop;
    struct rpc_server *trust;
    Berth__Trust_Service trust_service;
    Berth__Verdict verdict;
    ProtobufCBinaryData key_data;
    // trust's certificates; how it delegates.
    struct crypto_key *ca_key, *server_key;
    struct crypto_ca *ca;
    char *server_pem;
    unsigned delegated; // how often
    int64_t delegation_s, clock_ahead_s;
    bool delegates;
    struct crypto_key *key; // of licenses
    uint8_t raw[32];
    char id[17];
    struct config *config;
    void *pool;
    struct rpc_client *client, *borrow; // in the roles of gateway and borrow
    struct loop_timer pause;
    // Of the last answer:
    int code;
    char text[64]; // session ID, or the error's reason or service
    size_t listed;
    uint32_t available; // of the first license
    size_t intervals;
    struct buf block;    // of FindLicense
    struct buf grant[4]; // payload, signature, delegation (base64), certificate; empty: none
};

#define POOL_TRIES 200
#define POOL_PAUSE_MS 20
#define POOL_UUID "3c2d8f6e-0b7a-4f1e-9a52-6f0f4c1f3a77"

// One license of two seats; nothing is borrowed.
int pool_setup(void **state);
int pool_teardown(void **state);
void pool_start(struct pool_fixture *f); // again, in the same folder, after pool_stop
void pool_stop(struct pool_fixture *f);
void pool_no_borrows(struct pool_fixture *f); // tells pool so, and waits until it is ready
void pool_write_license(struct pool_fixture *f, const char *name, unsigned count);
void pool_pause(struct pool_fixture *f, int64_t ms);

// Each waits for the answer and returns its code, 0 for none.
int pool_ask(struct pool_fixture *f, const char *edition);
int pool_ask_again(struct pool_fixture *f, const char *id); // revalidates
// With a nonce of 16 bytes. host NULL: without client.
int pool_ask_proof(struct pool_fixture *f, const char *instance, const char *host,
                   const char *nonce);
int pool_ask_again_proof(struct pool_fixture *f, const char *id, const char *nonce);
int pool_give_back(struct pool_fixture *f, const char *id);
int pool_list(struct pool_fixture *f); // the count of the first license; 0: there is none
int pool_tell(struct pool_fixture *f, struct rpc_client *as, bool first, bool last,
              Berth__BorrowedSeat **seats, size_t len);
int pool_add(struct pool_fixture *f, struct rpc_client *as, Berth__BorrowedSeat *seat);
// The license's count; -1 with a certificate.
int pool_find(struct pool_fixture *f, struct rpc_client *as, const char *uuid);
