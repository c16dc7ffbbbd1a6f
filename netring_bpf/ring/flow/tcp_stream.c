/* Follows one direction of a TCP connection as a stream of bytes: sent, acknowledged,
 * retransmitted, out of order, missing. Memory is bounded: a stream holds few ranges beyond a hole,
 * from a pool. */
#include "flow/table_internal.h"

/* The capture sees one side only if this many bytes beyond a hole come unacknowledged. */
#define BEYOND_UNACKED 16384

void nr_stream_begin(struct nr_table *t, uint32_t i, int side, uint32_t start) {
    struct stream *s = &t->flows[i].stream[side];
    nr_stream_end(t, i, side);
    s->start = start;
    s->last = s->acked = 0;
    s->delivered = 1;
    s->given_up = false;
}

void nr_stream_end(struct nr_table *t, uint32_t i, int side) {
    struct stream *s = &t->flows[i].stream[side];
    if (!s->holds) {
        return;
    }
    struct extra_side *x = &nr_extra(t, i)->side[side];
    t->held[x->held].next_free = t->held_free;
    t->held_free = x->held;
    x->held = NIL;
    s->holds = false;
}

/* Returns the stream's ranges; NULL: it has none. */
static struct held *held_of(const struct nr_table *t, uint32_t i, int side) {
    return t->flows[i].stream[side].holds ? &t->held[nr_extra(t, i)->side[side].held] : NULL;
}

/* Returns the stream's ranges, and takes them first if there are none. NULL: the pool is empty. */
static struct held *take_held(struct nr_table *t, uint32_t i, int side) {
    struct held *h = held_of(t, i, side);
    uint32_t at = t->held_free;
    if (h != NULL) {
        return h;
    }
    if (at != NIL) {
        t->held_free = t->held[at].next_free;
    } else if (t->held_fresh < t->held_capacity) {
        at = t->held_fresh++;
    } else {
        return NULL;
    }
    t->held[at].used = 0;
    nr_extra_take(t, i)->side[side].held = at;
    t->flows[i].stream[side].holds = true;
    return &t->held[at];
}

static void remove_range(struct held *h, uint32_t n) {
    h->used--;
    for (; n < h->used; n++) {
        h->range[n] = h->range[n + 1];
    }
}

/* Moves `delivered` over the ranges that it has reached. */
static void deliver_ranges(struct nr_table *t, uint32_t i, int side) {
    struct stream *s = &t->flows[i].stream[side];
    struct held *h = held_of(t, i, side);
    if (h == NULL) {
        return;
    }
    while (h->used > 0 && h->range[0].start <= s->delivered) {
        s->delivered = h->range[0].end > s->delivered ? h->range[0].end : s->delivered;
        remove_range(h, 0);
    }
    if (h->used == 0) {
        nr_stream_end(t, i, side);
    }
}

/* Adds start..end to the ranges, in order and merged. Returns whether any of it is new. If there
 * are too many ranges, the last one grows over the hole, which is then not reported. */
static bool add_range(struct held *h, int64_t start, int64_t end) {
    uint32_t n = 0;
    bool is_new = true;
    while (n < h->used && h->range[n].end < start) {
        n++;
    }
    while (n < h->used && h->range[n].start <= end) {
        is_new = is_new && !(h->range[n].start <= start && h->range[n].end >= end);
        start = h->range[n].start < start ? h->range[n].start : start;
        end = h->range[n].end > end ? h->range[n].end : end;
        remove_range(h, n);
    }
    if (h->used == MAX_HELD) {
        n = n == MAX_HELD ? n - 1 : n;
        h->range[n].start = h->range[n].start < start ? h->range[n].start : start;
        h->range[n].end = h->range[n].end > end ? h->range[n].end : end;
        return is_new;
    }
    for (uint32_t j = h->used; j > n; j--) {
        h->range[j] = h->range[j - 1];
    }
    h->range[n].start = start;
    h->range[n].end = end;
    h->used++;
    return is_new;
}

void nr_stream_data(struct nr_table *t, uint32_t i, int side, int64_t at, uint32_t length,
                    bool late) {
    struct stream *s = &t->flows[i].stream[side];
    const int64_t end = at + length;
    bool is_new = end > s->delivered;
    if (is_new && at <= s->delivered) {
        s->delivered = end;
        deliver_ranges(t, i, side);
    } else if (is_new && !s->given_up) {
        struct held *h = take_held(t, i, side);
        is_new = h == NULL || add_range(h, at, end);
        if (h != NULL && s->acked <= 1 &&
            h->range[h->used - 1].end - s->delivered > BEYOND_UNACKED) {
            s->given_up = true;
            nr_stream_end(t, i, side);
        }
    }
    if (late) {
        struct extra_side *x = &nr_extra_take(t, i)->side[side];
        *(is_new ? &x->out_of_order : &x->retransmitted) += 1;
    }
}

uint32_t nr_stream_acked(struct nr_table *t, uint32_t i, int side, int64_t at, bool reports) {
    struct stream *s = &t->flows[i].stream[side];
    uint32_t gaps = 0;
    if (s->fin_seen && at >= nr_extra(t, i)->side[side].fin) {
        at = nr_extra(t, i)->side[side].fin - 1;
    }
    while (!s->given_up && s->delivered < at) {
        const struct held *h = held_of(t, i, side);
        const bool more = h != NULL && h->range[0].start < at;
        const int64_t until = more ? h->range[0].start : at;
        if (reports) {
            nr_extra_take(t, i)->side[side].missing += (uint64_t)(until - s->delivered);
            gaps++;
        }
        s->delivered = until;
        deliver_ranges(t, i, side);
    }
    s->delivered = at > s->delivered ? at : s->delivered;
    return gaps;
}

void nr_stream_rebase(struct nr_table *t, uint32_t i, int side) {
    struct stream *s = &t->flows[i].stream[side];
    struct extra *x = nr_extra(t, i);
    struct held *h = held_of(t, i, side);
    const int64_t shift = s->last > 1 ? s->last - 1 : 0;
    s->start += (uint32_t)shift;
    s->last -= shift;
    s->acked -= shift;
    s->delivered -= shift;
    if (x != NULL) {
        x->side[side].fin -= shift;
    }
    for (uint32_t n = 0; h != NULL && n < h->used; n++) {
        h->range[n].start -= shift;
        h->range[n].end -= shift;
    }
}

uint64_t nr_stream_size(const struct stream *s, const struct stream *peer) {
    /* The side reset its own opening, because the peer acknowledged bytes never sent: these numbers
     * belong to an earlier connection. */
    if (s->previous == NR_STATE_SYN_SENT && s->state == NR_STATE_RESET &&
        peer->state == NR_STATE_INACTIVE && s->acked > 1) {
        return 0;
    }
    int64_t size = s->last > s->acked ? s->last : s->acked;
    size -= size > 0 ? 1 : 0;                /* the SYN */
    size -= size > 0 && s->fin_seen ? 1 : 0; /* the FIN */
    return size > 0 ? (uint64_t)size : 0;
}
