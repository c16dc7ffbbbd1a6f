/* Moves the two sides of a TCP connection through Zeek's states, and answers questions about
 * them. */
#include "flow/tcp.h"

/* -- states: each returns whether the sender has closed -- */

static bool from_inactive(struct nr_tcp_step *s) {
    bool closes = false;
    if (s->syn && s->was_orig) {
        nr_tcp_set_state(s->self, s->ack ? NR_STATE_SYN_ACK_SENT : NR_STATE_SYN_SENT);
    } else if (s->syn) {
        if (!s->ack && s->peer->state == NR_STATE_SYN_ACK_SENT && s->flips) {
            /* The SYN came after its answer. */
            struct stream *answerer;
            nr_tcp_flip(s);
            answerer = s->peer;
            nr_tcp_set_state(answerer, NR_STATE_ESTABLISHED);
            s->flow->stream[ORIG].begun = true;
        }
        if (s->peer->state == NR_STATE_SYN_SENT) {
            nr_tcp_set_state(s->peer, NR_STATE_ESTABLISHED);
        }
        nr_tcp_set_state(s->self, NR_STATE_ESTABLISHED);
    }
    if (s->fin) {
        nr_tcp_set_state(s->self, NR_STATE_CLOSED);
        closes = true;
    }
    if (s->rst) {
        nr_tcp_set_state(s->self, NR_STATE_RESET);
        closes = true;
    }
    if (s->self->state != NR_STATE_INACTIVE) {
        return closes;
    }
    if (!s->was_orig && s->length == 0 && s->flow->stream[ORIG].state == NR_STATE_SYN_SENT) {
        return false; /* some hosts acknowledge the SYN before they answer it */
    }
    if (s->ack && s->peer->state == NR_STATE_ESTABLISHED) {
        nr_tcp_set_state(s->self, NR_STATE_ESTABLISHED); /* only its SYN was missed */
        s->flow->partial = false;
        s->self->begun = true;
        return false;
    }
    nr_tcp_set_state(s->self, NR_STATE_PARTIAL);
    return false;
}

static bool from_syn(struct nr_tcp_step *s) {
    if (s->fin) {
        nr_tcp_set_state(s->self, NR_STATE_CLOSED);
    }
    if (s->rst) {
        nr_tcp_set_state(s->self, NR_STATE_RESET);
    }
    return s->rst || s->fin;
}

/* Returns whether a RST is far from all that was sent, as if a third party had guessed it (RFC
 * 5961). Such a RST is counted, and changes nothing. */
static bool is_forged(struct nr_tcp_step *s) {
    const int64_t from_sent = s->at - s->self->last, from_acked = s->at - s->self->acked;
    const bool forged = s->rst && (from_sent > NR_FAR_AWAY || from_sent < -NR_FAR_AWAY) &&
                        (from_acked > NR_FAR_AWAY || from_acked < -NR_FAR_AWAY);
    if (forged) {
        nr_odds_take(s->table, s->i)->side[s->side].implausible++;
    }
    return forged;
}

static bool from_open(struct nr_tcp_step *s) {
    if (is_forged(s)) {
        return false;
    }
    if (s->syn && !s->ack && s->self->state == NR_STATE_PARTIAL &&
        s->peer->state == NR_STATE_INACTIVE) {
        nr_tcp_set_state(s->self, NR_STATE_SYN_SENT);
    }
    if (s->fin && !s->rst) {
        nr_tcp_set_state(s->self, NR_STATE_CLOSED);
        if (s->peer->state == NR_STATE_RESET && s->peer->previous == NR_STATE_CLOSED) {
            nr_tcp_set_state(s->peer, NR_STATE_CLOSED); /* a FIN, then a RST: a normal end */
        }
    }
    if (s->rst) {
        nr_tcp_set_state(s->self, NR_STATE_RESET);
    }
    return s->fin || s->rst;
}

static bool from_closed(struct nr_tcp_step *s) {
    if (s->rst && s->peer->state != NR_STATE_CLOSED && !is_forged(s)) {
        nr_tcp_set_state(s->self, NR_STATE_RESET);
        return true;
    }
    return false;
}

bool nr_tcp_next_state(struct nr_tcp_step *s) {
    switch (s->self->state) {
    case NR_STATE_INACTIVE:
        return from_inactive(s);
    case NR_STATE_SYN_SENT:
    case NR_STATE_SYN_ACK_SENT:
        return from_syn(s);
    case NR_STATE_ESTABLISHED:
    case NR_STATE_PARTIAL:
        return from_open(s);
    case NR_STATE_CLOSED:
        return from_closed(s);
    default:
        return false;
    }
}

/* -- questions -- */

bool nr_tcp_is_clean(const struct stream *s) {
    return s->state == NR_STATE_ESTABLISHED ||
           (s->state == NR_STATE_CLOSED && s->previous == NR_STATE_ESTABLISHED);
}

bool nr_tcp_is_half_open(const struct flow *flow) {
    const unsigned orig = flow->stream[ORIG].state;
    return (orig == NR_STATE_SYN_SENT || orig == NR_STATE_SYN_ACK_SENT) &&
           flow->stream[RESP].state == NR_STATE_INACTIVE &&
           !nr_history_has(flow, ORIG, SEEN_ACK | SEEN_DATA); /* it goes on: it had an answer */
}

bool nr_tcp_is_one_way(const struct flow *flow) {
    return flow->stream[ORIG].state == NR_STATE_INACTIVE ||
           flow->stream[RESP].state == NR_STATE_INACTIVE;
}

bool nr_tcp_was_reset(const struct flow *flow) {
    return flow->stream[ORIG].state == NR_STATE_RESET || flow->stream[RESP].state == NR_STATE_RESET;
}

bool nr_tcp_is_over(const struct flow *flow) {
    const struct stream *orig = &flow->stream[ORIG], *resp = &flow->stream[RESP];
    return nr_tcp_was_reset(flow) || (orig->closed && resp->closed) ||
           (orig->closed && resp->state == NR_STATE_INACTIVE) ||
           (resp->closed && orig->state == NR_STATE_INACTIVE);
}

bool nr_tcp_is_reuse(const struct flow *flow, int side, const struct nr_dissected *p) {
    const struct stream *orig = &flow->stream[ORIG], *resp = &flow->stream[RESP];
    const bool ack = p->tcp_flags & NR_FLAG_ACK;
    const struct stream *opener = ack ? resp : orig;
    if (!(p->tcp_flags & NR_FLAG_SYN) || (ack && orig->state != NR_STATE_INACTIVE)) {
        return false;
    }
    if (!orig->begun && !resp->begun) {
        return false; /* of all its packets, none could be read */
    }
    if (orig->closed || resp->closed) {
        return true;
    }
    if (p->tcp_seq == opener->start) {
        return false;
    }
    if (!ack && resp->state == NR_STATE_INACTIVE && side == RESP) {
        /* The SYN came after its answer, or both sides open at once. */
        return !(orig->state == NR_STATE_SYN_SENT ||
                 (orig->state == NR_STATE_SYN_ACK_SENT && p->tcp_seq == resp->start));
    }
    if (!ack && side == RESP && resp->syn_seen && p->tcp_seq == resp->start) {
        return false; /* its SYN, repeated */
    }
    return true;
}
