/* Shared by tcp.c (a packet's way through a connection, and its letters), tcp_state.c (the states
 * of the two sides) and tcp_odds.c (implausible numbers). */
#ifndef NR_FLOW_TCP_H
#define NR_FLOW_TCP_H

#include "flow/table_internal.h"

#define NR_FAR_AWAY 1048576 /* a segment this far off is not trusted */

/* One packet on its way through the connection. */
struct nr_tcp_step {
    struct nr_table *table;
    struct flow *flow;
    struct stream *self, *peer;
    const struct nr_dissected *packet;
    uint64_t ts;
    uint32_t i;    /* the flow's index */
    int side;      /* the sender's, flips included */
    bool was_orig; /* the sender's role as the packet came */
    bool syn, fin, rst, ack;
    bool flips;
    bool is_elsewhere;   /* its sequence number is implausible */
    bool acks_elsewhere; /* its acknowledgement is */
    int64_t at;          /* offset of its sequence number in the stream */
    uint32_t length;
    uint32_t occupies; /* sequence numbers that it takes; a RST's data takes none */
};

static inline void nr_tcp_set_state(struct stream *s, unsigned state) {
    if (s->state != state) {
        s->previous = s->state;
        s->state = (uint16_t)(state & 7);
    }
}

static inline void nr_tcp_look_from(struct nr_tcp_step *s, int side) {
    s->side = side;
    s->self = &s->flow->stream[side];
    s->peer = &s->flow->stream[side ^ 1];
}

static inline void nr_tcp_flip(struct nr_tcp_step *s) {
    nr_flow_flip(s->table, s->i);
    s->flow->partial = false;
    nr_tcp_look_from(s, s->side ^ 1);
}

/* Returns the extra's side of this packet's sender; NULL: none. */
static inline struct extra_side *nr_tcp_extra(const struct nr_tcp_step *s) {
    struct extra *x = nr_extra(s->table, s->i);
    return x != NULL ? &x->side[s->side] : NULL;
}

static inline struct extra_side *nr_tcp_take_extra(struct nr_tcp_step *s, int side) {
    return &nr_extra_take(s->table, s->i)->side[side];
}

/* Returns whether an offset is far from all that the side has sent. */
static inline bool nr_tcp_is_far(const struct stream *s, int64_t at) {
    return at > (s->last > s->acked ? s->last : s->acked) + NR_FAR_AWAY || at < -NR_FAR_AWAY;
}

/* tcp_odds.c: tells whether the packet's numbers are plausible. May move the streams. */
void nr_tcp_weigh(struct nr_tcp_step *s);
/* tcp_state.c: moves the state of the sender, and perhaps of the other side. Returns whether the
 * sender has closed. May exchange the sides. */
bool nr_tcp_next_state(struct nr_tcp_step *s);
/* Returns whether the side opened in order and was not reset. */
bool nr_tcp_is_clean(const struct stream *s);

#endif
