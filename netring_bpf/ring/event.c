/* What the table tells of a flow. */
#include "table.h"

#include <string.h>

static bool is_icmp(const struct nr_key *key) {
    return (key->proto == NR_PROTO_ICMP && key->family == 4) ||
           (key->proto == NR_PROTO_ICMP6 && key->family == 6);
}

static void fill_side(const struct flow *f, int side, nr_event_side *out) {
    const struct side *s = &f->side[side];
    out->packets = s->packets;
    out->bytes = s->bytes;
    out->ip_bytes = s->ip_bytes;
    out->payload = s->payload;
    out->first_ts = s->first_ts;
    out->last_ts = s->last_ts;
    out->bad_checksums = f->bad_checksums[side];
}

static void fill_stream(const struct tcp *tcp, int side, nr_event_side *out) {
    const struct stream *s = &tcp->stream[side];
    out->payload = nr_stream_size(s, &tcp->stream[side ^ 1]);
    out->rtt_ns = tcp->rtt[side];
    out->missing_bytes = s->missing;
    out->retransmitted = s->retransmitted;
    out->out_of_order = s->out_of_order;
    out->gaps = s->gaps;
    out->zero_windows = s->zero_windows;
    out->tcp_state = s->state;
}

static void fill_tunnel(const struct tunneled *tunneled, nr_event *event) {
    const struct nr_tunnel *tunnel = &tunneled->tunnel;
    if (tunnel->kind == 0) {
        return;
    }
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

void nr_emit(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason) {
    const struct flow *f = &t->flows[i];
    nr_event *event = nr_handoff_reserve(t->handoff);
    if (event == NULL) {
        return;
    }
    memset(event, 0, sizeof *event);
    event->ts = t->now;
    event->flow_id = f->id;
    event->start_ts = f->start_ts;
    fill_side(f, ORIG, &event->orig);
    fill_side(f, RESP, &event->resp);
    if (f->key.proto == NR_PROTO_TCP) {
        fill_stream(&t->tcp[i], ORIG, &event->orig);
        fill_stream(&t->tcp[i], RESP, &event->resp);
    }
    fill_key(f, event);
    if (t->tunneled != NULL) {
        fill_tunnel(&t->tunneled[i], event);
    }
    event->kind = kind;
    event->end_reason = end_reason;
    event->icmp_errors = f->icmp_errors;
    event->icmp_error_type = f->icmp_error_type;
    event->icmp_error_code = f->icmp_error_code;
    memcpy(event->history, f->history.text, f->history.length);
    fill_details(t, i, event);
}
