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

#define AHEAD 16u /* packets that are prepared together */

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

void nr_reader_dissect(nr_reader *r, const struct nr_frame *frames, uint32_t count) {
    struct nr_dissected packets[AHEAD];
    int reasons[AHEAD];
    for (uint32_t done = 0; done < count;) {
        const uint32_t ahead = count - done < AHEAD ? count - done : AHEAD;
        for (uint32_t i = 0; i < ahead; i++) {
            reasons[i] = nr_decode(&frames[done + i], &r->decode, &packets[i]);
            r->books.received_bytes += frames[done + i].len;
            if (NR_LIKELY(reasons[i] == NR_KEYED)) {
                nr_table_prepare(r->table, &packets[i]);
            }
        }
        for (int step = 0; nr_table_is_large(r->table) && step < NR_FETCH_STEPS; step++) {
            for (uint32_t i = 0; i < ahead; i++) {
                if (reasons[i] == NR_KEYED) {
                    nr_table_fetch(r->table, &packets[i], step);
                }
            }
        }
        for (uint32_t i = 0; i < ahead; i++) {
            account(r, &frames[done + i], reasons[i], &packets[i]);
        }
        done += ahead;
    }
    r->books.received += count;
}
