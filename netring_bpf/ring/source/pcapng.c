/* The pcapng format (draft-ietf-opsawg-pcapng): sections of either byte order, interfaces with a
 * link type and resolution each, and packets in enhanced, simple and the old packet blocks.
 *
 * Short packet blocks are read whole. All other blocks pass through the buffer in pieces, whatever
 * their length: a step takes what it needs of one, and says what follows in `skip`, `options` and
 * `block`. */
#include "source/savefile.h"

#include <string.h>

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 2, BLOCK_SIMPLE = 3, BLOCK_ENHANCED = 6 };
enum { OPTION_END = 0, OPTION_TSRESOL = 9, OPTION_TSOFFSET = 14 };
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define HEAD 8u                 /* type and length before the body */
#define FRAME (HEAD + TRAILER)  /* with the length after it */
#define TRAILER 4u
#define OPTION_HEAD 4u
#define LARGEST_POWER_OF_10 19u /* of 64 bits */

bool nr_pcapng_is_section(const uint8_t *block) {
    static const uint8_t type[4] = {0x0a, 0x0d, 0x0d, 0x0a}; /* the same in either order */
    return memcmp(block, type, sizeof type) == 0;
}

/* Goes on behind the first `n` bytes of the block; the rest follows in pieces. */
static enum nr_read begin_pieces(struct nr_savefile *f, uint32_t length, uint32_t n) {
    f->block = length;
    nr_file_pass(f, n);
    return NR_READ_OTHER;
}

/* -- options of an interface -- */

static uint64_t power_of_10(uint32_t power) {
    uint64_t value = 1;
    for (; power > 0; power--) {
        value *= 10;
    }
    return value;
}

static void set_resolution(struct nr_file_interface *i, uint8_t resolution) {
    const uint8_t power = resolution & 0x7f;
    i->shift = power;
    if (resolution & 0x80) {
        i->units_are = NR_UNITS_BINARY;
    } else if (power <= LARGEST_POWER_OF_10) {
        i->units_are = NR_UNITS_DECIMAL;
        i->units = power_of_10(power);
    } else {
        i->units_are = NR_UNITS_FINE;
        i->units = power - 9u <= LARGEST_POWER_OF_10 ? power_of_10(power - 9u) : 0;
    }
}

static void set_offset(const struct nr_savefile *f, struct nr_file_interface *i,
                       const uint8_t *value) {
    uint64_t offset;
    memcpy(&offset, value, sizeof offset);
    i->offset_s = (int64_t)(f->swapped ? __builtin_bswap64(offset) : offset);
}

/* Reads one of the options that follow, and keeps what times need of it. */
static enum nr_read read_option(struct nr_savefile *f) {
    struct nr_file_interface *i = &f->interfaces[f->interface_count - 1];
    enum nr_read result = NR_READ_OTHER;
    uint32_t size = f->options; /* of what is no option: skipped to the end of the block */
    if (size >= OPTION_HEAD) {
        const uint8_t *at = nr_file_need(f, OPTION_HEAD, &result);
        if (at == NULL) {
            return result;
        }
        const uint16_t code = nr_file_u16(f, at), length = nr_file_u16(f, at + 2);
        const uint32_t padded = OPTION_HEAD + ((length + 3u) & ~3u);
        const bool is_resolution = code == OPTION_TSRESOL && length == 1;
        const bool is_offset = code == OPTION_TSOFFSET && length == 8;
        if (code != OPTION_END && padded <= size) {
            size = padded;
            at = is_resolution || is_offset ? nr_file_need(f, size, &result) : at;
            if (at == NULL) {
                return result;
            }
            if (is_resolution) {
                set_resolution(i, at[OPTION_HEAD]);
            } else if (is_offset) {
                set_offset(f, i, at + OPTION_HEAD);
            }
        }
    }
    f->options -= size;
    nr_file_pass(f, size);
    return NR_READ_OTHER;
}

/* -- blocks: `body` bytes between the two lengths -- */

static enum nr_read begin_section(struct nr_savefile *f, uint32_t length) {
    enum nr_read result = NR_READ_OTHER;
    if (length < FRAME + 16) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    const uint8_t *block = nr_file_need(f, HEAD + 16, &result);
    if (block == NULL) {
        return result;
    }
    if (nr_file_u16(f, block + HEAD + 4) != 1) {
        return nr_file_fail(f, NR_FILE_BAD_VERSION);
    }
    f->interface_count = 0;
    return begin_pieces(f, length, length - TRAILER);
}

static enum nr_read add_interface(struct nr_savefile *f, uint32_t length) {
    enum nr_read result = NR_READ_OTHER;
    if (length < FRAME + 8) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    const uint8_t *block = nr_file_need(f, HEAD + 8, &result);
    if (block == NULL) {
        return result;
    }
    struct nr_file_interface *i = nr_file_add_interface(f);
    if (i == NULL) {
        return NR_READ_END;
    }
    const uint16_t dlt = nr_file_u16(f, block + HEAD);
    *i = (struct nr_file_interface){.units = 1000000,
                                    .snaplen = nr_file_u32(f, block + HEAD + 4),
                                    .dlt = dlt,
                                    .link = nr_link_layer(dlt)};
    f->options = length - FRAME - 8;
    return begin_pieces(f, length, HEAD + 8);
}

/* Reads a block's fixed fields, of which `body` bytes are there with the frame. */
static enum nr_read read_packet(struct nr_savefile *f, uint32_t type, const uint8_t *block,
                                uint32_t body, struct nr_frame *frame,
                                const struct nr_file_interface **interface) {
    const uint8_t *at = block + HEAD;
    const uint32_t fixed = type == BLOCK_SIMPLE ? 4 : 20;
    uint32_t id = 0, caplen;
    *frame = (struct nr_frame){.data = at + fixed};
    if (type == BLOCK_SIMPLE) {
        /* A simple block has no time, belongs to the first interface, and is cut to its snaplen. */
        const uint32_t snaplen = f->interface_count > 0 ? f->interfaces[0].snaplen : 0;
        frame->len = nr_file_u32(f, at);
        caplen = frame->len < body - fixed ? frame->len : body - fixed;
        caplen = snaplen != 0 && snaplen < caplen ? snaplen : caplen;
    } else {
        id = type == BLOCK_PACKET ? nr_file_u16(f, at) : nr_file_u32(f, at);
        caplen = nr_file_u32(f, at + 12);
        frame->len = nr_file_u32(f, at + 16);
    }
    if (id >= f->interface_count) {
        return nr_file_fail(f, NR_FILE_BAD_INTERFACE);
    }
    if (caplen > body - fixed) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    *interface = &f->interfaces[id];
    frame->caplen = caplen < NR_FILE_LONGEST ? caplen : NR_FILE_LONGEST;
    frame->ts = type == BLOCK_SIMPLE ? f->last_ts
                                     : nr_file_ns(*interface, (uint64_t)nr_file_u32(f, at + 4) << 32 |
                                                                  nr_file_u32(f, at + 8));
    return NR_READ_FRAME;
}

static enum nr_read lend_packet(struct nr_savefile *f, uint32_t type, uint32_t length,
                                struct nr_frame *frame,
                                const struct nr_file_interface **interface) {
    const uint32_t fixed = type == BLOCK_SIMPLE ? 4 : 20;
    enum nr_read result = NR_READ_OTHER;
    if (length < FRAME + fixed) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    const bool whole = length <= f->whole;
    const uint8_t *block = nr_file_need(f, whole ? length : HEAD + fixed, &result);
    if (block == NULL) {
        return result;
    }
    if (whole && nr_file_u32(f, block + length - TRAILER) != length) {
        return nr_file_fail(f, NR_FILE_BAD_BLOCK);
    }
    result = read_packet(f, type, block, length - FRAME, frame, interface);
    if (result != NR_READ_FRAME) {
        return result;
    }
    if (whole) {
        nr_file_pass(f, length);
    } else if (nr_file_need(f, HEAD + fixed + frame->caplen, &result) != NULL) {
        begin_pieces(f, length, length - TRAILER);
    }
    return result;
}

/* Reads on in a block whose first bytes were read. */
static enum nr_read read_on(struct nr_savefile *f) {
    enum nr_read result = NR_READ_OTHER;
    if (f->options > 0) {
        return read_option(f);
    }
    const uint8_t *trailer = nr_file_need(f, TRAILER, &result);
    if (trailer == NULL) {
        return result;
    }
    if (nr_file_u32(f, trailer) != f->block) {
        return nr_file_fail(f, NR_FILE_BAD_BLOCK);
    }
    f->block = 0;
    nr_file_pass(f, TRAILER);
    return NR_READ_OTHER;
}

enum nr_read nr_pcapng_read_block(struct nr_savefile *f, struct nr_frame *frame,
                                  const struct nr_file_interface **interface) {
    enum nr_read result = NR_READ_OTHER;
    if (NR_UNLIKELY(f->block != 0)) {
        return read_on(f);
    }
    const uint8_t *block = nr_file_need(f, FRAME, &result);
    if (block == NULL) {
        return result;
    }
    const bool is_section = nr_pcapng_is_section(block);
    if (is_section) {
        uint32_t magic;
        memcpy(&magic, block + HEAD, sizeof magic);
        f->swapped = magic != BYTE_ORDER_MAGIC;
        if (f->swapped && __builtin_bswap32(magic) != BYTE_ORDER_MAGIC) {
            return nr_file_fail(f, f->offset == 0 ? NR_FILE_NO_CAPTURE : NR_FILE_BAD_BLOCK);
        }
    }
    const uint32_t type = nr_file_u32(f, block), length = nr_file_u32(f, block + 4);
    const bool is_packet = type == BLOCK_PACKET || type == BLOCK_SIMPLE || type == BLOCK_ENHANCED;
    const bool is_read = is_packet || is_section || type == BLOCK_INTERFACE;
    if (length < FRAME || length % 4 != 0 || (is_read && length > NR_FILE_LONGEST_BLOCK)) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    return is_packet    ? lend_packet(f, type, length, frame, interface)
           : is_section ? begin_section(f, length)
           : is_read    ? add_interface(f, length)
                        : begin_pieces(f, length, length - TRAILER);
}
