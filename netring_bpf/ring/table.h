/* The memory of the flow table: entries, buckets, and lists in order of time. Shared by table.c
 * (which makes it), flow.c (which works on it), event.c (which reports from it) and the files that
 * follow one flow's packets: tcp.c, stream.c, history.c, timing.c.
 *
 * Each flow is on one idle list (of its timeout class, in order of the time it is counted from),
 * so idle flows are found at the heads without a walk, and on the update list (in order of the
 * next report). The least recently used flow is the oldest of the idle lists' heads.
 *
 * What only some flows have lies in arrays of its own at the same index, whose pages stay
 * untouched until one does. */
#ifndef NR_TABLE_H
#define NR_TABLE_H

#include "flow.h"

#define NIL UINT32_MAX

enum {
    CLASS_HALF_OPEN, /* a TCP opening that nobody has answered: timed from its first packet */
    CLASS_CLOSING,   /* a TCP connection that is over: timed from its close */
    CLASS_TCP,
    CLASS_UDP,
    CLASS_ICMP,
    CLASS_OTHER,
    CLASS_PORTS, /* the first of NR_MAX_PORT_TIMEOUTS */
    CLASS_COUNT = CLASS_PORTS + NR_MAX_PORT_TIMEOUTS
};
enum { ORIG, RESP };

struct link {
    uint32_t prev, next;
};

struct side {
    uint64_t packets, bytes, ip_bytes;
    uint64_t payload; /* not of TCP: its streams know */
    uint64_t first_ts, last_ts;
};

struct history {
    uint32_t seen; /* a bit per letter and side: history.c */
    uint8_t length;
    uint8_t firsts; /* letters that are there for the first time */
    char text[NR_HISTORY_SIZE];
};

struct flow {
    struct nr_key key;
    uint64_t id;
    uint64_t start_ts; /* of its first packet */
    uint64_t touched;  /* table time its timeout counts from: orders the idle list */
    uint64_t update_at;
    struct side side[2];
    struct link idle, update;
    uint32_t next_in_bucket;
    uint32_t bad_checksums[2];
    uint32_t icmp_errors;
    uint8_t icmp_error_type, icmp_error_code;
    uint8_t class;
    uint8_t home_class; /* once it is established */
    bool exchange;      /* of ICMP: asks and is answered */
    bool orig_is_high;
    struct history history;
};

/* One side of a TCP connection. Sequence numbers are relative to its SYN's, widened to 64 bit, so
 * that they do not wrap: the first byte of data is 1. */
struct stream {
    int64_t last;      /* one past the highest that was sent */
    int64_t acked;     /* the highest that the peer has acknowledged */
    int64_t delivered; /* all before it was seen, or given up as a gap */
    int64_t fin;       /* one past the FIN, where one was seen */
    uint64_t missing;
    uint32_t start; /* the SYN's sequence number, or what it must have been */
    uint32_t last_syn, last_fin, last_rst; /* of those in the history */
    uint32_t retransmitted, out_of_order, gaps, zero_windows;
    uint32_t held; /* index of its ranges beyond `delivered`; NIL: there are none */
    uint8_t state, previous;
    bool syn_seen, fin_seen;
    bool closed;   /* it has closed, and that was reported */
    bool given_up; /* too much beyond a hole, and no acknowledgement: gaps are not looked for */
};

struct tcp {
    struct stream stream[2];
    uint64_t syn_ts[2]; /* of its SYN; 0: none, or more than one */
    uint64_t rtt[2];
    uint8_t first_seen; /* a bit per side */
    bool partial;       /* its beginning was not seen */
    bool established;
};

/* Ranges of a stream that came before what is in front of them. */
#define MAX_HELD 8u
struct held {
    struct {
        int64_t start, end;
    } range[MAX_HELD];
    uint32_t used;
    uint32_t next_free;
};

struct timing {
    nr_packet_statistics side[2];
};

struct tunneled {
    struct nr_tunnel tunnel; /* as of the first packet; src is the originator's */
    uint64_t parent_id;
};

struct list {
    uint32_t head, tail;
};

/* One piece of what the table has taken: zero, and no page of it touched before it is used. */
struct memory {
    void *at;
    size_t size;
};
#define MEMORIES 7

struct nr_table {
    struct memory memory[MEMORIES];
    int memories;
    struct flow *flows;
    struct tcp *tcp;
    struct timing *timing;          /* NULL: not asked for */
    nr_first_packet *first_packets; /* NULL: not asked for */
    struct tunneled *tunneled;      /* NULL: tunnels are not opened */
    struct held *held;
    uint32_t *buckets;
    struct nr_handoff *handoff;
    uint32_t bucket_mask;
    uint32_t capacity;
    uint32_t fresh;     /* entries from here on were never used: their pages are untouched */
    uint32_t free_head; /* used and free again, chained through next_in_bucket */
    uint32_t held_capacity;
    uint32_t held_fresh;
    uint32_t held_free;
    uint32_t live;
    uint32_t peak;
    uint32_t first_count; /* packets noted of each flow */
    uint32_t reserve;     /* slots left to what a batch of packets may need */
    uint32_t classes;
    bool directional;
    uint64_t idle_ns[CLASS_COUNT];
    nr_port_timeout ports[NR_MAX_PORT_TIMEOUTS];
    uint64_t active_ns;
    uint64_t update_ns;
    uint64_t now; /* packet time: only grows */
    uint64_t due; /* no timer of any flow runs out before this */
    uint64_t next_id, id_step;
    uint64_t hash_key[2];
    uint64_t started, established, ended[NR_END_COUNT];
    uint64_t ended_packets, ended_bytes, live_packets, live_bytes;
    struct list idle[CLASS_COUNT];
    struct list update;
};

/* -- lists: one implementation for both links of a flow -- */

static inline struct link *nr_link_of(struct nr_table *t, uint32_t i, bool update) {
    return update ? &t->flows[i].update : &t->flows[i].idle;
}

static inline void nr_list_append(struct nr_table *t, struct list *list, uint32_t i, bool update) {
    struct link *link = nr_link_of(t, i, update);
    link->prev = list->tail;
    link->next = NIL;
    if (list->tail == NIL) {
        list->head = i;
    } else {
        nr_link_of(t, list->tail, update)->next = i;
    }
    list->tail = i;
}

static inline void nr_list_remove(struct nr_table *t, struct list *list, uint32_t i, bool update) {
    const struct link link = *nr_link_of(t, i, update);
    if (link.prev == NIL) {
        list->head = link.next;
    } else {
        nr_link_of(t, link.prev, update)->next = link.next;
    }
    if (link.next == NIL) {
        list->tail = link.prev;
    } else {
        nr_link_of(t, link.next, update)->prev = link.prev;
    }
}

/* -- history.c: letters are given in the originator's case -- */

enum {
    SEEN_SYN = 1 << 0, /* S and H */
    SEEN_FIN = 1 << 1,
    SEEN_RST = 1 << 2,
    SEEN_DATA = 1 << 3,
    SEEN_ACK = 1 << 4,
    SEEN_MULTI_FLAG = 1 << 5,
    SEEN_FIN_RST = 1 << 6,
};
/* Writes the letter if this is the first of its kind on the side; whether it was. */
bool nr_history_note(struct history *history, int side, int kind, char letter);
/* Writes it again. */
void nr_history_add(struct history *history, int side, char letter);
/* Writes it at the 1st, 10th, 100th, … time. */
void nr_history_count(struct history *history, int side, char letter, uint32_t count);
/* Exchanges the sides, of what comes from now on. */
void nr_history_flip(struct history *history);

/* -- stream.c -- */

void nr_stream_begin(struct nr_table *t, struct stream *stream, uint32_t start);
/* Where the number lies in the stream, near `close_to`. */
int64_t nr_stream_place(const struct stream *stream, uint32_t sequence, int64_t close_to);
/* Data of length bytes at `at`; `late`: later bytes were sent before it. */
void nr_stream_data(struct nr_table *t, struct stream *stream, int64_t at, uint32_t length,
                    bool late);
/* All before `at` was received: what was not seen is missing. `reports`: in a connection whose
 * gaps are to be believed. Returns how many gaps there were. */
uint32_t nr_stream_acked(struct nr_table *t, struct stream *stream, int64_t at, bool reports);
void nr_stream_end(struct nr_table *t, struct stream *stream);
/* Counts from here on as if the stream began here. */
void nr_stream_rebase(struct nr_table *t, struct stream *stream);
/* Bytes of payload that were sent, by the sequence numbers. */
uint64_t nr_stream_size(const struct stream *stream, const struct stream *peer);

/* -- tcp.c -- */

void nr_tcp_start(struct tcp *tcp);
void nr_tcp_end(struct nr_table *t, struct tcp *tcp);
/* Whether a packet of this side begins another connection on the same ports. */
bool nr_tcp_is_reuse(const struct tcp *tcp, int side, const struct nr_dissected *p);
/* Follows the connection. May exchange the flow's sides: then returns with *side changed. True when
 * the handshake has just completed. */
bool nr_tcp_packet(struct nr_table *t, uint32_t i, int *side, const struct nr_dissected *p,
                   uint64_t ts);
bool nr_tcp_is_half_open(const struct tcp *tcp);
/* Whether both sides have closed, or one did and the other never spoke, or one has reset. */
bool nr_tcp_is_over(const struct tcp *tcp);
bool nr_tcp_was_reset(const struct tcp *tcp);

/* -- flow.c -- */

/* What was the originator is the responder. */
void nr_flow_flip(struct nr_table *t, uint32_t i);

/* -- timing.c -- */

void nr_timing_packet(struct nr_table *t, uint32_t i, int side, uint32_t size, uint64_t ts);

/* -- event.c -- */

void nr_emit(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason);

/* -- ports.c -- */

/* Whether a service of the protocol listens there by custom. */
bool nr_port_is_server(uint8_t proto, uint16_t port);

#endif
