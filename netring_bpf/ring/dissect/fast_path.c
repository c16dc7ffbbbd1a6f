/* The fast path: decodes the most common frames in one pass, with far fewer instructions than layer
 * by layer. Such a frame is Ethernet with at most one tag, holds IPv4 without options or IPv6
 * without extension headers, is no fragment, and carries TCP or UDP. The result must equal that of
 * layers.c: tests/fuzz/dissect.c compares them. */
#include "dissect/key.h"

enum { ETHERNET = 14, TAG = 4, IPV4 = 20, IPV6 = 40, TCP = 20, UDP = 8, LINE = 64 };
enum { TYPE_8021Q = 0x8100, TYPE_8021AD = 0x88a8, MORE_OR_OFFSET = 0x3fff };

_Static_assert(ETHERNET + TAG + IPV4 + TCP <= LINE, "the headers are in the first line");
_Static_assert(ETHERNET + TAG + IPV4 + UDP + NR_LOOKED_AT <= LINE, "and what is looked at behind");

/* The transport layer, and its length on the wire. */
struct layers {
    const uint8_t *transport; /* perhaps in a copy of the frame's first line */
    uint32_t captured, wire;  /* bytes of the transport header and payload */
};

NR_INLINE bool read_tcp(const struct layers *l, struct nr_dissected *out) {
    const uint8_t *at = l->transport;
    if (l->captured < TCP) {
        return false;
    }
    const uint32_t header = (at[12] >> 4) * 4u;
    if (header < TCP || header > l->wire) {
        return false;
    }
    out->tcp_seq = nr_be32(at + 4);
    out->tcp_ack = nr_be32(at + 8);
    out->tcp_flags = at[13];
    out->window = nr_be16(at + 14);
    out->payload = l->wire - header;
    return true;
}

/* Not inlined: it needs more registers, which most datagrams would save and restore. */
static __attribute__((noinline)) bool has_tunnel_port(const nr_decode_options *options,
                                                      uint16_t src, uint16_t dst) {
    return nr_tunnel_on(options, src) != 0 || nr_tunnel_on(options, dst) != 0;
}

NR_INLINE bool may_be_tunnel(const struct layers *l, const nr_decode_options *options) {
    const uint8_t *at = l->transport;
    const uint16_t src = nr_be16(at), dst = nr_be16(at + 2);
    const bool listed = nr_may_have_tunnel(options, src) || nr_may_have_tunnel(options, dst);
    return nr_looks_like_tunnel(at + UDP, l->captured - UDP) ||
           (NR_UNLIKELY(listed) && has_tunnel_port(options, src, dst));
}

NR_INLINE bool read_udp(const struct layers *l, const nr_decode_options *options,
                        struct nr_dissected *out) {
    const uint32_t length = nr_be16(l->transport + 4);
    if (length < UDP || length > l->wire) {
        return false;
    }
    out->payload = length - UDP;
    return options->tunnel_depth == 0 || !may_be_tunnel(l, options);
}

NR_INLINE bool read_transport(const struct layers *l, const nr_decode_options *options,
                              struct nr_dissected *out) {
    switch (out->key.proto) {
    case NR_PROTO_TCP:
        return read_tcp(l, out);
    case NR_PROTO_UDP:
        return read_udp(l, options, out);
    default:
        return false;
    }
}

/* Returns the ends of a packet with addresses of `size` bytes from `src_h` on. */
NR_INLINE struct nr_ends ends_of(const uint8_t *src_h, size_t size, const struct layers *l) {
    return (struct nr_ends){.src_h = src_h,
                            .dst_h = src_h + size,
                            .src_p = nr_be16(l->transport),
                            .dst_p = nr_be16(l->transport + 2)};
}

/* Reads IPv4 at `ip`, `captured` of `wire` bytes. Returns false if it is not of the common form. */
NR_INLINE bool read_ipv4(const uint8_t *ip, uint32_t captured, uint32_t wire,
                         const nr_decode_options *options, struct nr_dissected *out) {
    if (captured < IPV4 + UDP) {
        return false;
    }
    const uint32_t total = nr_be16(ip + 2);
    if (ip[0] != 0x45 || total < IPV4 + UDP || total > wire || nr_be16(ip + 6) & MORE_OR_OFFSET) {
        return false;
    }
    const uint32_t whole = captured < total ? captured : total;
    const struct layers l = {ip + IPV4, whole - IPV4, total - IPV4};
    const struct nr_ends ends = ends_of(ip + 12, 4, &l);
    out->key.family = 4;
    out->key.proto = ip[9];
    out->ip_bytes = total;
    nr_put_ends_v4(&ends, out);
    return read_transport(&l, options, out);
}

static bool read_ipv6(const uint8_t *ip, uint32_t captured, uint32_t wire,
                      const nr_decode_options *options, struct nr_dissected *out) {
    if (captured < IPV6 + UDP) {
        return false;
    }
    const uint32_t payload = nr_be16(ip + 4);
    if (ip[0] >> 4 != 6 || payload < UDP || payload > wire - IPV6) {
        return false;
    }
    const uint32_t rest = captured - IPV6;
    const struct layers l = {ip + IPV6, rest < payload ? rest : payload, payload};
    const struct nr_ends ends = ends_of(ip + 8, 16, &l);
    out->key.family = 6;
    out->key.proto = ip[6];
    out->ip_bytes = payload + IPV6;
    nr_put_ends_v6(&ends, out);
    return read_transport(&l, options, out);
}

/* Reads the headers of IPv4 from a copy of the frame's first 64 bytes, one cache line on AF_XDP.
 * Another CPU wrote that line, and a few wide reads disturb that CPU less than many small ones (see
 * docs/performance.md). */
bool nr_decode_plain(const struct nr_frame *frame, const nr_decode_options *options,
                     struct nr_dissected *out) {
    uint8_t line[LINE];
    const uint8_t *at = frame->data;
    if (frame->caplen < ETHERNET + TAG || frame->link != NR_LINK_ETHERNET ||
        frame->vlan_tpid != 0 || options->key != NR_KEY_FIVE_TUPLE || options->directional ||
        options->verify_checksums) {
        return false;
    }
    if (frame->caplen >= LINE) {
        at = memcpy(line, frame->data, LINE);
    }
    uint16_t type = nr_be16(at + 12), vlan = NR_NO_VLAN;
    uint32_t head = ETHERNET;
    if (type == TYPE_8021Q || type == TYPE_8021AD) {
        const uint16_t id = nr_be16(at + 14) & 0x0fff;
        vlan = options->key_vlan && id != 0 ? id : NR_NO_VLAN;
        type = nr_be16(at + 16);
        head = ETHERNET + TAG;
    }
    nr_clear_for_plain(out);
    out->plain = frame;
    out->macs_mix = nr_mix_macs(at);
    out->key.vlan[0] = vlan;
    out->key.vlan[1] = NR_NO_VLAN;
    const uint32_t captured = frame->caplen - head;
    const uint32_t wire = (frame->len > frame->caplen ? frame->len : frame->caplen) - head;
    if (type == NR_ETHERTYPE_IPV4) {
        return read_ipv4(at + head, captured, wire, options, out);
    }
    return type == NR_ETHERTYPE_IPV6 && read_ipv6(frame->data + head, captured, wire, options, out);
}

const uint8_t *nr_plain_transport(const struct nr_dissected *packet) {
    const uint8_t *data = packet->plain->data;
    const uint16_t type = nr_be16(data + 12);
    const uint32_t head = type == TYPE_8021Q || type == TYPE_8021AD ? ETHERNET + TAG : ETHERNET;
    return data + head + (packet->key.family == 4 ? IPV4 : IPV6);
}
