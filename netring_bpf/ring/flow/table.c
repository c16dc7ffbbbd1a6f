/* Creates, grows and destroys the flow table. All memory is mapped here, and none of it on the
 * packet path. */
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

/* -- memory -- */

static size_t rounded(size_t size) {
    return (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

/* Asks for huge pages for a large array: in a table of many flows, TLB misses are most of a
 * packet's cost. The whole mapping is one of them: mremap(2) moves no mapping of two kinds. */
static void ask_for_huge_pages(void *at, size_t size, bool is_sparse) {
    if (size >= HUGE_FROM && !is_sparse) {
        (void)madvise(at, rounded(size), MADV_HUGEPAGE); /* EINVAL: the kernel has none */
    }
}

/* Maps zeros, of which no page takes memory before its use. Returns NULL if the kernel refuses. */
static void *map_zeros(size_t size, bool is_sparse) {
    void *at = mmap(NULL, rounded(size), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    ask_for_huge_pages(at, size, is_sparse);
    return at;
}

/* The arrays that have an item for each flow, or several. */
static void list_arrays(struct nr_table *t, const nr_flow_options *options) {
    const struct array all[ARRAYS] = {
        {&t->flows, sizeof *t->flows, 0, false},
        {&t->pasts, sizeof *t->pasts, 0, false},
        {&t->stations, sizeof *t->stations, 0, false},
        {&t->idle_links, sizeof *t->idle_links, 0, false},
        {&t->extras, sizeof *t->extras, 0, false},
        {&t->odds, sizeof *t->odds, 0, false},
        {&t->timing, options->packet_statistics ? sizeof *t->timing : 0, 0, false},
        {&t->first_packets, options->first_packets * sizeof *t->first_packets, 0, false},
        {&t->tunneled, options->decode.tunnel_depth > 0 ? sizeof *t->tunneled : 0, 0, false},
        {&t->insides, t->app != NULL ? sizeof *t->insides : 0, 0, false},
        {t->app != NULL ? &t->app->readings : NULL, t->app != NULL ? sizeof *t->app->readings : 0,
         0, true},
        {t->app != NULL ? &t->app->cells.cells : NULL,
         t->app != NULL && !t->app->only_labels ? NR_CELLS_A_FLOW * sizeof(struct nr_cell) : 0, 0,
         false},
        {&t->counted, t->counting != NULL ? sizeof *t->counted : 0, 0, false},
    };
    memcpy(t->arrays, all, sizeof all);
}

static void *array_at(const struct array *array) {
    void *at;
    memcpy(&at, array->pointer, sizeof at);
    return at;
}

/* Makes an array as long as `flows` flows need; what it has stays. Returns false if memory runs
 * out. */
static bool extend_array(struct array *array, uint32_t flows) {
    const size_t size = (size_t)flows * array->item;
    if (size == 0 || rounded(size) <= array->size) {
        return true;
    }
    void *at = array_at(array);
    if (at == NULL) {
        at = map_zeros(size, array->is_sparse);
    } else {
        at = mremap(at, array->size, rounded(size), MREMAP_MAYMOVE);
        at = at != MAP_FAILED ? at : NULL;
        if (at != NULL) {
            ask_for_huge_pages(at, size, array->is_sparse);
        }
    }
    if (at == NULL) {
        return false;
    }
    memcpy(array->pointer, &at, sizeof at);
    array->size = rounded(size);
    return true;
}

/* Returns false if memory runs out. nr_table_destroy unmaps what was mapped. */
static bool extend_arrays(struct nr_table *t, uint32_t flows) {
    for (int i = 0; i < ARRAYS; i++) {
        if (!extend_array(&t->arrays[i], flows)) {
            return false;
        }
    }
    return true;
}

static uint32_t held_capacity_of(uint32_t flows) {
    return flows < HELD_MAX ? flows : HELD_MAX;
}

/* Tells the stores that have several items for each flow. */
static void note_capacity(struct nr_table *t, uint32_t flows) {
    t->capacity = flows;
    t->held_capacity = held_capacity_of(flows);
    if (t->app != NULL && !t->app->only_labels) {
        t->app->cells.count = flows * NR_CELLS_A_FLOW;
    }
}

/* Returns the bytes that one more flow takes at most. */
static size_t flow_size(const struct nr_table *t) {
    size_t size = sizeof(struct slots) / 5 + 1;
    for (int i = 0; i < ARRAYS; i++) {
        size += t->arrays[i].item;
    }
    return size;
}

/* Returns to how many flows the table may grow. */
static uint32_t limit_of(const struct nr_table *t, const nr_flow_options *options) {
    const uint64_t fit = options->grow_bytes / flow_size(t);
    const uint64_t most = fit < NR_MAX_FLOWS ? fit : NR_MAX_FLOWS;
    return most > options->max_flows ? (uint32_t)most : options->max_flows;
}

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff) {
    struct nr_table *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->counting = options->aggregate != NULL ? nr_counting_create(options->aggregate) : NULL;
    if ((options->aggregate != NULL && t->counting == NULL) || !nr_payload_create(t, options)) {
        nr_counting_destroy(t->counting);
        free(t);
        return NULL;
    }
    list_arrays(t, options);
    t->slot_groups = nr_slot_groups(options->max_flows);
    t->slots = map_zeros(t->slot_groups * sizeof *t->slots, false);
    t->held = map_zeros(HELD_MAX * sizeof *t->held, false);
    if (t->slots == NULL || t->held == NULL || !extend_arrays(t, options->max_flows)) {
        nr_table_destroy(t);
        return NULL;
    }
    t->handoff = handoff;
    t->kinds = options->kinds != 0 ? options->kinds : UINT32_MAX;
    note_capacity(t, options->max_flows);
    t->limit = limit_of(t, options);
    t->free_head = t->extra_free = t->odds_free = t->held_free = t->victim = t->walk = NIL;
    t->first_count = options->first_packets;
    t->one_sided = options->one_sided != 0;
    t->directional = options->decode.directional;
    t->ignores_server_ports = options->ignore_server_ports != 0;
    t->reserve =
        NR_BATCH * (NR_EVENTS_PER_PACKET * (1 + options->decode.tunnel_depth) + NR_APP_EVENTS);
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
    for (int i = 0; i < ARRAYS; i++) {
        if (t->arrays[i].size > 0) {
            munmap(array_at(&t->arrays[i]), t->arrays[i].size);
        }
    }
    if (t->slots != NULL) {
        munmap(t->slots, rounded(t->slot_groups * sizeof *t->slots));
    }
    if (t->held != NULL) {
        munmap(t->held, rounded(HELD_MAX * sizeof *t->held));
    }
    nr_app_destroy(t->app);
    nr_counting_destroy(t->counting);
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

/* -- growing -- */

/* Puts all flows into an index for `flows` flows. Returns false if memory runs out. */
static bool extend_slots(struct nr_table *t, uint32_t flows) {
    struct slots *old = t->slots;
    const uint32_t groups = t->slot_groups;
    struct slots *slots = map_zeros(nr_slot_groups(flows) * sizeof *slots, false);
    if (slots == NULL) {
        return false;
    }
    t->slots = slots;
    t->slot_groups = nr_slot_groups(flows);
    for (uint32_t group = 0; group < groups; group++) {
        for (uint32_t n = 0; n < NR_SLOTS; n++) {
            if (old[group].flow[n] != 0) {
                nr_slots_add(t, old[group].hash[n], old[group].flow[n] - 1);
            }
        }
    }
    munmap(old, rounded(groups * sizeof *old));
    return true;
}

void nr_table_make_room(struct nr_table *t, uint32_t flows) {
    if (NR_LIKELY(t->capacity - t->live >= flows) || t->capacity == t->limit) {
        return;
    }
    const uint32_t wanted = t->capacity < t->limit / 2 ? t->capacity * 2 : t->limit;
    if (!extend_arrays(t, wanted) || !extend_slots(t, wanted)) {
        t->limit = t->capacity; /* from now on a full table evicts */
        return;
    }
    note_capacity(t, wanted);
}

void nr_table_shift_ids(struct nr_table *t, uint64_t by) {
    t->next_id += by;
}

void nr_table_account(const struct nr_table *t, nr_statistics *s) {
    s->flows_started = t->started;
    s->flows_established = t->established;
    memcpy(s->flows_ended, t->ended, sizeof s->flows_ended);
    s->flows_live = t->live;
    s->flows_peak = t->peak;
    s->flows_capacity = t->capacity;
    s->ended_packets = t->ended_packets;
    s->ended_bytes = t->ended_bytes;
    s->live_packets = t->live_packets;
    s->live_bytes = t->live_bytes;
    if (t->app != NULL) {
        nr_payload_account(t, s);
    }
}
