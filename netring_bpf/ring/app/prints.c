/* Keys of fingerprints: see prints.h. Hellos of one key give the same JA4 and JA3, whatever their
 * GREASE, keys and names. */
#include "app/prints.h"

#include "app/hello.h"
#include "siphash.h"

enum { SEPARATOR = 0x0a0a }; /* GREASE, which no list below has */
enum { WORDS = 256, NUMBERS = 4 * WORDS };

/* What fingerprints are made of, as numbers. */
struct shape {
    uint32_t count;
    uint16_t numbers[NUMBERS];
};

/* Counts beyond the end, which makes the shape too long. */
static inline void put(struct shape *shape, uint32_t number) {
    if (shape->count < NUMBERS) {
        shape->numbers[shape->count] = (uint16_t)number;
    }
    shape->count++;
}

static void put_list(struct shape *shape, struct nr_span list) {
    uint32_t count = shape->count;
    if (list.length / 2 >= NUMBERS - (count < NUMBERS ? count : NUMBERS)) {
        shape->count = NUMBERS + 1;
        return;
    }
    for (uint32_t at = 0; at + 1 < list.length; at += 2) {
        const uint16_t number = nr_be16(list.at + at);
        shape->numbers[count] = number;
        count += !nr_is_grease(number);
    }
    shape->numbers[count] = SEPARATOR;
    shape->count = count + 1;
}

/* Puts the numbers of an extension, behind a length of `size` bytes. */
static void put_body(struct shape *shape, struct nr_span body, uint32_t size) {
    struct nr_span list = {NULL, 0};
    (void)nr_take_vector(&body, size, &list);
    put_list(shape, list);
}

static void put_points(struct shape *shape, struct nr_span body) {
    struct nr_span list = {NULL, 0};
    (void)nr_take_vector(&body, 1, &list);
    for (uint32_t n = 0; n < list.length; n++) {
        put(shape, list.at[n]);
    }
    put(shape, SEPARATOR);
}

/* Puts the first and last byte of the first name. */
static void put_alpn(struct shape *shape, struct nr_span body) {
    struct nr_span list, name;
    if (nr_take_vector(&body, 2, &list) && nr_take_vector(&list, 1, &name) && name.length > 0) {
        put(shape, name.at[0]);
        put(shape, name.at[name.length - 1]);
    }
    put(shape, SEPARATOR);
}

/* The first of each extension counts. */
static void note_body(struct nr_span *kept, struct nr_span body) {
    if (kept->at == NULL) {
        *kept = body;
    }
}

static void put_extensions(struct shape *shape, struct nr_span rest) {
    struct nr_span groups = {NULL, 0}, points = groups, signatures = groups, alpn = groups,
                   versions = groups, body;
    uint16_t type;
    while (nr_take_extension(&rest, &type, &body)) {
        if (nr_is_grease(type)) {
            continue;
        }
        put(shape, type);
        switch (type) {
        case NR_EXT_GROUPS:
            note_body(&groups, body);
            break;
        case NR_EXT_POINT_FORMATS:
            note_body(&points, body);
            break;
        case NR_EXT_SIGNATURES:
            note_body(&signatures, body);
            break;
        case NR_EXT_ALPN:
            note_body(&alpn, body);
            break;
        case NR_EXT_VERSIONS:
            note_body(&versions, body);
            break;
        default:
            break;
        }
    }
    put(shape, SEPARATOR);
    put_body(shape, groups, 2);
    put_points(shape, points);
    put_body(shape, signatures, 2);
    put_alpn(shape, alpn);
    put_body(shape, versions, 1);
}

uint64_t nr_prints_key(const struct nr_prints *prints, const struct nr_hello *hello,
                       char transport) {
    struct shape shape;
    uint64_t words[WORDS];
    shape.count = 0;
    put(&shape, (uint8_t)transport);
    put(&shape, hello->version);
    put_list(&shape, hello->ciphers);
    put_extensions(&shape, hello->extensions);
    while (shape.count % 4 != 0) {
        put(&shape, SEPARATOR);
    }
    if (shape.count > NUMBERS) {
        return 0;
    }
    memcpy(words, shape.numbers, shape.count * sizeof *shape.numbers);
    return nr_siphash13(prints->secret, words, shape.count / 4);
}
