/* The insides of the flow table, for flow.c (the packet path), prefetch.c, expiry.c (what ends, and
 * when), originator.c, table.c (its life), emit.c (what is told) and the files that follow one
 * flow's packets: tcp.c, tcp_state.c, tcp_stream.c, history.c, packet_statistics.c, rare.c.
 *
 * A flow has three places, at the same index of three arrays: what is looked at for each packet
 * (three cache lines, side by side, for a page that is in no TLB costs as much as they do), its
 * links in the idle list (eight bytes), and what is looked at now and then. With its slot that is
 * 253 bytes. What only some flows have lies in arrays of its own, whose pages stay
 * untouched until one does.
 *
 * Each flow is on one idle list (of its timeout class, in order of the time it is counted from),
 * so idle flows are found at the heads without a walk, and on the update list (in order of the
 * next report). The least recently used flow is the oldest of the idle lists' heads. */
#ifndef NR_FLOW_TABLE_INTERNAL_H
#define NR_FLOW_TABLE_INTERNAL_H

#include "flow/hash.h"
#include "flow/table.h"

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
_Static_assert(CLASS_COUNT <= 1 << 5, "a class has five bits");
enum { ORIG, RESP };

struct link {
    uint32_t prev, next;
};

/* Where a SYN stands that waits for its answer; the answer gives the round-trip time. */
enum { SHAKE_NONE, SHAKE_SENT, SHAKE_ANSWERED, SHAKE_SENT_TWICE };

/* One side of a TCP connection. Sequence numbers are relative to its SYN's, widened to 64 bit, so
 * that they do not wrap: the first byte of data is 1. Of other protocols only the payload, the
 * packets and `timed` are used. */
struct stream {
    union {
        int64_t last;     /* one past the highest that was sent */
        uint64_t payload; /* of other protocols: bytes */
    };
    int64_t acked;     /* the highest that the peer has acknowledged */
    int64_t delivered; /* all before it was seen, or given up as a gap */
    uint32_t start;    /* the SYN's sequence number, or what it must have been */
    uint16_t packets;  /* the high half of flow.packets */
    uint16_t state : 3;
    uint16_t previous : 3; /* state */
    uint16_t shake : 2;
    uint16_t syn_seen : 1;
    uint16_t fin_seen : 1;
    uint16_t closed : 1;   /* it has closed, and that was reported */
    uint16_t given_up : 1; /* too much beyond a hole, and no acknowledgement: gaps are not looked
                              for */
    uint16_t holds : 1;    /* ranges beyond `delivered`: its extra has them */
    uint16_t begun : 1;    /* a segment of it was followed */
    uint16_t timed : 1;    /* its first packet was */
};

/* What each packet needs: three cache lines. */
struct flow {
    struct nr_key key;
    struct link update;
    uint32_t update_ms; /* table time of the next report, rounded up; wraps */
    uint32_t class : 5;
    uint32_t home_class : 5; /* once it is established */
    uint32_t seen : 14;      /* letters of the history, seven a side: history.c */
    uint32_t flips : 2;      /* times the sides were exchanged, as far as this counts */
    uint32_t orig_is_high : 1;
    uint32_t exchange : 1;    /* of ICMP: asks and is answered */
    uint32_t partial : 1;     /* of TCP: its beginning was not seen */
    uint32_t established : 1; /* of TCP */
    uint32_t has_extra : 1;
    uint32_t has_tunnel : 1;
    uint64_t touched; /* table time its timeout counts from: orders the idle list */
    struct {
        uint64_t bytes, ip_bytes;
        uint64_t last_ts;
    } side[2];
    uint32_t packets[2]; /* the low half: nr_flow_packets() */
    struct stream stream[2];
};
_Static_assert(sizeof(struct flow) == 192, "three cache lines");

/* What is looked at when a flow begins, when it is told of, and now and then. Times that are far
 * from the flow's start are in its extra. */
struct past {
    uint64_t id;
    uint64_t start_ts; /* of its first packet */
    uint64_t letters;  /* of the history: history.c; where there is an extra, its index */
    uint32_t first[2]; /* a side's first packet, in ns after start_ts */
    uint32_t shake[2]; /* SENT: the SYN, in ns after start_ts; ANSWERED: ns until the answer */
};
#define FAR_FROM_START UINT32_MAX

/* What a flow has once something happens to it that does not happen to most, or that ends it. */
struct extra_side {
    int64_t fin;              /* one past the FIN, where one was seen */
    uint64_t missing;         /* bytes */
    uint64_t first_ts, shake; /* where those of the past say FAR_FROM_START: absolute, and ns */
    uint32_t last_syn, last_fin, last_rst; /* of those in the history */
    uint32_t retransmitted, out_of_order, gaps, zero_windows, bad_checksums;
    uint32_t held; /* index of its ranges beyond `delivered`; NIL: there are none */
};
struct extra {
    struct extra_side side[2];
    uint32_t icmp_errors;
    uint8_t icmp_error_type, icmp_error_code;
    uint8_t length;
    char history[NR_HISTORY_SIZE];
    uint32_t next_free;
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
#define MEMORIES 9

struct nr_table {
    struct flow *flows;
    struct past *pasts;
    struct link *idle_links; /* close together: each packet changes those of three flows */
    struct slots *slots;     /* slots.h */
    uint32_t slot_groups;
    uint32_t live;
    uint64_t now; /* packet time: only grows */
    uint64_t due; /* no timer of any flow runs out before this */
    uint64_t live_packets, live_bytes;
    struct nr_hash_secret secret;
    struct list idle[CLASS_COUNT];
    uint64_t idle_ns[CLASS_COUNT];
    uint64_t active_ns;
    uint64_t update_ns;
    struct timing *timing;          /* NULL: not asked for */
    nr_first_packet *first_packets; /* NULL: not asked for */
    uint32_t first_count;           /* packets noted of each flow */
    bool directional;
    struct tunneled *tunneled; /* NULL: tunnels are not opened */
    struct extra *extras;
    struct held *held;
    struct nr_handoff *handoff;
    uint32_t kinds; /* of events that are made */
    struct list update;
    uint32_t capacity;
    uint32_t fresh;     /* entries from here on were never used: their pages are untouched */
    uint32_t free_head; /* used and free again, chained through idle_links[].next */
    uint32_t extra_fresh, extra_free;
    uint32_t held_capacity, held_fresh, held_free;
    uint32_t victim; /* the next half-open flow to be evicted, where that has been looked at */
    uint32_t victim_hash;
    uint32_t peak;
    uint32_t reserve; /* slots left to what a batch of packets may need */
    uint32_t classes;
    nr_port_timeout ports[NR_MAX_PORT_TIMEOUTS];
    uint64_t next_id, id_step;
    uint64_t started, established, ended[NR_END_COUNT];
    uint64_t ended_packets, ended_bytes;
    struct memory memory[MEMORIES];
    int memories;
};

static inline bool nr_is_tcp(const struct flow *f) {
    return f->key.proto == NR_PROTO_TCP;
}

static inline uint64_t nr_flow_packets(const struct nr_table *t, uint32_t i, int side) {
    return (uint64_t)t->flows[i].stream[side].packets << 32 | t->flows[i].packets[side];
}

static inline uint64_t nr_min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* -- lists: one implementation for both links of a flow -- */

static inline struct link *nr_link_of(struct nr_table *t, uint32_t i, bool update) {
    return update ? &t->flows[i].update : &t->idle_links[i];
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

/* -- expiry.c -- */

void nr_flow_end(struct nr_table *t, uint32_t i, uint8_t reason);
/* As what a flow ends whose time has come. */
uint8_t nr_flow_end_reason(const struct nr_table *t, uint32_t i);
/* Makes room for a flow when there is none. */
void nr_flow_evict(struct nr_table *t);
/* Puts the flow on the update list, for the first time. */
void nr_flow_schedule_update(struct nr_table *t, uint32_t i);

/* -- originator.c -- */

/* Whether the first packet seen looks like an answer: it comes from where servers listen. */
bool nr_flow_begins_with_answer(const struct nr_table *t, const struct nr_dissected *p);
/* What was the originator is the responder. */
void nr_flow_flip(struct nr_table *t, uint32_t i);
void nr_tunnel_flip(struct nr_tunnel *tunnel);

/* -- rare.c -- */

/* NULL: it has none. */
static inline struct extra *nr_extra(const struct nr_table *t, uint32_t i) {
    return t->flows[i].has_extra ? &t->extras[t->pasts[i].letters] : NULL;
}
/* From now on it has one. */
struct extra *nr_extra_take(struct nr_table *t, uint32_t i);
/* Of a flow that has one, and whose streams hold no ranges. */
void nr_extra_free(struct nr_table *t, uint32_t i);

/* When the side's first packet came; 0: none did. */
uint64_t nr_first_ts(const struct nr_table *t, uint32_t i, int side);
void nr_note_first_ts(struct nr_table *t, uint32_t i, int side, uint64_t ts);
/* When the SYN was sent (SHAKE_SENT), or how long the answer took (SHAKE_ANSWERED). */
uint64_t nr_shake(const struct nr_table *t, uint32_t i, int side);
void nr_note_shake(struct nr_table *t, uint32_t i, int side, int shake, uint64_t value);

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
#define SEEN_BITS 7
static inline bool nr_history_has(const struct flow *f, int side, uint32_t kind) {
    return f->seen & (side == ORIG ? kind : kind << SEEN_BITS);
}
/* Writes the letter if this is the first of its kind on the side; whether it was. */
bool nr_history_note(struct nr_table *t, uint32_t i, int side, uint32_t kind, char letter);
/* The originator's S, as the first letter of all. */
void nr_history_open(struct nr_table *t, uint32_t i);
/* Writes it again. */
void nr_history_add(struct nr_table *t, uint32_t i, int side, char letter);
/* Writes it at the 1st, 10th, 100th, … time. */
void nr_history_count(struct nr_table *t, uint32_t i, int side, char letter, uint32_t count);
/* Exchanges the sides, of what comes from now on. */
void nr_history_flip(struct nr_table *t, uint32_t i);
/* Whether all that it has is an H of the originator. */
bool nr_history_is_lone_answer(const struct nr_table *t, uint32_t i);
/* That the lone H was the responder's. */
void nr_history_correct_answer(struct nr_table *t, uint32_t i);
/* Puts it at text, not terminated; returns its length. */
uint32_t nr_history_text(const struct nr_table *t, uint32_t i, char text[NR_HISTORY_SIZE]);
void nr_history_clear(struct nr_table *t, uint32_t i);

/* -- tcp_stream.c -- */

void nr_stream_begin(struct nr_table *t, uint32_t i, int side, uint32_t start);
/* Where the number lies in the stream, near `close_to`. */
static inline int64_t nr_stream_place(const struct stream *s, uint32_t sequence, int64_t close_to) {
    return close_to + (int32_t)(sequence - (s->start + (uint32_t)close_to));
}
/* Data of length bytes at `at`; `late`: later bytes were sent before it. */
void nr_stream_data(struct nr_table *t, uint32_t i, int side, int64_t at, uint32_t length,
                    bool late);
/* All before `at` was received: what was not seen is missing. `reports`: in a connection whose
 * gaps are to be believed. Returns how many gaps there were. */
uint32_t nr_stream_acked(struct nr_table *t, uint32_t i, int side, int64_t at, bool reports);
/* Gives back the ranges that it holds. */
void nr_stream_end(struct nr_table *t, uint32_t i, int side);
/* Counts from here on as if the stream began here. */
void nr_stream_rebase(struct nr_table *t, uint32_t i, int side);
/* Bytes of payload that were sent, by the sequence numbers. */
uint64_t nr_stream_size(const struct stream *stream, const struct stream *peer);

/* -- tcp.c, tcp_state.c -- */

/* Whether a packet of this side begins another connection on the same ports. */
bool nr_tcp_is_reuse(const struct flow *flow, int side, const struct nr_dissected *p);
enum { NR_STEP_SAME, NR_STEP_CHANGED, NR_STEP_HANDSHAKE_DONE };
/* Follows the connection. SAME: neither side's state has changed. HANDSHAKE_DONE: it has just
 * completed. May exchange the flow's sides. */
int nr_tcp_packet(struct nr_table *t, uint32_t i, int side, const struct nr_dissected *p,
                  uint64_t ts);
/* The same in a few steps, for the first packet of a flow that has just started, if it is a SYN and
 * no more, as floods and scans have them by the million; false: it is another one. Who sends one is
 * the originator: nr_flow_begins_with_answer() never says otherwise of a SYN. */
bool nr_tcp_take_lone_syn(struct nr_table *t, uint32_t i, const struct nr_dissected *p);
bool nr_tcp_is_half_open(const struct flow *flow);
/* Whether both sides have closed, or one did and the other never spoke, or one has reset. */
bool nr_tcp_is_over(const struct flow *flow);
bool nr_tcp_was_reset(const struct flow *flow);

/* -- packet_statistics.c -- */

void nr_timing_packet(struct nr_table *t, uint32_t i, int side, uint32_t size, uint64_t ts);

/* -- emit.c -- */

void nr_emit(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason);

/* -- server_ports.c -- */

/* Whether a service of the protocol listens there by custom. */
bool nr_port_is_server(uint8_t proto, uint16_t port);

#endif
