/* Prefetches the memory that a batch of packets will need. In a large table most of a packet's cost
 * is waiting for memory. Each loop here requests one thing for all packets and does nothing else,
 * so the processor has many requests under way at once (docs/performance.md). */
#include "flow/slots.h"

#define LARGE 4096u /* flows: more do not fit into the cache of one core */

static void prefetch_flows(const struct nr_table *t, struct nr_dissected *const *packets,
                           uint32_t count, bool with_payload) {
    for (uint32_t n = 0; n < count; n++) {
        __builtin_prefetch(&t->slots[nr_slots_home(t, packets[n]->hash)]);
    }
    for (uint32_t n = 0; n < count; n++) {
        packets[n]->maybe = nr_slots_guess(t, packets[n]->hash);
    }
    for (uint32_t n = 0; n < count; n++) {
        if (packets[n]->maybe != NIL) {
            const struct flow *f = &t->flows[packets[n]->maybe];
            __builtin_prefetch(f, 1);
            __builtin_prefetch(&f->touched, 1);
            __builtin_prefetch(&f->stream, 1);
            __builtin_prefetch(&t->idle_links[packets[n]->maybe], 1);
            if (with_payload) {
                __builtin_prefetch(&t->insides[packets[n]->maybe], 1);
            }
        }
    }
    /* Each packet unlinks its flow from its neighbours in the idle list. */
    for (uint32_t n = 0; n < count; n++) {
        if (packets[n]->maybe != NIL) {
            const struct link link = t->idle_links[packets[n]->maybe];
            __builtin_prefetch(&t->idle_links[link.prev], 1);
            __builtin_prefetch(&t->idle_links[link.next], 1);
        }
    }
}

/* The same for flows whose payload is looked at. */
static void prefetch_readings(const struct nr_table *t, struct nr_dissected *const *packets,
                              uint32_t count) {
    uint32_t flows[NR_BATCH], reads = 0;
    for (uint32_t n = 0; n < count; n++) {
        const uint32_t i = packets[n]->payload > 0 ? packets[n]->maybe : NIL;
        if (i != NIL && reads < NR_BATCH &&
            (t->flows[i].stream[ORIG].reads || t->flows[i].stream[RESP].reads)) {
            flows[reads++] = i;
        }
    }
    for (uint32_t n = 0; n < reads; n++) {
        nr_payload_prefetch(t, flows[n]);
    }
    for (uint32_t n = 0; n < reads; n++) {
        nr_payload_prefetch_ask(t, flows[n]);
    }
}

void nr_table_prepare(struct nr_table *t, struct nr_dissected *const *packets, uint32_t count) {
    for (uint32_t n = 0; n < count; n++) {
        packets[n]->hash = nr_hash_key(&t->secret, &packets[n]->key);
    }
    if (t->live > LARGE && count > 1) {
        const bool has_readings = t->app != NULL && t->app->readings_used > 0;
        prefetch_flows(t, packets, count, has_readings || t->reads_payload);
        t->reads_payload = false;
        if (has_readings) {
            prefetch_readings(t, packets, count);
        }
    }
}
