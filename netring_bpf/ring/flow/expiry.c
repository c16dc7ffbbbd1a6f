/* Ends flows by packet time: idle ones, and one to make room for another. Reports the periodic
 * updates. Each call handles a bounded number. */
#include "flow/slots.h"

#define NS_PER_MS 1000000u

/* -- the end of a flow -- */

/* Flows end one after the other: prefetches the records of those behind this one. */
static void prefetch_next(const struct nr_table *t, uint32_t i) {
    const uint32_t next = t->idle_links[i].next;
    if (next != NIL) {
        const uint32_t second = t->idle_links[next].next;
        nr_payload_prefetch_end(t, next);
        if (second != NIL) {
            __builtin_prefetch(&t->insides[second], 1);
        }
    }
}

static void end_flow(struct nr_table *t, uint32_t i, uint32_t hash, uint8_t reason) {
    const struct flow *f = &t->flows[i];
    const uint64_t packets = nr_flow_packets(t, i, ORIG) + nr_flow_packets(t, i, RESP);
    const uint64_t bytes = f->side[ORIG].bytes + f->side[RESP].bytes;
    if (t->app != NULL) {
        prefetch_next(t, i);
        nr_payload_end(t, i);
    }
    if (t->counted != NULL) {
        nr_flow_count_last(t, i);
    }
    nr_emit(t, i, NR_EVENT_ENDED, reason);
    if (t->app != NULL) {
        nr_payload_free(t, i);
    }
    if (f->has_extra) {
        nr_stream_end(t, i, ORIG);
        nr_stream_end(t, i, RESP);
        nr_extra_free(t, i);
    }
    nr_slots_remove(t, hash, i);
    nr_list_remove(t, &t->idle[f->class], i, false);
    if (t->update_ns != 0) {
        nr_list_remove(t, &t->update, i, true);
    }
    t->idle_links[i].next = t->free_head;
    t->free_head = i;
    t->live--;
    t->ended[reason]++;
    t->ended_packets += packets;
    t->ended_bytes += bytes;
    t->live_packets -= packets;
    t->live_bytes -= bytes;
}

void nr_flow_end(struct nr_table *t, uint32_t i, uint8_t reason) {
    if (t->victim == i) {
        t->victim = NIL;
    }
    end_flow(t, i, nr_hash_key(&t->secret, &t->flows[i].key), reason);
}

uint8_t nr_flow_end_reason(const struct nr_table *t, uint32_t i) {
    if (t->flows[i].class != CLASS_CLOSING) {
        return NR_END_IDLE;
    }
    return nr_tcp_was_reset(&t->flows[i]) ? NR_END_RST : NR_END_FIN;
}

static uint32_t oldest_flow(const struct nr_table *t) {
    uint32_t oldest = NIL;
    for (uint32_t c = CLASS_CLOSING; c < t->classes; c++) {
        const uint32_t head = t->idle[c].head;
        if (head != NIL && (oldest == NIL || t->flows[head].touched < t->flows[oldest].touched)) {
            oldest = head;
        }
    }
    return oldest;
}

/* Prefetches the slot of the next flow to evict, because under a flood each packet evicts one. */
static void prefetch_victim(struct nr_table *t) {
    t->victim = t->idle[CLASS_HALF_OPEN].head;
    if (t->victim != NIL) {
        t->victim_hash = nr_hash_key(&t->secret, &t->flows[t->victim].key);
        __builtin_prefetch(&t->slots[nr_slots_home(t, t->victim_hash)], 1);
    }
}

/* Evicts the oldest unanswered opening, so that a flood of openings pushes no other flow out. If
 * there is none, evicts the least recently used flow. A closed flow was only waiting for
 * stragglers: it ends with the reason of its close. */
void nr_flow_evict(struct nr_table *t) {
    const uint32_t half_open = t->idle[CLASS_HALF_OPEN].head;
    if (half_open == NIL) {
        const uint32_t oldest = oldest_flow(t);
        const bool is_over = t->flows[oldest].class == CLASS_CLOSING;
        nr_flow_end(t, oldest, is_over ? nr_flow_end_reason(t, oldest) : NR_END_EVICTED);
        return;
    }
    const bool known = half_open == t->victim;
    end_flow(t, half_open,
             known ? t->victim_hash : nr_hash_key(&t->secret, &t->flows[half_open].key),
             NR_END_EVICTED);
    prefetch_victim(t);
}

/* -- time -- */

/* Ends a flow by a timer, and returns what is left of the budget of events. */
static uint32_t end_by_timer(struct nr_table *t, uint32_t i, uint8_t reason, uint32_t budget) {
    const uint64_t before = t->handoff->produced;
    t->app_left = budget - 1 < NR_APP_EVENTS ? budget - 1 : NR_APP_EVENTS;
    nr_flow_end(t, i, reason);
    const uint64_t made = t->handoff->produced - before;
    return budget - (made > 1 ? (uint32_t)made : 1);
}

static uint32_t sweep_idle(struct nr_table *t, uint32_t budget) {
    const uint32_t least = t->app != NULL ? NR_APP_EVENTS : 0;
    for (uint32_t c = 0; c < t->classes; c++) {
        while (budget > least && t->idle[c].head != NIL) {
            const uint32_t i = t->idle[c].head;
            if (t->now - t->flows[i].touched < t->idle_ns[c]) {
                break;
            }
            budget = end_by_timer(t, i, nr_flow_end_reason(t, i), budget);
        }
    }
    return budget;
}

void nr_flow_schedule_update(struct nr_table *t, uint32_t i) {
    const uint64_t at = t->now + t->update_ns;
    t->flows[i].update_ms = (uint32_t)((at + NS_PER_MS - 1) / NS_PER_MS);
    nr_list_append(t, &t->update, i, true);
    t->due = nr_min_u64(t->due, at);
}

/* Returns the time until the flow's next report; 0: the report is due. */
static uint64_t until_update(const struct nr_table *t, uint32_t i) {
    const uint32_t now_ms = (uint32_t)(t->now / NS_PER_MS);
    const int32_t left = (int32_t)(t->flows[i].update_ms - now_ms);
    return left > 0 ? (uint64_t)left * NS_PER_MS - t->now % NS_PER_MS : 0;
}

static void report_updates(struct nr_table *t, uint32_t budget) {
    while (budget-- > 0 && t->update.head != NIL) {
        const uint32_t i = t->update.head;
        if (until_update(t, i) > 0) {
            break;
        }
        nr_emit(t, i, NR_EVENT_UPDATED, NR_END_NONE);
        nr_list_remove(t, &t->update, i, true);
        nr_flow_schedule_update(t, i);
    }
}

static uint64_t next_due(const struct nr_table *t) {
    uint64_t due = UINT64_MAX;
    for (uint32_t c = 0; c < t->classes; c++) {
        if (t->idle[c].head != NIL) {
            due = nr_min_u64(due, t->flows[t->idle[c].head].touched + t->idle_ns[c]);
        }
    }
    if (t->update.head != NIL) {
        due = nr_min_u64(due, t->now + until_update(t, t->update.head));
    }
    if (t->wait != NULL && t->counting != NULL) {
        due = nr_min_u64(due, t->counting->due);
    }
    return due;
}

/* Runs the timers that are due. Kept out of line, so that nr_table_tick() stays short. */
static __attribute__((noinline)) void run_timers(struct nr_table *t) {
    if (t->wait != NULL && t->counting != NULL && t->now >= t->counting->due) {
        nr_table_end_interval(t);
    }
    /* Timers leave the room that a batch of packets may need. A timer without room runs later, but
     * a packet without room would lose its event. */
    const uint32_t room = nr_handoff_room(t->handoff);
    uint32_t free = room > t->reserve ? room - t->reserve : 0;
    if (t->app != NULL) {
        const uint32_t texts = nr_handoff_text_room(t->handoff);
        const uint32_t kept = nr_handoff_text_kept(t->handoff);
        const uint32_t fit = texts > kept ? (texts - kept) / NR_RECORD_SIZE : 0;
        free = free < fit ? free : fit;
    }
    report_updates(t, sweep_idle(t, free < NR_SWEEP_MAX ? free : NR_SWEEP_MAX));
    t->due = next_due(t);
    t->app_left = NR_APP_EVENTS; /* of the next frame */
}

void nr_table_tick(struct nr_table *t, uint64_t now) {
    t->now = nr_max_u64(t->now, now);
    t->app_left = NR_APP_EVENTS;
    if (NR_UNLIKELY(t->now >= t->due)) {
        run_timers(t);
    }
}

uint64_t nr_table_now(const struct nr_table *t) {
    return t->now;
}

void nr_table_advance(struct nr_table *t, uint64_t ns) {
    nr_table_tick(t, t->now + ns);
}

/* Returns whether the hand-off has room for all events of a flow's end. */
static bool has_room_for_end(const struct nr_table *t) {
    const uint32_t events = t->app != NULL ? NR_APP_EVENTS + 1 : 1;
    return nr_handoff_room(t->handoff) >= events &&
           (t->app == NULL || nr_handoff_text_room(t->handoff) >= events * NR_RECORD_SIZE);
}

uint32_t nr_table_flush(struct nr_table *t) {
    for (uint32_t c = 0; c < t->classes; c++) {
        while (t->idle[c].head != NIL && has_room_for_end(t)) {
            const uint32_t i = t->idle[c].head;
            t->app_left = NR_APP_EVENTS;
            nr_flow_end(t, i, c == CLASS_CLOSING ? nr_flow_end_reason(t, i) : NR_END_SHUTDOWN);
        }
    }
    return t->live;
}
