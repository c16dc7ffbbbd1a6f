/* The banners of SSH (RFC 4253 4.2), which both sides send first.
 *
 * Either side may be the first to send. The first banner asks and the second one answers, so that
 * both are one exchange, whichever is first. */
#include "app/parser.h"
#include "app/text.h"

enum {
    SSH_PORT = 22,
    BANNER_MAX = 512,  /* RFC 4253 allows 255 */
    BEFORE_MAX = 15872 /* bytes of lines that a server sends before its banner */
};
enum { VERSION_1_99 = 1u << 8 | 99, VERSION_2 = 2u << 8 };

/* Reads the version of "SSH-VERSION-SOFTWARE": two numbers of one or two digits. */
static bool read_version(struct nr_span text, uint32_t *version) {
    uint32_t part[2] = {0};
    uint32_t at = 4;
    for (int i = 0; i < 2; i++) {
        const uint32_t first = at;
        for (; at < text.length && at < first + 2 && nr_is_digit(text.at[at]); at++) {
            part[i] = part[i] * 10 + (uint32_t)(text.at[at] - '0');
        }
        if (at == first || at == text.length || text.at[at] != (i == 0 ? '.' : '-')) {
            return false;
        }
        at++;
    }
    *version = part[0] << 8 | part[1];
    return part[0] == 1 || part[0] == 2;
}

static bool is_text(struct nr_span text) {
    for (uint32_t i = 0; i < text.length; i++) {
        if ((text.at[i] < ' ' && text.at[i] != '\t') || text.at[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Returns the version that both sides speak. 1.99 is 2.0 with a willingness to speak 1.5. */
static uint32_t common_version(uint32_t one, uint32_t other) {
    if (one >= VERSION_1_99 && other >= VERSION_1_99) {
        return VERSION_2;
    }
    return one < other ? one : other;
}

/* Returns true if the question without an answer is the banner of the other side. */
static bool is_asked(const struct nr_app_bytes *bytes) {
    struct nr_field field;
    const uint8_t other = bytes->from_orig ? NR_FIELD_SERVER_SOFTWARE : NR_FIELD_CLIENT_SOFTWARE;
    return bytes->asked != NULL && nr_record_find(bytes->asked, bytes->asked_size, other, &field);
}

static int end_banner(const struct nr_app_bytes *bytes, struct nr_span text, uint32_t used,
                      struct nr_message *message) {
    struct nr_record *record = &message->record;
    uint32_t version;
    if (!is_text(text) || !read_version(text, &version)) {
        return NR_NOT_THIS;
    }
    const bool answers = is_asked(bytes);
    if (answers) {
        version = common_version(
            version, nr_record_value(bytes->asked, bytes->asked_size, NR_FIELD_VERSION, version));
    }
    message->protocol = NR_APP_SSH;
    message->role = answers ? NR_ANSWERS : NR_ASKS;
    message->next = NR_PARSE_NOTHING; /* the exchange of keys follows */
    message->used = used;
    nr_record_number(record, NR_FIELD_VERSION, version);
    nr_record_text(record, bytes->from_orig ? NR_FIELD_CLIENT_SOFTWARE : NR_FIELD_SERVER_SOFTWARE,
                   text.at, text.length);
    if (record->is_cut) {
        nr_record_number(record, NR_FIELD_CUT, 1);
    }
    return NR_MESSAGE;
}

static int read_banner(const struct nr_app_bytes *bytes, uint32_t at, struct nr_message *message) {
    const uint8_t *banner = bytes->at + at;
    const uint32_t length = bytes->length - at < BANNER_MAX ? bytes->length - at : BANNER_MAX;
    struct nr_line line;
    if (!nr_fits(banner, length, "SSH-", 4) || (length > 4 && !nr_is_digit(banner[4]))) {
        return NR_NOT_THIS;
    }
    if (nr_read_line(banner, length, &line)) {
        return end_banner(bytes, line.text, at + line.whole, message);
    }
    return bytes->is_all || length == BANNER_MAX ? NR_NOT_THIS : NR_MORE;
}

int nr_ssh_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct nr_line line;
    uint32_t at = 0;
    if (bytes->is_datagram || bytes->length == 0) {
        return NR_NOT_THIS;
    }
    /* Only a server sends other lines first. They could be those of any protocol, so that they
     * count only if the client has sent its banner, or on the port of SSH. */
    const bool waits = !bytes->from_orig && (is_asked(bytes) || bytes->src_p == SSH_PORT);
    while (waits && at < bytes->length && at < BEFORE_MAX &&
           !nr_fits(bytes->at + at, bytes->length - at, "SSH-", 4)) {
        if (!nr_read_line(bytes->at + at, bytes->length - at, &line)) {
            return bytes->is_all || bytes->length > BEFORE_MAX ? NR_NOT_THIS : NR_MORE;
        }
        if (memchr(line.text.at, 0, line.text.length) != NULL) {
            return NR_NOT_THIS;
        }
        at += line.whole;
    }
    if (at == bytes->length) {
        return bytes->is_all || at > BEFORE_MAX ? NR_NOT_THIS : NR_MORE;
    }
    return read_banner(bytes, at, message);
}
