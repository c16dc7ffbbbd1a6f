/* Frames from a capture file: any descriptor that can be read, a pipe too. The file is read into a
 * buffer of fixed size, and frames are lent out of it. */
#include "source/savefile.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS 1000000000u
/* Asked of the kernel at once: what it has copied is still in the cache when it is dissected. Ten
 * million packets took 1.76 to 1.80 s with it, and 2.10 s with 2 MiB (medians). */
#define READ_SIZE (256u << 10)

/* -- the buffer -- */

/* Reads more behind what is there; nothing is lent at this time. */
static enum nr_step fill(struct nr_savefile *f) {
    struct pollfd ready = {.fd = f->source.fd, .events = POLLIN};
    if (f->start > 0) {
        memmove(f->buffer, f->buffer + f->start, f->end - f->start);
        f->end -= f->start;
        f->start = 0;
    }
    if (poll(&ready, 1, 0) == 0) {
        return NR_STEP_STARVED;
    }
    const size_t room = f->capacity - f->end;
    const ssize_t count =
        read(f->source.fd, f->buffer + f->end, room < READ_SIZE ? room : READ_SIZE);
    if (count < 0) {
        if (errno == EINTR || errno == EAGAIN) {
            return NR_STEP_STARVED;
        }
        f->state.error = (uint32_t)errno;
        return nr_file_fail(f, NR_FILE_UNREADABLE);
    }
    f->at_end = count == 0;
    f->end += (size_t)count;
    return NR_STEP_OTHER;
}

const uint8_t *nr_file_need(struct nr_savefile *f, size_t n, enum nr_step *step) {
    if (f->end - f->start >= n) {
        return f->buffer + f->start;
    }
    if (f->at_end) {
        *step =
            f->end == f->start && f->skip == 0 ? NR_STEP_END : nr_file_fail(f, NR_FILE_TRUNCATED);
        return NULL;
    }
    *step = NR_STEP_STARVED;
    return NULL;
}

void nr_file_pass(struct nr_savefile *f, uint64_t n) {
    const size_t here = f->end - f->start;
    const size_t now = n < here ? (size_t)n : here;
    f->start += now;
    f->offset += now;
    f->skip = n - now;
}

enum nr_step nr_file_fail(struct nr_savefile *f, uint32_t problem) {
    f->state.problem = problem;
    f->state.offset = f->offset;
    return NR_STEP_END;
}

/* -- numbers -- */

uint64_t nr_file_ns(const struct nr_file_interface *i, uint64_t units) {
    const uint64_t seconds = i->binary ? units >> i->shift : units / i->units_per_second;
    const uint64_t rest =
        i->binary ? units & (i->units_per_second - 1) : units % i->units_per_second;
    const uint64_t ns = i->binary ? (uint64_t)(((unsigned __int128)rest * NS) >> i->shift)
                                  : (uint64_t)((unsigned __int128)rest * NS / i->units_per_second);
    return (seconds + (uint64_t)i->offset_s) * NS + ns;
}

uint16_t nr_file_link(uint16_t dlt) {
    switch (dlt) {
    case 1:
        return NR_LINK_ETHERNET;
    case 0:
    case 108:
        return NR_LINK_NULL;
    case 12:
    case 14:
    case 101:
    case 228:
    case 229:
        return NR_LINK_RAW;
    case 113:
        return NR_LINK_COOKED;
    case 276:
        return NR_LINK_COOKED2;
    case 9:
    case 50:
        return NR_LINK_PPP;
    case 105:
        return NR_LINK_80211;
    case 127:
        return NR_LINK_RADIOTAP;
    case 239:
        return NR_LINK_NFLOG;
    default:
        return NR_LINK_UNKNOWN;
    }
}

/* -- frames -- */

static enum nr_step begin(struct nr_savefile *f) {
    enum nr_step step = NR_STEP_OTHER;
    const uint8_t *magic = nr_file_need(f, 4, &step);
    if (magic == NULL) {
        return step == NR_STEP_END && f->state.problem == 0
                   ? nr_file_fail(f, NR_FILE_NO_CAPTURE) /* an empty file */
                   : step;
    }
    f->is_pcapng = nr_pcapng_is_section(magic);
    step = f->is_pcapng ? NR_STEP_OTHER : nr_pcap_begin(f);
    f->began = step == NR_STEP_OTHER;
    return step;
}

static enum nr_step step(struct nr_savefile *f, struct nr_frame *frame,
                         const struct nr_file_interface **interface) {
    if (f->skip > 0) {
        nr_file_pass(f, f->skip);
        if (f->skip > 0) {
            return f->at_end ? nr_file_fail(f, NR_FILE_TRUNCATED) : NR_STEP_STARVED;
        }
    }
    if (!f->began) {
        return begin(f);
    }
    return f->is_pcapng ? nr_pcapng_step(f, frame, interface) : nr_pcap_step(f, frame, interface);
}

/* Whether the frame is let through, cut to what the program says. */
static bool matches(const struct nr_savefile *f, struct nr_frame *frame, uint16_t dlt) {
    const nr_filter_frame view = {
        .data = frame->data,
        .caplen = frame->caplen,
        .len = frame->len > frame->caplen ? frame->len : frame->caplen,
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
        const enum nr_step got = step(f, frame, &interface);
        if (got == NR_STEP_FRAME) {
            source->file_frames++;
            frame->link = interface->link;
            f->last_ts = frame->ts;
            if (matches(f, frame, interface->dlt)) {
                count++;
            } else {
                source->file_filtered++;
            }
        } else if (got == NR_STEP_STARVED) {
            /* What is lent lies in the buffer, which must not move. */
            if (count > 0 || filled) {
                break;
            }
            filled = true;
            const enum nr_step more = fill(f);
            source->finished = more == NR_STEP_END;
            source->starved = more == NR_STEP_STARVED;
        } else {
            source->finished = got == NR_STEP_END;
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

static struct nr_savefile *create(void) {
    struct nr_savefile *f = malloc(sizeof *f);
    if (f != NULL) {
        memset(f, 0, offsetof(struct nr_savefile, interfaces)); /* those are filled before use */
        f->source.ops = &savefile_ops;
        f->source.fd = -1;
        f->source.finite = true;
    }
    return f;
}

int nr_savefile_create(int fd, struct nr_source **out) {
    struct nr_savefile *f = create();
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
    struct nr_savefile *f = create();
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
