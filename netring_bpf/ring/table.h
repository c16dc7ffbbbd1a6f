/* The memory of the flow table: entries, buckets, and lists in order of time. Shared by table.c
 * (which makes it), flow.c (which works on it) and tcp.c (which reads one flow's packets).
 *
 * Each flow is on one idle list (of its timeout class, in order of the latest packet), so idle
 * flows are found at the heads without a walk, and on the update list (in order of the next
 * report). The least recently used flow is the oldest of the idle lists' heads. */
#ifndef NR_TABLE_H
#define NR_TABLE_H

#include "flow.h"

#define NIL UINT32_MAX

enum { CLASS_TCP, CLASS_UDP, CLASS_OTHER, CLASS_CLOSING, CLASS_COUNT };
enum { ORIG, RESP };

/* What was seen of a TCP connection. */
enum {
    SEEN_SYN = 1 << 0,
    SEEN_SYNACK = 1 << 1,
    SEEN_ESTABLISHED = 1 << 2,
    SEEN_FIN_ORIG = 1 << 3, /* shifted left by the side */
    SEEN_FIN_RESP = 1 << 4,
    SEEN_RST = 1 << 5,
};

struct link {
    uint32_t prev, next;
};

struct side {
    uint64_t packets, bytes;
};

struct flow {
    struct nr_key key;
    uint64_t id;
    uint64_t first_ts, last_ts; /* of its packets */
    uint64_t touched;           /* table time of its latest packet: orders the idle list */
    uint64_t update_at;
    struct side side[2];
    struct link idle, update;
    uint32_t next_in_bucket;
    uint32_t bucket;
    uint32_t syn_seq[2];
    uint8_t class;
    uint8_t seen;
    bool orig_is_high;
    uint8_t history_length;
    uint16_t history_seen; /* a bit per letter and side */
    char history[16];
};

struct list {
    uint32_t head, tail;
};

struct nr_table {
    struct flow *flows;
    uint32_t *buckets;
    struct nr_handoff *handoff;
    uint32_t bucket_mask;
    uint32_t capacity;
    uint32_t fresh;     /* entries from here on were never used: their pages are untouched */
    uint32_t free_head; /* used and free again, chained through next_in_bucket */
    uint32_t live;
    uint32_t peak;
    uint64_t idle_ns[CLASS_COUNT];
    uint64_t update_ns;
    uint64_t now; /* packet time: only grows */
    uint64_t due; /* no timer of any flow runs out before this */
    uint64_t next_id;
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

/* -- tcp.c -- */

/* Notes the packet's letters in the flow's history. */
void nr_flow_note(struct flow *f, int side, const struct nr_dissected *p);
/* Follows the connection; true when the handshake has just completed. */
bool nr_tcp_track(struct flow *f, int side, const struct nr_dissected *p);
/* Whether both sides have closed, or one has reset. */
static inline bool nr_tcp_is_closed(const struct flow *f) {
    const uint8_t both = SEEN_FIN_ORIG | SEEN_FIN_RESP;
    return f->seen & SEEN_RST || (f->seen & both) == both;
}

#endif
