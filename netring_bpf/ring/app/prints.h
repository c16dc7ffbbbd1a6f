/* The fingerprints of TLS clients seen of late. A client sends much the same hello again and again,
 * and digests cost more than all else that is read of it. */
#ifndef NR_APP_PRINTS_H
#define NR_APP_PRINTS_H

#include "app/record.h"

#define NR_PRINTS 512u /* a power of two */
#define NR_PARTS 256u  /* likewise */
enum { NR_JA4_SIZE = 36, NR_JA3_SIZE = 32, NR_JA4_PART = 12 };
enum { NR_PRINT_FIELDS = 2 * NR_FIELD_HEAD + NR_JA4_SIZE + NR_JA3_SIZE };
enum { NR_SHAPE_UNITS = 24, NR_PART_TEXT = 320 };

/* Numbers of two bytes, which are looked at together. */
typedef uint16_t nr_numbers __attribute__((vector_size(16)));

/* All in a hello that its fingerprints are made of, in the order of the hello. GREASE is the same
 * in all shapes. */
struct nr_shape {
    uint32_t count; /* units in use; 0: the hello is too long */
    nr_numbers units[NR_SHAPE_UNITS];
};

struct nr_print {
    struct nr_shape shape; /* no units: the place is free */
    uint32_t size;
    uint8_t fields[NR_PRINT_FIELDS]; /* of a record */
};

/* A digest in JA4. Some clients permute their extensions each time, which JA4 puts in order. */
struct nr_part {
    uint32_t size; /* 0: the place is free */
    char text[NR_PART_TEXT];
    char digest[NR_JA4_PART];
};

struct nr_prints {
    struct nr_print print[NR_PRINTS];
    struct nr_part part[NR_PARTS];
};

struct nr_hello;
void nr_shape_of(const struct nr_hello *hello, char transport, struct nr_shape *shape);

/* Returns the place of fingerprints of this shape. They are there if nr_is_shape() says so. */
struct nr_print *nr_prints_at(struct nr_prints *prints, const struct nr_shape *shape);
static inline bool nr_is_shape(const struct nr_print *print, const struct nr_shape *shape) {
    return print->shape.count == shape->count &&
           memcmp(print->shape.units, shape->units, shape->count * sizeof *shape->units) == 0;
}

/* Returns the place of the digest of a text, which is there if the text is; NULL: it is too long.
 */
struct nr_part *nr_parts_at(struct nr_prints *prints, const char *text, uint32_t size);

#endif
