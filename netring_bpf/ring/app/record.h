/* An application record: the fields that one message or one exchange gave (NR_FIELD_* of api.h).
 * Writers shorten what does not fit, and mark the record. */
#ifndef NR_APP_RECORD_H
#define NR_APP_RECORD_H

#include "core.h"

#define NR_RECORD_SIZE 2048u
#define NR_FIELD_HEAD 4u

struct nr_record {
    uint32_t size; /* bytes used */
    bool is_cut;   /* something was left out, or shortened */
    uint8_t bytes[NR_RECORD_SIZE];
};

static inline void nr_record_clear(struct nr_record *record) {
    record->size = 0;
    record->is_cut = false;
}

void nr_record_number(struct nr_record *record, uint8_t field, uint32_t value);
/* Text is shortened to NR_TEXT_MAX bytes. */
void nr_record_text(struct nr_record *record, uint8_t field, const uint8_t *text, uint32_t length);
/* Bytes are taken whole, or not at all. */
void nr_record_bytes(struct nr_record *record, uint8_t field, const uint8_t *bytes,
                     uint32_t length);
/* Adds all fields of another record, as far as they fit. */
void nr_record_append(struct nr_record *record, const uint8_t *bytes, uint32_t size);

/* Walks over the fields: *at begins as 0, and is behind the field returned. Returns false at the
 * end. */
struct nr_field {
    const uint8_t *value;
    uint16_t length;
    uint8_t field;
};
static inline bool nr_record_next(const uint8_t *bytes, uint32_t size, uint32_t *at,
                                  struct nr_field *field) {
    uint16_t length;
    if (size - *at < NR_FIELD_HEAD) {
        return false;
    }
    memcpy(&length, bytes + *at + 2, sizeof length);
    if (length > size - *at - NR_FIELD_HEAD) {
        return false;
    }
    *field = (struct nr_field){bytes + *at + NR_FIELD_HEAD, length, bytes[*at]};
    *at += NR_FIELD_HEAD + length;
    return true;
}
/* Finds the first field of this number; returns false if there is none. */
bool nr_record_find(const uint8_t *bytes, uint32_t size, uint8_t number, struct nr_field *field);
/* Returns the value of a number's first field; `none` if there is no such field. */
uint32_t nr_record_value(const uint8_t *bytes, uint32_t size, uint8_t number, uint32_t none);

/* Finds the name that the originator wanted, in the record of an exchange of this protocol. */
bool nr_record_name(const uint8_t *bytes, uint32_t size, uint8_t protocol, struct nr_field *name);

#endif
