/* From a packet's two ends to the key of its flow. */
#ifndef NR_KEY_H
#define NR_KEY_H

#include "cursor.h"

/* Fills out->key from the ends, as options->key says, and out->from_high. */
void nr_make_key(const struct nr_ends *ends, const nr_decode_options *options,
                 struct nr_dissected *out);

#endif
