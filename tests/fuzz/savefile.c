/* Reads the input of libFuzzer as a capture file, pcap or pcapng, and touches each frame at both
 * ends. Every other file is filtered, and asks for its filters. */
#include <stdlib.h>

#include "source/source.h"

enum { FRAMES = 16 };

/* Matches the frames that have an address at offset 26, or at 22, by the set. */
static const nr_range4 addresses4[] = {{0x0a000000, 0x0affffff}, {0xc0a80000, 0xc0a8ffff}};
static const nr_range6 addresses6[] = {{{0x20010db800000000, 0}, {0x20010db8ffffffff, ~0ull}}};
static const nr_address_set set = {addresses4, addresses6, 2, 1};
static const nr_bpf_insn quick_insns[] = {
    {0x20, 0, 0, 26}, {NR_FILTER_IN4, 1, 0, 0}, {NR_FILTER_IN6, 0, 1, 22}, {0x06, 0, 0, 64},
    {0x06, 0, 0, 0},
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct nr_source *source = NULL;
    struct nr_frame frames[FRAMES];
    uint64_t given = 0;
    /* The source writes nothing to a file in memory. */
    if (nr_savefile_create_memory((uint8_t *)(uintptr_t)data, size, &source) != 0) {
        return 0;
    }
    if (size % 2 == 1 && nr_savefile_ask(source) != 0) {
        abort();
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
    if (given + source->file_filtered != source->file_frames || source->file_offset > size || state.offset > size) {
        abort();
    }
    source->ops->destroy(source);
    return 0;
}
