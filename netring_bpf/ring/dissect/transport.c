/* The transport layer: TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792), ICMPv6 (RFC 4443), SCTP (RFC
 * 9260) and others whose ports are the first four bytes. */
#include <string.h>

#include "dissect/cursor.h"
#include "dissect/key.h"

static bool can_check(const struct nr_cursor *c, const nr_decode_options *options,
                      const struct nr_dissected *out) {
    return options->verify_checksums && nr_captured(c) == c->wire && !out->piece.first;
}

static int parse_tcp(const struct nr_cursor *c, const nr_decode_options *options,
                     struct nr_dissected *out, struct nr_ends *ends) {
    if (c->wire < 20) {
        return NR_BAD_TRANSPORT;
    }
    if (!nr_has(c, 20)) {
        return NR_CUT_TRANSPORT;
    }
    const uint32_t header = (c->at[12] >> 4) * 4u;
    if (header < 20 || header > c->wire) {
        return NR_BAD_TRANSPORT;
    }
    ends->src_p = nr_be16(c->at);
    ends->dst_p = nr_be16(c->at + 2);
    out->tcp_seq = nr_be32(c->at + 4);
    out->tcp_ack = nr_be32(c->at + 8);
    out->tcp_flags = c->at[13];
    out->window = nr_be16(c->at + 14);
    out->payload = c->wire - header;
    out->bad_checksum =
        can_check(c, options, out) &&
        !nr_checksum_is_right_with(ends, out->key.family, NR_PROTO_TCP, c->at, c->wire);
    return NR_KEYED;
}

static int parse_udp(const struct nr_cursor *c, const nr_decode_options *options,
                     struct nr_dissected *out, struct nr_ends *ends) {
    if (c->wire < 8) {
        return NR_BAD_TRANSPORT;
    }
    if (!nr_has(c, 8)) {
        return NR_CUT_TRANSPORT;
    }
    const uint16_t length = nr_be16(c->at + 4);
    ends->src_p = nr_be16(c->at);
    ends->dst_p = nr_be16(c->at + 2);
    /* The UDP length holds for all fragments; 0 means a jumbogram, or offload. */
    out->payload = length >= 8 ? length - 8u : c->wire - 8;
    /* IPv4 and tunnels (RFC 6935) allow a datagram without a checksum. */
    out->bad_checksum =
        can_check(c, options, out) && nr_be16(c->at + 6) != 0 &&
        !nr_checksum_is_right_with(ends, out->key.family, NR_PROTO_UDP, c->at, c->wire);
    if (options->tunnel_depth > out->tunnel.depth && !out->piece.first && !out->bad_checksum) {
        struct nr_cursor payload = *c;
        nr_skip(&payload, 8);
        if (!nr_open_udp(&payload, out, ends, &out->inner)) {
            out->inner.at = NULL;
        }
    }
    return NR_KEYED;
}

static int parse_ports(const struct nr_cursor *c, uint32_t header, struct nr_dissected *out,
                       struct nr_ends *ends) {
    if (c->wire < header) {
        return NR_BAD_TRANSPORT;
    }
    if (!nr_has(c, 4)) {
        return NR_CUT_TRANSPORT;
    }
    ends->src_p = nr_be16(c->at);
    ends->dst_p = nr_be16(c->at + 2);
    out->payload = c->wire - header;
    return NR_KEYED;
}

/* -- ICMP -- */

/* ICMP messages that have a reply: both types, `identified` if they carry an identifier, and
 * `unasked` if the reply is also sent without a request, so that its sender can be the
 * originator. */
struct exchange {
    uint8_t request, reply;
    bool identified, unasked;
};

static const struct exchange EXCHANGES_4[] = {
    {8, 0, true, false},   {13, 14, true, false}, {15, 16, true, false},
    {17, 18, true, false}, {10, 9, false, true},
};
static const struct exchange EXCHANGES_6[] = {
    {128, 129, true, false}, {133, 134, false, true},  {135, 136, false, true},
    {130, 131, false, true}, {139, 140, false, false}, {144, 145, true, false},
};

static const struct exchange *exchange_of(uint8_t proto, uint8_t type) {
    const bool six = proto == NR_PROTO_ICMP6;
    const struct exchange *all = six ? EXCHANGES_6 : EXCHANGES_4;
    const size_t count =
        six ? sizeof EXCHANGES_6 / sizeof *EXCHANGES_6 : sizeof EXCHANGES_4 / sizeof *EXCHANGES_4;
    for (size_t i = 0; i < count; i++) {
        if (all[i].request == type || all[i].reply == type) {
            return &all[i];
        }
    }
    return NULL;
}

static bool is_error(uint8_t proto, uint8_t type) {
    return proto == NR_PROTO_ICMP6
               ? type >= 1 && type <= 4
               : type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* Puts type, code and identifier into the key, as far as they belong to it. */
static void key_icmp(const uint8_t *icmp, struct nr_dissected *out, struct nr_ends *ends) {
    const struct exchange *exchange = exchange_of(out->key.proto, icmp[0]);
    out->icmp_type = icmp[0];
    out->icmp_code = icmp[1];
    out->exchange = exchange != NULL;
    out->one_way = exchange == NULL;
    ends->src_p = icmp[0];
    ends->dst_p = icmp[1];
    if (exchange != NULL) {
        /* Each end has its own type, so the key tells which end asks. */
        ends->dst_p = exchange->request == icmp[0] ? exchange->reply : exchange->request;
        out->from_responder = exchange->reply == icmp[0] && !exchange->unasked;
        out->key.icmp_id = exchange->identified ? nr_be16(icmp + 4) : 0;
    }
}

/* Reads the key of the packet that an ICMP error quotes, as far as the quote goes. */
static void read_quote(struct nr_cursor c, const nr_decode_options *options,
                       struct nr_dissected *out) {
    const nr_decode_options lenient = {
        .key = options->key, .key_vlan = options->key_vlan, .directional = options->directional};
    struct nr_dissected quote = {
        .key = {.vlan = {out->key.vlan[0], out->key.vlan[1]}, .network = out->key.network}};
    struct nr_ends ends = {0};
    /* The quote is cut, so its length fields may reach beyond it. */
    c.wire = UINT16_MAX + 40u;
    const uint16_t ethertype = out->key.family == 4 ? NR_ETHERTYPE_IPV4 : NR_ETHERTYPE_IPV6;
    if (nr_decode_network(&c, ethertype, &lenient, &quote, &ends) != NR_KEYED || !nr_has(&c, 8)) {
        return;
    }
    switch (quote.key.proto) {
    case NR_PROTO_ICMP:
    case NR_PROTO_ICMP6:
        key_icmp(c.at, &quote, &ends);
        break;
    case NR_PROTO_TCP:
    case NR_PROTO_UDP:
    case NR_PROTO_UDPLITE:
    case NR_PROTO_SCTP:
    case NR_PROTO_DCCP:
        ends.src_p = nr_be16(c.at);
        ends.dst_p = nr_be16(c.at + 2);
        break;
    default:
        break;
    }
    nr_make_key(&ends, &lenient, &quote);
    out->quoted = quote.key;
    out->quotes = true;
}

static int parse_icmp(const struct nr_cursor *c, const nr_decode_options *options,
                      struct nr_dissected *out, struct nr_ends *ends) {
    const uint8_t proto = out->key.proto;
    if (c->wire < 8) {
        return NR_BAD_TRANSPORT;
    }
    if (!nr_has(c, 8)) {
        return NR_CUT_TRANSPORT;
    }
    key_icmp(c->at, out, ends);
    out->payload = c->wire - 8;
    if (can_check(c, options, out)) {
        out->bad_checksum = proto == NR_PROTO_ICMP
                                ? !nr_checksum_is_right(c->at, c->wire)
                                : !nr_checksum_is_right_with(ends, 6, proto, c->at, c->wire);
    }
    if (is_error(proto, c->at[0]) && !out->bad_checksum) {
        struct nr_cursor quote = *c;
        nr_skip(&quote, 8);
        read_quote(quote, options, out);
    }
    return NR_KEYED;
}

int nr_decode_transport(const struct nr_cursor *c, const nr_decode_options *options,
                        struct nr_dissected *out, struct nr_ends *ends) {
    switch (out->key.proto) {
    case NR_PROTO_TCP:
        return parse_tcp(c, options, out, ends);
    case NR_PROTO_UDP:
        return parse_udp(c, options, out, ends);
    case NR_PROTO_UDPLITE:
        return parse_ports(c, 8, out, ends);
    case NR_PROTO_SCTP:
    case NR_PROTO_DCCP:
        return parse_ports(c, 12, out, ends);
    case NR_PROTO_ICMP:
        return out->key.family == 4 ? parse_icmp(c, options, out, ends) : NR_KEYED;
    case NR_PROTO_ICMP6:
        return out->key.family == 6 ? parse_icmp(c, options, out, ends) : NR_KEYED;
    default:
        out->payload = c->wire;
        return NR_KEYED;
    }
}
