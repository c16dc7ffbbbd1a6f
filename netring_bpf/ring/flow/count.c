/* Counts what flows did in an interval: takes the difference from each flow at its end, and from
 * all flows at the end of the interval. The sums of all intervals are therefore those of the flows.
 *
 * What a flow says inside shows a few packets after its beginning. At the end of an interval a flow
 * of which it may still show is counted by its ends alone, and by its content later. */
#include "flow/table_internal.h"

#define CONTENT_BYTES 16384u /* of a flow, after which its content is counted as it is known */
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

static void describe_ends(const struct nr_table *t, uint32_t i, struct nr_delta *delta) {
    static const struct stations none;
    const struct flow *f = &t->flows[i];
    const bool has_macs = memcmp(&t->stations[i], &none, sizeof none) != 0;
    for (int side = ORIG; side <= RESP; side++) {
        delta->address[side] = address_of(f, side);
        delta->mac[side] = has_macs ? t->stations[i].side[side].mac : NULL;
    }
    delta->family = f->key.family;
}

static void describe_content(const struct nr_table *t, uint32_t i, struct nr_delta *delta) {
    const struct flow *f = &t->flows[i];
    delta->proto = f->key.proto;
    delta->resp_p = f->orig_is_high ? f->key.low_p : f->key.high_p;
    if (t->app != NULL) {
        delta->app = t->insides[i].protocol;
        find_name(t, i, delta);
    }
}

/* -- feeding -- */

/* Takes what the flow has counted since the last time. Returns whether there was anything. */
static bool take_new(const struct nr_table *t, uint32_t i, struct counts *counted,
                     struct nr_delta *delta) {
    uint64_t any = 0;
    delta->begun = counted->packets[ORIG] + counted->packets[RESP] == 0;
    for (int side = ORIG; side <= RESP; side++) {
        const uint64_t packets = nr_flow_packets(t, i, side), bytes = t->flows[i].side[side].bytes;
        delta->packets[side] = packets - counted->packets[side];
        delta->bytes[side] = bytes - counted->bytes[side];
        any |= delta->packets[side] | delta->bytes[side];
        counted->packets[side] = packets;
        counted->bytes[side] = bytes;
    }
    return any != 0;
}

static bool feed(struct nr_table *t, uint32_t i, bool with_content) {
    struct nr_counting *c = t->counting;
    struct nr_delta delta = {0};
    const bool is_new = take_new(t, i, &t->counted[i].by_ends, &delta);
    if (is_new) {
        describe_ends(t, i, &delta);
        nr_interval_feed_ends(c->front, &c->local, &delta);
    }
    if (with_content && take_new(t, i, &t->counted[i].by_content, &delta)) {
        describe_content(t, i, &delta);
        nr_interval_feed_content(c->front, &delta);
        return true;
    }
    return is_new;
}

/* Returns whether a packet to come may exchange the sides: the flow began with the answer to a SYN,
 * and nothing but answers came. */
static bool may_flip(const struct nr_table *t, uint32_t i) {
    const struct flow *f = &t->flows[i];
    return nr_is_tcp(f) && (f->packets[ORIG] == 0 || f->packets[RESP] == 0) &&
           nr_history_is_answer(t, i);
}

/* Returns whether it is known what the flow says inside, or will not be known soon. */
static bool is_known(const struct nr_table *t, uint32_t i) {
    const struct flow *f = &t->flows[i];
    if (t->app == NULL || (!f->stream[ORIG].reads && !f->stream[RESP].reads) ||
        f->side[ORIG].bytes + f->side[RESP].bytes > CONTENT_BYTES) {
        return true;
    }
    const uint32_t record = t->insides[i].record;
    return t->insides[i].protocol != NR_APP_NONE && record != 0 &&
           nr_cells_head(&t->app->cells, record).count > 0;
}

static bool count_flow(struct nr_table *t, uint32_t i) {
    return !may_flip(t, i) && feed(t, i, is_known(t, i));
}

void nr_flow_count_last(struct nr_table *t, uint32_t i) {
    (void)feed(t, i, true);
    for (int side = ORIG; side <= RESP; side++) {
        /* Without its extra, the entry has only the low half. Nothing is new in it then. */
        const uint64_t packets = t->flows[i].packets[side];
        t->counted[i].by_ends.packets[side] = t->counted[i].by_content.packets[side] = packets;
    }
}

static void flip(struct counts *counts) {
    const struct counts was = *counts;
    counts->packets[ORIG] = was.packets[RESP];
    counts->packets[RESP] = was.packets[ORIG];
    counts->bytes[ORIG] = was.bytes[RESP];
    counts->bytes[RESP] = was.bytes[ORIG];
}

void nr_counted_flip(struct counted *counted) {
    flip(&counted->by_ends);
    flip(&counted->by_content);
}

/* -- the end of an interval -- */

static void count_all(struct nr_table *t) {
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
    const bool is_first = c->due == 0;
    if (!is_first) {
        count_all(t);
    }
    if (!is_first && !nr_interval_is_empty(c->front) && wait_for_room(t)) {
        nr_handoff_hold(t->handoff);
        (void)nr_counting_hand_over(c, c->due);
        tell(t);
    }
    nr_counting_begin(c, t->now);
    if (!is_first && nr_interval_is_empty(c->front)) {
        c->front->start = c->due - c->interval_ns; /* it comes after a gap, which nobody is told */
    }
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
    if (!nr_table_has_interval(t)) {
        return false;
    }
    const uint64_t before = nr_handoff_until_held(t->handoff); /* after the look: it is set first */
    if (before != 0 && before != UINT64_MAX) {
        return false;
    }
    /* Released first: the producer may hold others as soon as the interval is taken. */
    nr_handoff_release(t->handoff);
    (void)nr_counting_take(t->counting, span);
    nr_handoff_wake(t->handoff);
    return true;
}

bool nr_table_has_interval(const struct nr_table *t) {
    return t->counting != NULL && !nr_counting_has_room(t->counting);
}

void nr_table_take_last_interval(struct nr_table *t, nr_interval_span *span) {
    nr_interval_span before = {0};
    const bool has_before = nr_counting_take(t->counting, &before);
    for (uint32_t i = 0; i < t->fresh; i++) {
        (void)feed(t, i, true);
    }
    nr_counting_take_front(t->counting, t->now, span);
    span->start = has_before ? before.start : span->start;
    nr_handoff_release(t->handoff);
    nr_handoff_wake(t->handoff);
}
