/* The hellos of TLS (RFC 6101, 2246, 4346, 5246, 8446), which DTLS (RFC 4347, 6347, 9147) and QUIC
 * (RFC 9001) share.
 *
 * Extensions: RFC 6066 (server name), 7301 (ALPN), 5077 (tickets), 8701 (GREASE);
 * draft-ietf-tls-esni (ECH). */
#include "app/hello.h"

enum { TLS_12 = 0x0303, TLS_13 = 0x0304, DTLS_12 = 0xfefd, DTLS_13 = 0xfefc };
enum { NAME_OF_HOST = 0, ECH_OUTER = 0 };
enum { SESSION_MAX = 32 };
/* Room that ALPN leaves for the fields that come later. */
enum { ALPN_ROOM = NR_RECORD_SIZE / 2 };

/* Results of reading a part. */
enum { DONE, SHORT, BAD };

/* -- the parts -- */

/* Takes a vector whose length is checked even if its bytes are not there yet. */
static int read_vector(struct nr_span *rest, uint32_t size, uint32_t least, uint32_t most,
                       struct nr_span *vector) {
    if (rest->length < size) {
        return SHORT;
    }
    const uint32_t length = size == 1 ? rest->at[0] : nr_be16(rest->at);
    if (length < least || length > most) {
        return BAD;
    }
    return nr_take_vector(rest, size, vector) ? DONE : SHORT;
}

static bool is_draft(uint16_t version) {
    return version >> 8 == 0x7e || version >> 8 == 0x7f;
}
/* Drafts of TLS 1.3 whose ServerHello has neither session nor compression. */
static bool is_bare_draft(uint16_t version) {
    return version >= 0x7f00 && version < 0x7f16;
}

static bool is_version(uint16_t version, uint8_t type, char transport) {
    if (transport == 'd') {
        return version == 0xfeff || version == DTLS_12 || version == DTLS_13;
    }
    return version >> 8 == 3 ? version <= TLS_13 : type == NR_SERVER_HELLO && is_draft(version);
}

/* Notes the types of the extensions, and where those are that are looked at. It walks as
 * nr_take_extension() does. */
static void index_extensions(struct nr_hello *hello) {
    const uint8_t *const bytes = hello->extensions.at;
    const uint32_t length = hello->extensions.length;
    uint32_t at = 0, count = 0;
    while (length - at >= NR_EXTENSION_HEAD) {
        const uint32_t head = nr_be32(bytes + at), type = head >> 16, size = head & 0xffff;
        const uint32_t place = nr_extension_place((uint16_t)type);
        if (size > length - at - NR_EXTENSION_HEAD) {
            break;
        }
        at += NR_EXTENSION_HEAD;
        if (hello->extension[place] == 0) {
            hello->extension[place] = at << 16 | size;
        }
        if (count < NR_TYPES_KEPT) {
            hello->types[count] = (uint16_t)type;
        }
        count++;
        at += size;
    }
    hello->type_count = count;
    hello->is_whole = at == length;
}

/* Reads the extensions, `wire` bytes before the end of the message, as far as they are there. */
static int read_extensions(struct nr_span *rest, uint32_t wire, struct nr_hello *hello) {
    if (wire == 0) { /* an old hello may end here */
        hello->has_extensions = true;
        return DONE;
    }
    if (rest->length < 2) {
        return wire < 2 ? BAD : SHORT;
    }
    const uint32_t length = nr_be16(rest->at);
    if (length > wire - 2) {
        return BAD;
    }
    const uint32_t there = rest->length - 2 < length ? rest->length - 2 : length;
    hello->extensions = (struct nr_span){rest->at + 2, there};
    hello->has_extensions = there == length;
    return there == length ? DONE : SHORT;
}

static int read_client(struct nr_span *rest, char transport, struct nr_hello *hello) {
    struct nr_span unused;
    int got = read_vector(rest, 1, 0, SESSION_MAX, &hello->session);
    if (got == DONE && transport == 'd') {
        got = read_vector(rest, 1, 0, UINT8_MAX, &unused); /* the cookie */
    }
    if (got == DONE) {
        got = read_vector(rest, 2, 2, UINT16_MAX, &hello->ciphers);
    }
    if (got == DONE && hello->ciphers.length % 2 != 0) {
        return BAD;
    }
    return got == DONE ? read_vector(rest, 1, 1, UINT8_MAX, &unused) : got;
}

static int read_server(struct nr_span *rest, struct nr_hello *hello) {
    struct nr_span compression;
    const bool is_bare = is_bare_draft(hello->version);
    const int got = is_bare ? DONE : read_vector(rest, 1, 0, SESSION_MAX, &hello->session);
    if (got != DONE) {
        return got;
    }
    if (!nr_take(rest, 2, &hello->ciphers)) {
        return SHORT;
    }
    return is_bare || nr_take(rest, 1, &compression) ? DONE : SHORT;
}

static int read_body(struct nr_span rest, uint32_t wire, char transport, struct nr_hello *hello) {
    struct nr_span random;
    const uint8_t *const begin = rest.at;
    if (!nr_take16(&rest, &hello->version)) {
        return SHORT;
    }
    if (!is_version(hello->version, hello->type, transport)) {
        return BAD;
    }
    if (!nr_take(&rest, NR_HELLO_RANDOM, &random)) {
        return SHORT;
    }
    hello->random = random.at;
    const int got = hello->type == NR_CLIENT_HELLO ? read_client(&rest, transport, hello)
                                                   : read_server(&rest, hello);
    return got == DONE ? read_extensions(&rest, wire - (uint32_t)(rest.at - begin), hello) : got;
}

/* Does as nr_hello_open does, but for the extensions. */
static int open_parts(const uint8_t *bytes, uint32_t length, char transport,
                      struct nr_hello *hello) {
    memset(hello, 0, offsetof(struct nr_hello, types));
    if (length > 0 && bytes[0] != NR_CLIENT_HELLO && bytes[0] != NR_SERVER_HELLO) {
        return NR_NOT_THIS;
    }
    if (length < NR_HELLO_HEAD) {
        return length > 1 && bytes[1] > NR_HELLO_MAX >> 16 ? NR_NOT_THIS : NR_MORE;
    }
    const uint32_t wire = nr_be24(bytes + 1);
    const uint32_t there = length - NR_HELLO_HEAD;
    if (wire > NR_HELLO_MAX || wire < 2 + NR_HELLO_RANDOM + 4) {
        return NR_NOT_THIS;
    }
    hello->type = bytes[0];
    hello->size = NR_HELLO_HEAD + wire;
    const struct nr_span body = {bytes + NR_HELLO_HEAD, there < wire ? there : wire};
    const int got = read_body(body, wire, transport, hello);
    if (got == BAD || (got == SHORT && there >= wire)) {
        return NR_NOT_THIS;
    }
    return there < wire ? NR_MORE : NR_MESSAGE;
}

int nr_hello_open(const uint8_t *bytes, uint32_t length, char transport, struct nr_hello *hello) {
    const int verdict = open_parts(bytes, length, transport, hello);
    index_extensions(hello);
    return verdict;
}

/* -- versions -- */

/* Returns a number that is higher for newer versions. The numbers of DTLS go down; drafts of
 * TLS 1.3 have higher numbers than that. */
static uint32_t age_of(uint16_t version, char transport, bool as_ja4) {
    if (transport == 'd') {
        return version >> 8 == 0xfe ? 0x1ffffu - version : version;
    }
    const bool is_final = version >> 8 == 3 && version >= TLS_13;
    return is_final && !as_ja4 ? 0x10000u + version : version;
}

uint16_t nr_hello_newest(const struct nr_hello *hello, char transport, bool as_ja4) {
    struct nr_span body, list;
    uint16_t newest = 0, version;
    uint32_t highest = 0;
    if (!nr_hello_find(hello, NR_AT_VERSIONS, &body)) {
        return hello->version;
    }
    if (!nr_take_vector(&body, 1, &list)) {
        return 0;
    }
    while (nr_take16(&list, &version)) {
        const uint32_t age = age_of(version, transport, as_ja4);
        if (age > highest && !nr_is_grease(version)) {
            newest = version;
            highest = age;
        }
    }
    return newest;
}

/* -- the record -- */

static void add_server_name(struct nr_span body, struct nr_record *record) {
    struct nr_span list, type, name;
    if (!nr_take_vector(&body, 2, &list)) {
        return;
    }
    while (nr_take(&list, 1, &type) && nr_take_vector(&list, 2, &name)) {
        if (type.at[0] == NAME_OF_HOST && name.length > 0) {
            nr_record_text(record, NR_FIELD_SERVER_NAME, name.at, name.length);
            return;
        }
    }
}

static void add_offered(struct nr_span body, struct nr_record *record) {
    struct nr_span list, name;
    if (!nr_take_vector(&body, 2, &list)) {
        return;
    }
    while (nr_take_vector(&list, 1, &name)) {
        if (record->size + NR_FIELD_HEAD + name.length > ALPN_ROOM) {
            record->is_cut = true;
            return;
        }
        nr_record_text(record, NR_FIELD_ALPN_OFFERED, name.at, name.length);
    }
}

static void add_session(const struct nr_hello *hello, struct nr_record *record) {
    static const uint8_t none[SESSION_MAX];
    struct nr_span ticket;
    const struct nr_span *const id = &hello->session;
    const bool is_none = id->length == SESSION_MAX && memcmp(id->at, none, SESSION_MAX) == 0;
    const bool has_ticket =
        id->length == 0 && nr_hello_find(hello, NR_AT_TICKET, &ticket) && ticket.length > 0;
    if (has_ticket || (id->length > 0 && !is_none)) {
        nr_record_bytes(record, NR_FIELD_SESSION_ID, id->at, id->length);
    }
}

static void add_client(const struct nr_hello *hello, char transport, struct nr_record *record) {
    struct nr_span body;
    if (nr_hello_find(hello, NR_AT_SERVER_NAME, &body)) {
        add_server_name(body, record);
    }
    /* The old field tells the newest version only if no extension can tell another. */
    const bool is_old = hello->version < TLS_12 || hello->version == 0xfeff;
    if (hello->has_extensions || is_old || nr_hello_find(hello, NR_AT_VERSIONS, &body)) {
        const uint16_t newest = nr_hello_newest(hello, transport, false);
        if (newest != 0) {
            nr_record_number(record, NR_FIELD_CLIENT_VERSION, newest);
        }
    }
    if (nr_hello_find(hello, NR_AT_ECH, &body) && body.length > 0 && body.at[0] == ECH_OUTER) {
        nr_record_number(record, NR_FIELD_ECH, 1);
    }
    add_session(hello, record);
    if (nr_hello_find(hello, NR_AT_ALPN, &body)) {
        add_offered(body, record);
    }
}

/* Reads the version that a server chose. Returns false if the bytes that tell it are not there. */
static bool chosen_version(const struct nr_hello *hello, uint16_t *version) {
    struct nr_span body;
    *version = hello->version;
    if (nr_hello_find(hello, NR_AT_VERSIONS, &body)) {
        return nr_take16(&body, version);
    }
    return hello->has_extensions || (*version != TLS_12 && *version != DTLS_12);
}

static void add_server(const struct nr_hello *hello, char transport, struct nr_record *record) {
    struct nr_span body, list, name;
    uint16_t number;
    /* QUIC has TLS 1.3 always, and a version of its own. */
    if (transport != 'q' && chosen_version(hello, &number)) {
        nr_record_number(record, NR_FIELD_VERSION, number);
    }
    if (hello->ciphers.at != NULL) {
        nr_record_number(record, NR_FIELD_CIPHER, nr_be16(hello->ciphers.at));
    }
    if (nr_hello_find(hello, NR_AT_KEY_SHARE, &body) && nr_take16(&body, &number)) {
        nr_record_number(record, NR_FIELD_GROUP, number);
    }
    if (nr_hello_find(hello, NR_AT_PRE_SHARED_KEY, &body)) {
        nr_record_number(record, NR_FIELD_RESUMED, 1);
    }
    if (nr_hello_find(hello, NR_AT_ALPN, &body) && nr_take_vector(&body, 2, &list) &&
        nr_take_vector(&list, 1, &name)) {
        nr_record_text(record, NR_FIELD_ALPN, name.at, name.length);
    }
}

/* RFC 8446 4.1.3: a ServerHello with this random is a HelloRetryRequest. */
static bool asks_again(const struct nr_hello *hello) {
    static const uint8_t again[NR_HELLO_RANDOM] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11,
                                                   0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
                                                   0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e,
                                                   0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
    return memcmp(hello->random, again, sizeof again) == 0;
}

static void fill_message(const struct nr_hello *hello, char transport, struct nr_message *message) {
    message->used = hello->size;
    if (hello->type == NR_CLIENT_HELLO) {
        message->role = NR_ASKS;
        message->next = NR_PARSE_NOTHING;
        add_client(hello, transport, &message->record);
    } else if (asks_again(hello)) {
        message->role = NR_SILENT;
        message->next = NR_PARSE_SAME;
    } else {
        message->role = NR_ANSWERS;
        message->next = NR_PARSE_NOTHING;
        add_server(hello, transport, &message->record);
    }
}

int nr_hello_fill(const uint8_t *bytes, uint32_t length, char transport, bool is_all,
                  struct nr_hello *hello, struct nr_message *message) {
    const int verdict = open_parts(bytes, length, transport, hello);
    if (verdict == NR_NOT_THIS) {
        return NR_NOT_THIS;
    }
    if (hello->version != 0) {
        message->protocol = transport == 'd'   ? NR_APP_DTLS
                            : transport == 'q' ? NR_APP_QUIC
                                               : NR_APP_TLS;
    }
    if (verdict == NR_MORE && (!is_all || hello->random == NULL)) {
        message->needs = hello->size > 0 ? hello->size : NR_HELLO_HEAD;
        return NR_MORE;
    }
    index_extensions(hello);
    fill_message(hello, transport, message);
    if (verdict == NR_MORE) {
        message->used = length;
        nr_record_number(&message->record, NR_FIELD_CUT, 1);
    }
    return NR_MESSAGE;
}

int nr_hello_parse(const uint8_t *bytes, uint32_t length, char transport,
                   struct nr_message *message) {
    struct nr_hello hello;
    return nr_hello_fill(bytes, length, transport, false, &hello, message);
}

int nr_hello_parse_cut(const uint8_t *bytes, uint32_t length, char transport,
                       struct nr_message *message) {
    struct nr_hello hello;
    return nr_hello_fill(bytes, length, transport, true, &hello, message);
}

/* Newer servers send any ID back. */
static bool sends_any_session(uint32_t version) {
    return version == TLS_13 || version == DTLS_13 ||
           (version <= UINT16_MAX && is_draft((uint16_t)version));
}

void nr_hello_compare(const uint8_t *bytes, uint32_t length, char transport, const uint8_t *asked,
                      uint32_t asked_size, struct nr_record *record) {
    struct nr_hello hello;
    struct nr_field wanted;
    uint16_t version;
    if (sends_any_session(nr_record_value(record->bytes, record->size, NR_FIELD_VERSION, 0))) {
        return;
    }
    if (asked == NULL || nr_hello_open(bytes, length, transport, &hello) == NR_NOT_THIS ||
        hello.type != NR_SERVER_HELLO || !chosen_version(&hello, &version)) {
        return;
    }
    if (sends_any_session(version)) {
        return;
    }
    if (nr_record_find(asked, asked_size, NR_FIELD_SESSION_ID, &wanted) && wanted.length > 0 &&
        hello.session.length == wanted.length &&
        memcmp(hello.session.at, wanted.value, wanted.length) == 0) {
        nr_record_number(record, NR_FIELD_RESUMED, 1);
    }
}
