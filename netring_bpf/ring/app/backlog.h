/* The bytes of one side that wait for others: a window of 16 KiB over the side's stream, in chunks
 * of a pool. It may have holes, which later bytes fill; where bytes come twice, the first ones
 * stay. A backlog is empty if all before `chunk` is 0. */
#ifndef NR_APP_BACKLOG_H
#define NR_APP_BACKLOG_H

#include "app/pool.h"

#define NR_BACKLOG_CHUNKS 16u
#define NR_BACKLOG_SIZE (NR_BACKLOG_CHUNKS * NR_CHUNK)
#define NR_BACKLOG_RANGES 16u /* so that 32 pieces may come in any order */

struct nr_backlog {
    uint16_t phase; /* where the window begins in its first chunk */
    uint8_t count;
    uint8_t chunks; /* in use */
    uint16_t held;  /* a bit for each chunk in use */
    struct {
        uint16_t start, end;    /* in the window */
    } range[NR_BACKLOG_RANGES]; /* of bytes that are there; in order, and they do not touch */
    uint32_t chunk[NR_BACKLOG_CHUNKS]; /* numbers in the pool */
};

enum {
    NR_BACKLOG_PUT,
    NR_BACKLOG_TOO_LONG, /* reaches beyond the window, or beyond the chunks that are allowed */
    NR_BACKLOG_FULL,     /* the pool is empty */
    NR_BACKLOG_HOLES     /* there are too many holes */
};

/* Puts bytes at an offset of the window. `chunks`: those that this backlog may have. Unless it
 * returns NR_BACKLOG_PUT, the bytes are not there. */
int nr_backlog_put(struct nr_pool *pool, struct nr_backlog *backlog, uint32_t chunks,
                   uint32_t offset, const uint8_t *bytes, uint32_t length);
/* Copies the bytes before the first hole to `out`. Returns their number. */
uint32_t nr_backlog_copy(const struct nr_pool *pool, const struct nr_backlog *backlog,
                         uint8_t *out);
/* Moves the window on, and drops what lies before it. */
void nr_backlog_drop(struct nr_pool *pool, struct nr_backlog *backlog, uint64_t length);
void nr_backlog_clear(struct nr_pool *pool, struct nr_backlog *backlog);

/* Returns the number of bytes before the first hole. */
static inline uint32_t nr_backlog_ready(const struct nr_backlog *backlog) {
    return backlog->count > 0 && backlog->range[0].start == 0 ? backlog->range[0].end : 0;
}

/* Returns how many bytes at an offset fit into the window. */
static inline uint32_t nr_backlog_room(const struct nr_backlog *backlog, uint32_t offset) {
    const uint32_t size = NR_BACKLOG_SIZE - backlog->phase;
    return offset < size ? size - offset : 0;
}

#endif
