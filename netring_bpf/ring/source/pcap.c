/* The pcap format (draft-ietf-opsawg-pcap): microseconds and nanoseconds, either byte order, and
 * the variant of Kuznetsov's patched libpcap, whose records are eight bytes longer. */
#include "source/savefile.h"

#include <string.h>

enum { HEADER = 24, RECORD = 16, RECORD_MODIFIED = 24 };
#define MAGIC_US 0xa1b2c3d4u
#define MAGIC_NS 0xa1b23c4du
#define MAGIC_MODIFIED 0xa1b2cd34u

static bool recognise_magic(struct nr_savefile *f, uint32_t magic) {
    f->has_ns = magic == MAGIC_NS;
    f->is_modified = magic == MAGIC_MODIFIED;
    return magic == MAGIC_US || f->has_ns || f->is_modified;
}

enum nr_read nr_pcap_read_header(struct nr_savefile *f) {
    enum nr_read result = NR_READ_OTHER;
    uint32_t magic;
    const uint8_t *header = nr_file_need(f, 4, &result);
    if (header == NULL) {
        return result;
    }
    memcpy(&magic, header, sizeof magic);
    if (!recognise_magic(f, magic)) {
        f->swapped = true;
        if (!recognise_magic(f, __builtin_bswap32(magic))) {
            return nr_file_fail(f, NR_FILE_NO_CAPTURE);
        }
    }
    header = nr_file_need(f, HEADER, &result);
    if (header == NULL) {
        f->swapped = false;
        return result;
    }
    if (nr_file_u16(f, header + 4) != 2) {
        return nr_file_fail(f, NR_FILE_BAD_VERSION);
    }
    const uint16_t dlt = (uint16_t)nr_file_u32(f, header + 20);
    struct nr_file_interface *i = nr_file_add_interface(f);
    if (i == NULL) {
        return NR_READ_END;
    }
    *i = (struct nr_file_interface){
        .snaplen = nr_file_u32(f, header + 16), .dlt = dlt, .link = nr_link_layer(dlt)};
    nr_file_pass(f, HEADER);
    return NR_READ_OTHER;
}

enum nr_read nr_pcap_read_record(struct nr_savefile *f, struct nr_frame *frame,
                                 const struct nr_file_interface **interface) {
    enum nr_read result = NR_READ_OTHER;
    const size_t size = f->is_modified ? RECORD_MODIFIED : RECORD;
    const uint8_t *record = nr_file_need(f, size, &result);
    if (record == NULL) {
        return result;
    }
    const uint32_t caplen = nr_file_u32(f, record + 8);
    if (caplen > NR_FILE_LONGEST) {
        return nr_file_fail(f, NR_FILE_BAD_LENGTH);
    }
    record = nr_file_need(f, size + caplen, &result);
    if (record == NULL) {
        return result;
    }
    const uint64_t fraction = nr_file_u32(f, record + 4);
    *interface = &f->interfaces[0];
    *frame = (struct nr_frame){
        .data = record + size,
        .ts = nr_file_u32(f, record) * 1000000000ull + (f->has_ns ? fraction : fraction * 1000),
        .caplen = caplen,
        .len = nr_file_u32(f, record + 12),
    };
    nr_file_pass(f, size + caplen);
    return NR_READ_FRAME;
}
