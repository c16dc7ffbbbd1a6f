/* Checks what must hold in a table of sums between any two calls. */
#ifndef TALLY_CHECK_H
#define TALLY_CHECK_H

#include "aggregate/tally.h"

/* Returns what is wrong with the index or the heap, or NULL. */
static const char *check_tally(const struct nr_tally *t) {
    uint32_t used = 0;
    if (t->count > t->capacity) {
        return "a table has more entries than room";
    }
    for (uint32_t place = 0; place <= t->mask; place++) {
        const uint32_t number = t->index[place];
        if (number == 0) {
            continue;
        }
        used++;
        if (number > t->count || t->entries[number - 1].place != place) {
            return "the index leads to an entry that is elsewhere";
        }
        for (uint32_t at = t->entries[number - 1].hash & t->mask; at != place;
             at = (at + 1) & t->mask) {
            if (t->index[at] == 0) {
                return "there is a gap before an entry";
            }
        }
    }
    if (used != t->count) {
        return "an entry is not in the index";
    }
    for (uint32_t at = 0; t->is_heap && at < t->count; at++) {
        const struct nr_tally_entry *e = &t->entries[t->heap[at].entry];
        if (t->heap[at].bytes > nr_tally_bytes(e) + e->error) {
            return "the heap says more than an entry has";
        }
        if (at > 0 && t->heap[(at - 1) / 2].bytes > t->heap[at].bytes) {
            return "the heap is out of order";
        }
    }
    return NULL;
}

#endif
