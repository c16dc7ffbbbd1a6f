/* AF_XDP: one socket on one queue, with its own UMEM (Documentation/networking/af_xdp.rst).
 *
 * Every chunk is always in exactly one place: the fill ring, the kernel's hands, the rx ring, or
 * lent to the reader. The fill ring has a slot for each chunk, so giving one back never fails. */
#include <errno.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "source/source.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#define COMPLETION_SIZE 64u /* nothing is sent, but bind(2) requires the ring */
#define BIND_PATIENCE_MS 500
#define HUGE_PAGE ((size_t)2 << 20)
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

struct ring {
    uint32_t *producer;
    uint32_t *consumer;
    uint32_t *flags;
    void *descs;
    uint32_t mask;
    void *map;
    size_t map_size;
};

struct xsk {
    struct nr_source source;
    struct ring rx, fill, completion;
    uint8_t *umem;
    size_t umem_size;
    size_t umem_map_size;
    uint64_t chunk_mask;
    uint32_t consumed; /* rx ring: our index, ahead of *consumer by the frames lent */
    uint32_t lent;
    uint32_t filled; /* fill ring: our index */
    uint32_t snaplen;
};

/* -- open -- */

static bool map_memory(struct xsk *x, size_t size, int flags) {
    void *map =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    x->umem = map;
    x->umem_map_size = size;
    (void)madvise(map, size, MADV_DONTFORK);
    return true;
}

/* mmap(2) reserves the huge pages, so it fails if there are too few. */
static int map_umem(struct xsk *x, bool huge_pages) {
    const size_t rounded = (x->umem_size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    x->source.huge_pages = huge_pages && map_memory(x, rounded, MAP_HUGETLB | MAP_HUGE_2MB);
    return x->source.huge_pages || map_memory(x, x->umem_size, 0) ? 0 : -errno;
}

static int register_umem(struct xsk *x, const nr_xsk_options *options) {
    x->umem_size = (size_t)options->chunks * options->chunk_size;
    const int rc = map_umem(x, options->huge_pages);
    if (rc != 0) {
        return rc;
    }
    struct xdp_umem_reg reg = {
        .addr = (uint64_t)(uintptr_t)x->umem,
        .len = x->umem_size,
        .chunk_size = options->chunk_size,
    };
    x->chunk_mask = ~((uint64_t)options->chunk_size - 1);
    return setsockopt(x->source.fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) == 0 ? 0 : -errno;
}

static int size_ring(const struct xsk *x, struct ring *ring, int option, uint32_t size) {
    ring->mask = size - 1;
    return setsockopt(x->source.fd, SOL_XDP, option, &size, sizeof size) == 0 ? 0 : -errno;
}

static int map_ring(const struct xsk *x, struct ring *ring, size_t entry,
                    const struct xdp_ring_offset *offset, uint64_t page) {
    const size_t size = offset->desc + ((size_t)ring->mask + 1) * entry;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, x->source.fd,
                     (off_t)page);
    if (map == MAP_FAILED) {
        return -errno;
    }
    /* A child's mapping would keep the socket, and so the queue, after this process has ended. */
    (void)madvise(map, size, MADV_DONTFORK);
    uint8_t *base = map;
    ring->map = map;
    ring->map_size = size;
    ring->producer = (uint32_t *)(void *)(base + offset->producer);
    ring->consumer = (uint32_t *)(void *)(base + offset->consumer);
    ring->flags = (uint32_t *)(void *)(base + offset->flags);
    ring->descs = base + offset->desc;
    return 0;
}

static int make_rings(struct xsk *x, const nr_xsk_options *options) {
    struct xdp_mmap_offsets off;
    socklen_t length = sizeof off;
    int rc = size_ring(x, &x->fill, XDP_UMEM_FILL_RING, options->chunks);
    if (rc == 0) {
        rc = size_ring(x, &x->completion, XDP_UMEM_COMPLETION_RING, COMPLETION_SIZE);
    }
    if (rc == 0) {
        rc = size_ring(x, &x->rx, XDP_RX_RING, options->ring_size);
    }
    if (rc == 0 && getsockopt(x->source.fd, SOL_XDP, XDP_MMAP_OFFSETS, &off, &length) != 0) {
        rc = -errno;
    }
    if (rc == 0) {
        rc = map_ring(x, &x->fill, sizeof(uint64_t), &off.fr, XDP_UMEM_PGOFF_FILL_RING);
    }
    if (rc == 0) {
        rc = map_ring(x, &x->completion, sizeof(uint64_t), &off.cr, XDP_UMEM_PGOFF_COMPLETION_RING);
    }
    if (rc == 0) {
        rc = map_ring(x, &x->rx, sizeof(struct xdp_desc), &off.rx, XDP_PGOFF_RX_RING);
    }
    return rc;
}

static void fill_all(struct xsk *x, const nr_xsk_options *options) {
    uint64_t *slots = x->fill.descs;
    for (uint32_t i = 0; i < options->chunks; i++) {
        slots[i] = (uint64_t)i * options->chunk_size;
    }
    x->filled = options->chunks;
    nr_store_release(x->fill.producer, x->filled);
}

/* Binds to the queue, and retries for a while: the kernel frees a queue only some time after its
 * last owner has closed. */
static int bind_queue(const struct xsk *x, const nr_xsk_options *options) {
    const struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = XDP_USE_NEED_WAKEUP, /* copy or zero copy: the kernel's choice */
        .sxdp_ifindex = options->ifindex,
        .sxdp_queue_id = options->queue,
    };
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    for (int waited = 0;; waited += 5) {
        if (bind(x->source.fd, (const struct sockaddr *)&address, sizeof address) == 0) {
            return 0;
        }
        if (errno != EBUSY || waited >= BIND_PATIENCE_MS) {
            return -errno;
        }
        nanosleep(&pause, NULL);
    }
}

static bool is_zero_copy(int fd) {
    struct xdp_options options = {0};
    socklen_t length = sizeof options;
    return getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &length) == 0 &&
           options.flags & XDP_OPTIONS_ZEROCOPY;
}

static int set_option(int fd, int option, int value) {
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0 ? 0 : -errno;
}

int nr_xsk_set_busy_poll(struct nr_source *source, uint32_t microseconds, uint32_t budget) {
    int rc = set_option(source->fd, SO_PREFER_BUSY_POLL, 1);
    if (rc == 0) {
        rc = set_option(source->fd, SO_BUSY_POLL, (int)microseconds);
    }
    if (rc == 0) {
        rc = set_option(source->fd, SO_BUSY_POLL_BUDGET, (int)budget);
    }
    source->busy_ns = rc == 0 ? (uint64_t)microseconds * 1000 : 0;
    return rc;
}

/* -- run -- */

#define TAG_AT 12u
#define TAG_SIZE 4u

/* Returns how many bytes of a frame to lend. snaplen does not count the outermost tag, as on
 * TPACKET_V3, where the kernel takes it out first. */
static uint32_t captured_length(const uint8_t *data, uint32_t len, uint32_t snaplen) {
    if (NR_LIKELY(len <= snaplen)) {
        return len;
    }
    const bool tagged =
        len >= TAG_AT + TAG_SIZE + 2 && ((data[TAG_AT] == 0x81 && data[TAG_AT + 1] == 0x00) ||
                                         (data[TAG_AT] == 0x88 && data[TAG_AT + 1] == 0xa8));
    const uint32_t most = tagged ? snaplen + TAG_SIZE : snaplen;
    return len < most ? len : most;
}

static uint64_t time_of_frames(const struct nr_clock *clock, uint64_t now) {
    return nr_load_relaxed(&clock->is_used) ? nr_flow_time(clock, now) : nr_wall_ns();
}

static uint32_t xsk_next(struct nr_source *source, struct nr_frame *frames, uint32_t max) {
    struct xsk *x = (struct xsk *)source;
    const struct xdp_desc *descs = x->rx.descs;
    const uint32_t ready = nr_load_acquire(x->rx.producer) - x->consumed;
    const uint32_t count = ready < max ? ready : max;
    /* One reading for the batch: the kernel gives its frames no time. */
    const uint64_t now = count > 0 ? nr_monotonic_ns() : 0;
    const uint64_t ts = count > 0 ? time_of_frames(source->clock, now) : 0;
    const uint32_t snaplen = nr_load_relaxed(&x->snaplen);
    for (uint32_t i = 0; i < count; i++) {
        const struct xdp_desc *desc = &descs[(x->consumed + i) & x->rx.mask];
        const bool inside = desc->addr < x->umem_size && desc->len <= x->umem_size - desc->addr;
        const uint8_t *data = x->umem + (inside ? desc->addr : 0);
        frames[i] = (struct nr_frame){
            .data = data,
            .ts = ts,
            .caplen = inside ? captured_length(data, desc->len, snaplen) : 0,
            .len = desc->len,
        };
    }
    x->consumed += count;
    x->lent = count;
    source->lent += count;
    source->read_at = count > 0 ? now : source->read_at;
    return count;
}

static void wake_up(const struct xsk *x) {
    if (nr_load_relaxed(x->fill.flags) & XDP_RING_NEED_WAKEUP) {
        /* This call only wakes the driver: it receives nothing, and check() sees its errors. */
        (void)recvfrom(x->source.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    }
}

static void xsk_release(struct nr_source *source) {
    struct xsk *x = (struct xsk *)source;
    const struct xdp_desc *descs = x->rx.descs;
    uint64_t *slots = x->fill.descs;
    for (uint32_t i = 0; i < x->lent; i++) {
        const uint32_t at = x->consumed - x->lent + i;
        slots[x->filled++ & x->fill.mask] = descs[at & x->rx.mask].addr & x->chunk_mask;
    }
    x->lent = 0;
    nr_store_release(x->fill.producer, x->filled);
    nr_store_release(x->rx.consumer, x->consumed);
    wake_up(x);
}

/* Runs the queue's NAPI once, for busy polling: a non-blocking read does that. */
static void xsk_drive(struct nr_source *source) {
    if (source->busy_ns > 0) {
        (void)recvfrom(source->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    }
}

/* Reads from the socket, as poll(2) never tells that its device is down or gone. */
static int xsk_check(struct nr_source *source) {
    if (recvfrom(source->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) >= 0) {
        return 0;
    }
    switch (errno) {
    case ENETDOWN:
        return -ENETDOWN;
    case ENXIO:
    case ENODEV:
        return -ENODEV;
    default:
        return 0; /* EAGAIN, EBUSY, EINTR, ENOBUFS: alive */
    }
}

static void xsk_account(struct nr_source *source) {
    struct xdp_statistics statistics;
    socklen_t length = sizeof statistics;
    if (getsockopt(source->fd, SOL_XDP, XDP_STATISTICS, &statistics, &length) != 0) {
        return; /* the last values stay */
    }
    source->rx_dropped = statistics.rx_dropped;
    source->rx_ring_full = statistics.rx_ring_full;
    source->fill_ring_empty = statistics.rx_fill_ring_empty_descs;
}

static uint64_t xsk_in_ring(const struct nr_source *source) {
    const struct xsk *x = (const struct xsk *)source;
    return nr_load_acquire(x->rx.producer) - x->consumed;
}

static void xsk_set_snaplen(struct nr_source *source, uint32_t snaplen) {
    nr_store_relaxed(&((struct xsk *)source)->snaplen, snaplen);
}

/* -- close: the rings before the socket, or the queue stays busy -- */

static void unmap(const struct xsk *x, void *map, size_t size) {
    if (map != NULL && !x->source.inherited) {
        munmap(map, size);
    }
}

static void xsk_destroy(struct nr_source *source) {
    struct xsk *x = (struct xsk *)source;
    unmap(x, x->rx.map, x->rx.map_size);
    unmap(x, x->completion.map, x->completion.map_size);
    unmap(x, x->fill.map, x->fill.map_size);
    if (source->fd >= 0) {
        close(source->fd);
    }
    unmap(x, x->umem, x->umem_map_size);
    free(x);
}

/* Returns how long the reader may nap. A ring of this size does not fill meanwhile, not even with
 * the smallest frames at 10 Gbit/s. */
static uint64_t nap_ns_for(uint32_t descriptors) {
    if (descriptors >= 16384) {
        return 200000;
    }
    return descriptors >= 1024 ? 50000 : 0;
}

static const struct nr_source_ops xsk_ops = {
    .next = xsk_next,
    .release = xsk_release,
    .check = xsk_check,
    .account = xsk_account,
    .in_ring = xsk_in_ring,
    .set_snaplen = xsk_set_snaplen,
    .drive = xsk_drive,
    .destroy = xsk_destroy,
};

int nr_xsk_create(const nr_xsk_options *options, struct nr_source **out) {
    struct xsk *x = calloc(1, sizeof *x);
    int rc;
    if (x == NULL) {
        return -ENOMEM;
    }
    x->source.ops = &xsk_ops;
    x->snaplen = options->snaplen;
    x->source.written_afar = true;
    x->source.nap_ns = nap_ns_for(options->ring_size);
    x->source.fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    rc = x->source.fd >= 0 ? 0 : -errno;
    if (rc == 0) {
        rc = register_umem(x, options);
    }
    if (rc == 0) {
        rc = make_rings(x, options);
    }
    if (rc == 0) {
        fill_all(x, options);
        rc = bind_queue(x, options);
    }
    if (rc != 0) {
        xsk_destroy(&x->source);
        return rc;
    }
    x->source.zero_copy = is_zero_copy(x->source.fd);
    *out = &x->source;
    return 0;
}
