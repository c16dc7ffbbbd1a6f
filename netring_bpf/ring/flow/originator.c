/* Decides which side is the originator, and flips a flow when later packets disprove it. */
#include "flow/table_internal.h"

#include <string.h>

static bool is_broadcast(const struct nr_dissected *p) {
    static const uint8_t all[4] = {255, 255, 255, 255};
    const uint8_t *target = p->from_high ? p->key.low_h : p->key.high_h;
    return p->key.family == 4 && memcmp(target, all, sizeof all) == 0;
}

bool nr_flow_begins_with_answer(const struct nr_table *t, const struct nr_dissected *p) {
    const uint8_t proto = p->key.proto;
    const uint8_t opens = p->tcp_flags & (NR_FLAG_SYN | NR_FLAG_ACK);
    if (proto == NR_PROTO_TCP ? opens == NR_FLAG_SYN : proto != NR_PROTO_UDP) {
        return false;
    }
    const uint16_t source = p->from_high ? p->key.high_p : p->key.low_p;
    const uint16_t target = p->from_high ? p->key.low_p : p->key.high_p;
    if (t->directional || t->ignores_server_ports || !nr_port_is_server(proto, source) ||
        is_broadcast(p)) {
        return false;
    }
    if (!nr_port_is_server(proto, target)) {
        return true;
    }
    return proto == NR_PROTO_TCP && !(opens & NR_FLAG_SYN) && source < target;
}

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        const __typeof__(a) was = (a);                                                             \
        (a) = (b);                                                                                 \
        (b) = was;                                                                                 \
    } while (0)

void nr_flow_flip(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    struct past *past = &t->pasts[i];
    struct extra *x = nr_extra(t, i);
    struct odds *odds = nr_odds(t, i);
    f->orig_is_high = !f->orig_is_high;
    SWAP(f->side[ORIG], f->side[RESP]);
    SWAP(f->packets[ORIG], f->packets[RESP]);
    SWAP(t->flows[i].stream[ORIG], t->flows[i].stream[RESP]);
    SWAP(t->stations[i].side[ORIG], t->stations[i].side[RESP]);
    SWAP(past->first[ORIG], past->first[RESP]);
    SWAP(past->shake[ORIG], past->shake[RESP]);
    if (x != NULL) {
        SWAP(x->side[ORIG], x->side[RESP]);
    }
    if (odds != NULL) {
        SWAP(odds->side[ORIG], odds->side[RESP]);
    }
    if (t->timing != NULL) {
        SWAP(t->timing[i].side[ORIG], t->timing[i].side[RESP]);
    }
    if (t->counted != NULL) {
        nr_counted_flip(&t->counted[i]);
    }
    for (uint32_t n = 0; n < t->first_count; n++) {
        nr_first_packet *first = &t->first_packets[(size_t)i * t->first_count + n];
        first->size = -first->size;
    }
    if (f->has_tunnel) {
        nr_tunnel_flip(&t->tunneled[i].tunnel);
    }
    if (t->app != NULL) {
        nr_payload_flip(t, i);
    }
    nr_history_flip(t, i);
}

void nr_tunnel_flip(struct nr_tunnel *tunnel) {
    const struct nr_tunnel was = *tunnel;
    memcpy(tunnel->src_h, was.dst_h, sizeof was.dst_h);
    memcpy(tunnel->dst_h, was.src_h, sizeof was.src_h);
    tunnel->src_p = was.dst_p;
    tunnel->dst_p = was.src_p;
}
