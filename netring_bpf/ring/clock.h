/* The clocks: CLOCK_MONOTONIC for deadlines and timers, the wall clock for the times of frames, and
 * flow time, which is the wall clock without its steps: that of this machine in a live capture,
 * that of the machine that captured in a file (loop/stamps.c). */
#ifndef NR_CLOCK_H
#define NR_CLOCK_H

#include <time.h>

#include "core.h"

/* Flow time may be this much faster or slower than the monotonic clock while it follows the wall
 * clock: the kernel's own limit for a clock that is not to jump (adjtime(3)). */
#define NR_SLEW_PPM 500u

/* The wall clock moves against the monotonic one by steps only: both are slewed alike. A step is at
 * least this long. */
#define NR_STEP_NS 1000000

/* Flow time of a live capture is the monotonic clock plus an offset. The offset is that of the wall
 * clock when the reader was made, and then follows it by NR_SLEW_PPM at most: flow time neither
 * runs back nor jumps, whatever becomes of the wall clock. */
struct nr_clock {
    int64_t offset; /* written by the reader's thread only */
    int64_t wall;   /* the wall clock's offset, as of the last look */
    uint64_t steps; /* of the wall clock, or of the stamps in a file */
    bool is_used;   /* frames have flow time instead of wall time: they go to the flow table */
};

static inline uint64_t nr_read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t nr_monotonic_ns(void) {
    return nr_read_clock(CLOCK_MONOTONIC);
}

static inline uint64_t nr_wall_ns(void) {
    return nr_read_clock(CLOCK_REALTIME);
}

/* Returns how far the wall clock is ahead of the monotonic one. Reads again if the thread was
 * interrupted between the two. */
static inline int64_t nr_wall_offset(void) {
    uint64_t before, wall, after;
    int tries = 0;
    do {
        before = nr_monotonic_ns();
        wall = nr_wall_ns();
        after = nr_monotonic_ns();
    } while (after - before > 10000 && ++tries < 5);
    return (int64_t)(wall - before - (after - before) / 2);
}

static inline uint64_t nr_flow_time(const struct nr_clock *clock, uint64_t monotonic) {
    return monotonic + (uint64_t)nr_load_relaxed(&clock->offset);
}

/* Moves flow time towards the wall clock; called once every `ns`. */
static inline void nr_clock_slew(struct nr_clock *clock, uint64_t ns) {
    const int64_t most = (int64_t)(ns / 1000000 * NR_SLEW_PPM);
    const int64_t wall = nr_wall_offset();
    const int64_t moved = wall - clock->wall, ahead = wall - clock->offset;
    const int64_t step = ahead > most ? most : ahead < -most ? -most : ahead;
    clock->steps += moved >= NR_STEP_NS || moved <= -NR_STEP_NS;
    clock->wall = wall;
    nr_store_relaxed(&clock->offset, clock->offset + step);
}

#endif
