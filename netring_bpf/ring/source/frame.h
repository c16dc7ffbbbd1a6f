/* A frame as a source lends it to the reader. */
#ifndef NR_SOURCE_FRAME_H
#define NR_SOURCE_FRAME_H

#include "core.h"
#include "link_types.h"

/* Lent by a source until its release(). Nothing may read past data + caplen. */
struct nr_frame {
    const uint8_t *data;
    uint64_t ts;        /* ns since the Unix epoch: flow time if the clock is used */
    uint32_t caplen;    /* bytes at data */
    uint32_t len;       /* bytes on the wire, with the tag that was taken out */
    uint16_t vlan_tci;  /* the outer tag, if the kernel took it out of the frame */
    uint16_t vlan_tpid; /* 0: no tag was taken out */
    uint16_t link;      /* NR_LINK_*; 0 is Ethernet */
    uint16_t ethertype; /* of NR_LINK_TYPED */
};

/* A frame was at least as long on the wire as it was captured, whatever its record says. Returns
 * whether the record said less. */
static inline bool nr_frame_lengthen(struct nr_frame *frame) {
    const uint32_t least = frame->caplen + (frame->vlan_tpid != 0 ? 4 : 0);
    const bool is_short = frame->len < least;
    frame->len = is_short ? least : frame->len;
    return is_short;
}

#endif
