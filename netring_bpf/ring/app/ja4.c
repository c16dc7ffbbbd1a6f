/* Fingerprints of TLS clients: JA4 as FoxIO describes it, and JA3 as Salesforce described it, for
 * lists that are older. */
#include "app/hello.h"

enum { SHA256_SIZE = 32, MD5_SIZE = 16 };
enum { MAX_COUNT = 99 };
enum { MAX_SORTED = NR_RAW_MAX / 5 }; /* each takes four digits and a comma */

static const char DIGITS[] = "0123456789abcdef";

/* -- text -- */

static void put_char(struct nr_raw *raw, char c) {
    if (raw->size == NR_RAW_MAX) {
        raw->is_full = true;
        return;
    }
    raw->text[raw->size++] = c;
}

static void put_hex16(struct nr_raw *raw, uint16_t number) {
    for (int shift = 12; shift >= 0; shift -= 4) {
        put_char(raw, DIGITS[number >> shift & 15]);
    }
}

static void put_decimal(struct nr_raw *raw, uint16_t number) {
    uint16_t power = 10000;
    while (power > 1 && number < power) {
        power /= 10;
    }
    for (; power > 0; power /= 10) {
        put_char(raw, (char)('0' + number / power % 10));
    }
}

static void put_pair(char *out, uint32_t number) {
    const uint32_t shown = number < MAX_COUNT ? number : MAX_COUNT;
    out[0] = (char)('0' + shown / 10);
    out[1] = (char)('0' + shown % 10);
}

static void to_hex(const uint8_t *bytes, uint32_t count, char *out) {
    for (uint32_t i = 0; i < count; i++) {
        out[2 * i] = DIGITS[bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[bytes[i] & 15];
    }
}

/* -- JA4 -- */

static uint32_t count_ciphers(struct nr_span rest) {
    uint32_t count = 0;
    uint16_t number;
    while (nr_take16(&rest, &number)) {
        count += !nr_is_grease(number);
    }
    return count;
}

static uint32_t count_extensions(struct nr_span rest) {
    uint32_t count = 0;
    uint16_t type;
    struct nr_span body;
    while (nr_take_extension(&rest, &type, &body)) {
        count += !nr_is_grease(type);
    }
    return count;
}

static const char *version_name(uint16_t version) {
    switch (version) {
    case 0x0304:
        return "13";
    case 0x0303:
        return "12";
    case 0x0302:
        return "11";
    case 0x0301:
        return "10";
    case 0x0300:
        return "s3";
    case 0x0002:
        return "s2";
    case 0xfeff:
        return "d1";
    case 0xfefd:
        return "d2";
    case 0xfefc:
        return "d3";
    default:
        return "00";
    }
}

static bool is_alphanumeric(uint8_t c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Writes the first and last character of the first name of ALPN. */
static void put_alpn(const struct nr_hello *hello, char out[2]) {
    struct nr_span body, list, name;
    out[0] = out[1] = '0';
    if (!nr_hello_find(hello, NR_AT_ALPN, &body) || !nr_take_vector(&body, 2, &list) ||
        !nr_take_vector(&list, 1, &name) || name.length == 0) {
        return;
    }
    const uint8_t first = name.at[0], last = name.at[name.length - 1];
    const bool is_text = is_alphanumeric(first) && is_alphanumeric(last);
    out[0] = is_text ? (char)first : DIGITS[first >> 4];
    out[1] = is_text ? (char)last : DIGITS[last & 15];
}

void nr_ja4_head(const struct nr_hello *hello, char transport, char head[NR_JA4_HEAD]) {
    struct nr_span name;
    head[0] = transport;
    memcpy(head + 1, version_name(nr_hello_newest(hello, transport, true)), 2);
    head[3] = nr_hello_find(hello, NR_AT_SERVER_NAME, &name) ? 'd' : 'i';
    put_pair(head + 4, count_ciphers(hello->ciphers));
    put_pair(head + 6, count_extensions(hello->extensions));
    put_alpn(hello, head + 8);
}

/* Shell's sort: hostile hellos have long lists. */
static void sort(uint16_t *numbers, uint32_t count) {
    static const uint32_t gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};
    for (uint32_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        const uint32_t gap = gaps[g];
        for (uint32_t i = gap; i < count; i++) {
            const uint16_t moved = numbers[i];
            uint32_t at = i;
            for (; at >= gap && numbers[at - gap] > moved; at -= gap) {
                numbers[at] = numbers[at - gap];
            }
            numbers[at] = moved;
        }
    }
}

static void put_sorted(uint16_t *numbers, uint32_t count, struct nr_raw *raw) {
    sort(numbers, count);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            put_char(raw, ',');
        }
        put_hex16(raw, numbers[i]);
    }
}

void nr_ja4_ciphers(const struct nr_hello *hello, struct nr_raw *raw) {
    uint16_t numbers[MAX_SORTED], number;
    uint32_t count = 0;
    struct nr_span rest = hello->ciphers;
    while (nr_take16(&rest, &number)) {
        if (nr_is_grease(number)) {
            continue;
        }
        if (count == MAX_SORTED) {
            raw->is_full = true;
            return;
        }
        numbers[count++] = number;
    }
    put_sorted(numbers, count, raw);
}

/* Writes the signature algorithms, in their order. */
static void put_signatures(const struct nr_hello *hello, struct nr_raw *raw) {
    struct nr_span body, list;
    uint16_t number;
    char before = '_';
    if (!nr_hello_find(hello, NR_AT_SIGNATURES, &body) || !nr_take_vector(&body, 2, &list)) {
        return;
    }
    while (nr_take16(&list, &number)) {
        if (!nr_is_grease(number)) {
            put_char(raw, before);
            put_hex16(raw, number);
            before = ',';
        }
    }
}

void nr_ja4_extensions(const struct nr_hello *hello, struct nr_raw *raw) {
    uint16_t numbers[MAX_SORTED], type;
    uint32_t count = 0;
    struct nr_span rest = hello->extensions, body;
    while (nr_take_extension(&rest, &type, &body)) {
        if (nr_is_grease(type) || type == NR_EXT_SERVER_NAME || type == NR_EXT_ALPN) {
            continue;
        }
        if (count == MAX_SORTED) {
            raw->is_full = true;
            return;
        }
        numbers[count++] = type;
    }
    put_sorted(numbers, count, raw);
    if (count > 0) {
        put_signatures(hello, raw);
    }
}

/* Writes the first digits of SHA-256 of the text, and of zeros if there is none. */
static bool put_digest(struct nr_crypto *crypto, const struct nr_raw *raw, char out[NR_JA4_PART]) {
    uint8_t digest[SHA256_SIZE];
    if (raw->is_full) {
        return false;
    }
    if (raw->size == 0) {
        memset(out, '0', NR_JA4_PART);
        return true;
    }
    struct nr_part *known = nr_parts_at(&crypto->prints, raw->text, raw->size);
    if (known != NULL && known->size == raw->size &&
        memcmp(known->text, raw->text, raw->size) == 0) {
        memcpy(out, known->digest, NR_JA4_PART);
        return true;
    }
    if (!nr_crypto_sha256(crypto, raw->text, raw->size, digest)) {
        return false;
    }
    to_hex(digest, NR_JA4_PART / 2, out);
    if (known != NULL) {
        known->size = raw->size;
        memcpy(known->text, raw->text, raw->size);
        memcpy(known->digest, out, NR_JA4_PART);
    }
    return true;
}

static bool make_ja4(const struct nr_hello *hello, char transport, struct nr_crypto *crypto,
                     char text[NR_JA4_SIZE]) {
    enum { CIPHERS = NR_JA4_HEAD + 1, EXTENSIONS = CIPHERS + NR_JA4_PART + 1 };
    _Static_assert(EXTENSIONS + NR_JA4_PART == NR_JA4_SIZE, "three parts");
    struct nr_raw raw;
    nr_ja4_head(hello, transport, text);
    text[CIPHERS - 1] = text[EXTENSIONS - 1] = '_';
    raw.size = 0, raw.is_full = false;
    nr_ja4_ciphers(hello, &raw);
    if (!put_digest(crypto, &raw, text + CIPHERS)) {
        return false;
    }
    raw.size = 0, raw.is_full = false;
    nr_ja4_extensions(hello, &raw);
    return put_digest(crypto, &raw, text + EXTENSIONS);
}

/* -- JA3 -- */

/* Writes numbers of two bytes, GREASE apart, and a comma. */
static void put_list(struct nr_span list, struct nr_raw *raw) {
    const uint32_t begin = raw->size;
    uint16_t number;
    while (nr_take16(&list, &number)) {
        if (nr_is_grease(number)) {
            continue;
        }
        if (raw->size > begin) {
            put_char(raw, '-');
        }
        put_decimal(raw, number);
    }
    put_char(raw, ',');
}

static void put_types(struct nr_span rest, struct nr_raw *raw) {
    const uint32_t begin = raw->size;
    uint16_t type;
    struct nr_span body;
    while (nr_take_extension(&rest, &type, &body)) {
        if (nr_is_grease(type)) {
            continue;
        }
        if (raw->size > begin) {
            put_char(raw, '-');
        }
        put_decimal(raw, type);
    }
    put_char(raw, ',');
}

void nr_ja3(const struct nr_hello *hello, struct nr_raw *raw) {
    struct nr_span body, groups = {NULL, 0}, points = {NULL, 0};
    if (nr_hello_find(hello, NR_AT_GROUPS, &body) && !nr_take_vector(&body, 2, &groups)) {
        groups.length = 0;
    }
    if (nr_hello_find(hello, NR_AT_POINT_FORMATS, &body) && !nr_take_vector(&body, 1, &points)) {
        points.length = 0;
    }
    put_decimal(raw, hello->version);
    put_char(raw, ',');
    put_list(hello->ciphers, raw);
    put_types(hello->extensions, raw);
    put_list(groups, raw);
    for (uint32_t i = 0; i < points.length; i++) {
        if (i > 0) {
            put_char(raw, '-');
        }
        put_decimal(raw, points.at[i]);
    }
}

static bool make_ja3(const struct nr_hello *hello, struct nr_crypto *crypto,
                     char text[NR_JA3_SIZE]) {
    uint8_t digest[MD5_SIZE];
    struct nr_raw raw;
    raw.size = 0, raw.is_full = false;
    nr_ja3(hello, &raw);
    if (raw.is_full || !nr_crypto_md5(crypto, raw.text, raw.size, digest)) {
        return false;
    }
    to_hex(digest, MD5_SIZE, text);
    return true;
}

void nr_ja4_add_opened(const struct nr_hello *hello, char transport, struct nr_crypto *crypto,
                       struct nr_record *record) {
    struct nr_shape shape;
    if (crypto == NULL || hello->type != NR_CLIENT_HELLO || !hello->is_whole) {
        return; /* a fingerprint of some of the extensions would be another client's */
    }
    nr_shape_of(hello, transport, &shape);
    struct nr_print *known = nr_prints_at(&crypto->prints, &shape);
    if (shape.count > 0 && nr_is_shape(known, &shape)) {
        nr_record_append(record, known->fields, known->size);
        return;
    }
    enum { JA4_FIELD = NR_FIELD_HEAD + NR_JA4_SIZE };
    char ja4[NR_JA4_SIZE], ja3[NR_JA3_SIZE];
    const uint32_t before = record->size;
    const bool has_ja4 = make_ja4(hello, transport, crypto, ja4);
    if (has_ja4) {
        nr_record_bytes(record, NR_FIELD_JA4, (const uint8_t *)ja4, sizeof ja4);
    }
    const bool has_ja3 = make_ja3(hello, crypto, ja3);
    if (has_ja3) {
        nr_record_bytes(record, NR_FIELD_JA3, (const uint8_t *)ja3, sizeof ja3);
    }
    const uint32_t size = record->size - before;
    if (has_ja4 && shape.count > 0 && size == (has_ja3 ? NR_PRINT_FIELDS : JA4_FIELD)) {
        known->shape = shape;
        known->size = size;
        memcpy(known->fields, record->bytes + before, known->size);
    }
}

void nr_ja4_add(const uint8_t *bytes, uint32_t length, char transport, struct nr_crypto *crypto,
                struct nr_record *record) {
    struct nr_hello hello;
    if (crypto != NULL && nr_hello_open(bytes, length, transport, &hello) == NR_MESSAGE) {
        nr_ja4_add_opened(&hello, transport, crypto, record);
    }
}

int nr_hello_read(const uint8_t *bytes, uint32_t length, char transport, bool is_all,
                  struct nr_crypto *crypto, struct nr_message *message) {
    struct nr_hello hello;
    const int verdict = nr_hello_fill(bytes, length, transport, is_all, &hello, message);
    if (verdict == NR_MESSAGE && length >= hello.size) {
        nr_ja4_add_opened(&hello, transport, crypto, &message->record);
    }
    return verdict;
}
