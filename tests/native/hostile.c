/* Hostile frames through the real core, for the sanitizers: `hostile SEED FRAMES`.
 *
 * Frames are mutated from good ones, cut anywhere, with a wire length that has nothing to do with
 * what was captured, and each lies at the very end of its own allocation, so that one byte read
 * too far is found. The table is small, time jumps, and the books are checked at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"
#include "source.h"

static uint64_t state;

static uint32_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static const uint8_t ETHERNET[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
static const uint16_t TYPES[] = {0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806};
static const uint8_t PROTOCOLS[] = {0, 1, 6, 17, 43, 44, 47, 51, 58, 60, 132, 255};

/* A frame that begins well, and how long it is. */
static uint32_t make(uint8_t *frame, uint32_t size) {
    uint32_t at = 12;
    uint16_t type;
    memcpy(frame, ETHERNET, sizeof ETHERNET);
    for (uint32_t i = 12; i < size; i++) {
        frame[i] = (uint8_t)(next_random() % 5 ? 0 : next_random());
    }
    do {
        type = TYPES[next_random() % 5];
        frame[at] = (uint8_t)(type >> 8);
        frame[at + 1] = (uint8_t)type;
        at += type == 0x8100 || type == 0x88a8 ? 4 : 2;
    } while ((type == 0x8100 || type == 0x88a8) && at < 60);
    frame[at] = type == 0x86dd ? 0x60 : (uint8_t)(0x45 + (next_random() % 8 == 0));
    const uint32_t total = next_random() % 4 ? size - at : next_random();
    if (type == 0x0800) {
        frame[at + 2] = (uint8_t)(total >> 8);
        frame[at + 3] = (uint8_t)total;
        frame[at + 9] = PROTOCOLS[next_random() % sizeof PROTOCOLS];
        frame[at + 20 + 12] = (uint8_t)(0x50 + (next_random() % 4 == 0 ? next_random() : 0));
    } else {
        frame[at + 4] = (uint8_t)((total - 40) >> 8);
        frame[at + 5] = (uint8_t)(total - 40);
        frame[at + 6] = PROTOCOLS[next_random() % sizeof PROTOCOLS];
    }
    for (uint32_t flips = next_random() % 4; flips > 0; flips--) {
        frame[next_random() % size] = (uint8_t)next_random();
    }
    return size;
}

static nr_flow_options options(void) {
    nr_flow_options o = {
        .idle_tcp_ns = 3000,
        .idle_udp_ns = 2000,
        .idle_other_ns = 1000,
        .close_delay_ns = next_random() % 2 ? 500 : 0,
        .update_ns = next_random() % 2 ? 700 : 0,
        .max_flows = 1 + next_random() % 200,
        .event_slots = 1024,
    };
    memcpy(o.hash_key, &state, sizeof state);
    return o;
}

static uint64_t sum(const uint64_t *values, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += values[i];
    }
    return total;
}

int main(int argc, char **argv) {
    static nr_event events[1024];
    state = argc > 1 ? strtoull(argv[1], NULL, 10) * 2654435761u + 88172645463325252u : 1;
    const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    const nr_flow_options o = options();
    struct nr_handoff handoff;
    nr_statistics books = {0};
    uint64_t clock = 1000, keyed = 0, keyed_bytes = 0, taken = 0, reasons[NR_REASON_COUNT] = {0};
    if (nr_handoff_create(&handoff, o.event_slots) != 0) {
        return 2;
    }
    struct nr_table *table = nr_table_create(&o, &handoff);
    if (table == NULL) {
        return 2;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint8_t scratch[512];
        const uint32_t size = make(scratch, 100 + next_random() % 400);
        const uint32_t caplen = next_random() % 3 ? size : next_random() % (size + 1);
        uint8_t *exact = malloc(caplen ? caplen : 1);
        memcpy(exact, scratch, caplen);
        const struct nr_frame frame = {
            .data = exact,
            .ts = clock,
            .caplen = caplen,
            .len = next_random() % 8 ? size : next_random(),
            .vlan_tci = (uint16_t)next_random(),
            .vlan_tpid = next_random() % 4 ? 0 : 0x8100,
        };
        struct nr_dissected packet;
        const int reason = nr_decode(&frame, &packet);
        reasons[reason]++;
        if (reason == NR_KEYED) {
            keyed++;
            keyed_bytes += frame.len;
            nr_table_packet(table, &frame, &packet);
        }
        free(exact);
        clock += next_random() % 50;
        if (next_random() % 64 == 0) {
            clock -= next_random() % 900;
            nr_table_tick(table, clock);
        }
        if (next_random() % 32 == 0) {
            nr_handoff_publish(&handoff);
            taken += nr_handoff_take(&handoff, events, next_random() % 1024);
        }
    }
    do {
        nr_handoff_publish(&handoff);
        taken += nr_handoff_take(&handoff, events, 1024);
    } while (nr_table_flush(table) > 0);
    nr_handoff_publish(&handoff);
    taken += nr_handoff_take(&handoff, events, 1024);
    nr_table_account(table, &books);
    const bool balanced = books.flows_live == 0 && books.live_packets == 0 &&
                          books.ended_packets == keyed && books.ended_bytes == keyed_bytes &&
                          books.flows_started == sum(books.flows_ended, NR_END_COUNT) &&
                          handoff.produced == taken + handoff.lost;
    for (int i = 0; i < NR_REASON_COUNT; i++) {
        printf("%d %" PRIu64 "\n", i, reasons[i]);
    }
    nr_table_destroy(table);
    nr_handoff_destroy(&handoff);
    puts(balanced ? "balanced" : "off");
    return balanced ? 0 : 1;
}
