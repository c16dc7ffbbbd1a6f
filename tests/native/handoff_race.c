/* Runs the hand-off ring and the statistics snapshot under two threads, for ThreadSanitizer. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/reader.h"

enum { RECORD = 24 + 64, FRAMES = 200000 };

static bool finished;

static void *run(void *reader) {
    const int rc = nr_reader_run(reader);
    nr_store_release(&finished, true);
    return (void *)(intptr_t)rc;
}

int main(void) {
    static nr_event events[512 + NR_TAKE_ROOM];
    const nr_flow_options options = {.half_open_ns = 1,
                                     .idle_tcp_ns = 1,
                                     .idle_udp_ns = 1,
                                     .idle_other_ns = 1,
                                     .fragment_slots = 4,
                                     .max_flows = 64,
                                     .event_slots = 1024};
    uint8_t *records = calloc(FRAMES, RECORD);
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint8_t *r = records + i * RECORD;
        const uint32_t length = 60;
        memcpy(r, &i, 8);
        memcpy(r + 8, &length, 4);
        memcpy(r + 12, &length, 4);
        r[24 + 12] = 8;
        r[24 + 14] = 0x45;
        r[24 + 17] = 46;
        r[24 + 23] = 17;
        memcpy(r + 24 + 26, &i, 4);
    }
    nr_reader *reader = nr_reader_create(&options);
    nr_statistics books;
    pthread_t thread;
    uint64_t taken = 0, last = 0, ordered = 1;
    uint32_t count, used;
    bool over;
    nr_reader_add_replay(reader, records, (uint64_t)FRAMES * RECORD);
    pthread_create(&thread, NULL, run, reader);
    do {
        over = nr_load_acquire(&finished); /* nothing is published once it is set */
        count = nr_reader_take(reader, events, 512, sizeof events, &used);
        for (uint32_t i = 0; i < count; i++) {
            ordered &= events[i].ts >= last;
            last = events[i].ts;
        }
        taken += count;
        nr_reader_statistics(reader, &books);
    } while (!over || count > 0);
    pthread_join(thread, NULL);
    /* Timers leave room for packets, so the latest flows may still be live. */
    while (nr_reader_flush(reader) > 0) {
    }
    taken += nr_reader_take(reader, events, 512, sizeof events, &used);
    nr_reader_statistics(reader, &books);
    /* Every frame is a flow of its own: it starts and it ends. */
    const bool right = ordered && books.received == FRAMES && books.events_lost == 0 &&
                       taken == 2ull * FRAMES && books.events_taken == taken;
    nr_reader_destroy(reader);
    free(records);
    puts(right ? "right" : "wrong");
    return right ? 0 : 1;
}
