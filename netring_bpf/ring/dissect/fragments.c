/* A set-associative table: a datagram has a set of four places. No search goes further, and the
 * table never grows.
 *
 * Fragments that come before their first wait in a list of their datagram, and the datagrams with
 * such fragments are on a list in the order in which they time out. A datagram whose fragments have
 * waited long enough goes to the front of it. Fragments that wait never push out a datagram whose
 * first is known. */
#include "dissect/fragments.h"

#include <stdlib.h>
#include <string.h>

#include "siphash.h"

#define WAYS 4u
#define MAX_RANGES 8u   /* separate ranges of bytes that a datagram can have */
#define MAX_WAITING 64u /* fragments of a datagram that wait: those of 64 KiB over Ethernet */
#define PER_PLACE 4u    /* fragments that can wait, for each place */
#define NONE UINT32_MAX
#define BUFFERS_MAX 256u   /* half of them only for tunnels whose first fragment is known */
#define BUFFER_SIZE 65536u /* no IP packet is longer */
#define FRAGMENT_HEADER 8u /* of IPv6 */

struct range {
    uint32_t start, end;
};

/* Fields that the fragments of one datagram share, with the network they are in. The protocol is
 * one of them in IPv4 (RFC 791), not in IPv6 (RFC 8200 section 4.5). */
struct identity {
    uint8_t src_h[16];
    uint8_t dst_h[16];
    uint32_t id;
    uint32_t network;
    uint16_t vlan[2];
    uint8_t family;
    uint8_t proto;
    uint8_t zero[2];
};

/* A TCP segment in fragments: the fields that later fragments take from the first. */
struct segment {
    uint32_t base; /* sequence number that byte 0 of the datagram's payload would have */
    uint32_t ack;
    uint16_t window;
    uint8_t flags; /* 0: no TCP, no ACK, or a reset, whose data is not the stream's */
};

/* A fragment that waits for its first. */
struct waiting {
    uint64_t ts;
    uint32_t bytes, ip_bytes;
    uint32_t start, end;
    uint32_t next; /* of the same datagram, or of the free ones */
    struct nr_macs macs;
};

struct datagram {
    struct identity identity;
    uint64_t ends_at;  /* 0: free */
    struct nr_key key; /* without ports, as long as the first is not known */
    struct segment segment;
    bool from_high, from_responder, one_way, exchange;
    bool has_first;
    bool is_ready; /* its fragments have waited long enough */
    bool is_inner;
    bool is_complete; /* and was told to be */
    uint8_t ranges_used;
    struct range ranges[MAX_RANGES];
    uint32_t buffer; /* of the payload; NONE: not kept */
    uint32_t length; /* of the payload; 0: the last piece has not come */
    uint32_t ip_header, transport_header;
    uint32_t waiting, first_waiting, last_waiting;
    uint32_t before, after; /* in the list of datagrams with fragments that wait */
    uint64_t parent_id;
    struct nr_tunnel tunnel;
};

struct nr_fragments {
    struct datagram *places;
    struct waiting *pieces;
    uint32_t pieces_count, fresh_piece, free_piece;
    uint32_t head, tail; /* datagrams with fragments that wait */
    uint32_t mask;       /* number of sets - 1 */
    uint64_t timeout_ns;
    uint64_t overlaps;
    uint64_t hash_key[2];
    uint8_t *buffers; /* BUFFERS_MAX of them; a page takes memory once it is used */
    uint32_t free_buffers[BUFFERS_MAX];
    uint32_t free_count;
};

struct nr_fragments *nr_fragments_create(uint32_t capacity, uint64_t timeout_ns,
                                         const uint8_t hash_key[16]) {
    struct nr_fragments *f = calloc(1, sizeof *f);
    uint32_t sets = 1;
    if (f == NULL) {
        return NULL;
    }
    while (sets * WAYS < capacity) {
        sets <<= 1;
    }
    f->mask = sets - 1;
    f->timeout_ns = timeout_ns;
    memcpy(f->hash_key, hash_key, sizeof f->hash_key);
    f->places = calloc((size_t)sets * WAYS, sizeof *f->places);
    f->pieces_count = sets * WAYS * PER_PLACE;
    f->pieces = calloc(f->pieces_count, sizeof *f->pieces);
    f->buffers = calloc(BUFFERS_MAX, BUFFER_SIZE);
    f->free_piece = f->head = f->tail = NONE;
    if (f->places == NULL || f->pieces == NULL || f->buffers == NULL) {
        nr_fragments_destroy(f);
        return NULL;
    }
    for (uint32_t i = 0; i < sets * WAYS; i++) {
        f->places[i].buffer = NONE;
    }
    for (uint32_t i = 0; i < BUFFERS_MAX; i++) {
        f->free_buffers[f->free_count++] = BUFFERS_MAX - 1 - i;
    }
    return f;
}

void nr_fragments_destroy(struct nr_fragments *f) {
    if (f != NULL) {
        free(f->places);
        free(f->pieces);
        free(f->buffers);
        free(f);
    }
}

static struct identity identity_of(const struct nr_dissected *p) {
    /* The ends of a fragment's key are addresses only; from_high tells which one sent it. */
    struct identity identity = {.id = p->piece.id,
                                .network = p->key.network,
                                .vlan = {p->key.vlan[0], p->key.vlan[1]},
                                .family = p->key.family,
                                .proto = p->key.family == 4 ? p->piece.proto : 0};
    memcpy(identity.src_h, p->from_high ? p->key.high_h : p->key.low_h, 16);
    memcpy(identity.dst_h, p->from_high ? p->key.low_h : p->key.high_h, 16);
    return identity;
}

static struct datagram *set_of(const struct nr_fragments *f, const struct identity *identity) {
    uint64_t words[sizeof *identity / 8];
    memcpy(words, identity, sizeof words);
    const uint32_t set = (uint32_t)nr_siphash13(f->hash_key, words, sizeof words / 8) & f->mask;
    return &f->places[(size_t)set * WAYS];
}

static struct datagram *find_datagram(const struct nr_fragments *f, uint64_t now,
                                      const struct identity *identity) {
    struct datagram *set = set_of(f, identity);
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i].ends_at > now && memcmp(&set[i].identity, identity, sizeof *identity) == 0) {
            return &set[i];
        }
    }
    return NULL;
}

/* Returns the place that runs out first, of those that may be given up: all, or those whose first
 * is not known. Returns NULL if there is none. */
static struct datagram *oldest_place(struct datagram *set, bool all) {
    struct datagram *found = NULL;
    for (uint32_t i = 0; i < WAYS; i++) {
        if ((all || !set[i].has_first) && (found == NULL || set[i].ends_at < found->ends_at)) {
            found = &set[i];
        }
    }
    return found;
}

/* Returns the place for a datagram that has none yet. For a fragment that waits it may be NULL. */
static struct datagram *choose_place(const struct nr_fragments *f, uint64_t now,
                                     const struct identity *identity, bool waits) {
    struct datagram *set = set_of(f, identity);
    for (uint32_t i = 0; i < WAYS; i++) {
        if (set[i].ends_at <= now && set[i].waiting == 0) {
            return &set[i];
        }
    }
    struct datagram *found = oldest_place(set, false);
    return found != NULL || waits ? found : oldest_place(set, true);
}

/* Adds the piece to the ranges received. Returns true if it overlaps one of them. */
static bool add_range(struct datagram *d, const struct nr_piece *piece) {
    struct range added = {piece->start, piece->end};
    bool overlaps = false;
    uint8_t kept = 0;
    if (added.start >= added.end) {
        return false;
    }
    for (uint8_t i = 0; i < d->ranges_used; i++) {
        const struct range r = d->ranges[i];
        if (r.end < added.start || r.start > added.end) {
            d->ranges[kept++] = r;
            continue;
        }
        overlaps = overlaps || (r.start < added.end && added.start < r.end);
        added.start = r.start < added.start ? r.start : added.start;
        added.end = r.end > added.end ? r.end : added.end;
    }
    if (kept < MAX_RANGES) { /* else too many ranges: the piece is left out */
        d->ranges[kept++] = added;
    }
    d->ranges_used = kept;
    return overlaps;
}

/* -- reassembled payloads -- */

static void release_buffer(struct nr_fragments *f, struct datagram *d) {
    if (d->buffer != NONE) {
        f->free_buffers[f->free_count++] = d->buffer;
        d->buffer = NONE;
    }
}

static uint8_t *buffer_of(const struct nr_fragments *f, const struct datagram *d) {
    return f->buffers + (size_t)d->buffer * BUFFER_SIZE;
}

/* Copies the piece into the datagram's buffer. Gives the buffer up if the piece was cut or does not
 * fit. */
static void keep_payload(struct nr_fragments *f, struct datagram *d, const struct nr_piece *piece) {
    if (d->buffer == NONE) {
        return;
    }
    if (piece->end > BUFFER_SIZE || piece->caplen < piece->end - piece->start) {
        release_buffer(f, d);
        return;
    }
    memcpy(buffer_of(f, d) + piece->start, piece->data, piece->end - piece->start);
}

static bool is_whole(const struct datagram *d) {
    return d->has_first && d->length != 0 && d->ranges_used == 1 && d->ranges[0].start == 0 &&
           d->ranges[0].end == d->length;
}

/* -- the key of the first -- */

static struct segment segment_of(const struct nr_dissected *p) {
    if (p->key.proto != NR_PROTO_TCP || p->tcp_flags & NR_FLAG_RST) {
        return (struct segment){0};
    }
    const uint32_t header = p->piece.end - p->payload;
    const uint32_t syn = p->tcp_flags & NR_FLAG_SYN ? 1 : 0;
    return (struct segment){.base = p->tcp_seq + syn - header,
                            .ack = p->tcp_ack,
                            .window = p->window,
                            .flags = p->tcp_flags & NR_FLAG_ACK};
}

/* Notes the headers in front of the datagram's payload and of the transport's. */
static void note_headers(struct datagram *d, const struct nr_dissected *p) {
    const uint32_t piece = p->piece.end - p->piece.start;
    d->ip_header = p->ip_bytes - piece - (p->key.family == 6 ? FRAGMENT_HEADER : 0);
    d->transport_header = piece - (p->payload < piece ? p->payload : piece);
}

/* Makes the packet one of the flow that the datagram's first belongs to. */
static void give_key(const struct datagram *d, struct nr_dissected *p) {
    p->key = d->key;
    p->from_high = d->from_high;
    p->from_responder = d->from_responder;
    p->one_way = d->one_way;
    p->exchange = d->exchange;
    if (d->segment.flags != 0) {
        p->tcp_seq = d->segment.base + p->piece.start;
        p->tcp_ack = d->segment.ack;
        p->window = d->segment.window;
        p->tcp_flags = d->segment.flags;
    }
}

static void take_key(struct datagram *d, const struct nr_dissected *p) {
    d->key = p->key;
    d->from_high = p->from_high;
    d->from_responder = p->from_responder;
    d->one_way = p->one_way;
    d->exchange = p->exchange;
}

static void begin_datagram(struct nr_fragments *f, struct datagram *d,
                           const struct identity *identity, uint64_t now, bool keeps) {
    release_buffer(f, d);
    memset(d, 0, sizeof *d);
    d->identity = *identity;
    d->ends_at = now + f->timeout_ns;
    d->buffer = keeps && f->free_count > 0 ? f->free_buffers[--f->free_count] : NONE;
    d->first_waiting = d->last_waiting = d->before = d->after = NONE;
}

static void note_piece(struct nr_fragments *f, struct datagram *d, const struct nr_piece *piece) {
    f->overlaps += add_range(d, piece);
    d->length = piece->last ? piece->end : d->length;
    keep_payload(f, d, piece);
}

/* -- fragments that wait -- */

static uint32_t index_of(const struct nr_fragments *f, const struct datagram *d) {
    return (uint32_t)(d - f->places);
}

static void unlink_datagram(struct nr_fragments *f, struct datagram *d) {
    *(d->before == NONE ? &f->head : &f->places[d->before].after) = d->after;
    *(d->after == NONE ? &f->tail : &f->places[d->after].before) = d->before;
    d->before = d->after = NONE;
}

static void append_datagram(struct nr_fragments *f, struct datagram *d) {
    const uint32_t i = index_of(f, d);
    d->before = f->tail;
    *(f->tail == NONE ? &f->head : &f->places[f->tail].after) = i;
    f->tail = i;
}

/* Puts a datagram whose fragments have waited long enough at the front of the list. */
static void make_ready(struct nr_fragments *f, struct datagram *d) {
    const uint32_t i = index_of(f, d);
    if (d->waiting == 0 || d->is_ready) {
        return;
    }
    unlink_datagram(f, d);
    d->is_ready = true;
    d->after = f->head;
    *(f->head == NONE ? &f->tail : &f->places[f->head].before) = i;
    f->head = i;
}

static uint32_t take_piece(struct nr_fragments *f) {
    const uint32_t i = f->free_piece;
    if (i != NONE) {
        f->free_piece = f->pieces[i].next;
        return i;
    }
    return f->fresh_piece < f->pieces_count ? f->fresh_piece++ : NONE;
}

static void append_piece(struct nr_fragments *f, struct datagram *d, uint32_t i) {
    if (d->waiting++ == 0) {
        append_datagram(f, d);
        d->first_waiting = i;
    } else {
        f->pieces[d->last_waiting].next = i;
    }
    d->last_waiting = i;
}

/* Takes the datagram's first fragment that waits. A datagram without a known first ends with its
 * last one. */
static struct waiting remove_piece(struct nr_fragments *f, struct datagram *d) {
    const uint32_t i = d->first_waiting;
    const struct waiting piece = f->pieces[i];
    d->first_waiting = piece.next;
    f->pieces[i].next = f->free_piece;
    f->free_piece = i;
    if (--d->waiting == 0) {
        unlink_datagram(f, d);
        d->is_ready = false;
        if (!d->has_first) {
            release_buffer(f, d);
            d->ends_at = 0;
        }
    }
    return piece;
}

void nr_fragments_make_room(struct nr_fragments *f, uint64_t now, const struct nr_dissected *p,
                            bool waits) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL) {
        d = choose_place(f, now, &identity, waits);
        if (d != NULL) {
            make_ready(f, d);
        }
    } else if (waits && d->waiting == MAX_WAITING) {
        make_ready(f, d);
    }
    if (waits && f->free_piece == NONE && f->fresh_piece == f->pieces_count) {
        make_ready(f, &f->places[f->head]);
    }
}

bool nr_fragments_hold(struct nr_fragments *f, uint64_t now, const struct nr_dissected *p,
                       const struct nr_fragment_frame *frame, bool keeps) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL) {
        d = choose_place(f, now, &identity, true);
        if (d == NULL) {
            return false;
        }
        begin_datagram(f, d, &identity, now, keeps && f->free_count > BUFFERS_MAX / 2);
        take_key(d, p);
        d->is_inner = frame->is_inner;
        d->parent_id = frame->parent_id;
        d->tunnel = p->tunnel;
    }
    const uint32_t i = take_piece(f);
    if (i == NONE) {
        return false;
    }
    f->pieces[i] = (struct waiting){.ts = frame->ts,
                                    .bytes = frame->bytes,
                                    .ip_bytes = p->ip_bytes,
                                    .start = p->piece.start,
                                    .end = p->piece.end,
                                    .next = NONE,
                                    .macs = nr_find_macs(p)};
    append_piece(f, d, i);
    note_piece(f, d, &p->piece);
    return true;
}

bool nr_fragments_next(struct nr_fragments *f, uint64_t now, struct nr_waited *out) {
    struct datagram *d = f->head != NONE ? &f->places[f->head] : NULL;
    struct nr_dissected *p = &out->packet;
    if (d == NULL || (!d->is_ready && d->ends_at > now)) {
        return false;
    }
    const bool has_first = d->has_first;
    const struct waiting piece = remove_piece(f, d);
    nr_clear_dissected(p);
    p->ip_bytes = piece.ip_bytes;
    p->payload = piece.end - piece.start;
    p->piece = (struct nr_piece){.start = piece.start, .end = piece.end, .later = true};
    p->part = has_first ? 0 : NR_FRAGMENT;
    p->tunnel = d->tunnel;
    p->macs = piece.macs;
    p->macs_mix = nr_mix_macs(piece.macs.dst);
    give_key(d, p);
    out->frame = (struct nr_fragment_frame){
        .ts = piece.ts, .parent_id = d->parent_id, .bytes = piece.bytes, .is_inner = d->is_inner};
    return true;
}

bool nr_fragments_wait(const struct nr_fragments *f) {
    return f->head != NONE;
}

/* -- the pieces -- */

void nr_fragments_note(struct nr_fragments *f, uint64_t now, const struct nr_dissected *p,
                       bool keeps) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL) {
        d = choose_place(f, now, &identity, false);
        const bool is_spare = p->key.proto == NR_PROTO_UDP || f->free_count > BUFFERS_MAX / 2;
        begin_datagram(f, d, &identity, now, keeps && is_spare);
    } else if (!keeps) {
        release_buffer(f, d);
    }
    take_key(d, p);
    d->has_first = true;
    d->segment = segment_of(p);
    note_headers(d, p);
    note_piece(f, d, &p->piece);
    make_ready(f, d);
}

bool nr_fragments_resolve(struct nr_fragments *f, uint64_t now, struct nr_dissected *p) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL || !d->has_first) {
        return false;
    }
    note_piece(f, d, &p->piece);
    give_key(d, p);
    return true;
}

bool nr_fragments_complete(struct nr_fragments *f, uint64_t now, const struct nr_dissected *p,
                           struct nr_whole *out) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL || d->is_complete || !is_whole(d)) {
        return false;
    }
    const uint32_t header = d->transport_header;
    *out = (struct nr_whole){.data = d->buffer != NONE ? buffer_of(f, d) : NULL,
                             .length = d->length,
                             .ip_bytes = d->ip_header + d->length,
                             .payload = d->length > header ? d->length - header : 0};
    release_buffer(f, d);
    d->is_complete = true;
    return true;
}

uint64_t nr_fragments_overlaps(const struct nr_fragments *f) {
    return f->overlaps;
}
