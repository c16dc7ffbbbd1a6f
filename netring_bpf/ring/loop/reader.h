/* The reader, shared by its files: reader.c (life and books), loop.c (the thread's loop), merge.c
 * (several files as one), packet_path.c (from frame to flow), stamps.c (the time stamps of files),
 * raw_packets.c (copies of frames), time_slice.c (its share of the CPU). */
#ifndef NR_LOOP_READER_H
#define NR_LOOP_READER_H

#include <poll.h>

#include "app/record.h"
#include "dissect/fragments.h"
#include "flow/table.h"
#include "source/source.h"

#define NR_TICK_NS (100ull * 1000 * 1000) /* timers, kernel counters, watchdog */
#define NR_TICK_MS ((int)(NR_TICK_NS / 1000000))
#define NR_BOOK_WORDS (sizeof(nr_statistics) / sizeof(uint64_t))

/* The frames of a file whose time stamps wait for the next ones to bear them out: stamps.c. */
#define NR_STAMPS_WAITING 2u
struct nr_stamps {
    struct nr_frame waiting[NR_STAMPS_WAITING];
    uint32_t count;
    uint8_t *bytes;    /* of the waiting frames */
    int64_t past_lead; /* the table's, before the latest step */
    bool has_stepped;
};

/* What ARP and neighbour discovery told of late; what is told again has no event. */
#define NR_NEIGHBOURS_TOLD 1024u
#define NR_NEIGHBOURS_NS (60ull * 1000 * 1000 * 1000)
struct nr_told {
    uint64_t hash; /* of the address, its station and its VLANs; 0: free */
    uint64_t ts;
};

struct nr_reader {
    struct nr_source *sources[NR_MAX_SOURCES];
    int source_count;                      /* grows while the reader runs: nr_reader_sources() */
    struct pollfd fds[1 + NR_MAX_SOURCES]; /* the bell, then the sources */
    int bell_fd;                           /* wakes the thread: stopping, or one more source */
    bool stopping;                         /* the reader is to stop; set from any thread */
    bool finite;                           /* all sources are replays */
    struct nr_ahead *ahead;                /* a source each; NULL: a single source is read */
    uint64_t until;                        /* frames of replays from this time on have to wait */
    bool id_by_frame;                      /* the ids of flows depend on the first frame */
    uint64_t past_frames, past_filtered, past_overlong; /* of files that have made way for others */
    uint64_t nap_ns; /* the shortest that a source allows; 0: none */
    struct nr_table *table;
    struct nr_fragments *fragments;
    nr_decode_options decode;
    struct nr_clock clock;
    struct nr_stamps stamps;
    struct nr_handoff handoff;
    uint64_t next_tick;
    uint64_t idle_at;    /* CLOCK_MONOTONIC when a pipe last brought nothing; 0: it has since */
    uint64_t read_at;    /* CLOCK_MONOTONIC when the latest frames were read */
    uint64_t busy_ns;    /* the longest of the sources */
    nr_statistics books; /* the reader's thread only */
    struct nr_told told[NR_NEIGHBOURS_TOLD];
    uint64_t hash_key[2];
    bool reassembled;    /* fragments count with their datagram */
    bool fragments_wait; /* for their first, or for the timeout */
    bool unpublished;    /* the books have changed since the last snapshot */
    uint32_t sequence;   /* odd while the snapshot is being written */
    uint64_t snapshot[NR_BOOK_WORDS];
};

/* Returns the number of sources, with all that was written before it grew. */
static inline int nr_reader_sources(const nr_reader *reader) {
    return nr_load_acquire(&reader->source_count);
}

/* Returns the most packets that are looked for inside a frame, beside its own: in tunnels over UDP,
 * and further ones of an 802.11 aggregate. */
#define NR_SUBFRAMES_MAX 7u
static inline uint32_t nr_inner_max(const nr_decode_options *options) {
    return options->tunnel_depth + NR_SUBFRAMES_MAX;
}

/* merge.c: several replays as one. The first makes room for frames ahead; returns -ENOMEM. */
int nr_merge_create(nr_reader *reader);
void nr_merge_destroy(nr_reader *reader);
/* Lends up to max frames in the order of their times, and returns their number. They are valid
 * until the next call. Returns 0 if a file has no data yet, or at the end. */
uint32_t nr_merge_next(nr_reader *reader, struct nr_frame *frames, uint32_t max);
/* Returns how many frames the source has lent that have not had their turn. */
uint32_t nr_merge_held(const nr_reader *reader, int source);
/* Returns true if no frame from before reader->until is left. */
bool nr_merge_is_read(const nr_reader *reader);

/* Returns the most events that a frame makes. Each packet in it may be a fragment: those that wait
 * for it, or in its way, count first, and are of two more flows. Fragments that time out come
 * besides. */
#define NR_WAITED_AT_ONCE 16u /* fragments that have waited long enough */
static inline uint32_t nr_events_per_frame(const nr_decode_options *options) {
    return NR_EVENTS_PER_PACKET * (3 * (1 + nr_inner_max(options)) + NR_WAITED_AT_ONCE) +
           NR_APP_EVENTS;
}

/* room.c: answers the bell: it tells of the stop (1), or of a source that was added (0). */
int nr_reader_answer_bell(const nr_reader *reader);
/* Returns how many frames of a file may be taken when the consumer has come to `tail`. There must
 * be room for all events of these frames, and for all that the timers may report before each
 * packet. Then no event is put off, and a file gives the same events however slow its consumer is.
 * A hand-off too small for that has room for the events of the packets themselves. The frames that
 * wait in stamps.c have their share, or an empty hand-off. */
uint32_t nr_replay_allowance(const nr_reader *reader, uint64_t tail);
/* Waits for a while until the consumer has made room for a frame of a replay; returns as
 * nr_reader_answer_bell, 0 if the bell was silent. */
int nr_replay_wait(nr_reader *reader);
/* Waits until a replay's consumer has made room for the records of the next frame. */
void nr_reader_await_texts(nr_reader *reader);
/* Waits for a while until a replay's consumer has taken the interval before: an nr_table_wait.
 * Returns false after the stop. */
bool nr_reader_await_interval(void *reader);

/* packet_path.c: dissects frames and accounts for them; they are not needed afterwards. */
void nr_reader_dissect(nr_reader *reader, const struct nr_frame *frames, uint32_t count);
/* Fragments that have waited long enough count now; at most NR_WAITED_AT_ONCE. */
void nr_reader_count_waited(nr_reader *reader);
/* All fragments that wait count now, while the hand-off has room. Returns whether none is left. */
bool nr_reader_end_waiting(nr_reader *reader);
/* stamps.c: nr_reader_dissect for the frames of files, whose time stamps may be wrong. At most
 * NR_STAMPS_WAITING frames wait for the next call, or for nr_stamps_settle. */
int nr_stamps_create(struct nr_stamps *stamps); /* -1: out of memory */
void nr_stamps_destroy(struct nr_stamps *stamps);
void nr_stamps_dissect(nr_reader *reader, const struct nr_frame *frames, uint32_t count);
/* Accounts for the frames that wait, when no others come. */
void nr_stamps_settle(nr_reader *reader);
/* Refreshes the kernel's part of the books. */
void nr_reader_account(nr_reader *reader);
/* Makes the books visible to other threads. */
void nr_reader_publish_books(nr_reader *reader);
/* Runs the timers, publishes the books and checks the interfaces, once every NR_TICK_NS. Returns
 * -ENODEV when an interface is gone. `now` is CLOCK_MONOTONIC. */
int nr_reader_tick(nr_reader *reader, uint64_t now);
/* Waits for frames, the stop or the timeout. Returns 1 after the stop, -EINTR after a signal,
 * -ENODEV when an interface is gone, 0 otherwise. */
int nr_reader_wait(nr_reader *reader, int timeout_ms);
/* time_slice.c: lets this thread run soon after it wakes up. */
void nr_reader_take_short_slices(void);
/* Returns true if all sources were read to their end, which only replays have. */
bool nr_reader_is_read(const nr_reader *reader);

#endif
