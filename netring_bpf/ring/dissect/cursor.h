/* Reads packets: a cursor over their bytes, numbers in network order, and the functions of the
 * layers that the dissector's files share. */
#ifndef NR_DISSECT_CURSOR_H
#define NR_DISSECT_CURSOR_H

#include "dissect/packet.h"

/* Bytes at..end were captured; `wire` bytes from `at` were on the wire, never fewer. */
struct nr_cursor {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t wire;
};

static inline uint32_t nr_captured(const struct nr_cursor *c) {
    return (uint32_t)(c->end - c->at);
}
static inline bool nr_has(const struct nr_cursor *c, uint32_t n) {
    return nr_captured(c) >= n;
}
static inline void nr_skip(struct nr_cursor *c, uint32_t n) {
    c->at += n;
    c->wire -= n;
}
/* Ends the packet after `wire` bytes, as a length field says; the rest is padding. */
static inline void nr_trim(struct nr_cursor *c, uint32_t wire) {
    if (wire < c->wire) {
        c->wire = wire;
        if (nr_captured(c) > wire) {
            c->end = c->at + wire;
        }
    }
}
static inline uint16_t nr_be16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t nr_be24(const uint8_t *p) {
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}
static inline uint32_t nr_be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | nr_be24(p + 1);
}

#define NR_ETHERTYPE_IPV4 0x0800
#define NR_ETHERTYPE_IPV6 0x86dd
#define NR_ETHERTYPE_8021Q 0x8100
#define NR_ETHERTYPE_TEB 0x6558 /* an Ethernet frame */

/* The source and destination of a packet, before key.c puts them in canonical order. */
struct nr_ends {
    const uint8_t *src_h; /* 4 or 16 bytes, or 6 of a MAC address */
    const uint8_t *dst_h;
    const uint8_t *src_mac; /* NULL: the link has none */
    const uint8_t *dst_mac;
    uint16_t src_p;
    uint16_t dst_p;
    struct nr_cursor rest; /* the frames of an 802.11 aggregate behind this one; at NULL: none */
};

/* The link of such frames, beside those of api.h. */
#define NR_LINK_SUBFRAMES 0xff

/* link_layer.c: reads the link header, tags, labels and PPPoE. On success the cursor is at the
 * network layer and *ethertype names it. */
int nr_decode_link(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                   struct nr_ends *ends, uint16_t *ethertype);

/* network.c: reads the IP header and extension headers. On success, and for NR_FRAGMENT, the cursor
 * is at the payload, trimmed to the IP length. */
int nr_decode_network(struct nr_cursor *c, uint16_t ethertype, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends);

/* transport.c */
int nr_decode_transport(const struct nr_cursor *c, const nr_decode_options *options,
                        struct nr_dissected *out, struct nr_ends *ends);

/* tunnel.c: finds the packet inside GRE or IP in IP. Returns false if the tunnel stays closed. */
bool nr_open_ip(struct nr_cursor *c, const struct nr_dissected *out, const struct nr_ends *ends,
                struct nr_inner *inner);
/* Finds the packet inside a UDP datagram, from its payload. */
bool nr_open_udp(const struct nr_cursor *payload, const struct nr_dissected *out,
                 const struct nr_ends *ends, struct nr_inner *inner);

enum {
    NR_PORT_VXLAN = 4789,
    NR_PORT_GENEVE = 6081,
    NR_PORT_GTPU = 2152,
    NR_PORT_TEREDO = 3544,
    NR_PORT_GRE = 4754,
    NR_PORT_AYIYA = 5072
};
/* Returns true if datagrams to or from the port may be tunnels. */
static inline bool nr_is_tunnel_port(uint16_t port) {
    return port == NR_PORT_VXLAN || port == NR_PORT_GENEVE || port == NR_PORT_GTPU ||
           port == NR_PORT_TEREDO || port == NR_PORT_GRE || port == NR_PORT_AYIYA;
}

/* Returns true if a datagram on any port may be AYIYA, by its first bytes. */
static inline bool nr_looks_like_ayiya(const uint8_t *payload) {
    return payload[1] == 0x52 && payload[2] == 0x11;
}
/* Returns true if a datagram on any port may be Teredo: IPv6, or an indication in front of it
 * (authentication, whatever its length, or origin). */
static inline bool nr_looks_like_teredo(const uint8_t *payload) {
    return payload[0] >> 4 == 6 ||
           (payload[0] == 0 && (payload[1] == 1 || (payload[1] == 0 && payload[8] >> 4 == 6)));
}
/* Bytes of the payload that these two functions read. */
enum { NR_LOOKED_AT = 9 };
static inline bool nr_looks_like_tunnel(const uint8_t *payload, uint32_t captured) {
    return captured >= 48 && (nr_looks_like_ayiya(payload) || nr_looks_like_teredo(payload));
}

/* checksum.c: return true if the internet checksum over the data is right. The second adds the
 * pseudo header of RFC 768 and RFC 8200. */
bool nr_checksum_is_right(const uint8_t *data, uint32_t length);
bool nr_checksum_is_right_with(const struct nr_ends *ends, uint8_t family, uint8_t proto,
                               const uint8_t *data, uint32_t length);

#endif
