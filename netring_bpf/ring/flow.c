/* Packets to flows, and flows to events: a keyed SipHash finds the entry, packet time runs the
 * timers. */
#include "table.h"

#include <string.h>

#include "siphash.h"

#define SWEEP_MAX 1024u /* flows ended or reported by one tick: it must stay short */
#define EVENT_RESERVE (NR_BATCH * NR_EVENTS_PER_FRAME)

static inline uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* -- events -- */

static void emit(struct nr_table *t, const struct flow *f, uint8_t kind, uint8_t end_reason) {
    nr_event *event = nr_handoff_reserve(t->handoff);
    if (event == NULL) {
        return;
    }
    const bool high = f->orig_is_high;
    /* ICMP's type and code are one pair for the exchange: orig carries the type. */
    const bool pair =
        (f->key.proto == 1 && f->key.family == 4) || (f->key.proto == 58 && f->key.family == 6);
    memset(event, 0, sizeof *event);
    event->ts = t->now;
    event->flow_id = f->id;
    event->first_ts = f->first_ts;
    event->last_ts = f->last_ts;
    event->orig_packets = f->side[ORIG].packets;
    event->orig_bytes = f->side[ORIG].bytes;
    event->resp_packets = f->side[RESP].packets;
    event->resp_bytes = f->side[RESP].bytes;
    memcpy(event->orig_h, high ? f->key.high_h : f->key.low_h, sizeof event->orig_h);
    memcpy(event->resp_h, high ? f->key.low_h : f->key.high_h, sizeof event->resp_h);
    event->orig_p = high && !pair ? f->key.high_p : f->key.low_p;
    event->resp_p = high && !pair ? f->key.low_p : f->key.high_p;
    event->vlan[0] = f->key.vlan[0];
    event->vlan[1] = f->key.vlan[1];
    event->icmp_id = f->key.icmp_id;
    event->family = f->key.family;
    event->proto = f->key.proto;
    event->kind = kind;
    event->end_reason = end_reason;
    memcpy(event->history, f->history, sizeof event->history);
}

/* -- entries -- */

static uint32_t bucket_of(const struct nr_table *t, const struct nr_key *key) {
    uint64_t words[sizeof *key / 8];
    memcpy(words, key, sizeof words);
    return (uint32_t)nr_siphash13(t->hash_key, words, sizeof words / 8) & t->bucket_mask;
}

static uint32_t find(const struct nr_table *t, uint32_t bucket, const struct nr_key *key) {
    for (uint32_t i = t->buckets[bucket]; i != NIL; i = t->flows[i].next_in_bucket) {
        if (memcmp(&t->flows[i].key, key, sizeof *key) == 0) {
            return i;
        }
    }
    return NIL;
}

static void end_flow(struct nr_table *t, uint32_t i, uint8_t reason) {
    struct flow *f = &t->flows[i];
    const uint64_t packets = f->side[ORIG].packets + f->side[RESP].packets;
    const uint64_t bytes = f->side[ORIG].bytes + f->side[RESP].bytes;
    uint32_t *at = &t->buckets[f->bucket];
    emit(t, f, NR_EVENT_ENDED, reason);
    while (*at != i) {
        at = &t->flows[*at].next_in_bucket;
    }
    *at = f->next_in_bucket;
    nr_list_remove(t, &t->idle[f->class], i, false);
    if (t->update_ns != 0) {
        nr_list_remove(t, &t->update, i, true);
    }
    f->next_in_bucket = t->free_head;
    t->free_head = i;
    t->live--;
    t->ended[reason]++;
    t->ended_packets += packets;
    t->ended_bytes += bytes;
    t->live_packets -= packets;
    t->live_bytes -= bytes;
}

static uint8_t end_reason_of(const struct flow *f) {
    if (f->class != CLASS_CLOSING) {
        return NR_END_IDLE;
    }
    return f->seen & SEEN_RST ? NR_END_RST : NR_END_FIN;
}

static void evict(struct nr_table *t) {
    uint32_t oldest = NIL;
    for (int c = 0; c < CLASS_COUNT; c++) {
        const uint32_t head = t->idle[c].head;
        if (head != NIL && (oldest == NIL || t->flows[head].touched < t->flows[oldest].touched)) {
            oldest = head;
        }
    }
    /* A closed flow was only waiting for stragglers: it ends as what it was. */
    end_flow(t, oldest,
             t->flows[oldest].class == CLASS_CLOSING ? end_reason_of(&t->flows[oldest])
                                                     : NR_END_EVICTED);
}

static uint32_t take_entry(struct nr_table *t) {
    uint32_t i;
    if (t->free_head == NIL && t->fresh < t->capacity) {
        return t->fresh++;
    }
    if (t->free_head == NIL) {
        evict(t);
    }
    i = t->free_head;
    t->free_head = t->flows[i].next_in_bucket;
    return i;
}

static uint32_t start_flow(struct nr_table *t, uint32_t bucket, const struct nr_dissected *p,
                           uint64_t ts) {
    const uint32_t i = take_entry(t);
    struct flow *f = &t->flows[i];
    memset(f, 0, sizeof *f);
    f->key = p->key;
    f->id = t->next_id++;
    f->first_ts = f->last_ts = ts;
    f->bucket = bucket;
    f->next_in_bucket = t->buckets[bucket];
    t->buckets[bucket] = i;
    f->orig_is_high = p->from_high != p->from_responder;
    f->class = p->key.proto == 6 ? CLASS_TCP : p->key.proto == 17 ? CLASS_UDP : CLASS_OTHER;
    nr_list_append(t, &t->idle[f->class], i, false);
    t->due = min_u64(t->due, t->now + t->idle_ns[f->class]);
    if (t->update_ns != 0) {
        f->update_at = t->now + t->update_ns;
        nr_list_append(t, &t->update, i, true);
        t->due = min_u64(t->due, f->update_at);
    }
    t->live++;
    t->peak = t->live > t->peak ? t->live : t->peak;
    t->started++;
    return i;
}

/* -- time -- */

static uint32_t sweep_idle(struct nr_table *t, uint32_t budget) {
    for (int c = 0; c < CLASS_COUNT; c++) {
        while (budget > 0 && t->idle[c].head != NIL) {
            const uint32_t i = t->idle[c].head;
            if (t->now - t->flows[i].touched < t->idle_ns[c]) {
                break;
            }
            end_flow(t, i, end_reason_of(&t->flows[i]));
            budget--;
        }
    }
    return budget;
}

static void report_updates(struct nr_table *t, uint32_t budget) {
    while (budget-- > 0 && t->update.head != NIL) {
        const uint32_t i = t->update.head;
        struct flow *f = &t->flows[i];
        if (t->now < f->update_at) {
            break;
        }
        emit(t, f, NR_EVENT_UPDATED, NR_END_NONE);
        f->update_at = t->now + t->update_ns;
        nr_list_remove(t, &t->update, i, true);
        nr_list_append(t, &t->update, i, true);
    }
}

static uint64_t next_due(const struct nr_table *t) {
    uint64_t due = UINT64_MAX;
    for (int c = 0; c < CLASS_COUNT; c++) {
        if (t->idle[c].head != NIL) {
            due = min_u64(due, t->flows[t->idle[c].head].touched + t->idle_ns[c]);
        }
    }
    if (t->update.head != NIL) {
        due = min_u64(due, t->flows[t->update.head].update_at);
    }
    return due;
}

void nr_table_tick(struct nr_table *t, uint64_t now) {
    t->now = nr_max_u64(t->now, now);
    if (NR_LIKELY(t->now < t->due)) {
        return;
    }
    /* What a batch of packets may need is left alone: a timer that finds no room runs out later,
     * an event of a packet would be lost. */
    const uint32_t room = nr_handoff_room(t->handoff);
    const uint32_t free = room > EVENT_RESERVE ? room - EVENT_RESERVE : 0;
    report_updates(t, sweep_idle(t, free < SWEEP_MAX ? free : SWEEP_MAX));
    t->due = next_due(t);
}

/* -- the packet path -- */

/* Whether the packet belongs to a flow after f: f is due to end and only the sweep has not come
 * to it, or this is a new connection on the ports of one that has closed. */
static bool is_over(const struct nr_table *t, const struct flow *f, const struct nr_dissected *p) {
    return t->now - f->touched >= t->idle_ns[f->class] ||
           (f->class == CLASS_CLOSING && (p->tcp_flags & (NR_TCP_SYN | NR_TCP_ACK)) == NR_TCP_SYN);
}

static void touch(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    if (f->class == CLASS_CLOSING) {
        return; /* its end is timed from the close: stragglers do not put it off */
    }
    f->touched = t->now;
    nr_list_remove(t, &t->idle[f->class], i, false);
    if (nr_tcp_is_closed(f)) {
        f->class = CLASS_CLOSING;
        t->due = min_u64(t->due, t->now + t->idle_ns[CLASS_CLOSING]);
    }
    nr_list_append(t, &t->idle[f->class], i, false);
}

void nr_table_packet(struct nr_table *t, const struct nr_frame *frame,
                     const struct nr_dissected *p) {
    const uint32_t bucket = bucket_of(t, &p->key);
    uint32_t i;
    nr_table_tick(t, frame->ts);
    i = find(t, bucket, &p->key);
    if (i != NIL && is_over(t, &t->flows[i], p)) {
        end_flow(t, i, end_reason_of(&t->flows[i]));
        i = NIL;
    }
    const bool is_new = i == NIL;
    if (is_new) {
        i = start_flow(t, bucket, p, frame->ts);
    }
    struct flow *f = &t->flows[i];
    const int side = p->from_high == f->orig_is_high ? ORIG : RESP;
    f->side[side].packets++;
    f->side[side].bytes += frame->len;
    t->live_packets++;
    t->live_bytes += frame->len;
    f->last_ts = nr_max_u64(f->last_ts, frame->ts);
    nr_flow_note(f, side, p);
    const bool established = p->key.proto == 6 && nr_tcp_track(f, side, p);
    touch(t, i);
    if (is_new) {
        emit(t, f, NR_EVENT_STARTED, NR_END_NONE);
    }
    if (established) {
        t->established++;
        emit(t, f, NR_EVENT_ESTABLISHED, NR_END_NONE);
    }
    if (f->class == CLASS_CLOSING && t->idle_ns[CLASS_CLOSING] == 0) {
        end_flow(t, i, end_reason_of(f));
    }
}

/* -- the end -- */

uint32_t nr_table_flush(struct nr_table *t) {
    for (int c = 0; c < CLASS_COUNT; c++) {
        while (t->idle[c].head != NIL && nr_handoff_room(t->handoff) > 0) {
            const uint32_t i = t->idle[c].head;
            end_flow(t, i, c == CLASS_CLOSING ? end_reason_of(&t->flows[i]) : NR_END_SHUTDOWN);
        }
    }
    return t->live;
}

void nr_table_account(const struct nr_table *t, nr_statistics *s) {
    s->flows_started = t->started;
    s->flows_established = t->established;
    memcpy(s->flows_ended, t->ended, sizeof s->flows_ended);
    s->flows_live = t->live;
    s->flows_peak = t->peak;
    s->ended_packets = t->ended_packets;
    s->ended_bytes = t->ended_bytes;
    s->live_packets = t->live_packets;
    s->live_bytes = t->live_bytes;
}
