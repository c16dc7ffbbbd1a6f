/* Sends hostile frames through the real core, for the sanitizers: `hostile SEED FRAMES`.
 *
 * Frames are mutated from good ones and cut anywhere, and their wire length has nothing to do with
 * the captured length. Each frame lies at the very end of its own allocation, so that the sanitizer
 * finds a read one byte too far. The table is small, and time jumps. The program walks the table
 * now and then, and checks the books at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/reader.h"
#include "table_check.h"
#include "tunnel_ports.h"

#define MS 1000000ull
#define TEXTS (128u * 1024)

static uint64_t state;

static uint32_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static const uint8_t ETHERNET[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
static const uint16_t TYPES[] = {0x0800, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864, 0x0806,
                                 0x893f, 0x894f, 0x4305, 0x22f3, 0x88e5, 0x6558, 0x880b};
static const uint8_t PROTOCOLS[] = {0,  1,  4,  6,  17,  41,  43,  44,  47,
                                    51, 58, 60, 97, 115, 132, 137, 143, 255};
static const uint16_t PORTS[] = {53,   80,   1701, 2152, 3544, 4341, 4754, 4789,
                                 4790, 5072, 5247, 6081, 6635, 8472, 4000};

static void put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Writes an IP packet that begins well into `size` bytes. */
static void make_ip(uint8_t *ip, uint32_t size, bool six) {
    const uint32_t header = six ? 40 : 20;
    const uint32_t total = next_random() % 4 ? size : next_random();
    const uint8_t proto = PROTOCOLS[next_random() % sizeof PROTOCOLS];
    uint8_t *next = ip + header;
    if (six) {
        ip[0] = 0x60;
        put16(ip + 4, total - 40);
        ip[6] = proto;
        memset(ip + 8, 0, 32);
        ip[23] = (uint8_t)(next_random() % 4);
    } else {
        ip[0] = (uint8_t)(0x45 + (next_random() % 8 == 0));
        put16(ip + 2, total);
        put16(ip + 4, next_random() % 8);
        put16(ip + 6, next_random() % 4 ? 0 : next_random() % 2 ? 0x2000 : next_random() % 8);
        ip[9] = proto;
        memset(ip + 12, 0, 8);
        ip[15] = (uint8_t)(next_random() % 4);
    }
    if (size < header + 40) {
        return;
    }
    if (proto == 6 || proto == 17) {
        put16(next, PORTS[next_random() % 8]);
        put16(next + 2, PORTS[next_random() % 8]);
    }
    if (proto == 17) {
        put16(next + 4, size - header);
    } else if (proto == 6) {
        next[12] = (uint8_t)(0x50 + (next_random() % 4 == 0 ? next_random() : 0));
        next[13] = (uint8_t)next_random() & 0x17;
    } else if (proto == 1 || proto == 58) {
        next[0] = (uint8_t)(next_random() % 2 ? 3 : next_random());
        make_ip(next + 8, size - header - 8, six);
    } else if (proto == 47) {
        put16(next, next_random() % 2 ? 0 : next_random() & 0xf000);
        put16(next + 2, next_random() % 2 ? 0x0800 : 0x88be);
    }
}

/* Writes a frame that begins well. */
static void make_frame(uint8_t *frame, uint32_t size) {
    uint32_t at = 12;
    uint16_t type;
    memcpy(frame, ETHERNET, sizeof ETHERNET);
    for (uint32_t i = 12; i < size; i++) {
        frame[i] = (uint8_t)(next_random() % 5 ? 0 : next_random());
    }
    do {
        type = TYPES[next_random() % 7];
        put16(frame + at, type);
        at += type == 0x8100 || type == 0x88a8 ? 4 : 2;
    } while ((type == 0x8100 || type == 0x88a8) && at < 60);
    if (type == 0x8847) {
        frame[at + 2] |= (uint8_t)(next_random() % 2);
        at += 4;
    } else if (type == 0x8864) {
        frame[at] = 0x11;
        frame[at + 1] = 0;
        put16(frame + at + 6, next_random() % 2 ? 0x0021 : 0x0057);
        at += 8;
    }
    if (at + 120 < size) {
        make_ip(frame + at, size - at, type == 0x86dd);
    }
    for (uint32_t flips = next_random() % 4; flips > 0; flips--) {
        frame[next_random() % size] = (uint8_t)next_random();
    }
}

static nr_flow_options options(void) {
    nr_flow_options o = {
        .half_open_ns = 800 * MS,
        .idle_tcp_ns = 3000 * MS,
        .idle_udp_ns = 2000 * MS,
        .idle_icmp_ns = 1500 * MS,
        .idle_other_ns = 1000 * MS,
        .close_delay_ns = next_random() % 2 ? 500 * MS : 0,
        .active_ns = next_random() % 2 ? 2500 * MS : 0,
        .update_ns = next_random() % 2 ? 700 * MS : 0,
        .fragment_ns = 5000 * MS,
        .fragment_slots = 64,
        .max_flows = 1 + next_random() % (next_random() % 2 ? 200 : 20),
        .grow_bytes = next_random() % 2 ? next_random() % (1 << 18) : 0,
        .event_slots = 1024,
        .first_packets = next_random() % 2 ? 5 : 0,
        .packet_statistics = next_random() % 2,
        .reassembled = next_random() % 2,
        .decode = {.tunnel_depth = next_random() % 5,
                   .key = next_random() % 4 ? NR_KEY_FIVE_TUPLE : next_random() % 3,
                   .key_vlan = next_random() % 2,
                   .directional = next_random() % 4 == 0,
                   .verify_checksums = next_random() % 4 == 0,
                   .trust_sliced = next_random() % 2,
                   TUNNEL_PORTS},
    };
    o.names = next_random() % 3;
    o.names_bytes = next_random() % 2 ? 1 << 20 : next_random() % 16384;
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

/* Sends a frame of any link layer, at the very end of its own allocation. */
static void send_frame(nr_reader *reader, uint64_t clock) {
    uint8_t scratch[512];
    const uint32_t size = 100 + next_random() % 400;
    make_frame(scratch, size);
    const uint32_t skip = next_random() % 16 == 0 ? 14 : 0;
    const uint32_t length = size - skip;
    const uint32_t caplen = next_random() % 3 ? length : next_random() % (length + 1);
    uint8_t *exact = malloc(caplen ? caplen : 1);
    memcpy(exact, scratch + skip, caplen);
    const struct nr_frame frame = {
        .data = exact,
        .ts = clock,
        .caplen = caplen,
        .len = next_random() % 8 ? length : next_random(),
        .vlan_tci = (uint16_t)next_random(),
        .vlan_tpid = next_random() % 4 ? 0 : 0x8100,
        .link = skip                 ? NR_LINK_RAW
                : next_random() % 16 ? NR_LINK_ETHERNET
                                     : next_random() % NR_LINK_COUNT,
    };
    nr_reader_dissect(reader, &frame, 1);
    free(exact);
}

/* Takes events, and encodes them in every format. Returns their number. */
static uint64_t take_events(nr_reader *reader, void *events, uint32_t max) {
    static char out[1 << 17];
    const uint32_t size = nr_reader_event_size(reader);
    uint32_t used;
    const uint32_t count = nr_reader_take(reader, events, max, size * 1024 + TEXTS, &used);
    if (used > size * 1024 + TEXTS) {
        abort();
    }
    nr_text_options o = {.batch = events,
                         .batch_size = used,
                         .kinds = ~0u,
                         .interface = "\"i\"",
                         .interface_size = 3,
                         .has_seq = 1,
                         .capture = "\"c\"",
                         .capture_size = 3,
                         .terminator = "\n",
                         .terminator_size = 1};
    for (o.format = NR_FORMAT_JSON; o.format <= NR_FORMAT_ZEEK_SSH; o.format++) {
        nr_text text;
        for (uint32_t done = 0; done < count;) {
            const uint32_t more = nr_encode(&o, (uint8_t *)events + (size_t)done * size, size, NULL,
                                            count - done, out, sizeof out, NULL, &text);
            if (more == 0) {
                abort(); /* there is room for a record */
            }
            done += more;
        }
    }
    return count;
}

/* -- aggregates: of a live source in steps, or of a finite one at once -- */

static void *event_room;
static uint64_t taken;

static nr_aggregate *make_aggregate(void) {
    nr_aggregate_options o = {
        .interval_ns = (100 + next_random() % 3000) * MS,
        .capacity = 1 + next_random() % (next_random() % 2 ? 8 : 4096),
        .network_count = 2,
        .networks = {{{10}, 4, 9}, {{0xfe, 0x80}, 6, 10}},
    };
    memcpy(o.hash_key, &state, sizeof state);
    return next_random() % 4 ? nr_aggregate_create(&o) : NULL;
}

static bool take_interval(void *reader) {
    nr_interval_span span;
    while (nr_handoff_until_held(&((nr_reader *)reader)->handoff) - 1 < UINT64_MAX - 1) {
        taken += take_events(reader, event_room, 1024);
    }
    return nr_reader_take_interval(reader, &span) != 0;
}

static void drive_aggregate(nr_reader *reader) {
    nr_interval_span span;
    (void)nr_table_count(reader->table, 1 + (uint32_t)next_random() % 600);
    if (next_random() % 50 == 0) {
        (void)nr_reader_take_interval(reader, &span);
    }
    if (next_random() % 500 == 0) {
        nr_aggregate_add_up(reader->table->counting->aggregate);
        nr_aggregate_clear(reader->table->counting->aggregate);
    }
}

/* Returns what is wrong with the sums in the end, or NULL. */
static const char *check_sums(nr_reader *reader, nr_aggregate *aggregate,
                              const nr_statistics *books) {
    nr_direction_sums sums[NR_DIRECTION_COUNT];
    uint64_t packets = 0, bytes = 0, flows = 0, services = 0;
    nr_interval_span span;
    nr_top_row rows[300];
    nr_reader_take_last_interval(reader, &span);
    nr_aggregate_add_up(aggregate);
    nr_aggregate_sums(aggregate, NR_OF_ALL, sums);
    for (int d = 0; d < NR_DIRECTION_COUNT; d++) {
        packets += sums[d].packets;
        bytes += sums[d].bytes;
        flows += sums[d].flows;
    }
    const uint32_t count = nr_aggregate_top(aggregate, NR_OF_ALL, NR_TOP_SERVICES, rows, 300);
    bool is_exact = true;
    for (uint32_t n = 0; n < count; n++) {
        services += rows[n].bytes[0] + rows[n].bytes[1];
        is_exact = is_exact && rows[n].error == 0;
    }
    return packets != books->ended_packets || bytes != books->ended_bytes ||
                   flows != books->flows_started
               ? "the sums are not those of the flows"
           : is_exact && services != bytes ? "the services are not all there is"
                                           : NULL;
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], NULL, 10) * 2654435761u + 88172645463325252u : 1;
    const uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    nr_flow_options o = options();
    o.aggregate = make_aggregate();
    const bool is_finite = next_random() % 2;
    nr_reader *reader = nr_reader_create(&o);
    if (reader == NULL) {
        return 2;
    }
    void *events = malloc((size_t)nr_reader_event_size(reader) * 1024 + TEXTS);
    uint64_t clock = 1000 * MS;
    event_room = events;
    if (is_finite) {
        nr_table_waits(reader->table, take_interval, reader);
    }
    for (uint64_t i = 0; i < count; i++) {
        nr_table_make_room(reader->table, 1 + o.decode.tunnel_depth);
        send_frame(reader, clock);
        clock += next_random() % 50 * MS;
        if (o.aggregate != NULL && !is_finite) {
            drive_aggregate(reader);
        }
        if (next_random() % 64 == 0) {
            clock -= next_random() % 900 * MS;
            nr_table_tick(reader->table, clock);
        }
        const char *wrong = i % 7 == 0 ? check_table(reader->table) : NULL;
        if (wrong != NULL) {
            printf("after frame %" PRIu64 ": %s\n", i, wrong);
            return 1;
        }
        if (next_random() % 32 == 0) {
            nr_handoff_publish(&reader->handoff);
            taken += take_events(reader, events, next_random() % 1024);
        }
    }
    do {
        nr_handoff_publish(&reader->handoff);
        (void)take_interval(reader);
        taken += take_events(reader, events, 1024);
    } while (nr_reader_flush(reader) > 0);
    taken += take_events(reader, events, 1024);
    nr_statistics b;
    nr_reader_statistics(reader, &b);
    const bool balanced = b.flows_live == 0 && b.live_packets == 0 && b.fragments_waiting == 0 &&
                          b.received == b.keyed + sum(b.not_keyed, NR_REASON_COUNT) &&
                          b.ended_packets == b.keyed + b.inner &&
                          b.ended_bytes == b.keyed_bytes + b.inner_bytes &&
                          b.flows_started == sum(b.flows_ended, NR_END_COUNT) &&
                          b.events_produced == taken + b.events_lost;
    printf("%d %" PRIu64 "\n", NR_KEYED, b.keyed);
    for (int i = 1; i < NR_REASON_COUNT; i++) {
        if (i == NR_FRAGMENT) {
            continue; /* each fragment has a flow */
        }
        printf("%d %" PRIu64 "\n", i, b.not_keyed[i]);
    }
    printf("inner %" PRIu64 "\nfragments %" PRIu64 "\n", b.inner, b.fragments);
    const char *wrong = o.aggregate != NULL ? check_sums(reader, o.aggregate, &b) : NULL;
    nr_reader_destroy(reader);
    if (o.aggregate != NULL) {
        nr_aggregate_destroy(o.aggregate);
    }
    free(events);
    if (wrong != NULL) {
        puts(wrong);
        return 1;
    }
    puts(balanced ? "balanced" : "off");
    return balanced ? 0 : 1;
}
