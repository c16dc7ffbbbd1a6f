/* Later fragments find the ports of the first: a bounded table of datagrams in pieces. */
#ifndef NR_DISSECT_FRAGMENTS_H
#define NR_DISSECT_FRAGMENTS_H

#include "dissect/packet.h"

struct nr_fragments;

/* Room for at least `capacity` datagrams; each is forgotten timeout_ns after its first piece. */
struct nr_fragments *nr_fragments_create(uint32_t capacity, uint64_t timeout_ns,
                                         const uint8_t hash_key[16]);
void nr_fragments_destroy(struct nr_fragments *fragments);

/* A first fragment: its key holds for the later ones. `keeps`: what its payload is will be asked,
 * so the pieces are put together as far as there is room. */
void nr_fragments_note(struct nr_fragments *fragments, uint64_t now,
                       const struct nr_dissected *packet, bool keeps);

/* A later one: true, and the packet has the key of the first; false: no first one was seen. Where
 * it makes a kept payload whole, *whole is that, until the next call, and *length its length. */
bool nr_fragments_resolve(struct nr_fragments *fragments, uint64_t now, struct nr_dissected *packet,
                          const uint8_t **whole, uint32_t *length);

/* Pieces that covered bytes which had come before (retransmitted, or an attack). */
uint64_t nr_fragments_overlaps(const struct nr_fragments *fragments);

#endif
