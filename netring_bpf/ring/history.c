/* The history of a flow in letters, as Zeek defines them for conn.log. Upper case is the
 * originator's. Room is kept for every letter that has not been there yet, so that no number of
 * repeated ones can push it out. */
#include "table.h"

#define FIRSTS_MAX 15u /* seven kinds on two sides, and ^ */

static void write_letter(struct history *h, int side, char letter) {
    h->text[h->length++] = side == ORIG || letter == '^' ? letter : (char)(letter + ('a' - 'A'));
}

bool nr_history_note(struct history *h, int side, int kind, char letter) {
    const uint32_t bit = (uint32_t)kind << (side == ORIG ? 0 : 16);
    if (h->seen & bit) {
        return false;
    }
    h->seen |= bit;
    h->firsts++;
    if (h->length < NR_HISTORY_SIZE) {
        write_letter(h, side, letter);
    }
    return true;
}

void nr_history_add(struct history *h, int side, char letter) {
    const uint32_t kept = h->firsts < FIRSTS_MAX ? FIRSTS_MAX - h->firsts : 0;
    if (h->length + kept < NR_HISTORY_SIZE) {
        write_letter(h, side, letter);
    }
}

void nr_history_count(struct history *h, int side, char letter, uint32_t count) {
    while (count >= 10 && count % 10 == 0) {
        count /= 10;
    }
    if (count == 1) {
        nr_history_add(h, side, letter);
    }
}

void nr_history_flip(struct history *h) {
    h->seen = h->seen << 16 | h->seen >> 16;
    h->firsts++;
    nr_history_add(h, ORIG, '^');
}
