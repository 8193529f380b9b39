// What pool knows of the borrows: all of them at each connection, since it issues nothing before,
// and each new one before its borrower hears of it.
#pragma once

#include "common/rpc.h"
#include "pool.pb-c.h"
#include "services/borrow/core/book.h"

struct pool_link;

// changed(ctx): an entry has become known to pool, or pool_link_in_step changed. Loop thread, as
// all here. The book must outlive the link.
int pool_link_new(struct pool_link **out, struct loop *loop, const char *url,
                  const struct rpc_metrics *metrics, struct book *book, void (*changed)(void *ctx),
                  void *ctx);
void pool_link_free(struct pool_link **link);

// The book is complete from now on, and pool is told.
void pool_link_begin(struct pool_link *link);
// Tells pool of those in a ledger that it does not know yet.
void pool_link_tell(struct pool_link *link);
// True while pool knows all that it was told on this connection.
bool pool_link_in_step(const struct pool_link *link);

// Pool.FindLicense. reply NULL: it failed, and error says why. fn runs exactly once, later.
typedef void pool_link_found_fn(const Berth__FindLicenseReply *reply, const Berth__Error *error,
                                void *ctx);
void pool_link_find(struct pool_link *link, const char *uuid, const char *feature,
                    pool_link_found_fn *fn, void *ctx);
