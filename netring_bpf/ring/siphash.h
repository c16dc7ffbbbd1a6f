/* SipHash-1-3 over whole 64-bit words (Aumasson and Bernstein, 2012; c=1, d=3 as in Linux's
 * hsiphash on 64 bit). The key is random per reader, so a sender who chooses addresses and ports
 * cannot choose buckets. */
#ifndef NR_SIPHASH_H
#define NR_SIPHASH_H

#include "core.h"

static inline uint64_t nr_rotl64(uint64_t x, int b) {
    return (x << b) | (x >> (64 - b));
}

#define NR_SIPROUND                                                                                \
    do {                                                                                           \
        v0 += v1, v1 = nr_rotl64(v1, 13), v1 ^= v0, v0 = nr_rotl64(v0, 32);                        \
        v2 += v3, v3 = nr_rotl64(v3, 16), v3 ^= v2;                                                \
        v0 += v3, v3 = nr_rotl64(v3, 21), v3 ^= v0;                                                \
        v2 += v1, v1 = nr_rotl64(v1, 17), v1 ^= v2, v2 = nr_rotl64(v2, 32);                        \
    } while (0)

static inline uint64_t nr_siphash13(const uint64_t key[2], const uint64_t *words, size_t count) {
    uint64_t v0 = key[0] ^ 0x736f6d6570736575ULL;
    uint64_t v1 = key[1] ^ 0x646f72616e646f6dULL;
    uint64_t v2 = key[0] ^ 0x6c7967656e657261ULL;
    uint64_t v3 = key[1] ^ 0x7465646279746573ULL;
    for (size_t i = 0; i < count; i++) {
        v3 ^= words[i];
        NR_SIPROUND;
        v0 ^= words[i];
    }
    const uint64_t last = (uint64_t)(count * 8) << 56;
    v3 ^= last;
    NR_SIPROUND;
    v0 ^= last;
    v2 ^= 0xff;
    NR_SIPROUND;
    NR_SIPROUND;
    NR_SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

#endif
