/* A bounded table of datagrams in fragments, in which later fragments find the ports of the first.
 * Fragments that come before their first wait for it. */
#ifndef NR_DISSECT_FRAGMENTS_H
#define NR_DISSECT_FRAGMENTS_H

#include "dissect/packet.h"

struct nr_fragments;

/* The frame of a fragment, for the time when it counts. */
struct nr_fragment_frame {
    uint64_t ts;
    uint64_t parent_id; /* the flow of the packet around it; 0: none */
    uint32_t bytes;
    bool is_inner; /* the fragment is inside of a packet that counts by itself */
};

/* A fragment that has waited, as a packet that can be counted. */
struct nr_waited {
    struct nr_fragment_frame frame;
    struct nr_dissected packet;
};

/* A datagram of which each fragment was seen. */
struct nr_whole {
    const uint8_t *data; /* its payload, until the next call; NULL: not kept */
    uint32_t length;     /* of the payload, the transport's header included */
    uint32_t ip_bytes;   /* of the packet before it was cut */
    uint32_t payload;    /* of the transport */
};

/* Makes a table for at least `capacity` datagrams; each is forgotten timeout_ns after its first
 * piece. */
struct nr_fragments *nr_fragments_create(uint32_t capacity, uint64_t timeout_ns,
                                         const uint8_t hash_key[16]);
void nr_fragments_destroy(struct nr_fragments *fragments);

/* Makes room for a fragment that nr_fragments_hold() is to take if it `waits`, else
 * nr_fragments_note(). Fragments that wait in its way have waited long enough: take them by
 * nr_fragments_next() before. */
void nr_fragments_make_room(struct nr_fragments *fragments, uint64_t now,
                            const struct nr_dissected *packet, bool waits);

/* Notes a first fragment, whose key the later ones take. Those that came before it have waited long
 * enough: they come before it by nr_fragments_next(). `keeps`: reassembles the payload as well, if
 * there is room. */
void nr_fragments_note(struct nr_fragments *fragments, uint64_t now,
                       const struct nr_dissected *packet, bool keeps);

/* Gives a later fragment the key of the first. Returns false if no first one was seen. */
bool nr_fragments_resolve(struct nr_fragments *fragments, uint64_t now,
                          struct nr_dissected *packet);

/* Lets a fragment wait for its first. Returns false if there is no room. */
bool nr_fragments_hold(struct nr_fragments *fragments, uint64_t now,
                       const struct nr_dissected *packet, const struct nr_fragment_frame *frame,
                       bool keeps);

/* Returns whether this fragment, the latest, makes its datagram whole. */
bool nr_fragments_complete(struct nr_fragments *fragments, uint64_t now,
                           const struct nr_dissected *packet, struct nr_whole *whole);

/* Gives out the next fragment that has waited long enough, with the key of its first, or without
 * ports if that has not come. Returns false if there is none. */
bool nr_fragments_next(struct nr_fragments *fragments, uint64_t now, struct nr_waited *waited);

/* Returns whether fragments wait. */
bool nr_fragments_wait(const struct nr_fragments *fragments);

/* Returns the number of pieces that covered bytes already received (retransmitted, or an
 * attack). */
uint64_t nr_fragments_overlaps(const struct nr_fragments *fragments);

#endif
