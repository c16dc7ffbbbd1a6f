/* The reader's loop: sources → decode → flow table → hand-off, in one thread. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "loop/reader.h"
#include "siphash.h"

#define DRAIN_NS (2000ull * 1000 * 1000)
#define DRAIN_POLL_MS 5
#define NAP_NS 50000
#define MANY 256           /* frames since the last nap that make the next one long */
#define REPLAY_PASSES 256  /* between two publications of the books */
#define ID_BYTES 256u      /* of the first frame, for the ids of flows */
#define COUNT_BESIDE 512u  /* cost of a step of nr_table_count() after each batch */
#define COUNT_IDLE 8192u   /* the same where no frames wait */
#define REPLAY_EVENTS 1024 /* events handed over at once: a wake-up is expensive */

/* -- one pass over one source -- */

/* Returns how many frames may be taken now: a replay waits for room, a live ring does not. */
static uint32_t frame_allowance(const nr_reader *r, const struct nr_source *source) {
    return source->finite ? nr_replay_allowance(r, nr_load_acquire(&r->handoff.tail)) : NR_BATCH;
}

/* Prefetches a whole batch of frames, which another CPU wrote. The hint says that they are needed
 * once: on many CPUs this keeps them out of the second-level cache, and disturbs the sender's CPU
 * less. All at once costs less than a few frames ahead (see docs/performance.md). */
static void prefetch_frames(const struct nr_frame *frames, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        __builtin_prefetch(frames[i].data, 0, 0);
    }
}

/* Makes the ids of flows depend on the first frame, so that different captures have different ids
 * and the same capture has the same ones. */
static void shift_ids(nr_reader *r, const struct nr_frame *frame) {
    static const uint64_t key[2] = {0, 0}; /* the same in each process */
    uint64_t words[3 + ID_BYTES / 8] = {frame->ts, frame->len, frame->caplen};
    memcpy(&words[3], frame->data, frame->caplen < ID_BYTES ? frame->caplen : ID_BYTES);
    const uint64_t hash = nr_siphash13(key, words, sizeof words / sizeof *words);
    nr_table_shift_ids(r->table, hash >> (64 - NR_ID_BITS));
    r->id_by_frame = false;
}

static uint32_t read_source(nr_reader *r, struct nr_source *source) {
    struct nr_frame frames[NR_BATCH];
    const uint32_t max = frame_allowance(r, source);
    const uint32_t count = max > 0 ? source->ops->next(source, frames, max) : 0;
    if (count > 0) {
        r->read_at = source->read_at;
        if (source->written_afar) {
            prefetch_frames(frames, count);
        }
        if (NR_UNLIKELY(r->id_by_frame)) {
            shift_ids(r, frames);
        }
        if (source->finite) {
            nr_stamps_dissect(r, frames, count);
        } else {
            nr_reader_dissect(r, frames, count);
        }
        source->ops->release(source);
    }
    return count;
}

/* Reads a batch of several files, in the order of time. */
static uint32_t read_merged(nr_reader *r) {
    struct nr_frame frames[NR_BATCH];
    const uint32_t max = nr_replay_allowance(r, nr_load_acquire(&r->handoff.tail));
    const uint32_t count = max > 0 ? nr_merge_next(r, frames, max) : 0;
    if (count > 0) {
        if (NR_UNLIKELY(r->id_by_frame)) {
            shift_ids(r, frames);
        }
        nr_stamps_dissect(r, frames, count);
    }
    return count;
}

static uint32_t read_each(nr_reader *r) {
    uint32_t count = 0;
    const int sources = nr_reader_sources(r);
    for (int i = 0; i < sources; i++) {
        count += read_source(r, r->sources[i]);
    }
    return count;
}

static uint32_t read_sources(nr_reader *r) {
    const uint32_t count = r->ahead != NULL ? read_merged(r) : read_each(r);
    if (count > 0) {
        if (!r->finite) {
            nr_table_tick(r->table, 0); /* packet time has moved on */
            (void)nr_table_count(r->table, COUNT_BESIDE);
            nr_handoff_publish(&r->handoff);
        } else if (r->handoff.head - r->handoff.published >= REPLAY_EVENTS) {
            /* Timers run before packets only, so the ends of batches do not show in the events. */
            nr_handoff_publish(&r->handoff);
        }
        r->unpublished = true;
    }
    return count;
}

/* -- waiting -- */

/* Checks all sources. Returns -ENODEV when an interface is gone. */
static int check_sources(nr_reader *r) {
    int rc = 0;
    const int sources = nr_reader_sources(r);
    for (int i = 0; i < sources; i++) {
        struct nr_source *source = r->sources[i];
        const int state = source->ops->check(source);
        if (state == -ENETDOWN && !source->down) {
            r->books.link_errors++;
        }
        source->down = state == -ENETDOWN;
        rc = state == -ENODEV ? -ENODEV : rc;
    }
    return rc;
}

int nr_reader_tick(nr_reader *r, uint64_t now) {
    if (now < r->next_tick) {
        return 0;
    }
    r->next_tick = now + NR_TICK_NS;
    nr_clock_slew(&r->clock, NR_TICK_NS);
    nr_table_tick(r->table, r->finite ? 0 : nr_flow_time(&r->clock, now));
    if (r->fragments_wait && !r->finite) {
        nr_reader_count_waited(r);
    }
    nr_handoff_publish(&r->handoff);
    nr_reader_account(r);
    nr_reader_publish_books(r);
    return check_sources(r);
}

int nr_reader_wait(nr_reader *r, int timeout_ms) {
    const struct timespec breath = {.tv_nsec = 1000 * 1000};
    bool error = false;
    if (nr_load_relaxed(&r->stopping)) {
        return 1;
    }
    const int sources = nr_reader_sources(r);
    const int ready = poll(r->fds, (nfds_t)sources + 1, timeout_ms);
    if (ready <= 0) {
        return ready < 0 && errno == EINTR ? -EINTR : 0;
    }
    for (int i = 1; i <= sources; i++) {
        error = error || r->fds[i].revents & (POLLERR | POLLHUP | POLLNVAL);
    }
    if (error) {
        const int rc = check_sources(r);
        if (rc < 0) {
            return rc;
        }
        nanosleep(&breath, NULL); /* an error that does not clear must not spin */
    }
    return r->fds[0].revents & POLLIN ? nr_reader_answer_bell(r) : 0;
}

/* As nr_reader_wait, in a thread that has no signals to act upon. */
static int wait_through_signals(nr_reader *r, int timeout_ms) {
    const int rc = nr_reader_wait(r, timeout_ms);
    return rc == -EINTR ? 0 : rc;
}

/* -- the loop -- */

bool nr_reader_is_read(const nr_reader *r) {
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (!r->sources[i]->finished) {
            return false;
        }
    }
    return true;
}

static bool is_starved(const nr_reader *r) {
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (r->sources[i]->starved) {
            return true;
        }
    }
    return false;
}

/* Waits for the data of pipes. A file that is not waited for would always be ready. Returns false
 * if no pipe is waited for; *rc is as of nr_reader_wait. */
static bool wait_for_pipes(nr_reader *r, int *rc) {
    struct pollfd fds[1 + NR_MAX_SOURCES] = {r->fds[0]};
    nfds_t count = 1;
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (r->sources[i]->starved) {
            fds[count++] = r->fds[1 + i];
        }
    }
    if (count > 1 && poll(fds, count, NR_TICK_MS) > 0 && fds[0].revents & POLLIN) {
        *rc = nr_reader_answer_bell(r);
    }
    return count > 1;
}

/* Lets flow time go on by the clock while the pipe of a live capture brings nothing. The first
 * packet begins it. */
static void let_time_pass(nr_reader *r) {
    bool live = false;
    for (int i = 0; i < nr_reader_sources(r); i++) {
        live = live || (r->sources[i]->live && r->sources[i]->starved);
    }
    const uint64_t now = live ? nr_monotonic_ns() : 0;
    if (live && r->idle_at != 0 && nr_table_now(r->table) != 0) {
        nr_table_advance(r->table, now - r->idle_at);
    }
    r->idle_at = now;
}

static int run_replay(nr_reader *r) {
    int rc = 0;
    uint32_t passes = 0, dlt, exact;
    r->handoff.text_pause = 0;
    while (rc == 0 && !nr_load_relaxed(&r->stopping) && !nr_merge_is_read(r)) {
        nr_table_make_room(r->table, (NR_BATCH + NR_STAMPS_WAITING) *
                                         nr_events_per_frame(&r->decode) / NR_EVENTS_PER_PACKET);
        if (read_sources(r) > 0) {
            r->idle_at = 0; /* time is that of the packets */
        } else if (!nr_merge_is_read(r)) {
            if (nr_reader_asking(r, &dlt, &exact) >= 0) {
                nr_reader_account(r);
                return NR_READER_ASKS;
            }
            if (is_starved(r)) {
                nr_stamps_settle(r);
            }
            let_time_pass(r);
            nr_handoff_publish(&r->handoff);
            nr_reader_account(r);
            nr_reader_publish_books(r);
            if (!wait_for_pipes(r, &rc)) {
                rc = nr_replay_wait(r);
            }
        }
        if (++passes % REPLAY_PASSES == 0) {
            nr_reader_account(r);
            nr_reader_publish_books(r);
        }
    }
    while (rc == 0 && r->stamps.count > 0 && !nr_load_relaxed(&r->stopping) &&
           nr_replay_allowance(r, nr_load_acquire(&r->handoff.tail)) == 0) {
        nr_handoff_publish(&r->handoff);
        rc = nr_replay_wait(r);
    }
    nr_stamps_settle(r);
    nr_reader_account(r);
    return rc < 0 ? rc : 0; /* 1: nr_reader_answer_bell() told of the stop */
}

void nr_reader_quiesce(nr_reader *r) {
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (r->sources[i]->ops->quiesce != NULL) {
            r->sources[i]->ops->quiesce(r->sources[i]);
        }
    }
}

/* Reads the frames that the kernel has already handed over, after the stop and for a limited
 * time. */
static void drain_sources(nr_reader *r) {
    const uint64_t deadline = nr_monotonic_ns() + DRAIN_NS;
    nr_reader_quiesce(r);
    do {
        while (read_sources(r) > 0 && nr_monotonic_ns() < deadline) {
        }
        nr_reader_account(r);
    } while (
        r->books.in_ring > 0 && nr_monotonic_ns() < deadline &&
        (poll(r->fds + 1, (nfds_t)nr_reader_sources(r), DRAIN_POLL_MS) >= 0 || errno == EINTR));
}

/* Drives the sources, for busy polling. Returns true as long as the thread must not sleep. */
static bool drive_sources(nr_reader *r, uint64_t now) {
    if (r->busy_ns == 0 || now - r->read_at >= r->busy_ns) {
        return false;
    }
    for (int i = 0; i < nr_reader_sources(r); i++) {
        if (r->sources[i]->ops->drive != NULL) {
            r->sources[i]->ops->drive(r->sources[i]);
        }
    }
    return true;
}

/* Naps after frames have come, so that more of them come together: each frame of AF_XDP wakes a
 * thread that sleeps in poll(2). After many frames in a row the nap is as long as the ring allows,
 * so that this thread does not take cache lines from the sender's CPU. The nap ends long before the
 * ring is full. See docs/performance.md. */
static void take_nap(uint64_t nap_ns, uint64_t frames) {
    const struct timespec time = {.tv_nsec = (long)(frames < MANY ? NAP_NS : nap_ns)};
    nanosleep(&time, NULL);
}

/* Makes few system calls while frames keep coming: it loads the stop flag, takes the time from the
 * sources, and publishes the books every tick and when the rings are empty. */
static int run_live(nr_reader *r) {
    int rc = 0;
    const uint64_t nap_ns = r->busy_ns == 0 ? nr_load_relaxed(&r->nap_ns) : 0;
    uint64_t frames = 0; /* received since the last nap */
    nr_reader_take_short_slices();
    while (rc == 0 && !nr_load_relaxed(&r->stopping)) {
        const uint32_t count = read_sources(r);
        if (count > 0) {
            frames += count;
            rc = nr_reader_tick(r, r->read_at);
            continue;
        }
        const uint64_t now = nr_monotonic_ns();
        rc = nr_reader_tick(r, now);
        if (r->unpublished) {
            nr_reader_publish_books(r);
        }
        if (nr_table_count(r->table, COUNT_IDLE)) {
            continue;
        }
        if (nap_ns > 0 && frames > 0) {
            take_nap(nap_ns, frames);
            frames = 0;
        } else if (rc == 0 && !drive_sources(r, now)) {
            rc = wait_through_signals(r, NR_TICK_MS);
        }
    }
    return rc;
}

int nr_reader_run(nr_reader *r) {
    nr_store_relaxed(&r->clock.is_used, true);
    if (r->finite) {
        nr_table_waits(r->table, nr_reader_await_interval, r);
    }
    const int rc = r->finite ? run_replay(r) : run_live(r);
    if (!r->finite) {
        drain_sources(r);
    }
    nr_handoff_publish(&r->handoff);
    nr_reader_publish_books(r);
    return rc < 0 || r->finite ? rc : 0;
}
