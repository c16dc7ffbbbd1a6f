/* The interface of a packet source: AF_XDP, TPACKET_V3, a capture file, or a replay from memory. */
#ifndef NR_SOURCE_SOURCE_H
#define NR_SOURCE_SOURCE_H

#include "clock.h"
#include "source/frame.h"

struct nr_source;

struct nr_source_ops {
    /* Lends up to max frames, valid until release(), and returns their number; 0: none now. */
    uint32_t (*next)(struct nr_source *source, struct nr_frame *frames, uint32_t max);
    /* Gives the lent frames back to the kernel. */
    void (*release)(struct nr_source *source);
    /* Returns the interface's state: 0, -ENETDOWN (it may return) or -ENODEV (gone). */
    int (*check)(struct nr_source *source);
    /* Refreshes the counters below from the kernel. */
    void (*account)(struct nr_source *source);
    /* Returns how many frames the kernel has handed over that are not yet lent, as of the last
     * account(). */
    uint64_t (*in_ring)(const struct nr_source *source);
    /* Replaces the filter: classic BPF, or an eBPF program if insns is NULL. Called from any
     * thread. May be NULL. */
    int (*set_filter)(struct nr_source *source, const nr_bpf_insn *insns, uint32_t count,
                      int program_fd);
    /* Sets how many bytes of a frame are lent from now on. Called from any thread. May be NULL. */
    void (*set_snaplen)(struct nr_source *source, uint32_t snaplen);
    /* Reports how the reading of a capture file ended. May be NULL. */
    void (*file_state)(const struct nr_source *source, nr_savefile_state *state);
    /* Runs the driver's receive work in this thread, for busy polling. May be NULL. */
    void (*drive)(struct nr_source *source);
    /* Stops taking in new frames; called once, at the stop. May be NULL. */
    void (*quiesce)(struct nr_source *source);
    void (*destroy)(struct nr_source *source);
};

struct nr_source {
    const struct nr_source_ops *ops;
    const struct nr_clock *clock; /* the reader's */
    int fd;                       /* to poll; -1: always ready */
    bool finite;   /* a replay: it ends, and waits for the consumer instead of losing events */
    bool finished; /* a replay that was read to its end */
    bool starved;  /* a pipe that has no data yet */
    bool asks;     /* a capture file waits for a filter: nr_savefile_filter() answers */
    bool live;     /* a pipe: while it is starved, flow time goes on by the clock */
    bool zero_copy;
    bool written_afar; /* another CPU has just written the frames, and will write there again */
    bool huge_pages;
    bool inherited;   /* by a forked child, which has no copy of the kernel's rings */
    bool down;        /* the last check() said -ENETDOWN */
    uint64_t lent;    /* frames since creation */
    uint64_t read_at; /* CLOCK_MONOTONIC when next() last found frames; 0: a file has no clock */
    uint64_t nap_ns;  /* how long (50 us or more) its ring can hold what comes; 0: no naps */
    uint64_t busy_ns; /* how long after read_at drive() is called; 0: never */
    /* the kernel's counters, as of the last account() */
    uint64_t rx_dropped, rx_ring_full, fill_ring_empty;
    uint64_t tp_packets, tp_drops;
    /* of a capture file */
    uint64_t file_frames, file_filtered, file_overlong;
    uint64_t file_offset; /* also read from other threads */
};

int nr_xsk_create(const nr_xsk_options *options, struct nr_source **out);
int nr_xsk_set_busy_poll(struct nr_source *source, uint32_t microseconds, uint32_t budget);
int nr_tpacket_create(const nr_tpacket_options *options, struct nr_source **out);
/* See nr_reader_make_fanout and nr_reader_join_fanout. */
int nr_fanout_make(int fd);
int nr_fanout_join(int fd, int group);
int nr_replay_create(const uint8_t *records, uint64_t size, struct nr_source **out);
int nr_savefile_create(int fd, struct nr_source **out);
/* Makes a source of a whole file in memory, for tests. */
int nr_savefile_create_memory(uint8_t *data, size_t size, struct nr_source **out);
/* Has the file ask for a program when it meets a link type; see nr_reader_ask_filters. */
int nr_savefile_ask(struct nr_source *source);
/* See nr_reader_ask_links and nr_reader_asks_unread. */
int nr_savefile_ask_links(struct nr_source *source);
bool nr_savefile_asks_unread(const struct nr_source *source);
/* Returns the link type that an asking file has met; see nr_reader_asking. */
uint32_t nr_savefile_asked(const struct nr_source *source, uint32_t *exact);
/* See nr_reader_filter_savefile. Returns -EINVAL for another kind of source or an invalid program,
 * -E2BIG for too many link types. */
int nr_savefile_filter(struct nr_source *source, uint32_t dlt, const nr_filter_program *program,
                       bool quick);
/* See nr_reader_copy. Sets source->starved if a pipe has no data yet. */
int nr_savefile_copy(struct nr_source *source, nr_file_copy *copy);
/* See nr_reader_describe_interface. */
int nr_savefile_describe(struct nr_source *source, uint32_t number,
                         nr_interface_description *description);

#endif
