/* Hellos of TLS that come in pieces: CRYPTO frames of QUIC, and fragments of DTLS. The pieces of a
 * side go to its backlog, by their place in the handshake. */
#include "app/driver.h"

/* Parsers that are not there yet. */
extern __attribute__((weak)) __typeof__(nr_hello_parse) nr_hello_parse;
extern __attribute__((weak)) __typeof__(nr_quic_pieces) nr_quic_pieces;
extern __attribute__((weak)) __typeof__(nr_dtls_pieces) nr_dtls_pieces;
extern __attribute__((weak)) __typeof__(nr_ja4_add) nr_ja4_add;

#define DATAGRAMS_MAX 16u /* of a side, without a hello in them */

/* -- QUIC and DTLS -- */

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

/* Reads the hello that the backlog has, if it is whole. */
static void read_hello(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                       uint8_t protocol) {
    struct nr_app_side *s = &r->side[p->side];
    struct nr_message *m = &app->message;
    const char transport = protocol == NR_APP_QUIC ? 'q' : 'd';
    const uint32_t ready = nr_backlog_ready(&s->backlog);
    if (ready == 0 || ready < s->needs) {
        return;
    }
    nr_backlog_copy(&app->pool, &s->backlog, app->scratch);
    nr_message_clear(m);
    const int verdict = nr_hello_parse(app->scratch, ready, transport, m);
    if (verdict == NR_MORE) {
        s->needs = m->needs > ready ? m->needs : ready + 1;
        return;
    }
    if (verdict == NR_NOT_THIS) {
        nr_app_stop(app, r, p, p->side);
        return;
    }
    if (nr_ja4_add != NULL && nr_is_client_hello(app->scratch, ready)) {
        nr_ja4_add(app->scratch, ready, transport, app->crypto, &m->record);
    }
    m->protocol = protocol;
    if (protocol == NR_APP_QUIC) {
        tell_version(m, r->quic.version);
    }
    nr_app_take(app, r, p, m);
    if (m->role != NR_SILENT) {
        nr_app_stop(app, r, p, p->side);
    } else {
        nr_backlog_drop(&app->pool, &s->backlog, m->used);
        s->needs = 0;
    }
}

/* Takes the pieces of a datagram. */
static void take_pieces(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                        const struct nr_hello_pieces *pieces, uint8_t protocol) {
    struct nr_app_side *s = &r->side[p->side];
    for (uint32_t n = 0; n < pieces->count && s->parser != NR_READ_NOTHING; n++) {
        const struct nr_hello_piece *piece = &pieces->piece[n];
        const uint32_t chunks = NR_BACKLOG_CHUNKS - r->side[p->side ^ 1].backlog.chunks;
        const int put = piece->offset < NR_BACKLOG_SIZE
                            ? nr_backlog_put(&app->pool, &s->backlog, chunks, piece->offset,
                                             piece->at, piece->length)
                            : NR_BACKLOG_TOO_LONG;
        if (put != NR_BACKLOG_PUT) {
            app->missed[put == NR_BACKLOG_FULL ? NR_MISSED_POOL_FULL : NR_MISSED_TOO_LONG]++;
            nr_app_stop(app, r, p, p->side);
            return;
        }
    }
    read_hello(app, r, p, protocol);
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
static void count_datagram(struct nr_app *app, struct nr_reading *r,
                           const struct nr_app_packet *p) {
    struct nr_app_side *s = &r->side[p->side];
    if (s->parser != NR_READ_NOTHING && ++s->tries >= DATAGRAMS_MAX) {
        nr_app_stop(app, r, p, p->side);
    }
}

int nr_app_quic(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                uint8_t row) {
    static const struct nr_quic none;
    struct nr_hello_pieces pieces = {.count = 0};
    const bool is_known = r->side[p->side].parser == row;
    if (nr_quic_pieces == NULL || nr_hello_parse == NULL) {
        return NR_NOT_THIS;
    }
    if (app->crypto != NULL) {
        nr_crypto_budget(app->crypto, p->ts);
    }
    if (!is_known) {
        r->quic = none;
    }
    const int verdict = nr_quic_pieces(p->at, p->captured, &r->quic, app->crypto, app->opened,
                                       sizeof app->opened, &pieces);
    if (verdict == NR_NOT_THIS && !is_known) {
        return NR_NOT_THIS;
    }
    if (!settle(app, r, p, NR_APP_QUIC, row)) {
        return NR_MORE;
    }
    if (app->crypto == NULL) {
        nr_app_stop(app, r, p, 0);
        nr_app_stop(app, r, p, 1);
        return NR_MORE;
    }
    take_pieces(app, r, p, &pieces, NR_APP_QUIC);
    count_datagram(app, r, p);
    return NR_MORE;
}

int nr_app_dtls(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                uint8_t row) {
    struct nr_hello_pieces pieces = {.count = 0};
    const bool is_known = r->side[p->side].parser == row;
    if (nr_dtls_pieces == NULL || nr_hello_parse == NULL) {
        return NR_NOT_THIS;
    }
    const int verdict = nr_dtls_pieces(p->at, p->captured, &pieces);
    if (verdict == NR_NOT_THIS && !is_known) {
        return NR_NOT_THIS;
    }
    if (settle(app, r, p, NR_APP_DTLS, row)) {
        take_pieces(app, r, p, &pieces, NR_APP_DTLS);
        count_datagram(app, r, p);
    }
    return NR_MORE;
}

/* -- TLS -- */

enum { RECORD = 5, HANDSHAKE = 22, HEADER = 4 };

/* Copies the handshake message that begins in the first record to app->opened. Returns its bytes,
 * or 0 if it is not whole. */
static uint32_t open_records(struct nr_app *app, const uint8_t *at, uint32_t length) {
    uint32_t done = 0, wanted = HEADER;
    while (length > RECORD && at[0] == HANDSHAKE && done < wanted) {
        const uint32_t size = (uint32_t)(at[3] << 8 | at[4]);
        const uint32_t here = size < length - RECORD ? size : length - RECORD;
        const uint32_t room = (uint32_t)sizeof app->opened - done;
        const uint32_t part = here < room ? here : room;
        memcpy(app->opened + done, at + RECORD, part);
        done += part;
        if (done >= HEADER) {
            wanted = HEADER + ((uint32_t)app->opened[1] << 16 | (uint32_t)app->opened[2] << 8 |
                               app->opened[3]);
        }
        at += RECORD + here;
        length -= RECORD + here;
    }
    return done >= wanted ? wanted : 0;
}

void nr_app_add_ja4(struct nr_app *app, const uint8_t *bytes, uint32_t length,
                    struct nr_message *m) {
    const uint32_t size = app->crypto != NULL ? open_records(app, bytes, length) : 0;
    if (nr_ja4_add != NULL && nr_is_client_hello(app->opened, size)) {
        nr_ja4_add(app->opened, size, 't', app->crypto, &m->record);
    }
}
