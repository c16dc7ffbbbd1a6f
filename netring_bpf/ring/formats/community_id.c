/* Writes the Community ID, version 1: SHA-1 (FIPS 180-4) of the flow's key, in base64. The hashed
 * bytes fit into one block of SHA-1. */
#include "formats/text_record.h"

enum { BLOCK = 64, DIGEST = 20 };

/* -- SHA-1 of one block -- */

static uint32_t load_be32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store_be32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

static uint32_t rotate_left(uint32_t x, int bits) {
    return x << bits | x >> (32 - bits);
}

/* Returns the next word of the message schedule, which replaces the word of sixteen rounds ago. */
static inline uint32_t schedule_word(uint32_t *w, int t) {
    if (t >= 16) {
        w[t & 15] =
            rotate_left(w[(t + 13) & 15] ^ w[(t + 8) & 15] ^ w[(t + 2) & 15] ^ w[t & 15], 1);
    }
    return w[t & 15];
}

#define ROUND(f, k)                                                                                \
    do {                                                                                           \
        const uint32_t next = rotate_left(a, 5) + (f) + e + (k) + schedule_word(w, t);             \
        e = d, d = c, c = rotate_left(b, 30), b = a, a = next;                                     \
    } while (0)

static void sha1(const uint8_t block[BLOCK], uint8_t digest[DIGEST]) {
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint32_t a = start[0], b = start[1], c = start[2], d = start[3], e = start[4];
    uint32_t w[16];
    int t = 0;
    for (int i = 0; i < 16; i++) {
        w[i] = load_be32(block + 4 * i);
    }
    for (; t < 20; t++) {
        ROUND(d ^ (b & (c ^ d)), 0x5a827999);
    }
    for (; t < 40; t++) {
        ROUND(b ^ c ^ d, 0x6ed9eba1);
    }
    for (; t < 60; t++) {
        ROUND((b & c) | (d & (b | c)), 0x8f1bbcdc);
    }
    for (; t < 80; t++) {
        ROUND(b ^ c ^ d, 0xca62c1d6);
    }
    store_be32(digest, start[0] + a);
    store_be32(digest + 4, start[1] + b);
    store_be32(digest + 8, start[2] + c);
    store_be32(digest + 12, start[3] + d);
    store_be32(digest + 16, start[4] + e);
}

/* -- base64 -- */

static char *put_base64(char *at, const uint8_t digest[DIGEST]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < DIGEST; i += 3) {
        const uint32_t third = i + 2 < DIGEST ? digest[i + 2] : 0;
        const uint32_t bits = (uint32_t)digest[i] << 16 | (uint32_t)digest[i + 1] << 8 | third;
        *at++ = digits[bits >> 18];
        *at++ = digits[bits >> 12 & 63];
        *at++ = digits[bits >> 6 & 63];
        *at++ = digits[bits & 63];
    }
    at[-1] = '='; /* 20 bytes are six groups of three, and two bytes */
    return at;
}

/* -- the key -- */

int nr_icmp_counterpart(uint8_t proto, uint16_t type) {
    if (proto == NR_PROTO_ICMP) {
        switch (type) {
        case 0: /* echo */
            return 8;
        case 8:
            return 0;
        case 9:  /* router */
        case 13: /* timestamp */
        case 15: /* information */
        case 17: /* address mask */
            return type + 1;
        case 10:
        case 14:
        case 16:
        case 18:
            return type - 1;
        default:
            return -1;
        }
    }
    switch (type) {
    case 128: /* echo */
    case 130: /* listener */
    case 133: /* router */
    case 135: /* neighbour */
    case 139: /* node information */
    case 144: /* home agent */
        return type + 1;
    case 129:
    case 131:
    case 134:
    case 136:
    case 140:
    case 145:
        return type - 1;
    default:
        return -1;
    }
}

static uint8_t *put_u16(uint8_t *at, uint16_t value) {
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

/* Lays out the bytes to hash. Returns their number. */
static size_t lay_out_key(uint8_t block[BLOCK], const nr_event *e) {
    const size_t size = e->family == 4 ? 4 : 16;
    const uint8_t *src = e->orig_h, *dst = e->resp_h;
    uint16_t src_p = e->orig_p, dst_p = e->resp_p;
    const bool icmp = nr_is_icmp(e->proto);
    const int answer = icmp ? nr_icmp_counterpart(e->proto, src_p) : -1;
    dst_p = answer >= 0 ? (uint16_t)answer : dst_p;
    const int order = memcmp(src, dst, size);
    if (!(icmp && answer < 0) && (order > 0 || (order == 0 && src_p > dst_p))) {
        src = e->resp_h, dst = e->orig_h;
        const uint16_t swapped = src_p;
        src_p = dst_p, dst_p = swapped;
    }
    uint8_t *at = put_u16(block, 0); /* the seed */
    memcpy(at, src, size);
    memcpy(at + size, dst, size);
    at += 2 * size;
    *at++ = e->proto;
    *at++ = 0;
    if (icmp || e->proto == NR_PROTO_TCP || e->proto == NR_PROTO_UDP || e->proto == NR_PROTO_SCTP) {
        at = put_u16(put_u16(at, src_p), dst_p);
    }
    return (size_t)(at - block);
}

char *nr_put_community_id(char *at, const nr_event *event) {
    uint8_t block[BLOCK] = {0}, digest[DIGEST];
    const size_t size = lay_out_key(block, event);
    block[size] = 0x80;
    (void)put_u16(block + BLOCK - 2, (uint16_t)(size * 8));
    sha1(block, digest);
    at = NR_PUT(at, "1:");
    return put_base64(at, digest);
}
