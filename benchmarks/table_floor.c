/* The least that a flow table does with a packet, written plainly.
 *
 * It does: read Ethernet, IPv4 with options or IPv6, and the ports of TCP or UDP, within the bytes
 * that were captured; put the two ends in order, so that both directions meet; hash the five-tuple;
 * find it by linear probing; add to the packets and bytes of the end that sent.
 *
 * It does not: follow tags, extension headers, fragments or tunnels; follow TCP; keep a time, a
 * history or a list of idle flows; end, evict or report a flow; grow. The hash has no secret, so
 * that chosen keys can collide. It fetches no memory ahead. A slot is one cache line, and at most
 * half of the slots are taken. */
#include "table_floor.h"

#include <stdlib.h>
#include <string.h>

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, PORTS = 4, TCP = 6, UDP = 17, WORDS = 5, LINE = 64 };

struct key {
    uint64_t words[WORDS];
};

struct floor_flow {
    struct key key;
    uint32_t packets[2]; /* both 0: the slot is free */
    uint64_t bytes[2];
};

_Static_assert(sizeof(struct floor_flow) == LINE, "a slot is one cache line");

struct floor floor_create(uint32_t flows) {
    size_t slots = 2;
    while (slots < 2 * (size_t)flows) {
        slots *= 2;
    }
    struct floor floor = {.slots = aligned_alloc(LINE, slots * LINE), .mask = (uint32_t)slots - 1};
    if (floor.slots != NULL) {
        memset(floor.slots, 0, slots * LINE);
    }
    return floor;
}

void floor_destroy(struct floor *floor) {
    free(floor->slots);
}

static uint32_t load16(const uint8_t *at) {
    return (uint32_t)at[0] << 8 | at[1];
}
static uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}
static uint64_t load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return __builtin_bswap64(value);
}

/* The addresses and ports; returns 0 where the lower end sent the packet, else 1. */
static int key_v4(struct key *key, const uint8_t *ip, const uint8_t *ports, uint64_t rest) {
    const uint64_t source = (uint64_t)load32(ip + 12) << 16 | load16(ports);
    const uint64_t target = (uint64_t)load32(ip + 16) << 16 | load16(ports + 2);
    const bool back = source > target;
    *key = (struct key){{back ? target : source, back ? source : target, 0, 0, rest}};
    return back;
}

static int key_v6(struct key *key, const uint8_t *ip, const uint8_t *ports, uint64_t rest) {
    const uint64_t source[] = {load64(ip + 8), load64(ip + 16), load16(ports)};
    const uint64_t target[] = {load64(ip + 24), load64(ip + 32), load16(ports + 2)};
    uint32_t i = 0;
    while (i < 2 && source[i] == target[i]) {
        i++;
    }
    const bool back = source[i] > target[i];
    const uint64_t *low = back ? target : source, *high = back ? source : target;
    *key = (struct key){{low[0], low[1], high[0], high[1], rest | low[2] << 32 | high[2] << 16}};
    return back;
}

static bool has_ports(uint32_t captured, uint32_t header, uint8_t protocol) {
    return captured >= header + PORTS && (protocol == TCP || protocol == UDP);
}

/* Reads the five-tuple; returns the end that sent the packet, or -1 where there is none to read. */
static int read_key(const struct nr_frame *frame, struct key *key) {
    const uint8_t *ip = frame->data + ETHERNET;
    if (frame->caplen < ETHERNET + IPV4) {
        return -1;
    }
    const uint32_t captured = frame->caplen - ETHERNET;
    const uint32_t type = load16(frame->data + 12);
    if (type == 0x0800 && ip[0] >> 4 == 4) {
        const uint32_t header = (ip[0] & 15) * 4u;
        return header >= IPV4 && has_ports(captured, header, ip[9])
                   ? key_v4(key, ip, ip + header, (uint64_t)ip[9] << 8)
                   : -1;
    }
    if (type == 0x86dd && ip[0] >> 4 == 6) {
        return has_ports(captured, IPV6, ip[6])
                   ? key_v6(key, ip, ip + IPV6, (uint64_t)ip[6] << 8 | 1)
                   : -1;
    }
    return -1;
}

static uint32_t hash_key(const struct key *key) {
    const uint64_t *w = key->words;
    uint64_t hash = w[0] * 0x9e3779b97f4a7c15u + w[1] * 0xbf58476d1ce4e5b9u +
                    w[2] * 0x94d049bb133111ebu + w[3] * 0xd6e8feb86659fd93u +
                    w[4] * 0xa0761d6478bd642fu;
    hash ^= hash >> 32;
    return (uint32_t)(hash * 0x9fb21c651e98df25u >> 32);
}

static bool is_same(const struct key *a, const struct key *b) {
    const uint64_t *v = a->words, *w = b->words;
    return ((v[0] ^ w[0]) | (v[1] ^ w[1]) | (v[2] ^ w[2]) | (v[3] ^ w[3]) | (v[4] ^ w[4])) == 0;
}

static struct floor_flow *find_flow(struct floor *floor, const struct key *key) {
    for (uint32_t at = hash_key(key);; at++) {
        struct floor_flow *flow = &floor->slots[at & floor->mask];
        if ((flow->packets[0] | flow->packets[1]) == 0) {
            if (floor->flows > floor->mask / 2) {
                return NULL;
            }
            floor->flows++;
            flow->key = *key;
            return flow;
        }
        if (is_same(&flow->key, key)) {
            return flow;
        }
    }
}

uint32_t floor_take(struct floor *floor, const struct nr_frame *frames, uint32_t count) {
    uint32_t counted = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct key key;
        const int end = read_key(&frames[i], &key);
        struct floor_flow *flow = end < 0 ? NULL : find_flow(floor, &key);
        if (flow != NULL) {
            flow->packets[end]++;
            flow->bytes[end] += frames[i].len;
            counted++;
        }
    }
    return counted;
}

void floor_sums(const struct floor *floor, uint64_t packets[2], uint64_t bytes[2]) {
    packets[0] = packets[1] = bytes[0] = bytes[1] = 0;
    for (uint64_t at = 0; at <= floor->mask; at++) {
        for (uint32_t end = 0; end < 2; end++) {
            packets[end] += floor->slots[at].packets[end];
            bytes[end] += floor->slots[at].bytes[end];
        }
    }
}
