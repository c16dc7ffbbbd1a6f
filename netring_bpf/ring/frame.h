/* A frame as a source lends it, and a packet as decode.c understands it. */
#ifndef NR_FRAME_H
#define NR_FRAME_H

#include "core.h"

/* Lent by a source until its release(). Nothing may read past data + caplen. */
struct nr_frame {
    const uint8_t *data;
    uint64_t ts;        /* ns since the Unix epoch */
    uint32_t caplen;    /* bytes at data */
    uint32_t len;       /* bytes on the wire, a tag that was taken out included */
    uint16_t vlan_tci;  /* the outer tag, where the kernel took it out of the frame */
    uint16_t vlan_tpid; /* 0: no tag was taken out */
};

/* The two ends in canonical order, whoever sent the packet, so that both directions meet in one
 * entry of the flow table. */
struct nr_key {
    uint8_t low_h[16];
    uint8_t high_h[16];
    uint16_t low_p;
    uint16_t high_p;
    uint16_t vlan[2];
    uint16_t icmp_id;
    uint8_t family;
    uint8_t proto;
    uint8_t reserved[4]; /* zero: keys are compared and hashed as six words */
};

#define NR_TCP_FIN 0x01
#define NR_TCP_SYN 0x02
#define NR_TCP_RST 0x04
#define NR_TCP_ACK 0x10

struct nr_dissected {
    struct nr_key key;
    bool from_high;      /* the sender is the key's high end */
    bool from_responder; /* the protocol says so: a SYN+ACK, an ICMP reply */
    uint8_t tcp_flags;
    uint32_t tcp_seq;
    uint32_t tcp_ack;
    uint32_t payload; /* transport payload in bytes by the IP length, not by what was captured */
};

/* NR_KEYED and *out filled, or the NR_* reason why the frame has no flow. Pure. */
int nr_decode(const struct nr_frame *frame, struct nr_dissected *out);

#endif
