/* Names in labels (RFC 1035, 4.1.4), and the text that they become. DNS, NetBIOS and DHCP have them
 * in common. */
#ifndef NR_APP_DNS_NAME_H
#define NR_APP_DNS_NAME_H

#include "core.h"

#define NR_LABELS_TEXT 1024u

/* Text of a bounded length, which is built piece by piece. */
struct nr_labels_text {
    uint32_t length;
    bool is_cut; /* something did not fit */
    uint8_t bytes[NR_LABELS_TEXT];
};

static inline void nr_put_bytes(struct nr_labels_text *text, const void *bytes, uint32_t length) {
    const uint32_t room = NR_LABELS_TEXT - text->length;
    const uint32_t taken = length < room ? length : room;
    if (taken > 0) {
        memcpy(text->bytes + text->length, bytes, taken);
    }
    text->length += taken;
    text->is_cut = text->is_cut || taken < length;
}

/* The bytes that a name lies in, and that its pointers count from. */
struct nr_labels {
    const uint8_t *at;
    uint32_t length;
};

/* One name: a cursor over its labels, which follows pointers. A pointer leads to before the labels
 * that it ends, so every walk comes to an end. */
struct nr_name_walk {
    uint32_t at;    /* of the next label */
    uint32_t first; /* of the labels that are read now */
    uint32_t end;   /* behind the name, in its own place; 0: not there yet */
    uint32_t size;  /* bytes of the name so far */
    uint32_t pointers;
};

static inline struct nr_name_walk nr_name_at(uint32_t at) {
    return (struct nr_name_walk){.at = at, .first = at};
}
/* Returns the length of the next label, which is at *label; 0: the name has ended; negative: it is
 * malformed. */
int nr_next_label(const struct nr_labels *labels, struct nr_name_walk *walk, const uint8_t **label);
/* Returns the place behind a name, without a look at those that it points to; 0: malformed. */
uint32_t nr_skip_name(const struct nr_labels *labels, uint32_t at);
/* Returns true if both names are well-formed and the same in either case. */
bool nr_is_same_name(const struct nr_labels *labels, uint32_t a, uint32_t b);
/* Adds the name in dots, with a backslash before a dot or backslash inside a label. The root has no
 * characters. Returns the place behind the name; 0: it is malformed. */
uint32_t nr_put_name(struct nr_labels_text *text, const struct nr_labels *labels, uint32_t at);
/* Adds a name without pointers that may lack its root, as far as the bytes go. Returns false if a
 * label is malformed. */
bool nr_put_partial_name(struct nr_labels_text *text, const uint8_t *bytes, uint32_t length);

#endif
