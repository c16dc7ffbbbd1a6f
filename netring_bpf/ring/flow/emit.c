/* Writes the events of flows into the hand-off. */
#include "flow/table_internal.h"

#include <string.h>

static bool is_icmp(const struct nr_key *key) {
    return (key->proto == NR_PROTO_ICMP && key->family == 4) ||
           (key->proto == NR_PROTO_ICMP6 && key->family == 6);
}

NR_INLINE void fill_side(const struct nr_table *t, uint32_t i, int side, nr_event_side *out) {
    const struct flow *f = &t->flows[i];
    const struct past *past = &t->pasts[i];
    const struct stream *s = &f->stream[side], *peer = &f->stream[side ^ 1];
    out->packets = f->packets[side];
    out->bytes = f->side[side].bytes;
    out->ip_bytes = f->side[side].ip_bytes_flags >> 8;
    if (s->timed) {
        const uint32_t first = past->first[side];
        out->first_ts =
            NR_LIKELY(first != FAR_FROM_START) ? past->start_ts + first : nr_first_ts(t, i, side);
    }
    out->last_ts = f->side[side].last_ts;
    if (!nr_is_tcp(f)) {
        out->payload = s->payload;
        return;
    }
    if (s->last > 1 || s->acked > 1) { /* more than a SYN */
        out->payload = nr_stream_size(s, peer);
    }
    if (peer->shake == SHAKE_ANSWERED) {
        out->rtt_ns = nr_shake(t, i, side ^ 1);
    }
    out->tcp_state = s->state;
    out->tcp_flags = f->side[side].ip_bytes_flags & UINT8_MAX;
}

static void fill_extra_side(const struct extra_side *x, const struct stream *s,
                            nr_event_side *out) {
    out->packets += (uint64_t)x->packets_high << 32;
    out->missing_bytes = x->missing;
    out->retransmitted = x->retransmitted;
    out->out_of_order = x->out_of_order;
    out->gaps = x->gaps;
    out->zero_windows = x->zero_windows;
    out->bad_checksums = x->bad_checksums;
    out->fragments = x->fragments;
    out->fin_acked = s->fin_seen && s->acked >= x->fin;
}

static void fill_odds_side(const struct odds_side *odds, nr_event_side *out) {
    out->payload += odds->before;
    out->implausible = odds->implausible;
}

static void fill_extra(const struct nr_table *t, uint32_t i, nr_event *event) {
    const struct extra *x = nr_extra(t, i);
    const struct flow *f = &t->flows[i];
    const struct odds *odds = nr_odds(t, i);
    if (odds != NULL) {
        fill_odds_side(&odds->side[ORIG], &event->orig);
        fill_odds_side(&odds->side[RESP], &event->resp);
    }
    fill_extra_side(&x->side[ORIG], &f->stream[ORIG], &event->orig);
    fill_extra_side(&x->side[RESP], &f->stream[RESP], &event->resp);
    event->icmp_errors = x->icmp_errors;
    event->icmp_error_type = x->icmp_error_type;
    event->icmp_error_code = x->icmp_error_code;
    event->mac_changes = x->mac_changes;
}

static void fill_stations(const struct stations *stations, nr_event *event) {
    static const struct stations none;
    memcpy(event->orig_mac, stations->side[ORIG].mac, sizeof event->orig_mac);
    memcpy(event->resp_mac, stations->side[RESP].mac, sizeof event->resp_mac);
    event->has_macs = memcmp(stations, &none, sizeof none) != 0;
}

static void fill_tunnel(const struct tunneled *tunneled, nr_event *event) {
    const struct nr_tunnel *tunnel = &tunneled->tunnel;
    memcpy(event->tunnel_orig_h, tunnel->src_h, sizeof event->tunnel_orig_h);
    memcpy(event->tunnel_resp_h, tunnel->dst_h, sizeof event->tunnel_resp_h);
    event->tunnel_orig_p = tunnel->src_p;
    event->tunnel_resp_p = tunnel->dst_p;
    event->tunnel_id = tunnel->id;
    event->tunnel_kind = tunnel->kind;
    event->tunnel_family = tunnel->family;
    event->parent_id = tunneled->parent_id;
}

static void fill_key(const struct flow *f, nr_event *event) {
    const struct nr_key *key = &f->key;
    const bool high = f->orig_is_high;
    memcpy(event->orig_h, high ? key->high_h : key->low_h, sizeof event->orig_h);
    memcpy(event->resp_h, high ? key->low_h : key->high_h, sizeof event->resp_h);
    if (is_icmp(key)) {
        event->orig_p = high ? key->high_p : key->low_p;
        event->resp_p = f->exchange ? 0 : key->high_p; /* the code */
    } else {
        event->orig_p = high ? key->high_p : key->low_p;
        event->resp_p = high ? key->low_p : key->high_p;
    }
    event->vlan[0] = key->vlan[0];
    event->vlan[1] = key->vlan[1];
    event->icmp_id = key->icmp_id;
    event->family = key->family;
    event->proto = key->proto;
    event->network = key->network;
}

static void fill_details(const struct nr_table *t, uint32_t i, nr_event *event) {
    uint8_t *behind = (uint8_t *)event + sizeof *event;
    if (t->timing != NULL) {
        memcpy(behind, &t->timing[i], sizeof t->timing[i]);
        behind += sizeof t->timing[i];
    }
    if (t->first_count > 0) {
        const uint64_t count = event->orig.packets + event->resp.packets;
        event->first_packets = (uint8_t)(count < t->first_count ? count : t->first_count);
        memcpy(behind, &t->first_packets[(size_t)i * t->first_count],
               t->first_count * sizeof *t->first_packets);
    }
}

/* Gives the event the flow's first record. */
static void fill_inside(struct nr_table *t, uint32_t i, nr_event *event) {
    const uint32_t record = t->insides[i].record;
    event->app_protocol = t->insides[i].protocol;
    if (record != 0) {
        const struct nr_cell_head head = nr_cells_head(&t->app->cells, record);
        uint8_t bytes[NR_RECORD_SIZE];
        event->app_count = head.count;
        if (nr_handoff_give_text(t->handoff, event, head.size)) {
            nr_handoff_put_text(t->handoff, bytes, nr_cells_copy(&t->app->cells, record, bytes));
        }
    }
}

/* Reserves an event of the flow, and fills what all kinds have. Returns NULL if there is no
 * room. */
static nr_event *begin_event(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason) {
    const struct flow *f = &t->flows[i];
    const struct past *past = &t->pasts[i];
    nr_event *event = nr_handoff_reserve(t->handoff);
    if (event == NULL) {
        return NULL;
    }
    memset(event, 0, t->handoff->slot_size); /* libc is faster here than inlined stores */
    event->ts = t->now;
    event->flow_id = past->id;
    event->start_ts = past->start_ts;
    fill_side(t, i, ORIG, &event->orig);
    fill_side(t, i, RESP, &event->resp);
    fill_key(f, event);
    fill_stations(&t->stations[i], event);
    event->kind = kind;
    event->end_reason = end_reason;
    event->one_sided = t->one_sided;
    nr_history_text(t, i, event->history);
    if (NR_UNLIKELY(f->has_extra)) {
        fill_extra(t, i, event);
    }
    if (NR_UNLIKELY(f->has_tunnel)) {
        fill_tunnel(&t->tunneled[i], event);
    }
    if (t->timing != NULL || t->first_count > 0) {
        fill_details(t, i, event);
    }
    return event;
}

void nr_emit(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason) {
    nr_event *event = t->kinds >> kind & 1 ? begin_event(t, i, kind, end_reason) : NULL;
    if (event != NULL && t->app != NULL) {
        fill_inside(t, i, event);
    }
}

void nr_emit_exchange(struct nr_table *t, uint32_t i, uint8_t protocol,
                      const struct nr_record *record) {
    nr_event *event = begin_event(t, i, NR_EVENT_APP, NR_END_NONE);
    if (event == NULL) {
        return;
    }
    const uint32_t kept = t->insides[i].record;
    event->app_protocol = protocol;
    event->app_count = kept != 0 ? nr_cells_head(&t->app->cells, kept).count : 0;
    if (nr_handoff_give_text(t->handoff, event, record->size)) {
        nr_handoff_put_text(t->handoff, record->bytes, record->size);
    }
}

bool nr_table_wants_neighbours(const struct nr_table *t) {
    return t->kinds >> NR_EVENT_NEIGHBOUR & 1;
}

void nr_table_tell_neighbour(struct nr_table *t, const struct nr_neighbour *neighbour,
                             const uint16_t vlan[2]) {
    nr_event *event = nr_handoff_reserve(t->handoff);
    if (event == NULL) {
        return;
    }
    memset(event, 0, t->handoff->slot_size);
    event->ts = t->now;
    event->kind = NR_EVENT_NEIGHBOUR;
    event->family = neighbour->family;
    memcpy(event->orig_h, neighbour->address, sizeof event->orig_h);
    memcpy(event->orig_mac, neighbour->mac, sizeof event->orig_mac);
    event->has_macs = true;
    event->how = neighbour->how;
    event->prefix_length = neighbour->prefix_length;
    event->vlan[0] = vlan[0];
    event->vlan[1] = vlan[1];
}
