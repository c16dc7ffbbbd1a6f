/* Names in labels: see dns_name.h. */
#include "app/dns_name.h"

enum { MAX_NAME = 255, MAX_LABEL = 63, POINTER = 0xc0, MAX_POINTERS = 32 };

/* Follows a pointer. Returns false if it leads forward, or is one too many. */
static bool follow(const struct nr_labels *labels, struct nr_name_walk *walk) {
    if (labels->length - walk->at < 2 || ++walk->pointers > MAX_POINTERS) {
        return false;
    }
    const uint8_t *at = labels->at + walk->at;
    const uint32_t target = (uint32_t)(at[0] & ~POINTER) << 8 | at[1];
    if (walk->end == 0) {
        walk->end = walk->at + 2;
    }
    if (target >= walk->first) {
        return false;
    }
    walk->at = walk->first = target;
    return true;
}

int nr_next_label(const struct nr_labels *labels, struct nr_name_walk *walk,
                  const uint8_t **label) {
    while (walk->at < labels->length && (labels->at[walk->at] & POINTER) == POINTER) {
        if (!follow(labels, walk)) {
            return -1;
        }
    }
    if (walk->at >= labels->length) {
        return -1;
    }
    const uint32_t length = labels->at[walk->at];
    walk->size += length + 1;
    if (length > MAX_LABEL || walk->size > MAX_NAME ||
        length >= labels->length - walk->at) { /* the root's byte is `length` too */
        return -1;
    }
    *label = labels->at + walk->at + 1;
    walk->at += length + 1;
    if (length == 0 && walk->end == 0) {
        walk->end = walk->at;
    }
    return (int)length;
}

uint32_t nr_skip_name(const struct nr_labels *labels, uint32_t at) {
    const uint32_t first = at;
    while (at < labels->length && at - first < MAX_NAME) {
        const uint8_t length = labels->at[at];
        if ((length & POINTER) == POINTER) {
            const bool leads_back =
                labels->length - at >= 2 &&
                ((uint32_t)(length & ~POINTER) << 8 | labels->at[at + 1]) < first;
            return leads_back ? at + 2 : 0;
        }
        if (length > MAX_LABEL) {
            return 0;
        }
        at += length + 1u;
        if (length == 0) {
            return at;
        }
    }
    return 0;
}

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static bool is_same_label(const uint8_t *a, const uint8_t *b, int length) {
    for (int i = 0; i < length; i++) {
        if (a[i] != b[i] && lower(a[i]) != lower(b[i])) {
            return false;
        }
    }
    return true;
}

bool nr_is_same_name(const struct nr_labels *labels, uint32_t a, uint32_t b) {
    struct nr_name_walk walk_a = nr_name_at(a), walk_b = nr_name_at(b);
    const uint8_t *label_a, *label_b;
    int length;
    do {
        length = nr_next_label(labels, &walk_a, &label_a);
        if (length < 0 || nr_next_label(labels, &walk_b, &label_b) != length ||
            !is_same_label(label_a, label_b, length)) {
            return false;
        }
    } while (length > 0);
    return true;
}

static void put_label(struct nr_labels_text *text, const uint8_t *label, uint32_t length) {
    uint8_t escaped[2 * MAX_LABEL];
    uint32_t n = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (label[i] == '.' || label[i] == '\\') {
            escaped[n++] = '\\';
        }
        escaped[n++] = label[i];
    }
    nr_put_bytes(text, escaped, n);
}

uint32_t nr_put_name(struct nr_labels_text *text, const struct nr_labels *labels, uint32_t at) {
    struct nr_name_walk walk = nr_name_at(at);
    const uint8_t *label;
    int length;
    for (bool is_first = true; (length = nr_next_label(labels, &walk, &label)) > 0;
         is_first = false) {
        if (!is_first) {
            nr_put_bytes(text, ".", 1);
        }
        put_label(text, label, (uint32_t)length);
    }
    return length == 0 ? walk.end : 0;
}

bool nr_put_partial_name(struct nr_labels_text *text, const uint8_t *bytes, uint32_t length) {
    uint32_t at = 0;
    while (at < length && bytes[at] != 0) {
        const uint32_t size = bytes[at];
        if (size > MAX_LABEL || size > length - at - 1 || at + size >= MAX_NAME) {
            return false;
        }
        if (at > 0) {
            nr_put_bytes(text, ".", 1);
        }
        put_label(text, bytes + at + 1, size);
        at += size + 1;
    }
    return true;
}
