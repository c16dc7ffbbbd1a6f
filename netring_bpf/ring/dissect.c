/* Frames to packets to the flow table: with the fragments, and with what is inside of tunnels. */
#include "cursor.h"
#include "reader.h"

/* Gives a later fragment the key of the first; the one that makes a tunnel's datagram whole also
 * has what is inside. */
static int resolve(nr_reader *r, int reason, uint64_t ts, struct nr_dissected *packet) {
    const struct nr_key *key = &packet->key;
    const uint8_t *whole = NULL;
    uint32_t length = 0;
    if (reason == NR_KEYED && packet->piece.first) {
        const bool keeps = key->proto == NR_PROTO_UDP && r->decode.tunnel_depth > 0 &&
                           (nr_is_tunnel_port(key->low_p) || nr_is_tunnel_port(key->high_p));
        nr_fragments_note(r->fragments, ts, packet, keeps);
    } else if (reason == NR_FRAGMENT &&
               nr_fragments_resolve(r->fragments, ts, packet, &whole, &length)) {
        r->books.fragments++;
        if (whole != NULL) {
            nr_decode_reassembled(packet, whole, length, &r->decode);
        }
        return NR_KEYED;
    }
    return reason;
}

/* The packets that came inside of a tunnel over UDP: as many as the options open. */
static void dissect_inner(nr_reader *r, uint64_t ts, const struct nr_dissected *outer,
                          uint64_t parent_id) {
    nr_statistics *b = &r->books;
    struct nr_dissected packets[2];
    for (int turn = 0; outer->inner.at != NULL; turn ^= 1) {
        struct nr_dissected *packet = &packets[turn];
        const uint32_t length = outer->inner.len;
        if (resolve(r, nr_decode_inner(outer, &r->decode, packet), ts, packet) != NR_KEYED) {
            b->inner_not_keyed++;
            return;
        }
        nr_table_prepare(r->table, packet);
        b->inner++;
        b->inner_bytes += length;
        parent_id = nr_table_packet(r->table, packet, ts, length, parent_id);
        outer = packet;
    }
}

/* One frame, decoded with `reason`. */
static void account(nr_reader *r, const struct nr_frame *frame, int reason,
                    struct nr_dissected *packet) {
    nr_statistics *b = &r->books;
    if (NR_UNLIKELY(packet->piece.first || reason == NR_FRAGMENT)) {
        reason = resolve(r, reason, frame->ts, packet);
        if (reason == NR_KEYED) {
            nr_table_prepare(r->table, packet);
        }
    }
    if (NR_UNLIKELY(reason != NR_KEYED)) {
        b->not_keyed[reason]++;
        return;
    }
    b->keyed++;
    b->keyed_bytes += frame->len;
    const uint64_t id = nr_table_packet(r->table, packet, frame->ts, frame->len, 0);
    if (NR_UNLIKELY(packet->inner.at != NULL)) {
        dissect_inner(r, frame->ts, packet, id);
    }
}

/* In a large table nearly all that a packet costs is to wait for memory. So each step of a packet
 * asks for what the next one needs, and other packets' steps come in between. */
enum { LOOK_UP = 6, LOOK_AT_FLOW = 14, LOOK_AT_ALL = 24 }; /* packets behind the decoding */

struct batch {
    struct nr_dissected packets[NR_BATCH];
    int reasons[NR_BATCH];
};

static void decode(nr_reader *r, const struct nr_frame *frame, struct batch *b, uint32_t n) {
    b->reasons[n] = nr_decode(frame, &r->decode, &b->packets[n]);
    r->books.received_bytes += frame->len;
}

static void prepare(nr_reader *r, struct batch *b, uint32_t n) {
    if (NR_LIKELY(b->reasons[n] == NR_KEYED)) {
        nr_table_prepare(r->table, &b->packets[n]);
    }
}

static void dissect_small(nr_reader *r, const struct nr_frame *frames, uint32_t count,
                          struct batch *b) {
    for (uint32_t n = 0; n < count; n++) {
        decode(r, &frames[n], b, n);
    }
    /* Not in the loop above: a key that was just written in pieces cannot be read at once. */
    for (uint32_t n = 0; n < count; n++) {
        prepare(r, b, n);
    }
    for (uint32_t n = 0; n < count; n++) {
        account(r, &frames[n], b->reasons[n], &b->packets[n]);
    }
}

static void dissect_large(nr_reader *r, const struct nr_frame *frames, uint32_t count,
                          struct batch *b) {
    for (uint32_t n = 0; n < count + LOOK_AT_ALL; n++) {
        if (n < count) {
            decode(r, &frames[n], b, n);
        }
        if (n - 1 < count) {
            prepare(r, b, n - 1);
        }
        if (n - LOOK_UP < count && b->reasons[n - LOOK_UP] == NR_KEYED) {
            nr_table_fetch(r->table, &b->packets[n - LOOK_UP], 0);
        }
        if (n - LOOK_AT_FLOW < count && b->reasons[n - LOOK_AT_FLOW] == NR_KEYED) {
            nr_table_fetch(r->table, &b->packets[n - LOOK_AT_FLOW], 1);
        }
        if (n - LOOK_AT_ALL < count) {
            const uint32_t now = n - LOOK_AT_ALL;
            account(r, &frames[now], b->reasons[now], &b->packets[now]);
        }
    }
}

void nr_reader_dissect(nr_reader *r, const struct nr_frame *frames, uint32_t count) {
    struct batch batch;
    for (uint32_t done = 0; done < count; done += NR_BATCH) {
        const uint32_t part = count - done < NR_BATCH ? count - done : NR_BATCH;
        if (nr_table_is_large(r->table)) {
            dissect_large(r, frames + done, part, &batch);
        } else {
            dissect_small(r, frames + done, part, &batch);
        }
    }
    r->books.received += count;
}
