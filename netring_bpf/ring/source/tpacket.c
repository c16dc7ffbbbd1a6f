/* TPACKET_V3: an AF_PACKET socket with a ring of blocks (Documentation/networking/packet_mmap.rst).
 * It only listens: the host still receives its traffic. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "source/source.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define SLACK_NS 10000000u /* frames of several CPUs may be so much out of order */
#define FRAME_SIZE 2048u   /* it must divide a block; V3 does not limit a frame to it */

struct tpacket {
    struct nr_source source;
    uint8_t *map;
    size_t map_size;
    uint32_t block_size;
    uint32_t block_count;
    uint32_t block;  /* index of the block being read, or to be read next */
    uint32_t left;   /* its frames not yet lent; 0 while open: the block can be given back */
    uint32_t offset; /* of the next frame in it */
    bool open;
    uint32_t ifindex;
    /* From the kernel's stamps, which are wall time, to flow time. */
    int64_t shift;        /* what a stamp of this block needs; 0: the stamp is given out */
    int64_t stamp_offset; /* the stamps' lead over the monotonic clock */
    int64_t seen_offset;  /* the wall clock's lead when this block was opened */
    uint64_t latest;      /* monotonic time of the latest frame */
    bool stepped;         /* the two offsets differ: each frame must show which is right */
};

static struct tpacket_block_desc *block_of(const struct tpacket *t, uint32_t index) {
    return (struct tpacket_block_desc *)(void *)(t->map + (size_t)index * t->block_size);
}

/* -- open: protocol 0 → filter → ring → bind, so that the ring never holds a frame of another
 * interface or one that the filter rejects -- */

static int make_ring(struct tpacket *t, const nr_tpacket_options *options) {
    const int version = TPACKET_V3;
    struct tpacket_req3 request = {
        .tp_block_size = options->block_size,
        .tp_block_nr = options->block_count,
        .tp_frame_size = FRAME_SIZE,
        .tp_frame_nr = options->block_size / FRAME_SIZE * options->block_count,
        .tp_retire_blk_tov = options->retire_ms,
    };
    const int fd = t->source.fd;
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0) {
        return -errno;
    }
    const size_t size = (size_t)options->block_size * options->block_count;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    /* A child's mapping would keep the socket after this process has ended. */
    (void)madvise(map, size, MADV_DONTFORK);
    t->map = map;
    t->map_size = size;
    t->block_size = options->block_size;
    t->block_count = options->block_count;
    return 0;
}

static int bind_interface(const struct tpacket *t, const nr_tpacket_options *options) {
    const int ignore = 1;
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = (uint16_t)__builtin_bswap16(ETH_P_ALL),
        .sll_ifindex = (int)options->ifindex,
    };
    const int fd = t->source.fd;
    if (options->ignore_outgoing &&
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &ignore, sizeof ignore) != 0) {
        return -errno;
    }
    return bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : -errno;
}

/* -- fanout: sockets that share the frames of one interface -- */

static int set_fanout(int fd, int group, int flags) {
    const int argument = group | (PACKET_FANOUT_HASH | flags) << 16;
    const int rc = setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, sizeof argument);
    return rc == 0 ? 0 : -errno;
}

int nr_fanout_make(int fd) {
    int argument = 0;
    socklen_t length = sizeof argument;
    const int rc = set_fanout(fd, 0, PACKET_FANOUT_FLAG_UNIQUEID);
    if (rc != 0) {
        return rc;
    }
    if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, &length) != 0) {
        return -errno;
    }
    return argument & 0xffff;
}

int nr_fanout_join(int fd, int group) {
    return set_fanout(fd, group, 0);
}

/* -- run -- */

/* Prepares the times of a block's frames. The wall clock may have been stepped since the last
 * block, before or after the frames of this one were stamped. */
static void set_times(struct tpacket *t) {
    const struct nr_clock *clock = t->source.clock;
    t->stepped = false;
    t->shift = 0;
    if (nr_load_relaxed(&clock->is_used)) {
        t->seen_offset = nr_wall_offset();
        const int64_t difference = t->seen_offset - t->stamp_offset;
        t->stepped = difference > NR_STEP_NS || difference < -NR_STEP_NS;
        t->shift = clock->offset - t->stamp_offset;
    }
}

/* Returns whether a frame of the open block can have come at this monotonic time. */
static bool is_plausible(const struct tpacket *t, uint64_t time) {
    return time + SLACK_NS >= t->latest && time <= t->source.read_at + SLACK_NS;
}

static uint64_t flow_time_by_step(struct tpacket *t, uint64_t stamp) {
    const uint64_t after = stamp - (uint64_t)t->seen_offset;
    uint64_t time = stamp - (uint64_t)t->stamp_offset;
    if (is_plausible(t, after)) {
        t->stamp_offset = t->seen_offset;
        t->shift = t->source.clock->offset - t->stamp_offset;
        t->stepped = false;
        time = after;
    } else if (!is_plausible(t, time)) {
        time = t->source.read_at; /* stamped between two steps */
    }
    return nr_flow_time(t->source.clock, time);
}

static uint64_t time_of_frame(struct tpacket *t, const struct tpacket3_hdr *hdr) {
    const uint64_t stamp = (uint64_t)hdr->tp_sec * 1000000000u + hdr->tp_nsec;
    return NR_LIKELY(!t->stepped) ? stamp + (uint64_t)t->shift : flow_time_by_step(t, stamp);
}

static bool open_block(struct tpacket *t) {
    const struct tpacket_block_desc *block = block_of(t, t->block);
    if (!(nr_load_acquire(&block->hdr.bh1.block_status) & TP_STATUS_USER)) {
        return false;
    }
    t->source.read_at = nr_monotonic_ns(); /* once a block */
    set_times(t);
    t->open = true;
    t->left = block->hdr.bh1.num_pkts;
    t->offset = block->hdr.bh1.offset_to_first_pkt;
    return true;
}

/* Lends one frame of the open block. Returns false if the block does not hold what its headers
 * say. */
static bool lend_frame(struct tpacket *t, struct nr_frame *frame) {
    const uint8_t *base = (const uint8_t *)block_of(t, t->block);
    if (t->offset > t->block_size - sizeof(struct tpacket3_hdr)) {
        return false;
    }
    const struct tpacket3_hdr *hdr = (const void *)(base + t->offset);
    const uint64_t start = (uint64_t)t->offset + hdr->tp_mac;
    if (start + hdr->tp_snaplen > t->block_size) {
        return false;
    }
    *frame = (struct nr_frame){
        .data = base + start,
        .ts = time_of_frame(t, hdr),
        .caplen = hdr->tp_snaplen,
        .len = hdr->tp_len,
    };
    if (hdr->tp_status & TP_STATUS_VLAN_VALID) {
        frame->vlan_tci = (uint16_t)hdr->hv1.tp_vlan_tci;
        frame->vlan_tpid =
            hdr->tp_status & TP_STATUS_VLAN_TPID_VALID ? hdr->hv1.tp_vlan_tpid : 0x8100;
        frame->len += 4; /* the tag was on the wire */
    }
    t->offset += hdr->tp_next_offset;
    /* Prefetch eight frames ahead, assuming they have this frame's size. Another CPU wrote them,
     * and each header tells only where the next frame is. */
    const uint8_t *ahead = base + t->offset + (size_t)8 * hdr->tp_next_offset;
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + 64);
    return true;
}

static uint32_t tpacket_next(struct nr_source *source, struct nr_frame *frames, uint32_t max) {
    struct tpacket *t = (struct tpacket *)source;
    uint32_t count = 0;
    if (!t->open && !open_block(t)) {
        return 0;
    }
    while (count < max && t->left > 0) {
        if (!lend_frame(t, &frames[count])) {
            /* The block is corrupt: its frames still count as received, with no bytes. */
            frames[count] = (struct nr_frame){.data = t->map};
        }
        count++;
        t->left--;
    }
    if ((t->shift != 0 || t->stepped) && frames[count - 1].ts != 0) {
        t->latest = frames[count - 1].ts - (uint64_t)t->source.clock->offset;
    }
    source->lent += count;
    return count;
}

static void tpacket_release(struct nr_source *source) {
    struct tpacket *t = (struct tpacket *)source;
    if (t->open && t->left == 0) {
        nr_store_release(&block_of(t, t->block)->hdr.bh1.block_status, TP_STATUS_KERNEL);
        t->block = (t->block + 1) % t->block_count;
        t->open = false;
    }
}

/* An interface that goes down and one that is deleted give the same error (ENETDOWN, once); the
 * name tells them apart. */
static int tpacket_check(struct nr_source *source) {
    const struct tpacket *t = (const struct tpacket *)source;
    struct ifreq request;
    int error = 0;
    socklen_t length = sizeof error;
    /* Reading SO_ERROR clears POLLERR; poll(2) would otherwise return at once for ever. */
    (void)getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    memset(&request, 0, sizeof request);
    request.ifr_ifindex = (int)t->ifindex;
    if (ioctl(source->fd, SIOCGIFNAME, &request) != 0) {
        return -ENODEV;
    }
    if (ioctl(source->fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
        return -ENETDOWN;
    }
    return 0;
}

/* The kernel resets its counters when they are read; nothing else reads them. */
static void tpacket_account(struct nr_source *source) {
    struct tpacket_stats_v3 statistics;
    socklen_t length = sizeof statistics;
    if (getsockopt(source->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) != 0) {
        return;
    }
    source->tp_packets += statistics.tp_packets; /* includes tp_drops */
    source->tp_drops += statistics.tp_drops;
}

static uint64_t tpacket_in_ring(const struct nr_source *source) {
    return source->tp_packets - source->tp_drops - source->lent;
}

static int tpacket_set_filter(struct nr_source *source, const nr_bpf_insn *insns, uint32_t count,
                              int program_fd) {
    return insns != NULL ? nr_attach_filter(source->fd, insns, count)
                         : nr_attach_program(source->fd, program_fd);
}

/* Sets a filter that rejects every frame; the timer retires those in the ring. */
static void tpacket_quiesce(struct nr_source *source) {
    const nr_bpf_insn reject = {.code = BPF_RET | BPF_K, .k = 0};
    (void)nr_attach_filter(source->fd, &reject, 1);
}

/* -- close -- */

static void tpacket_destroy(struct nr_source *source) {
    struct tpacket *t = (struct tpacket *)source;
    if (t->map != NULL && !source->inherited) {
        munmap(t->map, t->map_size);
    }
    if (source->fd >= 0) {
        close(source->fd);
    }
    free(t);
}

static const struct nr_source_ops tpacket_ops = {
    .next = tpacket_next,
    .release = tpacket_release,
    .check = tpacket_check,
    .account = tpacket_account,
    .in_ring = tpacket_in_ring,
    .set_filter = tpacket_set_filter,
    .quiesce = tpacket_quiesce,
    .destroy = tpacket_destroy,
};

int nr_tpacket_create(const nr_tpacket_options *options, struct nr_source **out) {
    struct tpacket *t = calloc(1, sizeof *t);
    int rc;
    if (t == NULL) {
        return -ENOMEM;
    }
    t->source.ops = &tpacket_ops;
    t->ifindex = options->ifindex;
    t->stamp_offset = nr_wall_offset();
    t->latest = nr_monotonic_ns();
    t->source.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    rc = t->source.fd >= 0 ? 0 : -errno;
    if (rc == 0) {
        rc = options->program_fd >= 0
                 ? nr_attach_program(t->source.fd, options->program_fd)
                 : nr_attach_filter(t->source.fd, options->insns, options->insn_count);
    }
    if (rc == 0) {
        rc = make_ring(t, options);
    }
    if (rc == 0) {
        rc = bind_interface(t, options);
    }
    if (rc != 0) {
        tpacket_destroy(&t->source);
        return rc;
    }
    *out = &t->source;
    return 0;
}
