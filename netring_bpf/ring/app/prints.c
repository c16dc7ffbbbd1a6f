/* Fingerprints by what they are made of: see prints.h. */
#include "app/prints.h"

#include "app/hello.h"

enum { UNIT = sizeof(nr_numbers) };

/* -- shapes -- */

/* Makes each GREASE the same one. It reads the same in either order of its bytes. */
static inline nr_numbers level(nr_numbers numbers) {
    const nr_numbers is_grease =
        (nr_numbers)((numbers & 0x0f0f) == 0x0a0a) & (nr_numbers)(numbers >> 8 == (numbers & 0xff));
    return (numbers & ~is_grease) | (is_grease & 0x0a0a);
}

static uint32_t units_for(uint32_t size) {
    return (size + UNIT - 1) / UNIT;
}

/* Puts what is less than a unit, and zeros behind it. */
static inline nr_numbers *put_short(nr_numbers *unit, const uint8_t *at, uint32_t size) {
    if (size == 0) {
        return unit;
    }
    *unit = (nr_numbers){0};
    memcpy(unit, at, size);
    return unit + 1;
}

/* Puts numbers, which fit. The last unit may have some of the one before it too. */
static inline nr_numbers *put_numbers(nr_numbers *unit, const void *numbers, uint32_t size) {
    const uint8_t *const bytes = numbers;
    nr_numbers eight = {0};
    if (size < UNIT) {
        nr_numbers *const end = put_short(unit, bytes, size);
        if (unit < end) {
            *unit = level(*unit);
        }
        return end;
    }
    for (uint32_t at = 0; at < size - UNIT; at += UNIT) {
        memcpy(&eight, bytes + at, UNIT);
        *unit++ = level(eight);
    }
    memcpy(&eight, bytes + size - UNIT, UNIT);
    *unit++ = level(eight);
    return unit;
}

static inline nr_numbers *put_bytes(nr_numbers *unit, const void *bytes, uint32_t size) {
    const uint8_t *at = bytes;
    for (; size >= UNIT; size -= UNIT, at += UNIT) {
        memcpy(unit++, at, UNIT);
    }
    return put_short(unit, at, size);
}

/* Returns the vector that a body begins with; an empty one if it is not all there. */
static inline struct nr_span list_of(const struct nr_hello *hello, uint32_t place, uint32_t size) {
    struct nr_span body, list = {NULL, 0};
    if (nr_hello_find(hello, place, &body)) {
        (void)nr_take_vector(&body, size, &list);
    }
    return list;
}

/* The same of numbers. A byte behind the last of them is none. */
static inline struct nr_span numbers_of(const struct nr_hello *hello, uint32_t place,
                                        uint32_t size) {
    const struct nr_span list = list_of(hello, place, size);
    return (struct nr_span){list.at, list.length & ~1u};
}

/* Returns the first and last byte of the first name of ALPN, as one number; 0: there is none. */
static uint64_t name_of(const struct nr_hello *hello) {
    struct nr_span list = list_of(hello, NR_AT_ALPN, 2), name;
    if (!nr_take_vector(&list, 1, &name) || name.length == 0) {
        return 0;
    }
    return 0x10000u | (uint32_t)name.at[0] << 8 | name.at[name.length - 1];
}

void nr_shape_of(const struct nr_hello *hello, char transport, struct nr_shape *shape) {
    const struct nr_span groups = numbers_of(hello, NR_AT_GROUPS, 2),
                         points = list_of(hello, NR_AT_POINT_FORMATS, 1),
                         signatures = numbers_of(hello, NR_AT_SIGNATURES, 2),
                         versions = numbers_of(hello, NR_AT_VERSIONS, 1);
    const uint32_t types = hello->type_count * (uint32_t)sizeof *hello->types;
    const uint32_t count = 1 + units_for(hello->ciphers.length) + units_for(types) +
                           units_for(groups.length) + units_for(points.length) +
                           units_for(signatures.length) + units_for(versions.length);
    shape->count = 0;
    if (hello->type_count > NR_TYPES_KEPT || count > NR_SHAPE_UNITS) {
        return;
    }
    const uint64_t head[] = {
        (uint8_t)transport | (uint64_t)hello->version << 8 | name_of(hello) << 24 |
            (uint64_t)points.length << 48 | (uint64_t)versions.length << 56,
        hello->ciphers.length | (uint64_t)types << 16 | (uint64_t)groups.length << 32 |
            (uint64_t)signatures.length << 48,
    };
    nr_numbers *unit = put_bytes(shape->units, head, sizeof head);
    unit = put_numbers(unit, hello->ciphers.at, hello->ciphers.length);
    unit = put_numbers(unit, hello->types, types);
    unit = put_numbers(unit, groups.at, groups.length);
    unit = put_bytes(unit, points.at, points.length);
    unit = put_numbers(unit, signatures.at, signatures.length);
    (void)put_numbers(unit, versions.at, versions.length);
    shape->count = count;
}

/* -- places -- */

/* Whoever makes two of one place only makes one of them be computed again. */
static uint32_t mix(const nr_numbers *units, uint32_t count) {
    nr_numbers sums = {0};
    uint64_t halves[2];
    for (uint32_t n = 0; n < count; n++) {
        sums = sums * 0x6255 + units[n];
    }
    memcpy(halves, &sums, sizeof halves);
    const uint64_t sum = halves[0] * UINT64_C(0x9e3779b97f4a7c15) + halves[1];
    return (uint32_t)(sum * UINT64_C(0xd1b54a32d192ed03) >> 32);
}

struct nr_print *nr_prints_at(struct nr_prints *prints, const struct nr_shape *shape) {
    return &prints->print[mix(shape->units, shape->count) % NR_PRINTS];
}

struct nr_part *nr_parts_at(struct nr_prints *prints, const char *text, uint32_t size) {
    nr_numbers units[NR_PART_TEXT / UNIT];
    if (size > NR_PART_TEXT) {
        return NULL;
    }
    const nr_numbers *const end = put_bytes(units, text, size);
    return &prints->part[mix(units, (uint32_t)(end - units)) % NR_PARTS];
}
