/* The transport layer: TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792), ICMPv6 (RFC 4443), SCTP (RFC
 * 9260) and others whose ports are the first four bytes. */
#include <string.h>

#include "dissect/cursor.h"
#include "dissect/key.h"

enum { PORTS = 4, UDP = 8, TCP = 20, TCP_TO_WINDOW = 16 };
enum { SCTP = 12, DCCP = 12, UDPLITE = 8, ICMP = 8 };

static bool can_check(const struct nr_cursor *c, const nr_decode_options *options,
                      const struct nr_dissected *out) {
    return options->verify_checksums && nr_captured(c) == c->wire && !out->piece.first;
}

/* Reads the ports. Returns NR_FRAGMENT if a first fragment is too short for them: like a later one,
 * it has none. Only a fragment may be shorter than the transport header. */
static int read_ports(const struct nr_cursor *c, uint32_t header, struct nr_dissected *out,
                      struct nr_ends *ends) {
    if (c->wire < header && !out->piece.first) {
        return NR_BAD_TRANSPORT;
    }
    if (c->wire < PORTS) {
        return NR_FRAGMENT;
    }
    if (!nr_has(c, PORTS)) {
        return NR_CUT_TRANSPORT;
    }
    ends->src_p = nr_be16(c->at);
    ends->dst_p = nr_be16(c->at + 2);
    out->payload = c->wire > header ? c->wire - header : 0;
    return NR_KEYED;
}

/* Notes where a whole segment or datagram lies. */
static void note_place(const struct nr_cursor *c, struct nr_dissected *out) {
    if (!out->piece.first) {
        out->transport_at = c->at;
        out->captured_end = c->at + nr_captured(c);
    }
}

/* A segment whose header is cut, or longer than the segment, belongs to the flow of its ports. Its
 * receiver drops it, or we cannot read it: it moves nothing in the connection. */
static int parse_tcp(const struct nr_cursor *c, const nr_decode_options *options,
                     struct nr_dissected *out, struct nr_ends *ends) {
    const int reason = read_ports(c, TCP, out, ends);
    if (reason != NR_KEYED) {
        return reason;
    }
    if (!nr_has(c, TCP_TO_WINDOW)) {
        out->part = NR_CUT_TRANSPORT;
        return NR_KEYED;
    }
    const uint32_t header = (c->at[12] >> 4) * 4u;
    if (header < TCP || header > c->wire) {
        const bool goes_on = header >= TCP && out->piece.first; /* in the next fragment */
        out->part = goes_on ? NR_CUT_TRANSPORT : NR_BAD_TRANSPORT;
        return NR_KEYED;
    }
    out->tcp_seq = nr_be32(c->at + 4);
    out->tcp_ack = nr_be32(c->at + 8);
    out->tcp_flags = c->at[13];
    out->window = nr_be16(c->at + 14);
    out->payload = c->wire - header;
    note_place(c, out);
    out->bad_checksum =
        can_check(c, options, out) &&
        !nr_checksum_is_right_with(ends, out->key.family, NR_PROTO_TCP, c->at, c->wire);
    return NR_KEYED;
}

/* Takes the payload's length from the UDP header, as far as the IP packet goes. A jumbogram has a
 * length of 0 (RFC 2675); that of a first fragment covers all of them. */
static void read_udp_length(const struct nr_cursor *c, struct nr_dissected *out) {
    const uint32_t length = nr_be16(c->at + 4);
    const bool is_jumbo = length == 0 && c->wire > UINT16_MAX;
    const bool is_longer = length > c->wire && !out->piece.first;
    if ((length < UDP && !is_jumbo) || is_longer) {
        out->part = NR_BAD_TRANSPORT;
        return;
    }
    if (!is_jumbo && length < c->wire) {
        out->payload = length - UDP;
    }
    note_place(c, out);
}

static int parse_udp(const struct nr_cursor *c, const nr_decode_options *options,
                     struct nr_dissected *out, struct nr_ends *ends) {
    const int reason = read_ports(c, UDP, out, ends);
    if (reason != NR_KEYED) {
        return reason;
    }
    if (!nr_has(c, UDP)) {
        out->part = NR_CUT_TRANSPORT;
        return NR_KEYED;
    }
    read_udp_length(c, out);
    /* IPv4 and tunnels (RFC 6935) allow a datagram without a checksum. */
    out->bad_checksum =
        can_check(c, options, out) && nr_be16(c->at + 6) != 0 &&
        !nr_checksum_is_right_with(ends, out->key.family, NR_PROTO_UDP, c->at, c->wire);
    if (options->tunnel_depth > out->tunnel.depth && !out->piece.first && !out->bad_checksum) {
        struct nr_cursor payload = *c;
        nr_skip(&payload, UDP);
        nr_trim(&payload, out->payload);
        if (!nr_open_udp(&payload, options, out, ends, &out->inner)) {
            out->inner.at = NULL;
        }
    }
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

/* Returns whether the fields of the key were captured. */
static bool has_icmp_key(const struct nr_cursor *c, uint8_t proto) {
    const struct exchange *exchange = nr_has(c, 2) ? exchange_of(proto, c->at[0]) : NULL;
    return nr_has(c, exchange != NULL && exchange->identified ? 6 : 2);
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
    if (c->wire < ICMP) {
        return out->piece.first ? NR_FRAGMENT : NR_BAD_TRANSPORT;
    }
    if (!has_icmp_key(c, proto)) {
        return NR_CUT_TRANSPORT;
    }
    key_icmp(c->at, out, ends);
    out->payload = c->wire - ICMP;
    if (can_check(c, options, out)) {
        out->bad_checksum = proto == NR_PROTO_ICMP
                                ? !nr_checksum_is_right(c->at, c->wire)
                                : !nr_checksum_is_right_with(ends, 6, proto, c->at, c->wire);
    }
    if (is_error(proto, c->at[0]) && nr_has(c, ICMP) && !out->bad_checksum) {
        struct nr_cursor quote = *c;
        nr_skip(&quote, ICMP);
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
        return read_ports(c, UDPLITE, out, ends);
    case NR_PROTO_SCTP:
        return read_ports(c, SCTP, out, ends);
    case NR_PROTO_DCCP:
        return read_ports(c, DCCP, out, ends);
    case NR_PROTO_ICMP:
        return out->key.family == 4 ? parse_icmp(c, options, out, ends) : NR_KEYED;
    case NR_PROTO_ICMP6:
        return out->key.family == 6 ? parse_icmp(c, options, out, ends) : NR_KEYED;
    default:
        out->payload = c->wire;
        return NR_KEYED;
    }
}
