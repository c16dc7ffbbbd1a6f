/* HTTP of version 1 (RFC 9112), of version 0.9, and the preface of version 2 (RFC 9113).
 *
 * A message is a head, from the first line to the empty one, and a body. The body is never read: it
 * is skipped by its length, or by its chunks. */
#include "app/parser.h"
#include "app/text.h"

enum {
    HEAD_MAX = 16384, /* a longer head is read as far as this */
    METHOD_MAX = 32,
    EMPTY_MAX = 8,       /* CR and LF before a message, which RFC 9112 2.2 lets a receiver skip */
    SIZE_LINE_MAX = 4096 /* the size of a chunk, with its extensions */
};

enum { VERSION_0_9 = 0x0009 };

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { PREFACE_SIZE = sizeof PREFACE - 1 };

/* Fields of the head that say how the message goes on, or go into the record. */
struct head {
    struct nr_span method; /* of a request */
    struct nr_span target;
    struct nr_span reason; /* of an answer */
    struct nr_span host;
    struct nr_span agent;
    struct nr_span content_type;
    uint32_t version; /* 0: it is not understood */
    uint32_t status;  /* 0: it is a request */
    uint32_t size;    /* bytes of the head, once it is whole */
    uint64_t body;    /* Content-Length */
    bool has_length;
    bool has_coding; /* Transfer-Encoding */
    bool is_chunked;
};

/* -- the first line -- */

/* Returns true for the characters of a method (RFC 9110 5.6.2). */
static bool is_token(uint8_t c) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    return (nr_lower(c) >= 'a' && nr_lower(c) <= 'z') || nr_is_digit(c) ||
           (c != 0 && strchr(others, c) != NULL);
}

/* Methods whose requests are recognised before the first line is whole, or without a version. Each
 * has a blank behind it. */
static const char *const METHODS[] = {
    "GET ",     "POST ",      "HEAD ",     "PUT ",         "DELETE ",    "CONNECT ",
    "OPTIONS ", "TRACE ",     "PATCH ",    "PROPFIND ",    "PROPPATCH ", "MKCOL ",
    "COPY ",    "MOVE ",      "LOCK ",     "UNLOCK ",      "REPORT ",    "SEARCH ",
    "NOTIFY ",  "SUBSCRIBE ", "CCM_POST ", "UNSUBSCRIBE ", "QUERY ",     "BITS_POST ",
};

/* Returns the length of the method and its blank, if the bytes begin with a known one; or with the
 * beginning of one, all bytes that there are. Else it returns 0. */
static uint32_t known_method(const uint8_t *at, uint32_t length) {
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++) {
        if ((uint8_t)METHODS[i][0] != at[0]) {
            continue;
        }
        const uint32_t size = (uint32_t)strlen(METHODS[i]);
        if (nr_fits(at, length, METHODS[i], size)) {
            return length < size ? length : size;
        }
    }
    return 0;
}

/* Reads "HTTP/1." and a digit, or no digit; what else stands there is not version 1. */
static bool read_version(struct nr_span text, uint32_t *version) {
    if (text.length < 7 || memcmp(text.at, "HTTP/1.", 7) != 0) {
        return false;
    }
    *version =
        text.length == 8 && nr_is_digit(text.at[7]) ? 1u << 8 | (uint32_t)(text.at[7] - '0') : 0;
    return text.length == 7 || *version != 0;
}

static bool is_control(uint8_t c) {
    return (c < ' ' && c != '\t') || c == 0x7f;
}

static bool has_controls(struct nr_span text) {
    for (uint32_t i = 0; i < text.length; i++) {
        if (is_control(text.at[i])) {
            return true;
        }
    }
    return false;
}

static uint32_t length_of_method(const uint8_t *at, uint32_t length) {
    uint32_t n = 0;
    while (n < length && n <= METHOD_MAX && is_token(at[n])) {
        n++;
    }
    return n;
}

/* Reads a method, a target and a version. The target is all between: some clients send blanks in
 * it. A request without a version is one of HTTP/0.9 if nothing else can be meant. */
static bool read_request_line(struct nr_span text, struct head *head) {
    const uint32_t method = length_of_method(text.at, text.length);
    if (method == 0 || method > METHOD_MAX || method == text.length || text.at[method] != ' ' ||
        has_controls(text)) {
        return false;
    }
    head->method = (struct nr_span){text.at, method};
    const struct nr_span rest =
        nr_strip((struct nr_span){text.at + method + 1, text.length - method - 1});
    uint32_t last = rest.length;
    while (last > 0 && !nr_is_blank(rest.at[last - 1])) {
        last--;
    }
    const struct nr_span version = {rest.at + last, rest.length - last};
    if (read_version(version, &head->version)) {
        head->target = nr_strip((struct nr_span){rest.at, last});
        return true;
    }
    head->target = rest;
    if (rest.length == 0 || rest.at[0] != '/' || known_method(text.at, text.length) == 0) {
        return false;
    }
    /* A version without a blank before it belongs to the target, yet headers follow. */
    const bool has_version =
        rest.length > 8 &&
        read_version((struct nr_span){rest.at + rest.length - 8, 8}, &head->version);
    head->version = has_version ? 0 : VERSION_0_9;
    return true;
}

static bool read_status_line(struct nr_span text, struct head *head) {
    if (text.length < 12 || !read_version((struct nr_span){text.at, 8}, &head->version) ||
        text.at[8] != ' ') {
        return false;
    }
    const uint8_t *code = text.at + 9;
    if (code[0] < '1' || code[0] > '9' || !nr_is_digit(code[1]) || !nr_is_digit(code[2]) ||
        (text.length > 12 && text.at[12] != ' ')) {
        return false;
    }
    head->status = (uint32_t)(code[0] - '0') * 100 + (uint32_t)(code[1] - '0') * 10 +
                   (uint32_t)(code[2] - '0');
    head->reason = nr_strip((struct nr_span){text.at + 12, text.length - 12});
    return true;
}

/* Returns true if a first line without its end may be one of HTTP. `*certain`: it is. */
static bool may_begin(const uint8_t *at, uint32_t length, bool *certain) {
    *certain = false;
    if (nr_fits(at, length, "HTTP/1.", 7)) {
        *certain = length >= 9 && nr_is_digit(at[7]) && at[8] == ' ';
        return length < 8 || (nr_is_digit(at[7]) && (length < 9 || at[8] == ' '));
    }
    const uint32_t known = known_method(at, length);
    const uint32_t method = known > 0 ? known : length_of_method(at, length) + 1;
    if (known > 0 && known == length) {
        return true;
    }
    if (method >= length || at[method - 1] != ' ' || method > METHOD_MAX + 1u ||
        has_controls((struct nr_span){at, at[length - 1] == '\r' ? length - 1 : length})) {
        return false;
    }
    const uint8_t *target = at + method;
    const bool is_plain = *target == '/' || *target == '*';
    *certain = known > 0 && *target == '/';
    return known > 0 || is_plain || nr_fits(target, length - method, "http", 4);
}

/* -- header lines -- */

/* Reads a number; returns false if it is none, or too large for a body that could be sent. */
static bool read_length(struct nr_span value, uint64_t *length) {
    *length = 0;
    for (uint32_t i = 0; i < value.length; i++) {
        if (!nr_is_digit(value.at[i]) || *length > (uint64_t)INT64_MAX / 10 - 1) {
            return false;
        }
        *length = *length * 10 + (uint64_t)(value.at[i] - '0');
    }
    return value.length > 0;
}

static void keep_first(struct nr_span *kept, struct nr_span value) {
    if (kept->at == NULL) {
        *kept = value;
    }
}

/* Takes one header, whose value may go on over several lines. */
static void read_header(struct nr_span header, struct head *head) {
    const uint8_t *colon = memchr(header.at, ':', header.length);
    if (colon == NULL) {
        return;
    }
    const struct nr_span name =
        nr_strip((struct nr_span){header.at, (uint32_t)(colon - header.at)});
    const struct nr_span value =
        nr_strip((struct nr_span){colon + 1, header.length - (uint32_t)(colon - header.at) - 1});
    switch (name.length) {
    case 4:
        if (nr_same_word(name.at, 4, "host")) {
            keep_first(&head->host, value);
        }
        break;
    case 10:
        if (nr_same_word(name.at, 10, "user-agent")) {
            keep_first(&head->agent, value);
        }
        break;
    case 12:
        if (nr_same_word(name.at, 12, "content-type")) {
            keep_first(&head->content_type, value);
        }
        break;
    case 14:
        if (!head->has_length && nr_same_word(name.at, 14, "content-length")) {
            head->has_length = read_length(value, &head->body);
        }
        break;
    case 17:
        if (nr_same_word(name.at, 17, "transfer-encoding")) {
            head->has_coding = true;
            head->is_chunked = head->is_chunked || nr_contains(value, "chunked");
        }
        break;
    default:
        break;
    }
}

/* Returns the length of a header and the lines that continue it, without the last line's end; 0: it
 * is not whole. *whole counts that end too. */
static uint32_t fold(const uint8_t *at, uint32_t length, uint32_t *whole) {
    struct nr_line line;
    uint32_t text = 0;
    *whole = 0;
    do {
        if (!nr_read_line(at + *whole, length - *whole, &line)) {
            return 0;
        }
        text = *whole + line.text.length;
        *whole += line.whole;
    } while (*whole < length && nr_is_blank(at[*whole]));
    return text;
}

/* Reads the headers from `at` on. Returns true if the empty line behind them is there, and then
 * sets the size of the head; else it takes the headers that are whole. */
static bool read_headers(const uint8_t *bytes, uint32_t at, uint32_t length, struct head *head) {
    struct nr_line line;
    while (nr_read_line(bytes + at, length - at, &line)) {
        if (line.text.length == 0) {
            head->size = at + line.whole;
            return true;
        }
        uint32_t whole;
        const uint32_t text = fold(bytes + at, length - at, &whole);
        if (text == 0) {
            return false;
        }
        read_header((struct nr_span){bytes + at, text}, head);
        at += whole;
    }
    return false;
}

/* -- the record -- */

/* Adds a value; where it goes on in another line, the line's end and the blanks around it become
 * one blank. */
static void put_value(struct nr_record *record, uint8_t field, struct nr_span value) {
    uint8_t text[NR_TEXT_MAX + 1];
    uint32_t size = 0;
    if (value.length == 0) {
        return;
    }
    if (memchr(value.at, '\n', value.length) == NULL) {
        nr_record_text(record, field, value.at, value.length);
        return;
    }
    for (uint32_t i = 0; i < value.length && size < sizeof text; i++) {
        const uint8_t c = value.at[i];
        const bool is_gap = nr_is_blank(c) || c == '\r' || c == '\n';
        if (!is_gap) {
            text[size++] = c;
        } else if (size > 0 && text[size - 1] != ' ') {
            text[size++] = ' ';
        }
    }
    nr_record_text(record, field, text, size);
}

/* Returns the host that a target names: of an absolute one, or of CONNECT. */
static struct nr_span host_of_target(const struct head *head) {
    struct nr_span host = head->target;
    if (nr_begins(host, "http://") || nr_begins(host, "https://")) {
        const uint32_t scheme = nr_lower(host.at[4]) == 's' ? 8 : 7;
        host = (struct nr_span){host.at + scheme, host.length - scheme};
    } else if (!nr_same_word(head->method.at, head->method.length, "connect")) {
        return (struct nr_span){NULL, 0};
    }
    uint32_t length = 0;
    while (length < host.length && strchr("/?# ", host.at[length]) == NULL) {
        length++;
        if (host.at[length - 1] == '@') { /* a user and a password came first */
            host = (struct nr_span){host.at + length, host.length - length};
            length = 0;
        }
    }
    host.length = length;
    return host;
}

static void put_request(const struct head *head, struct nr_record *record) {
    const struct nr_span host = head->host.length > 0 ? head->host : host_of_target(head);
    nr_record_text(record, NR_FIELD_METHOD, head->method.at, head->method.length);
    put_value(record, NR_FIELD_HOST, host);
    put_value(record, NR_FIELD_PATH, head->target);
    put_value(record, NR_FIELD_USER_AGENT, head->agent);
}

static void put_answer(const struct head *head, struct nr_record *record) {
    nr_record_number(record, NR_FIELD_STATUS, head->status);
    put_value(record, NR_FIELD_REASON, head->reason);
    put_value(record, NR_FIELD_CONTENT_TYPE, head->content_type);
}

static void put_record(const struct head *head, struct nr_record *record) {
    if (head->version != 0) {
        nr_record_number(record, NR_FIELD_VERSION, head->version);
    }
    if (head->status == 0) {
        put_request(head, record);
    } else {
        put_answer(head, record);
    }
    if (record->is_cut) {
        nr_record_number(record, NR_FIELD_CUT, 1);
    }
}

/* -- the body -- */

static void skip_body(const struct head *head, struct nr_message *message) {
    if (head->is_chunked) {
        message->next = NR_PARSE_CHUNKS;
    } else if (head->has_coding) {
        message->next = NR_PARSE_NOTHING; /* nothing tells where the body ends */
    } else if (head->has_length) {
        message->used += head->body;
    } else if (head->status != 0) {
        message->next = NR_PARSE_NOTHING; /* the body ends with the connection */
    }
}

static bool asked_by(const struct nr_app_bytes *bytes, const char *method) {
    struct nr_field field;
    return bytes->asked != NULL &&
           nr_record_find(bytes->asked, bytes->asked_size, NR_FIELD_METHOD, &field) &&
           nr_same_word(field.value, field.length, method);
}

static void end_answer(const struct nr_app_bytes *bytes, const struct head *head,
                       struct nr_message *message) {
    const uint32_t status = head->status;
    message->role = NR_ANSWERS;
    if (status == 101 || (status / 100 == 2 && asked_by(bytes, "connect"))) {
        message->hands_over = true;
    } else if (status / 100 == 1) {
        message->role = NR_SILENT; /* another answer will come */
        nr_record_clear(&message->record);
    } else if (status != 204 && status != 304 && !asked_by(bytes, "head")) {
        skip_body(head, message);
    }
}

static int end_message(const struct nr_app_bytes *bytes, const struct head *head,
                       struct nr_message *message) {
    message->protocol = NR_APP_HTTP;
    message->used = head->size;
    put_record(head, &message->record);
    if (head->status != 0) {
        end_answer(bytes, head, message);
        return NR_MESSAGE;
    }
    message->role = NR_ASKS;
    if (head->version == VERSION_0_9) {
        message->next = NR_PARSE_NOTHING; /* its connections have one request */
    } else {
        skip_body(head, message);
    }
    return NR_MESSAGE;
}

/* Ends a head that will not become whole: the record has what is there. */
static int end_cut(const struct nr_app_bytes *bytes, const struct head *head,
                   struct nr_message *message) {
    message->protocol = NR_APP_HTTP;
    message->role = head->status == 0 ? NR_ASKS : NR_ANSWERS;
    message->next = NR_PARSE_NOTHING;
    message->used = bytes->length;
    message->record.is_cut = true;
    put_record(head, &message->record);
    return NR_MESSAGE;
}

/* -- parsers -- */

/* Takes the beginning of a version off the end of a target. */
static struct nr_span without_version(struct nr_span target) {
    uint32_t last = target.length;
    while (last > 0 && !nr_is_blank(target.at[last - 1])) {
        last--;
    }
    const bool begins =
        last > 0 && nr_fits(target.at + last, target.length - last, "HTTP/1.", 7);
    return begins ? nr_strip((struct nr_span){target.at, last}) : target;
}

/* A first line without its end. It is given up if it will not come, but for a request whose method
 * and target leave no doubt. */
static int read_piece(const struct nr_app_bytes *bytes, struct nr_span text, bool is_last,
                      struct nr_message *message) {
    bool certain;
    if (!may_begin(text.at, text.length, &certain)) {
        return NR_NOT_THIS;
    }
    if (!is_last) {
        message->protocol = certain ? NR_APP_HTTP : NR_APP_NONE;
        return NR_MORE;
    }
    struct head head = {0};
    if (text.at[text.length - 1] == '\r') {
        text.length--;
    }
    if (!certain || !read_request_line(text, &head)) {
        return NR_NOT_THIS;
    }
    if (head.version == VERSION_0_9) {
        head.version = 0; /* it may stand in the rest of the line */
        head.target = without_version(head.target);
    }
    return end_cut(bytes, &head, message);
}

static int read_preface(const struct nr_app_bytes *bytes, struct nr_message *message) {
    if (bytes->length < PREFACE_SIZE) {
        message->needs = PREFACE_SIZE;
        return bytes->is_all ? NR_NOT_THIS : NR_MORE;
    }
    message->protocol = NR_APP_HTTP2;
    message->role = NR_ALONE;
    message->next = NR_PARSE_NOTHING;
    message->used = PREFACE_SIZE;
    return NR_MESSAGE;
}

int nr_http_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const uint32_t length = bytes->length < HEAD_MAX ? bytes->length : HEAD_MAX;
    const bool is_last = bytes->is_all || bytes->length >= HEAD_MAX;
    uint32_t at = 0;
    while (at < length && at < EMPTY_MAX && (bytes->at[at] == '\r' || bytes->at[at] == '\n')) {
        at++;
    }
    if (bytes->is_datagram || at == EMPTY_MAX) {
        return NR_NOT_THIS;
    }
    if (at == length) {
        return is_last ? NR_NOT_THIS : NR_MORE;
    }
    if (length > 2 && nr_fits(bytes->at, length, PREFACE, PREFACE_SIZE)) {
        return read_preface(bytes, message);
    }
    struct nr_line line;
    struct head head = {0};
    if (!nr_read_line(bytes->at + at, length - at, &line)) {
        return read_piece(bytes, (struct nr_span){bytes->at + at, length - at}, is_last, message);
    }
    if (!read_status_line(line.text, &head) && !read_request_line(line.text, &head)) {
        return NR_NOT_THIS;
    }
    at += line.whole;
    head.size = at;
    if (head.version == VERSION_0_9 || read_headers(bytes->at, at, length, &head)) {
        return end_message(bytes, &head, message);
    }
    if (is_last) {
        return end_cut(bytes, &head, message);
    }
    message->protocol = NR_APP_HTTP;
    return NR_MORE;
}

/* Reads the digits of a chunk's size. Returns false if there are none, or too many. */
static bool read_size(struct nr_span text, uint64_t *size) {
    uint32_t digits = 0;
    *size = 0;
    for (; digits < text.length && digits < 15; digits++) {
        const uint8_t c = nr_lower(text.at[digits]);
        if (!nr_is_digit(c) && (c < 'a' || c > 'f')) {
            break;
        }
        *size = *size << 4 | (uint64_t)(nr_is_digit(c) ? c - '0' : c - 'a' + 10);
    }
    return digits > 0 &&
           (digits == text.length || text.at[digits] == ';' || nr_is_blank(text.at[digits]));
}

/* The line's end behind the data of a chunk is read with the next chunk, as it may be one byte or
 * two. */
int nr_http_chunk(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const uint32_t length = bytes->length < HEAD_MAX ? bytes->length : HEAD_MAX;
    const bool is_last = bytes->is_all || bytes->length >= HEAD_MAX;
    uint32_t at = length > 0 && bytes->at[0] == '\r' ? 1 : 0;
    at += length > at && bytes->at[at] == '\n' ? 1 : 0;
    struct nr_line line;
    struct head trailer = {0};
    uint64_t size;
    if (bytes->is_datagram) {
        return NR_NOT_THIS;
    }
    message->protocol = NR_APP_HTTP;
    if (!nr_read_line(bytes->at + at, length - at, &line)) {
        return is_last || length - at > SIZE_LINE_MAX ? NR_NOT_THIS : NR_MORE;
    }
    if (!read_size(line.text, &size)) {
        return NR_NOT_THIS;
    }
    at += line.whole;
    if (size == 0 && !read_headers(bytes->at, at, length, &trailer)) {
        return is_last ? NR_NOT_THIS : NR_MORE;
    }
    message->role = NR_SILENT;
    message->next = size > 0 ? NR_PARSE_CHUNKS : NR_PARSE_SAME;
    message->used = size > 0 ? at + size : trailer.size;
    return NR_MESSAGE;
}
