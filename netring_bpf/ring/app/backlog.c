/* The backlog of a side: see backlog.h. */
#include "app/backlog.h"

static void remove_range(struct nr_backlog *b, uint32_t n) {
    b->count--;
    for (; n < b->count; n++) {
        b->range[n] = b->range[n + 1];
    }
}

/* Adds a range, merged with those that it touches. Returns false if there are too many. */
static bool add_range(struct nr_backlog *b, uint32_t start, uint32_t end) {
    uint32_t n = 0;
    while (n < b->count && b->range[n].end < start) {
        n++;
    }
    const bool is_apart = n == b->count || b->range[n].start > end;
    if (is_apart && b->count == NR_BACKLOG_RANGES) {
        return false;
    }
    while (n < b->count && b->range[n].start <= end) {
        start = b->range[n].start < start ? b->range[n].start : start;
        end = b->range[n].end > end ? b->range[n].end : end;
        remove_range(b, n);
    }
    for (uint32_t j = b->count; j > n; j--) {
        b->range[j] = b->range[j - 1];
    }
    b->range[n].start = (uint16_t)start;
    b->range[n].end = (uint16_t)end;
    b->count++;
    return true;
}

/* Takes the chunks that start..end needs. */
static int take_chunks(struct nr_pool *pool, struct nr_backlog *b, uint32_t allowed, uint32_t start,
                       uint32_t end) {
    const uint32_t last = (b->phase + end - 1) / NR_CHUNK;
    for (uint32_t n = (b->phase + start) / NR_CHUNK; n <= last; n++) {
        if (b->held >> n & 1) {
            continue;
        }
        if (b->chunks >= allowed) {
            return NR_BACKLOG_TOO_LONG;
        }
        const uint32_t chunk = nr_pool_take(pool);
        if (chunk == 0) {
            return NR_BACKLOG_FULL;
        }
        b->chunk[n] = chunk;
        b->held |= (uint16_t)(1u << n);
        b->chunks++;
    }
    return NR_BACKLOG_PUT;
}

static void copy_in(const struct nr_pool *pool, const struct nr_backlog *b, uint32_t start,
                    uint32_t end, const uint8_t *bytes) {
    while (start < end) {
        const uint32_t at = b->phase + start, in_chunk = at % NR_CHUNK;
        const uint32_t room = NR_CHUNK - in_chunk;
        const uint32_t part = end - start < room ? end - start : room;
        memcpy(nr_chunk_at(pool, b->chunk[at / NR_CHUNK]) + in_chunk, bytes, part);
        bytes += part;
        start += part;
    }
}

/* Copies what is not there yet. */
static void fill_holes(const struct nr_pool *pool, const struct nr_backlog *b, uint32_t start,
                       uint32_t end, const uint8_t *bytes) {
    uint32_t at = start;
    for (uint32_t n = 0; n < b->count && at < end; n++) {
        const uint32_t until = b->range[n].start < end ? b->range[n].start : end;
        if (at < until) {
            copy_in(pool, b, at, until, bytes + (at - start));
        }
        at = b->range[n].end > at ? b->range[n].end : at;
    }
    if (at < end) {
        copy_in(pool, b, at, end, bytes + (at - start));
    }
}

int nr_backlog_put(struct nr_pool *pool, struct nr_backlog *b, uint32_t chunks, uint32_t offset,
                   const uint8_t *bytes, uint32_t length) {
    if (length == 0) {
        return NR_BACKLOG_PUT;
    }
    if (length > nr_backlog_room(b, offset)) {
        return NR_BACKLOG_TOO_LONG;
    }
    const int taken = take_chunks(pool, b, chunks, offset, offset + length);
    if (taken != NR_BACKLOG_PUT) {
        return taken;
    }
    const struct nr_backlog before = *b;
    if (!add_range(b, offset, offset + length)) {
        return NR_BACKLOG_HOLES;
    }
    fill_holes(pool, &before, offset, offset + length, bytes);
    return NR_BACKLOG_PUT;
}

uint32_t nr_backlog_copy(const struct nr_pool *pool, const struct nr_backlog *b, uint8_t *out) {
    const uint32_t ready = nr_backlog_ready(b);
    for (uint32_t done = 0; done < ready;) {
        const uint32_t at = b->phase + done, in_chunk = at % NR_CHUNK;
        const uint32_t room = NR_CHUNK - in_chunk;
        const uint32_t part = ready - done < room ? ready - done : room;
        memcpy(out + done, nr_chunk_at(pool, b->chunk[at / NR_CHUNK]) + in_chunk, part);
        done += part;
    }
    return ready;
}

void nr_backlog_clear(struct nr_pool *pool, struct nr_backlog *b) {
    for (uint32_t n = 0; b->held >> n != 0; n++) {
        if (b->held >> n & 1) {
            nr_pool_give(pool, b->chunk[n]);
        }
    }
    memset(b, 0, offsetof(struct nr_backlog, chunk));
}

/* Gives the first chunks back, and moves the others to the front. */
static void drop_chunks(struct nr_pool *pool, struct nr_backlog *b, uint32_t count) {
    for (uint32_t n = 0; n < count; n++) {
        if (b->held >> n & 1) {
            nr_pool_give(pool, b->chunk[n]);
            b->chunks--;
        }
    }
    b->held = (uint16_t)(b->held >> count);
    memmove(b->chunk, b->chunk + count, (NR_BACKLOG_CHUNKS - count) * sizeof *b->chunk);
}

void nr_backlog_drop(struct nr_pool *pool, struct nr_backlog *b, uint64_t length) {
    while (b->count > 0 && b->range[0].end <= length) {
        remove_range(b, 0);
    }
    if (b->count == 0) {
        nr_backlog_clear(pool, b);
        return;
    }
    for (uint32_t n = 0; n < b->count; n++) {
        b->range[n].start -= b->range[n].start < length ? b->range[n].start : (uint16_t)length;
        b->range[n].end -= (uint16_t)length;
    }
    const uint32_t phase = b->phase + (uint32_t)length;
    drop_chunks(pool, b, phase / NR_CHUNK);
    b->phase = (uint16_t)(phase % NR_CHUNK);
}
