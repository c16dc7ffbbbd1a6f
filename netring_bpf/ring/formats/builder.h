/* Builds text without printf: no locale, no allocation, and much less time. Each function writes at
 * `at`, where the caller has made room, and returns the end. */
#ifndef NR_FORMATS_BUILDER_H
#define NR_FORMATS_BUILDER_H

#include <string.h>

#include "core.h"

static inline char *nr_put(char *at, const char *text, size_t size) {
    memcpy(at, text, size);
    return at + size;
}
/* Writes a literal. The compiler knows its size, so the copy is a store or two. */
#define NR_PUT(at, literal) nr_put((at), (literal), sizeof(literal) - 1)

static inline char *nr_put_string(char *at, const char *string) {
    return nr_put(at, string, strlen(string));
}

char *nr_put_u64(char *at, uint64_t value);
/* Writes a number that every reader of JSON takes for the same: at most 2^53 - 1 (RFC 7493, 2.2). A
 * larger one is written as that. */
char *nr_put_count(char *at, uint64_t value);
/* Writes exactly `digits` digits, with leading zeros. */
char *nr_put_padded(char *at, uint64_t value, unsigned digits);
/* Writes two digits in hexadecimal. */
char *nr_put_hex_byte(char *at, uint8_t value);

/* Writes an address of nr_event: family 4, 6, or 0 for a MAC address. IPv6 follows RFC 5952, with a
 * mapped IPv4 address in dots. */
char *nr_put_address(char *at, uint8_t family, const uint8_t *address);
/* Writes an IPv6 address as eight groups of four digits. */
char *nr_put_ipv6_expanded(char *at, const uint8_t *address);

/* Writes nanoseconds as seconds, as Python writes ns / 1e9: the shortest digits that give the same
 * double. */
char *nr_put_seconds(char *at, uint64_t ns);
/* Writes a time above 0 with six decimals, as Python rounds that double. */
char *nr_put_seconds_rounded(char *at, uint64_t ns);

/* -- times -- */

#define NR_SECOND_SIZE 19u /* YYYY-MM-DDTHH:MM:SS */

/* The latest seconds as text, because most times of a batch lie in a few seconds. */
struct nr_seconds {
    struct {
        uint64_t second;
        char text[NR_SECOND_SIZE];
    } slot[64];
};
void nr_seconds_clear(struct nr_seconds *seconds);

/* Writes a time in UTC by RFC 3339, with nanoseconds and Z. */
char *nr_put_time(char *at, struct nr_seconds *seconds, uint64_t ns);
/* Writes a time in UTC with microseconds and +0000, as Suricata does. */
char *nr_put_time_micros(char *at, struct nr_seconds *seconds, uint64_t ns);

#endif
