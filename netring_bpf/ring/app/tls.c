/* TLS over a stream: the record layer (RFC 8446 5.1, RFC 5246 6.2, RFC 6101 5.2), and the hello
 * that old clients send in the form of SSLv2 (RFC 5246 E.2).
 *
 * A client's hello asks, and a server's answers; a fatal alert in its place does too. */
#include "app/hello.h"

enum { CHANGE_CIPHER = 20, ALERT = 21, HANDSHAKE = 22 };
enum { RECORD_HEAD = 5, RECORD_MAX = 16384 };
enum { LEVEL_WARNING = 1, LEVEL_FATAL = 2, CLOSE_NOTIFY = 0 };
enum { NEW_TICKET = 4 };
enum { SCRATCH = 16384 };
/* Records of other types before the hello, and records of the hello. More are not believed, and
 * would be read again with every packet. */
enum { MAX_OTHERS = 8, MAX_RECORDS = 256 };

/* The handshake bytes that a stream begins with, up to the end of their first message. */
struct gathered {
    const uint8_t *at;
    uint32_t length;
    uint32_t end;        /* in the stream: behind the last of them */
    uint32_t record_end; /* of the record that has the last of them */
    uint32_t needs;
    uint32_t records;
    uint32_t others;
    bool is_alert; /* instead of a message */
    uint8_t alert;
};

struct record_head {
    uint8_t type;
    uint32_t size;
};

/* -- records -- */

/* Reads the head of a record, as far as it is there. */
static int read_head(const uint8_t *at, uint32_t left, struct record_head *head) {
    if ((left > 0 && (at[0] < CHANGE_CIPHER || at[0] > HANDSHAKE)) || (left > 1 && at[1] != 3) ||
        (left > 2 && at[2] > 4)) {
        return NR_NOT_THIS;
    }
    if (left < RECORD_HEAD) {
        return NR_MORE;
    }
    head->type = at[0];
    head->size = nr_be16(at + 3);
    switch (head->type) {
    case CHANGE_CIPHER:
        return head->size == 1 ? NR_MESSAGE : NR_NOT_THIS;
    case ALERT:
        return head->size == 2 ? NR_MESSAGE : NR_NOT_THIS;
    default:
        return head->size > 0 && head->size <= RECORD_MAX ? NR_MESSAGE : NR_NOT_THIS;
    }
}

/* Returns the bytes that the first message still lacks; of its header, if that is not there. */
static uint32_t lacks(const struct gathered *got) {
    const uint32_t size =
        got->length < NR_HELLO_HEAD ? NR_HELLO_HEAD : NR_HELLO_HEAD + nr_be24(got->at + 1);
    return size > got->length ? size - got->length : 0;
}

/* Puts the bytes of one more record behind those of the ones before, in `scratch`. Returns false if
 * they do not fit. */
static bool append(struct gathered *got, const uint8_t *at, uint32_t count, uint8_t *scratch) {
    if (got->length > SCRATCH || count > SCRATCH - got->length) {
        return false;
    }
    if (got->at != scratch) {
        memcpy(scratch, got->at, got->length);
        got->at = scratch;
    }
    memcpy(scratch + got->length, at, count);
    got->length += count;
    return true;
}

/* Takes in what is there of a record's handshake bytes, up to the end of the message. Returns
 * NR_MORE if the message goes on. */
static int read_handshake(struct gathered *got, const uint8_t *body, uint32_t there, uint32_t at,
                          uint8_t *scratch) {
    uint32_t used = 0;
    const bool is_first = got->length == 0;
    while (used < there && lacks(got) > 0) { /* at most twice: the header tells the length */
        const uint32_t left = there - used, wanted = lacks(got);
        const uint32_t taken = wanted < left ? wanted : left;
        if (is_first) { /* no copy of what is in one record */
            got->at = body;
            got->length += taken;
        } else if (!append(got, body + used, taken, scratch)) {
            return NR_NOT_THIS;
        }
        used += taken;
    }
    got->end = at + used;
    return lacks(got) > 0 ? NR_MORE : NR_MESSAGE;
}

/* Reads a record that is not of the handshake. Returns NR_MORE if the hello may follow. */
static int read_other(struct gathered *got, const uint8_t *body, uint8_t type) {
    const bool is_end = type == ALERT && (body[0] == LEVEL_FATAL || body[1] == CLOSE_NOTIFY);
    if (got->length > 0 || ++got->others > MAX_OTHERS) {
        return NR_NOT_THIS;
    }
    if (type == CHANGE_CIPHER ? body[0] != 1 : body[0] != LEVEL_FATAL && body[0] != LEVEL_WARNING) {
        return NR_NOT_THIS;
    }
    got->is_alert = is_end;
    got->alert = is_end ? body[1] : 0;
    return is_end ? NR_MESSAGE : NR_MORE;
}

/* Reads one record at `at`. Returns NR_MESSAGE at the end of the message, NR_NOT_THIS, or NR_MORE:
 * then *at is behind the record, or needs says how many bytes are wanted. */
static int read_record(const struct nr_app_bytes *bytes, uint32_t *at, uint8_t *scratch,
                       struct gathered *got) {
    const uint32_t left = bytes->length - *at;
    struct record_head head;
    int verdict = read_head(bytes->at + *at, left, &head);
    if (verdict != NR_MESSAGE) {
        got->needs = *at + RECORD_HEAD;
        return verdict;
    }
    const uint8_t *const body = bytes->at + *at + RECORD_HEAD;
    const uint32_t end = *at + RECORD_HEAD + head.size;
    const uint32_t there = left - RECORD_HEAD < head.size ? left - RECORD_HEAD : head.size;
    if (head.type == HANDSHAKE) {
        verdict = ++got->records > MAX_RECORDS
                      ? NR_NOT_THIS
                      : read_handshake(got, body, there, *at + RECORD_HEAD, scratch);
        got->record_end = end;
        const uint32_t in_record = head.size - there, wanted = lacks(got);
        got->needs = bytes->length + (wanted <= in_record ? wanted : in_record + RECORD_HEAD + 1);
    } else {
        verdict = there == head.size ? read_other(got, body, head.type) : NR_MORE;
        got->end = end;
        got->needs = there == head.size ? end + RECORD_HEAD : end;
    }
    *at = there == head.size ? end : bytes->length;
    return verdict;
}

/* Gathers a message that is whole in the first record, as most are. Returns false if it is not. */
static bool gather_one(const struct nr_app_bytes *bytes, struct gathered *got) {
    struct record_head head;
    if (bytes->length < RECORD_HEAD + NR_HELLO_HEAD || bytes->at[0] != HANDSHAKE ||
        read_head(bytes->at, bytes->length, &head) != NR_MESSAGE) {
        return false;
    }
    const uint8_t *const body = bytes->at + RECORD_HEAD;
    const uint32_t left = bytes->length - RECORD_HEAD;
    const uint32_t size = NR_HELLO_HEAD + nr_be24(body + 1);
    if (size > left || size > head.size) {
        return false;
    }
    *got = (struct gathered){
        .at = body,
        .length = size,
        .end = RECORD_HEAD + size,
        .record_end = RECORD_HEAD + head.size,
        .needs = bytes->length,
        .records = 1,
    };
    return true;
}

/* Gathers the first handshake message, as far as it is there. */
static int gather(const struct nr_app_bytes *bytes, uint8_t *scratch, struct gathered *got) {
    uint32_t at = 0;
    int verdict = NR_MORE;
    memset(got, 0, sizeof *got);
    got->needs = RECORD_HEAD;
    while (verdict == NR_MORE && at < bytes->length) {
        const uint32_t before = at;
        verdict = read_record(bytes, &at, scratch, got);
        if (at == before) { /* the head of a record is not all there */
            break;
        }
    }
    return verdict;
}

/* -- what follows a ServerHello -- */

enum { NOT_THERE = -1 };

/* Returns the type of the record that follows, or of the message if that is of the handshake too:
 * CHANGE_CIPHER and NEW_TICKET do where a session was taken up. NOT_THERE: got->needs says how many
 * bytes are wanted. */
static int next_type(const struct nr_app_bytes *bytes, struct gathered *got) {
    uint32_t at = got->end;
    if (at == got->record_end) {
        got->needs = at + 1;
        if (at >= bytes->length) {
            return NOT_THERE;
        }
        if (bytes->at[at] != HANDSHAKE) {
            return bytes->at[at];
        }
        at += RECORD_HEAD;
    }
    got->needs = at + 1;
    return at < bytes->length ? bytes->at[at] : NOT_THERE;
}

/* Adds that a session was taken up by a ticket without an ID: RFC 5077 3.4. Returns false if that
 * is not clear yet. */
static bool compare_ticket(const struct nr_app_bytes *bytes, struct gathered *got,
                           struct nr_record *record) {
    struct nr_field session;
    const uint32_t version =
        nr_record_value(record->bytes, record->size, NR_FIELD_VERSION, UINT32_MAX);
    if (bytes->asked == NULL || version > 0x0303 ||
        !nr_record_find(bytes->asked, bytes->asked_size, NR_FIELD_SESSION_ID, &session) ||
        session.length > 0) {
        return true;
    }
    const int type = next_type(bytes, got);
    if (type == NEW_TICKET || type == CHANGE_CIPHER) {
        nr_record_number(record, NR_FIELD_RESUMED, 1);
    }
    return type != NOT_THERE || bytes->is_all;
}

/* -- messages -- */

static int answer_alert(const struct nr_app_bytes *bytes, const struct gathered *got,
                        struct nr_message *message) {
    if (bytes->asked == NULL) { /* too few bytes to tell a protocol by */
        return NR_NOT_THIS;
    }
    message->protocol = NR_APP_TLS;
    message->role = NR_ANSWERS;
    message->next = NR_PARSE_NOTHING;
    message->used = got->end;
    nr_record_number(&message->record, NR_FIELD_ALERT, got->alert);
    return NR_MESSAGE;
}

static int parse_hello(const struct nr_app_bytes *bytes, struct gathered *got,
                       struct nr_message *message) {
    const int verdict =
        nr_hello_read(got->at, got->length, 't', bytes->is_all, bytes->crypto, message);
    if (verdict == NR_MORE) {
        message->needs = got->needs;
    }
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    message->used = message->role == NR_SILENT ? got->record_end : got->end;
    if (message->role == NR_ANSWERS) {
        nr_hello_compare(got->at, got->length, 't', bytes->asked, bytes->asked_size,
                         &message->record);
        if (!compare_ticket(bytes, got, &message->record)) {
            nr_record_clear(&message->record);
            message->used = 0;
            message->needs = got->needs;
            return NR_MORE;
        }
    }
    return NR_MESSAGE;
}

/* -- the form of SSLv2 -- */

enum { V2_HEAD = 11, V2_CLIENT_HELLO = 1, V2_CHALLENGE_MIN = 16, V2_CHALLENGE_MAX = 32 };

/* Checks the head, as far as it is there: length, type, version, lengths. */
static bool looks_like_v2(const uint8_t *at, uint32_t length) {
    if ((length > 2 && at[2] != V2_CLIENT_HELLO) || (length > 3 && at[3] != 3 && at[3] != 0) ||
        (length > 4 && (at[3] == 3 ? at[4] > 4 : at[4] != 2))) {
        return false;
    }
    if (length < V2_HEAD) {
        return true;
    }
    const uint32_t ciphers = nr_be16(at + 5), session = nr_be16(at + 7),
                   challenge = nr_be16(at + 9);
    return ciphers > 0 && ciphers % 3 == 0 && session <= V2_CHALLENGE_MAX &&
           challenge >= V2_CHALLENGE_MIN && challenge <= V2_CHALLENGE_MAX &&
           V2_HEAD - 2 + ciphers + session + challenge == (nr_be16(at) & 0x7fffu);
}

static int parse_v2(const struct nr_app_bytes *bytes, struct nr_message *message) {
    if (!looks_like_v2(bytes->at, bytes->length)) {
        return NR_NOT_THIS;
    }
    message->needs = V2_HEAD;
    if (bytes->length < V2_HEAD) {
        return NR_MORE;
    }
    const uint32_t size = 2 + (nr_be16(bytes->at) & 0x7fffu);
    message->protocol = NR_APP_TLS;
    message->needs = size;
    if (bytes->length < size && !bytes->is_all) {
        return NR_MORE;
    }
    message->role = NR_ASKS;
    message->next = NR_PARSE_NOTHING;
    message->used = size;
    nr_record_number(&message->record, NR_FIELD_CLIENT_VERSION, nr_be16(bytes->at + 3));
    return NR_MESSAGE;
}

static __attribute__((noinline)) int parse_gathered(const struct nr_app_bytes *bytes,
                                                    struct nr_message *message) {
    uint8_t scratch[SCRATCH];
    struct gathered got;
    if (gather(bytes, scratch, &got) == NR_NOT_THIS) {
        return NR_NOT_THIS;
    }
    return got.is_alert ? answer_alert(bytes, &got, message) : parse_hello(bytes, &got, message);
}

int nr_tls_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct gathered got;
    if (gather_one(bytes, &got)) {
        return parse_hello(bytes, &got, message);
    }
    return bytes->length > 0 && bytes->at[0] & 0x80 ? parse_v2(bytes, message)
                                                    : parse_gathered(bytes, message);
}

void nr_tls_add_ja4(const struct nr_app_bytes *bytes, struct nr_crypto *crypto,
                    struct nr_record *record) {
    uint8_t scratch[SCRATCH];
    struct gathered got;
    if (crypto == NULL || bytes->length == 0 || bytes->at[0] & 0x80 ||
        gather(bytes, scratch, &got) != NR_MESSAGE || got.is_alert) {
        return;
    }
    nr_ja4_add(got.at, got.length, 't', crypto, record);
}
