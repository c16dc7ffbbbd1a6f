/* The clock that packet times are read from. */
#ifndef NR_CLOCK_H
#define NR_CLOCK_H

#include <time.h>

#include "core.h"

/* CLOCK_REALTIME in nanoseconds. */
static inline uint64_t nr_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
