/* The aggregate of a capture: what all its readers have counted, in the interval and since the
 * start. One thread adds and reads; the local networks and the length of intervals may be replaced
 * from any. */
#include <sched.h>
#include <stdlib.h>

#include "aggregate/counting.h"

struct nr_aggregate {
    nr_aggregate_options options;
    struct nr_interval *each[NR_OF_COUNT];
    struct nr_local local;
    uint32_t lock; /* of `local` and `options.interval_ns` */
    uint32_t numbers[NR_TOP_MAX];
};

/* -- life -- */

static void set_local(nr_aggregate *aggregate, const nr_network *networks, uint32_t count) {
    aggregate->local.count = count < NR_MAX_LOCAL ? count : NR_MAX_LOCAL;
    memcpy(aggregate->local.network, networks, aggregate->local.count * sizeof *networks);
}

nr_aggregate *nr_aggregate_create(const nr_aggregate_options *options) {
    nr_aggregate *aggregate = calloc(1, sizeof *aggregate);
    uint64_t secret[2];
    if (aggregate == NULL) {
        return NULL;
    }
    memcpy(secret, options->hash_key, sizeof secret);
    aggregate->options = *options;
    set_local(aggregate, options->networks, options->network_count);
    for (int of = 0; of < NR_OF_COUNT; of++) {
        aggregate->each[of] = nr_interval_create(options->capacity, secret);
        if (aggregate->each[of] == NULL) {
            nr_aggregate_destroy(aggregate);
            return NULL;
        }
    }
    return aggregate;
}

void nr_aggregate_destroy(nr_aggregate *aggregate) {
    for (int of = 0; of < NR_OF_COUNT; of++) {
        nr_interval_destroy(aggregate->each[of]);
    }
    free(aggregate);
}

/* -- for the readers -- */

void nr_aggregate_read_options(nr_aggregate *aggregate, nr_aggregate_options *options) {
    *options = aggregate->options;
}

/* Held for the copy of some networks only. */
static void enter(nr_aggregate *aggregate) {
    while (__atomic_exchange_n(&aggregate->lock, 1, __ATOMIC_ACQUIRE) != 0) {
        sched_yield();
    }
}

static void leave(nr_aggregate *aggregate) {
    nr_store_release(&aggregate->lock, 0);
}

uint64_t nr_aggregate_read_local(nr_aggregate *aggregate, struct nr_local *local) {
    enter(aggregate);
    const uint64_t interval_ns = aggregate->options.interval_ns;
    local->count = aggregate->local.count;
    memcpy(local->network, aggregate->local.network, local->count * sizeof *local->network);
    leave(aggregate);
    return interval_ns;
}

void nr_aggregate_add(nr_aggregate *aggregate, const struct nr_interval *interval) {
    nr_interval_merge(aggregate->each[NR_OF_INTERVAL], interval);
}

/* -- for Python -- */

void nr_aggregate_set_local(nr_aggregate *aggregate, const nr_network *networks, uint32_t count) {
    enter(aggregate);
    set_local(aggregate, networks, count);
    leave(aggregate);
}

void nr_aggregate_set_interval(nr_aggregate *aggregate, uint64_t interval_ns) {
    enter(aggregate);
    aggregate->options.interval_ns = interval_ns;
    leave(aggregate);
}

void nr_aggregate_add_up(nr_aggregate *aggregate) {
    nr_interval_merge(aggregate->each[NR_OF_ALL], aggregate->each[NR_OF_INTERVAL]);
}

void nr_aggregate_clear(nr_aggregate *aggregate) {
    nr_interval_clear(aggregate->each[NR_OF_INTERVAL]);
}

void nr_aggregate_sums(const nr_aggregate *aggregate, uint32_t of,
                       nr_direction_sums sums[NR_DIRECTION_COUNT]) {
    memcpy(sums, aggregate->each[of]->direction, sizeof aggregate->each[of]->direction);
}

static void fill_row(const struct nr_tally *tally, uint32_t number, nr_top_row *row) {
    const struct nr_tally_entry *entry = &tally->entries[number];
    memcpy(row->packets, entry->sums.packets, sizeof row->packets);
    memcpy(row->bytes, entry->sums.bytes, sizeof row->bytes);
    row->flows = entry->sums.flows;
    row->error = entry->error;
    memcpy(row->key, nr_tally_key(tally, number), tally->key_words * sizeof(uint64_t));
}

uint32_t nr_aggregate_top(nr_aggregate *aggregate, uint32_t of, uint32_t kind, nr_top_row *rows,
                          uint32_t max) {
    const struct nr_tally *tally = &aggregate->each[of]->tally[kind];
    const uint32_t most = max < NR_TOP_MAX ? max : NR_TOP_MAX;
    const uint32_t count = nr_tally_top(tally, aggregate->numbers, most);
    for (uint32_t n = 0; n < count; n++) {
        fill_row(tally, aggregate->numbers[n], &rows[n]);
    }
    return count;
}

/* -- for tests -- */

void nr_aggregate_feed(nr_aggregate *aggregate, uint32_t kind, const uint8_t *key, uint32_t size,
                       uint64_t sent, uint64_t received) {
    uint64_t words[NR_KEY_WORDS] = {0};
    const struct nr_sums sums = {.packets = {1, 1}, .bytes = {sent, received}, .flows = 1};
    struct nr_tally *tally = &aggregate->each[NR_OF_INTERVAL]->tally[kind];
    memcpy(words, key, size < tally->key_words * 8 ? size : tally->key_words * 8);
    nr_tally_add(tally, words, tally->key_words, &sums);
}
