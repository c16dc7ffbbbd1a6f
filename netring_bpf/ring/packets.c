/* Raw packets for those who ask: copies, out of the same sources, without the flow table. */
#include <string.h>

#include "reader.h"

#define PACKET_ROOM 65544u /* the longest frame kept, its restored tag, and alignment */

static void copy_frame(const struct nr_frame *frame, uint8_t *to, nr_packet *packet) {
    const uint32_t max = PACKET_ROOM - 8;
    const uint32_t caplen = frame->caplen < max ? frame->caplen : max;
    packet->ts = frame->ts;
    packet->len = frame->len;
    packet->caplen = caplen;
    packet->reserved = 0;
    if (frame->vlan_tpid == 0 || caplen < 12) {
        memcpy(to, frame->data, caplen);
        return;
    }
    memcpy(to, frame->data, 12);
    to[12] = (uint8_t)(frame->vlan_tpid >> 8);
    to[13] = (uint8_t)frame->vlan_tpid;
    to[14] = (uint8_t)(frame->vlan_tci >> 8);
    to[15] = (uint8_t)frame->vlan_tci;
    memcpy(to + 16, frame->data + 12, caplen - 12);
    packet->caplen += 4;
}

static uint32_t copy_packets(nr_reader *r, uint8_t *buffer, uint32_t size, nr_packet *packets,
                             uint32_t max) {
    struct nr_frame frames[NR_BATCH];
    uint32_t used = 0;
    uint32_t count = 0;
    for (int i = 0; i < r->source_count; i++) {
        struct nr_source *source = r->sources[i];
        uint32_t room = (size - used) / PACKET_ROOM;
        room = room < max - count ? room : max - count;
        room = room < NR_BATCH ? room : NR_BATCH;
        const uint32_t lent = room > 0 ? source->ops->next(source, frames, room) : 0;
        for (uint32_t j = 0; j < lent; j++, count++) {
            packets[count].offset = used;
            copy_frame(&frames[j], buffer + used, &packets[count]);
            used += (packets[count].caplen + 7) & ~7u;
            r->books.received_bytes += frames[j].len;
        }
        if (lent > 0) {
            source->ops->release(source);
        }
    }
    r->books.received += count;
    r->books.handed_out += count;
    return count;
}

int nr_reader_packets(nr_reader *r, uint8_t *buffer, uint32_t size, nr_packet *packets,
                      uint32_t max, int timeout_ms) {
    const uint64_t deadline = nr_clock_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        const uint32_t count = copy_packets(r, buffer, size, packets, max);
        const int rc = nr_reader_tick(r);
        const uint64_t now = nr_clock_ns();
        if (count > 0 || rc < 0) {
            nr_reader_account(r);
            nr_reader_publish_books(r);
            return count > 0 ? (int)count : rc;
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
