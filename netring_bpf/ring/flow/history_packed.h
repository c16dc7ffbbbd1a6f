/* The packed form of a short history. One word holds the number of letters in four bits, then up to
 * twelve letters of five bits each. */
#ifndef NR_FLOW_HISTORY_PACKED_H
#define NR_FLOW_HISTORY_PACKED_H

#include "flow/table_internal.h"

#define NR_PACKED_MAX 12u

/* In pairs: the last bit of a letter's place tells its side. The last two are of no side. */
static const char NR_LETTERS[] = "SsHhAaDdFfRrCcGgTtWwIiQq^X";

static inline uint32_t nr_packed_length(uint64_t letters) {
    return letters & 15;
}

/* Returns the letter's bits at place `at`, to be added to the word. */
static inline uint64_t nr_pack_letter(char letter, uint32_t at) {
    uint64_t code = 0;
    while (NR_LETTERS[code] != letter) {
        code++;
    }
    return code << (4 + 5 * at);
}

static inline char nr_unpack_letter(uint64_t letters, uint32_t at) {
    return NR_LETTERS[letters >> (4 + 5 * at) & 31];
}

/* Moves packed letters into an extra. */
static inline void nr_unpack_history(uint64_t letters, struct extra *extra) {
    extra->length = nr_packed_length(letters);
    for (uint32_t n = 0; n < extra->length; n++) {
        extra->history[n] = nr_unpack_letter(letters, n);
    }
}

#endif
