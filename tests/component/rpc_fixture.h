// A pool that echoes, a client of it, and a loop that runs until a condition: what the tests of
// RPC share.
#pragma once

#include "common/clock.h"
#include "common/core/buf.h"
#include "common/rpc.h"
#include "common/rpc_internal.h"
#include "pool.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HELD_MAX 6000

// session_id "hold": kept until fixture_release(), the newest is answered first; "fail": error
// 1008; "twice": answered twice; else the nonce, a number, comes back at once.

struct held {
    Berth__RevalidateSessionReply_Closure closure;
    void *data;
    uint32_t value;
};

struct fixture {
    Berth__Pool_Service service; // first
    struct loop *loop;
    struct rpc_server *server;
    struct rpc_client *client;
    struct metric_cell server_frames_in, server_frames_out, server_errors, client_errors;
    struct metric_cell reconnects;
    struct held held[HELD_MAX];
    size_t held_len;
    unsigned batch_ends;
    char folder[64], ipc_url[128], tcp_url[64];

    bool (*done)(struct fixture *f); // of fixture_wait

    unsigned answers, failures, last_code;
    uint32_t last_value, order_breaks;
    char last_service[32];
};

extern unsigned fixture_expected; // what all_over and all_held wait for

void fixture_release(struct fixture *f);
void fixture_wait(struct fixture *f, bool (*done)(struct fixture *f)); // loop_wait
void fixture_serve(struct fixture *f, const char *url);
void fixture_dial(struct fixture *f, const char *url, int64_t timeout_ms);
bool is_connected(struct fixture *f);
bool is_disconnected(struct fixture *f);
void fixture_call(struct fixture *f, const char *what, uint32_t value);
bool all_over(struct fixture *f);
void fixture_wait_answers(struct fixture *f, unsigned n);
bool all_held(struct fixture *f);
int fixture_setup(void **state);
int fixture_teardown(void **state);
void fixture_on_answer(const Berth__RevalidateSessionReply *r, void *data);
