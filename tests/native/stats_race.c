/* Hands intervals over while another thread replaces the local networks, for the sanitizers. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/reader.h"

enum { RECORD = 24 + 64, FRAMES = 60000, INTERVAL = 100 };

static bool finished;

static void *run(void *reader) {
    const int rc = nr_reader_run(reader);
    nr_store_release(&finished, true);
    return (void *)(intptr_t)rc;
}

static void *move_around(void *aggregate) {
    for (uint8_t n = 0; !nr_load_acquire(&finished); n++) {
        const nr_network networks[2] = {{{n}, 4, 8}, {{n, n}, 4, 16}};
        nr_aggregate_set_local(aggregate, networks, 1 + n % 2);
    }
    return NULL;
}

/* Makes a datagram of two addresses that follow from the number, at that time. */
static void make_frame(uint8_t *r, uint64_t number) {
    const uint32_t length = 60, host = (uint32_t)number % 500;
    memcpy(r, &number, 8);
    memcpy(r + 8, &length, 4);
    memcpy(r + 12, &length, 4);
    r[24 + 12] = 8;
    r[24 + 14] = 0x45;
    r[24 + 17] = 46;
    r[24 + 23] = 17;
    memcpy(r + 24 + 26, &host, 4);
}

static uint64_t sum_of(const nr_direction_sums sums[NR_DIRECTION_COUNT], bool bytes) {
    uint64_t all = 0;
    for (int d = 0; d < NR_DIRECTION_COUNT; d++) {
        all += bytes ? sums[d].bytes : sums[d].packets;
    }
    return all;
}

int main(void) {
    static nr_event events[512 + NR_TAKE_ROOM];
    const nr_aggregate_options wanted = {.interval_ns = INTERVAL, .capacity = 64};
    nr_flow_options options = {.half_open_ns = 1000,
                               .idle_tcp_ns = 1000,
                               .idle_udp_ns = 1000,
                               .idle_other_ns = 1000,
                               .fragment_slots = 4,
                               .max_flows = 256,
                               .event_slots = 1024};
    uint8_t *records = calloc(FRAMES, RECORD);
    for (uint64_t i = 0; i < FRAMES; i++) {
        make_frame(records + i * RECORD, i + 1);
    }
    nr_aggregate *aggregate = options.aggregate = nr_aggregate_create(&wanted);
    nr_reader *reader = nr_reader_create(&options);
    nr_direction_sums sums[NR_DIRECTION_COUNT];
    nr_interval_span span;
    pthread_t reading, moving;
    uint64_t intervals = 0, exact = 1, before = 0;
    uint32_t used;
    bool over;
    nr_reader_add_replay(reader, records, (uint64_t)FRAMES * RECORD);
    pthread_create(&reading, NULL, run, reader);
    pthread_create(&moving, NULL, move_around, aggregate);
    do {
        over = nr_load_acquire(&finished);
        while (nr_reader_take(reader, events, 512, sizeof events, &used) > 0) {
        }
        if (nr_reader_take_interval(reader, &span)) {
            nr_aggregate_add_up(aggregate);
            nr_aggregate_sums(aggregate, NR_OF_INTERVAL, sums);
            nr_aggregate_clear(aggregate);
            /* A frame each nanosecond; the first interval begins with the first of them. */
            exact &= sum_of(sums, false) == span.end - span.start && span.start >= before;
            before = span.end;
            intervals++;
            over = false;
        }
    } while (!over);
    pthread_join(reading, NULL);
    pthread_join(moving, NULL);
    while (nr_reader_flush(reader) > 0) {
        (void)nr_reader_take(reader, events, 512, sizeof events, &used);
    }
    nr_reader_take_last_interval(reader, &span);
    nr_aggregate_add_up(aggregate);
    nr_aggregate_sums(aggregate, NR_OF_ALL, sums);
    const bool right = exact && intervals == FRAMES / INTERVAL && sum_of(sums, false) == FRAMES &&
                       sum_of(sums, true) == 60ull * FRAMES;
    nr_reader_destroy(reader);
    nr_aggregate_destroy(aggregate);
    free(records);
    puts(right ? "right" : "wrong");
    return right ? 0 : 1;
}
