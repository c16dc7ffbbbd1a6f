/* Raw packets: copies frames out of the sources, without the flow table, one by one, as blocks of a
 * pcapng file, or as the records of the capture file that they come from. */
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "loop/reader.h"

#define PACKET_ROOM 65544u /* the longest frame kept, its restored tag, and alignment */
#define BLOCK_ROOM (PACKET_ROOM + 32u)
#define BLOCK_HEAD 28u
#define BLOCK_ENHANCED 6u

/* The destination of the copies, and their number. */
struct copies {
    uint8_t *buffer;
    uint32_t size;
    uint32_t used;
    uint32_t count;
    uint32_t max;
    nr_packet *packets; /* NULL: makes blocks */
    nr_block_span *span;
};

/* Copies the frame, with its tag put back, and returns its length. */
static uint32_t copy_bytes(const struct nr_frame *frame, uint8_t *to) {
    const uint32_t max = PACKET_ROOM - 8;
    const uint32_t caplen = frame->caplen < max ? frame->caplen : max;
    if (frame->vlan_tpid == 0 || caplen < 12) {
        memcpy(to, frame->data, caplen);
        return caplen;
    }
    memcpy(to, frame->data, 12);
    to[12] = (uint8_t)(frame->vlan_tpid >> 8);
    to[13] = (uint8_t)frame->vlan_tpid;
    to[14] = (uint8_t)(frame->vlan_tci >> 8);
    to[15] = (uint8_t)frame->vlan_tci;
    memcpy(to + 16, frame->data + 12, caplen - 12);
    return caplen + 4;
}

static void copy_packet(struct copies *c, const struct nr_frame *frame) {
    nr_packet *packet = &c->packets[c->count];
    packet->ts = frame->ts;
    packet->len = frame->len;
    packet->offset = c->used;
    packet->reserved = 0;
    packet->caplen = copy_bytes(frame, c->buffer + c->used);
    c->used += (packet->caplen + 7) & ~7u;
}

/* Copies the frame as an enhanced packet block (draft-ietf-opsawg-pcapng, 4.3) in the machine's
 * byte order. */
static void copy_block(struct copies *c, const struct nr_frame *frame) {
    uint8_t *block = c->buffer + c->used;
    const uint32_t caplen = copy_bytes(frame, block + BLOCK_HEAD);
    const uint32_t padded = (caplen + 3) & ~3u;
    const uint32_t length = BLOCK_HEAD + padded + 4;
    const uint32_t len = frame->len > caplen ? frame->len : caplen;
    const uint32_t head[7] = {BLOCK_ENHANCED,      length, 0,  (uint32_t)(frame->ts >> 32),
                              (uint32_t)frame->ts, caplen, len};
    memcpy(block, head, sizeof head);
    memset(block + BLOCK_HEAD + caplen, 0, padded - caplen);
    memcpy(block + BLOCK_HEAD + padded, &length, sizeof length);
    c->span->first_ts = c->count == 0 ? frame->ts : c->span->first_ts;
    c->span->last_ts = frame->ts;
    c->used += length;
}

static void copy_frames(nr_reader *r, struct copies *c) {
    struct nr_frame frames[NR_BATCH];
    const uint32_t before = c->count;
    const int sources = nr_reader_sources(r);
    for (int i = 0; i < sources; i++) {
        struct nr_source *source = r->sources[i];
        uint32_t room = (c->size - c->used) / BLOCK_ROOM;
        room = room < c->max - c->count ? room : c->max - c->count;
        room = room < NR_BATCH ? room : NR_BATCH;
        const uint32_t lent = room > 0 ? source->ops->next(source, frames, room) : 0;
        for (uint32_t j = 0; j < lent; j++, c->count++) {
            if (c->packets != NULL) {
                copy_packet(c, &frames[j]);
            } else {
                copy_block(c, &frames[j]);
            }
            r->books.received_bytes += frames[j].len;
        }
        if (lent > 0) {
            source->ops->release(source);
        }
    }
    r->books.received += c->count - before;
    r->books.handed_out += c->count - before;
}

/* Waits for the first frame, and copies those that come with it. */
static int collect_frames(nr_reader *r, struct copies *c, int timeout_ms) {
    const uint64_t deadline = nr_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    uint32_t dlt, exact;
    for (;;) {
        copy_frames(r, c);
        const uint64_t now = nr_monotonic_ns();
        const int rc = nr_reader_tick(r, now);
        if (c->count > 0 || rc < 0) {
            nr_reader_account(r);
            nr_reader_publish_books(r);
            return c->count > 0 ? (int)c->count : rc;
        }
        if (nr_reader_asking(r, &dlt, &exact) >= 0) {
            return -EAGAIN;
        }
        if (nr_reader_is_read(r) || now >= deadline) {
            return 0;
        }
        const uint64_t left = (deadline - now) / 1000000 + 1;
        const int waited = nr_reader_wait(r, left < 100 ? (int)left : 100);
        if (waited != 0) {
            return waited < 0 ? waited : 0;
        }
    }
}

/* -- records of a capture file -- */

int nr_reader_copy(nr_reader *r, int source, nr_file_copy *copy, int timeout_ms) {
    const uint64_t deadline = nr_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        int rc = nr_savefile_copy(r->sources[source], copy);
        r->books.received += copy->frames;
        r->books.handed_out += copy->frames;
        r->books.received_bytes += copy->wire_bytes;
        const uint64_t now = nr_monotonic_ns();
        rc = rc == 0 ? nr_reader_tick(r, now) : rc;
        const bool begins = copy->max == 0 && (copy->is_pcap || copy->is_pcapng);
        if (rc < 0 || copy->used > 0 || copy->ended || begins || now >= deadline) {
            nr_reader_account(r);
            nr_reader_publish_books(r);
            return rc;
        }
        if (r->sources[source]->asks) {
            return -EAGAIN;
        }
        const uint64_t left = (deadline - now) / 1000000 + 1;
        rc = nr_reader_wait(r, !r->sources[source]->starved ? 0 : left < 100 ? (int)left : 100);
        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
    }
}

int nr_reader_packets(nr_reader *reader, uint8_t *buffer, uint32_t size, nr_packet *packets,
                      uint32_t max, int timeout_ms) {
    struct copies copies = {.buffer = buffer, .size = size, .max = max, .packets = packets};
    return collect_frames(reader, &copies, timeout_ms);
}

int nr_reader_blocks(nr_reader *reader, uint8_t *buffer, uint32_t size, uint32_t max,
                     nr_block_span *span, int timeout_ms) {
    struct copies copies = {.buffer = buffer, .size = size, .max = max, .span = span};
    memset(span, 0, sizeof *span);
    const int rc = collect_frames(reader, &copies, timeout_ms);
    span->size = copies.used;
    return rc;
}
