/* Ethernet frame → key and TCP facts. Pure: no state, no clock, no allocation. Every read is
 * checked against the captured length, every loop is bounded.
 *
 * Formats: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443,
 * RFC 9260 (SCTP and friends: ports in the first four bytes). */
#include <string.h>

#include "frame.h"

#define MAX_TAGS 8
#define MAX_EXTENSIONS 16

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_8021Q 0x8100
#define ETHERTYPE_8021AD 0x88a8
#define ETHERTYPE_QINQ_OLD 0x9100

enum {
    PROTO_ICMP = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_DCCP = 33,
    PROTO_ICMP6 = 58,
    PROTO_SCTP = 132,
    PROTO_UDPLITE = 136
};
enum {
    EXT_HOP_BY_HOP = 0,
    EXT_ROUTING = 43,
    EXT_FRAGMENT = 44,
    EXT_AUTH = 51,
    EXT_DESTINATION = 60,
    EXT_MOBILITY = 135,
    EXT_HIP = 139,
    EXT_SHIM6 = 140
};

/* What is left to read: at..end captured. left counts what the IP header says there is. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline bool has(const struct cursor *c, size_t n) {
    return (size_t)(c->end - c->at) >= n;
}
static inline uint16_t be16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline bool is_tag(uint16_t ethertype) {
    return ethertype == ETHERTYPE_8021Q || ethertype == ETHERTYPE_8021AD ||
           ethertype == ETHERTYPE_QINQ_OLD;
}

/* The packet's own view of its ends, before they are put in canonical order. */
struct ends {
    const uint8_t *src_h;
    const uint8_t *dst_h;
    uint16_t src_p;
    uint16_t dst_p;
    bool one_port_pair; /* ICMP: type and code belong to the exchange, not to a side */
};

static int parse_link(struct cursor *c, const struct nr_frame *frame, struct nr_key *key,
                      uint16_t *ethertype) {
    unsigned tags = 0;
    key->vlan[0] = key->vlan[1] = NR_NO_VLAN;
    if (frame->vlan_tpid != 0) {
        key->vlan[tags++] = frame->vlan_tci & 0x0fff;
    }
    if (!has(c, 14)) {
        return NR_CUT_LINK;
    }
    *ethertype = be16(c->at + 12);
    c->at += 14;
    while (is_tag(*ethertype)) {
        if (tags == MAX_TAGS) {
            return NR_TOO_MANY_TAGS;
        }
        if (!has(c, 4)) {
            return NR_CUT_LINK;
        }
        if (tags < 2) {
            key->vlan[tags] = be16(c->at) & 0x0fff;
        }
        tags++;
        *ethertype = be16(c->at + 2);
        c->at += 4;
    }
    return NR_KEYED;
}

/* On success *left is the length of what follows the header, as the header gives it. */
static int parse_ipv4(struct cursor *c, size_t wire_left, struct nr_key *key, struct ends *ends,
                      uint32_t *left) {
    if (!has(c, 20)) {
        return NR_CUT_NETWORK;
    }
    const uint8_t *ip = c->at;
    const unsigned header = (ip[0] & 0x0fu) * 4u;
    const unsigned total = be16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20) {
        return NR_BAD_NETWORK;
    }
    /* A total length of 0 is what segmentation offload leaves on a host's own frames. */
    if (total != 0 && (total < header || total > wire_left)) {
        return NR_BAD_NETWORK;
    }
    if (!has(c, header)) {
        return NR_CUT_NETWORK;
    }
    if ((be16(ip + 6) & 0x1fff) != 0) {
        return NR_FRAGMENT;
    }
    key->family = 4;
    key->proto = ip[9];
    ends->src_h = ip + 12;
    ends->dst_h = ip + 16;
    *left = (uint32_t)(total != 0 ? total - header : wire_left - header);
    c->at += header;
    return NR_KEYED;
}

/* Skips one extension header of *next: 1 skipped, 0 *next is none, else a reason, negated. */
static int skip_extension(struct cursor *c, uint8_t *next, uint32_t *left) {
    size_t length;
    switch (*next) {
    case EXT_HOP_BY_HOP:
    case EXT_ROUTING:
    case EXT_DESTINATION:
    case EXT_MOBILITY:
    case EXT_HIP:
    case EXT_SHIM6:
    case EXT_AUTH:
        if (!has(c, 2)) {
            return -NR_CUT_NETWORK;
        }
        /* Units of 8 bytes, not counting the first; the authentication header: of 4, minus 2. */
        length = *next == EXT_AUTH ? (c->at[1] + 2u) * 4u : (c->at[1] + 1u) * 8u;
        break;
    case EXT_FRAGMENT:
        length = 8;
        if (!has(c, length)) {
            return -NR_CUT_NETWORK;
        }
        if ((be16(c->at + 2) & 0xfff8) != 0) {
            return -NR_FRAGMENT;
        }
        break;
    default:
        return 0;
    }
    if (length > *left) {
        return -NR_BAD_NETWORK;
    }
    if (!has(c, length)) {
        return -NR_CUT_NETWORK;
    }
    *next = c->at[0];
    *left -= (uint32_t)length;
    c->at += length;
    return 1;
}

static int parse_ipv6(struct cursor *c, size_t wire_left, struct nr_key *key, struct ends *ends,
                      uint32_t *left) {
    if (!has(c, 40)) {
        return NR_CUT_NETWORK;
    }
    const uint8_t *ip = c->at;
    const unsigned payload = be16(ip + 4);
    if (ip[0] >> 4 != 6 || payload > wire_left - 40) {
        return NR_BAD_NETWORK;
    }
    uint8_t next = ip[6];
    key->family = 6;
    ends->src_h = ip + 8;
    ends->dst_h = ip + 24;
    /* 0: a jumbogram (RFC 2675), or segmentation offload. */
    *left = payload != 0 ? payload : (uint32_t)(wire_left - 40);
    c->at += 40;
    for (int i = 0;; i++) {
        const int skipped = skip_extension(c, &next, left);
        if (skipped < 0) {
            return -skipped;
        }
        if (skipped == 0) {
            key->proto = next;
            return NR_KEYED;
        }
        if (i == MAX_EXTENSIONS) {
            return NR_TOO_MANY_EXT;
        }
    }
}

static int parse_tcp(const struct cursor *c, uint32_t left, struct nr_dissected *out,
                     struct ends *ends) {
    if (left < 20) {
        return NR_BAD_TRANSPORT;
    }
    if (!has(c, 20)) {
        return NR_CUT_TRANSPORT;
    }
    const unsigned header = (c->at[12] >> 4) * 4u;
    if (header < 20 || header > left) {
        return NR_BAD_TRANSPORT;
    }
    ends->src_p = be16(c->at);
    ends->dst_p = be16(c->at + 2);
    out->tcp_seq = be32(c->at + 4);
    out->tcp_ack = be32(c->at + 8);
    out->tcp_flags = c->at[13];
    out->payload = left - header;
    out->from_responder = (out->tcp_flags & (NR_TCP_SYN | NR_TCP_ACK)) == (NR_TCP_SYN | NR_TCP_ACK);
    return NR_KEYED;
}

static int parse_ports(const struct cursor *c, uint32_t left, uint32_t header,
                       struct nr_dissected *out, struct ends *ends) {
    if (left < header) {
        return NR_BAD_TRANSPORT;
    }
    if (!has(c, 4)) {
        return NR_CUT_TRANSPORT;
    }
    ends->src_p = be16(c->at);
    ends->dst_p = be16(c->at + 2);
    out->payload = left - header;
    return NR_KEYED;
}

/* The request type of an exchange and whether this is its reply; false: not an exchange. */
static bool icmp_exchange(uint8_t proto, uint8_t type, uint8_t *request, bool *reply) {
    static const uint8_t v4[][2] = {{8, 0}, {13, 14}, {15, 16}, {17, 18}};
    if (proto == PROTO_ICMP6) {
        *request = 128;
        *reply = type == 129;
        return type == 128 || type == 129;
    }
    for (size_t i = 0; i < sizeof v4 / sizeof v4[0]; i++) {
        if (type == v4[i][0] || type == v4[i][1]) {
            *request = v4[i][0];
            *reply = type == v4[i][1];
            return true;
        }
    }
    return false;
}

static int parse_icmp(const struct cursor *c, uint32_t left, struct nr_dissected *out,
                      struct ends *ends) {
    uint8_t type;
    bool reply = false;
    if (left < 8) {
        return NR_BAD_TRANSPORT;
    }
    if (!has(c, 8)) {
        return NR_CUT_TRANSPORT;
    }
    type = c->at[0];
    if (icmp_exchange(out->key.proto, type, &type, &reply)) {
        out->key.icmp_id = be16(c->at + 4);
    }
    out->from_responder = reply;
    out->payload = left - 8;
    ends->one_port_pair = true;
    ends->src_p = type;
    ends->dst_p = c->at[1];
    return NR_KEYED;
}

static int parse_transport(const struct cursor *c, uint32_t left, struct nr_dissected *out,
                           struct ends *ends) {
    switch (out->key.proto) {
    case PROTO_TCP:
        return parse_tcp(c, left, out, ends);
    case PROTO_UDP:
    case PROTO_UDPLITE:
        return parse_ports(c, left, 8, out, ends);
    case PROTO_SCTP:
    case PROTO_DCCP:
        return parse_ports(c, left, 12, out, ends);
    case PROTO_ICMP:
        return out->key.family == 4 ? parse_icmp(c, left, out, ends) : NR_KEYED;
    case PROTO_ICMP6:
        return out->key.family == 6 ? parse_icmp(c, left, out, ends) : NR_KEYED;
    default:
        out->payload = left;
        return NR_KEYED;
    }
}

static void order_ends(const struct ends *ends, struct nr_dissected *out) {
    struct nr_key *key = &out->key;
    const size_t size = key->family == 4 ? 4 : 16;
    const int order = memcmp(ends->src_h, ends->dst_h, size);
    const bool same_h = order == 0;
    const bool swap = order > 0 || (same_h && !ends->one_port_pair && ends->src_p > ends->dst_p);
    memcpy(key->low_h, swap ? ends->dst_h : ends->src_h, size);
    memcpy(key->high_h, swap ? ends->src_h : ends->dst_h, size);
    if (ends->one_port_pair) {
        key->low_p = ends->src_p;
        key->high_p = ends->dst_p;
    } else {
        key->low_p = swap ? ends->dst_p : ends->src_p;
        key->high_p = swap ? ends->src_p : ends->dst_p;
    }
    out->from_high = swap;
    /* A host that pings itself: the addresses cannot tell the sides apart, the type can. */
    if (same_h && ends->one_port_pair) {
        out->from_high = out->from_responder;
    }
}

int nr_decode(const struct nr_frame *frame, struct nr_dissected *out) {
    struct cursor c = {frame->data, frame->data + frame->caplen};
    struct ends ends = {0};
    uint16_t ethertype = 0;
    uint32_t left = 0;
    int reason;

    memset(out, 0, sizeof *out);
    reason = parse_link(&c, frame, &out->key, &ethertype);
    if (reason != NR_KEYED) {
        return reason;
    }
    if (ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6) {
        return NR_NOT_IP;
    }
    /* On the wire there is at least what was captured, whatever a source claims. */
    const size_t link = (size_t)(c.at - frame->data) + (frame->vlan_tpid != 0 ? 4 : 0);
    const size_t captured = (size_t)(c.end - c.at);
    size_t wire_left = frame->len > link ? frame->len - link : 0;
    wire_left = wire_left > captured ? wire_left : captured;
    if (ethertype == ETHERTYPE_IPV4) {
        reason = parse_ipv4(&c, wire_left, &out->key, &ends, &left);
    } else {
        reason = parse_ipv6(&c, wire_left, &out->key, &ends, &left);
    }
    if (reason == NR_KEYED) {
        reason = parse_transport(&c, left, out, &ends);
    }
    if (reason == NR_KEYED) {
        order_ends(&ends, out);
    }
    return reason;
}
