/* What the packets of one flow tell: the letters of its history, the handshake and the close. */
#include "table.h"

static void note(struct flow *f, int side, char letter, int bit) {
    const uint16_t mask = (uint16_t)(1u << (bit * 2 + side));
    if (f->history_seen & mask) {
        return;
    }
    f->history_seen |= mask;
    /* Six letters on two sides: never more than twelve. */
    f->history[f->history_length++] = side == ORIG ? letter : (char)(letter + ('a' - 'A'));
}

void nr_flow_note(struct flow *f, int side, const struct nr_dissected *p) {
    const uint8_t flags = p->tcp_flags;
    if (f->key.proto == 6) {
        if (flags & NR_TCP_SYN) {
            note(f, side, flags & NR_TCP_ACK ? 'H' : 'S', flags & NR_TCP_ACK ? 1 : 0);
        }
        if (p->payload == 0 && (flags & (NR_TCP_SYN | NR_TCP_FIN | NR_TCP_RST)) == 0) {
            note(f, side, 'A', 2);
        }
    }
    if (p->payload > 0) {
        note(f, side, 'D', 3);
    }
    if (f->key.proto == 6) {
        if (flags & NR_TCP_FIN) {
            note(f, side, 'F', 4);
        }
        if (flags & NR_TCP_RST) {
            note(f, side, 'R', 5);
        }
    }
}

bool nr_tcp_track(struct flow *f, int side, const struct nr_dissected *p) {
    const uint8_t flags = p->tcp_flags;
    bool established = false;
    if (flags & NR_TCP_SYN) {
        f->syn_seq[side] = p->tcp_seq;
        if (side == ORIG && !(flags & NR_TCP_ACK)) {
            f->seen |= SEEN_SYN;
        } else if (side == RESP && flags & NR_TCP_ACK && f->seen & SEEN_SYN) {
            f->seen |= SEEN_SYNACK;
        }
    } else if (side == ORIG && flags & NR_TCP_ACK && !(flags & NR_TCP_RST) &&
               (f->seen & (SEEN_SYNACK | SEEN_ESTABLISHED)) == SEEN_SYNACK &&
               p->tcp_ack - f->syn_seq[RESP] - 1 < 1u << 31) {
        f->seen |= SEEN_ESTABLISHED;
        established = true;
    }
    if (flags & NR_TCP_FIN) {
        f->seen |= (uint8_t)(SEEN_FIN_ORIG << side);
    }
    if (flags & NR_TCP_RST) {
        f->seen |= SEEN_RST;
    }
    return established;
}
