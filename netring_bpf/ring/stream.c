/* One direction of a TCP connection as a stream of bytes: what was sent, acknowledged, sent again,
 * out of order, and never seen. Bounded: ranges beyond a hole are few, and taken from a pool. */
#include "table.h"

/* So much beyond a hole with nothing ever acknowledged is one side of a conversation only. */
#define BEYOND_UNACKED 16384

void nr_stream_begin(struct nr_table *t, struct stream *s, uint32_t start) {
    nr_stream_end(t, s);
    s->start = start;
    s->last = s->acked = 0;
    s->delivered = 1;
    s->given_up = false;
}

int64_t nr_stream_place(const struct stream *s, uint32_t sequence, int64_t close_to) {
    return close_to + (int32_t)(sequence - (s->start + (uint32_t)close_to));
}

void nr_stream_end(struct nr_table *t, struct stream *s) {
    if (s->held != NIL) {
        t->held[s->held].next_free = t->held_free;
        t->held_free = s->held;
        s->held = NIL;
    }
}

static struct held *held_of(struct nr_table *t, struct stream *s) {
    if (s->held == NIL) {
        if (t->held_free != NIL) {
            s->held = t->held_free;
            t->held_free = t->held[s->held].next_free;
        } else if (t->held_fresh < t->held_capacity) {
            s->held = t->held_fresh++;
        } else {
            return NULL;
        }
        t->held[s->held].used = 0;
    }
    return &t->held[s->held];
}

static void remove_range(struct held *h, uint32_t i) {
    h->used--;
    for (; i < h->used; i++) {
        h->range[i] = h->range[i + 1];
    }
}

/* Moves `delivered` over the ranges that it has reached. */
static void deliver(struct nr_table *t, struct stream *s) {
    if (s->held == NIL) {
        return;
    }
    struct held *h = &t->held[s->held];
    while (h->used > 0 && h->range[0].start <= s->delivered) {
        s->delivered = h->range[0].end > s->delivered ? h->range[0].end : s->delivered;
        remove_range(h, 0);
    }
    if (h->used == 0) {
        nr_stream_end(t, s);
    }
}

/* Adds start..end, in order and merged. True if any of it is new. Where there are too many ranges
 * the last one grows over the hole, which is then not reported. */
static bool hold(struct held *h, int64_t start, int64_t end) {
    uint32_t i = 0;
    bool is_new = true;
    while (i < h->used && h->range[i].end < start) {
        i++;
    }
    while (i < h->used && h->range[i].start <= end) {
        is_new = is_new && !(h->range[i].start <= start && h->range[i].end >= end);
        start = h->range[i].start < start ? h->range[i].start : start;
        end = h->range[i].end > end ? h->range[i].end : end;
        remove_range(h, i);
    }
    if (h->used == MAX_HELD) {
        i = i == MAX_HELD ? i - 1 : i;
        h->range[i].start = h->range[i].start < start ? h->range[i].start : start;
        h->range[i].end = h->range[i].end > end ? h->range[i].end : end;
        return is_new;
    }
    for (uint32_t j = h->used; j > i; j--) {
        h->range[j] = h->range[j - 1];
    }
    h->range[i].start = start;
    h->range[i].end = end;
    h->used++;
    return is_new;
}

void nr_stream_data(struct nr_table *t, struct stream *s, int64_t at, uint32_t length, bool late) {
    const int64_t end = at + length;
    bool is_new = end > s->delivered;
    if (is_new && at <= s->delivered) {
        s->delivered = end;
        deliver(t, s);
    } else if (is_new && !s->given_up) {
        struct held *h = held_of(t, s);
        is_new = h == NULL || hold(h, at, end);
        if (h != NULL && s->acked <= 1 &&
            h->range[h->used - 1].end - s->delivered > BEYOND_UNACKED) {
            s->given_up = true;
            nr_stream_end(t, s);
        }
    }
    if (late) {
        *(is_new ? &s->out_of_order : &s->retransmitted) += 1;
    }
}

uint32_t nr_stream_acked(struct nr_table *t, struct stream *s, int64_t at, bool reports) {
    uint32_t gaps = 0;
    if (s->fin_seen && at >= s->fin) {
        at = s->fin - 1;
    }
    while (!s->given_up && s->delivered < at) {
        const bool more = s->held != NIL && t->held[s->held].range[0].start < at;
        const int64_t until = more ? t->held[s->held].range[0].start : at;
        if (reports) {
            s->missing += (uint64_t)(until - s->delivered);
            gaps++;
        }
        s->delivered = until;
        deliver(t, s);
    }
    s->delivered = at > s->delivered ? at : s->delivered;
    return gaps;
}

void nr_stream_rebase(struct nr_table *t, struct stream *s) {
    const int64_t shift = s->last > 1 ? s->last - 1 : 0;
    s->start += (uint32_t)shift;
    s->last -= shift;
    s->acked -= shift;
    s->delivered -= shift;
    s->fin -= shift;
    if (s->held != NIL) {
        struct held *h = &t->held[s->held];
        for (uint32_t i = 0; i < h->used; i++) {
            h->range[i].start -= shift;
            h->range[i].end -= shift;
        }
    }
    s->missing = 0;
    s->retransmitted = s->out_of_order = s->gaps = s->zero_windows = 0;
}

uint64_t nr_stream_size(const struct stream *s, const struct stream *peer) {
    /* An opening that its own side took back: the numbers of a lone RST tell nothing. */
    if (s->previous == NR_TCP_SYN_SENT && s->state == NR_TCP_RESET &&
        peer->state == NR_TCP_INACTIVE && s->acked <= 1) {
        return 0;
    }
    int64_t size = s->last > s->acked ? s->last : s->acked;
    size -= size > 0 ? 1 : 0;                /* the SYN */
    size -= size > 0 && s->fin_seen ? 1 : 0; /* the FIN */
    return size > 0 ? (uint64_t)size : 0;
}
