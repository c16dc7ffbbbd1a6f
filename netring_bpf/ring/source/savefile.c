/* A source that reads a capture file from any descriptor, a pipe too. It reads into a buffer of
 * fixed size and lends frames out of it. */
#include "source/savefile.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* -- frames -- */

static enum nr_read recognise_format(struct nr_savefile *f) {
    enum nr_read result = NR_READ_OTHER;
    const uint8_t *magic = nr_file_need(f, 4, &result);
    if (magic == NULL) {
        return result == NR_READ_END && f->state.problem == 0
                   ? nr_file_fail(f, NR_FILE_EMPTY)
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
    if (f->block == 0) {
        f->record = f->offset;
    }
    return f->is_pcapng ? nr_pcapng_read_block(f, frame, interface)
                        : nr_pcap_read_record(f, frame, interface);
}

/* -- the filter, one for each link type that the file turns out to have -- */

static struct nr_file_filter *find_filter(struct nr_savefile *f, uint16_t dlt) {
    if (f->filter_used < f->filter_count && f->filters[f->filter_used].dlt == dlt) {
        return &f->filters[f->filter_used];
    }
    for (uint32_t i = 0; i < f->filter_count; i++) {
        if (f->filters[i].dlt == dlt) {
            f->filter_used = i;
            return &f->filters[i];
        }
    }
    return NULL;
}

/* Returns true if the frame is of a link type that is not read, and somebody wants to know. */
static bool is_unread(const struct nr_savefile *f, const struct nr_frame *frame) {
    return f->asks_links && frame->link == NR_LINK_UNKNOWN;
}

/* Asks the frame's filter how many bytes it keeps. Returns false if that filter is missing. */
static bool ask_filter(struct nr_savefile *f, const struct nr_frame *frame, uint16_t dlt,
                       uint32_t *keep) {
    const struct nr_file_filter *filter = find_filter(f, dlt);
    *keep = 0;
    f->asks_exact = false;
    if (filter == NULL) {
        /* Nobody has so many link types but a file made to exhaust the table. */
        *keep = is_unread(f, frame) ? UINT32_MAX : 0;
        return f->filter_count == NR_MAX_FILE_FILTERS;
    }
    const nr_filter_frame view = {
        .data = frame->data,
        .caplen = frame->caplen,
        .len = frame->len,
    };
    if (filter->program != NULL && !nr_filter_try(filter->program, &view, keep) &&
        filter->is_quick) {
        f->asks_exact = filter->exact == NULL;
        if (f->asks_exact) {
            return false;
        }
        *keep = nr_filter_run(filter->exact, &view);
    }
    return true;
}

/* Counts the frame as its filter decides. A frame without its filter is held, and the source asks;
 * the frame stays in the buffer, as nothing more is read until the answer. */
static enum nr_read filter_frame(struct nr_savefile *f, const struct nr_frame *frame, uint16_t dlt,
                                 uint32_t *keep) {
    *keep = UINT32_MAX;
    const bool is_asked = f->is_filtered || NR_UNLIKELY(is_unread(f, frame));
    f->source.asks = is_asked && !ask_filter(f, frame, dlt, keep);
    if (f->source.asks) {
        f->held = *frame;
        f->held_dlt = dlt;
        return NR_READ_ASKS;
    }
    f->source.file_frames++;
    f->source.file_filtered += *keep == 0;
    return NR_READ_FRAME;
}

enum nr_read nr_file_step(struct nr_savefile *f, struct nr_frame *frame, uint16_t *dlt,
                          uint32_t *keep) {
    const struct nr_file_interface *interface = NULL;
    if (NR_UNLIKELY(f->source.asks)) {
        *frame = f->held;
        *dlt = f->held_dlt;
        return filter_frame(f, frame, *dlt, keep);
    }
    const enum nr_read got = read_next(f, frame, &interface);
    if (got != NR_READ_FRAME) {
        return got;
    }
    f->source.file_overlong += nr_frame_lengthen(frame);
    f->last_ts = frame->ts;
    frame->link = interface->link;
    *dlt = interface->dlt;
    return filter_frame(f, frame, *dlt, keep);
}

static uint32_t savefile_next(struct nr_source *source, struct nr_frame *frames, uint32_t max) {
    struct nr_savefile *f = (struct nr_savefile *)source;
    uint32_t count = 0, keep = 0;
    uint16_t dlt = 0;
    bool filled = false;
    while (count < max && !source->finished) {
        struct nr_frame *frame = &frames[count];
        const enum nr_read got = nr_file_step(f, frame, &dlt, &keep);
        if (got == NR_READ_FRAME) {
            frame->caplen = keep < frame->caplen ? keep : frame->caplen;
            count += keep != 0;
        } else if (got == NR_READ_ASKS) {
            break;
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
    source->starved = source->starved && count == 0 && !source->finished && !source->asks;
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
    free(f->interfaces);
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

struct nr_savefile *nr_file_of(struct nr_source *source) {
    return source->ops == &savefile_ops ? (struct nr_savefile *)source : NULL;
}

static struct nr_savefile *create_savefile(void) {
    struct nr_savefile *f = calloc(1, sizeof *f);
    if (f != NULL) {
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
    f->whole = NR_FILE_LONGEST + 4096;
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
    f->whole = 128; /* so that small files have blocks of both kinds */
    *out = &f->source;
    return 0;
}

int nr_savefile_describe(struct nr_source *source, uint32_t number,
                         nr_interface_description *description) {
    const struct nr_savefile *f = nr_file_of(source);
    if (f == NULL || number >= f->interface_count) {
        return -ENOENT;
    }
    *description = (nr_interface_description){
        .linktype = f->interfaces[number].dlt,
        .snaplen = f->interfaces[number].snaplen,
        .has_ns = f->has_ns,
    };
    return 0;
}

int nr_savefile_ask(struct nr_source *source) {
    if (source->ops != &savefile_ops) {
        return -EINVAL;
    }
    ((struct nr_savefile *)source)->is_filtered = true;
    return 0;
}

int nr_savefile_ask_links(struct nr_source *source) {
    if (source->ops != &savefile_ops) {
        return -EINVAL;
    }
    ((struct nr_savefile *)source)->asks_links = true;
    return 0;
}

bool nr_savefile_asks_unread(const struct nr_source *source) {
    const struct nr_savefile *f = (const struct nr_savefile *)source;
    return source->asks && is_unread(f, &f->held);
}

uint32_t nr_savefile_asked(const struct nr_source *source, uint32_t *exact) {
    const struct nr_savefile *f = (const struct nr_savefile *)source;
    *exact = f->asks_exact;
    return f->held_dlt;
}

int nr_first_time(int fd, uint64_t *ts) {
    struct nr_source *source = NULL;
    struct nr_frame frame;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    uint32_t count = 0;
    const int rc = nr_savefile_create(fd, &source);
    if (rc != 0) {
        return rc;
    }
    while (count == 0 && !source->finished) {
        count = source->ops->next(source, &frame, 1);
        if (source->starved) {
            (void)poll(&ready, 1, -1);
        }
    }
    *ts = count > 0 ? frame.ts : 0;
    source->ops->destroy(source);
    return (int)count;
}

int nr_savefile_filter(struct nr_source *source, uint32_t dlt, const nr_filter_program *program,
                       bool quick) {
    struct nr_savefile *f = (struct nr_savefile *)source;
    if (source->ops != &savefile_ops) {
        return -EINVAL;
    }
    const int rc = program != NULL ? nr_filter_check(program) : 0;
    if (rc != 0) {
        return rc;
    }
    struct nr_file_filter *filter = find_filter(f, (uint16_t)dlt);
    if (filter != NULL) {
        filter->exact = program;
        return 0;
    }
    if (f->filter_count == NR_MAX_FILE_FILTERS) {
        return -E2BIG;
    }
    f->filters[f->filter_count++] =
        (struct nr_file_filter){.program = program, .dlt = (uint16_t)dlt, .is_quick = quick};
    return 0;
}
