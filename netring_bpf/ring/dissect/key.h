/* Makes the key of a flow from the two ends of a packet. */
#ifndef NR_DISSECT_KEY_H
#define NR_DISSECT_KEY_H

#include <string.h>

#include "dissect/cursor.h"

/* Fills out->key and out->from_high from the ends, as options->key says. */
void nr_make_key(const struct nr_ends *ends, const nr_decode_options *options,
                 struct nr_dissected *out);

/* Puts the ends of a 5-tuple into out->key in canonical order; those fields must be zero before. */
static inline void nr_put_ends_of(const struct nr_ends *ends, bool swap, size_t size,
                                  struct nr_dissected *out) {
    struct nr_key *key = &out->key;
    memcpy(key->low_h, swap ? ends->dst_h : ends->src_h, size);
    memcpy(key->high_h, swap ? ends->src_h : ends->dst_h, size);
    key->low_p = swap ? ends->dst_p : ends->src_p;
    key->high_p = swap ? ends->src_p : ends->dst_p;
    out->from_high = swap;
}

static inline void nr_put_ends_v4(const struct nr_ends *ends, struct nr_dissected *out) {
    const uint32_t src = nr_be32(ends->src_h), dst = nr_be32(ends->dst_h);
    nr_put_ends_of(ends, src > dst || (src == dst && ends->src_p > ends->dst_p), 4, out);
}

static inline void nr_put_ends_v6(const struct nr_ends *ends, struct nr_dissected *out) {
    const int order = memcmp(ends->src_h, ends->dst_h, 16);
    nr_put_ends_of(ends, order > 0 || (order == 0 && ends->src_p > ends->dst_p), 16, out);
}

#endif
