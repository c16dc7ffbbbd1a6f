/* Reads the input of libFuzzer as a capture file, pcap or pcapng, and touches each frame at both
 * ends. */
#include <stdlib.h>

#include "source/source.h"

enum { FRAMES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct nr_source *source = NULL;
    struct nr_frame frames[FRAMES];
    uint64_t given = 0;
    /* The source writes nothing to a file in memory. */
    if (nr_savefile_create_memory((uint8_t *)(uintptr_t)data, size, &source) != 0) {
        return 0;
    }
    while (!source->finished) {
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
    if (given != source->file_frames || source->file_offset > size || state.offset > size) {
        abort();
    }
    source->ops->destroy(source);
    return 0;
}
