/* The flow table's life: all memory is taken here, none on the packet path. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff) {
    struct nr_table *t = calloc(1, sizeof *t);
    uint32_t buckets = 16;
    if (t == NULL) {
        return NULL;
    }
    while (buckets < options->max_flows) {
        buckets <<= 1;
    }
    t->flows = calloc(options->max_flows, sizeof *t->flows);
    t->buckets = malloc(buckets * sizeof *t->buckets);
    if (t->flows == NULL || t->buckets == NULL) {
        nr_table_destroy(t);
        return NULL;
    }
    memset(t->buckets, 0xff, buckets * sizeof *t->buckets); /* NIL */
    t->handoff = handoff;
    t->bucket_mask = buckets - 1;
    t->capacity = options->max_flows;
    t->free_head = NIL;
    t->idle_ns[CLASS_TCP] = options->idle_tcp_ns;
    t->idle_ns[CLASS_UDP] = options->idle_udp_ns;
    t->idle_ns[CLASS_OTHER] = options->idle_other_ns;
    t->idle_ns[CLASS_CLOSING] = options->close_delay_ns;
    t->update_ns = options->update_ns;
    t->next_id = 1;
    memcpy(t->hash_key, options->hash_key, sizeof t->hash_key);
    for (int c = 0; c < CLASS_COUNT; c++) {
        t->idle[c] = (struct list){NIL, NIL};
    }
    t->update = (struct list){NIL, NIL};
    t->due = UINT64_MAX;
    return t;
}

void nr_table_destroy(struct nr_table *t) {
    if (t == NULL) {
        return;
    }
    free(t->flows);
    free(t->buckets);
    free(t);
}
