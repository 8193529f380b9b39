// The head of the borrow ledger, between borrow and the backend: what borrow has on disk is told to
// the backend with every check, and a new head makes a check at once. Calls that come while a check
// runs wait for the next one, and those for the same head share it.
#pragma once

#include "common/loop.h"
#include "services/trust/bulletin.h"

#define HEAD_WAIT_MS 3000 // then the caller hears that the backend is away

struct head;

// wanted(): somebody waits for a check; it may start one at once, inside of the call.
void head_new(struct head **out, struct loop *loop, const struct bulletin *bulletin,
              void (*wanted)(void *ctx), void *ctx);
void head_free(struct head **head); // who waits is refused

// Whose call it is was checked. Each answers exactly once, now or later. A read is the beginning of
// a process of borrow: what one before it had is not told to the backend any more.
void head_read(struct head *h, Berth__HeadReply_Closure closure, void *closure_data);
void head_move(struct head *h, const Berth__MoveHeadCall *call, Berth__HeadReply_Closure closure,
               void *closure_data);

// A check begins: what it is to tell the backend.
const struct trust_ledger *head_presented(struct head *h);
// It has ended, and the bulletin says what became of it.
void head_checked(struct head *h, const struct trust_result *result);
bool head_waits(const struct head *h); // for another check
