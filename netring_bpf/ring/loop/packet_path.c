/* The path of a packet: decodes frames, fragments and the packets inside tunnels, and passes them
 * to the flow table. */
#include "dissect/cursor.h"
#include "loop/reader.h"

/* Notes a first fragment, or gives a later one the key of the first; returns the new reason. The
 * fragment that completes a tunnel's datagram also gets the packet inside. */
static int resolve_fragment(nr_reader *r, int reason, uint64_t ts, struct nr_dissected *packet) {
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

/* Accounts for the packets inside a tunnel over UDP, as deep as the options allow. */
static void dissect_inner(nr_reader *r, uint64_t ts, const struct nr_dissected *outer,
                          uint64_t parent_id) {
    nr_statistics *b = &r->books;
    struct nr_dissected packets[2];
    for (int turn = 0; outer->inner.at != NULL; turn ^= 1) {
        struct nr_dissected *packet = &packets[turn];
        const uint32_t length = outer->inner.len;
        if (resolve_fragment(r, nr_decode_inner(outer, &r->decode, packet), ts, packet) !=
            NR_KEYED) {
            b->inner_not_keyed++;
            return;
        }
        nr_table_prepare(r->table, &packet, 1);
        b->inner++;
        b->inner_bytes += length;
        parent_id = nr_table_packet(r->table, packet, ts, length, parent_id);
        outer = packet;
    }
}

/* Accounts for one frame, decoded with `reason`. */
static void account_frame(nr_reader *r, const struct nr_frame *frame, int reason,
                          struct nr_dissected *packet) {
    nr_statistics *b = &r->books;
    if (NR_UNLIKELY(packet->piece.first || reason == NR_FRAGMENT)) {
        reason = resolve_fragment(r, reason, frame->ts, packet);
        if (reason == NR_KEYED) {
            nr_table_prepare(r->table, &packet, 1);
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

struct batch {
    uint32_t count; /* with a key */
    struct nr_dissected *keyed[NR_BATCH];
    int reasons[NR_BATCH];
    struct nr_dissected packets[NR_BATCH];
};

static void decode_batch(nr_reader *r, const struct nr_frame *frames, uint32_t count,
                         struct batch *b) {
    b->count = 0;
    for (uint32_t n = 0; n < count; n++) {
        b->reasons[n] = nr_decode(&frames[n], &r->decode, &b->packets[n]);
        r->books.received_bytes += frames[n].len;
        if (NR_LIKELY(b->reasons[n] == NR_KEYED)) {
            b->keyed[b->count++] = &b->packets[n];
        }
    }
}

void nr_reader_dissect(nr_reader *r, const struct nr_frame *frames, uint32_t count) {
    struct batch batch;
    for (uint32_t done = 0; done < count; done += NR_BATCH) {
        const uint32_t part = count - done < NR_BATCH ? count - done : NR_BATCH;
        decode_batch(r, frames + done, part, &batch);
        nr_table_prepare(r->table, batch.keyed, batch.count);
        for (uint32_t n = 0; n < part; n++) {
            account_frame(r, &frames[done + n], batch.reasons[n], &batch.packets[n]);
        }
    }
    r->books.received += count;
}
