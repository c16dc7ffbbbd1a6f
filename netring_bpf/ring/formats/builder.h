/* Text without printf: no locale, no allocation, and a fraction of its time. Each function writes
 * at `at`, where the caller has made room, and returns where it ended. */
#ifndef NR_FORMATS_BUILDER_H
#define NR_FORMATS_BUILDER_H

#include <string.h>

#include "core.h"

static inline char *nr_put(char *at, const char *text, size_t size) {
    memcpy(at, text, size);
    return at + size;
}
/* A literal: its size is known when this is compiled, and the copy is a store or two. */
#define NR_PUT(at, literal) nr_put((at), (literal), sizeof(literal) - 1)

static inline char *nr_put_string(char *at, const char *string) {
    return nr_put(at, string, strlen(string));
}

char *nr_put_u64(char *at, uint64_t value);
/* Exactly `digits` of them, zeros in front. */
char *nr_put_padded(char *at, uint64_t value, unsigned digits);

/* An address of nr_event: family 4, 6, or 0 for a station's. IPv6 as RFC 5952 has it, with a
 * mapped IPv4 address in dots. */
char *nr_put_address(char *at, uint8_t family, const uint8_t *address);

/* Nanoseconds as seconds, as Python writes the number ns / 1e9: the shortest digits that give the
 * same double. And, of what is not 0, with six decimals, as it rounds that double. */
char *nr_put_seconds(char *at, uint64_t ns);
char *nr_put_seconds_rounded(char *at, uint64_t ns);

#endif
