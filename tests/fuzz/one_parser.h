/* Feeds the inputs of libFuzzer to one parser, and checks each verdict. A target defines PARSER. */
#include <stdlib.h>
#include <string.h>

#include "app/parser.h"

enum { HEAD = 8, KEPT_MAX = 16384 };

static struct nr_message message, again;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) {
        abort();
    }
}

/* Every field lies in the record, and numbers and texts have their sizes. */
static void check_record(const struct nr_record *record) {
    struct nr_field field;
    uint32_t at = 0;
    check(record->size <= NR_RECORD_SIZE);
    while (nr_record_next(record->bytes, record->size, &at, &field)) {
        check(field.field != 0 && field.length <= NR_TEXT_MAX);
    }
    check(at == record->size);
}

static void check_message(int verdict, const struct nr_app_bytes *bytes) {
    check(verdict == NR_NOT_THIS || verdict == NR_MORE || verdict == NR_MESSAGE);
    check(message.protocol < NR_APP_COUNT);
    if (verdict == NR_MORE) {
        check(!bytes->is_all && !bytes->is_datagram);
        check(message.needs == 0 || message.needs > bytes->length);
        check(message.record.size == 0 && message.used == 0);
    }
    if (verdict != NR_MESSAGE) {
        return;
    }
    check(message.used >= 1 && message.used <= (uint64_t)INT64_MAX + UINT32_MAX);
    check(message.role <= NR_SILENT && message.next <= NR_PARSE_CHUNKS);
    check(message.role != NR_SILENT || message.record.size == 0);
    check(!bytes->is_datagram || message.used == bytes->length);
    check_record(&message.record);
}

/* Makes a record of a question from the input's first bytes: a method, or a banner. */
static void ask(uint8_t kind, struct nr_record *asked) {
    static const char *const methods[] = {"HEAD", "CONNECT", "GET", ""};
    nr_record_clear(asked);
    if (kind & 4) {
        nr_record_number(asked, NR_FIELD_VERSION, 0x0163);
        nr_record_text(asked, kind & 8 ? NR_FIELD_CLIENT_SOFTWARE : NR_FIELD_SERVER_SOFTWARE,
                       (const uint8_t *)"SSH-1.99-x", 10);
    } else {
        const char *method = methods[kind & 3];
        nr_record_text(asked, NR_FIELD_METHOD, (const uint8_t *)method, (uint32_t)strlen(method));
    }
}

/* The parser gives the same for a copy of the bytes, and for the bytes that it says it used. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint16_t ports[] = {22, 25, 123, 1883, 3389, 5432, 40000, 21};
    static struct nr_record asked;
    if (size < HEAD + 1 || size > 65536) {
        return 0;
    }
    const uint32_t length = (uint32_t)size - HEAD;
    uint8_t *copy = malloc(length);
    memcpy(copy, data + HEAD, length);
    ask(data[1], &asked);
    struct nr_app_bytes bytes = {
        .at = copy,
        .length = length,
        .is_datagram = data[0] & 1,
        .is_all = data[0] & 3,
        .is_cut = (data[0] & 5) == 5,
        .from_orig = data[0] & 8,
        .src_p = ports[data[2] & 7],
        .dst_p = ports[data[2] >> 3 & 7],
        .asked = data[1] & 16 ? asked.bytes : NULL,
        .asked_size = data[1] & 16 ? asked.size : 0,
    };
    memcpy(&bytes.note, data + 4, sizeof bytes.note);
    memset(&message, 0, sizeof message);
    const int verdict = PARSER(&bytes, &message);
    check_message(verdict, &bytes);
    bytes.at = data + HEAD;
    memset(&again, 0, sizeof again);
    check(PARSER(&bytes, &again) == verdict && memcmp(&again, &message, sizeof again) == 0);
    free(copy);
    return 0;
}
