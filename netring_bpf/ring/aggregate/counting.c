/* The two intervals of a reader: see counting.h. */
#include "aggregate/counting.h"

#include <stdlib.h>

struct nr_counting *nr_counting_create(nr_aggregate *aggregate) {
    struct nr_counting *c = calloc(1, sizeof *c);
    nr_aggregate_options options;
    uint64_t secret[2];
    if (c == NULL) {
        return NULL;
    }
    nr_aggregate_read_options(aggregate, &options);
    memcpy(secret, options.hash_key, sizeof secret);
    c->aggregate = aggregate;
    c->interval_ns = options.interval_ns;
    c->front = nr_interval_create(options.capacity, secret);
    c->back = nr_interval_create(options.capacity, secret);
    if (c->front == NULL || c->back == NULL) {
        nr_counting_destroy(c);
        return NULL;
    }
    return c;
}

void nr_counting_destroy(struct nr_counting *c) {
    if (c != NULL) {
        nr_interval_destroy(c->front);
        nr_interval_destroy(c->back);
        free(c);
    }
}

/* -- the reader's thread -- */

void nr_counting_begin(struct nr_counting *c, uint64_t now) {
    c->interval_ns = nr_aggregate_read_local(c->aggregate, &c->local);
    const uint64_t boundary = now - now % c->interval_ns;
    if (c->due == 0) {
        c->front->start = now;
    }
    c->due = boundary + c->interval_ns;
}

bool nr_counting_hand_over(struct nr_counting *c, uint64_t end) {
    struct nr_interval *given = c->front;
    if (nr_load_acquire(&c->is_full)) {
        return false;
    }
    given->end = end;
    c->front = c->back;
    c->back = given;
    c->front->start = end;
    nr_store_release(&c->is_full, 1);
    return true;
}

/* -- the other side -- */

static void take(struct nr_counting *c, struct nr_interval *interval, nr_interval_span *span) {
    nr_aggregate_add(c->aggregate, interval);
    span->start = interval->start;
    span->end = interval->end;
    nr_interval_clear(interval);
}

bool nr_counting_take(struct nr_counting *c, nr_interval_span *span) {
    if (!nr_load_acquire(&c->is_full)) {
        return false;
    }
    take(c, c->back, span);
    /* Sequentially consistent with the producer's `waiting`: one of the two threads sees the
     * other. */
    __atomic_store_n(&c->is_full, 0, __ATOMIC_SEQ_CST);
    return true;
}

void nr_counting_take_front(struct nr_counting *c, uint64_t end, nr_interval_span *span) {
    c->front->end = nr_max_u64(c->front->start, end);
    take(c, c->front, span);
    c->front->start = c->front->end;
}
