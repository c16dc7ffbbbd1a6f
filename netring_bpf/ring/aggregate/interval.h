/* What the flows of a reader have counted in an interval: sums by direction, and the tables of sums
 * by key. Of fixed size: all memory is taken when one is made. */
#ifndef NR_AGGREGATE_INTERVAL_H
#define NR_AGGREGATE_INTERVAL_H

#include "aggregate/tally.h"

/* The networks whose addresses are local. */
struct nr_local {
    uint32_t count;
    nr_network network[NR_MAX_LOCAL];
};

bool nr_is_local(const struct nr_local *local, uint8_t family, const uint8_t *address);

/* What a flow has counted since it was asked last; the originator's side first. Addresses are those
 * of nr_event. */
struct nr_delta {
    const uint8_t *address[2];
    const uint8_t *mac[2]; /* NULL: the link has none */
    uint64_t packets[2];
    uint64_t bytes[2];
    uint32_t begun; /* 1: the flow was not counted before */
    uint8_t family; /* 4 or 6; 0: it has no addresses */
    uint8_t proto;  /* of IP */
    uint8_t app;    /* NR_APP_* */
    uint16_t resp_p;
    const uint8_t *name; /* as it was sent; NULL: none */
    uint16_t name_length;
};

struct nr_interval {
    uint64_t start, end;
    nr_direction_sums direction[NR_DIRECTION_COUNT];
    struct nr_tally tally[NR_TOP_COUNT];
};

/* Returns NULL if memory runs out. */
struct nr_interval *nr_interval_create(uint32_t capacity, const uint64_t secret[2]);
void nr_interval_destroy(struct nr_interval *interval); /* NULL: does nothing */
void nr_interval_clear(struct nr_interval *interval);
bool nr_interval_is_empty(const struct nr_interval *interval);
/* Feeds the directions and the keys of both ends, or the keys of what the flow says. */
void nr_interval_feed_ends(struct nr_interval *interval, const struct nr_local *local,
                           const struct nr_delta *delta);
void nr_interval_feed_content(struct nr_interval *interval, const struct nr_delta *delta);
void nr_interval_merge(struct nr_interval *into, const struct nr_interval *from);

#endif
