/* Reads what flows say inside: puts the bytes of each side in order, calls the parsers, and pairs
 * questions with answers. The flow table owns it, and hears of what was read.
 *
 * All memory is bounded and mapped by the owner or at the beginning: a reading for each flow whose
 * payload is looked at, cells for records, and one pool of chunks for bytes that wait. */
#ifndef NR_APP_DRIVER_H
#define NR_APP_DRIVER_H

#include "app/backlog.h"
#include "app/cells.h"
#include "app/parser.h"

#define NR_ASKS_MAX 8u          /* questions of a flow that wait for their answers */
#define NR_EXCHANGES_MAX 1000u  /* events of one flow */
#define NR_EXCHANGE_RATE 10000u /* events of all flows in a second of packet time */

/* One side of a flow that is read. */
struct nr_app_side {
    uint64_t skip;    /* bytes from `base` on that belong to a message which was read; QUIC: bytes
                         of the handshake before the backlog */
    uint32_t base;    /* sequence number of the first byte that no message had */
    uint32_t needs;   /* bytes to have before the parser is asked again */
    uint8_t parser;   /* NR_READ_ANY, NR_READ_NOTHING, or 1 + the row in the table of parsers */
    uint8_t attempts; /* times that the parser asked for more of this message */
    uint8_t tries;    /* packets that led nowhere */
    bool is_chunks;   /* a body in chunks */
    bool is_lost;     /* bytes are missing: a message may begin with any segment */
    bool had_gap;     /* whole messages may be missing too */
    bool begins;      /* `base` is where the next segment begins */
    struct nr_backlog backlog;
};
enum { NR_READ_ANY = 0, NR_READ_NOTHING = 255 };

struct nr_reading {
    uint32_t next_free;
    uint32_t ask_sides; /* a bit each: the side that asked */
    uint32_t asks;
    uint32_t note;    /* of the last message */
    uint8_t carrier;  /* NR_APP_* that handed over */
    uint8_t protocol; /* the last that was told */
    bool is_renewed;  /* QUIC: the questions that wait are of an earlier connection */
    struct nr_quic quic;
    uint32_t ask[NR_ASKS_MAX]; /* records in the cells, the oldest first */
    uint32_t ask_pair[NR_ASKS_MAX];
    struct nr_app_side side[2];
};

/* The payload of a packet. */
struct nr_app_packet {
    const uint8_t *at;
    uint32_t captured; /* of `length` bytes */
    uint32_t length;
    uint32_t sequence;  /* TCP: of the first byte */
    uint32_t delivered; /* TCP: all bytes of this side before it were seen, or will not be */
    bool given_up;      /* TCP: this side's holes will not be filled */
    bool from_orig;
    uint8_t side;
    uint16_t src_p, dst_p;
    bool is_datagram;
    uint32_t flow; /* for the listener */
    uint64_t ts;
};

/* Hears of what was read in a flow. */
struct nr_app_listener {
    void *owner;
    void (*label)(void *owner, uint32_t flow, uint8_t protocol);
    void (*exchange)(void *owner, uint32_t flow, uint8_t protocol, const struct nr_record *record);
};

/* What a client said that asked for an address; the answer comes in another flow. */
#define NR_CLIENTS 32u
struct nr_client {
    uint64_t ts;
    uint32_t pair;
    uint8_t protocol; /* 0: free */
    struct nr_record record;
};

struct nr_app {
    struct nr_reading *readings; /* the owner maps them */
    uint32_t reading_fresh, reading_free, readings_used;
    struct nr_cells cells;
    struct nr_pool pool;
    struct nr_crypto *crypto; /* NULL: there is no libcrypto, or nobody needs it */
    bool only_labels;
    struct nr_app_listener listener;
    uint64_t missed[NR_MISSED_COUNT];
    uint64_t exchanges;
    struct nr_client clients[NR_CLIENTS]; /* by their pairs; a later one takes the place */
    /* For one packet. */
    struct nr_message message;
    struct nr_record told;
    uint8_t asked[NR_RECORD_SIZE];
    uint32_t asked_record; /* whose bytes those are, as long as it waits; 0: nobody's */
    uint8_t scratch[NR_BACKLOG_SIZE];
    uint8_t opened[NR_BACKLOG_SIZE]; /* what a cipher or a record layer has hidden */
};

/* Returns NULL if memory runs out. */
struct nr_app *nr_app_create(uint64_t pool_size, bool only_labels, struct nr_app_listener listener);
void nr_app_destroy(struct nr_app *app);

/* Readings have numbers from 1 on. Nothing was read in a new one. */
uint32_t nr_app_take_reading(struct nr_app *app);
void nr_app_free_reading(struct nr_app *app, uint32_t reading);
static inline struct nr_reading *nr_app_reading(const struct nr_app *app, uint32_t number) {
    return &app->readings[number - 1];
}

/* Returns whether nothing of the reading need be kept: no more is read, or none has begun. */
bool nr_reading_is_bare(const struct nr_reading *reading);

/* Reads a segment of TCP: `reading->side[].base` of a side that was not read yet is the number of
 * its stream's first byte. */
void nr_app_segment(struct nr_app *app, struct nr_reading *reading,
                    const struct nr_app_packet *packet);
/* Reads a datagram. Returns whether it was recognised. */
bool nr_app_datagram(struct nr_app *app, struct nr_reading *reading,
                     const struct nr_app_packet *packet);
/* Reads what is left at the end of a flow, tells of questions without answers, and gives back all
 * that the reading holds. The packet has no payload. */
void nr_app_end(struct nr_app *app, struct nr_reading *reading, struct nr_app_packet *packet);
/* Exchanges the sides. */
void nr_app_flip(struct nr_reading *reading);

/* -- for the files of the driver -- */

/* pairing.c: takes a message that a side has sent. */
void nr_app_take(struct nr_app *app, struct nr_reading *reading, const struct nr_app_packet *packet,
                 const struct nr_message *message);
/* Tells of all questions without answers that `sides` asked, a bit each. */
void nr_app_give_up_asks(struct nr_app *app, struct nr_reading *reading,
                         const struct nr_app_packet *packet, uint32_t sides);
/* Copies the oldest question without an answer to app->asked. Returns its size. */
uint32_t nr_app_oldest_ask(struct nr_app *app, const struct nr_reading *reading);
/* No more of a side is read. */
void nr_app_stop(struct nr_app *app, struct nr_reading *reading, const struct nr_app_packet *packet,
                 int side);
/* Tells what a flow is; stops the reading if only that is wanted. */
void nr_app_label(struct nr_app *app, struct nr_reading *reading,
                  const struct nr_app_packet *packet, uint8_t protocol);

/* driver.c: why bytes that a backlog did not take are missed: NR_MISSED_*. */
uint32_t nr_app_reason(int put);

/* hellos.c: hellos in pieces, of QUIC and DTLS. They return as nr_app_parser; what they read is
 * taken already. `row`: of the reader itself, as in nr_app_side.parser. */
int nr_app_quic(struct nr_app *app, struct nr_reading *reading, const struct nr_app_packet *packet,
                uint8_t row);
int nr_app_dtls(struct nr_app *app, struct nr_reading *reading, const struct nr_app_packet *packet,
                uint8_t row);
/* Reads the beginning of a hello of which no more will come. */
void nr_app_end_hello(struct nr_app *app, struct nr_reading *reading,
                      const struct nr_app_packet *packet);
/* classify.c: the table of parsers. */
struct nr_app_row {
    nr_app_parser *parse;
    int (*read)(struct nr_app *app, struct nr_reading *reading, const struct nr_app_packet *packet,
                uint8_t row); /* in place of parse */
    bool resyncs;             /* recognises the beginning of a message behind a hole */
};
extern const struct nr_app_row nr_stream_rows[], nr_datagram_rows[];
extern const uint32_t nr_stream_row_count, nr_datagram_row_count;

static inline void nr_message_clear(struct nr_message *message) {
    memset(message, 0, offsetof(struct nr_message, record));
    nr_record_clear(&message->record);
}

#endif
