/* Feeds the packets of libFuzzer to the parser of ARP and neighbour discovery.
 *
 * The first byte chooses the ethertype, whether the frame has a sender, and whether lengths and the
 * checksum are put right. The packet follows. */
#include <stdlib.h>
#include <string.h>

#include "app/neighbours.h"
#include "dissect/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t SENDER[6] = {2, 0, 0, 0, 0, 10};

/* Puts the payload length and the checksum right, so that the rules behind them are reached. */
static void mend(uint8_t *ip, uint32_t length) {
    if (length < 48) {
        return;
    }
    const struct nr_ends ends = {.src_h = ip + 8, .dst_h = ip + 24};
    const uint32_t size = length - 40;
    uint32_t sum = size + NR_PROTO_ICMP6;
    ip[4] = (uint8_t)(size >> 8);
    ip[5] = (uint8_t)size;
    ip[42] = ip[43] = 0;
    for (uint32_t n = 8; n < length; n++) {
        sum += n % 2 == 0 ? (uint32_t)ip[n] << 8 : ip[n];
    }
    while (sum >> 16 != 0) {
        sum = (sum & UINT16_MAX) + (sum >> 16);
    }
    sum = ~sum & UINT16_MAX;
    ip[42] = (uint8_t)(sum >> 8);
    ip[43] = (uint8_t)sum;
    if (!nr_checksum_is_right_with(&ends, 6, NR_PROTO_ICMP6, ip + 40, size)) {
        abort();
    }
}

static void check(const struct nr_neighbour *found, uint32_t n, uint32_t count) {
    const struct nr_neighbour *f = &found[n];
    const bool is_prefix = f->how == NR_HOW_PREFIX;
    if (f->how == 0 || f->how > NR_HOW_PREFIX || (f->family != 4 && f->family != 6) ||
        f->mac[0] & 1 || (is_prefix ? n == 0 : n != 0) || (!is_prefix && f->prefix_length != 0) ||
        f->prefix_length > 128 || (f->family == 4 && count != 1)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct nr_neighbour found[NR_NEIGHBOURS_MAX], again[NR_NEIGHBOURS_MAX];
    if (size < 1 || size > 4096) {
        return 0;
    }
    const uint32_t length = (uint32_t)size - 1;
    const bool is_arp = data[0] & 1;
    const uint16_t ethertype = is_arp ? NR_ETHERTYPE_ARP : NR_ETHERTYPE_IPV6;
    const uint8_t *sender = data[0] & 2 ? SENDER : NULL;
    uint8_t *packet = malloc(length); /* a read behind it is a fault */
    if (packet == NULL) {
        return 0;
    }
    memcpy(packet, data + 1, length);
    if (!is_arp && data[0] & 4) {
        mend(packet, length);
    }
    memset(found, 0xa5, sizeof found);
    memset(again, 0x5a, sizeof again);
    const uint32_t count = nr_neighbours_read(packet, length, ethertype, sender, found);
    if (count > NR_NEIGHBOURS_MAX ||
        count != nr_neighbours_read(packet, length, ethertype, sender, again) ||
        memcmp(found, again, count * sizeof *found) != 0) {
        abort();
    }
    for (uint32_t n = 0; n < count; n++) {
        check(found, n, count);
    }
    free(packet);
    return 0;
}
