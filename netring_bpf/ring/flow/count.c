/* Counts what flows did in an interval: takes the difference from each flow at its end, and from all
 * flows at the end of the interval. The sums of all intervals are therefore those of the flows. */
#include "flow/table_internal.h"

#define FED 16u /* a flow that has something to tell costs as much as so many that have not */

static const uint8_t *address_of(const struct flow *f, int side) {
    return f->orig_is_high == (side == ORIG) ? f->key.high_h : f->key.low_h;
}

/* Finds the name that the originator wanted, or by which it knows the responder. */
static void find_name(const struct nr_table *t, uint32_t i, struct nr_delta *delta) {
    const uint32_t record = t->insides[i].record;
    uint8_t *bytes = t->app->asked;
    struct nr_field name;
    if (record == 0) {
        return;
    }
    const uint32_t size = nr_cells_copy(&t->app->cells, record, bytes);
    if (nr_record_name(bytes, size, t->insides[i].protocol, &name) ||
        nr_record_find(bytes, size, NR_FIELD_RESP_NAME, &name)) {
        delta->name = name.value;
        delta->name_length = name.length;
    }
}

static void describe(const struct nr_table *t, uint32_t i, struct nr_delta *delta) {
    static const struct stations none;
    const struct flow *f = &t->flows[i];
    const bool has_macs = memcmp(&t->stations[i], &none, sizeof none) != 0;
    for (int side = ORIG; side <= RESP; side++) {
        delta->address[side] = address_of(f, side);
        delta->mac[side] = has_macs ? t->stations[i].side[side].mac : NULL;
    }
    delta->family = f->key.family;
    delta->proto = f->key.proto;
    delta->resp_p = f->orig_is_high ? f->key.low_p : f->key.high_p;
    if (t->app != NULL) {
        delta->app = t->insides[i].protocol;
        find_name(t, i, delta);
    }
}

/* Feeds what the flow has counted since the last time. Returns whether there was anything. */
static bool count_flow(struct nr_table *t, uint32_t i) {
    const struct flow *f = &t->flows[i];
    struct counted *counted = &t->counted[i];
    struct nr_delta delta = {.begun = counted->packets[ORIG] + counted->packets[RESP] == 0};
    uint64_t any = 0;
    for (int side = ORIG; side <= RESP; side++) {
        const uint64_t packets = nr_flow_packets(t, i, side);
        delta.packets[side] = packets - counted->packets[side];
        delta.bytes[side] = f->side[side].bytes - counted->bytes[side];
        any |= delta.packets[side] | delta.bytes[side];
        counted->packets[side] = packets;
        counted->bytes[side] = f->side[side].bytes;
    }
    if (any == 0) {
        return false;
    }
    describe(t, i, &delta);
    nr_interval_feed(t->counting->front, &t->counting->local, &delta);
    return true;
}

void nr_flow_count_last(struct nr_table *t, uint32_t i) {
    (void)count_flow(t, i);
    for (int side = ORIG; side <= RESP; side++) {
        t->counted[i].packets[side] = t->flows[i].packets[side]; /* the extra goes */
    }
}

/* -- the end of an interval -- */

void nr_flow_count_all(struct nr_table *t) {
    for (uint32_t i = 0; i < t->fresh; i++) {
        (void)count_flow(t, i);
    }
}

static void tell(struct nr_table *t) {
    nr_handoff_publish(t->handoff);
    nr_handoff_ring(t->handoff);
}

/* Waits until the other side has taken the interval before. Returns false if it will not. */
static bool wait_for_room(const struct nr_table *t) {
    while (!nr_counting_has_room(t->counting)) {
        if (!t->wait(t->waiter)) {
            return false;
        }
    }
    return true;
}

void nr_table_end_interval(struct nr_table *t) {
    struct nr_counting *c = t->counting;
    if (c->due != 0) {
        nr_flow_count_all(t);
    }
    if (c->due != 0 && !nr_interval_is_empty(c->front) && wait_for_room(t)) {
        nr_handoff_hold(t->handoff);
        (void)nr_counting_hand_over(c, c->due);
        tell(t);
    }
    nr_counting_begin(c, t->now);
}

bool nr_table_count(struct nr_table *t, uint32_t budget) {
    struct nr_counting *c = t->counting;
    if (NR_LIKELY(c == NULL || (t->walk == NIL && t->now < c->due))) {
        return false;
    }
    if (c->due == 0) {
        if (t->now != 0) {
            nr_counting_begin(c, t->now);
        }
        return false;
    }
    if (t->walk == NIL) {
        t->walk = 0;
        t->walk_end = t->fresh;
        t->walk_ts = t->now - t->now % c->interval_ns;
    }
    while (t->walk < t->walk_end && budget > 0) {
        const uint32_t cost = count_flow(t, t->walk++) ? FED : 1;
        budget -= cost < budget ? cost : budget;
    }
    if (t->walk < t->walk_end) {
        return true;
    }
    t->walk = NIL;
    if (nr_counting_hand_over(c, t->walk_ts)) {
        tell(t);
    }
    nr_counting_begin(c, t->walk_ts);
    return false;
}

/* -- for the loop -- */

void nr_table_waits(struct nr_table *t, nr_table_wait *wait, void *waiter) {
    t->wait = wait;
    t->waiter = waiter;
    if (t->counting != NULL && t->counting->due == 0) {
        t->due = 1; /* the first packet begins an interval */
    }
}

bool nr_table_take_interval(struct nr_table *t, nr_interval_span *span) {
    struct nr_counting *c = t->counting;
    if (c == NULL || (t->wait != NULL && nr_handoff_until_held(t->handoff) != 0) || !nr_counting_take(c, span)) {
        return false;
    }
    nr_handoff_release(t->handoff);
    return true;
}

bool nr_table_has_interval(const struct nr_table *t) {
    return t->counting != NULL && !nr_counting_has_room(t->counting);
}

void nr_table_take_last_interval(struct nr_table *t, nr_interval_span *span) {
    nr_interval_span before = {0};
    const bool has_before = nr_counting_take(t->counting, &before);
    nr_flow_count_all(t);
    nr_counting_take_front(t->counting, t->now, span);
    span->start = has_before ? before.start : span->start;
    nr_handoff_release(t->handoff);
}
