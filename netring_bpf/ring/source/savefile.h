/* The capture-file source, shared by savefile.c (the source), savefile_read.c (its buffer), pcap.c
 * and pcapng.c (the formats). */
#ifndef NR_SOURCE_SAVEFILE_H
#define NR_SOURCE_SAVEFILE_H

#include <string.h>

#include "source/source.h"

#define NR_FILE_BUFFER (2u << 20)
#define NR_FILE_LONGEST (1u << 20)        /* bytes of a frame that are read */
#define NR_FILE_LONGEST_BLOCK (64u << 20) /* a longer one of a type that is read is invalid */
#define NR_MAX_INTERFACES 65536u
#define NR_MAX_FILE_FILTERS 256u

/* Units of time stamps. */
enum nr_file_units {
    NR_UNITS_DECIMAL, /* `units` of them are a second */
    NR_UNITS_BINARY,  /* 2^shift of them are a second */
    NR_UNITS_FINE     /* `units` of them are a nanosecond; 0: more than a number holds */
};

/* An interface of a file, with all that its frames need. */
struct nr_file_interface {
    uint64_t units;
    int64_t offset_s;
    uint32_t snaplen;
    uint16_t dlt;  /* LINKTYPE_ */
    uint16_t link; /* NR_LINK_ */
    uint8_t shift;
    uint8_t units_are; /* enum nr_file_units */
};

/* The filter of one link type. */
struct nr_file_filter {
    const nr_filter_program *program; /* NULL: no frame matches */
    const nr_filter_program *exact;   /* for the frames on which a quick program errs */
    uint16_t dlt;
    bool is_quick;
};

struct nr_savefile {
    struct nr_source source;
    uint8_t *buffer;
    size_t capacity;
    size_t start, end; /* bytes in the buffer that are not read yet */
    bool owns_buffer;
    bool at_end; /* the buffer holds the last bytes of the file */
    bool began;
    bool swapped; /* the file is in the other byte order */
    bool is_pcapng;
    bool has_ns;      /* pcap: nanoseconds */
    bool is_modified; /* pcap: records are eight bytes longer */
    uint64_t offset;  /* in the file, of `start` */
    uint64_t record;  /* the offset of the record that is read */
    /* of a block that is read in pieces */
    uint64_t skip;    /* bytes still to skip */
    uint32_t options; /* bytes of an interface's options that follow */
    uint32_t block;   /* its length, which stands at its end, too; 0: a record begins here */
    uint32_t whole;   /* a longer block is read in pieces */
    bool copied;      /* its bytes are copied: see nr_savefile_copy */
    bool open_frame;  /* it has a frame */
    uint64_t open;    /* bytes of it that were copied */
    uint64_t last_ts;
    nr_savefile_state state;
    bool is_filtered;
    bool asks_links;      /* asks at link types that are not read */
    struct nr_frame held; /* the frame that waits for the filter of its link type, `held_dlt` */
    size_t held_from;     /* where its record begins in the buffer, for nr_savefile_copy */
    uint16_t held_dlt;
    bool asks_exact;
    uint32_t interface_count, interface_room;
    uint32_t filter_count;
    uint32_t filter_used; /* the latest one: most files have one link type */
    struct nr_file_interface *interfaces;
    struct nr_file_filter filters[NR_MAX_FILE_FILTERS];
};

/* The result of one step through a file. */
enum nr_read {
    NR_READ_FRAME,   /* *frame is filled */
    NR_READ_OTHER,   /* something else was read */
    NR_READ_STARVED, /* more bytes must be read first */
    NR_READ_ASKS,    /* a frame is held until its link type has a filter */
    NR_READ_END,     /* the end, or a problem: the state tells */
};

/* Takes one step through the file. Counts a frame, and asks the filter of its link type, which goes
 * to *dlt: *keep is the number of bytes that the filter keeps, 0 if it rejects the frame. */
enum nr_read nr_file_step(struct nr_savefile *f, struct nr_frame *frame, uint16_t *dlt,
                          uint32_t *keep);
/* Returns the capture file, or NULL for another kind of source. */
struct nr_savefile *nr_file_of(struct nr_source *source);
/* Returns a new interface at the end of the list, or NULL if there cannot be one: the state tells. */
struct nr_file_interface *nr_file_add_interface(struct nr_savefile *f);
/* Reads more bytes after those in the buffer. No frame may be lent: the bytes move. */
enum nr_read nr_file_fill(struct nr_savefile *f);
/* Returns the next n bytes, or NULL if they are not in the buffer; *result tells why. */
const uint8_t *nr_file_need(struct nr_savefile *f, size_t n, enum nr_read *result);
void nr_file_pass(struct nr_savefile *f, uint64_t n);
enum nr_read nr_file_fail(struct nr_savefile *f, uint32_t problem);
/* Returns the time in ns. Times before 1970 and after 2262 become those. */
uint64_t nr_file_ns(const struct nr_file_interface *interface, uint64_t units);

/* Read numbers of the file into the machine's byte order. */
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
/* Returns true if the block is a section header, with which every pcapng file begins. */
bool nr_pcapng_is_section(const uint8_t *block);
enum nr_read nr_pcapng_read_block(struct nr_savefile *f, struct nr_frame *frame,
                                  const struct nr_file_interface **interface);

#endif
