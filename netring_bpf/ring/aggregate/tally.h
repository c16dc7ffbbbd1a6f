/* Sums by key in a table of fixed size: the weighted Space-Saving of Metwally, Agrawal and El
 * Abbadi (2005), whose tables can be merged (Agarwal et al., 2012).
 *
 * While no more keys come than there is room for, all sums are exact. Then a new key takes the
 * place of the one with the fewest bytes, counted with its error, and that sum is its own error: so
 * many bytes of it may have come before. The bytes that a key really had lie between `bytes` and
 * `bytes + error`; those of a key without an entry are at most `floor`. */
#ifndef NR_AGGREGATE_TALLY_H
#define NR_AGGREGATE_TALLY_H

#include "core.h"

#define NR_KEY_WORDS 33u /* of the longest key */

struct nr_sums {
    uint64_t packets[2]; /* sent and received */
    uint64_t bytes[2];
    uint64_t flows;
};

struct nr_tally_entry {
    struct nr_sums sums;
    uint64_t error;
    uint32_t hash;
    uint32_t place; /* of the entry in the index */
};

/* In the heap: `bytes` is at most what the entry has by now. */
struct nr_tally_least {
    uint64_t bytes;
    uint32_t entry;
};

struct nr_tally {
    struct nr_tally_entry *entries;
    uint64_t *keys;              /* key_words for each entry */
    uint32_t *index;             /* an entry's number + 1; 0: free */
    struct nr_tally_least *heap; /* all entries, the least first, once one had to make room */
    uint32_t capacity, count;
    uint32_t mask; /* of the index */
    uint32_t key_words;
    bool is_heap;
    uint64_t floor;
    uint64_t secret[2];
};

/* Returns -ENOMEM if memory runs out. Nothing is allocated afterwards. */
int nr_tally_create(struct nr_tally *tally, uint32_t capacity, uint32_t key_words,
                    const uint64_t secret[2]);
void nr_tally_destroy(struct nr_tally *tally);
void nr_tally_clear(struct nr_tally *tally);

/* Adds to the sums of a key of `words` words, of at most key_words. No key is the beginning of
 * another. */
void nr_tally_add(struct nr_tally *tally, const uint64_t *key, uint32_t words,
                  const struct nr_sums *sums);

/* Adds all of `from`, a table of the same kind. */
void nr_tally_merge(struct nr_tally *into, const struct nr_tally *from);

static inline uint64_t nr_tally_bytes(const struct nr_tally_entry *entry) {
    return entry->sums.bytes[0] + entry->sums.bytes[1];
}
static inline const uint64_t *nr_tally_key(const struct nr_tally *tally, uint32_t entry) {
    return tally->keys + (size_t)entry * tally->key_words;
}

/* Writes the numbers of the `max` entries with the most bytes, the largest first; equal ones in the
 * order of their keys. Returns how many there are. */
uint32_t nr_tally_top(const struct nr_tally *tally, uint32_t *entries, uint32_t max);

#endif
