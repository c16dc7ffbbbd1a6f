/* The packet path of the flow table: finds or starts the flow of each packet, and accounts the
 * packet in it. */
#include "flow/slots.h"

#include <string.h>

enum { TUNNEL_CHANGES = 5 }; /* Zeek's Tunnel::max_changes_per_connection */

/* -- entries -- */

static uint32_t take_entry(struct nr_table *t) {
    uint32_t i;
    if (t->free_head == NIL && t->fresh < t->capacity) {
        return t->fresh++;
    }
    if (t->free_head == NIL) {
        nr_flow_evict(t);
    }
    i = t->free_head;
    t->free_head = t->idle_links[i].next;
    return i;
}

/* -- a new flow -- */

static uint32_t home_class_of(const struct nr_table *t, const struct flow *f) {
    const uint16_t resp = f->orig_is_high ? f->key.low_p : f->key.high_p;
    for (uint32_t c = CLASS_PORTS; c < t->classes; c++) {
        const nr_port_timeout *port = &t->ports[c - CLASS_PORTS];
        if (port->proto == f->key.proto && port->port == resp) {
            return c;
        }
    }
    switch (f->key.proto) {
    case NR_PROTO_TCP:
        return CLASS_TCP;
    case NR_PROTO_UDP:
        return CLASS_UDP;
    case NR_PROTO_ICMP:
    case NR_PROTO_ICMP6:
        return CLASS_ICMP;
    default:
        return CLASS_OTHER;
    }
}

/* Returns a number that tells the tunnel around a packet from others: the flow of a tunnel over
 * UDP, else its two ends, whichever sent the packet. 0: there is none. */
static uint64_t tunnel_number(const struct nr_dissected *p, uint64_t parent_id) {
    const struct nr_tunnel *tunnel = &p->tunnel;
    uint64_t src[2], dst[2];
    if (tunnel->kind == 0 || parent_id != 0) {
        return tunnel->kind == 0 ? 0 : parent_id;
    }
    memcpy(src, tunnel->src_h, sizeof src);
    memcpy(dst, tunnel->dst_h, sizeof dst);
    return (src[0] + dst[0]) * 31 + src[1] + dst[1] + tunnel->kind;
}

/* Marks a flow whose tunnel changes a sixth time, as Zeek does. */
static void follow_tunnel(struct nr_table *t, uint32_t i, const struct nr_dissected *p,
                          uint64_t parent_id) {
    struct tunneled *tunneled = &t->tunneled[i];
    const uint64_t number = tunnel_number(p, parent_id);
    if (number != tunneled->latest) {
        tunneled->latest = number;
        if (++tunneled->changes == TUNNEL_CHANGES + 1) {
            nr_history_mark(t, i);
        }
    }
}

/* Notes the tunnel, with its ends in the flow's order. */
NR_INLINE void note_tunnel(struct nr_table *t, uint32_t i, const struct nr_dissected *p,
                           uint64_t parent_id) {
    struct flow *f = &t->flows[i];
    f->has_tunnel = t->tunneled != NULL && p->tunnel.kind != 0;
    if (f->has_tunnel) {
        t->tunneled[i] = (struct tunneled){
            .tunnel = p->tunnel, .parent_id = parent_id, .latest = tunnel_number(p, parent_id)};
        if (p->from_high != f->orig_is_high) {
            nr_tunnel_flip(&t->tunneled[i].tunnel);
        }
    }
}

/* Notes the stations of a first packet, in the flow's order. */
NR_INLINE void note_stations(struct nr_table *t, uint32_t i, const struct nr_dissected *p) {
    struct flow *f = &t->flows[i];
    struct stations *stations = &t->stations[i];
    const struct nr_macs macs = nr_find_macs(p);
    const int side = p->from_high == f->orig_is_high ? ORIG : RESP;
    memcpy(stations->side[side].mac, macs.src, sizeof macs.src);
    memcpy(stations->side[side ^ 1].mac, macs.dst, sizeof macs.dst);
    f->stream[side].macs = p->macs_mix;
}

/* Follows the stations of a side, which the responder's first packet tells as well. */
static __attribute__((noinline)) void note_other_macs(struct nr_table *t, uint32_t i, int side,
                                                      uint16_t mix) {
    struct stream *s = &t->flows[i].stream[side];
    if (s->macs != 0) {
        nr_extra_take(t, i)->mac_changes++;
    }
    s->macs = mix;
}

static void append_to_class(struct nr_table *t, uint32_t i, uint32_t class) {
    struct flow *f = &t->flows[i];
    f->class = class & 31;
    f->touched = t->now;
    nr_list_append(t, &t->idle[class], i, false);
    t->due = nr_min_u64(t->due, t->now + t->idle_ns[class]);
}

static void begin_record(struct nr_table *t, uint32_t i, uint64_t ts) {
    nr_clear(&t->pasts[i], sizeof t->pasts[i]);
    t->pasts[i].id = t->next_id;
    t->pasts[i].start_ts = ts;
    t->next_id += t->id_step;
    t->started++;
    if (t->timing != NULL) {
        memset(&t->timing[i], 0, sizeof t->timing[i]);
    }
    if (t->counted != NULL) {
        nr_clear(&t->counted[i], sizeof t->counted[i]);
    }
}

static uint32_t start_flow(struct nr_table *t, const struct nr_dissected *p, uint64_t ts,
                           uint64_t parent_id) {
    const uint32_t i = take_entry(t);
    struct flow *f = &t->flows[i];
    nr_clear(f, sizeof *f);
    f->key = p->key;
    f->exchange = p->exchange;
    f->orig_is_high = p->from_high != p->from_responder;
    nr_slots_add(t, p->hash, i);
    begin_record(t, i, ts);
    if (t->app != NULL) {
        nr_payload_begin(t, i);
    }
    if (nr_flow_begins_with_answer(t, p)) {
        nr_flow_flip(t, i);
    }
    note_stations(t, i, p);
    note_tunnel(t, i, p, parent_id);
    f->home_class = home_class_of(t, f) & 31;
    if (t->update_ns != 0) {
        nr_flow_schedule_update(t, i);
    }
    t->live++;
    t->peak = t->live > t->peak ? t->live : t->peak;
    return i;
}

/* -- active timeout: a flow that has lasted for active_ns ends, and a new one goes on with the
 * state of its connection -- */

static void forget_counts(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    struct extra *x = nr_extra(t, i);
    memset(f->side, 0, sizeof f->side);
    memset(f->packets, 0, sizeof f->packets);
    for (int side = ORIG; side <= RESP; side++) {
        struct stream *s = &t->flows[i].stream[side];
        s->timed = false;
        if (nr_is_tcp(f)) {
            nr_stream_rebase(t, i, side);
        } else {
            s->payload = 0;
        }
        if (x != NULL) {
            struct extra_side *e = &x->side[side];
            e->missing = 0;
            e->retransmitted = e->out_of_order = e->gaps = e->zero_windows = e->bad_checksums = 0;
            e->packets_high = e->fragments = 0;
        }
    }
    if (x != NULL) {
        x->icmp_errors = x->icmp_error_type = x->icmp_error_code = 0;
        x->mac_changes = 0;
        nr_odds_clear(t, i);
    }
    nr_history_clear(t, i);
}

static void renew_flow(struct nr_table *t, uint32_t i, const struct nr_dissected *p, uint64_t ts,
                       uint64_t parent_id) {
    struct flow *f = &t->flows[i];
    const uint64_t packets = nr_flow_packets(t, i, ORIG) + nr_flow_packets(t, i, RESP);
    const uint64_t bytes = f->side[ORIG].bytes + f->side[RESP].bytes;
    const uint64_t shakes[2] = {nr_shake(t, i, ORIG), nr_shake(t, i, RESP)};
    if (t->counted != NULL) {
        nr_flow_count_last(t, i);
    }
    nr_emit(t, i, NR_EVENT_ENDED, NR_END_ACTIVE);
    t->ended[NR_END_ACTIVE]++;
    t->ended_packets += packets;
    t->ended_bytes += bytes;
    t->live_packets -= packets;
    t->live_bytes -= bytes;
    forget_counts(t, i);
    if (t->app != NULL) {
        nr_payload_renew(t, i);
    }
    const uint64_t letters = t->pasts[i].letters;
    begin_record(t, i, ts);
    t->pasts[i].letters = letters;
    for (int side = ORIG; side <= RESP; side++) {
        nr_note_shake(t, i, side, t->flows[i].stream[side].shake, shakes[side]);
    }
    f->exchange = p->exchange;
    note_stations(t, i, p);
    note_tunnel(t, i, p, parent_id);
    nr_list_remove(t, &t->idle[f->class], i, false);
    append_to_class(t, i, f->class);
    if (t->update_ns != 0) {
        nr_list_remove(t, &t->update, i, true);
        nr_flow_schedule_update(t, i);
    }
}

/* -- the packet path -- */

static int side_of(const struct flow *f, const struct nr_dissected *p) {
    return p->from_high == f->orig_is_high ? ORIG : RESP;
}

/* Returns why the flow ends before this packet, or NR_END_NONE. A flow ends if its timeout has
 * passed and the sweep has not reached it, or if the packet begins a new connection on its
 * ports. */
NR_INLINE uint8_t end_reason_for(const struct nr_table *t, uint32_t i,
                                 const struct nr_dissected *p) {
    const struct flow *f = &t->flows[i];
    if (t->now - f->touched >= t->idle_ns[f->class]) {
        return nr_flow_end_reason(t, i);
    }
    if (p->tcp_flags & NR_FLAG_SYN && nr_is_tcp(f) && !p->bad_checksum && !p->piece.later &&
        nr_tcp_is_reuse(&t->flows[i], side_of(f, p), p)) {
        return f->class == CLASS_CLOSING ? nr_flow_end_reason(t, i) : NR_END_REUSED;
    }
    return NR_END_NONE;
}

NR_INLINE void move_to_class(struct nr_table *t, uint32_t i, uint32_t class) {
    struct flow *f = &t->flows[i];
    if (f->class == class) {
        f->touched = t->now;
        if (t->idle[class].tail != i) {
            nr_list_remove(t, &t->idle[class], i, false);
            nr_list_append(t, &t->idle[class], i, false);
        }
    } else {
        nr_list_remove(t, &t->idle[f->class], i, false);
        append_to_class(t, i, class);
    }
}

/* Returns the flow's timeout class. `changed`: the state of its TCP connection has changed. */
NR_INLINE uint32_t class_now(const struct nr_table *t, uint32_t i, bool changed) {
    const struct flow *f = &t->flows[i];
    if (changed && nr_tcp_is_half_open(f)) {
        return CLASS_HALF_OPEN;
    }
    return changed && nr_tcp_is_over(f) ? CLASS_CLOSING : f->home_class;
}

NR_INLINE void touch_flow(struct nr_table *t, uint32_t i, bool changed) {
    const uint32_t before = t->flows[i].class;
    if (before == CLASS_CLOSING) {
        /* Timed from the close: stragglers do not put its end off. But if one side alone is seen,
         * the other may not have closed. */
        if (nr_tcp_is_one_way(&t->flows[i]) && !nr_tcp_was_reset(&t->flows[i])) {
            move_to_class(t, i, CLASS_CLOSING);
        }
        return;
    }
    const uint32_t class = class_now(t, i, changed);
    if (class != CLASS_HALF_OPEN || before != CLASS_HALF_OPEN) { /* timed from its first packet */
        move_to_class(t, i, class);
    }
}

/* Notes the time of a side's first packet. Returns NR_STEP_READS if the packet's payload is looked
 * at. */
static __attribute__((noinline)) int note_beginning(struct nr_table *t, uint32_t i, int side,
                                                    const struct nr_dissected *p, uint64_t ts) {
    const struct stream *s = &t->flows[i].stream[side];
    if (!s->timed) {
        nr_note_first_ts(t, i, side, ts);
    }
    return s->reads && p->payload > 0 ? NR_STEP_READS : NR_STEP_SAME;
}

/* Returns as note_beginning, which few packets need. */
NR_INLINE int count_packet(struct nr_table *t, uint32_t i, int side, bool is_first,
                           const struct nr_dissected *p, uint64_t ts) {
    int reads = 0;
    struct flow *f = &t->flows[i];
    struct stream *s = &f->stream[side];
    nr_side_add_ip(f, side, p->ip_bytes, p->tcp_flags);
    f->side[side].last_ts = nr_max_u64(f->side[side].last_ts, ts);
    if (is_first) {
        s->timed = true; /* the flow's start is its time */
    } else if (NR_UNLIKELY(!s->timed || s->reads)) {
        reads = note_beginning(t, i, side, p, ts);
    }
    if (!nr_is_tcp(f)) {
        s->payload += p->payload;
        if (f->key.proto == NR_PROTO_UDP && NR_UNLIKELY(!nr_history_has(f, side, SEEN_DATA))) {
            nr_history_note(t, i, side, SEEN_DATA, 'D');
        }
    }
    return reads;
}

/* Counts an ICMP error in the flow whose packet it quotes. */
static void note_icmp_error(struct nr_table *t, const struct nr_dissected *p) {
    const uint32_t i = nr_slots_find(t, nr_hash_key(&t->secret, &p->quoted), &p->quoted);
    if (i != NIL) {
        struct extra *x = nr_extra_take(t, i);
        x->icmp_errors++;
        x->icmp_error_type = p->icmp_type;
        x->icmp_error_code = p->icmp_code;
    }
}

/* Follows the packet's protocol. Returns NR_STEP_*. */
NR_INLINE int read_packet(struct nr_table *t, uint32_t i, int side, bool is_first,
                          const struct nr_dissected *p, uint64_t ts) {
    if (NR_UNLIKELY(p->bad_checksum)) {
        /* The packet is counted, and nothing in it is trusted. ICMP has no letters. */
        const uint32_t count = ++nr_extra_take(t, i)->side[side].bad_checksums;
        const bool is_udp = t->flows[i].key.proto == NR_PROTO_UDP;
        if (nr_is_tcp(&t->flows[i]) || is_udp) {
            nr_history_count(t, i, side, 'C', count);
        }
        return nr_is_tcp(&t->flows[i]) ? NR_STEP_CHANGED : NR_STEP_SAME;
    }
    int state = count_packet(t, i, side, is_first, p, ts);
    if (nr_is_tcp(&t->flows[i])) {
        /* A later fragment has the flags of the first: see fragments.c. */
        const bool is_segment = p->part == 0 && (!p->piece.later || p->tcp_flags != 0);
        if (NR_UNLIKELY(!is_segment || (is_first && nr_tcp_take_lone_syn(t, i, p)))) {
            return NR_STEP_CHANGED;
        }
        state |= nr_tcp_packet(t, i, side, p, ts);
    }
    if (NR_UNLIKELY(p->quotes)) {
        note_icmp_error(t, p);
    }
    return state;
}

/* Inlined into each of its two callers, so that the code for first packets costs others nothing. */
NR_INLINE int count_and_read(struct nr_table *t, uint32_t i, int side, bool is_first,
                             const struct nr_dissected *p, uint64_t ts, uint32_t bytes) {
    struct flow *f = &t->flows[i];
    if (NR_UNLIKELY(++f->packets[side] == 0)) {
        nr_extra_take(t, i)->side[side].packets_high++;
    }
    f->side[side].bytes += bytes;
    t->live_packets++;
    t->live_bytes += bytes;
    if (t->timing != NULL || t->first_count > 0) {
        nr_timing_packet(t, i, side, bytes, ts);
    }
    return read_packet(t, i, side, is_first, p, ts);
}

static void read_payload(struct nr_table *t, uint32_t i, const struct nr_dissected *p) {
    const int side = side_of(&t->flows[i], p); /* the sides may just have been exchanged */
    if (p->payload > 0 && t->flows[i].stream[side].reads) {
        nr_payload_read(t, i, side, p);
    }
}

/* Does what few packets need. */
static __attribute__((noinline)) void follow_step(struct nr_table *t, uint32_t i, int state,
                                                  const struct nr_dissected *p) {
    if ((state & NR_STEP_HANDSHAKE_DONE) == NR_STEP_HANDSHAKE_DONE) {
        t->established++;
        nr_emit(t, i, NR_EVENT_ESTABLISHED, NR_END_NONE);
    }
    if (state & NR_STEP_READS) {
        read_payload(t, i, p);
    }
}

static __attribute__((noinline)) uint32_t begin_flow(struct nr_table *t,
                                                     const struct nr_dissected *p, uint64_t ts,
                                                     uint32_t bytes, uint64_t parent_id) {
    const uint32_t i = start_flow(t, p, ts, parent_id);
    const int state = count_and_read(t, i, side_of(&t->flows[i], p), true, p, ts, bytes);
    append_to_class(t, i, class_now(t, i, state & NR_STEP_CHANGED));
    nr_emit(t, i, NR_EVENT_STARTED, NR_END_NONE);
    read_payload(t, i, p);
    return i;
}

/* Returns whether the flow has lasted for the active timeout when this packet comes. A fragment
 * that has waited comes at its own time. */
static bool has_lasted(const struct nr_table *t, uint32_t i, uint64_t ts) {
    const struct past *past = &t->pasts[i];
    uint32_t n = t->lead_count - 1;
    while (n > 0 && past->id < t->leads[n].first_id) {
        n--;
    }
    const uint64_t began = past->start_ts + (uint64_t)t->leads[n].lead;
    const uint64_t at = nr_min_u64(t->now, ts + (uint64_t)t->lead);
    return at - nr_min_u64(at, began) >= t->active_ns;
}

NR_INLINE void continue_flow(struct nr_table *t, uint32_t i, const struct nr_dissected *p,
                             uint64_t ts, uint32_t bytes, uint64_t parent_id) {
    const bool renews =
        t->active_ns != 0 && t->flows[i].class != CLASS_CLOSING && has_lasted(t, i, ts);
    if (NR_UNLIKELY(renews)) {
        renew_flow(t, i, p, ts, parent_id);
    }
    if (NR_UNLIKELY(t->flows[i].has_tunnel)) {
        follow_tunnel(t, i, p, parent_id);
    }
    const int side = side_of(&t->flows[i], p);
    if (NR_UNLIKELY(p->macs_mix != t->flows[i].stream[side].macs)) {
        note_other_macs(t, i, side, p->macs_mix);
    }
    const int state = count_and_read(t, i, side, false, p, ts, bytes);
    touch_flow(t, i, state & NR_STEP_CHANGED);
    if (NR_UNLIKELY(renews)) {
        nr_emit(t, i, NR_EVENT_STARTED, NR_END_NONE);
    }
    if (NR_UNLIKELY(state > NR_STEP_CHANGED)) {
        follow_step(t, i, state, p);
    }
}

NR_INLINE uint64_t add_packet(struct nr_table *t, const struct nr_dissected *p, uint64_t ts,
                              uint32_t bytes, uint64_t parent_id) {
    uint32_t i = nr_slots_find(t, p->hash, &p->key);
    const uint8_t over = i != NIL ? end_reason_for(t, i, p) : NR_END_NONE;
    if (NR_UNLIKELY(over != NR_END_NONE)) {
        nr_flow_end(t, i, over);
        i = NIL;
    }
    if (i == NIL) {
        i = begin_flow(t, p, ts, bytes, parent_id);
    } else {
        continue_flow(t, i, p, ts, bytes, parent_id);
    }
    const uint64_t id = p->inner.at != NULL ? t->pasts[i].id : 0;
    if (NR_UNLIKELY(t->flows[i].class == CLASS_CLOSING && t->idle_ns[CLASS_CLOSING] == 0)) {
        nr_flow_end(t, i, nr_flow_end_reason(t, i));
    }
    return id;
}

uint64_t nr_table_packet(struct nr_table *t, const struct nr_dissected *p, uint64_t ts,
                         uint32_t bytes, uint64_t parent_id) {
    nr_table_tick(t, ts + (uint64_t)t->lead);
    return add_packet(t, p, ts, bytes, parent_id);
}

uint64_t nr_table_add(struct nr_table *t, const struct nr_dissected *p, uint64_t ts, uint32_t bytes,
                      uint64_t parent_id) {
    return add_packet(t, p, ts, bytes, parent_id);
}

void nr_table_count_fragment(struct nr_table *t, const struct nr_dissected *p, bool completes) {
    const uint32_t i = nr_slots_find(t, p->hash, &p->key);
    if (i != NIL && !completes) { /* NIL: the packet has ended its flow */
        nr_extra_take(t, i)->side[side_of(&t->flows[i], p)].fragments++;
    }
}
