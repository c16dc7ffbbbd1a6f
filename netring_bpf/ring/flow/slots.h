/* The index from a key to its flow: groups of seven slots, a cache line each. A search compares all
 * hashes of a group at once, so it has no branch to mispredict and reads no flow of another hash. A
 * flow whose group is full goes to the next group with a free slot. Each group counts the flows
 * that passed it, in eight counters by the low bits of their hash. A search goes on only while its
 * counter is not 0, so a removed flow leaves no tombstone. Eight counters keep searches short under
 * a flood, when some flow has passed every second group. */
#ifndef NR_FLOW_SLOTS_H
#define NR_FLOW_SLOTS_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "flow/table_internal.h"

#define NR_SLOTS 7u

struct slots {
    uint32_t hash[NR_SLOTS];
    uint32_t flow[NR_SLOTS]; /* index + 1; 0: free */
    uint8_t passed[8];       /* flows that found no room here; 255: no longer exact */
};
_Static_assert(sizeof(struct slots) == 64, "one cache line");

/* A group has five flows on average when the table is full. */
static inline uint32_t nr_slot_groups(uint32_t flows) {
    return flows / 5 + 1;
}

static inline uint32_t nr_slots_home(const struct nr_table *t, uint32_t hash) {
    return (uint32_t)((uint64_t)hash * t->slot_groups >> 32);
}

static inline uint32_t nr_slots_next(const struct nr_table *t, uint32_t group) {
    return group + 1 == t->slot_groups ? 0 : group + 1;
}

/* Returns a bit for each slot that has this value. Reads a word past the seven slots, which lies in
 * the same group. */
static inline uint32_t nr_slots_with(const uint32_t value[NR_SLOTS], uint32_t wanted) {
#ifdef __SSE2__
    const __m128i all = _mm_set1_epi32((int)wanted);
    const __m128i first = _mm_loadu_si128((const __m128i *)(const void *)value);
    const __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(value + 4));
    const __m128i equal =
        _mm_packs_epi32(_mm_cmpeq_epi32(first, all), _mm_cmpeq_epi32(second, all));
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(equal, equal)) & 0x7f;
#else
    uint32_t bits = 0;
    for (uint32_t n = 0; n < NR_SLOTS; n++) {
        bits |= (uint32_t)(value[n] == wanted) << n;
    }
    return bits;
#endif
}

/* Returns the counter of flows that passed, for this hash. */
static inline uint8_t *nr_slots_passed(struct slots *s, uint32_t hash) {
    return &s->passed[hash % sizeof s->passed];
}

NR_INLINE uint32_t nr_slots_search(const struct nr_table *t, uint32_t hash,
                                   const struct nr_key *key, bool any) {
    uint32_t group = nr_slots_home(t, hash);
    for (uint32_t tried = 0; tried < t->slot_groups; tried++) {
        struct slots *s = &t->slots[group];
        for (uint32_t bits = nr_slots_with(s->hash, hash); bits != 0; bits &= bits - 1) {
            const uint32_t i = s->flow[__builtin_ctz(bits)] - 1;
            if (i != NIL && (any || nr_key_equal(&t->flows[i].key, key))) {
                return i;
            }
        }
        if (NR_LIKELY(*nr_slots_passed(s, hash) == 0)) {
            return NIL;
        }
        group = nr_slots_next(t, group);
    }
    return NIL;
}

/* Returns the flow of this key; NIL: there is none. */
static inline uint32_t nr_slots_find(const struct nr_table *t, uint32_t hash,
                                     const struct nr_key *key) {
    return nr_slots_search(t, hash, key, false);
}

/* Returns the first flow of this hash; NIL: there is none. */
static inline uint32_t nr_slots_guess(const struct nr_table *t, uint32_t hash) {
    return nr_slots_search(t, hash, NULL, true);
}

/* Adds a flow. A free slot exists, because there are more slots than flows. */
static inline void nr_slots_add(struct nr_table *t, uint32_t hash, uint32_t i) {
    uint32_t group = nr_slots_home(t, hash);
    struct slots *s = &t->slots[group];
    uint32_t free;
    while (NR_UNLIKELY((free = nr_slots_with(s->flow, 0)) == 0)) {
        *nr_slots_passed(s, hash) += *nr_slots_passed(s, hash) < UINT8_MAX;
        group = nr_slots_next(t, group);
        s = &t->slots[group];
    }
    s->hash[__builtin_ctz(free)] = hash;
    s->flow[__builtin_ctz(free)] = i + 1;
}

static inline void nr_slots_remove(struct nr_table *t, uint32_t hash, uint32_t i) {
    uint32_t group = nr_slots_home(t, hash);
    struct slots *s = &t->slots[group];
    uint32_t own;
    while (NR_UNLIKELY((own = nr_slots_with(s->flow, i + 1)) == 0)) {
        *nr_slots_passed(s, hash) -= *nr_slots_passed(s, hash) < UINT8_MAX;
        group = nr_slots_next(t, group);
        s = &t->slots[group];
    }
    s->flow[__builtin_ctz(own)] = 0;
}

#endif
