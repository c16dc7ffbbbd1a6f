/* Packets to flows, and flows to events: a keyed SipHash finds the entry, packet time runs the
 * timers. */
#include "table.h"

#include <string.h>

#include "siphash.h"

#define LARGE 4096u /* flows: more do not fit into the cache of one core */
#define CACHE_LINE 64u
#define SWEEP_MAX 1024u /* flows ended or reported by one tick: it must stay short */

static inline uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* -- entries -- */

static uint32_t hash_of(const struct nr_table *t, const struct nr_key *key) {
    uint64_t words[sizeof *key / 8];
    memcpy(words, key, sizeof words);
    return (uint32_t)nr_siphash13(t->hash_key, words, sizeof words / 8);
}

static uint32_t bucket_of(const struct nr_table *t, const struct nr_key *key) {
    return hash_of(t, key) & t->bucket_mask;
}

static uint32_t find(const struct nr_table *t, uint32_t bucket, const struct nr_key *key) {
    for (uint32_t i = t->buckets[bucket]; i != NIL; i = t->flows[i].next_in_bucket) {
        if (memcmp(&t->flows[i].key, key, sizeof *key) == 0) {
            return i;
        }
    }
    return NIL;
}

static bool is_tcp(const struct flow *f) {
    return f->key.proto == NR_PROTO_TCP;
}

static void end_flow(struct nr_table *t, uint32_t i, uint8_t reason) {
    struct flow *f = &t->flows[i];
    const uint64_t packets = f->side[ORIG].packets + f->side[RESP].packets;
    const uint64_t bytes = f->side[ORIG].bytes + f->side[RESP].bytes;
    uint32_t *at = &t->buckets[bucket_of(t, &f->key)];
    nr_emit(t, i, NR_EVENT_ENDED, reason);
    if (is_tcp(f)) {
        nr_tcp_end(t, &t->tcp[i]);
    }
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

static uint8_t end_reason_of(const struct nr_table *t, uint32_t i) {
    if (t->flows[i].class != CLASS_CLOSING) {
        return NR_END_IDLE;
    }
    return nr_tcp_was_reset(&t->tcp[i]) ? NR_END_RST : NR_END_FIN;
}

/* An opening that nobody has answered is the first to go: a flood of them pushes nothing else out.
 * Then the least recently used. A closed flow was only waiting for stragglers: it ends as what it
 * was. */
static void evict(struct nr_table *t) {
    uint32_t oldest = t->idle[CLASS_HALF_OPEN].head;
    if (oldest == NIL) {
        for (uint32_t c = CLASS_CLOSING; c < t->classes; c++) {
            const uint32_t head = t->idle[c].head;
            if (head != NIL &&
                (oldest == NIL || t->flows[head].touched < t->flows[oldest].touched)) {
                oldest = head;
            }
        }
    }
    end_flow(t, oldest,
             t->flows[oldest].class == CLASS_CLOSING ? end_reason_of(t, oldest) : NR_END_EVICTED);
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

/* -- who began -- */

static bool is_broadcast(const struct nr_dissected *p) {
    static const uint8_t all[4] = {255, 255, 255, 255};
    const uint8_t *target = p->from_high ? p->key.low_h : p->key.high_h;
    return p->key.family == 4 && memcmp(target, all, sizeof all) == 0;
}

/* Whether the first packet seen looks like an answer: it comes from where servers listen. */
static bool is_answer(const struct nr_table *t, const struct nr_dissected *p) {
    const uint8_t proto = p->key.proto;
    if (t->directional || (proto != NR_PROTO_TCP && proto != NR_PROTO_UDP)) {
        return false;
    }
    const uint8_t opens = p->tcp_flags & (NR_TCP_SYN | NR_TCP_ACK);
    const uint16_t source = p->from_high ? p->key.high_p : p->key.low_p;
    const uint16_t target = p->from_high ? p->key.low_p : p->key.high_p;
    if ((proto == NR_PROTO_TCP && opens == NR_TCP_SYN) || !nr_port_is_server(proto, source) ||
        is_broadcast(p)) {
        return false;
    }
    if (!nr_port_is_server(proto, target)) {
        return true;
    }
    return proto == NR_PROTO_TCP && !(opens & NR_TCP_SYN) && source < target;
}

void nr_flow_flip(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    const struct flow old = *f;
    f->orig_is_high = !old.orig_is_high;
    f->side[ORIG] = old.side[RESP];
    f->side[RESP] = old.side[ORIG];
    f->bad_checksums[ORIG] = old.bad_checksums[RESP];
    f->bad_checksums[RESP] = old.bad_checksums[ORIG];
    if (t->timing != NULL) {
        const struct timing timing = t->timing[i];
        t->timing[i].side[ORIG] = timing.side[RESP];
        t->timing[i].side[RESP] = timing.side[ORIG];
    }
    for (uint32_t n = 0; n < t->first_count; n++) {
        nr_first_packet *first = &t->first_packets[(size_t)i * t->first_count + n];
        first->size = -first->size;
    }
    if (t->tunneled != NULL) {
        struct nr_tunnel *tunnel = &t->tunneled[i].tunnel;
        const struct nr_tunnel was = *tunnel;
        memcpy(tunnel->src_h, was.dst_h, sizeof was.dst_h);
        memcpy(tunnel->dst_h, was.src_h, sizeof was.src_h);
        tunnel->src_p = was.dst_p;
        tunnel->dst_p = was.src_p;
    }
    nr_history_flip(&f->history);
}

/* -- a new flow -- */

static uint8_t class_of(const struct nr_table *t, const struct flow *f) {
    const uint16_t resp = f->orig_is_high ? f->key.low_p : f->key.high_p;
    for (uint32_t c = CLASS_PORTS; c < t->classes; c++) {
        const nr_port_timeout *port = &t->ports[c - CLASS_PORTS];
        if (port->proto == f->key.proto && port->port == resp) {
            return (uint8_t)c;
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

static void note_tunnel(struct nr_table *t, uint32_t i, const struct nr_dissected *p,
                        uint64_t parent_id) {
    if (t->tunneled == NULL || (p->tunnel.kind == 0 && t->tunneled[i].tunnel.kind == 0)) {
        return; /* and the page stays as it is */
    }
    t->tunneled[i].tunnel.kind = 0;
    if (p->tunnel.kind != 0) {
        t->tunneled[i] = (struct tunneled){.tunnel = p->tunnel, .parent_id = parent_id};
    }
}

static uint32_t start_flow(struct nr_table *t, uint32_t bucket, const struct nr_dissected *p,
                           uint64_t ts, uint64_t parent_id) {
    const uint32_t i = take_entry(t);
    struct flow *f = &t->flows[i];
    memset(f, 0, sizeof *f);
    f->key = p->key;
    f->id = t->next_id;
    t->next_id += t->id_step;
    f->start_ts = ts;
    f->touched = t->now;
    f->next_in_bucket = t->buckets[bucket];
    t->buckets[bucket] = i;
    f->exchange = p->exchange;
    f->orig_is_high = p->from_high != p->from_responder;
    if (t->timing != NULL) {
        memset(&t->timing[i], 0, sizeof t->timing[i]);
    }
    note_tunnel(t, i, p, parent_id);
    if (is_answer(t, p)) {
        nr_flow_flip(t, i);
    }
    f->home_class = f->class = class_of(t, f);
    if (is_tcp(f)) {
        nr_tcp_start(&t->tcp[i]);
    }
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

/* A flow that has lasted for active_ns ends and goes on as another one, which knows what the first
 * did of the connection. */
static uint32_t renew(struct nr_table *t, uint32_t i, uint32_t bucket, const struct nr_dissected *p,
                      uint64_t ts, uint64_t parent_id) {
    const struct flow old = t->flows[i];
    struct tcp tcp = t->tcp[i];
    t->tcp[i].stream[ORIG].held = t->tcp[i].stream[RESP].held = NIL; /* kept, not given back */
    end_flow(t, i, NR_END_ACTIVE);
    i = start_flow(t, bucket, p, ts, parent_id);
    struct flow *f = &t->flows[i];
    if (f->orig_is_high != old.orig_is_high) {
        nr_flow_flip(t, i);
    }
    memset(&f->history, 0, sizeof f->history);
    nr_list_remove(t, &t->idle[f->class], i, false);
    f->class = old.class;
    f->home_class = old.home_class;
    nr_list_append(t, &t->idle[f->class], i, false);
    if (is_tcp(f)) {
        t->tcp[i] = tcp;
        nr_stream_rebase(t, &t->tcp[i].stream[ORIG]);
        nr_stream_rebase(t, &t->tcp[i].stream[RESP]);
    }
    return i;
}

/* -- time -- */

static uint32_t sweep_idle(struct nr_table *t, uint32_t budget) {
    for (uint32_t c = 0; c < t->classes; c++) {
        while (budget > 0 && t->idle[c].head != NIL) {
            const uint32_t i = t->idle[c].head;
            if (t->now - t->flows[i].touched < t->idle_ns[c]) {
                break;
            }
            end_flow(t, i, end_reason_of(t, i));
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
        nr_emit(t, i, NR_EVENT_UPDATED, NR_END_NONE);
        f->update_at = t->now + t->update_ns;
        nr_list_remove(t, &t->update, i, true);
        nr_list_append(t, &t->update, i, true);
    }
}

static uint64_t next_due(const struct nr_table *t) {
    uint64_t due = UINT64_MAX;
    for (uint32_t c = 0; c < t->classes; c++) {
        if (t->idle[c].head != NIL) {
            due = min_u64(due, t->flows[t->idle[c].head].touched + t->idle_ns[c]);
        }
    }
    if (t->update.head != NIL) {
        due = min_u64(due, t->flows[t->update.head].update_at);
    }
    return due;
}

uint64_t nr_table_now(const struct nr_table *t) {
    return t->now;
}

void nr_table_tick(struct nr_table *t, uint64_t now) {
    t->now = nr_max_u64(t->now, now);
    if (NR_LIKELY(t->now < t->due)) {
        return;
    }
    /* What a batch of packets may need is left alone: a timer that finds no room runs out later,
     * an event of a packet would be lost. */
    const uint32_t room = nr_handoff_room(t->handoff);
    const uint32_t free = room > t->reserve ? room - t->reserve : 0;
    report_updates(t, sweep_idle(t, free < SWEEP_MAX ? free : SWEEP_MAX));
    t->due = next_due(t);
}

/* -- fetching ahead -- */

bool nr_table_is_large(const struct nr_table *t) {
    return t->live > LARGE;
}

void nr_table_prepare(struct nr_table *t, struct nr_dissected *p) {
    p->hash = hash_of(t, &p->key);
    __builtin_prefetch(&t->buckets[p->hash & t->bucket_mask]);
}

static void fetch_lines(const void *at, size_t size) {
    const uint8_t *bytes = at;
    for (size_t i = 0; i < size; i += CACHE_LINE) {
        __builtin_prefetch(bytes + i, 1);
    }
}

void nr_table_fetch(const struct nr_table *t, const struct nr_dissected *p, int step) {
    const uint32_t i = t->buckets[p->hash & t->bucket_mask];
    if (i == NIL) {
        return;
    }
    const struct flow *f = &t->flows[i];
    if (step == 0) {
        fetch_lines(f, sizeof *f);
        if (p->key.proto == NR_PROTO_TCP) {
            fetch_lines(&t->tcp[i], sizeof t->tcp[i]);
        }
        return;
    }
    /* The neighbours in the idle list, which the packet takes the flow out of. */
    if (f->idle.prev != NIL) {
        __builtin_prefetch(&t->flows[f->idle.prev].idle, 1);
    }
    if (f->idle.next != NIL) {
        __builtin_prefetch(&t->flows[f->idle.next].idle, 1);
    }
    if (f->next_in_bucket != NIL) {
        fetch_lines(&t->flows[f->next_in_bucket], sizeof *f);
    }
}

/* -- the packet path -- */

static int side_of(const struct flow *f, const struct nr_dissected *p) {
    return p->from_high == f->orig_is_high ? ORIG : RESP;
}

/* Why this flow is over for the packet, NR_END_NONE if it is not: it is due to end and only the
 * sweep has not come to it, or a new connection begins on its ports. */
static uint8_t over_for(const struct nr_table *t, uint32_t i, const struct nr_dissected *p) {
    const struct flow *f = &t->flows[i];
    if (t->now - f->touched >= t->idle_ns[f->class]) {
        return end_reason_of(t, i);
    }
    if (is_tcp(f) && !p->bad_checksum && !p->piece.later &&
        nr_tcp_is_reuse(&t->tcp[i], side_of(f, p), p)) {
        return f->class == CLASS_CLOSING ? end_reason_of(t, i) : NR_END_REUSED;
    }
    return NR_END_NONE;
}

static void move_to(struct nr_table *t, uint32_t i, uint8_t class) {
    struct flow *f = &t->flows[i];
    f->touched = t->now;
    nr_list_remove(t, &t->idle[f->class], i, false);
    f->class = class;
    nr_list_append(t, &t->idle[class], i, false);
}

static void touch(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    if (f->class == CLASS_CLOSING) {
        return; /* its end is timed from the close: stragglers do not put it off */
    }
    if (is_tcp(f) && nr_tcp_is_over(&t->tcp[i])) {
        move_to(t, i, CLASS_CLOSING);
        t->due = min_u64(t->due, t->now + t->idle_ns[CLASS_CLOSING]);
    } else if (is_tcp(f) && nr_tcp_is_half_open(&t->tcp[i])) {
        if (f->class != CLASS_HALF_OPEN) {
            move_to(t, i, CLASS_HALF_OPEN);
            t->due = min_u64(t->due, t->now + t->idle_ns[CLASS_HALF_OPEN]);
        }
    } else {
        move_to(t, i, f->home_class);
    }
}

static void count_packet(struct flow *f, int side, const struct nr_dissected *p, uint64_t ts) {
    struct side *s = &f->side[side];
    s->ip_bytes += p->ip_bytes;
    s->first_ts = s->first_ts == 0 ? ts : s->first_ts;
    s->last_ts = nr_max_u64(s->last_ts, ts);
    if (p->key.proto == NR_PROTO_UDP) {
        s->payload += p->piece.later ? 0 : p->payload; /* the header has it for all pieces */
        nr_history_note(&f->history, side, SEEN_DATA, 'D');
    } else {
        s->payload += p->payload;
    }
}

/* Counts it in the books, and nothing else of it. */
static void count_unbelieved(struct flow *f, int side) {
    nr_history_count(&f->history, side, 'C', ++f->bad_checksums[side]);
}

/* An ICMP error belongs to the flow whose packet it quotes, too. */
static void note_error(struct nr_table *t, const struct nr_dissected *p) {
    const uint32_t i = find(t, bucket_of(t, &p->quoted), &p->quoted);
    if (i != NIL) {
        t->flows[i].icmp_errors++;
        t->flows[i].icmp_error_type = p->icmp_type;
        t->flows[i].icmp_error_code = p->icmp_code;
    }
}

uint64_t nr_table_packet(struct nr_table *t, const struct nr_dissected *p, uint64_t ts,
                         uint32_t bytes, uint64_t parent_id) {
    const uint32_t bucket = p->hash & t->bucket_mask;
    bool established = false;
    uint32_t i;
    nr_table_tick(t, ts);
    i = find(t, bucket, &p->key);
    const uint8_t over = i != NIL ? over_for(t, i, p) : NR_END_NONE;
    if (over != NR_END_NONE) {
        end_flow(t, i, over);
        i = NIL;
    }
    bool is_new = i == NIL;
    if (is_new) {
        i = start_flow(t, bucket, p, ts, parent_id);
    } else if (t->active_ns != 0 && t->flows[i].class != CLASS_CLOSING &&
               t->now - min_u64(t->now, t->flows[i].start_ts) >= t->active_ns) {
        i = renew(t, i, bucket, p, ts, parent_id);
        is_new = true;
    }
    struct flow *f = &t->flows[i];
    const uint64_t id = f->id;
    int side = side_of(f, p);
    f->side[side].packets++;
    f->side[side].bytes += bytes;
    t->live_packets++;
    t->live_bytes += bytes;
    if (t->timing != NULL || t->first_count > 0) {
        nr_timing_packet(t, i, side, bytes, ts);
    }
    if (NR_UNLIKELY(p->bad_checksum)) {
        count_unbelieved(f, side);
    } else {
        count_packet(f, side, p, ts);
        if (is_tcp(f) && !p->piece.later) {
            established = nr_tcp_packet(t, i, &side, p, ts);
        }
        if (NR_UNLIKELY(p->quotes)) {
            note_error(t, p);
        }
    }
    touch(t, i);
    if (is_new) {
        nr_emit(t, i, NR_EVENT_STARTED, NR_END_NONE);
    }
    if (established) {
        t->established++;
        nr_emit(t, i, NR_EVENT_ESTABLISHED, NR_END_NONE);
    }
    if (f->class == CLASS_CLOSING && t->idle_ns[CLASS_CLOSING] == 0) {
        end_flow(t, i, end_reason_of(t, i));
    }
    return id;
}

/* -- the end -- */

uint32_t nr_table_flush(struct nr_table *t) {
    for (uint32_t c = 0; c < t->classes; c++) {
        while (t->idle[c].head != NIL && nr_handoff_room(t->handoff) > 0) {
            const uint32_t i = t->idle[c].head;
            end_flow(t, i, c == CLASS_CLOSING ? end_reason_of(t, i) : NR_END_SHUTDOWN);
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
