/* Includes api.h with its guard, and defines the basics that every C file uses. */
#ifndef NR_CORE_H
#define NR_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "api.h"

/* Access to shared ring indexes. An acquire load sees all that the other side wrote before its
 * release store. */
#define nr_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define nr_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define nr_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define nr_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

#define NR_LIKELY(x) __builtin_expect(!!(x), 1)
#define NR_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Inlines a function always. Its callers pass constants, so most of its code falls away. */
#define NR_INLINE static inline __attribute__((always_inline))

/* Protocols of IP. */
enum {
    NR_PROTO_ICMP = 1,
    NR_PROTO_IPV4 = 4,
    NR_PROTO_TCP = 6,
    NR_PROTO_UDP = 17,
    NR_PROTO_DCCP = 33,
    NR_PROTO_IPV6 = 41,
    NR_PROTO_GRE = 47,
    NR_PROTO_AUTH = 51,
    NR_PROTO_ICMP6 = 58,
    NR_PROTO_ETHERIP = 97,
    NR_PROTO_L2TP = 115,
    NR_PROTO_SCTP = 132,
    NR_PROTO_UDPLITE = 136,
    NR_PROTO_MPLS = 137,
    NR_PROTO_ETHERNET = 143
};

/* Flags of a TCP header. */
enum {
    NR_FLAG_FIN = 0x01,
    NR_FLAG_SYN = 0x02,
    NR_FLAG_RST = 0x04,
    NR_FLAG_PSH = 0x08,
    NR_FLAG_ACK = 0x10,
    NR_FLAG_URG = 0x20,
    NR_FLAG_ECE = 0x40,
    NR_FLAG_CWR = 0x80
};

#define NR_BATCH 64u            /* frames taken from a source at once */
#define NR_EVENTS_PER_PACKET 4u /* evicted + ended + started + established */
#define NR_APP_EVENTS 12u       /* of exchanges, that a frame or a timer makes at most, besides */

/* Clears memory in small steps, for structures that are cleared for every packet. Compilers turn a
 * longer memset into `rep stos`, which is slow to start. */
static inline void nr_clear(void *at, size_t size) {
    uint8_t *bytes = at;
#pragma GCC unroll 8
    for (; size > 32; size -= 32, bytes += 32) {
        memset(bytes, 0, 32);
    }
    memset(bytes, 0, size);
}

static inline uint64_t nr_max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

#endif
