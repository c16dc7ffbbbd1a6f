/* Hellos of TLS that come in pieces: CRYPTO frames of QUIC, and fragments of DTLS. The pieces of a
 * side go to its backlog, by their place in the handshake. */
#include "app/driver.h"
#include "app/hello.h"

#define DATAGRAMS_MAX 16u /* of a side, without a hello in them */

/* -- QUIC and DTLS -- */

static char transport_of(uint8_t protocol) {
    return protocol == NR_APP_QUIC ? 'q' : 'd';
}

/* Makes the hello's record one of QUIC. */
static void tell_version(struct nr_message *m, uint32_t version) {
    struct nr_record record;
    struct nr_field field;
    uint32_t at = 0;
    nr_record_clear(&record);
    record.is_cut = m->record.is_cut;
    nr_record_number(&record, NR_FIELD_VERSION, version);
    while (nr_record_next(m->record.bytes, m->record.size, &at, &field)) {
        if (field.field != NR_FIELD_VERSION) {
            nr_record_bytes(&record, field.field, field.value, field.length);
        }
    }
    m->record.size = record.size;
    m->record.is_cut = record.is_cut;
    memcpy(m->record.bytes, record.bytes, record.size);
}

/* Takes the hello in app->message, of `length` bytes in app->scratch. */
static void take_hello(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                       uint8_t protocol, uint32_t length) {
    struct nr_message *m = &app->message;
    if (r->is_renewed && m->role == NR_ANSWERS) {
        nr_app_give_up_asks(app, r, p, 3);
    }
    if (m->role == NR_ANSWERS) {
        nr_hello_compare(app->scratch, length, transport_of(protocol), app->asked,
                         nr_app_oldest_ask(app, r), &m->record);
    }
    m->protocol = protocol;
    if (protocol == NR_APP_QUIC) {
        tell_version(m, r->quic.version);
        m->next = m->role == NR_ASKS ? NR_PARSE_SAME : m->next; /* see read_hellos() */
    }
    nr_app_take(app, r, p, m);
}

/* Forgets the pieces of a side: its hello begins anew. */
static void begin_anew(struct nr_app *app, struct nr_app_side *s) {
    nr_backlog_clear(&app->pool, &s->backlog);
    s->needs = 0;
    s->skip = 0;
}

/* Reads the hellos that the backlog has. */
static void read_hellos(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                        uint8_t protocol) {
    struct nr_app_side *s = &r->side[p->side];
    struct nr_message *m = &app->message;
    uint32_t ready;
    while ((ready = nr_backlog_ready(&s->backlog)) > 0 && ready >= s->needs) {
        nr_backlog_copy(&app->pool, &s->backlog, app->scratch);
        nr_message_clear(m);
        const int verdict =
            nr_hello_read(app->scratch, ready, transport_of(protocol), false, app->crypto, m);
        if (verdict == NR_MORE) {
            s->needs = m->needs > ready ? m->needs : ready + 1;
            return;
        }
        if (verdict == NR_NOT_THIS || m->used == 0) {
            nr_backlog_clear(&app->pool, &s->backlog);
            return;
        }
        const uint64_t used = m->used;
        const uint8_t role = m->role;
        take_hello(app, r, p, protocol, ready);
        if (role == NR_ASKS && protocol == NR_APP_QUIC) {
            begin_anew(app, s); /* a Retry may make the client say it once more, with other keys */
            return;
        }
        if (role != NR_SILENT) {
            nr_app_stop(app, r, p, p->side);
            if (role == NR_ANSWERS && protocol == NR_APP_QUIC) {
                nr_app_stop(app, r, p, p->side ^ 1);
            }
            return;
        }
        nr_backlog_drop(&app->pool, &s->backlog, used);
        s->needs = 0;
        s->skip += protocol == NR_APP_QUIC ? used : 0; /* DTLS counts from 0 in each message */
    }
}

/* Reads the beginning of a hello whose end will not come. */
static void read_hello_beginning(struct nr_app *app, struct nr_reading *r,
                                 const struct nr_app_packet *p, uint8_t protocol) {
    const struct nr_app_side *s = &r->side[p->side];
    const uint32_t ready = nr_backlog_ready(&s->backlog);
    if (ready == 0 || s->parser == NR_READ_NOTHING) {
        return;
    }
    nr_backlog_copy(&app->pool, &s->backlog, app->scratch);
    if (r->asks > 0 && nr_is_client_hello(app->scratch, ready)) {
        return; /* a part of what was read before */
    }
    nr_message_clear(&app->message);
    if (nr_hello_read(app->scratch, ready, transport_of(protocol), true, app->crypto,
                      &app->message) == NR_MESSAGE) {
        take_hello(app, r, p, protocol, ready);
    }
}

/* Puts a piece to its place behind the messages that were read. Returns NR_BACKLOG_*. */
static int put_piece(struct nr_app *app, struct nr_reading *r, int side,
                     const struct nr_hello_piece *piece) {
    struct nr_app_side *s = &r->side[side];
    const uint32_t chunks = NR_BACKLOG_CHUNKS - r->side[side ^ 1].backlog.chunks;
    const uint64_t old = piece->offset < s->skip ? s->skip - piece->offset : 0;
    if (old >= piece->length) {
        return NR_BACKLOG_PUT;
    }
    const uint64_t offset = piece->offset + old - s->skip;
    return offset < NR_BACKLOG_SIZE
               ? nr_backlog_put(&app->pool, &s->backlog, chunks, (uint32_t)offset, piece->at + old,
                                piece->length - (uint32_t)old)
               : NR_BACKLOG_TOO_LONG;
}

/* Puts the pieces in the order of their offsets, which leaves the fewest holes. Of equal ones the
 * first stays first. */
static void sort_pieces(struct nr_hello_pieces *pieces) {
    for (uint32_t n = 1; n < pieces->count; n++) {
        const struct nr_hello_piece moved = pieces->piece[n];
        uint32_t at = n;
        for (; at > 0 && pieces->piece[at - 1].offset > moved.offset; at--) {
            pieces->piece[at] = pieces->piece[at - 1];
        }
        pieces->piece[at] = moved;
    }
}

/* Takes the pieces of a datagram. */
static void take_pieces(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                        struct nr_hello_pieces *pieces, uint8_t protocol) {
    struct nr_app_side *s = &r->side[p->side];
    sort_pieces(pieces);
    for (uint32_t n = 0; n < pieces->count && s->parser != NR_READ_NOTHING; n++) {
        const int put = put_piece(app, r, p->side, &pieces->piece[n]);
        if (put != NR_BACKLOG_PUT) {
            app->missed[nr_app_reason(put)]++;
            read_hello_beginning(app, r, p, protocol);
            nr_app_stop(app, r, p, p->side);
            return;
        }
    }
    read_hellos(app, r, p, protocol);
}

/* Takes the flow for one of this protocol. Returns false if no more of it is read. */
static bool settle(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                   uint8_t protocol, uint8_t row) {
    for (int side = 0; side < 2; side++) {
        if (r->side[side].parser == NR_READ_ANY) {
            r->side[side].parser = row;
        }
    }
    nr_app_label(app, r, p, protocol);
    return r->side[p->side].parser != NR_READ_NOTHING;
}

/* Counts a datagram of this side. Some have nothing to read, and after a few nothing will come. */
static void count_datagram(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                           uint8_t protocol) {
    struct nr_app_side *s = &r->side[p->side];
    if (s->parser != NR_READ_NOTHING && ++s->tries >= DATAGRAMS_MAX) {
        read_hello_beginning(app, r, p, protocol);
        nr_app_stop(app, r, p, p->side);
    }
}

int nr_app_quic(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                uint8_t row) {
    static const struct nr_quic none;
    struct nr_hello_pieces pieces;
    const bool is_known = r->side[p->side].parser == row;
    if (!is_known) {
        r->quic = none;
    }
    r->quic.from = p->side & 1;
    const int verdict = nr_quic_pieces(p->at, p->captured, &r->quic, app->crypto, app->opened,
                                       sizeof app->opened, &pieces);
    if (verdict == NR_NOT_THIS && !is_known) {
        return NR_NOT_THIS;
    }
    if (r->quic.begins) {
        r->is_renewed = r->asks > 0; /* unless the same hello comes again, behind a Retry */
        begin_anew(app, &r->side[0]);
        begin_anew(app, &r->side[1]);
    }
    if (!settle(app, r, p, NR_APP_QUIC, row)) {
        return NR_MORE;
    }
    if (app->crypto == NULL) {
        nr_app_stop(app, r, p, 0);
        nr_app_stop(app, r, p, 1);
        return NR_MORE;
    }
    if (verdict == NR_MESSAGE) {
        take_pieces(app, r, p, &pieces, NR_APP_QUIC);
    }
    count_datagram(app, r, p, NR_APP_QUIC);
    return NR_MORE;
}

/* Takes an alert in place of a hello: it ends the exchange. */
static void take_alert(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                       uint8_t alert) {
    struct nr_message *m = &app->message;
    nr_message_clear(m);
    m->protocol = NR_APP_DTLS;
    m->role = NR_ANSWERS;
    m->next = NR_PARSE_NOTHING;
    nr_record_number(&m->record, NR_FIELD_ALERT, alert);
    if (r->asks > 0) {
        nr_app_take(app, r, p, m);
    }
}

int nr_app_dtls(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                uint8_t row) {
    struct nr_app_side *s = &r->side[p->side];
    struct nr_hello_pieces pieces;
    const int verdict = nr_dtls_pieces(p->at, p->captured, &pieces);
    if (verdict == NR_NOT_THIS) {
        return NR_NOT_THIS; /* STUN and RTP may come on the same ports */
    }
    if (!settle(app, r, p, NR_APP_DTLS, row)) {
        return NR_MORE;
    }
    if (pieces.count > 0 && pieces.sequence != s->base) {
        begin_anew(app, s);
        s->base = pieces.sequence;
    }
    take_pieces(app, r, p, &pieces, NR_APP_DTLS);
    if (pieces.is_refused && s->parser != NR_READ_NOTHING) {
        take_alert(app, r, p, pieces.alert);
    }
    count_datagram(app, r, p, NR_APP_DTLS);
    return NR_MORE;
}

void nr_app_end_hello(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    if (r->protocol == NR_APP_QUIC || r->protocol == NR_APP_DTLS) {
        read_hello_beginning(app, r, p, r->protocol);
    }
}
