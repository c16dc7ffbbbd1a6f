/* Decodes a frame, layer by layer, into the key of its flow. Pure: no state, no clock, no
 * allocation. Every read is checked against the captured length, and every loop is bounded.
 *
 * GRE and IP in IP are opened here: only the packet inside counts, with the tunnel noted. A tunnel
 * over UDP is a packet of its own, and nr_decode_inner() decodes the packet inside it as one
 * more. */
#include "dissect/key.h"

static bool may_open_tunnel(const struct nr_dissected *out, const nr_decode_options *options) {
    const uint8_t proto = out->key.proto;
    return out->tunnel.depth < options->tunnel_depth && !out->piece.first &&
           (proto == NR_PROTO_GRE || proto == NR_PROTO_IPV4 || proto == NR_PROTO_IPV6);
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
    const struct nr_frame frame = {
        .data = inner.at, .ts = ts, .caplen = inner.caplen, .len = inner.len, .link = inner.link};
    *reason = decode_frame(&frame, &inner.tunnel, out->key.network, options, &deeper);
    if (*reason != NR_KEYED && *reason != NR_FRAGMENT) {
        return false;
    }
    *out = deeper;
    return true;
}

static int decode_ip(struct nr_cursor *c, uint16_t ethertype, uint64_t ts,
                     const nr_decode_options *options, struct nr_dissected *out,
                     struct nr_ends *ends) {
    int reason = nr_decode_network(c, ethertype, options, out, ends);
    if (reason == NR_FRAGMENT) {
        nr_make_key(ends, options, out);
        out->payload = c->wire;
        /* A pair of hosts needs the addresses only. */
        return options->key == NR_KEY_HOST_PAIR ? NR_KEYED : reason;
    }
    if (reason != NR_KEYED) {
        return reason;
    }
    if (may_open_tunnel(out, options) && decode_tunneled(c, ends, ts, options, out, &reason)) {
        return reason;
    }
    reason = nr_decode_transport(c, options, out, ends);
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
    if (options->key == NR_KEY_MAC_PAIR) {
        return key_stations(&ends, options, out, reason);
    }
    return reason == NR_KEYED ? decode_ip(&c, ethertype, frame->ts, options, out, &ends) : reason;
}

int nr_decode_layers(const struct nr_frame *frame, const nr_decode_options *options,
                     struct nr_dissected *out) {
    return decode_frame(frame, NULL, 0, options, out);
}

int nr_decode(const struct nr_frame *frame, const nr_decode_options *options,
              struct nr_dissected *out) {
    return NR_LIKELY(nr_decode_plain(frame, options, out))
               ? NR_KEYED
               : decode_frame(frame, NULL, 0, options, out);
}

int nr_decode_inner(const struct nr_dissected *outer, const nr_decode_options *options,
                    struct nr_dissected *out) {
    const struct nr_inner *inner = &outer->inner;
    const struct nr_frame frame = {
        .data = inner->at, .caplen = inner->caplen, .len = inner->len, .link = inner->link};
    const bool virtual_network =
        inner->tunnel.kind == NR_TUNNEL_VXLAN || inner->tunnel.kind == NR_TUNNEL_GENEVE;
    return decode_frame(&frame, &inner->tunnel,
                        virtual_network ? inner->tunnel.id + 1 : outer->key.network, options, out);
}

void nr_decode_reassembled(struct nr_dissected *packet, const uint8_t *data, uint32_t length,
                           const nr_decode_options *options) {
    const struct nr_key *key = &packet->key;
    const bool high = packet->from_high;
    const struct nr_ends ends = {
        .src_h = high ? key->high_h : key->low_h,
        .dst_h = high ? key->low_h : key->high_h,
        .src_p = high ? key->high_p : key->low_p,
        .dst_p = high ? key->low_p : key->high_p,
    };
    if (length < 8) {
        return;
    }
    const struct nr_cursor payload = {data + 8, data + length, length - 8};
    if (packet->tunnel.depth >= options->tunnel_depth ||
        !nr_open_udp(&payload, packet, &ends, &packet->inner)) {
        packet->inner.at = NULL;
    }
}
