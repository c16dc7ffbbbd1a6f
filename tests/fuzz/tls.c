/* Feeds bytes of libFuzzer to the parsers of TLS, DTLS and hellos.
 *
 * The first byte chooses the parser, whether more may come, and how many of the bytes are the
 * record of the question. */
#include <stdlib.h>
#include <string.h>

#include "app/crypto.h"
#include "app/hello.h"

static struct nr_crypto *crypto;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    crypto = nr_crypto_open();
    return 0;
}

static void check(bool is_right) {
    if (!is_right) {
        abort();
    }
}

static void check_record(const struct nr_record *record) {
    uint32_t at = 0;
    struct nr_field field;
    check(record->size <= NR_RECORD_SIZE);
    while (nr_record_next(record->bytes, record->size, &at, &field)) {
    }
    check(at == record->size);
}

static void check_message(int verdict, uint32_t length, bool is_all, const struct nr_message *m) {
    check_record(&m->record);
    check(verdict == NR_NOT_THIS || verdict == NR_MORE || verdict == NR_MESSAGE);
    if (verdict == NR_MESSAGE) {
        check(m->used >= 1 && m->used <= (1u << 24));
        check(m->protocol != NR_APP_NONE);
        check(m->role == NR_SILENT ? m->next == NR_PARSE_SAME : m->next == NR_PARSE_NOTHING);
    } else {
        check(m->record.size == 0);
        check(verdict == NR_NOT_THIS || m->needs == 0 || m->needs > length || is_all);
    }
}

/* Runs one parser over a copy of the bytes that ends where they do. */
static int run(char what, const struct nr_app_bytes *bytes, struct nr_message *m) {
    struct nr_app_bytes copy = *bytes;
    uint8_t *at = malloc(bytes->length > 0 ? bytes->length : 1);
    int verdict;
    memcpy(at, bytes->at, bytes->length);
    copy.at = at;
    memset(m, 0, sizeof *m);
    if (what == 's') {
        copy.crypto = crypto;
        verdict = nr_tls_parse(&copy, m);
    } else {
        verdict = copy.is_all ? nr_hello_parse_cut(at, copy.length, what, m)
                              : nr_hello_parse(at, copy.length, what, m);
        nr_hello_compare(at, copy.length, what, copy.asked, copy.asked_size, &m->record);
        nr_ja4_add(at, copy.length, what, crypto, &m->record);
    }
    free(at);
    return verdict;
}

/* A shorter beginning of a message wants more, unless it has all that the answer needs. */
static void check_prefix(char what, const struct nr_app_bytes *bytes, int verdict,
                         const struct nr_message *whole) {
    struct nr_app_bytes cut = *bytes;
    struct nr_message m;
    if (verdict != NR_MESSAGE || bytes->is_all || bytes->length == 0) {
        return;
    }
    cut.length = (bytes->at[0] * 257u + bytes->at[bytes->length - 1]) % bytes->length;
    const int early = run(what, &cut, &m);
    check(early != NR_NOT_THIS);
    check(early == NR_MESSAGE || m.needs <= bytes->length);
    if (early == NR_MESSAGE) {
        check(m.used == whole->used && m.record.size == whole->record.size &&
              memcmp(m.record.bytes, whole->record.bytes, m.record.size) == 0);
    }
}

static void check_pieces(const uint8_t *data, uint32_t length) {
    struct nr_hello_pieces p;
    uint8_t *at = malloc(length > 0 ? length : 1);
    memcpy(at, data, length);
    const int verdict = nr_dtls_pieces(at, length, &p);
    check(verdict == NR_NOT_THIS || verdict == NR_MESSAGE);
    check(p.count <= NR_HELLO_PIECES);
    for (uint32_t i = 0; verdict == NR_MESSAGE && i < p.count; i++) {
        const struct nr_hello_piece *piece = &p.piece[i];
        check(piece->at >= at && piece->length > 0 && piece->length <= length &&
              piece->at + piece->length <= at + length);
        check(piece->offset + piece->length <= NR_HELLO_HEAD + NR_HELLO_MAX);
        check(i > 0 || (piece->offset == 0 && piece->length == NR_HELLO_HEAD));
    }
    free(at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char whats[] = {'s', 't', 'd', 'q'};
    struct nr_message first;
    if (size < 1 || size > 65536) {
        return 0;
    }
    const uint8_t choice = data[0];
    const uint32_t asked = (choice >> 4) * 8u, left = (uint32_t)size - 1;
    if ((choice & 7) > 3) {
        check_pieces(data + 1, left);
        return 0;
    }
    const uint32_t asked_size = asked < left ? asked : left;
    const struct nr_app_bytes bytes = {.at = data + 1 + asked_size,
                                       .length = left - asked_size,
                                       .is_all = choice >> 3 & 1,
                                       .asked = asked_size > 0 ? data + 1 : NULL,
                                       .asked_size = asked_size};
    const char what = whats[choice & 3];
    const int verdict = run(what, &bytes, &first);
    check_message(verdict, bytes.length, bytes.is_all, &first);
    check_prefix(what, &bytes, verdict, &first);
    return 0;
}
