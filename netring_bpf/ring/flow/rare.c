/* The extras: records of what most flows never have. A flow takes one when it first needs it. There
 * is one for each flow, so a flow never goes without; unused ones take no memory. */
#include "flow/history_packed.h"

#include <string.h>

struct extra *nr_extra_take(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    const uint64_t letters = t->pasts[i].letters;
    uint32_t at = t->extra_free;
    if (f->has_extra) {
        return &t->extras[letters];
    }
    if (at != NIL) {
        t->extra_free = t->extras[at].next_free;
    } else {
        at = t->extra_fresh++;
    }
    struct extra *x = &t->extras[at];
    memset(x, 0, sizeof *x);
    x->side[ORIG].held = x->side[RESP].held = x->odds = NIL;
    nr_unpack_history(letters, x);
    f->has_extra = true;
    t->pasts[i].letters = at;
    return x;
}

void nr_extra_free(struct nr_table *t, uint32_t i) {
    const uint32_t at = (uint32_t)t->pasts[i].letters, odds = t->extras[at].odds;
    if (odds != NIL) {
        t->odds[odds].next_free = t->odds_free;
        t->odds_free = odds;
    }
    t->extras[at].next_free = t->extra_free;
    t->extra_free = at;
    t->flows[i].has_extra = false;
}

struct odds *nr_odds_take(struct nr_table *t, uint32_t i) {
    struct extra *x = nr_extra_take(t, i);
    if (x->odds == NIL) {
        if (t->odds_free != NIL) {
            x->odds = t->odds_free;
            t->odds_free = t->odds[x->odds].next_free;
        } else {
            x->odds = t->odds_fresh++;
        }
        memset(&t->odds[x->odds], 0, sizeof t->odds[x->odds]);
    }
    return &t->odds[x->odds];
}

/* -- times: those within four seconds after the flow's start fit into the past -- */

uint64_t nr_first_ts(const struct nr_table *t, uint32_t i, int side) {
    const struct past *past = &t->pasts[i];
    if (!t->flows[i].stream[side].timed) {
        return 0;
    }
    return past->first[side] != FAR_FROM_START ? past->start_ts + past->first[side]
                                               : nr_extra(t, i)->side[side].first_ts;
}

void nr_note_first_ts(struct nr_table *t, uint32_t i, int side, uint64_t ts) {
    const uint64_t since = ts - t->pasts[i].start_ts; /* huge if ts is earlier */
    t->flows[i].stream[side].timed = true;
    if (since < FAR_FROM_START) {
        t->pasts[i].first[side] = (uint32_t)since;
        return;
    }
    t->pasts[i].first[side] = FAR_FROM_START;
    nr_extra_take(t, i)->side[side].first_ts = ts;
}

uint64_t nr_shake(const struct nr_table *t, uint32_t i, int side) {
    const struct past *past = &t->pasts[i];
    if (past->shake[side] == FAR_FROM_START) {
        return nr_extra(t, i)->side[side].shake;
    }
    return t->flows[i].stream[side].shake == SHAKE_SENT ? past->start_ts + past->shake[side]
                                                        : past->shake[side];
}

void nr_note_shake(struct nr_table *t, uint32_t i, int side, int shake, uint64_t value) {
    const uint64_t shown = shake == SHAKE_SENT ? value - t->pasts[i].start_ts : value;
    t->flows[i].stream[side].shake = (uint16_t)(shake & 3);
    if (shown < FAR_FROM_START) {
        t->pasts[i].shake[side] = (uint32_t)shown;
        return;
    }
    t->pasts[i].shake[side] = FAR_FROM_START;
    nr_extra_take(t, i)->side[side].shake = value;
}
