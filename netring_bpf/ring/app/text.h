/* Lines and words of protocols that are text. */
#ifndef NR_APP_TEXT_H
#define NR_APP_TEXT_H

#include "core.h"

/* Bytes that are not a string of C: they have no NUL at their end. */
struct nr_span {
    const uint8_t *at;
    uint32_t length;
};

/* A line ends with LF, or CR LF. `whole` counts the line's end too. */
struct nr_line {
    struct nr_span text;
    uint32_t whole;
};

/* Reads the first line. Returns false if its end is not among the bytes. */
static inline bool nr_read_line(const uint8_t *at, uint32_t length, struct nr_line *line) {
    const uint8_t *end = length > 0 ? memchr(at, '\n', length) : NULL;
    if (end == NULL) {
        return false;
    }
    const uint32_t text = (uint32_t)(end - at);
    line->whole = text + 1;
    line->text = (struct nr_span){at, text > 0 && end[-1] == '\r' ? text - 1 : text};
    return true;
}

static inline uint8_t nr_lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}
static inline bool nr_is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}
static inline bool nr_is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

/* Words to compare with are in lower case. */
static inline bool nr_same_word(const uint8_t *at, uint32_t length, const char *word) {
    uint32_t i = 0;
    while (i < length && word[i] != '\0' && nr_lower(at[i]) == (uint8_t)word[i]) {
        i++;
    }
    return i == length && word[i] == '\0';
}

/* Returns true if the span begins with the word. */
static inline bool nr_begins(struct nr_span span, const char *word) {
    const uint32_t length = (uint32_t)strlen(word);
    return span.length >= length && nr_same_word(span.at, length, word);
}

/* Returns true if the span begins with the word, which ends there or at a blank. */
static inline bool nr_begins_word(struct nr_span span, const char *word) {
    const uint32_t length = (uint32_t)strlen(word);
    return nr_begins(span, word) && (span.length == length || nr_is_blank(span.at[length]));
}

/* Returns true if the word is somewhere in the span. */
static inline bool nr_contains(struct nr_span span, const char *word) {
    const uint32_t length = (uint32_t)strlen(word);
    for (uint32_t i = 0; i + length <= span.length; i++) {
        if (nr_same_word(span.at + i, length, word)) {
            return true;
        }
    }
    return false;
}

/* Compares the first bytes with those that a message must begin with, as far as both go. */
static inline bool nr_fits(const uint8_t *at, uint32_t length, const void *first, uint32_t size) {
    return memcmp(at, first, length < size ? length : size) == 0;
}

/* Removes blanks from both ends. */
static inline struct nr_span nr_strip(struct nr_span span) {
    while (span.length > 0 && nr_is_blank(span.at[0])) {
        span.at++;
        span.length--;
    }
    while (span.length > 0 && nr_is_blank(span.at[span.length - 1])) {
        span.length--;
    }
    return span;
}

#endif
