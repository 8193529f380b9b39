// Results as JSON, written straight into a buffer: the exact property names of api.md.
#pragma once

#include "common/core/buf.h"
#include "types.pb-c.h"

// Each takes the reply message of its method.
void result_list_licenses(struct buf *out, const void *reply);
void result_request_session(struct buf *out, const void *reply);
void result_revalidate_session(struct buf *out, const void *reply);
void result_null(struct buf *out, const void *reply);
void result_borrowed(struct buf *out, const void *reply);
void result_list_borrowed(struct buf *out, const void *reply);
void result_sessions_page(struct buf *out, const void *reply); // elements, without the brackets

// The value of "error": {code, message, data}. Only the data that belongs to the code is written.
void result_error(struct buf *out, const Berth__Error *error);

// Text of another process: not UTF-8 is made ASCII, so that the answer stays JSON.
void result_text(struct buf *out, const char *text);
