/* The insides of the flow table. flow.c has the packet path, prefetch.c fetches memory ahead,
 * expiry.c ends flows, originator.c tells the sides apart, table.c creates the table, and emit.c
 * writes the events. payload.c leads payload to the driver of app/, and count.c what flows count to
 * the sums of aggregate/. tcp.c, tcp_state.c, tcp_stream.c,
 * tcp_odds.c, history.c, packet_statistics.c and rare.c follow the packets of one flow.
 *
 * A flow has three records, at the same index of three arrays. `flows` has the fields that each
 * packet needs: three cache lines side by side, because a TLB miss costs as much as they do.
 * `idle_links` has its links in the idle list. `pasts` has the fields that few packets need.
 * Records that only some flows have lie in arrays of their own, whose pages stay untouched until a
 * flow takes one.
 *
 * Each flow is on one idle list: that of its timeout class, in order of the time that the timeout
 * counts from. Idle flows are therefore at the heads, and the least recently used flow is the
 * oldest of the heads. If the table reports updates, each flow is also on the update list, in order
 * of its next report. */
#ifndef NR_FLOW_TABLE_INTERNAL_H
#define NR_FLOW_TABLE_INTERNAL_H

#include "aggregate/counting.h"
#include "app/driver.h"
#include "app/names.h"
#include "flow/hash.h"
#include "flow/table.h"

#define NIL UINT32_MAX

enum {
    CLASS_HALF_OPEN, /* an unanswered TCP opening, timed from its first packet */
    CLASS_CLOSING,   /* a TCP connection that is over, timed from its close */
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

/* The state of a SYN, whose answer gives the round-trip time. */
enum { SHAKE_NONE, SHAKE_SENT, SHAKE_ANSWERED, SHAKE_SENT_TWICE };

/* One side of a TCP connection. Sequence numbers are relative to that of its SYN and widened to 64
 * bits, so they do not wrap: the first byte of data is 1. Other protocols use only `payload`, `macs`
 * and `timed`. */
struct stream {
    union {
        int64_t last;     /* one past the highest number sent */
        uint64_t payload; /* other protocols: bytes */
    };
    int64_t acked;     /* the highest number that the peer has acknowledged */
    int64_t delivered; /* all bytes below it were seen or given up as a gap */
    uint32_t start;    /* the SYN's sequence number, seen or inferred */
    uint16_t macs;     /* macs_mix of its latest packet; 0: none yet */
    uint16_t state : 3;
    uint16_t previous : 3; /* the last other state */
    uint16_t shake : 2;
    uint16_t syn_seen : 1;
    uint16_t fin_seen : 1;
    uint16_t closed : 1;   /* its FIN or RST was accepted */
    uint16_t given_up : 1; /* too far beyond a hole, no acknowledgement: no gaps */
    uint16_t holds : 1;    /* its extra has ranges beyond `delivered` */
    uint16_t begun : 1;    /* a segment of this side was followed */
    uint16_t timed : 1;    /* the time of its first packet is known */
    uint16_t reads : 1;    /* its payload is looked at */
};

/* The record that each packet needs: three cache lines. */
struct flow {
    struct nr_key key;
    struct link update;
    uint32_t update_ms; /* table time of the next report, rounded up; wraps */
    uint32_t class : 5;
    uint32_t home_class : 5; /* the class while the flow is open */
    uint32_t seen : 14;      /* first letters in the history, seven a side: history.c */
    uint32_t flips : 2;      /* times the sides were exchanged, 3 at most */
    uint32_t orig_is_high : 1;
    uint32_t exchange : 1;    /* ICMP: a request with a reply */
    uint32_t partial : 1;     /* TCP: the beginning was not seen */
    uint32_t established : 1; /* TCP: the handshake is complete */
    uint32_t has_extra : 1;
    uint32_t has_tunnel : 1;
    uint64_t touched; /* table time that the timeout counts from; orders the idle list */
    struct {
        uint64_t bytes;
        uint64_t ip_bytes_flags; /* nr_side_add_ip() */
        uint64_t last_ts;
    } side[2];
    uint32_t packets[2]; /* the low half; an extra has the high one: nr_flow_packets() */
    struct stream stream[2];
};
_Static_assert(sizeof(struct flow) == 192, "three cache lines");

/* The record that few packets need. Times far from the flow's start are in its extra. */
struct past {
    uint64_t id;
    uint64_t start_ts; /* of its first packet */
    uint64_t letters;  /* the packed history; with an extra, the extra's index */
    uint32_t first[2]; /* a side's first packet, in ns after start_ts */
    uint32_t shake[2]; /* SENT: the SYN, in ns after start_ts; ANSWERED: ns until the answer */
};
#define FAR_FROM_START UINT32_MAX

/* The MAC addresses of a flow's first packet; all zero: the link has none. */
struct stations {
    struct {
        uint8_t mac[6];
    } side[2];
};

/* The extra of a flow: fields that most flows never need. */
struct extra_side {
    int64_t fin;                           /* one past the FIN, if one was seen */
    uint64_t missing;                      /* bytes */
    uint64_t first_ts, shake;              /* if the past says FAR_FROM_START: absolute, and ns */
    uint32_t last_syn, last_fin, last_rst; /* of the latest in the history */
    uint32_t retransmitted, out_of_order, gaps, zero_windows, bad_checksums, fragments;
    uint32_t held;         /* index of the ranges beyond `delivered`; NIL: none */
    uint32_t packets_high; /* the high half of the packets */
};
struct extra {
    struct extra_side side[2];
    uint32_t odds; /* index; NIL: none */
    uint32_t icmp_errors;
    uint32_t mac_changes;
    uint8_t icmp_error_type, icmp_error_code;
    uint8_t length;
    char history[NR_HISTORY_SIZE];
    uint32_t next_free;
};

/* A place far from all that a stream has sent, of which its segments or the acknowledgements of its
 * peer speak: tcp_odds.c. */
struct elsewhere {
    uint64_t at;          /* packets of the flow, with the latest that spoke of it; 0: nowhere */
    uint64_t sent_at;     /* packets of the side, with the latest of its segments there */
    uint64_t acked_at;    /* packets of the peer, likewise */
    uint64_t found_at[2]; /* packets of the side and of the peer as it was found */
    uint64_t found;       /* the table's time then */
    uint32_t first, next; /* sequence numbers: where it begins, and one past the latest */
    uint32_t ack;         /* the latest acknowledgement there */
    uint32_t bytes, run;  /* data seen there; as much of it as lies in front of `next` */
    uint32_t held[2];     /* the side's and the peer's segments counted as implausible */
    uint16_t sent, acked; /* segments and acknowledgements there in a row */
    bool is_sent;         /* a segment was there, and no packet elsewhere since */
    bool is_acked;        /* an acknowledgement, likewise */
    bool foreign;         /* a segment was elsewhere with both its numbers */
    bool in_time;         /* ahead, and no more than could have been sent in the time */
    bool fin;             /* a FIN is there */
};
/* What only a flow with implausible numbers has. */
struct odds_side {
    struct elsewhere elsewhere;
    uint64_t before;      /* payload of the numbers that the stream has left */
    uint32_t implausible; /* segments */
    uint32_t left;        /* the next number where the stream was before */
    bool has_left;
};
struct odds {
    struct odds_side side[2];
    bool
        returned; /* a stream came back to numbers that it had left: two copies of one connection */
    uint32_t next_free;
};

/* Ranges of a stream beyond a hole. */
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

/* What a flow says inside. */
struct inside {
    uint64_t protocol : 8; /* NR_APP_* */
    uint64_t reading : 27; /* number; 0: nothing of it is needed */
    uint64_t record : 29;  /* number of the first exchange's in the cells; 0: none */
};
#define NR_INSIDE_READING ((1u << 27) - 1)
#define NR_INSIDE_RECORD ((1u << 29) - 1)
_Static_assert(sizeof(struct inside) == 8, "one word");
_Static_assert(NR_MAX_FLOWS <= NR_INSIDE_READING, "each flow can have a reading");
_Static_assert((uint64_t)NR_MAX_FLOWS * NR_CELLS_A_FLOW <= NR_INSIDE_RECORD, "and all cells");

/* What a flow had counted when the sums took it last: those by its ends, and those by what is said
 * inside, which have to wait until that is known. */
struct counts {
    uint64_t packets[2];
    uint64_t bytes[2];
};
struct counted {
    struct counts by_ends, by_content;
};

struct tunneled {
    struct nr_tunnel tunnel; /* of the first packet; src is the originator's */
    uint64_t parent_id;
    uint64_t latest; /* tells the tunnel of the latest packet from others */
    uint32_t changes;
};

struct list {
    uint32_t head, tail;
};

/* An array with items for each flow. It is mapped, and moves when the table grows. */
struct array {
    void *pointer; /* the address of the table's pointer to it; that is NULL before it is mapped */
    size_t item;   /* bytes for each flow; 0: there is no such array */
    size_t size;   /* bytes mapped */
    bool is_sparse; /* few items are in use at once: a huge page for one would be waste */
};
#define ARRAYS 13

#define LEADS 8u

struct nr_table {
    struct flow *flows;
    struct past *pasts;
    struct stations *stations;
    struct link *idle_links; /* close together: each packet changes those of three flows */
    struct slots *slots;     /* slots.h */
    uint32_t slot_groups;
    uint32_t live;
    uint64_t now; /* the table's time: only grows */
    uint64_t due; /* no timer of any flow runs out before this */
    uint64_t live_packets, live_bytes;
    int64_t lead; /* the table's time is ahead of the packets' by this */
    struct {
        uint64_t first_id; /* of the flows that began with it */
        int64_t lead;
    } leads[LEADS]; /* the latest ones; the last is the present one */
    uint32_t lead_count;
    struct nr_hash_secret secret;
    struct list idle[CLASS_COUNT];
    uint64_t idle_ns[CLASS_COUNT];
    uint64_t active_ns;
    uint64_t update_ns;
    struct timing *timing;          /* NULL: not asked for */
    nr_first_packet *first_packets; /* NULL: not asked for */
    uint32_t first_count;           /* packets recorded of each flow */
    bool one_sided;                 /* every event says so */
    bool directional;
    bool ignores_server_ports;
    struct tunneled *tunneled; /* NULL: tunnels are not opened */
    struct extra *extras;
    struct odds *odds;
    struct held *held;
    struct nr_handoff *handoff;
    struct nr_app *app;     /* NULL: no payload is looked at */
    struct inside *insides; /* NULL, likewise */
    bool reads_payload;     /* payload was looked at since memory was last fetched ahead */
    nr_names *names;        /* of addresses; NULL: nobody wants them */
    struct nr_counting *counting; /* NULL: nothing is summed up */
    struct counted *counted;      /* NULL, likewise */
    uint32_t walk;                /* of the flows, at the end of an interval; NIL: none */
    uint32_t walk_end;
    uint64_t walk_ts;
    nr_table_wait *wait; /* of a finite source; NULL: the source is live */
    void *waiter;
    uint64_t app_second;    /* of the table's time */
    uint32_t app_told;      /* exchanges with an event in that second */
    uint32_t app_left;      /* exchanges for which the hand-off has room now */
    uint32_t kinds; /* bits of the kinds of events to make */
    struct list update;
    uint32_t capacity;
    uint32_t limit;     /* the capacity to which the table may grow */
    uint32_t fresh;     /* the first entry never used: pages from here on are untouched */
    uint32_t free_head; /* freed entries, chained through idle_links[].next */
    uint32_t extra_fresh, extra_free;
    uint32_t odds_fresh, odds_free;
    uint32_t held_capacity, held_fresh, held_free;
    uint32_t victim; /* the next half-open flow to evict, if it was prefetched */
    uint32_t victim_hash;
    uint32_t peak;
    uint32_t reserve; /* hand-off slots that timers leave to a batch of packets */
    uint32_t classes;
    nr_port_timeout ports[NR_MAX_PORT_TIMEOUTS];
    uint64_t next_id, id_step;
    uint64_t started, established, ended[NR_END_COUNT];
    uint64_t ended_packets, ended_bytes;
    struct array arrays[ARRAYS];
};

static inline bool nr_is_tcp(const struct flow *f) {
    return f->key.proto == NR_PROTO_TCP;
}

/* IP bytes and TCP flags of a side share a word: 56 bits count the bytes, the low 8 collect the
 * flags. */
static inline void nr_side_add_ip(struct flow *f, int side, uint32_t ip_bytes, uint8_t tcp_flags) {
    uint64_t *word = &f->side[side].ip_bytes_flags;
    *word = (*word + ((uint64_t)ip_bytes << 8)) | tcp_flags;
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
/* Returns the reason for a flow whose time has come. */
uint8_t nr_flow_end_reason(const struct nr_table *t, uint32_t i);
/* Ends a flow to make room for another. */
void nr_flow_evict(struct nr_table *t);
/* Puts the flow on the update list. */
void nr_flow_schedule_update(struct nr_table *t, uint32_t i);

/* -- originator.c -- */

/* Returns whether a first packet looks like an answer, because it comes from a server's port. */
bool nr_flow_begins_with_answer(const struct nr_table *t, const struct nr_dissected *p);
/* Exchanges originator and responder. */
void nr_flow_flip(struct nr_table *t, uint32_t i);
void nr_tunnel_flip(struct nr_tunnel *tunnel);

/* -- rare.c -- */

/* Returns the flow's extra; NULL: none. */
static inline struct extra *nr_extra(const struct nr_table *t, uint32_t i) {
    return t->flows[i].has_extra ? &t->extras[t->pasts[i].letters] : NULL;
}
static inline uint64_t nr_flow_packets(const struct nr_table *t, uint32_t i, int side) {
    const struct extra *x = nr_extra(t, i);
    return (x != NULL ? (uint64_t)x->side[side].packets_high << 32 : 0) | t->flows[i].packets[side];
}
/* Returns the flow's extra, and takes one first if there is none. */
struct extra *nr_extra_take(struct nr_table *t, uint32_t i);
/* Frees the flow's extra. The flow has one, and its streams hold no ranges. */
void nr_extra_free(struct nr_table *t, uint32_t i);
/* The same of its odds; returns NULL if there are none. */
static inline struct odds *nr_odds(const struct nr_table *t, uint32_t i) {
    const struct extra *x = nr_extra(t, i);
    return x != NULL && x->odds != NIL ? &t->odds[x->odds] : NULL;
}
struct odds *nr_odds_take(struct nr_table *t, uint32_t i);

/* Returns when the side's first packet came; 0: none came. */
uint64_t nr_first_ts(const struct nr_table *t, uint32_t i, int side);
void nr_note_first_ts(struct nr_table *t, uint32_t i, int side, uint64_t ts);
/* Returns when the SYN was sent (SHAKE_SENT), or how long the answer took (SHAKE_ANSWERED). */
uint64_t nr_shake(const struct nr_table *t, uint32_t i, int side);
void nr_note_shake(struct nr_table *t, uint32_t i, int side, int shake, uint64_t value);

/* -- history.c: callers pass letters in the originator's case -- */

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
/* Writes the letter if it is the first of its kind on the side. Returns whether it was. */
bool nr_history_note(struct nr_table *t, uint32_t i, int side, uint32_t kind, char letter);
/* Opens the history with the originator's S. */
void nr_history_open(struct nr_table *t, uint32_t i);
/* Writes a letter that may repeat, if there is room. */
void nr_history_add(struct nr_table *t, uint32_t i, int side, char letter);
/* Writes a letter at its 1st, 10th, 100th time, and so on. */
void nr_history_count(struct nr_table *t, uint32_t i, int side, char letter, uint32_t count);
/* Writes the X of a flow whose tunnel has changed too often. */
void nr_history_mark(struct nr_table *t, uint32_t i);
/* Writes the ^ of exchanged sides. */
void nr_history_flip(struct nr_table *t, uint32_t i);
/* Returns whether the history begins with an H of the originator, and has no letter of another kind
 * of packet; and whether it is that H alone. */
bool nr_history_is_answer(const struct nr_table *t, uint32_t i);
bool nr_history_is_lone_answer(const struct nr_table *t, uint32_t i);
/* Turns the single H into one of the responder. */
void nr_history_correct_answer(struct nr_table *t, uint32_t i);
/* Copies the history to text, not terminated. Returns its length. */
uint32_t nr_history_text(const struct nr_table *t, uint32_t i, char text[NR_HISTORY_SIZE]);
void nr_history_clear(struct nr_table *t, uint32_t i);

/* -- tcp_stream.c -- */

void nr_stream_begin(struct nr_table *t, uint32_t i, int side, uint32_t start);
/* Returns the offset of the sequence number in the stream, near `close_to`. */
static inline int64_t nr_stream_place(const struct stream *s, uint32_t sequence, int64_t close_to) {
    return close_to + (int32_t)(sequence - (s->start + (uint32_t)close_to));
}
/* Accounts length bytes of data at `at`. `late`: the side has sent later bytes before. */
void nr_stream_data(struct nr_table *t, uint32_t i, int side, int64_t at, uint32_t length,
                    bool late);
/* Accounts an acknowledgement of all bytes before `at`: unseen ones are missing. `reports` says
 * whether gaps of this connection count. Returns the number of gaps. */
uint32_t nr_stream_acked(struct nr_table *t, uint32_t i, int side, int64_t at, bool reports);
/* Frees the ranges that the stream holds. */
void nr_stream_end(struct nr_table *t, uint32_t i, int side);
/* Rebases the stream, as if it began at its latest byte. */
void nr_stream_rebase(struct nr_table *t, uint32_t i, int side);
/* Returns the bytes of payload sent, by sequence numbers. */
uint64_t nr_stream_size(const struct stream *stream, const struct stream *peer);

/* -- tcp_odds.c -- */

/* Forgets the counts, as the flow is renewed. */
void nr_odds_clear(struct nr_table *t, uint32_t i);

/* -- tcp.c, tcp_state.c -- */

/* Returns whether a packet of this side begins another connection on the same ports. */
bool nr_tcp_is_reuse(const struct flow *flow, int side, const struct nr_dissected *p);
enum {
    NR_STEP_SAME = 0,
    NR_STEP_CHANGED = 1,
    NR_STEP_HANDSHAKE_DONE = 3, /* and changed */
    NR_STEP_READS = 4,          /* the packet's payload is looked at: flow.c adds it */
};
/* Follows the connection. Returns SAME if neither side's state has changed, HANDSHAKE_DONE if the
 * handshake has just completed, else CHANGED. May exchange the flow's sides. */
int nr_tcp_packet(struct nr_table *t, uint32_t i, int side, const struct nr_dissected *p,
                  uint64_t ts);
/* Takes the first packet of a new flow in a few steps if it is a bare SYN, as in floods and scans.
 * Returns false for any other packet. The sender is the originator, because
 * nr_flow_begins_with_answer() is false for a SYN. */
bool nr_tcp_take_lone_syn(struct nr_table *t, uint32_t i, const struct nr_dissected *p);
/* Returns whether nothing but the opening was seen: no answer, and no packet that needs one. */
bool nr_tcp_is_half_open(const struct flow *flow);
/* Returns whether one side alone was seen. */
bool nr_tcp_is_one_way(const struct flow *flow);
/* Returns whether both sides have closed, or one has and the other never spoke, or one has
 * reset. */
bool nr_tcp_is_over(const struct flow *flow);
bool nr_tcp_was_reset(const struct flow *flow);

/* -- packet_statistics.c -- */

void nr_timing_packet(struct nr_table *t, uint32_t i, int side, uint32_t size, uint64_t ts);

/* -- emit.c -- */

void nr_emit(struct nr_table *t, uint32_t i, uint8_t kind, uint8_t end_reason);
/* Writes the event of an exchange. */
void nr_emit_exchange(struct nr_table *t, uint32_t i, uint8_t protocol,
                      const struct nr_record *record);

/* -- payload.c: but for the first, only if t->app is not NULL -- */

/* Returns false if memory runs out. */
bool nr_payload_create(struct nr_table *t, const nr_flow_options *options);
void nr_payload_begin(struct nr_table *t, uint32_t i);
/* Reads the payload of a packet of this side, which `reads`. */
void nr_payload_read(struct nr_table *t, uint32_t i, int side, const struct nr_dissected *p);
/* Prefetches what is needed to read the next packet of a flow: its reading, then the question that
 * it waits for an answer to. */
void nr_payload_prefetch(const struct nr_table *t, uint32_t i);
void nr_payload_prefetch_ask(const struct nr_table *t, uint32_t i);
/* Prefetches what is needed to end this flow. */
void nr_payload_prefetch_end(const struct nr_table *t, uint32_t i);
void nr_payload_flip(struct nr_table *t, uint32_t i);
/* Tells what is left, before the flow's last event. */
void nr_payload_end(struct nr_table *t, uint32_t i);
void nr_payload_free(struct nr_table *t, uint32_t i); /* after it */
/* Begins to count anew. */
void nr_payload_renew(struct nr_table *t, uint32_t i);
void nr_payload_account(const struct nr_table *t, nr_statistics *statistics);

/* -- count.c: only if t->counting is not NULL -- */

/* Feeds what is left of a flow that ends. */
void nr_flow_count_last(struct nr_table *t, uint32_t i);
void nr_counted_flip(struct counted *counted);
/* Ends the interval of a finite source, at the table's time. */
void nr_table_end_interval(struct nr_table *t);

/* -- server_ports.c -- */

/* Returns whether services of the protocol listen on the port by custom. */
bool nr_port_is_server(uint8_t proto, uint16_t port);

#endif
