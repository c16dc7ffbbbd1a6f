/* Keeps numbers that cannot be right out of the books of a TCP connection: those of a stray or
 * forged segment, of another connection on the same ports whose SYN was not seen, of a copy of the
 * connection behind a firewall that rewrites them.
 *
 * Numbers are elsewhere if they are more than NR_FAR_AWAY ahead of all that a side has sent, or
 * before its beginning. Such a segment is implausible: it is counted, and moves nothing. Its place
 * is kept, until another packet bears it out, with none in the known place between the two:
 *
 * - The one side sends there, and the other acknowledges it. If only this side jumped, ahead, and
 *   by no more than could have been sent since the flow's packet before, then the capture missed
 *   data: the stream goes on there.
 * - So does it if both sides have jumped, back, or too far. But then there was no data between: the
 *   stream begins anew, with the payload that it had.
 * - One side is there IN_A_ROW times, and the other is silent for longer than an answer takes. The
 *   stream begins anew.
 *
 * If a stream comes back to numbers that it has left, two copies of one connection take turns. From
 * then on one of them counts, and all segments of the other are implausible. */
#include "flow/tcp.h"

#include <string.h>

#define BYTES_PER_NS 12 /* 100 Gbit/s: no connection is faster */
#define LONGEST_NS (1ll << 40)
#define IN_A_ROW 3
#define ANSWER_NS 1000000000u /* in which an answer comes */

/* Returns how far a side may have come since the flow's packet before. */
static int64_t possible_bytes(const struct nr_tcp_step *s) {
    const uint64_t since = s->table->now - s->flow->touched;
    return NR_FAR_AWAY + (int64_t)nr_min_u64(since, LONGEST_NS) * BYTES_PER_NS;
}

static int64_t highest_of(const struct stream *y) {
    return y->last > y->acked ? y->last : y->acked;
}

/* A FIN may be the first that is seen behind the SYN, and tell how much was sent: where only such
 * segments were captured. */
static bool is_first_behind_syn(const struct nr_tcp_step *s, const struct stream *y,
                                uint32_t number) {
    return s->fin && !s->syn && y->last == 1 && number - (y->start + 1) <= possible_bytes(s);
}

static bool sends_elsewhere(const struct nr_tcp_step *s) {
    if (s->rst) {
        return false; /* tcp_state.c judges it */
    }
    if (s->syn && (s->packet->tcp_seq == s->self->start || s->self->state == NR_STATE_RESET)) {
        return false;
    }
    return nr_tcp_is_far(s->self, s->at) &&
           !is_first_behind_syn(s, s->self, s->packet->tcp_seq + s->occupies);
}

static bool acks_elsewhere(const struct nr_tcp_step *s) {
    const uint32_t ack = s->packet->tcp_ack;
    if (!s->ack || s->rst || ack == 0 || s->peer->state == NR_STATE_INACTIVE) {
        return false;
    }
    return nr_tcp_is_far(s->peer, nr_stream_place(s->peer, ack, s->peer->acked)) &&
           !is_first_behind_syn(s, s->peer, ack);
}

/* -- the place -- */

/* Returns whether the number is near the place, or ahead of it by `most` at most. */
static bool is_there(const struct elsewhere *e, uint32_t number, int64_t most) {
    return (int32_t)(number - e->next) <= most && (int32_t)(e->first - number) <= NR_FAR_AWAY;
}

/* Returns whether the acknowledgement is of what the side has sent on its way to the place. */
static bool is_on_the_way(const struct stream *y, const struct elsewhere *e, uint32_t ack) {
    return nr_stream_place(y, ack, y->last) > y->last && (int32_t)(e->next - ack) >= 0;
}

static uint64_t packets_of_both(const struct nr_tcp_step *s) {
    return nr_flow_packets(s->table, s->i, ORIG) + nr_flow_packets(s->table, s->i, RESP);
}

/* Returns the place of the side that a packet of `number` speaks of, perhaps a new one. */
static struct elsewhere *find_place(struct nr_tcp_step *s, int side, uint32_t number, bool known) {
    struct elsewhere *e = &nr_odds_take(s->table, s->i)->side[side].elsewhere;
    const struct stream *y = &s->flow->stream[side];
    if (e->at == 0 || !known) {
        const int64_t ahead = nr_stream_place(y, number, y->last) - highest_of(y);
        *e = (struct elsewhere){.first = number, .next = number};
        e->in_time = ahead > 0 && ahead <= possible_bytes(s);
        e->found_at[0] = nr_flow_packets(s->table, s->i, side);
        e->found_at[1] = nr_flow_packets(s->table, s->i, side ^ 1);
        e->found = s->table->now;
    } else if (e->at + 1 != packets_of_both(s)) {
        e->is_sent = e->is_acked = false; /* a packet came between */
    }
    e->at = packets_of_both(s);
    return e;
}

/* Counts the packets in a row of one kind and of one sender. */
static void count_row(uint16_t *row, uint64_t *latest, uint64_t packets) {
    const int before = *row > 0 && *latest + 1 == packets ? *row : 0;
    *row = (uint16_t)(before < IN_A_ROW ? before + 1 : before);
    *latest = packets;
}

/* Returns whether the packet is one of enough in a row, with nothing of the other side. `other` is
 * 0 if that is the side whose place it is, 1 if it is the peer. */
static bool is_alone(const struct nr_tcp_step *s, const struct elsewhere *e, uint16_t row,
                     int other) {
    return row >= IN_A_ROW && e->found_at[other] == nr_flow_packets(s->table, s->i, s->side ^ 1) &&
           (s->peer->state == NR_STATE_INACTIVE || s->table->now - e->found >= ANSWER_NS);
}

static void add_segment(const struct nr_tcp_step *s, struct elsewhere *e) {
    const uint32_t from = s->packet->tcp_seq, next = from + s->occupies;
    const bool is_apart = (int32_t)(from - e->next) > 0;
    const uint32_t grown = next - (is_apart ? from : e->next);
    if ((int32_t)(e->first - from) > 0) {
        e->first = from;
    }
    if ((int32_t)(next - e->next) > 0) {
        const uint32_t most = grown - (s->fin ? 1 : 0);
        const uint32_t data = most < s->length ? most : s->length;
        e->bytes += data;
        e->run = is_apart ? data : e->run + data;
        e->next = next;
        e->fin = s->fin;
    }
}

/* -- the stream goes there -- */

/* Goes on there: the capture has missed what lies between. */
static void go_on(struct nr_tcp_step *s, int side, const struct elsewhere *e) {
    struct stream *y = &s->flow->stream[side];
    y->acked = nr_stream_place(y, e->ack, y->last);
    y->last = nr_stream_place(y, e->next, y->last);
    if (e->run > 0) {
        nr_stream_data(s->table, s->i, side, y->last - (e->fin ? 1 : 0) - e->run, e->run, false);
    }
}

/* Begins anew there, with what was sent there. */
static void begin_anew(struct nr_tcp_step *s, int side, const struct elsewhere *e) {
    struct stream *y = &s->flow->stream[side];
    struct odds_side *odds = &nr_odds(s->table, s->i)->side[side];
    const uint32_t occupied = e->bytes + (e->fin ? 1 : 0);
    odds->before += nr_stream_size(y, &s->flow->stream[side ^ 1]);
    nr_stream_begin(s->table, s->i, side, e->next - occupied - 1);
    y->last = y->delivered = 1 + (int64_t)occupied;
    y->acked = e->acked > 0 ? y->last : 0;
    y->fin_seen = false;
}

static void go_there(struct nr_tcp_step *s, int side, bool is_continued) {
    struct stream *y = &s->flow->stream[side];
    struct odds *all = nr_odds(s->table, s->i);
    struct odds_side *odds = &all->side[side];
    const struct elsewhere e = odds->elsewhere;
    const uint32_t left = y->start + (uint32_t)y->last;
    const int32_t from_left = (int32_t)(e.first - odds->left);
    all->returned =
        all->returned || (odds->has_left && from_left <= NR_FAR_AWAY && from_left >= -NR_FAR_AWAY);
    odds->implausible -= e.held[0];
    all->side[side ^ 1].implausible -= e.held[1];
    if (is_continued && !e.foreign && e.in_time && y->acked > 0) {
        go_on(s, side, &e);
    } else {
        begin_anew(s, side, &e);
    }
    if (e.fin) {
        y->fin_seen = true;
        nr_tcp_take_extra(s, side)->fin = y->last;
        nr_tcp_set_state(y, NR_STATE_CLOSED);
        y->closed = true;
    }
    odds->left = left;
    odds->has_left = true;
    odds->elsewhere.at = 0;
}

/* Looks at a segment that is elsewhere. Returns whether the sender's stream is there now. */
static bool follow_segment(struct nr_tcp_step *s, bool foreign) {
    const uint32_t number = s->packet->tcp_seq;
    struct odds_side *odds = &nr_odds_take(s->table, s->i)->side[s->side];
    const bool known =
        is_there(&odds->elsewhere, number, NR_FAR_AWAY) ||
        (odds->elsewhere.acked > 0 && is_there(&odds->elsewhere, number, possible_bytes(s)));
    struct elsewhere *e = find_place(s, s->side, number, known);
    e->foreign = e->foreign || foreign;
    count_row(&e->sent, &e->sent_at, nr_flow_packets(s->table, s->i, s->side));
    if (e->is_acked || is_alone(s, e, e->sent, 1)) {
        go_there(s, s->side, e->is_acked);
        s->at = nr_stream_place(s->self, number, s->self->last);
        return true;
    }
    e->is_sent = true;
    add_segment(s, e);
    return false;
}

/* Looks at an acknowledgement that is elsewhere. Returns whether the peer's stream is there now. */
static bool follow_ack(struct nr_tcp_step *s, bool foreign) {
    const int side = s->side ^ 1;
    const uint32_t ack = s->packet->tcp_ack;
    struct odds_side *odds = &nr_odds_take(s->table, s->i)->side[side];
    const bool known = is_there(&odds->elsewhere, ack, possible_bytes(s)) ||
                       is_on_the_way(s->peer, &odds->elsewhere, ack);
    struct elsewhere *e = find_place(s, side, ack, known);
    e->foreign = e->foreign || foreign;
    e->ack = ack;
    count_row(&e->acked, &e->acked_at, nr_flow_packets(s->table, s->i, s->side));
    if (e->is_sent || is_alone(s, e, e->acked, 0)) {
        go_there(s, side, e->is_sent);
        return true;
    }
    e->is_acked = true;
    if ((int32_t)(ack - e->next) > 0) {
        e->next = ack;
        e->run = 0;
    }
    return false;
}

void nr_tcp_weigh(struct nr_tcp_step *s) {
    const bool sends = sends_elsewhere(s), acks = acks_elsewhere(s);
    if (NR_LIKELY(!sends && !acks)) {
        return;
    }
    struct odds *odds = nr_odds_take(s->table, s->i);
    const bool follows = !odds->returned;
    s->is_elsewhere = sends && !(follows && follow_segment(s, acks));
    s->acks_elsewhere = acks && !(follows && follow_ack(s, sends));
    if (s->is_elsewhere || s->acks_elsewhere) {
        odds->side[s->side].implausible++;
        if (s->is_elsewhere) {
            odds->side[s->side].elsewhere.held[0]++;
        } else {
            odds->side[s->side ^ 1].elsewhere.held[1]++;
        }
    }
    if (s->syn) {
        s->at = 0; /* it is where its own numbers begin */
    }
}

void nr_odds_clear(struct nr_table *t, uint32_t i) {
    struct odds *odds = nr_odds(t, i);
    if (odds != NULL) {
        memset(odds->side, 0, sizeof odds->side);
    }
}
