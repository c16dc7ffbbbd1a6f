/* Copies the records of a capture file that the filter accepts: as they are, byte by byte, or in
 * another form. */
#include "source/savefile.h"

#include <errno.h>
#include <string.h>

#define FILLS 64u      /* a call reads so often at most, even if nothing matches */
#define LONGEST_HEAD 28u
#define LONGEST_TAIL 8u
#define BLOCK_ENHANCED 6u
#define NS 1000000000u

static void put(nr_file_copy *c, const void *bytes, size_t size) {
    memcpy(c->out + c->used, bytes, size);
    c->used += (uint32_t)size;
}

static void put_padding(nr_file_copy *c, uint32_t size) {
    memset(c->out + c->used, 0, -size & 3);
    c->used += -size & 3;
}

/* An enhanced packet block (draft-ietf-opsawg-pcapng, 4.3), in the units of the pcap file. */
static void put_block(nr_file_copy *c, const struct nr_savefile *f, const struct nr_frame *frame) {
    const uint64_t units = f->has_ns ? frame->ts : frame->ts / 1000;
    const uint32_t length = 32 + ((frame->caplen + 3) & ~3u);
    const uint32_t head[7] = {
        BLOCK_ENHANCED, length,       0, (uint32_t)(units >> 32), (uint32_t)units,
        frame->caplen,  frame->len,
    };
    put(c, head, sizeof head);
    put(c, frame->data, frame->caplen);
    put_padding(c, frame->caplen);
    put(c, &length, sizeof length);
}

static void put_record(nr_file_copy *c, const struct nr_frame *frame) {
    const uint32_t head[4] = {(uint32_t)(frame->ts / NS), (uint32_t)(frame->ts % NS), frame->caplen,
                              frame->len};
    put(c, head, sizeof head);
    put(c, frame->data, frame->caplen);
}

static void put_frame(nr_file_copy *c, const struct nr_frame *frame, uint32_t linktype) {
    const uint32_t head[4] = {linktype, frame->caplen, frame->len, 0};
    put(c, head, sizeof head);
    put(c, frame->data, frame->caplen);
    put_padding(c, frame->caplen);
}

/* Copies an accepted frame. Returns false if its link type is not that of the copy. */
static bool copy_frame(nr_file_copy *c, const struct nr_savefile *f, const struct nr_frame *frame,
                       uint32_t linktype) {
    if (c->form == NR_COPY_PCAP) {
        c->linktype = c->linktype == NR_COPY_NO_LINKTYPE ? linktype : c->linktype;
        if (c->linktype != linktype) {
            c->other_linktype = linktype;
            return false;
        }
        put_record(c, frame);
    } else if (c->form == NR_COPY_PCAPNG) {
        put_block(c, f, frame);
    } else if (c->form == NR_COPY_FRAMES) {
        put_frame(c, frame, linktype);
    }
    c->frames++;
    c->wire_bytes += frame->len;
    return true;
}

/* Copies the bytes that a step has passed, if their record is to be copied. */
static void copy_bytes(nr_file_copy *c, struct nr_savefile *f, size_t from) {
    if (f->copied) {
        put(c, f->buffer + from, f->start - from);
        f->open += f->start - from;
    }
    if (f->block == 0) {
        f->open = 0; /* the record is complete */
        f->open_frame = false;
    }
}

/* Returns where the bytes begin that the next step reads: a held frame was passed already. */
static size_t first_byte(const struct nr_savefile *f) {
    return f->source.asks ? f->held_from : f->start;
}

/* Takes one step, and copies what it has read. */
static enum nr_read copy_step(nr_file_copy *c, struct nr_savefile *f) {
    struct nr_frame frame;
    const size_t from = first_byte(f);
    const bool begins = f->block == 0 || f->source.asks;
    uint32_t keep = 1; /* what is no frame is always copied; frames are copied whole */
    uint16_t dlt = 0;
    const enum nr_read got = nr_file_step(f, &frame, &dlt, &keep);
    if (got == NR_READ_ASKS) {
        f->held_from = from;
        return got;
    }
    if (got == NR_READ_FRAME && keep != 0 && !copy_frame(c, f, &frame, dlt)) {
        f->source.file_filtered++;
        return NR_READ_END;
    }
    if (c->form == NR_COPY_AS_IS) {
        if (begins) {
            f->copied = keep != 0;
            f->open_frame = keep != 0 && got == NR_READ_FRAME;
        }
        copy_bytes(c, f, from);
    }
    return got;
}

int nr_savefile_copy(struct nr_source *source, nr_file_copy *c) {
    struct nr_savefile *f = nr_file_of(source);
    uint32_t fills = 0;
    c->used = c->frames = 0;
    c->wire_bytes = 0;
    if (f == NULL) {
        return -EINVAL;
    }
    while (!source->finished && (c->frames < c->max || !f->began)) {
        /* A step takes no more than there is in the buffer. */
        if (c->size - c->used < f->end - first_byte(f) + LONGEST_HEAD + LONGEST_TAIL) {
            break;
        }
        enum nr_read got = copy_step(c, f);
        if (got == NR_READ_ASKS) {
            break;
        }
        if (got == NR_READ_STARVED) {
            if (fills++ == FILLS) {
                break;
            }
            got = nr_file_fill(f);
            source->starved = got == NR_READ_STARVED;
            if (source->starved) {
                break;
            }
        }
        source->finished = got == NR_READ_END;
    }
    source->starved = source->starved && !source->finished && !source->asks;
    c->is_pcap = f->began && !f->is_pcapng;
    c->is_pcapng = f->began && f->is_pcapng;
    c->open = f->open;
    c->open_frame = f->open_frame;
    c->ended = source->finished;
    nr_store_relaxed(&source->file_offset, f->offset);
    return 0;
}
