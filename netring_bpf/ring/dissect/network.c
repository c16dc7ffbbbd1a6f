/* IPv4 (RFC 791) and IPv6 (RFC 8200) with its extension headers; the authentication header (RFC
 * 4302) of both. */
#include "dissect/cursor.h"

#define MAX_EXTENSIONS 16

enum {
    EXT_HOP_BY_HOP = 0,
    EXT_ROUTING = 43,
    EXT_FRAGMENT = 44,
    EXT_AUTH = NR_PROTO_AUTH,
    EXT_DESTINATION = 60,
    EXT_MOBILITY = 135,
    EXT_HIP = 139,
    EXT_SHIM6 = 140
};
enum { ROUTING_SOURCE = 0, ROUTING_HOME = 2, ROUTING_SEGMENTS = 4 };
enum { OPTION_PAD1 = 0, OPTION_JUMBO = 194, OPTION_HOME_ADDRESS = 201 };
enum { NO_NEXT_HEADER = 59, SHORTEST_PAYLOAD = 46 /* of Ethernet: shorter packets are padded */ };

/* Notes a fragment at `offset` bytes; the cursor is at its payload, trimmed to it. */
static int note_piece(const struct nr_cursor *c, uint32_t id, uint32_t offset, bool more,
                      struct nr_dissected *out) {
    if (offset == 0 && !more) {
        return NR_KEYED;
    }
    out->piece.data = c->at;
    out->piece.caplen = nr_captured(c);
    out->piece.id = id;
    out->piece.proto = out->key.proto;
    out->piece.start = offset;
    out->piece.end = offset + c->wire;
    out->piece.first = offset == 0;
    out->piece.later = offset != 0;
    out->piece.last = !more;
    return offset == 0 ? NR_KEYED : NR_FRAGMENT;
}

/* Takes the IP length for that on the wire, if mirrors or brokers slice frames and the options say
 * so: such a frame has no other mark. Packets inside of others have their length from these. */
static int take_sliced(struct nr_cursor *c, uint32_t length, bool is_right,
                       const nr_decode_options *options, const struct nr_dissected *out) {
    if (!is_right || out->tunnel.depth > 0) {
        return NR_BAD_NETWORK;
    }
    if (!options->trust_sliced) {
        return NR_SLICED;
    }
    c->wire = length;
    return NR_KEYED;
}

/* IPv6 has no checksum of its own. Returns whether the transport's header, if it follows and was
 * captured, agrees with the length. */
static bool agrees_with_transport(const struct nr_cursor *c, uint32_t payload) {
    const uint8_t *transport = c->at + 40;
    switch (c->at[6]) {
    case NR_PROTO_TCP:
        return !nr_has(c, 40 + 13) ||
               (transport[12] >> 4 >= 5 && (transport[12] >> 4) * 4u <= payload);
    case NR_PROTO_UDP:
        return !nr_has(c, 40 + 6) || nr_be16(transport + 4) == payload;
    default:
        return true;
    }
}

static int parse_ipv4(struct nr_cursor *c, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends) {
    if (!nr_has(c, 20)) {
        return NR_CUT_NETWORK;
    }
    const uint8_t *ip = c->at;
    const uint32_t header = (ip[0] & 0x0fu) * 4u;
    const uint32_t total = nr_be16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20) {
        return NR_BAD_NETWORK;
    }
    /* Segmentation offload leaves a total length of 0 on a host's own frames. */
    if (total != 0 && total < header) {
        return NR_BAD_NETWORK;
    }
    if (!nr_has(c, header)) {
        return total > c->wire ? NR_BAD_NETWORK : NR_CUT_NETWORK;
    }
    if (total > c->wire) {
        const bool is_right = nr_checksum_is_right(ip, header);
        const int reason = take_sliced(c, total, is_right, options, out);
        if (reason != NR_KEYED) {
            return reason;
        }
    }
    if (options->verify_checksums && !nr_checksum_is_right(ip, header)) {
        return NR_BAD_CHECKSUM;
    }
    nr_trim(c, total != 0 ? total : c->wire);
    out->key.family = 4;
    out->key.proto = ip[9];
    out->ip_bytes = c->wire;
    ends->src_h = ip + 12;
    ends->dst_h = ip + 16;
    nr_skip(c, header);
    const uint16_t fragment = nr_be16(ip + 6);
    return note_piece(c, nr_be16(ip + 4), (fragment & 0x1fffu) * 8u, fragment & 0x2000, out);
}

/* Takes the final address of a routing header as the destination: the transport's checksum and the
 * replies use it (RFC 8200 section 4.4, RFC 6275 section 6.4). It is the last of the list; the
 * segments of RFC 8754 are listed from the final one. */
static void note_routing(const uint8_t *header, uint32_t length, struct nr_ends *ends) {
    const uint8_t type = header[2], segments_left = header[3];
    if (type == ROUTING_SEGMENTS) {
        const uint32_t segments = header[4] + 1u; /* the field has the index of the last */
        if (segments_left > 0 && segments_left <= segments && 8 + segments * 16 <= length) {
            ends->dst_h = header + 8;
        }
        return;
    }
    const bool whole =
        type == ROUTING_SOURCE ? header[1] >= 2 && header[1] % 2 == 0 : header[1] == 2;
    if ((type == ROUTING_SOURCE || type == ROUTING_HOME) && segments_left > 0 && whole) {
        ends->dst_h = header + length - 16;
    }
}

/* Takes the home address of a node that is away as the source, in place of its address on the
 * foreign network (RFC 6275). */
static void note_home_address(const uint8_t *header, uint32_t length, struct nr_ends *ends) {
    for (uint32_t at = 2; at + 2 <= length;) {
        if (header[at] == OPTION_PAD1) {
            at++;
            continue;
        }
        const uint32_t size = header[at + 1];
        if (header[at] == OPTION_HOME_ADDRESS && size == 16 && at + 2 + size <= length) {
            ends->src_h = header + at + 2;
        }
        at += 2 + size;
    }
}

/* Skips an extension header of type *next. Returns 1, or 0 if *next is no extension header, or a
 * negated NR_* reason. */
static int skip_extension(struct nr_cursor *c, uint8_t *next, struct nr_ends *ends,
                          const uint8_t **fragment) {
    uint32_t length;
    switch (*next) {
    case EXT_HOP_BY_HOP:
    case EXT_ROUTING:
    case EXT_DESTINATION:
    case EXT_MOBILITY:
    case EXT_HIP:
    case EXT_SHIM6:
    case EXT_AUTH:
        if (!nr_has(c, 2)) {
            return c->wire < 2 ? -NR_BAD_NETWORK : -NR_CUT_NETWORK;
        }
        /* The length counts units of 8 bytes after the first; in the authentication header, units
         * of 4 minus 2. */
        length = *next == EXT_AUTH ? (c->at[1] + 2u) * 4u : (c->at[1] + 1u) * 8u;
        break;
    case EXT_FRAGMENT:
        length = 8;
        break;
    default:
        return 0;
    }
    if (length > c->wire) {
        return -NR_BAD_NETWORK;
    }
    if (!nr_has(c, length)) {
        return -NR_CUT_NETWORK;
    }
    if (*next == EXT_FRAGMENT) {
        *fragment = c->at;
    } else if (*next == EXT_ROUTING) {
        note_routing(c->at, length, ends);
    } else if (*next == EXT_DESTINATION) {
        note_home_address(c->at, length, ends);
    }
    *next = c->at[0];
    nr_skip(c, length);
    return 1;
}

/* Returns the payload length that a hop-by-hop header states (RFC 2675); 0: none. */
static uint32_t jumbo_length(const struct nr_cursor *c) {
    const uint8_t *header = c->at + 40;
    if (c->at[6] != EXT_HOP_BY_HOP || !nr_has(c, 48)) {
        return 0;
    }
    const uint32_t length = (header[1] + 1u) * 8u;
    for (uint32_t at = 2; at + 6 <= length && nr_has(c, 40 + at + 6);) {
        if (header[at] == OPTION_PAD1) {
            at++;
            continue;
        }
        if (header[at] == OPTION_JUMBO && header[at + 1] == 4) {
            return nr_be32(header + at + 2);
        }
        at += 2u + header[at + 1];
    }
    return 0;
}

/* Returns the length of what follows the IPv6 header. A length field of 0 leaves it to the frame if
 * that is longer than the shortest one: it holds a jumbogram, or a segment before its offload. In a
 * short frame the rest is padding. */
static uint32_t ipv6_payload(const struct nr_cursor *c) {
    const uint32_t stated = nr_be16(c->at + 4);
    if (stated != 0 || c->wire <= SHORTEST_PAYLOAD || c->at[6] == NO_NEXT_HEADER) {
        return stated;
    }
    const uint32_t jumbo = jumbo_length(c);
    return jumbo != 0 ? jumbo : c->wire - 40;
}

static int parse_ipv6(struct nr_cursor *c, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends) {
    if (!nr_has(c, 40)) {
        return NR_CUT_NETWORK;
    }
    const uint8_t *ip = c->at;
    const uint8_t *fragment = NULL;
    const uint32_t payload = ipv6_payload(c);
    if (ip[0] >> 4 != 6) {
        return NR_BAD_NETWORK;
    }
    if (payload > c->wire - 40) {
        const bool is_right = payload <= UINT16_MAX && agrees_with_transport(c, payload);
        const int reason = take_sliced(c, payload + 40, is_right, options, out);
        if (reason != NR_KEYED) {
            return reason;
        }
    }
    uint8_t next = ip[6];
    nr_trim(c, payload + 40);
    out->key.family = 6;
    out->ip_bytes = c->wire;
    ends->src_h = ip + 8;
    ends->dst_h = ip + 24;
    nr_skip(c, 40);
    for (int i = 0;; i++) {
        const int skipped = skip_extension(c, &next, ends, &fragment);
        if (skipped < 0) {
            return -skipped;
        }
        out->key.proto = next;
        if (fragment != NULL) {
            const uint16_t place = nr_be16(fragment + 2);
            const int reason =
                note_piece(c, nr_be32(fragment + 4), place & 0xfff8u, place & 1, out);
            if (reason != NR_KEYED) {
                return reason;
            }
            fragment = NULL;
        }
        if (skipped == 0) {
            return NR_KEYED;
        }
        if (i == MAX_EXTENSIONS) {
            return NR_TOO_MANY_EXT;
        }
    }
}

/* Skips the authentication headers of IPv4, in which they are protocols. */
static int skip_authentication(struct nr_cursor *c, struct nr_dissected *out,
                               struct nr_ends *ends) {
    const uint8_t *fragment = NULL;
    for (int i = 0; out->key.proto == EXT_AUTH; i++) {
        const int skipped = skip_extension(c, &out->key.proto, ends, &fragment);
        if (skipped < 0) {
            return -skipped;
        }
        if (i == MAX_EXTENSIONS) {
            return NR_TOO_MANY_EXT;
        }
    }
    return NR_KEYED;
}

int nr_decode_network(struct nr_cursor *c, uint16_t ethertype, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends) {
    if (ethertype != NR_ETHERTYPE_IPV4) {
        return parse_ipv6(c, options, out, ends);
    }
    const int reason = parse_ipv4(c, options, out, ends);
    return reason == NR_KEYED ? skip_authentication(c, out, ends) : reason;
}
