/* DTLS 1.0, 1.2 and 1.3 (RFC 4347, 6347, 9147): the hellos in a datagram.
 *
 * A message of the handshake comes in fragments, each with a header of twelve bytes: type, length,
 * sequence number of the message, offset and length of the fragment. TLS has the first four bytes
 * alone, and nr_hello_parse wants them: they are the piece at offset 0, and the fragment's bytes
 * begin at offset 4 + its own. All pieces lie in the datagram.
 *
 * The caller keeps the pieces of each side:
 *   - `sequence` differs from that of the pieces it has: it throws those away and begins anew. This
 *     is the client's hello with the cookie of a HelloVerifyRequest, or the server's hello after a
 *     HelloRetryRequest.
 *   - It puts the pieces where their offsets say, as those of QUIC, and calls nr_hello_parse with
 *     'd' and the bytes that are there from offset 0 on without a hole.
 *   - NR_MESSAGE: what the role and `next` say. The client's first hello asks, and its second one,
 *     which is the same but for the cookie, need not be read. After a HelloRetryRequest (NR_SILENT)
 *     it reads on. A server's hello answers: nr_hello_compare may add to its record.
 *   - NR_NOT_THIS: it throws the pieces away.
 *   - `is_refused` from the side that answers: an exchange ends without a hello (NR_FIELD_ALERT).
 *   - The flow is DTLS with the first NR_MESSAGE of nr_dtls_pieces, also without pieces. Other
 *     protocols may come before it on the same ports (STUN), and after it (RTP). */
#include "app/hello.h"

enum { CHANGE_CIPHER = 20, ALERT = 21, HANDSHAKE = 22, ACK = 26 };
enum { RECORD_HEAD = 13, FRAGMENT_HEAD = 12, RECORD_MAX = 16384 + 2048 };
enum { LEVEL_FATAL = 2, CLOSE_NOTIFY = 0 };
enum { LAST_MESSAGE = 24 }; /* of the handshake: KeyUpdate */

struct record {
    uint8_t type;
    uint16_t epoch; /* 0: in clear */
    struct nr_span body;
    bool is_whole;
};

/* Takes a record off the front. Returns false if there is none. */
static bool take_record(struct nr_span *rest, struct record *record) {
    struct nr_span head;
    if (!nr_take(rest, RECORD_HEAD, &head)) {
        return false;
    }
    const uint16_t version = nr_be16(head.at + 1);
    const uint32_t size = nr_be16(head.at + 11);
    if (head.at[0] < CHANGE_CIPHER || head.at[0] > ACK ||
        (version != 0xfeff && version != 0xfefd && version != 0xfefc) || size == 0 ||
        size > RECORD_MAX) {
        return false;
    }
    record->type = head.at[0];
    record->epoch = nr_be16(head.at + 3);
    record->is_whole = size <= rest->length;
    return nr_take(rest, record->is_whole ? size : rest->length, &record->body);
}

static void add_piece(struct nr_hello_pieces *pieces, const uint8_t *at, uint32_t length,
                      uint32_t offset) {
    if (pieces->count == NR_HELLO_PIECES) {
        pieces->is_cut = true;
        return;
    }
    pieces->piece[pieces->count++] = (struct nr_hello_piece){at, length, offset};
}

/* Adds a fragment of a hello. The one of another message, or of another length, replaces those
 * before it. */
static void add_fragment(const uint8_t *head, const struct nr_span *body,
                         struct nr_hello_pieces *pieces) {
    const uint16_t sequence = nr_be16(head + 4);
    if (pieces->count > 0 &&
        (sequence != pieces->sequence || memcmp(head, pieces->piece[0].at, NR_HELLO_HEAD) != 0)) {
        pieces->count = 0;
    }
    pieces->sequence = sequence;
    if (pieces->count == 0) {
        add_piece(pieces, head, NR_HELLO_HEAD, 0);
    }
    if (body->length > 0) {
        add_piece(pieces, body->at, body->length, NR_HELLO_HEAD + nr_be24(head + 6));
    }
}

/* Reads the fragments of one record. Returns false if it begins with none. */
static bool read_fragments(const struct record *record, struct nr_hello_pieces *pieces) {
    struct nr_span rest = record->body, head;
    bool has_any = false;
    while (nr_take(&rest, FRAGMENT_HEAD, &head)) {
        const uint32_t size = nr_be24(head.at + 1), offset = nr_be24(head.at + 6);
        const uint32_t length = nr_be24(head.at + 9);
        const bool is_there = length <= rest.length;
        if (head.at[0] > LAST_MESSAGE || size > NR_HELLO_MAX || offset > size ||
            length > size - offset || (!is_there && record->is_whole)) {
            return has_any;
        }
        const struct nr_span body = {rest.at, is_there ? length : rest.length};
        rest.at += body.length;
        rest.length -= body.length;
        pieces->is_cut = pieces->is_cut || !is_there;
        if (head.at[0] == NR_CLIENT_HELLO || head.at[0] == NR_SERVER_HELLO) {
            add_fragment(head.at, &body, pieces);
        }
        has_any = true;
    }
    return has_any;
}

static void read_alert(const struct record *record, struct nr_hello_pieces *pieces) {
    if (record->body.length == 2 &&
        (record->body.at[0] == LEVEL_FATAL || record->body.at[1] == CLOSE_NOTIFY)) {
        pieces->is_refused = true;
        pieces->alert = record->body.at[1];
    }
}

/* Reads a record. Returns false if it cannot be one of DTLS. */
static bool read_record(const struct record *record, struct nr_hello_pieces *pieces) {
    if (record->epoch > 0 || record->type != HANDSHAKE) {
        if (record->epoch == 0 && record->type == ALERT) {
            read_alert(record, pieces);
        }
        return record->is_whole;
    }
    return read_fragments(record, pieces);
}

int nr_dtls_pieces(const uint8_t *datagram, uint32_t length, struct nr_hello_pieces *pieces) {
    struct nr_span rest = {datagram, length};
    struct record record;
    nr_hello_pieces_clear(pieces);
    if (!take_record(&rest, &record) || !read_record(&record, pieces)) {
        return NR_NOT_THIS;
    }
    /* The records behind it may be encrypted, with the short heads of version 1.3. */
    while (take_record(&rest, &record) && read_record(&record, pieces)) {
    }
    return NR_MESSAGE;
}
