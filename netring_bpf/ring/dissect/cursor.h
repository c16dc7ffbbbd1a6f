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
#define NR_ETHERTYPE_ARP 0x0806
#define NR_ETHERTYPE_IPV6 0x86dd
#define NR_ETHERTYPE_8021Q 0x8100
#define NR_ETHERTYPE_TEB 0x6558 /* an Ethernet frame */
#define NR_ETHERTYPE_MPLS 0x8847
#define NR_ETHERTYPE_PPPOE 0x8864
#define NR_ETHERTYPE_NSH 0x894f
#define NR_ETHERTYPE_MIN 0x0600 /* below it, the field is a length */

#define NR_PPP_CONTROL 0x03
#define NR_PPP_ADDRESS_CONTROL 0xff03

/* Returns the ethertype of a protocol by the numbers of RFC 8300; 0: none that is read. */
static inline uint16_t nr_nsh_ethertype(uint8_t protocol) {
    static const uint16_t types[] = {0,
                                     NR_ETHERTYPE_IPV4,
                                     NR_ETHERTYPE_IPV6,
                                     NR_ETHERTYPE_TEB,
                                     NR_ETHERTYPE_NSH,
                                     NR_ETHERTYPE_MPLS};
    return protocol < sizeof types / sizeof *types ? types[protocol] : 0;
}

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

/* link_layer.c: reads the link header, and all that stands between it and the network layer. On
 * success the cursor is there, and *ethertype is that of IPv4 or IPv6. */
int nr_decode_link(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                   struct nr_ends *ends, uint16_t *ethertype);
/* Returns true if the bytes, read as this link, lead to IP whose lengths fit. Without Ethernet
 * around it, the IP packet fills them. */
bool nr_holds_ip(const struct nr_cursor *c, uint16_t link, uint16_t ethertype);

/* encapsulation.c: the functions return NR_KEYED and the next ethertype, or why there is none. */
int nr_skip_ethernet(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype);
int nr_skip_snap(struct nr_cursor *c, uint16_t *ethertype);
int nr_skip_ppp(struct nr_cursor *c, uint16_t *ethertype);
int nr_ethertype_by_version(const struct nr_cursor *c, uint16_t *ethertype);
/* Skips tags, labels and the like up to IPv4 or IPv6, at most eight, with the frame's own tag. */
int nr_skip_encapsulations(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                           struct nr_ends *ends, uint16_t *ethertype);
/* Returns true if IP begins here, by its version and lengths; `whole`: and fills the rest. */
bool nr_looks_like_ip(const struct nr_cursor *c, uint16_t ethertype, bool whole);

/* network.c: reads the IP header and extension headers. On success, and for NR_FRAGMENT, the cursor
 * is at the payload, trimmed to the IP length. */
int nr_decode_network(struct nr_cursor *c, uint16_t ethertype, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends);

/* transport.c */
int nr_decode_transport(const struct nr_cursor *c, const nr_decode_options *options,
                        struct nr_dissected *out, struct nr_ends *ends);

/* tunnel.c: finds the packet inside another IP packet, from its payload. Returns false if the
 * tunnel stays closed. */
bool nr_open_ip(struct nr_cursor *c, const struct nr_dissected *out, const struct nr_ends *ends,
                struct nr_inner *inner);
/* Finds the packet inside a UDP datagram, from its payload. */
bool nr_open_udp(const struct nr_cursor *payload, const nr_decode_options *options,
                 const struct nr_dissected *out, const struct nr_ends *ends,
                 struct nr_inner *inner);
/* Returns NR_TUNNEL_*, the kind of tunnel that datagrams to or from the port may be; 0: none. */
uint8_t nr_tunnel_on(const nr_decode_options *options, uint16_t port);
/* Returns false for most ports that have no tunnel, without a look at the list of those that do. */
static inline bool nr_may_have_tunnel(const nr_decode_options *options, uint16_t port) {
    return options->tunnel_bits[port >> 6 & 3] >> (port & 63) & 1;
}
/* Sets the bits that this function reads. */
static inline void nr_set_tunnel_bits(nr_decode_options *options) {
    memset(options->tunnel_bits, 0, sizeof options->tunnel_bits);
    for (uint32_t i = 0; i < options->tunnel_port_count; i++) {
        const uint16_t port = options->tunnel_ports[i].port;
        options->tunnel_bits[port >> 6 & 3] |= 1ull << (port & 63);
    }
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
