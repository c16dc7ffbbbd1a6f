/* Follows a TCP connection as a bystander: its sequence numbers and Zeek's letters. tcp_state.c
 * follows the states of its two sides.
 *
 * States, their changes and letters are those of Zeek's conn.log (docs/flows.md), with two
 * exceptions. A simultaneous open (RFC 9293, 3.5) is one connection, and a RST outside all windows
 * ends none. */
#include "flow/tcp.h"

#include <string.h>

/* -- sequence numbers -- */

static void begin_stream(struct nr_tcp_step *s, uint32_t start, int64_t last) {
    nr_stream_begin(s->table, s->i, s->side, start);
    s->self->last = last;
}

static void begin_sender_stream(struct nr_tcp_step *s) {
    const uint32_t sequence = s->packet->tcp_seq;
    switch (s->self->state) {
    case NR_STATE_INACTIVE:
        if (s->syn) {
            begin_stream(s, sequence, s->occupies);
        } else {
            begin_stream(s, sequence - 1, 1); /* as if a SYN came before it */
        }
        break;
    case NR_STATE_SYN_SENT:
    case NR_STATE_SYN_ACK_SENT:
    case NR_STATE_ESTABLISHED:
    case NR_STATE_PARTIAL:
        if (s->syn && sequence != s->self->start &&
            !nr_tcp_is_far(s->self, nr_stream_place(s->self, sequence, s->self->last))) {
            begin_stream(s, sequence, s->occupies);
        }
        break;
    case NR_STATE_RESET:
        if (s->syn && s->self->previous == NR_STATE_INACTIVE) {
            begin_stream(s, sequence, s->occupies);
        }
        break;
    default:
        break;
    }
}

/* Moves the end of the peer's acknowledged data, unless the packet is a RST. Returns the
 * acknowledged offset, or 0 if unusable. */
static int64_t note_ack(struct nr_tcp_step *s) {
    struct stream *peer = s->peer;
    const uint32_t ack = s->packet->tcp_ack;
    if (peer->state == NR_STATE_INACTIVE) {
        nr_stream_begin(s->table, s->i, s->side ^ 1, ack - 1);
        return 1;
    }
    const int64_t at = nr_stream_place(peer, ack, peer->acked);
    if (at < 0) {
        return 0;
    }
    if (!s->rst && at > peer->acked && !(ack == 0 && at - peer->acked > NR_FAR_AWAY)) {
        if (peer->acked == 0 && peer->shake == SHAKE_SENT) {
            const uint64_t sent = nr_shake(s->table, s->i, s->side ^ 1);
            nr_note_shake(s->table, s->i, s->side ^ 1, SHAKE_ANSWERED,
                          s->ts > sent ? s->ts - sent : 0);
        }
        peer->acked = at;
    }
    return at;
}

/* Moves the end of the sender's data. Returns whether this data came after later data. */
static bool note_sent(struct nr_tcp_step *s) {
    struct stream *self = s->self;
    const uint32_t end = s->packet->tcp_seq + s->occupies;
    const int32_t ahead = (int32_t)(end - (self->start + (uint32_t)self->last));
    if ((s->syn || s->rst) && (ahead > NR_FAR_AWAY || ahead < -NR_FAR_AWAY)) {
        return false;
    }
    if (s->fin && self->last == 1 && (ahead > 0 || ahead < -NR_FAR_AWAY)) {
        /* Only its SYN was seen, so the FIN may be more than 2 GiB ahead. */
        self->last += (uint32_t)ahead;
        return false;
    }
    if (self->state == NR_STATE_RESET) {
        return false;
    }
    if (ahead > 0) {
        self->last += ahead;
        return false;
    }
    return s->length > 0;
}

/* -- letters -- */

/* Writes a letter that repeats at another sequence number. `latest` is the offset, in the extra, of
 * the number that the letter was last written for. */
static void note_repeatable(struct nr_tcp_step *s, uint32_t kind, char letter, uint32_t at,
                            size_t latest) {
    struct extra_side *x = nr_tcp_extra(s);
    uint32_t before = 0;
    if (x != NULL) {
        memcpy(&before, (const uint8_t *)x + latest, sizeof before);
    }
    if (!nr_history_note(s->table, s->i, s->side, kind, letter) && at != before) {
        nr_history_add(s->table, s->i, s->side, letter);
    }
    if (at != before) {
        memcpy((uint8_t *)nr_tcp_take_extra(s, s->side) + latest, &at, sizeof at);
    }
}

/* A connection that began with a SYN+ACK may be a scan by its sender. Data or an acknowledgement
 * shows that it is none, and that the SYN was missed: the sides are exchanged. */
static void flip_if_syn_was_missed(struct nr_tcp_step *s) {
    if (s->flips && nr_history_is_lone_answer(s->table, s->i)) {
        nr_tcp_flip(s);
        nr_history_correct_answer(s->table, s->i);
        s->flow->stream[ORIG].begun = true;
    }
}

static void note_letters(struct nr_tcp_step *s) {
    const uint32_t at = (uint32_t)s->at;
    if (s->syn + s->fin + s->rst > 1) {
        const bool end_twice = s->fin && s->rst;
        nr_history_note(s->table, s->i, s->side, end_twice ? SEEN_FIN_RST : SEEN_MULTI_FLAG,
                        end_twice ? 'I' : 'Q');
    } else if (s->syn) {
        note_repeatable(s, SEEN_SYN, s->ack ? 'H' : 'S', at, offsetof(struct extra_side, last_syn));
    } else if (s->fin) {
        note_repeatable(s, SEEN_FIN, 'F', at + s->length, offsetof(struct extra_side, last_fin));
    } else if (s->rst) {
        note_repeatable(s, SEEN_RST, 'R', at, offsetof(struct extra_side, last_rst));
    } else if (s->length > 0) {
        flip_if_syn_was_missed(s);
        nr_history_note(s->table, s->i, s->side, SEEN_DATA, 'D');
    } else if (s->ack) {
        flip_if_syn_was_missed(s);
        nr_history_note(s->table, s->i, s->side, SEEN_ACK, 'A');
    }
}

static void count_letter(struct nr_tcp_step *s, int side, char letter, uint32_t *count) {
    ++*count;
    nr_history_count(s->table, s->i, side, letter, *count);
}

static void note_window(struct nr_tcp_step *s) {
    if (s->packet->window == 0 && !s->rst && s->peer->state != NR_STATE_CLOSED &&
        s->self->state != NR_STATE_RESET) {
        count_letter(s, s->side, 'W', &nr_tcp_take_extra(s, s->side)->zero_windows);
    }
}

/* -- the packet -- */

static void note_beginning(struct nr_tcp_step *s) {
    if (s->side == ORIG && !s->self->begun) {
        s->flow->partial = !s->syn || s->ack;
    } else if (s->side == RESP && !s->self->begun && !s->flow->partial) {
        s->flow->partial = !s->syn;
    }
}

static void note_flags(struct nr_tcp_step *s) {
    if (s->syn) {
        s->self->syn_seen = true;
        if (s->self->shake == SHAKE_NONE) {
            nr_note_shake(s->table, s->i, s->side, SHAKE_SENT, s->ts);
        } else if (s->self->shake == SHAKE_SENT) {
            s->self->shake = SHAKE_SENT_TWICE; /* nobody knows which one was answered */
        }
    }
    if (s->fin) {
        s->self->fin_seen = true;
        nr_tcp_take_extra(s, s->side)->fin = s->at + s->occupies;
    }
}

static void note_data(struct nr_tcp_step *s, bool late) {
    if (s->length > 0 && !s->rst && s->at >= 0) {
        nr_stream_data(s->table, s->i, s->side, s->syn ? s->at + 1 : s->at, s->length, late);
    } else if (late) {
        nr_tcp_take_extra(s, s->side)->retransmitted++;
    }
}

static void note_acked(struct nr_tcp_step *s, int64_t acked) {
    const int other = s->side ^ 1;
    if (acked <= 0 || (acked <= 2 && s->flow->partial)) {
        return;
    }
    uint32_t gaps = nr_stream_acked(s->table, s->i, other, acked,
                                    nr_tcp_is_clean(s->peer) && nr_tcp_is_clean(s->self));
    while (gaps-- > 0) {
        count_letter(s, other, 'G', &nr_tcp_take_extra(s, other)->gaps);
    }
}

static bool completes_handshake(const struct nr_tcp_step *s) {
    const struct stream *orig = &s->flow->stream[ORIG], *resp = &s->flow->stream[RESP];
    if (s->flow->established || !orig->syn_seen || !resp->syn_seen || orig->acked < 1 ||
        resp->acked < 1) {
        return false;
    }
    s->flow->established = true;
    return true;
}

/* Handles most packets in a few steps: the next segment, or an acknowledgement, of a connection
 * with nothing missing. The effect is that of follow_packet(), but for the letter. Returns false
 * for any other packet. */
static bool take_next_segment(struct flow *f, int side, const struct nr_dissected *p) {
    struct stream *self = &f->stream[side], *peer = &f->stream[side ^ 1];
    const uint8_t marked = NR_FLAG_SYN | NR_FLAG_FIN | NR_FLAG_RST | NR_FLAG_ACK;
    if ((p->tcp_flags & marked) != NR_FLAG_ACK || !f->established ||
        self->state != NR_STATE_ESTABLISHED || peer->state != NR_STATE_ESTABLISHED ||
        p->window == 0 || p->tcp_ack == 0 || self->holds || peer->holds ||
        self->delivered != self->last || self->given_up ||
        p->tcp_seq != self->start + (uint32_t)self->last) {
        return false;
    }
    const int64_t acked = nr_stream_place(peer, p->tcp_ack, peer->acked);
    if (acked < 0 || acked > peer->delivered) {
        return false;
    }
    self->last += p->payload;
    self->delivered = self->last;
    peer->acked = acked > peer->acked ? acked : peer->acked;
    return true;
}

static int follow_step(struct nr_tcp_step *s) {
    int64_t acked = 0;
    note_beginning(s);
    begin_sender_stream(s);
    s->at = nr_stream_place(s->self, s->packet->tcp_seq, s->self->last);
    nr_tcp_weigh(s);
    note_letters(s);
    note_window(s);
    if (NR_LIKELY(!s->is_elsewhere)) {
        note_flags(s);
    } else {
        s->fin = false;
    }
    if (s->ack && !s->acks_elsewhere) {
        acked = note_ack(s);
    }
    const bool late = !s->is_elsewhere && note_sent(s);
    if (late) {
        const struct extra_side *x = nr_tcp_extra(s);
        const uint32_t repeats = x != NULL ? x->retransmitted + x->out_of_order : 0;
        nr_history_count(s->table, s->i, s->side, 'T', repeats + 1);
    }
    const bool closes = nr_tcp_next_state(s);
    note_acked(s, acked);
    if (NR_LIKELY(!s->is_elsewhere)) {
        note_data(s, late);
    }
    s->self->begun = true;
    if (closes) {
        s->self->closed = true;
    }
    return completes_handshake(s) ? NR_STEP_HANDSHAKE_DONE : NR_STEP_CHANGED;
}

static __attribute__((noinline)) int note_first_letter(struct nr_table *t, uint32_t i, int side,
                                                       const struct nr_dissected *p) {
    const bool has_data = p->payload > 0;
    nr_history_note(t, i, side, has_data ? SEEN_DATA : SEEN_ACK, has_data ? 'D' : 'A');
    return NR_STEP_SAME;
}

/* Not inlined: it needs more registers, which most packets would save and restore. */
static __attribute__((noinline)) int follow_packet(struct nr_table *t, uint32_t i, int side,
                                                   const struct nr_dissected *p, uint64_t ts) {
    const uint8_t flags = p->tcp_flags;
    struct nr_tcp_step s = {
        .table = t,
        .flow = &t->flows[i],
        .packet = p,
        .ts = ts,
        .i = i,
        .was_orig = side == ORIG,
        .syn = flags & NR_FLAG_SYN,
        .fin = flags & NR_FLAG_FIN,
        .rst = flags & NR_FLAG_RST,
        .ack = flags & NR_FLAG_ACK,
        .flips = !t->directional,
        .length = p->payload,
    };
    nr_tcp_look_from(&s, side);
    s.occupies = (s.rst ? 0 : s.length) + (s.syn ? 1u : 0u) + (s.fin ? 1u : 0u);
    return follow_step(&s);
}

int nr_tcp_packet(struct nr_table *t, uint32_t i, int side, const struct nr_dissected *p,
                  uint64_t ts) {
    const struct flow *f = &t->flows[i];
    if (NR_UNLIKELY(!take_next_segment(&t->flows[i], side, p))) {
        return follow_packet(t, i, side, p, ts);
    }
    if (NR_UNLIKELY(!nr_history_has(f, side, p->payload > 0 ? SEEN_DATA : SEEN_ACK))) {
        return note_first_letter(t, i, side, p);
    }
    return NR_STEP_SAME;
}

bool nr_tcp_take_lone_syn(struct nr_table *t, uint32_t i, const struct nr_dissected *p) {
    struct flow *f = &t->flows[i];
    struct stream *self = &f->stream[ORIG];
    const uint8_t marked = NR_FLAG_SYN | NR_FLAG_FIN | NR_FLAG_RST | NR_FLAG_ACK;
    if ((p->tcp_flags & marked) != NR_FLAG_SYN || p->payload > 0 || p->window == 0) {
        return false;
    }
    self->start = p->tcp_seq;
    self->last = self->delivered = 1;
    self->state = NR_STATE_SYN_SENT;
    self->shake = SHAKE_SENT; /* sent at the flow's start */
    self->syn_seen = self->begun = true;
    nr_history_open(t, i);
    return true;
}
