/* Decodes a frame, layer by layer, into the key of its flow. Pure: no state, no clock, no
 * allocation. Every read is checked against the captured length, and every loop is bounded.
 *
 * Tunnels over IP itself are opened here: only the packet inside counts, with the tunnel noted. A
 * tunnel over UDP is a packet of its own, and nr_decode_inner() decodes the packet inside it as one
 * more. */
#include "dissect/key.h"

#include <string.h>

enum { NEXT_HEADER = 6, HOP_LIMIT = 7, IPV6 = 40, SOLICITATION = 133, ADVERTISEMENT = 136 };

/* Returns whether this may be ARP, or neighbour discovery, which no router forwards (RFC 4861). */
static bool may_tell_neighbour(const struct nr_cursor *c, uint16_t ethertype) {
    if (ethertype != NR_ETHERTYPE_IPV6) {
        return ethertype == NR_ETHERTYPE_ARP;
    }
    return nr_has(c, IPV6 + 1) && c->at[NEXT_HEADER] == NR_PROTO_ICMP6 &&
           c->at[HOP_LIMIT] == UINT8_MAX && c->at[IPV6] >= SOLICITATION &&
           c->at[IPV6] <= ADVERTISEMENT;
}

/* Notes the stations of a frame that is not in a tunnel. */
static void note_link(const struct nr_cursor *c, const struct nr_ends *ends, uint16_t ethertype,
                      struct nr_dissected *out) {
    out->tells_neighbour = may_tell_neighbour(c, ethertype);
    if (ends->src_mac != NULL) {
        memcpy(out->macs.dst, ends->dst_mac, sizeof out->macs.dst);
        memcpy(out->macs.src, ends->src_mac, sizeof out->macs.src);
        out->macs_mix = nr_mix_macs(out->macs.dst);
    }
}

static bool may_open_tunnel(const struct nr_dissected *out, const nr_decode_options *options) {
    return out->tunnel.depth < options->tunnel_depth && !out->piece.first;
}

/* Returns the packet inside a tunnel as a frame. A VLAN that the tunnel's header told is a tag that
 * was taken out of the frame. */
static struct nr_frame frame_inside(const struct nr_inner *inner, uint64_t ts) {
    const bool tagged = inner->vlan != 0;
    return (struct nr_frame){
        .data = inner->at,
        .ts = ts,
        .caplen = inner->caplen,
        .len = inner->len + (tagged ? 4 : 0),
        .vlan_tci = inner->vlan,
        .vlan_tpid = tagged ? NR_ETHERTYPE_8021Q : 0,
        .link = inner->link,
        .ethertype = inner->ethertype,
    };
}

static int decode_frame(const struct nr_frame *frame, const struct nr_tunnel *tunnel,
                        uint32_t network, const nr_decode_options *options,
                        struct nr_dissected *out);

/* Decodes the packet inside the tunnel into *out. Returns false if that fails. Calls itself through
 * decode(), at most tunnel_depth deep. */
static bool decode_tunneled(const struct nr_cursor *c, const struct nr_ends *ends, uint64_t ts,
                            const nr_decode_options *options, struct nr_dissected *out,
                            int *reason) {
    struct nr_cursor copy = *c;
    struct nr_inner inner;
    struct nr_dissected deeper;
    if (!nr_open_ip(&copy, out, ends, &inner)) {
        return false;
    }
    const struct nr_frame frame = frame_inside(&inner, ts);
    *reason = decode_frame(&frame, &inner.tunnel, out->key.network, options, &deeper);
    if (*reason != NR_KEYED && *reason != NR_FRAGMENT) {
        return false;
    }
    deeper.macs = out->macs;
    deeper.macs_mix = out->macs_mix;
    *out = deeper;
    return true;
}

static int decode_ip(struct nr_cursor *c, uint16_t ethertype, uint64_t ts,
                     const nr_decode_options *options, struct nr_dissected *out,
                     struct nr_ends *ends) {
    int reason = nr_decode_network(c, ethertype, options, out, ends);
    int inside = NR_KEYED;
    if (out->piece.first) {
        out->piece.headers = (uint32_t)(c->at - out->piece.data);
    }
    if (reason == NR_KEYED && may_open_tunnel(out, options) &&
        decode_tunneled(c, ends, ts, options, out, &inside)) {
        return inside;
    }
    if (reason == NR_KEYED) {
        reason = nr_decode_transport(c, options, out, ends);
    }
    if (reason == NR_FRAGMENT) {
        out->payload = c->wire;
        nr_make_key(ends, options, out);
        /* A pair of hosts needs the addresses only. */
        return options->key == NR_KEY_HOST_PAIR ? NR_KEYED : reason;
    }
    if (reason == NR_KEYED) {
        nr_make_key(ends, options, out);
    }
    return reason;
}

/* Keys a frame by its MAC addresses, whatever it carries; they must be there. */
static int key_stations(const struct nr_ends *ends, const nr_decode_options *options,
                        struct nr_dissected *out, int reason) {
    if (ends->src_mac == NULL) {
        return reason == NR_KEYED || reason == NR_NOT_IP ? NR_UNKNOWN_LINK : reason;
    }
    nr_make_key(ends, options, out);
    return NR_KEYED;
}

/* Notes the frames of an aggregate behind this one, unless it is a tunnel. They are in the same
 * tunnel as this one. */
static void note_rest(const struct nr_cursor *rest, struct nr_dissected *out) {
    if (rest->at != NULL && out->inner.at == NULL) {
        out->inner = (struct nr_inner){.at = rest->at,
                                       .caplen = nr_captured(rest),
                                       .len = rest->wire,
                                       .link = NR_LINK_SUBFRAMES,
                                       .tunnel = out->tunnel};
    }
}

static int decode_frame(const struct nr_frame *frame, const struct nr_tunnel *tunnel,
                        uint32_t network, const nr_decode_options *options,
                        struct nr_dissected *out) {
    const uint32_t tag = frame->vlan_tpid != 0 ? 4 : 0;
    struct nr_cursor c = {frame->data, frame->data + frame->caplen, frame->len};
    struct nr_ends ends = {0};
    uint16_t ethertype = 0;
    /* The wire had at least the captured bytes, whatever a source claims. */
    c.wire = c.wire > tag ? c.wire - tag : 0;
    c.wire = c.wire > frame->caplen ? c.wire : frame->caplen;
    nr_clear_dissected(out);
    if (tunnel != NULL) {
        out->tunnel = *tunnel;
    }
    out->key.network = network;
    int reason = nr_decode_link(&c, frame, &out->key, &ends, &ethertype);
    if (out->tunnel.kind == 0 && (reason == NR_KEYED || reason == NR_NOT_IP)) {
        note_link(&c, &ends, ethertype, out);
    }
    if (options->key == NR_KEY_MAC_PAIR) {
        reason = key_stations(&ends, options, out, reason);
    } else if (reason == NR_KEYED) {
        reason = decode_ip(&c, ethertype, frame->ts, options, out, &ends);
    }
    if (reason == NR_KEYED) {
        note_rest(&ends.rest, out);
    }
    return reason;
}

int nr_decode_layers(const struct nr_frame *frame, const nr_decode_options *options,
                     struct nr_dissected *out) {
    return decode_frame(frame, NULL, 0, options, out);
}

int nr_decode_inner(const struct nr_dissected *outer, const nr_decode_options *options,
                    struct nr_dissected *out) {
    const struct nr_inner *inner = &outer->inner;
    const struct nr_frame frame = frame_inside(inner, 0);
    const uint8_t kind = inner->tunnel.kind;
    const bool virtual_network =
        kind == NR_TUNNEL_VXLAN || kind == NR_TUNNEL_VXLAN_GPE || kind == NR_TUNNEL_GENEVE;
    const int reason =
        decode_frame(&frame, &inner->tunnel,
                     virtual_network ? inner->tunnel.id + 1 : outer->key.network, options, out);
    if (kind != 0) {
        out->macs = nr_find_macs(outer);
        out->macs_mix = outer->macs_mix;
    }
    return reason;
}

/* Opens the tunnel in a datagram of UDP. */
static void open_reassembled(struct nr_dissected *packet, const struct nr_ends *ends,
                             const uint8_t *data, uint32_t length,
                             const nr_decode_options *options) {
    const struct nr_cursor payload = {data + 8, data + length, length - 8};
    if (packet->tunnel.depth >= options->tunnel_depth ||
        !nr_open_udp(&payload, options, packet, ends, &packet->inner)) {
        packet->inner.at = NULL;
    }
}

/* Reads a segment whose header was in several fragments; they were no segments by themselves. */
static void read_reassembled(struct nr_dissected *packet, struct nr_ends *ends, const uint8_t *data,
                             uint32_t length, const nr_decode_options *options) {
    const struct nr_cursor c = {data, data + length, length};
    const struct nr_piece piece = packet->piece;
    packet->piece = (struct nr_piece){0};
    packet->part = 0;
    if (nr_decode_transport(&c, options, packet, ends) != NR_KEYED) {
        packet->piece = piece;
    }
}

void nr_decode_reassembled(struct nr_dissected *packet, const uint8_t *data, uint32_t length,
                           const nr_decode_options *options) {
    const struct nr_key *key = &packet->key;
    const bool high = packet->from_high;
    struct nr_ends ends = {
        .src_h = high ? key->high_h : key->low_h,
        .dst_h = high ? key->low_h : key->high_h,
        .src_p = high ? key->high_p : key->low_p,
        .dst_p = high ? key->low_p : key->high_p,
    };
    if (key->proto == NR_PROTO_TCP) {
        read_reassembled(packet, &ends, data, length, options);
    } else if (length >= 8) {
        open_reassembled(packet, &ends, data, length, options);
    }
}
