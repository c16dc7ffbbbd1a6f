/* The driver: puts the bytes of each side in order, and asks the parsers. pairing.c takes what they
 * read, hellos.c puts hellos together.
 *
 * Most messages lie whole in one segment, and are read where they are. The bytes of others go to
 * the side's backlog, until there are enough; they are then put together and read. A message may
 * end far beyond the bytes at hand, as the body of an answer does: `base` is then ahead, and
 * segments before it are passed over. */
#include "app/driver.h"

#include <stdlib.h>

#define MESSAGES_AT_ONCE 256u   /* of one segment */
#define FREE_ATTEMPTS 32u       /* after those a parser is not asked again for a few bytes */
#define FAR_AWAY (1 << 20)      /* a segment this far ahead is not of this stream */
#define SKIP_AT_ONCE (1u << 30) /* sequence numbers wrap */
#define TRIES_MAX 64u

/* -- life -- */

struct nr_app *nr_app_create(uint64_t pool_size, bool only_labels,
                             struct nr_app_listener listener) {
    struct nr_app *app = calloc(1, sizeof *app);
    if (app == NULL || !nr_pool_create(&app->pool, pool_size)) {
        free(app);
        return NULL;
    }
    app->only_labels = only_labels;
    app->listener = listener;
    if (!only_labels) {
        app->crypto = nr_crypto_open();
    }
    return app;
}

void nr_app_destroy(struct nr_app *app) {
    if (app == NULL) {
        return;
    }
    if (app->crypto != NULL) {
        nr_crypto_close(app->crypto);
    }
    nr_pool_destroy(&app->pool);
    free(app);
}

/* Clears what is looked at before it is written. */
static void clear_reading(struct nr_reading *r) {
    memset(r, 0, offsetof(struct nr_reading, ask));
    for (int side = 0; side < 2; side++) {
        memset(&r->side[side], 0, offsetof(struct nr_app_side, backlog.chunk));
    }
}

uint32_t nr_app_take_reading(struct nr_app *app) {
    uint32_t number = app->reading_free;
    app->readings_used++;
    if (number != 0) {
        app->reading_free = nr_app_reading(app, number)->next_free;
    } else {
        number = ++app->reading_fresh;
    }
    clear_reading(nr_app_reading(app, number));
    return number;
}

void nr_app_free_reading(struct nr_app *app, uint32_t number) {
    nr_app_reading(app, number)->next_free = app->reading_free;
    app->reading_free = number;
    app->readings_used--;
}

static bool is_bare(const struct nr_app_side *s) {
    return s->backlog.chunks == 0 &&
           (s->parser == NR_READ_NOTHING || (s->parser == NR_READ_ANY && !s->begins));
}

bool nr_reading_is_bare(const struct nr_reading *r) {
    const bool is_over =
        r->side[0].parser == NR_READ_NOTHING && r->side[1].parser == NR_READ_NOTHING;
    return r->asks == 0 && is_bare(&r->side[0]) && is_bare(&r->side[1]) &&
           (is_over || (r->note == 0 && r->carrier == NR_APP_NONE));
}

void nr_app_flip(struct nr_reading *r) {
    const struct nr_app_side was = r->side[0];
    r->side[0] = r->side[1];
    r->side[1] = was;
    r->ask_sides = ~r->ask_sides;
}

/* -- one message -- */

static const struct nr_app_row *row_of(const struct nr_app_side *s) {
    return &nr_stream_rows[s->parser - 1];
}

static void adopt_row(struct nr_reading *r, int side, uint32_t row) {
    for (int n = 0; n < 2; n++) {
        if (r->side[n].parser == NR_READ_ANY) {
            r->side[n].parser = (uint8_t)(1 + row);
        }
    }
    r->side[side].attempts = 0;
}

/* Asks each parser. The first that knows the bytes reads all that follows, on both sides: what one
 * side speaks is what the other answers in. */
static int parse_any(struct nr_app *app, struct nr_reading *r, int side,
                     const struct nr_app_bytes *bytes) {
    struct nr_message *m = &app->message;
    int verdict = NR_NOT_THIS;
    uint32_t needs = UINT32_MAX;
    for (uint32_t n = 0; n < nr_stream_row_count; n++) {
        nr_message_clear(m);
        const int said = nr_stream_rows[n].parse(bytes, m);
        if (said == NR_MESSAGE || (said == NR_MORE && m->protocol != NR_APP_NONE)) {
            adopt_row(r, side, n);
            return said;
        }
        if (said == NR_MORE) {
            verdict = NR_MORE;
            needs = m->needs < needs ? m->needs : needs;
        }
    }
    nr_message_clear(m);
    m->needs = needs;
    return verdict;
}

/* Asks the side's parser for the message that begins here; it is in app->message. */
NR_INLINE int parse(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                    const uint8_t *at, uint32_t length, bool is_all) {
    const struct nr_app_side *s = &r->side[p->side];
    const uint32_t asked_size = nr_app_oldest_ask(app, r);
    const struct nr_app_bytes bytes = {
        .at = at,
        .length = length < NR_BACKLOG_SIZE ? length : NR_BACKLOG_SIZE,
        .is_all = is_all,
        .src_p = p->src_p,
        .dst_p = p->dst_p,
        .asked = asked_size > 0 ? app->asked : NULL,
        .asked_size = asked_size,
        .from_orig = p->from_orig,
        .crypto = app->crypto,
        .note = r->note,
    };
    struct nr_message *m = &app->message;
    int verdict;
    if (s->parser == NR_READ_ANY) {
        verdict = parse_any(app, r, p->side, &bytes);
    } else {
        nr_message_clear(m);
        verdict = (s->is_chunks ? nr_http_chunk : row_of(s)->parse)(&bytes, m);
    }
    if (verdict == NR_MESSAGE && m->used == 0) {
        verdict = NR_NOT_THIS; /* no parser does that */
    }
    return verdict;
}

/* Notes that the parser wants more, and when to ask it again. */
static void note_more(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                      uint32_t length) {
    struct nr_app_side *s = &r->side[p->side];
    const uint32_t needs = app->message.needs;
    s->attempts += s->attempts < UINT8_MAX;
    s->needs = needs > length ? needs : length + 1;
    if (s->attempts > FREE_ATTEMPTS && s->needs < length + length / 8) {
        s->needs = length + length / 8;
    }
    s->needs = s->needs < NR_BACKLOG_SIZE ? s->needs : NR_BACKLOG_SIZE;
    nr_app_label(app, r, p, app->message.protocol);
}

static bool is_cut(const struct nr_message *m) {
    return m->record.is_cut ||
           nr_record_value(m->record.bytes, m->record.size, NR_FIELD_CUT, 0) != 0;
}

/* Reads the messages in the bytes at hand. Returns how many bytes are done with; those of a message
 * may lie beyond. */
NR_INLINE uint64_t read_messages(struct nr_app *app, struct nr_reading *r,
                                 const struct nr_app_packet *p, const uint8_t *at,
                                 uint32_t length) {
    struct nr_app_side *s = &r->side[p->side];
    uint64_t done = 0;
    for (uint32_t n = 0; n < MESSAGES_AT_ONCE && done < length; n++) {
        const uint32_t left = length - (uint32_t)done;
        if (s->parser == NR_READ_NOTHING || left < s->needs) {
            break;
        }
        const int verdict = parse(app, r, p, at + done, left, false);
        if (verdict == NR_MORE) {
            note_more(app, r, p, left);
            break;
        }
        if (verdict == NR_NOT_THIS) {
            nr_app_stop(app, r, p, p->side);
            break;
        }
        s->needs = 0;
        s->attempts = s->tries = 0;
        done += app->message.used;
        app->missed[NR_MISSED_TOO_LONG] += left >= NR_BACKLOG_SIZE && is_cut(&app->message);
        nr_app_take(app, r, p, &app->message);
        if (app->message.hands_over && nr_backlog_ready(&r->side[p->side ^ 1].backlog) > 0) {
            break; /* read_handed_over() goes on */
        }
    }
    return done;
}

/* -- what cannot be read -- */

/* Returns whether the side's parser finds a message behind a hole. */
static bool resyncs(const struct nr_app_side *s) {
    return s->parser != NR_READ_ANY && s->parser != NR_READ_NOTHING && row_of(s)->resyncs;
}

/* Reads the beginning of a message whose end will not come, as far as its parser can. */
static void read_beginning(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                           const uint8_t *at, uint32_t length) {
    const struct nr_app_side *s = &r->side[p->side];
    struct nr_message *m = &app->message;
    if (length == 0 || s->parser == NR_READ_NOTHING || s->is_chunks) {
        return;
    }
    if (parse(app, r, p, at, length, true) == NR_MESSAGE) {
        m->record.is_cut = true;
        m->next = resyncs(s) ? NR_PARSE_SAME : m->next; /* lose() says how it goes on */
        nr_app_take(app, r, p, m);
    }
}

/* The same of what is in the backlog. */
static void read_backlog_beginning(struct nr_app *app, struct nr_reading *r,
                                   const struct nr_app_packet *p) {
    const struct nr_backlog *b = &r->side[p->side].backlog;
    if (nr_backlog_ready(b) > 0) {
        read_beginning(app, r, p, app->scratch, nr_backlog_copy(&app->pool, b, app->scratch));
    }
}

/* Bytes of the side are missing. Its parser may find the next message, or nothing more is read. */
static void lose(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    struct nr_app_side *s = &r->side[p->side];
    if (s->parser == NR_READ_NOTHING) {
        return;
    }
    nr_app_give_up_asks(app, r, p, 1u << (p->side ^ 1)); /* which were answered is not known */
    if (!resyncs(s)) {
        nr_app_stop(app, r, p, p->side);
        return;
    }
    nr_backlog_clear(&app->pool, &s->backlog);
    s->needs = 0;
    s->skip = 0;
    s->attempts = s->tries = 0;
    s->is_chunks = false;
    s->is_lost = true;
}

uint32_t nr_app_reason(int put) {
    return put == NR_BACKLOG_FULL       ? NR_MISSED_POOL_FULL
           : put == NR_BACKLOG_TOO_LONG ? NR_MISSED_TOO_LONG
                                        : NR_MISSED_GAP;
}

/* -- segments -- */

static void tell_time(struct nr_app *app, const struct nr_app_packet *p) {
    if (app->crypto != NULL) {
        app->crypto->now_ns = p->ts;
    }
}

/* The part of a segment that is not read yet. */
struct rest {
    const uint8_t *at;
    uint32_t captured, length;
    uint32_t offset; /* from the side's `base` */
};

static void skip_front(struct rest *rest, uint32_t n) {
    const uint32_t captured = n < rest->captured ? n : rest->captured;
    rest->at += captured;
    rest->captured -= captured;
    rest->length -= n;
}

static void advance(struct nr_app_side *s, uint64_t used) {
    const uint32_t step = used < SKIP_AT_ONCE ? (uint32_t)used : SKIP_AT_ONCE;
    s->base += step;
    s->skip = used - step;
}

static uint32_t chunks_allowed(const struct nr_reading *r, int side) {
    return NR_BACKLOG_CHUNKS - r->side[side ^ 1].backlog.chunks;
}

static int hold(struct nr_app *app, struct nr_reading *r, int side, uint32_t offset,
                const uint8_t *at, uint32_t length) {
    return nr_backlog_put(&app->pool, &r->side[side].backlog, chunks_allowed(r, side), offset, at,
                          length);
}

/* Passes over bytes that belong to a message which was read. Returns false if nothing is left. */
static bool pass_over(struct nr_app_side *s, struct rest *rest) {
    if (s->skip == 0) {
        return rest->length > 0;
    }
    const uint64_t reach = (uint64_t)rest->offset + rest->length;
    const uint32_t n = (uint32_t)(s->skip < reach ? s->skip : reach);
    s->skip -= n;
    s->base += n;
    if (n > rest->offset) {
        skip_front(rest, n - rest->offset);
        rest->offset = 0;
    } else {
        rest->offset -= n;
    }
    return rest->length > 0;
}

/* Reads a segment that follows directly, where it lies. */
static void read_in_place(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                          const struct rest *rest) {
    struct nr_app_side *s = &r->side[p->side];
    const uint64_t done = read_messages(app, r, p, rest->at, rest->captured);
    if (s->parser == NR_READ_NOTHING) {
        return;
    }
    if (rest->captured < rest->length && done < rest->length) {
        app->missed[NR_MISSED_CUT]++;
        if (done < rest->captured) {
            read_beginning(app, r, p, rest->at + done, rest->captured - (uint32_t)done);
        }
        s->base += rest->length;
        lose(app, r, p);
        return;
    }
    advance(s, done);
    if (done >= rest->captured) {
        return;
    }
    const uint8_t *at = rest->at + done;
    const uint32_t left = rest->captured - (uint32_t)done;
    const int put =
        left < NR_BACKLOG_SIZE ? hold(app, r, p->side, 0, at, left) : NR_BACKLOG_TOO_LONG;
    if (put != NR_BACKLOG_PUT) {
        app->missed[nr_app_reason(put)]++;
        read_beginning(app, r, p, at, left);
        s->base += left;
        lose(app, r, p);
    }
}

/* Reads what the backlog has in order. */
static void read_backlog(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    struct nr_app_side *s = &r->side[p->side];
    const uint32_t ready = nr_backlog_ready(&s->backlog);
    if (ready == 0 || ready < s->needs) {
        return;
    }
    nr_backlog_copy(&app->pool, &s->backlog, app->scratch);
    const uint64_t done = read_messages(app, r, p, app->scratch, ready);
    if (s->parser != NR_READ_NOTHING) {
        nr_backlog_drop(&app->pool, &s->backlog, done);
        advance(s, done);
    }
}

/* Reads what waited on either side for the hand-over by a message of this side; the other side's
 * bytes came first. */
static void read_handed_over(struct nr_app *app, struct nr_reading *r,
                             const struct nr_app_packet *p) {
    struct nr_app_packet other = *p;
    other.side ^= 1;
    other.from_orig = !p->from_orig;
    other.src_p = p->dst_p;
    other.dst_p = p->src_p;
    read_backlog(app, r, &other);
    read_backlog(app, r, p);
}

/* The segment was cut, or the backlog cannot take it: its message is given up. */
static void give_up_segment(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                            uint32_t reason) {
    app->missed[reason]++;
    read_backlog_beginning(app, r, p);
    r->side[p->side].base = p->sequence + p->length;
    lose(app, r, p);
}

/* Reads a segment behind others that wait, or behind a hole. */
static void read_behind(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                        struct rest *rest) {
    struct nr_app_side *s = &r->side[p->side];
    uint32_t next = s->base + rest->offset;
    while (rest->captured > 0) {
        const int32_t offset = (int32_t)(next - s->base);
        if (offset < 0 || s->skip > 0) { /* belongs to a message that was read */
            const uint32_t old = offset < 0 ? 0 - (uint32_t)offset : rest->captured;
            const uint32_t n = old < rest->captured ? old : rest->captured;
            skip_front(rest, n);
            next += n;
            continue;
        }
        const uint32_t room = nr_backlog_room(&s->backlog, (uint32_t)offset);
        const uint32_t fits = rest->captured < room ? rest->captured : room;
        const int put = fits > 0 ? hold(app, r, p->side, (uint32_t)offset, rest->at, fits)
                                 : NR_BACKLOG_TOO_LONG;
        if (put != NR_BACKLOG_PUT) {
            give_up_segment(app, r, p, nr_app_reason(put));
            return;
        }
        skip_front(rest, fits);
        next += fits;
        read_backlog(app, r, p);
        if (s->parser == NR_READ_NOTHING) {
            return;
        }
    }
    if (rest->length > 0 && (int32_t)(p->sequence + p->length - s->base) > 0 && s->skip == 0) {
        give_up_segment(app, r, p, NR_MISSED_CUT);
    }
}

/* Looks for a message that begins with the segment, after bytes were missing. */
static bool find_beginning(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                           struct rest *rest) {
    struct nr_app_side *s = &r->side[p->side];
    s->base += rest->offset;
    rest->offset = 0;
    const int verdict =
        rest->captured > 0 ? parse(app, r, p, rest->at, rest->captured, false) : NR_NOT_THIS;
    s->is_lost =
        verdict == NR_NOT_THIS || (verdict == NR_MORE && app->message.protocol == NR_APP_NONE);
    if (!s->is_lost) {
        if (s->had_gap) { /* the answers to earlier questions may have come before this one */
            nr_app_give_up_asks(app, r, p, 1u << p->side);
            s->had_gap = false;
        }
        return true;
    }
    s->base += rest->length;
    if (++s->tries > TRIES_MAX) {
        nr_app_stop(app, r, p, p->side);
    }
    return false;
}

static bool is_given_up(const struct nr_app_packet *p, const struct nr_app_side *s) {
    const uint32_t hole = s->base + nr_backlog_ready(&s->backlog);
    return p->given_up || (int32_t)(p->delivered - hole) > 0;
}

void nr_app_segment(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    struct nr_app_side *s = &r->side[p->side];
    struct rest rest = {p->at, p->captured, p->length, 0};
    tell_time(app, p);
    if (s->begins) {
        s->base = p->sequence;
        s->begins = false;
    }
    const int32_t ahead = (int32_t)(p->sequence - s->base);
    if (ahead < 0) {
        if (0 - (uint32_t)ahead >= rest.length) {
            return;
        }
        skip_front(&rest, 0 - (uint32_t)ahead);
    } else {
        rest.offset = (uint32_t)ahead;
    }
    if (!pass_over(s, &rest)) {
        return;
    }
    if (rest.offset > FAR_AWAY && !is_given_up(p, s)) {
        if (++s->tries > TRIES_MAX) {
            app->missed[NR_MISSED_GAP]++;
            lose(app, r, p);
            s->had_gap = s->is_lost;
        }
        return;
    }
    if (rest.offset > nr_backlog_ready(&s->backlog) && !s->is_lost && is_given_up(p, s)) {
        app->missed[NR_MISSED_GAP]++;
        read_backlog_beginning(app, r, p);
        lose(app, r, p);
        s->had_gap = s->is_lost;
    }
    if (s->parser == NR_READ_NOTHING || (s->is_lost && !find_beginning(app, r, p, &rest))) {
        return;
    }
    app->message.hands_over = false;
    if (rest.offset == 0 && s->backlog.count == 0) {
        read_in_place(app, r, p, &rest);
    } else {
        read_behind(app, r, p, &rest);
    }
    if (app->message.hands_over) {
        read_handed_over(app, r, p);
    }
}

/* -- datagrams -- */

static struct nr_app_bytes bytes_of(struct nr_app *app, const struct nr_reading *r,
                                    const struct nr_app_packet *p) {
    const uint32_t asked_size = nr_app_oldest_ask(app, r);
    return (struct nr_app_bytes){
        .at = p->at,
        .length = p->captured,
        .is_datagram = true,
        .is_all = true,
        .is_cut =
            p->captured<p->length, .src_p = p->src_p, .dst_p = p->dst_p, .asked = asked_size> 0
                ? app->asked
                : NULL,
        .asked_size = asked_size,
        .from_orig = p->from_orig,
        .note = r->note,
    };
}

static int parse_datagram(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                          const struct nr_app_bytes *bytes, nr_app_parser *parser) {
    nr_message_clear(&app->message);
    if (parser(bytes, &app->message) != NR_MESSAGE) {
        return NR_NOT_THIS;
    }
    nr_app_take(app, r, p, &app->message);
    return NR_MESSAGE;
}

bool nr_app_datagram(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    const struct nr_app_side *s = &r->side[p->side];
    const struct nr_app_bytes bytes = bytes_of(app, r, p);
    tell_time(app, p);
    for (uint32_t n = 0; n < nr_datagram_row_count; n++) {
        const struct nr_app_row *row = &nr_datagram_rows[n];
        if ((s->parser != NR_READ_ANY && s->parser != 1 + n) ||
            (row->parse == NULL && row->read == NULL)) {
            continue;
        }
        const int said = row->read != NULL ? row->read(app, r, p, (uint8_t)(1 + n))
                                           : parse_datagram(app, r, p, &bytes, row->parse);
        if (said != NR_NOT_THIS) {
            app->missed[NR_MISSED_CUT] += p->captured < p->length;
            return true;
        }
    }
    return false;
}

/* -- the end -- */

void nr_app_end(struct nr_app *app, struct nr_reading *r, struct nr_app_packet *p) {
    const uint16_t port[2] = {p->src_p, p->dst_p}; /* the originator's comes first */
    tell_time(app, p);
    for (int side = 0; side < 2; side++) {
        p->side = (uint8_t)side;
        p->from_orig = side == 0;
        p->src_p = port[side];
        p->dst_p = port[side ^ 1];
        (p->is_datagram ? nr_app_end_hello : read_backlog_beginning)(app, r, p);
    }
    nr_app_give_up_asks(app, r, p, 3);
    nr_backlog_clear(&app->pool, &r->side[0].backlog);
    nr_backlog_clear(&app->pool, &r->side[1].backlog);
}
