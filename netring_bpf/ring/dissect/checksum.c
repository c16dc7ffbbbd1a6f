/* The internet checksum (RFC 1071). */
#include "dissect/cursor.h"

static uint64_t add_words(uint64_t sum, const uint8_t *data, uint32_t length) {
    uint32_t i = 0;
    for (; i + 1 < length; i += 2) {
        sum += nr_be16(data + i);
    }
    return i < length ? sum + (uint64_t)data[i] * 256 : sum;
}

static bool is_right(uint64_t sum) {
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum == 0xffff;
}

bool nr_checksum_is_right(const uint8_t *data, uint32_t length) {
    return is_right(add_words(0, data, length));
}

bool nr_checksum_is_right_with(const struct nr_ends *ends, uint8_t family, uint8_t proto,
                               const uint8_t *data, uint32_t length) {
    const uint32_t size = family == 4 ? 4 : 16;
    uint64_t sum = (uint64_t)proto + (length >> 16) + (length & 0xffff);
    sum = add_words(sum, ends->src_h, size);
    sum = add_words(sum, ends->dst_h, size);
    return is_right(add_words(sum, data, length));
}
