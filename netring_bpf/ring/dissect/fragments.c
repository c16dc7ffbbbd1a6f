/* A set-associative table: a datagram has a set of four places, and takes the one that expires
 * first. No search goes further, and the table never grows. */
#include "dissect/fragments.h"

#include <stdlib.h>
#include <string.h>

#include "siphash.h"

#define WAYS 4u
#define MAX_RANGES 8u /* separate ranges of bytes that a datagram can have */
#define NONE UINT32_MAX
#define BUFFERS_MAX 256u
#define BUFFER_SIZE 65536u /* no IP packet is longer */

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

struct datagram {
    struct identity identity;
    uint64_t ends_at; /* 0: free */
    struct nr_key key;
    struct segment segment;
    bool from_high, from_responder, one_way;
    uint8_t ranges_used;
    struct range ranges[MAX_RANGES];
    uint32_t buffer; /* of the payload; NONE: not kept */
    uint32_t length; /* of the payload; 0: the last piece has not come */
};

struct nr_fragments {
    struct datagram *places;
    uint32_t mask; /* number of sets - 1 */
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
    f->buffers = calloc(BUFFERS_MAX, BUFFER_SIZE);
    if (f->places == NULL || f->buffers == NULL) {
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
                                .proto = p->key.family == 4 ? p->key.proto : 0};
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

static struct datagram *oldest_datagram(struct datagram *set) {
    struct datagram *found = set;
    for (uint32_t i = 1; i < WAYS; i++) {
        found = set[i].ends_at < found->ends_at ? &set[i] : found;
    }
    return found;
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
    if (piece->last) {
        d->length = piece->end;
    }
}

static bool is_whole(const struct datagram *d) {
    return d->buffer != NONE && d->length != 0 && d->ranges_used == 1 && d->ranges[0].start == 0 &&
           d->ranges[0].end == d->length;
}

/* -- the pieces -- */

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

void nr_fragments_note(struct nr_fragments *f, uint64_t now, const struct nr_dissected *p,
                       bool keeps) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL) {
        d = oldest_datagram(set_of(f, &identity));
        release_buffer(f, d);
        memset(d, 0, sizeof *d);
        d->identity = identity;
        d->ends_at = now + f->timeout_ns;
        d->buffer = keeps && f->free_count > 0 ? f->free_buffers[--f->free_count] : NONE;
    }
    d->key = p->key;
    d->from_high = p->from_high;
    d->from_responder = p->from_responder;
    d->one_way = p->one_way;
    d->segment = segment_of(p);
    f->overlaps += add_range(d, &p->piece);
    keep_payload(f, d, &p->piece);
}

bool nr_fragments_resolve(struct nr_fragments *f, uint64_t now, struct nr_dissected *p,
                          const uint8_t **whole, uint32_t *length) {
    const struct identity identity = identity_of(p);
    struct datagram *d = find_datagram(f, now, &identity);
    if (d == NULL) {
        return false;
    }
    f->overlaps += add_range(d, &p->piece);
    keep_payload(f, d, &p->piece);
    if (is_whole(d)) {
        *whole = buffer_of(f, d);
        *length = d->length;
        release_buffer(f, d);
    }
    p->key = d->key;
    p->from_high = d->from_high;
    p->from_responder = d->from_responder;
    p->one_way = d->one_way;
    if (d->segment.flags != 0) {
        p->tcp_seq = d->segment.base + p->piece.start;
        p->tcp_ack = d->segment.ack;
        p->window = d->segment.window;
        p->tcp_flags = d->segment.flags;
    }
    return true;
}

uint64_t nr_fragments_overlaps(const struct nr_fragments *f) {
    return f->overlaps;
}
