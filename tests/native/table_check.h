/* Checks, by walking all of a flow table, what must hold in it between any two packets. */
#ifndef TABLE_CHECK_H
#define TABLE_CHECK_H

#include <stdlib.h>

#include "flow/slots.h"

/* Returns what is wrong with the list, or NULL. Counts its flows in *seen. */
static const char *check_list(struct nr_table *t, const struct list *list, bool update,
                              uint32_t *seen) {
    uint32_t before = NIL;
    for (uint32_t i = list->head; i != NIL; i = nr_link_of(t, i, update)->next) {
        if (i >= t->fresh || ++*seen > t->live) {
            return "a list leads to a flow that is not there, or in a circle";
        }
        if (nr_link_of(t, i, update)->prev != before) {
            return "a list's links do not meet";
        }
        if (before != NIL && !update && t->flows[before].touched > t->flows[i].touched) {
            return "an idle list is out of order";
        }
        if (before != NIL && update &&
            (int32_t)(t->flows[i].update_ms - t->flows[before].update_ms) < 0) {
            return "the list of reports is out of order";
        }
        before = i;
    }
    return list->tail == before ? NULL : "a list's tail is not its last";
}

static const char *check_idle(struct nr_table *t) {
    uint32_t seen = 0;
    uint64_t packets = 0, bytes = 0;
    for (uint32_t c = 0; c < CLASS_COUNT; c++) {
        const char *wrong = check_list(t, &t->idle[c], false, &seen);
        for (uint32_t i = t->idle[c].head; wrong == NULL && i != NIL; i = t->idle_links[i].next) {
            const struct flow *f = &t->flows[i];
            const uint32_t hash = nr_hash_key(&t->secret, &f->key);
            packets += nr_flow_packets(t, i, ORIG) + nr_flow_packets(t, i, RESP);
            bytes += f->side[ORIG].bytes + f->side[RESP].bytes;
            if (f->class != c) {
                wrong = "a flow is on the idle list of another class";
            } else if (nr_slots_find(t, hash, &f->key) != i) {
                wrong = "a flow is not found by its key";
            } else if (f->touched + t->idle_ns[c] < t->due) {
                wrong = "a timeout comes before all are due";
            }
        }
        if (wrong != NULL) {
            return wrong;
        }
    }
    return seen != t->live              ? "a live flow is on no idle list"
           : packets != t->live_packets ? "the live packets are not those of the flows"
           : bytes != t->live_bytes     ? "the live bytes are not those of the flows"
                                        : NULL;
}

/* Compares each group's counts with the flows that went past it. */
static const char *check_slots(const struct nr_table *t) {
    uint32_t(*passed)[8] = calloc(t->slot_groups, sizeof *passed);
    uint32_t used = 0;
    const char *wrong = passed == NULL ? "out of memory" : NULL;
    for (uint32_t group = 0; wrong == NULL && group < t->slot_groups; group++) {
        for (uint32_t n = 0; n < NR_SLOTS; n++) {
            const uint32_t hash = t->slots[group].hash[n];
            if (t->slots[group].flow[n] == 0) {
                continue;
            }
            used++;
            for (uint32_t g = nr_slots_home(t, hash); g != group; g = nr_slots_next(t, g)) {
                passed[g][hash % 8]++;
            }
        }
    }
    for (uint32_t group = 0; wrong == NULL && group < t->slot_groups; group++) {
        for (uint32_t k = 0; k < 8; k++) {
            const uint8_t said = t->slots[group].passed[k];
            if (said != UINT8_MAX && said != passed[group][k]) {
                wrong = "a group has not counted the flows that went past it";
            }
        }
    }
    free(passed);
    return used == t->live || wrong != NULL ? wrong : "there are not as many slots in use as flows";
}

static const char *check_victim(const struct nr_table *t) {
    const uint32_t i = t->victim;
    if (i == NIL) {
        return NULL;
    }
    const uint32_t hash = nr_hash_key(&t->secret, &t->flows[i].key);
    return hash == t->victim_hash && nr_slots_find(t, hash, &t->flows[i].key) == i
               ? NULL
               : "the next to be evicted is not the flow it was";
}

static const char *check_free(const struct nr_table *t) {
    uint32_t flows = 0, extras = 0, free_extras = 0, held = 0, free_held = 0;
    for (uint32_t i = t->free_head; i != NIL && flows <= t->fresh; i = t->idle_links[i].next) {
        flows++;
    }
    for (uint32_t e = t->extra_free; e != NIL && free_extras <= t->extra_fresh;
         e = t->extras[e].next_free) {
        free_extras++;
    }
    for (uint32_t h = t->held_free; h != NIL && free_held <= t->held_fresh;
         h = t->held[h].next_free) {
        free_held++;
    }
    for (uint32_t c = 0; c < CLASS_COUNT; c++) {
        for (uint32_t i = t->idle[c].head; i != NIL; i = t->idle_links[i].next) {
            extras += t->flows[i].has_extra;
            held += t->flows[i].stream[ORIG].holds + t->flows[i].stream[RESP].holds;
        }
    }
    return flows + t->live != t->fresh              ? "an entry is neither live nor free"
           : extras + free_extras != t->extra_fresh ? "an extra is neither in use nor free"
           : held + free_held != t->held_fresh      ? "held ranges are neither in use nor free"
                                                    : NULL;
}

/* Returns what is wrong with the table, or NULL. */
static const char *check_table(struct nr_table *t) {
    uint32_t reported = 0;
    const char *wrong = check_idle(t);
    wrong = wrong != NULL ? wrong : check_list(t, &t->update, true, &reported);
    if (wrong == NULL && reported != (t->update_ns != 0 ? t->live : 0)) {
        wrong = "not every flow waits for its report";
    }
    if (wrong == NULL && reported > 0) {
        /* No report may come before `due`. Its time is in ms, and wraps. */
        const uint32_t due_ms = (uint32_t)(t->due / 1000000);
        if (t->due != UINT64_MAX && (int32_t)(t->flows[t->update.head].update_ms - due_ms) < 0) {
            wrong = "a report comes before all are due";
        }
    }
    wrong = wrong != NULL ? wrong : check_slots(t);
    wrong = wrong != NULL ? wrong : check_victim(t);
    return wrong != NULL ? wrong : check_free(t);
}

#endif
