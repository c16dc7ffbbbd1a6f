/* Writes the history of a flow in letters, as Zeek defines them for conn.log. Upper case is the
 * originator's. The history keeps room for every letter that has not come yet, so that repeated
 * letters cannot push it out.
 *
 * A short history is packed into one word. A longer one moves into the flow's extra. */
#include "flow/history_packed.h"

#include <string.h>

#define FIRSTS_MAX 15u /* seven kinds on two sides, and ^ */

/* -- letters -- */

static uint32_t length_of(const struct nr_table *t, uint32_t i) {
    const struct extra *x = nr_extra(t, i);
    return x != NULL ? x->length : nr_packed_length(t->pasts[i].letters);
}

static void append_letter(struct nr_table *t, uint32_t i, char letter) {
    uint64_t *letters = &t->pasts[i].letters;
    if (!t->flows[i].has_extra && nr_packed_length(*letters) < NR_PACKED_MAX) {
        *letters += nr_pack_letter(letter, nr_packed_length(*letters)) + 1;
        return;
    }
    struct extra *x = nr_extra_take(t, i);
    if (x->length < NR_HISTORY_SIZE) {
        x->history[x->length++] = letter;
    }
}

static void write_letter(struct nr_table *t, uint32_t i, int side, char letter) {
    append_letter(t, i, side == ORIG || letter == '^' ? letter : (char)(letter + ('a' - 'A')));
}

bool nr_history_note(struct nr_table *t, uint32_t i, int side, uint32_t kind, char letter) {
    struct flow *f = &t->flows[i];
    if (nr_history_has(f, side, kind)) {
        return false;
    }
    f->seen |= side == ORIG ? kind : kind << SEEN_BITS;
    write_letter(t, i, side, letter);
    return true;
}

void nr_history_open(struct nr_table *t, uint32_t i) {
    t->flows[i].seen = SEEN_SYN;
    t->pasts[i].letters = nr_pack_letter('S', 0) + 1;
}

void nr_history_add(struct nr_table *t, uint32_t i, int side, char letter) {
    const struct flow *f = &t->flows[i];
    const uint32_t firsts = (uint32_t)__builtin_popcount(f->seen) + f->flips;
    const uint32_t kept = firsts < FIRSTS_MAX ? FIRSTS_MAX - firsts : 0;
    if (length_of(t, i) + kept < NR_HISTORY_SIZE) {
        write_letter(t, i, side, letter);
    }
}

void nr_history_count(struct nr_table *t, uint32_t i, int side, char letter, uint32_t count) {
    while (count >= 10 && count % 10 == 0) {
        count /= 10;
    }
    if (count == 1) {
        nr_history_add(t, i, side, letter);
    }
}

void nr_history_mark(struct nr_table *t, uint32_t i) {
    nr_history_add(t, i, ORIG, 'X');
}

void nr_history_flip(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    /* `seen` keeps its sides, as in Zeek. */
    f->flips += f->flips < 3;
    nr_history_add(t, i, ORIG, '^');
}

/* -- the lone H -- */

static char first_letter(const struct nr_table *t, uint32_t i) {
    const struct extra *x = nr_extra(t, i);
    return x != NULL ? x->history[0] : nr_unpack_letter(t->pasts[i].letters, 0);
}

bool nr_history_is_answer(const struct nr_table *t, uint32_t i) {
    /* `seen` comes first: it is in the cache, and the letters are not. */
    return t->flows[i].seen == SEEN_SYN && first_letter(t, i) == 'H';
}

bool nr_history_is_lone_answer(const struct nr_table *t, uint32_t i) {
    return nr_history_is_answer(t, i) && length_of(t, i) == 1;
}

void nr_history_correct_answer(struct nr_table *t, uint32_t i) {
    struct extra *x = nr_extra(t, i);
    if (x != NULL) {
        x->history[0] = '^';
        x->history[1] = 'h';
    } else {
        t->pasts[i].letters = nr_pack_letter('^', 0) + nr_pack_letter('h', 1) + 2;
    }
}

/* -- as text -- */

uint32_t nr_history_text(const struct nr_table *t, uint32_t i, char text[NR_HISTORY_SIZE]) {
    const struct extra *x = nr_extra(t, i);
    if (x != NULL) {
        memcpy(text, x->history, x->length);
        return x->length;
    }
    uint64_t letters = t->pasts[i].letters;
    const uint32_t length = nr_packed_length(letters);
    letters >>= 4;
    for (uint32_t n = 0; n < length; n++, letters >>= 5) {
        text[n] = NR_LETTERS[letters & 31];
    }
    return length;
}

void nr_history_clear(struct nr_table *t, uint32_t i) {
    struct extra *x = nr_extra(t, i);
    t->flows[i].seen = 0;
    t->flows[i].flips = 0;
    if (x != NULL) {
        x->length = 0;
    } else {
        t->pasts[i].letters = 0;
    }
}
