/* Writes a capture file of PACKETS packets, the same each time:
 *
 *     captures FILE PACKETS
 *
 * The flows are TCP sessions (60 %), UDP and ICMP exchanges; 15 % are IPv6, 10 % are in a VLAN. 83
 * new flows begin each second, and each sends a packet every 20 ms. No two flows share a key.
 * Prints the number of flows. Memory holds only the flows under way. benchmarks/captures.py builds
 * and runs it. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TCP = 6, UDP = 17, ICMP = 1, ICMP6 = 58, LIVE = 4096, LONGEST = 1600 };
enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16 };
#define START_NS (1700000000ull * 1000000000u)

struct flow {
    double next; /* seconds since the start */
    uint32_t number;
    uint32_t seq[2];
    uint16_t ports[2];
    uint8_t proto;
    bool is_v6, is_tagged;
    uint16_t sent, total; /* packets; both ends take turns, the originator first */
};

static struct flow *live[LIVE]; /* a heap, with the flow that sends next on top */
static int live_count;
static uint64_t state = 88172645463325252u;

static uint32_t next_random(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * below >> 32);
}

static double next_gap(double rate) {
    return -log((next_random(1u << 30) + 1) / (double)(1u << 30)) / rate;
}

/* -- the heap -- */

static void swap(int i, int j) {
    struct flow *kept = live[i];
    live[i] = live[j];
    live[j] = kept;
}

static void add(struct flow *flow) {
    int i = live_count++;
    if (i == LIVE) {
        exit(3);
    }
    for (live[i] = flow; i > 0 && live[i]->next < live[(i - 1) / 2]->next; i = (i - 1) / 2) {
        swap(i, (i - 1) / 2);
    }
}

/* Restores the heap after its first flow has changed. */
static void sift(void) {
    for (int i = 0;;) {
        int least = i;
        for (int child = 2 * i + 1; child <= 2 * i + 2 && child < live_count; child++) {
            least = live[child]->next < live[least]->next ? child : least;
        }
        if (least == i) {
            return;
        }
        swap(i, least);
        i = least;
    }
}

/* -- flows -- */

static struct flow *begin(uint32_t number, double at, uint64_t most) {
    static const uint16_t tcp_ports[] = {80, 443, 22, 8080}, udp_ports[] = {53, 123, 443};
    struct flow *f = calloc(1, sizeof *f);
    if (f == NULL) {
        exit(2);
    }
    const uint32_t kind = next_random(100);
    f->number = number;
    f->next = at;
    f->is_v6 = next_random(100) < 15;
    f->is_tagged = next_random(10) == 0;
    /* Port and address together tell the flows apart: see put_addresses. */
    f->ports[0] = (uint16_t)(1024 + (number >> 20) * 1024 + next_random(1024));
    uint32_t total;
    if (kind < 60) {
        f->proto = TCP;
        f->ports[1] = tcp_ports[next_random(4)];
        total = 6 + 2 * (2 + next_random(15));
    } else if (kind < 95) {
        f->proto = UDP;
        f->ports[1] = udp_ports[next_random(3)];
        total = 2 * (1 + next_random(12));
    } else {
        f->proto = f->is_v6 ? ICMP6 : ICMP;
        total = 2 * (1 + next_random(5));
    }
    f->total = (uint16_t)(total < most ? total : most);
    f->seq[0] = next_random(1u << 31);
    f->seq[1] = next_random(1u << 31);
    return f;
}

/* -- frames -- */

static uint8_t *put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}
static uint8_t *put32(uint8_t *at, uint32_t value) {
    return put16(put16(at, value >> 16), value & 0xffff);
}

static uint8_t *put_addresses(uint8_t *at, const struct flow *f, int side) {
    /* The factors are odd, so neighbours in time are far apart and 2^20 flows have as many
     * clients. */
    const uint32_t host = f->number * 0x9e3779b1u & 0xfffff;
    const uint32_t server = f->number * 0x85ebca6bu >> 20;
    for (int i = 0; i < 2; i++) {
        const bool is_client = i == side;
        if (f->is_v6) {
            at = put32(at, 0x20010db8);
            at = put32(at, is_client ? 0 : 1);
            at = put32(at, 0);
        }
        at = put32(at, (is_client ? host : server) | (f->is_v6    ? 0
                                                      : is_client ? 10u << 24
                                                                  : 0xc0a80000));
    }
    return at;
}

static uint8_t *put_ip(uint8_t *at, const struct flow *f, int side, uint32_t size) {
    if (f->is_v6) {
        at = put32(at, 6u << 28);
        at = put16(at, size);
        *at++ = f->proto;
        *at++ = 64;
        return put_addresses(at, f, side);
    }
    uint8_t *header = at;
    at = put32(at, 0x45000000 | (20 + size));
    at = put32(at, 0x4000);
    *at++ = 64;
    *at++ = f->proto;
    at = put_addresses(put16(at, 0), f, side);
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) {
        sum += (uint32_t)header[i] << 8 | header[i + 1];
    }
    put16(header + 10, ~(sum + (sum >> 16)) & 0xffff);
    return at;
}

static uint8_t tcp_flags(const struct flow *f) {
    if (f->sent < 2) {
        return f->sent == 0 ? SYN : SYN | ACK;
    }
    const int left = f->total - f->sent;
    return left == 3 || left == 2 ? FIN | ACK : left == 1 || f->sent == 2 ? ACK : ACK | PSH;
}

static uint32_t payload_size(const struct flow *f, int side) {
    static const uint16_t sizes[2][4] = {{0, 60, 200, 400}, {0, 100, 600, 1400}};
    switch (f->proto) {
    case TCP:
        return tcp_flags(f) & PSH ? sizes[side][next_random(4)] : 0;
    case UDP:
        return side == 0 ? 20 + next_random(61) : 40 + next_random(461);
    default:
        return 48;
    }
}

static uint8_t *put_transport(uint8_t *at, struct flow *f, int side, uint32_t payload) {
    if (f->proto == TCP) {
        const uint8_t flags = tcp_flags(f);
        at = put16(put16(at, f->ports[side]), f->ports[side ^ 1]);
        at = put32(at, f->seq[side]);
        at = put32(at, flags & ACK ? f->seq[side ^ 1] : 0);
        at = put32(at, 0x50000000u | (uint32_t)flags << 16 | 65535);
        f->seq[side] += payload + (flags & (SYN | FIN) ? 1 : 0);
        return put32(at, 0);
    }
    if (f->proto == UDP) {
        at = put16(put16(at, f->ports[side]), f->ports[side ^ 1]);
        return put16(put16(at, 8 + payload), 0);
    }
    *at++ = f->proto == ICMP ? (side == 0 ? 8 : 0) : side == 0 ? 128 : 129;
    *at++ = 0;
    at = put16(put16(at, 0), f->ports[0]);
    return put16(at, f->sent / 2);
}

static size_t make(uint8_t *frame, struct flow *f, int side) {
    static const uint8_t stations[12] = {2, [5] = 1, 2, [11] = 2};
    static const uint8_t headers[256] = {[TCP] = 20, [UDP] = 8, [ICMP] = 8, [ICMP6] = 8};
    const uint32_t payload = payload_size(f, side);
    memcpy(frame, stations, sizeof stations);
    uint8_t *at = frame + sizeof stations;
    if (f->is_tagged) {
        at = put32(at, 0x81000000 | 100);
    }
    at = put16(at, f->is_v6 ? 0x86dd : 0x0800);
    at = put_ip(at, f, side, headers[f->proto] + payload);
    at = put_transport(at, f, side, payload);
    memset(at, 'x', payload);
    return (size_t)(at + payload - frame);
}

/* -- the file -- */

static void write_packet(FILE *file, struct flow *f) {
    uint8_t frame[LONGEST];
    /* Both ends take turns; a TCP session ends with FIN, FIN, ACK. */
    const size_t size = make(frame, f, f->sent % 2);
    const uint64_t ns = START_NS + (uint64_t)(f->next * 1e9);
    const uint32_t record[4] = {(uint32_t)(ns / 1000000000u), (uint32_t)(ns % 1000000000u),
                                (uint32_t)size, (uint32_t)size};
    fwrite(record, sizeof record, 1, file);
    fwrite(frame, size, 1, file);
    f->sent++;
    f->next += next_gap(50);
}

int main(int argc, char **argv) {
    static char buffer[1 << 20];
    static const uint32_t header[6] = {0xa1b23c4d, 4 << 16 | 2, 0, 0, 262144, 1};
    const uint64_t packets = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    FILE *file = argc == 3 ? fopen(argv[1], "wb") : NULL;
    uint64_t planned = 0;
    uint32_t flows = 0;
    double arrival = 0;
    if (file == NULL || packets == 0) {
        fputs("usage: captures FILE PACKETS\n", stderr);
        return 2;
    }
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    fwrite(header, sizeof header, 1, file);
    while (planned < packets || live_count > 0) {
        if (planned < packets && (live_count == 0 || live[0]->next >= arrival)) {
            struct flow *f = begin(flows++, arrival, packets - planned);
            planned += f->total;
            arrival += next_gap(83);
            add(f);
            continue;
        }
        write_packet(file, live[0]);
        if (live[0]->sent == live[0]->total) {
            free(live[0]);
            live[0] = live[--live_count];
        }
        sift();
    }
    printf("%" PRIu32 "\n", flows);
    return fclose(file) == 0 ? 0 : 1;
}
