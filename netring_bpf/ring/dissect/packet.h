/* A packet as the dissector understands it, and the key of its flow. */
#ifndef NR_DISSECT_PACKET_H
#define NR_DISSECT_PACKET_H

#include "source/frame.h"

/* The key of a flow. Its two ends are in canonical order, whoever sent the packet, so that both
 * directions share one entry of the flow table. If only one direction belongs to the flow (an ICMP
 * error, or a directional key), low is the sender. */
struct nr_key {
    uint8_t low_h[16];
    uint8_t high_h[16];
    uint16_t low_p; /* ICMP: the type that each end sends; without replies, type and code */
    uint16_t high_p;
    uint16_t vlan[2];
    uint16_t icmp_id;
    uint8_t family; /* 4 or 6; 0: the ends are MAC addresses */
    uint8_t proto;
    uint32_t network; /* VNI + 1 of a virtual network (VXLAN, VXLAN-GPE, GENEVE); 0: none */
};

/* Returns word n of the key, which is six words without padding. */
static inline uint64_t nr_key_word(const struct nr_key *key, size_t n) {
    uint64_t word;
    memcpy(&word, (const uint8_t *)key + n * sizeof word, sizeof word);
    return word;
}
_Static_assert(sizeof(struct nr_key) == 6 * sizeof(uint64_t), "six words");

static inline bool nr_key_equal(const struct nr_key *a, const struct nr_key *b) {
    return ((nr_key_word(a, 0) ^ nr_key_word(b, 0)) | (nr_key_word(a, 1) ^ nr_key_word(b, 1)) |
            (nr_key_word(a, 2) ^ nr_key_word(b, 2)) | (nr_key_word(a, 3) ^ nr_key_word(b, 3)) |
            (nr_key_word(a, 4) ^ nr_key_word(b, 4)) | (nr_key_word(a, 5) ^ nr_key_word(b, 5))) == 0;
}

/* A tunnel that was opened, described by its outer packet. */
struct nr_tunnel {
    uint8_t src_h[16];
    uint8_t dst_h[16];
    uint16_t src_p;
    uint16_t dst_p;
    uint32_t id; /* VNI, TEID, GRE key, session or label; 0: none */
    uint8_t family;
    uint8_t kind;  /* NR_TUNNEL_*; 0: not in a tunnel */
    uint8_t depth; /* tunnels around the packet */
};

/* The packet inside a tunnel that was opened, or the rest of an 802.11 aggregate. */
struct nr_inner {
    const uint8_t *at; /* NULL: nothing */
    uint32_t caplen;
    uint32_t len;
    uint16_t link;      /* NR_LINK_*; NR_LINK_SUBFRAMES: the rest of an aggregate */
    uint16_t ethertype; /* of NR_LINK_TYPED */
    uint16_t vlan;      /* of the frame inside, told by the tunnel's header; 0: none */
    struct nr_tunnel tunnel;
};

/* The stations of a frame, as they stand in an Ethernet header; all zero: the link has none. */
struct nr_macs {
    uint8_t dst[6];
    uint8_t src[6];
};

/* Returns a number made of both addresses: others almost always have another one. */
static inline uint16_t nr_mix_macs(const uint8_t *ethernet) {
    uint64_t first;
    uint32_t last;
    memcpy(&first, ethernet, sizeof first);
    memcpy(&last, ethernet + sizeof first, sizeof last);
    return (uint16_t)((first ^ (uint64_t)last << 32) * 0x9e3779b97f4a7c15u >> 48);
}

/* An IP fragment: its datagram, and its place in it. */
struct nr_piece {
    const uint8_t *data;
    uint32_t caplen;
    uint32_t id;
    uint32_t start, end; /* bytes of the datagram's payload */
    uint32_t headers;    /* of a first piece: bytes in front of the transport header */
    uint8_t proto;       /* of the header in front of the piece */
    bool first, later;   /* both false: not a fragment */
    bool last;
};

struct nr_dissected {
    struct nr_key key;
    bool from_high;      /* the sender is the key's high end */
    bool from_responder; /* the protocol says so: an ICMP reply */
    bool one_way;        /* the flow has one direction only */
    bool bad_checksum;   /* found only if the options ask; the packet is not to be trusted */
    uint8_t tcp_flags;
    uint8_t icmp_type;
    uint8_t icmp_code;
    uint8_t part;    /* NR_*: why a part of the packet is not read or not believed; 0: none is */
    bool exchange;   /* ICMP: a request or a reply */
    uint16_t window; /* not scaled */
    uint32_t tcp_seq;
    uint32_t tcp_ack;
    uint32_t payload;  /* bytes of transport payload, by the headers and not by the capture */
    uint32_t ip_bytes; /* the IP packet, header included */
    uint32_t hash;     /* of the key, by nr_table_prepare() */
    uint32_t maybe;    /* the flow that nr_table_prepare() prefetches; only a guess */
    struct nr_piece piece;
    bool quotes;          /* an ICMP error: `quoted` is the flow of the packet that caused it */
    bool tells_neighbour; /* ARP or neighbour discovery, by its first bytes; not in a tunnel */
    /* The fields below are not cleared for each packet. */
    uint16_t macs_mix;            /* nr_mix_macs() of the outermost frame; 0: the link has none */
    const struct nr_frame *plain; /* the frame, as long as it is there, if the fast path read it;
                                     NULL: the three fields below are valid instead */
    struct nr_macs macs;          /* of the outermost frame */
    const uint8_t *transport_at;  /* of a whole TCP segment or UDP datagram, as long as its frame is
                                     there; NULL: a fragment, or another protocol */
    const uint8_t *captured_end;  /* behind what the capture has of it; valid if transport_at is */
    struct nr_key quoted;
    struct nr_tunnel tunnel; /* the innermost around this packet; valid if its kind is not 0 */
    struct nr_inner inner;   /* valid if its `at` is not NULL */
};

/* Clears all but what the fast path fills, or leaves in its frame. */
static inline void nr_clear_for_plain(struct nr_dissected *out) {
    nr_clear(out, offsetof(struct nr_dissected, macs_mix));
    out->inner.at = NULL;
    out->tunnel.kind = out->tunnel.depth = 0;
}

static inline void nr_clear_dissected(struct nr_dissected *out) {
    nr_clear_for_plain(out);
    nr_clear(&out->macs, sizeof out->macs);
    out->macs_mix = 0;
    out->plain = NULL;
    out->transport_at = NULL;
}

/* Returns the stations of the outermost frame. */
static inline struct nr_macs nr_find_macs(const struct nr_dissected *p) {
    struct nr_macs macs = p->macs;
    if (p->plain != NULL) {
        memcpy(&macs, p->plain->data, sizeof macs);
    }
    return macs;
}

/* fast_path.c: returns the transport header of a packet that it read. */
const uint8_t *nr_plain_transport(const struct nr_dissected *packet);

/* Finds the payload of a whole segment or datagram of which no part was left out. Returns how many
 * of its bytes the capture has. Few packets need it, so the dissector does not. */
static inline uint32_t nr_find_payload(const struct nr_dissected *p, const uint8_t **at) {
    enum { TCP_OFFSET = 12, UDP_HEADER = 8 };
    const struct nr_frame *plain = p->plain;
    const uint8_t *transport = plain != NULL ? nr_plain_transport(p) : p->transport_at;
    *at = transport;
    if (transport == NULL) {
        return 0;
    }
    const uint8_t *end = plain != NULL ? plain->data + plain->caplen : p->captured_end;
    const uint32_t there = (uint32_t)(end - transport);
    uint32_t header = UDP_HEADER;
    if (p->key.proto == NR_PROTO_TCP) {
        header = there > TCP_OFFSET ? (transport[TCP_OFFSET] >> 4) * 4u : there;
    }
    header = header < there ? header : there;
    *at += header;
    return there - header < p->payload ? there - header : p->payload;
}

/* fast_path.c: decodes the most common frames. Returns false for any other, and *out is undefined
 * then. */
bool nr_decode_plain(const struct nr_frame *frame, const nr_decode_options *options,
                     struct nr_dissected *out);
/* layers.c: decodes any frame, layer by layer. */
int nr_decode_layers(const struct nr_frame *frame, const nr_decode_options *options,
                     struct nr_dissected *out);

/* Decodes one frame as the options say. Returns NR_KEYED and fills *out, or returns the NR_* reason
 * why the frame has no flow. NR_FRAGMENT: a fragment without ports, of which *out has all but
 * those. Pure. */
static inline int nr_decode(const struct nr_frame *frame, const nr_decode_options *options,
                            struct nr_dissected *out) {
    return NR_LIKELY(nr_decode_plain(frame, options, out)) ? NR_KEYED
                                                           : nr_decode_layers(frame, options, out);
}

/* Decodes the packet inside `outer` in the same way. */
int nr_decode_inner(const struct nr_dissected *outer, const nr_decode_options *options,
                    struct nr_dissected *out);

/* Reads a reassembled datagram, from its transport header on: fills packet->inner if it is a tunnel
 * over UDP that opens, or makes the packet the TCP segment that its fragments are. */
void nr_decode_reassembled(struct nr_dissected *packet, const uint8_t *data, uint32_t length,
                           const nr_decode_options *options);

#endif
