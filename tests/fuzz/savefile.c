/* Reads the input of libFuzzer as a capture file, pcap or pcapng: touches each frame at both ends,
 * and copies the records in every form. Every other file is filtered, and asks for its filters. */
#include <stdlib.h>

#include "source/source.h"

enum { FRAMES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Matches the frames that have an address at offset 26, or at 22, by the set. */
static const nr_range4 addresses4[] = {{0x0a000000, 0x0affffff}, {0xc0a80000, 0xc0a8ffff}};
static const nr_range6 addresses6[] = {{{0x20010db800000000, 0}, {0x20010db8ffffffff, ~0ull}}};
static const nr_address_set set = {addresses4, addresses6, 2, 1};
static const nr_bpf_insn quick_insns[] = {
    {0x20, 0, 0, 26}, {NR_FILTER_IN4, 1, 0, 0}, {NR_FILTER_IN6, 0, 1, 22},
    {0x06, 0, 0, 64}, {0x06, 0, 0, 0},
};
static const nr_bpf_insn exact_insns[] = {{0x06, 0, 0, 32}};
static const nr_filter_program quick = {quick_insns, &set, 5, 1}, exact = {exact_insns, NULL, 1, 0};

static void answer(struct nr_source *source) {
    uint32_t is_exact;
    const uint32_t dlt = nr_savefile_asked(source, &is_exact);
    const nr_filter_program *program = is_exact ? &exact : dlt % 7 == 3 ? NULL : &quick;
    if (nr_savefile_filter(source, dlt, program, !is_exact) != 0) {
        abort();
    }
}

static struct nr_source *open_file(const uint8_t *data, size_t size) {
    struct nr_source *source = NULL;
    /* The source writes nothing to a file in memory. */
    if (nr_savefile_create_memory((uint8_t *)(uintptr_t)data, size, &source) != 0) {
        return NULL;
    }
    if (size % 2 == 1 && nr_savefile_ask(source) != 0) {
        abort();
    }
    return source;
}

static uint64_t read_frames(const uint8_t *data, size_t size) {
    struct nr_source *source = open_file(data, size);
    struct nr_frame frames[FRAMES];
    uint64_t given = 0;
    if (source == NULL) {
        return 0;
    }
    while (!source->finished) {
        if (source->asks) {
            answer(source);
        }
        const uint32_t count = source->ops->next(source, frames, FRAMES);
        for (uint32_t i = 0; i < count; i++) {
            const volatile uint8_t *bytes = frames[i].data;
            if (frames[i].caplen > 0) {
                (void)bytes[0];
                (void)bytes[frames[i].caplen - 1];
            }
        }
        given += count;
    }
    nr_savefile_state state;
    source->ops->file_state(source, &state);
    if (given + source->file_filtered != source->file_frames || source->file_offset > size ||
        state.offset > size) {
        abort();
    }
    source->ops->destroy(source);
    return given;
}

/* Copies all records. A copy as it is has no byte that the file has not; a copy of a whole file has
 * all of them. */
static void copy_records(const uint8_t *data, size_t size, uint32_t form, uint64_t frames) {
    struct nr_source *source = open_file(data, size);
    nr_file_copy copy = {.size = (uint32_t)size + 64,
                         .form = form,
                         .max = 3,
                         .linktype = NR_COPY_NO_LINKTYPE,
                         .other_linktype = NR_COPY_NO_LINKTYPE};
    nr_savefile_state state;
    uint64_t given = 0, copied = 0;
    if (source == NULL) {
        return;
    }
    copy.out = malloc(copy.size);
    while (!source->finished) {
        if (source->asks) {
            answer(source);
        }
        if (nr_savefile_copy(source, &copy) != 0 || copy.used > copy.size ||
            (form == NR_COPY_AS_IS && source->file_filtered == 0 &&
             memcmp(copy.out, data + copied, copy.used) != 0)) {
            abort();
        }
        given += copy.frames;
        copied += copy.used;
    }
    source->ops->file_state(source, &state);
    if (copy.other_linktype == NR_COPY_NO_LINKTYPE && given != frames) {
        abort();
    }
    if (form == NR_COPY_AS_IS &&
        (copied > size || copy.open > copied ||
         (state.problem == NR_FILE_FINE && source->file_filtered == 0 && copied != size))) {
        abort();
    }
    source->ops->destroy(source);
    free(copy.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint64_t frames = read_frames(data, size);
    for (uint32_t form = NR_COPY_AS_IS; form <= NR_COPY_FRAMES; form++) {
        copy_records(data, size, form, frames);
    }
    return 0;
}
