/* Feeds connections and datagrams to the flow table, with names on: their bytes are those of
 * libFuzzer, in pieces of its choice.
 *
 * The input is a row of packets, each of four bytes and its payload: { flow and kind; how far the
 * segment is from the side's next byte, in steps of 1/8 of its length, signed; what is cut, and the
 * time; length of the payload }. At the end all flows are ended, and nothing may be left of what
 * they held. */
#include <stdlib.h>
#include <string.h>

#include "flow/table_internal.h"
#include "loop/reader.h"

enum { HEAD = 4, FRAME = 64 + 255 * 8, FLOWS = 4 };

static nr_reader *reader;
static uint64_t clock_ns = 1000000000;
static uint8_t events[1024 * 1024];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const nr_flow_options options = {
        .half_open_ns = 1ull << 50,
        .idle_tcp_ns = 1ull << 50,
        .idle_udp_ns = 1ull << 50,
        .idle_icmp_ns = 1ull << 50,
        .idle_other_ns = 1ull << 50,
        .close_delay_ns = 5000000,
        .active_ns = 1ull << 32,
        .fragment_ns = 100000,
        .fragment_slots = 4,
        .max_flows = 6,
        .event_slots = 1024,
        .names = NR_NAMES_ALL,
        .names_bytes = 48 << 10,
    };
    (void)argc, (void)argv;
    reader = nr_reader_create(&options);
    return reader == NULL ? 1 : 0;
}

static void put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value);
}

struct side {
    uint32_t next; /* sequence number */
};

static const uint16_t PORTS[FLOWS] = {443, 80, 53, 25};

/* Writes a packet of one flow and side, and returns its length. */
static uint32_t make_packet(uint8_t *f, const uint8_t *head, const uint8_t *payload,
                            uint32_t length, struct side sides[FLOWS][2]) {
    const uint32_t flow = head[0] % FLOWS, side = head[0] >> 2 & 1, transport = head[0] >> 3 & 1;
    struct side *self = &sides[flow][side], *peer = &sides[flow][side ^ 1];
    const uint8_t flags = head[0] >> 4 == 15 ? 0x11 : head[0] >> 4 == 14 ? 0x12 : 0x10;
    const uint32_t headers = transport ? 28 : 40;
    memset(f, 0, 54);
    f[12] = 8;
    f[14] = 0x45;
    put16(f + 16, headers + length);
    f[23] = transport ? 17 : 6;
    f[29] = (uint8_t)(1 + side);
    f[33] = (uint8_t)(2 - side);
    put16(f + 34, side ? PORTS[flow] : 4000 + flow);
    put16(f + 36, side ? 4000 + flow : PORTS[flow]);
    if (transport) {
        put16(f + 38, 8 + length);
        memcpy(f + 42, payload, length);
        return 42 + length;
    }
    const int32_t step = (int8_t)head[1];
    const uint32_t from = self->next + (uint32_t)(step * (int32_t)length / 8);
    put32(f + 38, from);
    put32(f + 42, peer->next);
    f[46] = 0x50;
    f[47] = flags;
    f[48] = 0xff;
    memcpy(f + 54, payload, length);
    if ((int32_t)(from + length - self->next) > 0) {
        self->next = from + length;
    }
    return 54 + length;
}

static void take_all(void) {
    uint32_t count, used;
    do {
        nr_handoff_publish(&reader->handoff);
        count = nr_reader_take(reader, events, 512, sizeof events, &used);
        for (uint32_t n = 0; n < count; n++) {
            const nr_event *e = (const void *)(events + (size_t)n * nr_reader_event_size(reader));
            uint32_t at = 0;
            struct nr_field field;
            if (e->app_size > 0 && e->app_at + e->app_size > used) {
                abort();
            }
            while (nr_record_next(events + e->app_at, e->app_size, &at, &field)) {
            }
            if (at != e->app_size || e->app_protocol >= NR_APP_COUNT) {
                abort();
            }
        }
    } while (count > 0);
}

static void check_end(void) {
    const struct nr_app *app = reader->table->app;
    nr_statistics b;
    nr_reader_statistics(reader, &b);
    if (app->pool.used != 0 || app->cells.used != 0 || b.flows_live != 0 ||
        b.events_produced != b.events_taken + b.events_lost) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct side sides[FLOWS][2] = {{{0}}};
    for (size_t at = 0; at + HEAD <= size;) {
        uint8_t frame[FRAME];
        const uint8_t *head = data + at;
        at += HEAD;
        const uint32_t left = (uint32_t)(size - at), most = head[3] * 8u;
        const uint32_t length = left < most ? left : most;
        const uint32_t all = make_packet(frame, head, data + at, length, sides);
        const uint32_t cut = head[2] % 16 == 0 ? (head[2] >> 4) * length / 16 : 0;
        /* The sanitizer finds a read behind the captured bytes. */
        uint8_t *exact = malloc(all - cut);
        memcpy(exact, frame, all - cut);
        clock_ns += (uint64_t)head[2] << 20;
        const struct nr_frame f = {.data = exact, .ts = clock_ns, .caplen = all - cut, .len = all};
        nr_reader_dissect(reader, &f, 1);
        free(exact);
        at += length;
        if (head[1] == 64) {
            take_all();
        }
    }
    while (nr_reader_flush(reader) > 0) {
        take_all();
    }
    take_all();
    check_end();
    return 0;
}
