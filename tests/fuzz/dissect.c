/* Feeds the frames of libFuzzer to the dissector, the fragments and the flow table.
 *
 * The first eight bytes choose the link, the options, and the length on the wire, which is
 * independent of the captured length. The frame follows. */
#include <stdlib.h>
#include <string.h>

#include "dissect/key.h"
#include "loop/reader.h"

#include "../native/tunnel_ports.h"

enum { HEAD = 8 };

static nr_reader *reader;
static uint64_t clock_ns = 1000;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const nr_flow_options options = {
        .half_open_ns = 50000,
        .idle_tcp_ns = 300000,
        .idle_udp_ns = 60000,
        .idle_icmp_ns = 60000,
        .idle_other_ns = 60000,
        .close_delay_ns = 5000,
        .active_ns = 200000,
        .update_ns = 30000,
        .fragment_ns = 100000,
        .fragment_slots = 64,
        .max_flows = 256,
        .event_slots = 4096,
        .first_packets = 4,
        .packet_statistics = 1,
        .decode = {.tunnel_depth = 4, TUNNEL_PORTS},
    };
    (void)argc, (void)argv;
    reader = nr_reader_create(&options);
    return reader == NULL ? 1 : 0;
}

static void check_books(void) {
    const nr_statistics *b = &reader->books;
    nr_statistics flows = {0};
    uint64_t refused = 0;
    for (int i = 0; i < NR_REASON_COUNT; i++) {
        refused += b->not_keyed[i];
    }
    nr_table_account(reader->table, &flows);
    if (b->received != b->keyed + refused + b->fragments_waiting ||
        flows.ended_packets + flows.live_packets != b->keyed + b->inner ||
        flows.ended_bytes + flows.live_bytes != b->keyed_bytes + b->inner_bytes) {
        abort();
    }
}

/* The fast path decodes a frame as the layers do, or declines it. */
static void check_plain(const struct nr_frame *frame) {
    struct nr_dissected plain, layers;
    struct nr_macs macs;
    const uint8_t *at, *other;
    if (!nr_decode_plain(frame, &reader->decode, &plain)) {
        return;
    }
    macs = nr_find_macs(&plain);
    if (nr_decode_layers(frame, &reader->decode, &layers) != NR_KEYED ||
        memcmp(&plain, &layers, offsetof(struct nr_dissected, macs_mix)) != 0 ||
        memcmp(&macs, &layers.macs, sizeof macs) != 0 || plain.macs_mix != layers.macs_mix ||
        nr_find_payload(&plain, &at) != nr_find_payload(&layers, &other) || at != other ||
        plain.inner.at != layers.inner.at || plain.tunnel.kind != layers.tunnel.kind ||
        plain.tunnel.depth != layers.tunnel.depth) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD || size > 65536) {
        return 0;
    }
    reader->decode.tunnel_depth = data[0] % 5;
    reader->decode.key = data[1] % 8 < 6 ? NR_KEY_FIVE_TUPLE : data[1] % 3;
    reader->decode.key_vlan = data[1] >> 4 & 1;
    reader->decode.directional = (data[1] >> 5) == 7;
    reader->decode.verify_checksums = data[0] >> 6 & 1;
    reader->decode.trust_sliced = data[0] >> 7;
    reader->reassembled = data[1] >> 3 & 1;
    const uint32_t caplen = (uint32_t)size - HEAD;
    const uint32_t wire = (uint32_t)(data[4] << 8 | data[5]);
    const struct nr_frame frame = {
        .data = data + HEAD,
        .ts = clock_ns,
        .caplen = caplen,
        .len = data[0] & 0x20 ? wire : caplen + wire % 64,
        .vlan_tci = data[6],
        .vlan_tpid = data[7] == 1 ? 0x8100 : 0,
        .link = data[2] % NR_LINK_COUNT,
        .ethertype = (uint16_t)(data[6] << 8 | data[7]),
    };
    clock_ns += data[3] * 40u;
    check_plain(&frame);
    nr_reader_dissect(reader, &frame, 1);
    nr_handoff_pass_over(&reader->handoff);
    check_books();
    return 0;
}
