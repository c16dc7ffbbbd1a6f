/* A source that reads a capture file from any descriptor, a pipe too. It reads into a buffer of
 * fixed size and lends frames out of it. */
#include "source/savefile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- frames -- */

static enum nr_read recognise_format(struct nr_savefile *f) {
    enum nr_read result = NR_READ_OTHER;
    const uint8_t *magic = nr_file_need(f, 4, &result);
    if (magic == NULL) {
        return result == NR_READ_END && f->state.problem == 0
                   ? nr_file_fail(f, NR_FILE_NO_CAPTURE) /* an empty file */
                   : result;
    }
    f->is_pcapng = nr_pcapng_is_section(magic);
    result = f->is_pcapng ? NR_READ_OTHER : nr_pcap_read_header(f);
    f->began = result == NR_READ_OTHER;
    return result;
}

static enum nr_read read_next(struct nr_savefile *f, struct nr_frame *frame,
                              const struct nr_file_interface **interface) {
    if (f->skip > 0) {
        nr_file_pass(f, f->skip);
        if (f->skip > 0) {
            return f->at_end ? nr_file_fail(f, NR_FILE_TRUNCATED) : NR_READ_STARVED;
        }
    }
    if (!f->began) {
        return recognise_format(f);
    }
    return f->is_pcapng ? nr_pcapng_read_block(f, frame, interface)
                        : nr_pcap_read_record(f, frame, interface);
}

/* Returns true if the filter accepts the frame, and cuts it to the length that the program
 * returns. */
static bool passes_filter(const struct nr_savefile *f, struct nr_frame *frame, uint16_t dlt) {
    const nr_filter_frame view = {
        .data = frame->data,
        .caplen = frame->caplen,
        .len = frame->len,
    };
    for (uint32_t i = 0; i < f->filter_count; i++) {
        if (f->filters[i].dlt == dlt) {
            const uint32_t keep = nr_filter_run(f->filters[i].insns, &view);
            frame->caplen = keep < frame->caplen ? keep : frame->caplen;
            return keep != 0;
        }
    }
    return f->filter_count == 0;
}

static uint32_t savefile_next(struct nr_source *source, struct nr_frame *frames, uint32_t max) {
    struct nr_savefile *f = (struct nr_savefile *)source;
    const struct nr_file_interface *interface = NULL;
    uint32_t count = 0;
    bool filled = false;
    while (count < max && !source->finished) {
        struct nr_frame *frame = &frames[count];
        const enum nr_read got = read_next(f, frame, &interface);
        if (got == NR_READ_FRAME) {
            source->file_frames++;
            source->file_overlong += nr_frame_lengthen(frame);
            frame->link = interface->link;
            f->last_ts = frame->ts;
            if (passes_filter(f, frame, interface->dlt)) {
                count++;
            } else {
                source->file_filtered++;
            }
        } else if (got == NR_READ_STARVED) {
            /* Lent frames lie in the buffer, which must not move. */
            if (count > 0 || filled) {
                break;
            }
            filled = true;
            const enum nr_read more = nr_file_fill(f);
            source->finished = more == NR_READ_END;
            source->starved = more == NR_READ_STARVED;
        } else {
            source->finished = got == NR_READ_END;
        }
    }
    source->starved = source->starved && count == 0 && !source->finished;
    nr_store_relaxed(&source->file_offset, f->offset);
    source->lent += count;
    return count;
}

/* -- the source -- */

static void savefile_nothing(struct nr_source *source) {
    (void)source;
}
static int savefile_check(struct nr_source *source) {
    return (void)source, 0;
}
static uint64_t savefile_in_ring(const struct nr_source *source) {
    return (void)source, 0;
}
static void savefile_destroy(struct nr_source *source) {
    struct nr_savefile *f = (struct nr_savefile *)source;
    for (uint32_t i = 0; i < f->filter_count; i++) {
        free(f->filters[i].insns);
    }
    if (f->owns_buffer) {
        free(f->buffer);
    }
    free(f);
}
static void savefile_state(const struct nr_source *source, nr_savefile_state *state) {
    *state = ((const struct nr_savefile *)source)->state;
}

static const struct nr_source_ops savefile_ops = {
    .next = savefile_next,
    .release = savefile_nothing,
    .check = savefile_check,
    .account = savefile_nothing,
    .in_ring = savefile_in_ring,
    .file_state = savefile_state,
    .destroy = savefile_destroy,
};

static struct nr_savefile *create_savefile(void) {
    struct nr_savefile *f = malloc(sizeof *f);
    if (f != NULL) {
        memset(f, 0, offsetof(struct nr_savefile, interfaces)); /* the rest is filled before use */
        f->source.ops = &savefile_ops;
        f->source.fd = -1;
        f->source.finite = true;
    }
    return f;
}

int nr_savefile_create(int fd, struct nr_source **out) {
    struct nr_savefile *f = create_savefile();
    if (f == NULL) {
        return -ENOMEM;
    }
    f->buffer = malloc(NR_FILE_BUFFER);
    if (f->buffer == NULL) {
        free(f);
        return -ENOMEM;
    }
    f->owns_buffer = true;
    f->capacity = NR_FILE_BUFFER;
    f->source.fd = fd;
    *out = &f->source;
    return 0;
}

int nr_savefile_create_memory(uint8_t *data, size_t size, struct nr_source **out) {
    struct nr_savefile *f = create_savefile();
    if (f == NULL) {
        return -ENOMEM;
    }
    f->buffer = data;
    f->capacity = f->end = size;
    f->at_end = true;
    *out = &f->source;
    return 0;
}

int nr_savefile_filter(struct nr_source *source, uint32_t dlt, const nr_bpf_insn *insns,
                       uint32_t count) {
    struct nr_savefile *f = (struct nr_savefile *)source;
    if (source->ops != &savefile_ops || f->filter_count == NR_MAX_FILE_FILTERS) {
        return -EINVAL;
    }
    const int rc = nr_filter_check(insns, count);
    if (rc != 0) {
        return rc;
    }
    nr_bpf_insn *copy = malloc(count * sizeof *copy);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, insns, count * sizeof *copy);
    f->filters[f->filter_count++] = (struct nr_file_filter){copy, (uint16_t)dlt};
    return 0;
}
