/* SSDP, the discovery of UPnP: searches, notices and answers, in datagrams that look like HTTP. */
#include "app/parser.h"

enum { PORT_SSDP = 1900, MAX_LINES = 64 };

struct line {
    const uint8_t *at;
    uint32_t length;
};

static const struct {
    char name[12];
    uint8_t field;
} HEADERS[] = {
    {"st", NR_FIELD_SERVICE},
    {"nt", NR_FIELD_SERVICE},
    {"server", NR_FIELD_SERVER_SOFTWARE},
    {"location", NR_FIELD_LOCATION},
    {"user-agent", NR_FIELD_USER_AGENT},
};

static bool begins_with(const struct nr_app_bytes *bytes, const char *text) {
    const uint32_t length = (uint32_t)strlen(text);
    return bytes->length >= length && memcmp(bytes->at, text, length) == 0;
}

/* Takes the line at *at, and moves *at behind it. Returns false at the end. */
static bool next_line(const struct nr_app_bytes *bytes, uint32_t *at, struct line *line) {
    if (*at >= bytes->length) {
        return false;
    }
    const uint8_t *begin = bytes->at + *at;
    const uint32_t left = bytes->length - *at;
    const uint8_t *end = memchr(begin, '\n', left);
    uint32_t length = end == NULL ? left : (uint32_t)(end - begin);
    *at += end == NULL ? length : length + 1;
    if (length > 0 && begin[length - 1] == '\r') {
        length--;
    }
    *line = (struct line){begin, length};
    return length > 0;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

static bool is_header(const struct line *line, const char *name, uint32_t length) {
    if (line->length <= length || line->at[length] != ':') {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        const uint8_t c = line->at[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != name[i]) {
            return false;
        }
    }
    return true;
}

static void add_value(const struct line *line, uint32_t skipped, uint8_t field,
                      struct nr_record *record) {
    const uint8_t *at = line->at + skipped;
    uint32_t length = line->length - skipped;
    while (length > 0 && is_blank(*at)) {
        at++;
        length--;
    }
    while (length > 0 && is_blank(at[length - 1])) {
        length--;
    }
    struct nr_field known;
    if (length > 0 && !nr_record_find(record->bytes, record->size, field, &known)) {
        nr_record_text(record, field, at, length);
    }
}

static void add_header(const struct line *line, struct nr_record *record) {
    for (uint32_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        const uint32_t length = (uint32_t)strlen(HEADERS[i].name);
        if (is_header(line, HEADERS[i].name, length)) {
            add_value(line, length + 1, HEADERS[i].field, record);
        }
    }
}

/* Adds the method or the status of the first line. Returns false if it is of no message of SSDP. */
static bool add_first_line(const struct nr_app_bytes *bytes, struct nr_record *record) {
    if (begins_with(bytes, "M-SEARCH * HTTP/1.")) {
        nr_record_text(record, NR_FIELD_METHOD, bytes->at, 8);
        return true;
    }
    if (begins_with(bytes, "NOTIFY * HTTP/1.")) {
        nr_record_text(record, NR_FIELD_METHOD, bytes->at, 6);
        return true;
    }
    nr_record_number(record, NR_FIELD_STATUS, 200);
    return begins_with(bytes, "HTTP/1.1 200") || begins_with(bytes, "HTTP/1.0 200");
}

static int read_message(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct nr_record *record = &message->record;
    struct nr_field service;
    struct line line;
    uint32_t at = 0, lines = 0;
    if (!bytes->is_datagram || bytes->length < 12 ||
        (bytes->at[0] != 'M' && bytes->at[0] != 'N' && bytes->at[0] != 'H') ||
        !add_first_line(bytes, record) || !next_line(bytes, &at, &line)) {
        return NR_NOT_THIS;
    }
    while (lines++ < MAX_LINES && next_line(bytes, &at, &line)) {
        add_header(&line, record);
    }
    const bool has_port = bytes->src_p == PORT_SSDP || bytes->dst_p == PORT_SSDP;
    if (!has_port && !nr_record_find(record->bytes, record->size, NR_FIELD_SERVICE, &service)) {
        return NR_NOT_THIS;
    }
    record->is_cut = record->is_cut || bytes->is_cut;
    message->protocol = NR_APP_SSDP;
    message->role = NR_ALONE;
    message->used = bytes->length;
    return NR_MESSAGE;
}

int nr_ssdp_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const int verdict = read_message(bytes, message);
    if (verdict != NR_MESSAGE) {
        nr_record_clear(&message->record);
    }
    return verdict;
}
