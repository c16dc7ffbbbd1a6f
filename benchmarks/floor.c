/* Measures the floor below a capture: takes what the kernel has put into the ring, counts it, and
 * gives it back.
 *
 *     floor xsk INTERFACE HOW native|generic     descriptors of an AF_XDP socket on queue 0
 *     floor tpacket INTERFACE HOW [latency]      frames of the blocks of a TPACKET_V3 ring, in the
 *                                                sizes of the default or of the latency preset
 *
 * HOW is "pass", "look" or "age":
 *
 *     pass   neither reads nor fetches a byte of a frame
 *     look   reads one byte of each, so that its cache line goes from the CPU that wrote it to this
 *            one, and back with the next frame; fetches frames of AF_XDP ahead as the library does
 *     age    subtracts the time that the generator wrote into a frame from the time of reading it
 *
 * Prints "ready", ends when its standard input does, and prints "name value" lines. receivers.py
 * builds it against the C core: the rings are the library's own, in its own sizes, and the XDP
 * program is the shortest that redirects. */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "source/source.h"

enum { XSKMAP = 17, PROG_XDP = 6, ALL = 1 << 16, NAP_NS = 50000, MANY = 256 };
enum { AGES = 1 << 20, UNSTAMPED = 0x0a000000 };

static int checked(const char *what, int rc) {
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-rc));
        exit(2);
    }
    return rc;
}

/* r2 = ctx->rx_queue_index; r1 = the map; r3 = XDP_PASS; return bpf_redirect_map(r1, r2, r3) */
static int load_redirect(int map) {
    const struct {
        uint8_t code, registers;
        int16_t offset;
        int32_t immediate;
    } program[] = {
        {0x61, 0x12, 16, 0}, {0x18, 0x11, 0, map}, {0, 0, 0, 0},
        {0xb7, 0x03, 0, 2},  {0x85, 0, 0, 51},     {0x95, 0, 0, 0},
    };
    return checked("load", nr_program_load(PROG_XDP, program, 6, NULL, 0));
}

static const struct nr_clock wall_clock; /* frames have wall time, as raw packets do */

static struct nr_source *open_xsk(uint32_t ifindex, bool native) {
    const nr_xsk_options options = {
        .ifindex = ifindex,
        .ring_size = 16384,
        .chunk_size = 2048,
        .chunks = 16384,
        .snaplen = ALL,
    };
    struct nr_source *source = NULL;
    checked("AF_XDP", nr_xsk_create(&options, &source));
    source->clock = &wall_clock;
    const int map = checked("map", nr_map_create(XSKMAP, 4, 4, 1, 0, "floor"));
    const uint32_t queue = 0;
    checked("map", nr_map_update(map, &queue, &source->fd));
    checked("attach", nr_link_create(load_redirect(map), ifindex, native ? 4 : 2));
    return source;
}

static struct nr_source *open_tpacket(uint32_t ifindex, bool is_quick) {
    const nr_bpf_insn accept = {.code = 6, .k = ALL};
    const nr_tpacket_options options = {
        .ifindex = ifindex,
        .block_size = is_quick ? 1 << 16 : 1 << 20,
        .block_count = is_quick ? 256 : 64,
        .retire_ms = is_quick ? 1 : 20,
        .insns = &accept,
        .insn_count = 1,
        .program_fd = -1,
        .ignore_outgoing = 1,
    };
    struct nr_source *source = NULL;
    checked("TPACKET_V3", nr_tpacket_create(&options, &source));
    source->clock = &wall_clock;
    return source;
}

/* -- ages: of frames that carry their time in their IPv4 addresses (Load.stamp) -- */

static int64_t *ages; /* NULL: no ages are wanted */
static uint32_t aged;

static uint64_t load_be32(const uint8_t *at) {
    return (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
}

static void note_age(const struct nr_frame *frame) {
    const uint64_t low = load_be32(frame->data + 26), high = load_be32(frame->data + 30) & 0xffffff;
    struct timespec now;
    if (low == UNSTAMPED || aged == AGES) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    ages[aged++] = (int64_t)((ns - (low | high << 32)) & (((uint64_t)1 << 56) - 1));
}

static int compare(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_ages(void) {
    const struct {
        const char *name;
        uint32_t per_mille;
    } shown[] = {{"p50", 500}, {"p99", 990}, {"p99.9", 999}};
    qsort(ages, aged, sizeof *ages, compare);
    printf("heard %" PRIu32 "\n", aged);
    for (uint32_t i = 0; aged > 0 && i < 3; i++) {
        const uint64_t at = (uint64_t)aged * shown[i].per_mille / 1000;
        printf("%s %" PRIi64 "\n", shown[i].name, ages[at]);
    }
}

/* Reads all frames in the ring, and returns their number. */
static uint64_t read_ring(struct nr_source *source, bool look, uint64_t *bytes) {
    struct nr_frame frames[NR_BATCH];
    static volatile uint64_t sum;
    const uint64_t before = source->lent;
    uint32_t count;
    while ((count = source->ops->next(source, frames, NR_BATCH)) > 0) {
        for (uint32_t i = 0; look && source->written_afar && i < count; i++) {
            __builtin_prefetch(frames[i].data, 0, 0);
        }
        for (uint32_t i = 0; i < count; i++) {
            *bytes += frames[i].len;
            if (look) {
                sum += frames[i].data[12];
            }
            if (ages != NULL) {
                note_age(&frames[i]);
            }
        }
        source->ops->release(source);
    }
    return source->lent - before;
}

/* Sleeps a little whenever it has caught up, as long as the library's loop does, and waits for the
 * kernel only when that has brought nothing. A reader that follows too closely takes the sender's
 * cache lines away and is woken for every few frames, which slows the sender. */
static uint64_t read_all(struct nr_source *source, bool look) {
    struct pollfd fds[2] = {{.fd = source->fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    uint64_t bytes = 0;
    while (fds[1].revents == 0 || fds[0].revents & POLLIN) {
        uint64_t frames;
        while ((frames = read_ring(source, look, &bytes)) > 0) {
            const bool long_one = frames >= MANY && source->nap_ns > NAP_NS;
            const struct timespec nap = {.tv_nsec = long_one ? (long)source->nap_ns : NAP_NS};
            nanosleep(&nap, NULL);
        }
        (void)poll(fds, 2, 1000);
    }
    return bytes;
}

int main(int argc, char **argv) {
    const uint32_t ifindex = argc > 2 ? if_nametoindex(argv[2]) : 0;
    struct nr_source *source = NULL;
    struct rusage used;
    if (argc == 5 && strcmp(argv[1], "xsk") == 0 && ifindex > 0) {
        source = open_xsk(ifindex, strcmp(argv[4], "native") == 0);
    } else if (argc >= 4 && strcmp(argv[1], "tpacket") == 0 && ifindex > 0) {
        source = open_tpacket(ifindex, argc == 5 && strcmp(argv[4], "latency") == 0);
    } else {
        return 2;
    }
    if (argv[3][0] == 'a') {
        ages = malloc(AGES * sizeof *ages);
        memset(ages, 1, AGES * sizeof *ages); /* resident before the first frame */
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    puts("ready");
    fflush(stdout);
    const uint64_t bytes = read_all(source, argv[3][0] == 'l');
    source->ops->account(source);
    getrusage(RUSAGE_SELF, &used);
    printf("received %" PRIu64 "\nbytes %" PRIu64 "\nlost %" PRIu64 "\nreader_ns %" PRIu64 "\n",
           source->lent, bytes, source->rx_dropped + source->rx_ring_full + source->tp_drops,
           (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
               (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u);
    if (ages != NULL) {
        print_ages();
        free(ages);
    }
    source->ops->destroy(source);
    return 0;
}
