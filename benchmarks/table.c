/* Measures the cost of a packet from dissection to the flow table, in memory, without a source:
 *
 *     table steady FLOWS PACKETS tcp|udp|tls   established connections (or datagrams both ways),
 * then their packets in random order; then ends all flows and makes their Community IDs table floor
 * FLOWS PACKETS tcp|udp    the same packets through table_floor.c table whole PACKETS CAP short
 * connections, from the SYN to the last ACK, many at a time table flood PACKETS CAP how  SYNs of
 * new 5-tuples, among which some connections go on; how: random, or collide (equal under an unkeyed
 * xor) table hellos PACKETS CAP N   short connections that begin with TLS, the client's hello in N
 *                                  segments
 *     table torrent PACKETS CAP how   new connections with a hello each, a million a minute, among
 *                                  which some go on; how: whole, or half (the rest never comes)
 *
 * The word "names" behind these has names read. "stats" before it sums all flows up every ten
 * seconds, and "paced" has the packets of eight in a flow come for 10,000 flows a second. Prints
 * "name value" lines. benchmarks/table.py and the tests build and run it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flow/table_internal.h"
#include "formats/text_record.h"
#include "loop/reader.h"
#include "table_floor.h"
#include "table_hellos.h"

enum { FRAME = 64, SEGMENT = 6, KNOWN = 1000, EVERY = 100, EVENT_SLOTS = 4096 };
enum { HEADERS = 54, LARGE = 1536 };
enum { NAMES_BYTES = 16 << 20, DATAGRAMS = 3, STEP_COST = 512, PACED_NS = 12500 };

static uint64_t state = 88172645463325252u;
static uint64_t clock_packets = 1000000000; /* packet time */
static uint64_t clock_step = 1000;
static uint32_t names = NR_NAMES_OFF;
static nr_aggregate *aggregate;    /* NULL: nothing is summed up */
static uint64_t intervals, taking; /* taken, and the time of that */

static uint32_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Returns the program's own memory, exact to the page, which /proc/self/statm is not. */
static uint64_t resident(void) {
    char line[256];
    unsigned long kilobytes = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (file == NULL) {
        exit(2);
    }
    while (fgets(line, sizeof line, file) != NULL &&
           sscanf(line, "Anonymous: %lu", &kilobytes) != 1) {
    }
    fclose(file);
    return (uint64_t)kilobytes << 10;
}

static void put32(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* Makes a TCP segment of SEGMENT bytes, or of none, over IPv4. */
static void make(uint8_t *f, uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport) {
    memset(f, 0, FRAME);
    f[12] = 0x08;
    f[14] = 0x45;
    f[17] = 40 + SEGMENT;
    f[23] = 6;
    put32(f + 26, src);
    put32(f + 30, dst);
    f[34] = (uint8_t)(sport >> 8);
    f[35] = (uint8_t)sport;
    f[36] = (uint8_t)(dport >> 8);
    f[37] = (uint8_t)dport;
    f[46] = 0x50;
    f[48] = 0xff;
}

static void set(uint8_t *f, uint8_t flags, uint32_t seq, uint32_t ack, uint32_t payload) {
    f[16] = (uint8_t)((40 + payload) >> 8);
    f[17] = (uint8_t)(40 + payload);
    f[47] = flags;
    put32(f + 38, seq);
    put32(f + 42, ack);
}

static nr_reader *create(uint32_t flows) {
    const nr_flow_options options = {
        .half_open_ns = 3600000000000,
        .idle_tcp_ns = 3600000000000,
        .idle_udp_ns = 3600000000000,
        .idle_icmp_ns = 3600000000000,
        .idle_other_ns = 3600000000000,
        .close_delay_ns = 5000000000,
        .fragment_ns = 30000000000,
        .fragment_slots = 4, /* not measured here */
        .max_flows = flows,
        .event_slots = EVENT_SLOTS,
        .decode = {.tunnel_depth = 4, .key_vlan = 1},
        .names = names,
        .names_bytes = NAMES_BYTES,
        .aggregate = aggregate,
        .hash_key = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    };
    nr_reader *reader = nr_reader_create(&options);
    if (reader == NULL) {
        exit(2);
    }
    return reader;
}

static void give_sized(nr_reader *reader, const uint8_t *frame, uint32_t size) {
    const struct nr_frame f = {
        .data = frame, .ts = clock_packets += clock_step, .caplen = size, .len = size};
    nr_reader_dissect(reader, &f, 1);
    nr_handoff_pass_over(&reader->handoff); /* the consumer keeps up */
}

static void give(nr_reader *reader, const uint8_t *frame) {
    give_sized(reader, frame, 60);
}

/* Makes a UDP datagram of the segment. */
static void make_datagram(uint8_t *f) {
    f[17] = 28 + SEGMENT;
    f[23] = NR_PROTO_UDP;
    memset(f + 38, 0, FRAME - 38);
    f[39] = 8 + SEGMENT;
    f[42] = 'x';
}

/* Sends as many datagrams as are looked at of a side that nobody knows, and an answer. */
static void begin_exchange(nr_reader *reader, uint8_t *there, uint8_t *back) {
    make_datagram(there);
    make_datagram(back);
    for (int n = 0; n < DATAGRAMS; n++) {
        give(reader, there);
    }
    give(reader, back);
}

/* Opens a connection: SYN, SYN+ACK and ACK, then a segment and its acknowledgement. */
static void open_connection(nr_reader *reader, uint8_t *there, uint8_t *back) {
    set(there, NR_FLAG_SYN, 0, 0, 0);
    give(reader, there);
    set(back, NR_FLAG_SYN | NR_FLAG_ACK, 0, 1, 0);
    give(reader, back);
    set(there, NR_FLAG_ACK, 1, 1, 0);
    give(reader, there);
    set(there, NR_FLAG_ACK, 1, 1, SEGMENT);
    give(reader, there);
    set(back, NR_FLAG_ACK, 1, 1 + SEGMENT, 0);
    give(reader, back);
}

/* Gives the frame with other payload. */
static void give_bytes(nr_reader *reader, const uint8_t *frame, const uint8_t *bytes,
                       uint32_t size) {
    uint8_t large[LARGE];
    memcpy(large, frame, HEADERS);
    memcpy(large + HEADERS, bytes, size);
    give_sized(reader, large, HEADERS + size);
}

/* Opens a connection of TLS, up to the server's hello. */
static void open_tls(nr_reader *reader, uint8_t *there, uint8_t *back) {
    enum { CLIENT = sizeof CLIENT_HELLO, SERVER = sizeof SERVER_FLIGHT };
    set(there, NR_FLAG_SYN, 0, 0, 0);
    give(reader, there);
    set(back, NR_FLAG_SYN | NR_FLAG_ACK, 0, 1, 0);
    give(reader, back);
    set(there, NR_FLAG_ACK, 1, 1, CLIENT);
    give_bytes(reader, there, CLIENT_HELLO, CLIENT);
    set(back, NR_FLAG_ACK, 1, 1 + CLIENT, SERVER);
    give_bytes(reader, back, SERVER_FLIGHT, SERVER);
    set(there, NR_FLAG_ACK, 1 + CLIENT, 1 + SERVER, 0);
    give(reader, there);
}

static void ends_of(uint32_t n, uint8_t *there, uint8_t *back) {
    const uint32_t src = 0x0a000000u + n, dst = 0x0b000000u + n % 977;
    const uint16_t sport = (uint16_t)(1024 + n % 60000);
    make(there, src, dst, sport, 443);
    make(back, dst, src, 443, sport);
}

/* Frames as they lie in a ring: one after the other, just written. */
struct ring {
    uint8_t bytes[NR_BATCH][FRAME];
    struct nr_frame frames[NR_BATCH];
};

static void describe(struct ring *ring) {
    for (uint32_t j = 0; j < NR_BATCH; j++) {
        ring->frames[j] = (struct nr_frame){
            .data = ring->bytes[j], .ts = clock_packets += clock_step, .caplen = 60, .len = 60};
    }
}

/* Does the consumer's part for an interval that is over. */
static void take_interval(nr_reader *reader) {
    const uint64_t before = now_ns();
    nr_interval_span span;
    if (nr_reader_take_interval(reader, &span)) {
        nr_aggregate_add_up(aggregate);
        nr_aggregate_clear(aggregate);
        intervals++;
        taking += now_ns() - before;
    }
}

static uint64_t run_frames(nr_reader *reader, const struct nr_frame *frames) {
    const uint64_t before = now_ns();
    nr_reader_dissect(reader, frames, NR_BATCH);
    (void)nr_table_count(reader->table, STEP_COST);
    nr_handoff_pass_over(&reader->handoff); /* the consumer keeps up */
    const uint64_t took = now_ns() - before;
    take_interval(reader);
    return took;
}

static uint64_t run(nr_reader *reader, struct ring *ring) {
    describe(ring);
    return run_frames(reader, ring->frames);
}

static const nr_event *next_event(nr_reader *reader) {
    const struct nr_handoff *h = &reader->handoff;
    return (const nr_event *)(const void *)(h->slots + (h->tail & h->mask) * h->slot_size);
}

/* Ends all flows. Adds the time of that to *ending, and of their Community IDs to *naming. */
static void end_all(nr_reader *reader, uint64_t *ending, uint64_t *naming) {
    char id[64];
    uint32_t left = 1;
    while (left > 0) {
        uint64_t before = now_ns();
        left = nr_reader_flush(reader);
        *ending += now_ns() - before;
        before = now_ns();
        for (; reader->handoff.tail != reader->handoff.head; reader->handoff.tail++) {
            char *end = nr_put_community_id(id, next_event(reader));
            __asm__ volatile("" : : "r"(id), "r"(end) : "memory"); /* keeps the call */
        }
        *naming += now_ns() - before;
        nr_handoff_pass_over(&reader->handoff);
    }
}

/* Packets of flows that are open, in random order. */
struct traffic {
    uint8_t *frames; /* one of each flow */
    uint32_t *sent;
    uint32_t *order;
    uint32_t flows, packets;
    bool tcp;
    uint32_t sequence; /* of the first byte that they send */
};

static struct traffic create_traffic(uint32_t flows, uint32_t packets, const char *kind) {
    const bool is_tls = strcmp(kind, "tls") == 0;
    const struct traffic t = {
        .frames = malloc((size_t)flows * FRAME),
        .sent = malloc(flows * sizeof *t.sent),
        .order = malloc(packets * sizeof *t.order),
        .flows = flows,
        .packets = packets - packets % NR_BATCH,
        .tcp = is_tls || strcmp(kind, "tcp") == 0,
        .sequence = is_tls ? 1 + sizeof CLIENT_HELLO : 1 + SEGMENT,
    };
    memset(t.frames, 1, (size_t)flows * FRAME); /* resident before it is measured */
    memset(t.sent, 0, flows * sizeof *t.sent);
    for (uint32_t i = 0; i < packets; i++) {
        t.order[i] = next_random() % flows;
    }
    return t;
}

static void destroy_traffic(struct traffic *t) {
    free(t->frames);
    free(t->sent);
    free(t->order);
}

/* The next packets, from number `at` on. */
static void fill(struct ring *ring, const struct traffic *t, uint32_t at) {
    for (uint32_t j = 0; j < NR_BATCH; j++) {
        const uint32_t n = t->order[at + j];
        memcpy(ring->bytes[j], t->frames + (size_t)n * FRAME, FRAME);
        if (t->tcp) {
            set(ring->bytes[j], NR_FLAG_ACK, t->sequence + SEGMENT * t->sent[n]++, 1, SEGMENT);
        }
    }
}

/* Returns the bytes of the hand-off that were written, which the table's memory is without. */
static uint64_t handed_off(const nr_reader *reader) {
    const struct nr_handoff *h = &reader->handoff;
    const uint64_t slots = h->head < EVENT_SLOTS ? h->head : EVENT_SLOTS;
    const uint64_t ring = (uint64_t)h->text_mask + 1;
    return slots * h->slot_size + (h->text_head < ring ? h->text_head : ring);
}

/* Bytes of the store of names. */
static uint64_t stored(const nr_reader *reader) {
    const struct nr_app *app = reader->table->app;
    return app != NULL ? (uint64_t)app->cells.fresh * sizeof(struct nr_cell) : 0;
}

/* Prints how many exchanges were read, and what was missed. */
static void print_names(const nr_reader *reader) {
    static const char *const missed[NR_MISSED_COUNT] = {"too_long",     "pool_full",  "cut",
                                                        "gap",          "store_full", "left_out",
                                                        "handoff_full", "not_opened"};
    nr_statistics books = {0};
    nr_table_account(reader->table, &books);
    printf("names_read %" PRIu64 "\n", (uint64_t)books.names_read);
    for (uint32_t n = 0; n < NR_MISSED_COUNT; n++) {
        printf("%s %" PRIu64 "\n", missed[n], (uint64_t)books.names_missed[n]);
    }
}

static int steady(uint32_t flows, uint32_t packets, const char *kind) {
    static struct ring ring;
    struct traffic traffic = create_traffic(flows, packets, kind);
    const bool tcp = traffic.tcp, is_tls = strcmp(kind, "tls") == 0;
    uint8_t back[FRAME];
    nr_reader_destroy(create(1)); /* loads libcrypto, which is no memory of the table */
    const uint64_t before = resident();
    nr_reader *reader = create(flows);
    for (uint32_t n = 0; n < flows; n++) {
        uint8_t *there = traffic.frames + (size_t)n * FRAME;
        ends_of(n, there, back);
        (is_tls ? open_tls : tcp ? open_connection : begin_exchange)(reader, there, back);
    }
    /* All memory of the table, with its slots and unused ends of pages, without the events' ring
     * and the store of names. */
    const uint64_t store = stored(reader);
    const uint64_t used = resident() - before - handed_off(reader) - store;
    uint64_t took = 0, ending = 0, naming = 0;
    packets = traffic.packets;
    for (uint32_t i = 0; i < packets; i += NR_BATCH) {
        fill(&ring, &traffic, i);
        took += run(reader, &ring);
    }
    const uint64_t first = tcp ? 5 : DATAGRAMS + 1;
    nr_statistics books = {0};
    nr_table_account(reader->table, &books);
    const bool right = reader->books.keyed == first * flows + packets && books.flows_live == flows;
    end_all(reader, &ending, &naming);
    printf("ns_per_packet %.1f\nbytes_per_flow %" PRIu64 "\nns_per_end %.1f\nns_per_id %.1f\n"
           "store_per_flow %" PRIu64 "\n",
           (double)took / packets, used / flows, (double)ending / flows, (double)naming / flows,
           store / flows);
    print_names(reader);
    destroy_traffic(&traffic);
    nr_reader_destroy(reader);
    return right ? 0 : 1;
}

/* -- the floor: the same frames, in batches of the same size, timed in the same way -- */

static uint64_t run_floor(struct floor *floor, struct ring *ring) {
    describe(ring);
    const uint64_t before = now_ns();
    floor_take(floor, ring->frames, NR_BATCH);
    return now_ns() - before;
}

static int bare(uint32_t flows, uint32_t packets, const char *kind) {
    static struct ring ring;
    struct traffic traffic = create_traffic(flows, packets, kind);
    struct floor floor = floor_create(flows);
    if (floor.slots == NULL) {
        return 2;
    }
    uint8_t back[FRAME];
    for (uint32_t n = 0; n < flows; n++) {
        uint8_t *there = traffic.frames + (size_t)n * FRAME;
        ends_of(n, there, back);
        if (!traffic.tcp) {
            make_datagram(there);
            make_datagram(back);
        }
        const struct nr_frame both[] = {{.data = there, .caplen = 60, .len = 60},
                                        {.data = back, .caplen = 60, .len = 60}};
        floor_take(&floor, both, 2);
    }
    uint64_t took = 0, counted[2], bytes[2];
    for (uint32_t i = 0; i < traffic.packets; i += NR_BATCH) {
        fill(&ring, &traffic, i);
        took += run_floor(&floor, &ring);
    }
    floor_sums(&floor, counted, bytes);
    const uint64_t all = 2 * (uint64_t)flows + traffic.packets;
    const bool right = floor.flows == flows && counted[0] == all - flows && counted[1] == flows &&
                       bytes[0] + bytes[1] == 60 * all;
    printf("ns_per_packet %.1f\n", (double)took / traffic.packets);
    destroy_traffic(&traffic);
    floor_destroy(&floor);
    return right ? 0 : 1;
}

/* -- short connections: traffic that is mostly beginnings and ends -- */

enum { AT_ONCE = 16384, SCRIPT = 8 };

/* Makes the next packet of the connection: SYN, SYN+ACK, ACK, a segment, its ACK, two FINs, ACK. */
static void next_packet(uint8_t *frame, uint32_t connection, uint32_t stage) {
    static const struct {
        uint8_t back, flags;
        uint8_t seq, ack, payload;
    } script[SCRIPT] = {
        {0, NR_FLAG_SYN, 0, 0, 0},
        {1, NR_FLAG_SYN | NR_FLAG_ACK, 0, 1, 0},
        {0, NR_FLAG_ACK, 1, 1, 0},
        {0, NR_FLAG_ACK, 1, 1, SEGMENT},
        {1, NR_FLAG_ACK, 1, 1 + SEGMENT, 0},
        {0, NR_FLAG_FIN | NR_FLAG_ACK, 1 + SEGMENT, 1, 0},
        {1, NR_FLAG_FIN | NR_FLAG_ACK, 1, 2 + SEGMENT, 0},
        {0, NR_FLAG_ACK, 2 + SEGMENT, 2, 0},
    };
    uint8_t other[FRAME];
    if (script[stage].back) {
        ends_of(connection, other, frame);
    } else {
        ends_of(connection, frame, other);
    }
    set(frame, script[stage].flags, script[stage].seq, script[stage].ack, script[stage].payload);
}

static int whole(uint32_t packets, uint32_t cap) {
    static struct ring ring;
    static uint32_t connection[AT_ONCE], stage[AT_ONCE];
    nr_reader *reader = create(cap);
    uint32_t begun = 0;
    uint64_t took = 0;
    packets -= packets % NR_BATCH;
    for (uint32_t n = 0; n < AT_ONCE; n++) {
        connection[n] = begun++;
    }
    for (uint32_t i = 0; i < packets; i += NR_BATCH) {
        for (uint32_t j = 0; j < NR_BATCH; j++) {
            const uint32_t n = next_random() % AT_ONCE;
            next_packet(ring.bytes[j], connection[n], stage[n]);
            if (++stage[n] == SCRIPT) {
                stage[n] = 0;
                connection[n] = begun++;
            }
        }
        took += run(reader, &ring);
    }
    printf("ns_per_packet %.1f\n", (double)took / packets);
    const bool right = reader->books.keyed == packets;
    nr_reader_destroy(reader);
    return right ? 0 : 1;
}

/* -- the flood -- */

/* Makes a SYN of a new 5-tuple; colliding ones share the xor of all words. */
static void strange(uint8_t *frame, uint32_t n, bool collide) {
    const uint32_t src = collide ? 0x20000000u + n : next_random();
    const uint32_t dst = collide ? 0x20000000u + n : next_random();
    const uint16_t port = (uint16_t)(collide ? n : next_random());
    make(frame, src | 0x80000000u, dst & 0x7fffffffu, port, collide ? port : (uint16_t)n);
    set(frame, NR_FLAG_SYN, next_random(), 0, 0);
}

/* Ends all flows. Returns how many of the connections that went on are still there, with every
 * packet and byte that they sent. */
static uint32_t count_exact(nr_reader *reader, const uint32_t sent[KNOWN]) {
    uint32_t exact = 0;
    while (nr_reader_flush(reader) > 0 || reader->handoff.tail != reader->handoff.head) {
        for (; reader->handoff.tail != reader->handoff.head; reader->handoff.tail++) {
            const nr_event *e = next_event(reader);
            const uint32_t n =
                (uint32_t)e->orig_h[1] << 16 | (uint32_t)e->orig_h[2] << 8 | e->orig_h[3];
            if (e->orig_h[0] == 0x0a && n < KNOWN) {
                exact += e->end_reason == NR_END_SHUTDOWN &&
                         e->orig.packets == 3 + (uint64_t)sent[n] && e->resp.packets == 2 &&
                         e->orig.payload == (uint64_t)SEGMENT * (1 + sent[n]);
            }
        }
        nr_handoff_pass_over(&reader->handoff);
    }
    return exact;
}

static int flood(uint32_t packets, uint32_t cap, bool collide) {
    static struct ring ring;
    nr_reader *reader = create(cap);
    uint8_t known[KNOWN][FRAME], back[FRAME];
    uint32_t sent[KNOWN] = {0};
    for (uint32_t n = 0; n < KNOWN; n++) {
        ends_of(n, known[n], back);
        open_connection(reader, known[n], back);
    }
    uint64_t memory = 0, took = 0, largest = 0;
    for (uint32_t i = 0, lives = 0; i < packets;) {
        if (memory == 0 && i > 8 * cap) {
            memory = resident(); /* the table is full */
        }
        for (uint32_t j = 0; j < NR_BATCH; j++, i++) {
            if (i % EVERY == 0) {
                const uint32_t n = lives++ % KNOWN;
                set(known[n], NR_FLAG_ACK, 1 + SEGMENT * ++sent[n], 1, SEGMENT);
                memcpy(ring.bytes[j], known[n], FRAME);
            } else {
                strange(ring.bytes[j], i, collide);
            }
        }
        took += run(reader, &ring);
    }
    const uint64_t grown = resident() - memory;
    const uint32_t exact = count_exact(reader, sent);
    largest = reader->books.flows_peak;
    printf("ns_per_packet %.1f\nbytes_grown %" PRIu64 "\nestablished %d\nexact %" PRIu32
           "\npeak %" PRIu64 "\n",
           (double)took / packets, grown, KNOWN, exact, largest);
    nr_reader_destroy(reader);
    return 0;
}

/* -- short connections of TLS -- */

/* Large frames as they lie in a ring. */
struct large_ring {
    uint8_t bytes[NR_BATCH][LARGE];
    struct nr_frame frames[NR_BATCH];
};

static void describe_large(struct large_ring *ring, uint32_t n, uint32_t payload) {
    const uint32_t size = payload > SEGMENT ? HEADERS + payload : 60;
    ring->frames[n] = (struct nr_frame){
        .data = ring->bytes[n], .ts = clock_packets += clock_step, .caplen = size, .len = size};
}

enum { CLIENT = sizeof CLIENT_HELLO, SERVER = sizeof SERVER_FLIGHT, HALF = CLIENT / 2 };
enum { TLS_SCRIPT = 10 };

/* Makes a packet of a connection: SYN, SYN+ACK, then the client's hello in `pieces` segments, the
 * ACK of a hello in one, the server's flight, its ACK, two FINs, ACK. */
static void next_of_tls(struct large_ring *ring, uint32_t at, uint32_t connection, uint32_t stage,
                        uint32_t pieces) {
    const uint32_t first = pieces > 1 ? HALF : CLIENT, second = CLIENT - first;
    const struct {
        bool back;
        uint8_t flags;
        uint32_t seq, ack, payload;
        const uint8_t *bytes;
    } script[TLS_SCRIPT] = {
        {0, NR_FLAG_SYN, 0, 0, 0, NULL},
        {1, NR_FLAG_SYN | NR_FLAG_ACK, 0, 1, 0, NULL},
        {0, NR_FLAG_ACK, 1, 1, 0, NULL},
        {0, NR_FLAG_ACK, 1, 1, first, CLIENT_HELLO},
        {pieces == 1, NR_FLAG_ACK, 1 + (pieces > 1 ? first : 0), 1 + (pieces > 1 ? 0 : CLIENT),
         second, CLIENT_HELLO + first},
        {1, NR_FLAG_ACK, 1, 1 + CLIENT, SERVER, SERVER_FLIGHT},
        {0, NR_FLAG_ACK, 1 + CLIENT, 1 + SERVER, 0, NULL},
        {0, NR_FLAG_FIN | NR_FLAG_ACK, 1 + CLIENT, 1 + SERVER, 0, NULL},
        {1, NR_FLAG_FIN | NR_FLAG_ACK, 1 + SERVER, 2 + CLIENT, 0, NULL},
        {0, NR_FLAG_ACK, 2 + CLIENT, 2 + SERVER, 0, NULL},
    };
    uint8_t other[FRAME], *frame = ring->bytes[at];
    if (script[stage].back) {
        ends_of(connection, other, frame);
    } else {
        ends_of(connection, frame, other);
    }
    set(frame, script[stage].flags, script[stage].seq, script[stage].ack, script[stage].payload);
    if (script[stage].payload > 0) {
        memcpy(frame + HEADERS, script[stage].bytes, script[stage].payload);
    }
    describe_large(ring, at, script[stage].payload);
}

static int hellos(uint32_t packets, uint32_t cap, uint32_t pieces) {
    static struct large_ring ring;
    static uint32_t connection[AT_ONCE], stage[AT_ONCE];
    nr_reader *reader = create(cap);
    uint32_t begun = 0;
    uint64_t took = 0;
    packets -= packets % NR_BATCH;
    for (uint32_t n = 0; n < AT_ONCE; n++) {
        connection[n] = begun++;
    }
    for (uint32_t i = 0; i < packets; i += NR_BATCH) {
        for (uint32_t j = 0; j < NR_BATCH; j++) {
            const uint32_t n = next_random() % AT_ONCE;
            next_of_tls(&ring, j, connection[n], stage[n], pieces);
            if (++stage[n] == TLS_SCRIPT) {
                stage[n] = 0;
                connection[n] = begun++;
            }
        }
        took += run_frames(reader, ring.frames);
    }
    printf("ns_per_packet %.1f\n", (double)took / packets);
    print_names(reader);
    const bool right = reader->books.keyed == packets;
    nr_reader_destroy(reader);
    return right ? 0 : 1;
}

/* -- the torrent of hellos -- */

enum { TORRENT_NS = 30000 }; /* of packet time, a packet: two a connection, 10^6 a minute */

static int torrent(uint32_t packets, uint32_t cap, bool is_half) {
    static struct large_ring ring;
    nr_reader *reader = create(cap);
    uint8_t known[KNOWN][FRAME], back[FRAME];
    uint32_t sent[KNOWN] = {0};
    for (uint32_t n = 0; n < KNOWN; n++) {
        ends_of(n, known[n], back);
        open_connection(reader, known[n], back);
    }
    clock_step = TORRENT_NS;
    uint64_t memory = 0, took = 0;
    uint32_t i = 0, lives = 0;
    const uint32_t size = is_half ? HALF : CLIENT;
    for (; i < packets; i += NR_BATCH) {
        if (memory == 0 && i > 16 * cap) {
            memory = resident(); /* the table is full */
        }
        for (uint32_t j = 0; j < NR_BATCH; j += 2) {
            if ((i + j) % EVERY < 2) {
                for (uint32_t k = j; k < j + 2; k++) {
                    const uint32_t n = lives++ % KNOWN;
                    set(known[n], NR_FLAG_ACK, 1 + SEGMENT * ++sent[n], 1, SEGMENT);
                    memcpy(ring.bytes[k], known[n], FRAME);
                    describe_large(&ring, k, SEGMENT);
                }
                continue;
            }
            strange(ring.bytes[j], i + j, false);
            memcpy(ring.bytes[j + 1], ring.bytes[j], HEADERS);
            const uint8_t *f = ring.bytes[j];
            const uint32_t seq =
                (uint32_t)f[38] << 24 | (uint32_t)f[39] << 16 | (uint32_t)f[40] << 8 | f[41];
            set(ring.bytes[j + 1], NR_FLAG_ACK, seq + 1, 1, size);
            memcpy(ring.bytes[j + 1] + HEADERS, CLIENT_HELLO, size);
            describe_large(&ring, j, 0);
            describe_large(&ring, j + 1, size);
        }
        took += run_frames(reader, ring.frames);
    }
    const uint64_t grown = resident() - memory;
    printf("ns_per_packet %.1f\nbytes_grown %" PRIu64 "\nestablished %d\n", (double)took / packets,
           grown, KNOWN);
    print_names(reader);
    const uint32_t exact = count_exact(reader, sent);
    printf("exact %" PRIu32 "\npeak %" PRIu64 "\n", exact, (uint64_t)reader->books.flows_peak);
    nr_reader_destroy(reader);
    return 0;
}

static nr_aggregate *create_aggregate(void) {
    const nr_aggregate_options options = {
        .interval_ns = 10000000000,
        .capacity = 1024,
        .network_count = 3,
        .networks = {{{192, 168}, 4, 16}, {{172, 16}, 4, 12}, {{10}, 4, 8}},
    };
    return nr_aggregate_create(&options);
}

/* Takes the last argument if it is this word. */
static bool has_word(int *argc, char **argv, const char *word) {
    const bool is_there = *argc > 1 && strcmp(argv[*argc - 1], word) == 0;
    *argc -= is_there;
    return is_there;
}

static int measure(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "hellos") == 0) {
        return hellos((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]), (uint32_t)atol(argv[4]));
    }
    if (argc == 5 && strcmp(argv[1], "torrent") == 0) {
        return torrent((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]),
                       strcmp(argv[4], "half") == 0);
    }
    if (argc == 5 && strcmp(argv[1], "steady") == 0) {
        return steady((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]), argv[4]);
    }
    if (argc == 5 && strcmp(argv[1], "floor") == 0) {
        return bare((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]), argv[4]);
    }
    if (argc == 4 && strcmp(argv[1], "whole") == 0) {
        return whole((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]));
    }
    if (argc == 5 && strcmp(argv[1], "flood") == 0) {
        return flood((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]),
                     strcmp(argv[4], "collide") == 0);
    }
    return 2;
}

int main(int argc, char **argv) {
    names = has_word(&argc, argv, "names") ? NR_NAMES_ALL : NR_NAMES_OFF;
    aggregate = has_word(&argc, argv, "stats") ? create_aggregate() : NULL;
    if (has_word(&argc, argv, "paced")) {
        clock_step = PACED_NS;
    }
    const int rc = measure(argc, argv);
    if (aggregate != NULL) {
        printf("intervals %" PRIu64 "\nns_per_interval %.0f\n", intervals,
               intervals > 0 ? (double)taking / (double)intervals : 0.0);
        nr_aggregate_destroy(aggregate);
    }
    return rc;
}
