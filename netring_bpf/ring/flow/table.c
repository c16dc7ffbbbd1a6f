/* Creates and destroys the flow table. All memory is mapped here, none on the packet path. */
#include "flow/slots.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HELD_MAX 65536u
#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_FROM (HUGE_PAGE * 8)

uint32_t nr_event_size(const nr_flow_options *options) {
    return (uint32_t)(sizeof(nr_event) + (options->packet_statistics ? sizeof(struct timing) : 0) +
                      options->first_packets * sizeof(nr_first_packet));
}

static void set_timeouts(struct nr_table *t, const nr_flow_options *options) {
    t->idle_ns[CLASS_HALF_OPEN] = options->half_open_ns;
    t->idle_ns[CLASS_CLOSING] = options->close_delay_ns;
    t->idle_ns[CLASS_TCP] = options->idle_tcp_ns;
    t->idle_ns[CLASS_UDP] = options->idle_udp_ns;
    t->idle_ns[CLASS_ICMP] = options->idle_icmp_ns;
    t->idle_ns[CLASS_OTHER] = options->idle_other_ns;
    t->classes = CLASS_PORTS + options->port_timeout_count;
    for (uint32_t i = 0; i < options->port_timeout_count; i++) {
        t->idle_ns[CLASS_PORTS + i] = options->port_timeouts[i].idle_ns;
        t->ports[i] = options->port_timeouts[i];
    }
    t->active_ns = options->active_ns;
    t->update_ns = t->kinds >> NR_EVENT_UPDATED & 1 ? options->update_ns : 0;
}

/* Maps an array of zeros. A large one asks for huge pages: in a table of many flows, TLB misses are
 * most of a packet's cost. */
static void *map_array(struct nr_table *t, size_t count, size_t size) {
    struct memory *m = &t->memory[t->memories];
    m->size = (count * size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    m->at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    if (m->at == MAP_FAILED) {
        return NULL;
    }
    if (count * size >= HUGE_FROM) {
        (void)madvise(m->at, m->size, MADV_HUGEPAGE); /* EINVAL: the kernel has none */
    }
    t->memories++;
    return m->at;
}

/* Returns false if memory runs out. nr_table_destroy unmaps what was mapped. */
static bool map_arrays(struct nr_table *t, const nr_flow_options *options) {
    const uint32_t flows = options->max_flows;
    t->held_capacity = flows < HELD_MAX ? flows : HELD_MAX;
    t->flows = map_array(t, flows, sizeof *t->flows);
    t->pasts = map_array(t, flows, sizeof *t->pasts);
    t->idle_links = map_array(t, flows, sizeof *t->idle_links);
    t->extras = map_array(t, flows, sizeof *t->extras);
    t->odds = map_array(t, flows, sizeof *t->odds);
    t->held = map_array(t, t->held_capacity, sizeof *t->held);
    t->slots = map_array(t, t->slot_groups, sizeof *t->slots);
    if (options->packet_statistics) {
        t->timing = map_array(t, flows, sizeof *t->timing);
    }
    if (options->first_packets > 0) {
        t->first_packets =
            map_array(t, (size_t)flows * options->first_packets, sizeof *t->first_packets);
    }
    if (options->decode.tunnel_depth > 0) {
        t->tunneled = map_array(t, flows, sizeof *t->tunneled);
    }
    return t->flows != NULL && t->pasts != NULL && t->idle_links != NULL && t->extras != NULL &&
           t->odds != NULL && t->held != NULL && t->slots != NULL &&
           (t->timing != NULL || !options->packet_statistics) &&
           (t->first_packets != NULL || options->first_packets == 0) &&
           (t->tunneled != NULL || options->decode.tunnel_depth == 0);
}

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff) {
    struct nr_table *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->slot_groups = nr_slot_groups(options->max_flows);
    if (!map_arrays(t, options)) {
        nr_table_destroy(t);
        return NULL;
    }
    t->handoff = handoff;
    t->kinds = options->kinds != 0 ? options->kinds : UINT32_MAX;
    t->capacity = options->max_flows;
    t->free_head = t->extra_free = t->odds_free = t->held_free = t->victim = NIL;
    t->first_count = options->first_packets;
    t->one_sided = options->one_sided != 0;
    t->directional = options->decode.directional;
    t->ignores_server_ports = options->ignore_server_ports != 0;
    t->reserve = NR_BATCH * NR_EVENTS_PER_PACKET * (1 + options->decode.tunnel_depth);
    t->reserve = t->reserve < options->event_slots / 2 ? t->reserve : options->event_slots / 2;
    t->next_id = options->first_id != 0 ? options->first_id : 1;
    t->id_step = options->id_step != 0 ? options->id_step : 1;
    t->due = UINT64_MAX;
    t->lead_count = 1; /* of 0 */
    nr_hash_seed(&t->secret, options->hash_key);
    set_timeouts(t, options);
    for (int c = 0; c < CLASS_COUNT; c++) {
        t->idle[c] = (struct list){NIL, NIL};
    }
    t->update = (struct list){NIL, NIL};
    return t;
}

void nr_table_destroy(struct nr_table *t) {
    if (t == NULL) {
        return;
    }
    for (int i = 0; i < t->memories; i++) {
        munmap(t->memory[i].at, t->memory[i].size);
    }
    free(t);
}

void nr_table_step(struct nr_table *t, int64_t lead) {
    if (t->lead_count == LEADS) {
        t->lead_count--;
        memmove(t->leads, t->leads + 1, t->lead_count * sizeof t->leads[0]);
    }
    t->leads[t->lead_count].first_id = t->next_id;
    t->leads[t->lead_count++].lead = lead;
    t->lead = lead;
}

void nr_table_set_lead(struct nr_table *t, int64_t lead) {
    t->lead = lead;
}

int64_t nr_table_lead(const struct nr_table *t) {
    return t->lead;
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
