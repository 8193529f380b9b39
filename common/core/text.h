// Small pure text helpers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool utf8_valid(const char *s, size_t len); // RFC 3629: no surrogates, no overlong forms

int hex_value(char c); // of one hex digit; -1: it is none
void hex_encode(const uint8_t *in, size_t len, char *out);           // lower case, 2*len + NUL
int hex_decode(const char *in, size_t len, uint8_t *out, size_t cap); // bytes, or -EINVAL

// RFC 4648 base64 with padding. Decoding is strict (canonical, no blanks): bytes or -EINVAL.
size_t base64_encode(const uint8_t *in, size_t len, char *out); // out: 4*((len+2)/3) + 1
int base64_decode(const char *in, size_t len, uint8_t *out, size_t cap);

// Decimal digits only, no sign, no blank; leading zeros are allowed. 0 or -EINVAL / -ERANGE.
int parse_u64(const char *in, size_t len, uint64_t min, uint64_t max, uint64_t *out);
