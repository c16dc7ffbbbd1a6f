/* Hands the intervals of a reader over to the aggregate of a capture, which several readers share.
 *
 * The reader's thread fills the front. At the end of an interval the front and the back change
 * places, unless the back still waits to be taken: then the interval gets longer. So neither side
 * waits for the other, and nothing is lost. */
#ifndef NR_AGGREGATE_COUNTING_H
#define NR_AGGREGATE_COUNTING_H

#include "aggregate/interval.h"

struct nr_counting {
    nr_aggregate *aggregate;
    struct nr_interval *front, *back;
    struct nr_local local; /* of the aggregate, as the interval began */
    uint64_t interval_ns;  /* as well */
    uint64_t due;     /* when the interval ends, by the flow table's time; 0: none has begun */
    uint32_t is_full; /* shared: the back waits to be taken */
};

/* Returns NULL if memory runs out. */
struct nr_counting *nr_counting_create(nr_aggregate *aggregate);
void nr_counting_destroy(struct nr_counting *counting); /* NULL: does nothing */

/* Begins an interval that lasts up to the next multiple of its length. What the front has by now
 * belongs to it, and then keeps its start. */
void nr_counting_begin(struct nr_counting *counting, uint64_t now);
/* Gives the front away as an interval that ends at `end`. Returns false if the back was not taken
 * yet. */
bool nr_counting_hand_over(struct nr_counting *counting, uint64_t end);

static inline bool nr_counting_has_room(const struct nr_counting *counting) {
    /* Sequentially consistent, as in nr_counting_take(). */
    return !__atomic_load_n(&counting->is_full, __ATOMIC_SEQ_CST);
}

/* The other side: adds the back to the aggregate, if it is full. Returns whether it was. */
bool nr_counting_take(struct nr_counting *counting, nr_interval_span *span);
/* Adds the front, once the reader's thread has ended. */
void nr_counting_take_front(struct nr_counting *counting, uint64_t end, nr_interval_span *span);

/* aggregate.c */
void nr_aggregate_read_options(nr_aggregate *aggregate, nr_aggregate_options *options);
/* Copies the local networks, and returns the length of intervals. */
uint64_t nr_aggregate_read_local(nr_aggregate *aggregate, struct nr_local *local);
void nr_aggregate_add(nr_aggregate *aggregate, const struct nr_interval *interval);

#endif
