/* Waits of a replay for its consumer: for room for events and records, and until it takes an interval
 * of the sums. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "loop/reader.h"

int nr_reader_answer_bell(const nr_reader *r) {
    uint64_t rung;
    if (read(r->bell_fd, &rung, sizeof rung) < 0 && errno != EAGAIN) {
        return -errno;
    }
    return nr_load_acquire(&r->stopping) ? 1 : 0;
}

/* -- for events -- */

uint32_t nr_replay_allowance(const nr_reader *r, uint64_t tail) {
    const uint32_t slots = r->handoff.mask + 1;
    const uint32_t room = slots - (uint32_t)(r->handoff.head - tail);
    /* Room that the timers do not use. */
    const uint32_t reserve =
        NR_BATCH * (NR_EVENTS_PER_PACKET * (1 + r->decode.tunnel_depth) + NR_APP_EVENTS);
    const uint32_t each =
        nr_events_per_frame(&r->decode) + NR_SWEEP_MAX * (1 + r->decode.tunnel_depth);
    uint32_t frames = room > reserve ? (room - reserve) / each : 0;
    if (slots < reserve + each) {
        frames = room / nr_events_per_frame(&r->decode);
    }
    if (NR_UNLIKELY(r->stamps.count > 0)) {
        const uint32_t one = frames > 0 && room == slots ? 1 : 0;
        frames = frames > r->stamps.count ? frames - r->stamps.count : one;
    }
    return frames < NR_BATCH ? frames : NR_BATCH;
}

static bool has_frames(const nr_reader *r, uint64_t tail) {
    return nr_replay_allowance(r, tail) > 0;
}

/* Waits until the consumer has made room for a replay, as `has_room` says when the consumer has
 * come to a tail. */
static int wait_for_room(nr_reader *r, bool (*has_room)(const nr_reader *r, uint64_t tail)) {
    struct pollfd fds[2] = {{.fd = r->bell_fd, .events = POLLIN},
                            {.fd = r->handoff.space_fd, .events = POLLIN}};
    uint64_t bell;
    __atomic_store_n(&r->handoff.waiting, 1, __ATOMIC_SEQ_CST);
    if (!has_room(r, __atomic_load_n(&r->handoff.tail, __ATOMIC_SEQ_CST))) {
        (void)poll(fds, 2, NR_TICK_MS);
    }
    __atomic_store_n(&r->handoff.waiting, 0, __ATOMIC_SEQ_CST);
    if (read(r->handoff.space_fd, &bell, sizeof bell) < 0 && errno != EAGAIN) {
        return -errno;
    }
    return fds[0].revents & POLLIN ? nr_reader_answer_bell(r) : 0;
}

int nr_replay_wait(nr_reader *r) {
    return wait_for_room(r, has_frames);
}

/* -- for records -- */

/* Returns the bytes that have to be free for records before a frame of a replay: those of the
 * frame, behind all that its timers report, so that none is put off. A hand-off too small for that
 * has room for those of the frame. */
static uint32_t texts_needed(const nr_reader *r) {
    const struct nr_handoff *h = &r->handoff;
    const uint32_t size = h->text_mask + 1;
    const uint32_t all = nr_handoff_text_kept(h) + NR_SWEEP_MAX * NR_RECORD_SIZE;
    return all < size - size / 4 ? all : h->text_reserve;
}

static bool has_texts(const nr_reader *r, uint64_t tail) {
    (void)tail; /* nr_handoff_take() moves the records' tail before this one */
    return nr_handoff_text_room(&r->handoff) >= texts_needed(r);
}

void nr_reader_await_texts(nr_reader *r) {
    struct nr_handoff *h = &r->handoff;
    int rc = 0;
    h->text_pause = UINT64_MAX;
    while (rc >= 0 && !nr_load_relaxed(&r->stopping)) {
        if (has_texts(r, nr_load_acquire(&h->tail))) {
            h->text_pause = h->text_head + nr_handoff_text_room(h) - texts_needed(r) + 1;
            return;
        }
        nr_handoff_publish(h);
        rc = wait_for_room(r, has_texts);
    }
}

/* -- for an interval of the sums -- */

static bool has_no_interval(const nr_reader *r, uint64_t tail) {
    (void)tail;
    return !nr_table_has_interval(r->table);
}

bool nr_reader_await_interval(void *reader) {
    nr_reader *r = reader;
    if (nr_load_acquire(&r->stopping)) {
        return false;
    }
    nr_handoff_publish(&r->handoff);
    return wait_for_room(r, has_no_interval) == 0;
}
