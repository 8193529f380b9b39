// How trust refuses a call: errors of api.md, with a sentence for people.
#pragma once

#include "trust.pb-c.h"

void refuse_params(void *closure_data, const char *field);                             // -32602
void refuse_verdict(void *closure_data, const Berth__Verdict *verdict);                // 1004
void refuse_reason(void *closure_data, const char *reason, const char *message);       // 1004
void refuse_no_addon(void *closure_data);                                              // 1005
void refuse_role(void *closure_data, const char *method);                              // 1009
void refuse_unavailable(void *closure_data, const char *service, const char *message); // 1011
