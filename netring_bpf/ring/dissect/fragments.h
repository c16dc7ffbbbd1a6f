/* A bounded table of datagrams in fragments, in which later fragments find the ports of the
 * first. */
#ifndef NR_DISSECT_FRAGMENTS_H
#define NR_DISSECT_FRAGMENTS_H

#include "dissect/packet.h"

struct nr_fragments;

/* Makes a table for at least `capacity` datagrams; each is forgotten timeout_ns after its first
 * piece. */
struct nr_fragments *nr_fragments_create(uint32_t capacity, uint64_t timeout_ns,
                                         const uint8_t hash_key[16]);
void nr_fragments_destroy(struct nr_fragments *fragments);

/* Notes a first fragment, whose key the later ones take. `keeps`: reassembles the payload as well,
 * if there is room. */
void nr_fragments_note(struct nr_fragments *fragments, uint64_t now,
                       const struct nr_dissected *packet, bool keeps);

/* Gives a later fragment the key of the first. Returns false if no first one was seen. If the
 * fragment completes a kept payload, *whole points to it until the next call, and *length is its
 * length. */
bool nr_fragments_resolve(struct nr_fragments *fragments, uint64_t now, struct nr_dissected *packet,
                          const uint8_t **whole, uint32_t *length);

/* Returns the number of pieces that covered bytes already received (retransmitted, or an
 * attack). */
uint64_t nr_fragments_overlaps(const struct nr_fragments *fragments);

#endif
