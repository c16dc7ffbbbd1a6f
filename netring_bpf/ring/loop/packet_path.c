/* The path of a packet: decodes frames, fragments and the packets inside tunnels, and passes them
 * to the flow table. */
#include "dissect/cursor.h"
#include "loop/reader.h"
#include "siphash.h"

static void note_part(nr_reader *r, const struct nr_dissected *packet) {
    if (NR_UNLIKELY(packet->part != 0)) {
        r->books.partly_read[packet->part]++;
    }
}

/* -- fragments -- */

/* Adds a fragment to its flow. Returns as nr_table_add(). */
static uint64_t add_fragment(nr_reader *r, struct nr_dissected *packet,
                             const struct nr_fragment_frame *frame, bool completes) {
    nr_table_prepare(r->table, &packet, 1);
    const uint64_t id = nr_table_add(r->table, packet, frame->ts, frame->bytes, frame->parent_id);
    nr_table_count_fragment(r->table, packet, completes);
    return id;
}

/* Takes these bytes for those of the packet. A stream's payload follows from its numbers. */
static void count_bytes(struct nr_dissected *packet, uint32_t ip_bytes, uint32_t payload) {
    packet->ip_bytes = ip_bytes;
    if (packet->key.proto != NR_PROTO_TCP) {
        packet->payload = payload;
    }
}

/* Accounts for a fragment that has waited. */
static void account_waited(nr_reader *r, struct nr_waited *waited) {
    const struct nr_fragment_frame *frame = &waited->frame;
    struct nr_dissected *packet = &waited->packet;
    nr_statistics *b = &r->books;
    if (frame->is_inner) {
        b->inner++;
        b->inner_bytes += frame->bytes;
    } else {
        b->fragments_waiting--;
        b->keyed++;
        b->keyed_bytes += frame->bytes;
    }
    b->fragments++;
    note_part(r, packet);
    if (r->reassembled) {
        count_bytes(packet, 0, 0);
    }
    add_fragment(r, packet, frame, false);
}

/* Accounts for at most `max` fragments that have waited long enough by `now`; by 0, for those only
 * whose first has come or that have to make room. */
static void count_waited(nr_reader *r, uint64_t now, uint32_t max) {
    struct nr_waited waited;
    while (max-- > 0 && nr_fragments_next(r->fragments, now, &waited)) {
        account_waited(r, &waited);
    }
    r->fragments_wait = nr_fragments_wait(r->fragments);
}

void nr_reader_count_waited(nr_reader *r) {
    count_waited(r, nr_table_now(r->table), NR_WAITED_AT_ONCE);
}

bool nr_reader_end_waiting(nr_reader *r) {
    struct nr_waited waited;
    const uint32_t events = NR_EVENTS_PER_PACKET + NR_APP_EVENTS;
    while (nr_handoff_room(&r->handoff) >= events &&
           nr_handoff_text_room(&r->handoff) >= events * NR_RECORD_SIZE &&
           nr_fragments_next(r->fragments, UINT64_MAX, &waited)) {
        account_waited(r, &waited);
    }
    r->fragments_wait = nr_fragments_wait(r->fragments);
    return !r->fragments_wait;
}

/* Notes a first fragment, whose key the later ones take. */
static void note_first(nr_reader *r, uint64_t now, const struct nr_dissected *packet) {
    const struct nr_key *key = &packet->key;
    const bool is_tunnel =
        key->proto == NR_PROTO_UDP && r->decode.tunnel_depth > 0 &&
        (nr_tunnel_on(&r->decode, key->low_p) != 0 || nr_tunnel_on(&r->decode, key->high_p) != 0);
    const bool is_headless = key->proto == NR_PROTO_TCP && packet->part == NR_CUT_TRANSPORT;
    nr_fragments_make_room(r->fragments, now, packet, false);
    count_waited(r, 0, UINT32_MAX);
    nr_fragments_note(r->fragments, now, packet,
                      (is_tunnel || is_headless) && packet->piece.headers == 0);
    count_waited(r, 0, UINT32_MAX);
}

/* Lets a fragment wait for its first. Returns false if it cannot. */
static bool hold_fragment(nr_reader *r, uint64_t now, const struct nr_dissected *packet,
                          const struct nr_fragment_frame *frame) {
    const uint8_t proto = packet->key.proto;
    const bool keeps =
        proto == NR_PROTO_TCP || (proto == NR_PROTO_UDP && r->decode.tunnel_depth > 0);
    nr_fragments_make_room(r->fragments, now, packet, true);
    count_waited(r, 0, UINT32_MAX);
    const bool waits = nr_fragments_hold(r->fragments, now, packet, frame, keeps);
    r->fragments_wait = r->fragments_wait || waits;
    return waits;
}

/* Finds the flow of a fragment. Returns false if the fragment has to wait for its first. One that
 * cannot wait has no ports. The fragment that completes a datagram gets what is only seen in the
 * whole: the packet inside a tunnel, or a TCP header. */
static bool resolve_fragment(nr_reader *r, int reason, const struct nr_fragment_frame *frame,
                             struct nr_dissected *packet, bool *completes) {
    const uint64_t now = nr_table_now(r->table);
    if (reason == NR_KEYED) {
        note_first(r, now, packet);
    } else if (nr_fragments_resolve(r->fragments, now, packet)) {
        r->books.fragments++;
    } else if (hold_fragment(r, now, packet, frame)) {
        return false;
    } else {
        packet->part = NR_FRAGMENT;
        r->books.fragments++;
    }
    struct nr_whole whole = {0};
    *completes = nr_fragments_complete(r->fragments, now, packet, &whole);
    if (r->reassembled) {
        count_bytes(packet, whole.ip_bytes, whole.payload);
    }
    if (whole.data != NULL) {
        nr_decode_reassembled(packet, whole.data, whole.length, &r->decode);
    }
    return true;
}

static bool is_fragment(int reason, const struct nr_dissected *packet) {
    return reason == NR_FRAGMENT || (reason == NR_KEYED && packet->piece.first);
}

/* -- neighbours -- */

/* Returns whether the same was told within the last minute; by which message an address was is the
 * same. */
static bool was_told(nr_reader *r, const struct nr_neighbour *neighbour, const uint16_t vlan[2]) {
    struct nr_neighbour what = *neighbour;
    uint64_t words[5] = {0};
    _Static_assert(sizeof what <= sizeof words - 8, "the last word is that of the VLANs");
    what.how = what.how < NR_HOW_ROUTER ? 0 : what.how;
    memcpy(words, &what, sizeof what);
    words[4] = (uint64_t)vlan[0] << 16 | vlan[1];
    const uint64_t hash = nr_siphash13(r->hash_key, words, sizeof words / sizeof *words) | 1;
    const uint64_t now = nr_table_now(r->table);
    struct nr_told *told = &r->told[(hash >> 32) % NR_NEIGHBOURS_TOLD];
    if (told->hash == hash && now - told->ts < NR_NEIGHBOURS_NS) {
        return true;
    }
    *told = (struct nr_told){.hash = hash, .ts = now};
    return false;
}

/* Tells the addresses and prefixes of ARP or neighbour discovery. Only the frame's link header is
 * read again: such frames are few. */
static __attribute__((noinline)) void tell_neighbours(nr_reader *r, const struct nr_frame *frame) {
    struct nr_neighbour found[NR_NEIGHBOURS_MAX];
    struct nr_cursor c = {frame->data, frame->data + frame->caplen, frame->caplen};
    struct nr_ends ends = {0};
    struct nr_key key;
    uint16_t ethertype = 0;
    if (!nr_table_wants_neighbours(r->table)) {
        return;
    }
    (void)nr_decode_link(&c, frame, &key, &ends, &ethertype);
    const uint32_t count =
        nr_neighbours_read(c.at, nr_captured(&c), ethertype, ends.src_mac, found);
    nr_table_tick(r->table, frame->ts + (uint64_t)nr_table_lead(r->table));
    r->books.neighbours += count;
    for (uint32_t n = 0; n < count; n++) {
        if (was_told(r, &found[n], key.vlan)) {
            r->books.neighbours_repeated++;
        } else {
            nr_table_tell_neighbour(r->table, &found[n], key.vlan);
        }
    }
}

/* -- packets -- */

static bool has_rest(const struct nr_dissected *packet) {
    return packet->inner.at != NULL && packet->inner.link == NR_LINK_SUBFRAMES;
}

/* Accounts for the packets inside a packet: those in tunnels over UDP, as deep as the options
 * allow, and the further frames of an aggregate. `id` is the flow of `outer`. */
static void dissect_inner(nr_reader *r, uint64_t ts, const struct nr_dissected *outer,
                          uint64_t id) {
    nr_statistics *b = &r->books;
    struct nr_dissected packets[2];
    uint64_t parent_id = 0; /* of `outer` */
    uint32_t subframes = 0;
    for (uint32_t n = 0; outer->inner.at != NULL; n++) {
        struct nr_dissected *packet = &packets[n % 2];
        if (!has_rest(outer)) {
            parent_id = id;
        } else if (subframes++ == NR_SUBFRAMES_MAX) {
            b->inner_not_keyed++;
            return;
        }
        const int reason = nr_decode_inner(outer, &r->decode, packet);
        const uint32_t rest = has_rest(packet) ? packet->inner.len : 0;
        const uint32_t length = outer->inner.len - rest;
        const struct nr_fragment_frame piece = {ts, parent_id, length, true};
        const bool is_part = is_fragment(reason, packet);
        bool completes = false;
        if (is_part) {
            if (!resolve_fragment(r, reason, &piece, packet, &completes)) {
                return;
            }
        } else if (reason != NR_KEYED) {
            b->inner_not_keyed++;
            return;
        }
        note_part(r, packet);
        b->inner++;
        b->inner_bytes += length;
        if (is_part) {
            id = add_fragment(r, packet, &piece, completes);
        } else {
            nr_table_prepare(r->table, &packet, 1);
            id = nr_table_add(r->table, packet, ts, length, parent_id);
        }
        outer = packet;
    }
}

/* Accounts for a frame while fragments wait, and for a fragment itself. */
static __attribute__((noinline)) void account_fragment(nr_reader *r, const struct nr_frame *frame,
                                                       int reason, struct nr_dissected *packet) {
    nr_statistics *b = &r->books;
    const struct nr_fragment_frame piece = {frame->ts, 0, frame->len, false};
    nr_table_tick(r->table, frame->ts + (uint64_t)nr_table_lead(r->table));
    nr_reader_count_waited(r);
    const bool is_part = is_fragment(reason, packet);
    bool completes = false;
    if (is_part) {
        if (!resolve_fragment(r, reason, &piece, packet, &completes)) {
            b->fragments_waiting++;
            return;
        }
    } else if (reason != NR_KEYED) {
        b->not_keyed[reason]++;
        return;
    }
    b->keyed++;
    b->keyed_bytes += frame->len;
    note_part(r, packet);
    const uint64_t id = is_part ? add_fragment(r, packet, &piece, completes)
                                : nr_table_add(r->table, packet, frame->ts, frame->len, 0);
    if (packet->inner.at != NULL) {
        dissect_inner(r, frame->ts, packet, id);
    }
}

/* Accounts for one frame, decoded with `reason`. */
static void account_frame(nr_reader *r, const struct nr_frame *frame, int reason,
                          struct nr_dissected *packet) {
    nr_statistics *b = &r->books;
    if (NR_UNLIKELY(packet->tells_neighbour)) {
        tell_neighbours(r, frame);
    }
    if (NR_UNLIKELY(r->fragments_wait || is_fragment(reason, packet))) {
        account_fragment(r, frame, reason, packet);
        return;
    }
    if (NR_UNLIKELY(reason != NR_KEYED)) {
        b->not_keyed[reason]++;
        nr_table_tick(r->table, frame->ts + (uint64_t)nr_table_lead(r->table));
        return;
    }
    b->keyed++;
    b->keyed_bytes += frame->len;
    note_part(r, packet);
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
            if (NR_UNLIKELY(r->handoff.text_head >= r->handoff.text_pause)) {
                nr_reader_await_texts(r);
            }
            account_frame(r, &frames[done + n], batch.reasons[n], &batch.packets[n]);
        }
    }
    r->books.received += count;
}
