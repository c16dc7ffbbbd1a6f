/* The pcapng format (draft-ietf-opsawg-pcapng): sections of either byte order, interfaces with a
 * link type and resolution each, and packets in enhanced, simple and the old packet blocks. */
#include "source/savefile.h"

#include <string.h>

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 2, BLOCK_SIMPLE = 3, BLOCK_ENHANCED = 6 };
enum { OPTION_END = 0, OPTION_TSRESOL = 9, OPTION_TSOFFSET = 14 };
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define FRAME 12u /* type and length before the body, length after it */
#define MAX_OPTIONS 64

bool nr_pcapng_is_section(const uint8_t *block) {
    static const uint8_t type[4] = {0x0a, 0x0d, 0x0d, 0x0a}; /* the same in either order */
    return memcmp(block, type, sizeof type) == 0;
}

/* -- options of an interface -- */

static bool set_resolution(struct nr_file_interface *i, uint8_t resolution) {
    const uint8_t power = resolution & 0x7f;
    i->binary = resolution & 0x80;
    i->shift = power;
    i->units_per_second = 1;
    if (i->binary ? power > 63 : power > 19) {
        return false;
    }
    if (i->binary) {
        i->units_per_second <<= power;
        return true;
    }
    for (uint8_t n = 0; n < power; n++) {
        i->units_per_second *= 10;
    }
    return true;
}

static bool read_options(const struct nr_savefile *f, struct nr_file_interface *i,
                         const uint8_t *at, const uint8_t *end) {
    for (int n = 0; n < MAX_OPTIONS && end - at >= 4; n++) {
        const uint16_t code = nr_file_u16(f, at), length = nr_file_u16(f, at + 2);
        const uint32_t padded = (length + 3u) & ~3u;
        at += 4;
        if (code == OPTION_END || padded > (size_t)(end - at)) {
            break;
        }
        if (code == OPTION_TSRESOL && length == 1 && !set_resolution(i, at[0])) {
            return false;
        }
        if (code == OPTION_TSOFFSET && length == 8) {
            uint64_t offset;
            memcpy(&offset, at, sizeof offset);
            i->offset_s = (int64_t)(f->swapped ? __builtin_bswap64(offset) : offset);
        }
        at += padded;
    }
    return true;
}

/* -- blocks: `body` bytes between the two lengths -- */

static enum nr_read begin_section(struct nr_savefile *f, const uint8_t *block, uint32_t body) {
    if (body < 16) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    if (nr_file_u16(f, block + 12) != 1) {
        return nr_file_fail(f, NR_FILE_BAD_VERSION);
    }
    f->interface_count = 0;
    return NR_READ_OTHER;
}

static enum nr_read add_interface(struct nr_savefile *f, const uint8_t *block, uint32_t body) {
    if (body < 8) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    if (f->interface_count == NR_MAX_INTERFACES) {
        return nr_file_fail(f, NR_FILE_TOO_MANY_INTERFACES);
    }
    struct nr_file_interface *i = &f->interfaces[f->interface_count];
    const uint16_t dlt = nr_file_u16(f, block + 8);
    *i = (struct nr_file_interface){.units_per_second = 1000000,
                                    .snaplen = nr_file_u32(f, block + 12),
                                    .dlt = dlt,
                                    .link = nr_link_layer(dlt)};
    if (!read_options(f, i, block + 16, block + 8 + body)) {
        return nr_file_fail(f, NR_FILE_BAD_BLOCK);
    }
    f->interface_count++;
    return NR_READ_OTHER;
}

/* Lends a packet whose fixed fields take `fixed` bytes. */
static enum nr_read lend_packet(struct nr_savefile *f, const uint8_t *block, uint32_t body,
                                uint32_t fixed, uint32_t id, uint32_t caplen,
                                struct nr_frame *frame,
                                const struct nr_file_interface **interface) {
    if (id >= f->interface_count) {
        return nr_file_fail(f, NR_FILE_BAD_INTERFACE);
    }
    if (caplen > body - fixed) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    *interface = &f->interfaces[id];
    frame->data = block + 8 + fixed;
    frame->caplen = caplen;
    return NR_READ_FRAME;
}

static enum nr_read read_packet(struct nr_savefile *f, uint32_t type, const uint8_t *block,
                                uint32_t body, struct nr_frame *frame,
                                const struct nr_file_interface **interface) {
    const uint8_t *at = block + 8;
    if (body < (type == BLOCK_SIMPLE ? 4u : 20u)) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    *frame = (struct nr_frame){0};
    if (type == BLOCK_SIMPLE) {
        /* A simple block has no time, belongs to the first interface, and is cut to its snaplen. */
        const uint32_t snaplen = f->interface_count > 0 ? f->interfaces[0].snaplen : 0;
        const uint32_t len = nr_file_u32(f, at);
        uint32_t caplen = len < body - 4 ? len : body - 4;
        caplen = snaplen != 0 && snaplen < caplen ? snaplen : caplen;
        frame->ts = f->last_ts;
        frame->len = len;
        return lend_packet(f, block, body, 4, 0, caplen, frame, interface);
    }
    const uint32_t id = type == BLOCK_PACKET ? nr_file_u16(f, at) : nr_file_u32(f, at);
    const uint64_t high = nr_file_u32(f, at + 4), low = nr_file_u32(f, at + 8);
    const enum nr_read result =
        lend_packet(f, block, body, 20, id, nr_file_u32(f, at + 12), frame, interface);
    if (result == NR_READ_FRAME) {
        frame->ts = nr_file_ns(*interface, high << 32 | low);
        frame->len = nr_file_u32(f, at + 16);
    }
    return result;
}

enum nr_read nr_pcapng_read_block(struct nr_savefile *f, struct nr_frame *frame,
                                  const struct nr_file_interface **interface) {
    enum nr_read result = NR_READ_OTHER;
    const uint8_t *block = nr_file_need(f, FRAME, &result);
    if (block == NULL) {
        return result;
    }
    const bool is_section = nr_pcapng_is_section(block);
    if (is_section) {
        uint32_t magic;
        memcpy(&magic, block + 8, sizeof magic);
        f->swapped = magic != BYTE_ORDER_MAGIC;
        if (f->swapped && __builtin_bswap32(magic) != BYTE_ORDER_MAGIC) {
            return nr_file_fail(f, f->offset == 0 ? NR_FILE_NO_CAPTURE : NR_FILE_BAD_BLOCK);
        }
    }
    const uint32_t type = nr_file_u32(f, block), length = nr_file_u32(f, block + 4);
    const bool is_packet = type == BLOCK_PACKET || type == BLOCK_SIMPLE || type == BLOCK_ENHANCED;
    if (length < FRAME || length % 4 != 0) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    if (!is_section && !is_packet && type != BLOCK_INTERFACE) {
        nr_file_pass(f, length);
        return NR_READ_OTHER;
    }
    if (length > NR_FILE_LONGEST + 4096) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    block = nr_file_need(f, length, &result);
    if (block == NULL) {
        return result;
    }
    if (nr_file_u32(f, block + length - 4) != length) {
        return nr_file_fail(f, NR_FILE_BAD_BLOCK);
    }
    result = is_section  ? begin_section(f, block, length - FRAME)
             : is_packet ? read_packet(f, type, block, length - FRAME, frame, interface)
                         : add_interface(f, block, length - FRAME);
    if (result != NR_READ_END) {
        nr_file_pass(f, length);
    }
    return result;
}
