/* A packet as the dissector understands it, and the key of its flow. */
#ifndef NR_DISSECT_PACKET_H
#define NR_DISSECT_PACKET_H

#include "source/frame.h"

/* The two ends in canonical order, whoever sent the packet, so that both directions meet in one
 * entry of the flow table. Where only one direction belongs to the flow (an ICMP error, or
 * NR_KEY_DIRECTIONAL), low is the sender. */
struct nr_key {
    uint8_t low_h[16];
    uint8_t high_h[16];
    uint16_t low_p; /* ICMP: each end's type, or of what is not answered the type and the code */
    uint16_t high_p;
    uint16_t vlan[2];
    uint16_t icmp_id;
    uint8_t family; /* 4, 6; 0: the ends are MAC addresses */
    uint8_t proto;
    uint32_t network; /* VNI + 1 of a virtual network (VXLAN, GENEVE); 0: none */
};

/* The key as six words, without padding. */
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

/* Flags of a TCP header. */
#define NR_FLAG_FIN 0x01
#define NR_FLAG_SYN 0x02
#define NR_FLAG_RST 0x04
#define NR_FLAG_ACK 0x10

/* A tunnel that was opened, as its own packet shows it. */
struct nr_tunnel {
    uint8_t src_h[16];
    uint8_t dst_h[16];
    uint16_t src_p;
    uint16_t dst_p;
    uint32_t id; /* VNI, TEID, GRE key or ERSPAN session; 0 where there is none */
    uint8_t family;
    uint8_t kind;  /* NR_TUNNEL_*; 0: not in a tunnel */
    uint8_t depth; /* tunnels around the packet */
};

/* What is inside of a packet that opened as a tunnel. */
struct nr_inner {
    const uint8_t *at; /* NULL: nothing */
    uint32_t caplen;
    uint32_t len;
    uint16_t link; /* NR_LINK_ETHERNET or NR_LINK_RAW */
    struct nr_tunnel tunnel;
};

/* Of an IP fragment: where it belongs. */
struct nr_piece {
    const uint8_t *data;
    uint32_t caplen;
    uint32_t id;
    uint32_t start, end; /* bytes of the datagram's payload */
    bool first, later;   /* both false: no fragment */
    bool last;
};

struct nr_dissected {
    struct nr_key key;
    bool from_high;      /* the sender is the key's high end */
    bool from_responder; /* the protocol says so: an ICMP reply */
    bool one_way;        /* the flow has one direction only */
    bool bad_checksum;   /* only looked for where asked: the packet is not to be believed */
    uint8_t tcp_flags;
    uint8_t icmp_type;
    uint8_t icmp_code;
    bool exchange;   /* of ICMP: a message that is answered, or an answer */
    uint16_t window; /* not scaled */
    uint32_t tcp_seq;
    uint32_t tcp_ack;
    uint32_t payload;  /* transport payload in bytes by the headers, not by what was captured */
    uint32_t ip_bytes; /* the IP packet, header included */
    uint32_t hash;     /* of the key: nr_table_prepare() */
    uint32_t maybe;    /* the flow, as nr_table_prepare() saw it: others may come in between */
    struct nr_piece piece;
    bool quotes; /* an ICMP error: `quoted` is the flow of the packet that caused it */
    /* From here on nothing is cleared for each packet. */
    struct nr_key quoted;
    struct nr_tunnel tunnel; /* the innermost around this packet, where its kind is not 0 */
    struct nr_inner inner;   /* where its `at` is not NULL */
};

static inline void nr_clear_dissected(struct nr_dissected *out) {
    nr_clear(out, offsetof(struct nr_dissected, quoted));
    out->inner.at = NULL;
    out->tunnel.kind = out->tunnel.depth = 0;
}

/* Reads one frame, as the options say. NR_KEYED and *out filled, or the NR_* reason why the frame
 * has no flow; for NR_FRAGMENT as far as the network layer. Pure. */
int nr_decode(const struct nr_frame *frame, const nr_decode_options *options,
              struct nr_dissected *out);

/* The same for what is inside of `outer`. */
int nr_decode_inner(const struct nr_dissected *outer, const nr_decode_options *options,
                    struct nr_dissected *out);

/* For a datagram of UDP in pieces, once its payload is whole: fills packet->inner if it is a tunnel
 * that opens. `data` begins with the UDP header. */
void nr_decode_reassembled(struct nr_dissected *packet, const uint8_t *data, uint32_t length,
                           const nr_decode_options *options);

#endif
