/* What the files of the capture-file source share: savefile.c (the source), pcap.c and pcapng.c
 * (the formats), and savefile_read.c (the buffer). */
#ifndef NR_SOURCE_SAVEFILE_H
#define NR_SOURCE_SAVEFILE_H

#include <string.h>

#include "source/source.h"

#define NR_FILE_BUFFER (2u << 20)
#define NR_FILE_LONGEST (1u << 20) /* a record beyond this is nonsense */
#define NR_MAX_INTERFACES 1024u
#define NR_MAX_FILE_FILTERS 24u

/* One interface of a file, as its frames are to be read. */
struct nr_file_interface {
    uint64_t units_per_second; /* of the time stamps; a power of two where `binary` */
    int64_t offset_s;
    uint32_t snaplen;
    uint16_t dlt;  /* LINKTYPE_ */
    uint16_t link; /* NR_LINK_ */
    uint8_t shift; /* log2(units_per_second) where `binary` */
    bool binary;
};

struct nr_file_filter {
    nr_bpf_insn *insns;
    uint16_t dlt;
};

struct nr_savefile {
    struct nr_source source;
    uint8_t *buffer;
    size_t capacity;
    size_t start, end; /* what is in the buffer and not read yet */
    bool owns_buffer;
    bool at_end; /* nothing comes after what is in the buffer */
    bool began;
    bool swapped; /* the other byte order */
    bool is_pcapng;
    bool has_ns;      /* pcap: nanoseconds */
    bool is_modified; /* pcap: records with eight bytes more */
    uint64_t offset;  /* in the file, of `start` */
    uint64_t skip;    /* bytes still to be passed over */
    uint64_t last_ts;
    nr_savefile_state state;
    uint32_t interface_count;
    uint32_t filter_count;
    struct nr_file_interface interfaces[NR_MAX_INTERFACES];
    struct nr_file_filter filters[NR_MAX_FILE_FILTERS];
};

/* The result of one step through a file. */
enum nr_read {
    NR_READ_FRAME,   /* *frame is filled */
    NR_READ_OTHER,   /* something else was read */
    NR_READ_STARVED, /* more has to be read first */
    NR_READ_END,     /* the end, good or bad: the state says */
};

/* Reads more behind what is in the buffer, while nothing is lent. */
enum nr_read nr_file_fill(struct nr_savefile *f);
/* The next n bytes; NULL: they are not in the buffer, and *result says why. */
const uint8_t *nr_file_need(struct nr_savefile *f, size_t n, enum nr_read *result);
void nr_file_pass(struct nr_savefile *f, uint64_t n);
enum nr_read nr_file_fail(struct nr_savefile *f, uint32_t problem);
uint64_t nr_file_ns(const struct nr_file_interface *interface, uint64_t units);
uint16_t nr_file_link(uint16_t dlt);

/* Numbers of the file, in the machine's byte order. */
static inline uint16_t nr_file_u16(const struct nr_savefile *f, const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return f->swapped ? __builtin_bswap16(value) : value;
}
static inline uint32_t nr_file_u32(const struct nr_savefile *f, const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return f->swapped ? __builtin_bswap32(value) : value;
}

enum nr_read nr_pcap_read_header(struct nr_savefile *f);
enum nr_read nr_pcap_read_record(struct nr_savefile *f, struct nr_frame *frame,
                                 const struct nr_file_interface **interface);
/* A file of pcapng begins with a section header, which is a block like others. */
bool nr_pcapng_is_section(const uint8_t *block);
enum nr_read nr_pcapng_read_block(struct nr_savefile *f, struct nr_frame *frame,
                                  const struct nr_file_interface **interface);

#endif
