/* The table of sums by key: see tally.h.
 *
 * The index is probed in a line, by a keyed hash, and is at most half full; an entry that goes lets
 * those behind it move up, so no gap is left. The heap is lazy: adding leaves it alone, so that an
 * entry in it may have more bytes than it says, and only who looks for the least puts that right.
 */
#include "aggregate/tally.h"

#include <errno.h>
#include <stdlib.h>

#include "siphash.h"

/* -- life -- */

int nr_tally_create(struct nr_tally *t, uint32_t capacity, uint32_t key_words,
                    const uint64_t secret[2]) {
    uint32_t places = 2;
    while (places < 2 * capacity) {
        places *= 2;
    }
    memset(t, 0, sizeof *t);
    t->capacity = capacity;
    t->key_words = key_words;
    t->mask = places - 1;
    memcpy(t->secret, secret, sizeof t->secret);
    t->entries = calloc(capacity, sizeof *t->entries);
    t->keys = calloc((size_t)capacity * key_words, sizeof *t->keys);
    t->index = calloc(places, sizeof *t->index);
    t->heap = calloc(capacity, sizeof *t->heap);
    if (t->entries == NULL || t->keys == NULL || t->index == NULL || t->heap == NULL) {
        nr_tally_destroy(t);
        return -ENOMEM;
    }
    return 0;
}

void nr_tally_destroy(struct nr_tally *t) {
    free(t->entries);
    free(t->keys);
    free(t->index);
    free(t->heap);
    memset(t, 0, sizeof *t);
}

void nr_tally_clear(struct nr_tally *t) {
    if (t->count > 0) {
        memset(t->index, 0, ((size_t)t->mask + 1) * sizeof *t->index);
    }
    t->count = 0;
    t->floor = 0;
    t->is_heap = false;
}

/* -- the index -- */

/* Returns the place of the key, or the free one that it would get. */
static uint32_t find(const struct nr_tally *t, uint32_t hash, const uint64_t *key, uint32_t words) {
    uint32_t place = hash & t->mask;
    while (t->index[place] != 0) {
        const uint32_t i = t->index[place] - 1;
        if (t->entries[i].hash == hash &&
            memcmp(nr_tally_key(t, i), key, words * sizeof *key) == 0) {
            break;
        }
        place = (place + 1) & t->mask;
    }
    return place;
}

static void put(struct nr_tally *t, uint32_t place, uint32_t i) {
    t->index[place] = i + 1;
    t->entries[i].place = place;
}

/* Takes the entry out of the index, and moves up those behind it that may. */
static void take_out(struct nr_tally *t, uint32_t i) {
    uint32_t gap = t->entries[i].place;
    for (uint32_t at = (gap + 1) & t->mask; t->index[at] != 0; at = (at + 1) & t->mask) {
        const uint32_t other = t->index[at] - 1;
        const uint32_t home = t->entries[other].hash & t->mask;
        if (((at - home) & t->mask) >= ((at - gap) & t->mask)) {
            put(t, gap, other);
            gap = at;
        }
    }
    t->index[gap] = 0;
}

/* -- the heap -- */

static uint64_t most(const struct nr_tally *t, uint32_t i) {
    return nr_tally_bytes(&t->entries[i]) + t->entries[i].error;
}

static void sift_down(struct nr_tally *t, uint32_t at) {
    const struct nr_tally_least moving = t->heap[at];
    for (uint32_t child = 2 * at + 1; child < t->count; child = 2 * at + 1) {
        if (child + 1 < t->count && t->heap[child + 1].bytes < t->heap[child].bytes) {
            child++;
        }
        if (t->heap[child].bytes >= moving.bytes) {
            break;
        }
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = moving;
}

/* Returns the entry with the least bytes and error, which is at the top of the heap then. */
static uint32_t least(struct nr_tally *t) {
    if (!t->is_heap) {
        for (uint32_t i = 0; i < t->count; i++) {
            t->heap[i] = (struct nr_tally_least){most(t, i), i};
        }
        for (uint32_t at = t->count / 2; at-- > 0;) {
            sift_down(t, at);
        }
        t->is_heap = true;
    }
    uint64_t bytes;
    while (t->heap[0].bytes != (bytes = most(t, t->heap[0].entry))) {
        t->heap[0].bytes = bytes;
        sift_down(t, 0);
    }
    return t->heap[0].entry;
}

/* -- adding -- */

static void add_sums(struct nr_sums *to, const struct nr_sums *more) {
    for (int side = 0; side < 2; side++) {
        to->packets[side] += more->packets[side];
        to->bytes[side] += more->bytes[side];
    }
    to->flows += more->flows;
}

/* Makes entry `i` that of a key which has none. */
static void begin_entry(struct nr_tally *t, uint32_t i, uint32_t hash, const uint64_t *key,
                        uint32_t words, uint64_t error) {
    uint64_t *to = t->keys + (size_t)i * t->key_words;
    memcpy(to, key, words * sizeof *key);
    memset(to + words, 0, (t->key_words - words) * sizeof *key);
    t->entries[i] = (struct nr_tally_entry){.error = error, .hash = hash};
    put(t, find(t, hash, key, words), i);
}

void nr_tally_add(struct nr_tally *t, const uint64_t *key, uint32_t words,
                  const struct nr_sums *sums) {
    const uint32_t hash = (uint32_t)nr_siphash13(t->secret, key, words);
    const uint32_t place = find(t, hash, key, words);
    uint32_t i = t->index[place] - 1;
    if (t->index[place] == 0) {
        if (t->count < t->capacity) {
            i = t->count++;
        } else {
            i = least(t);
            t->floor = most(t, i);
            take_out(t, i);
        }
        begin_entry(t, i, hash, key, words, t->floor);
    }
    add_sums(&t->entries[i].sums, sums);
}

/* -- merging -- */

/* Adds the entries of keys that both have. A key that one table has no entry of may have had as
 * much as that table's floor. */
static void merge_known(struct nr_tally *into, const struct nr_tally *from) {
    for (uint32_t i = 0; i < into->count; i++) {
        into->entries[i].error += from->floor;
    }
    for (uint32_t n = 0; n < from->count; n++) {
        const struct nr_tally_entry *e = &from->entries[n];
        const uint32_t place = find(into, e->hash, nr_tally_key(from, n), from->key_words);
        if (into->index[place] != 0) {
            struct nr_tally_entry *to = &into->entries[into->index[place] - 1];
            to->error += e->error - from->floor;
            add_sums(&to->sums, &e->sums);
        }
    }
}

void nr_tally_merge(struct nr_tally *into, const struct nr_tally *from) {
    const uint64_t before = into->floor;
    uint64_t floor = before + from->floor;
    merge_known(into, from);
    for (uint32_t n = 0; n < from->count; n++) {
        const struct nr_tally_entry *e = &from->entries[n];
        const uint64_t *key = nr_tally_key(from, n);
        if (into->index[find(into, e->hash, key, from->key_words)] != 0) {
            continue;
        }
        uint32_t i = into->count;
        if (i < into->capacity) {
            into->count++;
            into->is_heap = false;
        } else {
            i = least(into);
            if (most(into, i) >= most(from, n) + before) {
                floor = nr_max_u64(floor, most(from, n) + before);
                continue;
            }
            floor = nr_max_u64(floor, most(into, i));
            take_out(into, i);
        }
        begin_entry(into, i, e->hash, key, from->key_words, e->error + before);
        into->entries[i].sums = e->sums;
    }
    into->floor = floor;
}

/* -- reading -- */

static bool is_larger(const struct nr_tally *t, uint32_t a, uint32_t b) {
    const uint64_t of_a = nr_tally_bytes(&t->entries[a]), of_b = nr_tally_bytes(&t->entries[b]);
    if (of_a != of_b) {
        return of_a > of_b;
    }
    return memcmp(nr_tally_key(t, a), nr_tally_key(t, b), t->key_words * sizeof(uint64_t)) < 0;
}

uint32_t nr_tally_top(const struct nr_tally *t, uint32_t *entries, uint32_t max) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < t->count && max > 0; i++) {
        uint32_t low = 0, high = count;
        if (count == max && !is_larger(t, i, entries[count - 1])) {
            continue;
        }
        while (low < high) {
            const uint32_t middle = (low + high) / 2;
            if (is_larger(t, i, entries[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        count += count < max;
        memmove(&entries[low + 1], &entries[low], (count - 1 - low) * sizeof *entries);
        entries[low] = i;
    }
    return count;
}
