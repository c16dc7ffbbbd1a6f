/* Protocols that may change to TLS within their stream: SMTP (RFC 3207), IMAP and POP3 (RFC 2595),
 * FTP (RFC 4217), LDAP (RFC 4511 4.14), XMPP (RFC 6120 5), PostgreSQL and MySQL.
 *
 * Both sides are read command by command, up to the answer that lets TLS begin. The first message
 * that tells the protocol is NR_ALONE and has an empty record: it gives the flow its label. All
 * others are NR_SILENT. The note remembers the protocol, whether TLS was asked for, and the number
 * of messages; a login without TLS, or too many messages, end the reading. */
#include "app/parser.h"
#include "app/text.h"

enum {
    MESSAGES_MAX = 64, /* of both sides */
    LINE_MAX = 2048,
    LDAP_MAX = 8192,
    MYSQL_MAX = 512,
    STARTUP_MAX = 2048 /* of PostgreSQL */
};

/* The note: a mark, the number of messages, flags, and the protocol. */
enum { NOTE_MARK = 0x53000000, NOTE_COUNT = 1 << 16, NOTE_ASKED = 0x100, NOTE_ENDED = 0x200 };

/* Meanings of a message. */
enum meaning {
    GOES_ON,
    ASKS,    /* for TLS */
    REFUSES, /* it */
    BEGINS,  /* TLS follows */
    ENDS     /* TLS will not follow */
};

struct step {
    uint8_t protocol; /* NR_APP_NONE: the message does not tell it */
    uint8_t meaning;
    uint64_t used;
    uint32_t needs; /* if it is not whole */
};

/* A side's bytes, and what the note says. */
struct side {
    const uint8_t *at;
    uint32_t length;
    bool from_orig;
    bool is_asked;
    uint16_t port; /* the server's */
};

/* -- lines -- */

/* Reads a line. Returns NR_MORE if its end may still come. */
static int read_line(const struct side *side, struct nr_line *line) {
    const uint32_t length = side->length < LINE_MAX ? side->length : LINE_MAX;
    if (nr_read_line(side->at, length, line)) {
        return NR_MESSAGE;
    }
    return length == LINE_MAX ? NR_NOT_THIS : NR_MORE;
}

/* Returns the line behind its first word. */
static struct nr_span behind_word(struct nr_span line) {
    while (line.length > 0 && !nr_is_blank(line.at[0])) {
        line.at++;
        line.length--;
    }
    return nr_strip(line);
}

static bool begins_with_any(struct nr_span line, const char *const *words) {
    for (; *words != NULL; words++) {
        if (nr_begins_word(line, *words)) {
            return true;
        }
    }
    return false;
}

/* The last line of a reply of SMTP or FTP has a blank behind its code; the others have '-' there,
 * or have no code. Returns the code; 0: it is not the last line. */
static uint32_t reply_code(struct nr_span line) {
    if (line.length < 3 || !nr_is_digit(line.at[0]) || !nr_is_digit(line.at[1]) ||
        !nr_is_digit(line.at[2]) || (line.length > 3 && line.at[3] != ' ')) {
        return 0;
    }
    return (uint32_t)(line.at[0] - '0') * 100 + (uint32_t)(line.at[1] - '0') * 10 +
           (uint32_t)(line.at[2] - '0');
}

static uint8_t answer(const struct side *side, bool is_last, bool agrees) {
    if (!side->is_asked || !is_last) {
        return GOES_ON;
    }
    return agrees ? BEGINS : REFUSES;
}

static uint8_t smtp_meaning(const struct side *side, struct nr_span line) {
    static const char *const mail[] = {"auth", "mail", "rcpt", "data", "bdat", NULL};
    if (!side->from_orig) {
        const uint32_t code = reply_code(line);
        return answer(side, code != 0, code == 220);
    }
    if (nr_begins_word(line, "starttls")) {
        return ASKS;
    }
    return begins_with_any(line, mail) ? ENDS : GOES_ON;
}

static uint8_t ftp_meaning(const struct side *side, struct nr_span line) {
    static const char *const login[] = {"user", "pass", "acct", NULL};
    if (!side->from_orig) {
        const uint32_t code = reply_code(line);
        return answer(side, code != 0, code == 234);
    }
    if (nr_begins_word(line, "auth")) {
        const struct nr_span kind = behind_word(line);
        return nr_begins(kind, "tls") || nr_begins(kind, "ssl") ? ASKS : GOES_ON;
    }
    return begins_with_any(line, login) ? ENDS : GOES_ON;
}

static uint8_t pop3_meaning(const struct side *side, struct nr_span line) {
    static const char *const login[] = {"user", "pass", "apop", NULL};
    if (!side->from_orig) {
        const bool agrees = nr_begins_word(line, "+ok");
        return answer(side, agrees || nr_begins_word(line, "-err"), agrees);
    }
    if (nr_begins_word(line, "stls")) {
        return ASKS;
    }
    /* AUTH alone asks for a list. */
    const bool logs_in = nr_begins_word(line, "auth") && behind_word(line).length > 0;
    return logs_in || begins_with_any(line, login) ? ENDS : GOES_ON;
}

static uint8_t imap_meaning(const struct side *side, struct nr_span line) {
    static const char *const login[] = {"login", "authenticate", NULL};
    const struct nr_span rest = behind_word(line);
    if (!side->from_orig) {
        const bool is_tagged = line.length > 0 && line.at[0] != '*' && line.at[0] != '+';
        return answer(side, is_tagged, nr_begins_word(rest, "ok"));
    }
    if (nr_begins_word(rest, "starttls")) {
        return ASKS;
    }
    return begins_with_any(rest, login) ? ENDS : GOES_ON;
}

static int read_command(const struct side *side, uint8_t protocol, struct step *step) {
    struct nr_line line;
    const int verdict = read_line(side, &line);
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    step->used = line.whole;
    switch (protocol) {
    case NR_APP_SMTP:
        step->meaning = smtp_meaning(side, line.text);
        break;
    case NR_APP_FTP:
        step->meaning = ftp_meaning(side, line.text);
        break;
    case NR_APP_POP3:
        step->meaning = pop3_meaning(side, line.text);
        break;
    default:
        step->meaning = imap_meaning(side, line.text);
        break;
    }
    return NR_MESSAGE;
}

/* -- the first line of a server, or of a client -- */

/* Returns the protocol of a greeting "220 ...", by its words, else by the port. */
static uint8_t greeter(const struct side *side, struct nr_span text) {
    if (nr_contains(text, "smtp")) {
        return NR_APP_SMTP;
    }
    if (nr_contains(text, "ftp")) {
        return NR_APP_FTP;
    }
    switch (side->port) {
    case 21:
        return NR_APP_FTP;
    case 25:
    case 587:
    case 2525:
        return NR_APP_SMTP;
    default:
        return NR_APP_NONE; /* the client's first command tells */
    }
}

static bool is_printable(struct nr_span text) {
    for (uint32_t i = 0; i < text.length; i++) {
        if ((text.at[i] < ' ' && text.at[i] != '\t') || text.at[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

/* The beginning of a line, and the character behind it. `port` 0: on any port. */
struct beginning {
    const char *first;
    char next;
    uint8_t protocol;
    uint16_t port;
};

/* Redis answers with a bare +OK too. */
static const struct beginning GREETINGS[] = {
    {"220", ' ', NR_APP_SMTP, 0},   {"220", '-', NR_APP_SMTP, 0},
    {"+OK", ' ', NR_APP_POP3, 0},   {"+OK", '\r', NR_APP_POP3, 110},
    {"* OK", ' ', NR_APP_IMAP, 0},  {"* PREAUTH", ' ', NR_APP_IMAP, 0},
    {"* BYE", ' ', NR_APP_IMAP, 0},
};

/* The first commands of a client whose server said nothing clear. */
static const struct beginning COMMANDS[] = {
    {"EHLO", ' ', NR_APP_SMTP, 0},     {"HELO", ' ', NR_APP_SMTP, 0},
    {"LHLO", ' ', NR_APP_SMTP, 0},     {"ehlo", ' ', NR_APP_SMTP, 0},
    {"helo", ' ', NR_APP_SMTP, 0},     {"AUTH TLS", '\r', NR_APP_FTP, 0},
    {"AUTH SSL", '\r', NR_APP_FTP, 0},
};
enum {
    GREETING_COUNT = sizeof GREETINGS / sizeof *GREETINGS,
    COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS
};

static bool fits_beginning(const struct side *side, const struct beginning *beginning) {
    if ((uint8_t)beginning->first[0] != side->at[0]) {
        return false;
    }
    const uint32_t size = (uint32_t)strlen(beginning->first);
    return (beginning->port == 0 || beginning->port == side->port) &&
           nr_fits(side->at, side->length, beginning->first, size) &&
           (side->length <= size || side->at[size] == (uint8_t)beginning->next);
}

/* Returns the protocol whose first line the bytes may be. */
static uint8_t beginner(const struct side *side) {
    const struct beginning *beginning = side->from_orig ? COMMANDS : GREETINGS;
    const struct beginning *end = beginning + (side->from_orig ? COMMAND_COUNT : GREETING_COUNT);
    for (; beginning < end; beginning++) {
        if (fits_beginning(side, beginning)) {
            return beginning->protocol;
        }
    }
    return NR_APP_NONE;
}

static int recognise_line(const struct side *side, struct step *step) {
    struct nr_line line;
    const uint8_t protocol = beginner(side);
    if (protocol == NR_APP_NONE) {
        return NR_NOT_THIS;
    }
    const int verdict = read_line(side, &line);
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    if (!is_printable(line.text)) {
        return NR_NOT_THIS;
    }
    step->used = line.whole;
    step->protocol = protocol;
    if (side->from_orig) {
        return read_command(side, protocol, step);
    }
    if (side->at[0] == '2') {
        step->protocol = greeter(side, line.text);
    }
    return NR_MESSAGE;
}

/* -- LDAP -- */

enum {
    LDAP_BIND = 0x60,
    LDAP_SEARCH = 0x63,
    LDAP_EXTENDED = 0x77,
    LDAP_EXTENDED_ANSWER = 0x78,
    BER_INTEGER = 0x02,
    BER_STRING = 0x04,
    BER_ENUMERATED = 0x0a,
    BER_SEQUENCE = 0x30
};

/* Reads a tag and a length. Returns the bytes of both; 0: they are not whole, or not allowed. */
static uint32_t read_tag(const uint8_t *at, uint32_t length, uint8_t *tag, uint32_t *size) {
    if (length < 2) {
        return 0;
    }
    *tag = at[0];
    *size = at[1];
    if (at[1] < 0x80) {
        return 2;
    }
    const uint32_t bytes = at[1] & 0x7f;
    if (bytes == 0 || bytes > 4 || length < 2 + bytes) {
        return 0;
    }
    *size = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        *size = *size << 8 | at[2 + i];
    }
    return 2 + bytes;
}

/* A message of LDAP: its operation, and the bytes of it that are there. */
struct ldap {
    uint64_t whole;
    uint8_t operation;
    struct nr_span body;
};

enum { LDAP_HEAD = 18 }; /* of two tags with lengths, and the number between them */

static int open_ldap(const struct side *side, struct ldap *ldap) {
    uint8_t tag;
    uint32_t size, body;
    const uint32_t head = read_tag(side->at, side->length, &tag, &size);
    if (side->at[0] != BER_SEQUENCE || (side->length >= 6 && head == 0)) {
        return NR_NOT_THIS;
    }
    if (head == 0 || side->length < head + 3) {
        return NR_MORE;
    }
    const uint32_t number = side->at[head + 1];
    const uint32_t at = head + 2 + number;
    if (side->at[head] != BER_INTEGER || number == 0 || number > 4 || size < 4 + number) {
        return NR_NOT_THIS;
    }
    ldap->whole = (uint64_t)head + size;
    if (side->length < ldap->whole && side->length < LDAP_HEAD) {
        return NR_MORE;
    }
    const uint32_t operation =
        at < side->length ? read_tag(side->at + at, side->length - at, &ldap->operation, &body) : 0;
    if (operation == 0 || (uint64_t)at + operation + body > ldap->whole) {
        return NR_NOT_THIS;
    }
    ldap->body = (struct nr_span){side->at + at + operation, side->length - at - operation};
    ldap->body.length = ldap->body.length < body ? ldap->body.length : body;
    return NR_MESSAGE;
}

static bool asks_for_tls(const struct ldap *ldap) {
    static const char name[] = "\x80\x16"
                               "1.3.6.1.4.1.1466.20037";
    return ldap->operation == LDAP_EXTENDED && ldap->body.length >= sizeof name - 1 &&
           memcmp(ldap->body.at, name, sizeof name - 1) == 0;
}

/* Returns true for the first request of a client: to log in, to search, or to begin TLS. */
static bool is_ldap_request(const struct ldap *ldap) {
    const uint8_t *at = ldap->body.at;
    const uint32_t length = ldap->body.length;
    if (ldap->operation == LDAP_BIND) {
        return length >= 5 && at[0] == BER_INTEGER && at[1] == 1 && (at[2] == 2 || at[2] == 3) &&
               at[3] == BER_STRING;
    }
    if (ldap->operation == LDAP_SEARCH) {
        uint8_t tag;
        uint32_t size;
        const uint32_t head = read_tag(at, length, &tag, &size);
        if (head == 0 || tag != BER_STRING || size > LDAP_MAX || length < head + size + 6) {
            return false;
        }
        at += head + size; /* behind the base: the scope, and the use of aliases */
        return at[0] == BER_ENUMERATED && at[1] == 1 && at[2] <= 3 && at[3] == BER_ENUMERATED &&
               at[4] == 1 && at[5] <= 3;
    }
    return asks_for_tls(ldap);
}

static uint8_t ldap_meaning(const struct side *side, const struct ldap *ldap) {
    if (side->from_orig) {
        return asks_for_tls(ldap) ? ASKS : ldap->operation == LDAP_BIND ? ENDS : GOES_ON;
    }
    const bool agrees = ldap->body.length >= 3 && ldap->body.at[0] == BER_ENUMERATED &&
                        ldap->body.at[1] == 1 && ldap->body.at[2] == 0;
    return answer(side, ldap->operation == LDAP_EXTENDED_ANSWER, agrees);
}

/* `is_known`: the flow is LDAP; else the message must leave no doubt. */
static int read_ldap(const struct side *side, bool is_known, struct step *step) {
    struct ldap ldap;
    const int verdict = open_ldap(side, &ldap);
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    const bool is_looked_at =
        !is_known || ldap.operation == LDAP_EXTENDED || ldap.operation == LDAP_EXTENDED_ANSWER;
    if (ldap.whole > LDAP_MAX && is_looked_at) {
        return NR_NOT_THIS;
    }
    if (!is_known && ldap.operation != LDAP_BIND && ldap.operation != LDAP_SEARCH &&
        ldap.operation != LDAP_EXTENDED) {
        return NR_NOT_THIS;
    }
    if (side->length < ldap.whole && is_looked_at) {
        step->needs = (uint32_t)ldap.whole;
        return NR_MORE;
    }
    if (!is_known && !is_ldap_request(&ldap)) {
        return NR_NOT_THIS;
    }
    step->protocol = NR_APP_LDAP;
    step->used = ldap.whole;
    step->meaning = ldap_meaning(side, &ldap);
    return NR_MESSAGE;
}

/* -- XMPP -- */

/* Finds the end of the first tag. Returns 0 if it is not there. */
static uint32_t tag_end(const struct side *side, uint32_t from) {
    const uint32_t length = side->length < LINE_MAX ? side->length : LINE_MAX;
    const uint8_t *end = from < length ? memchr(side->at + from, '>', length - from) : NULL;
    return end == NULL ? 0 : (uint32_t)(end - side->at) + 1;
}

/* A stream begins with its tag, perhaps behind the declaration of XML. */
static int recognise_xmpp(const struct side *side, struct step *step) {
    static const char declaration[] = "<?xml ", stream[] = "<stream:stream ";
    const int more = side->length < LINE_MAX ? NR_MORE : NR_NOT_THIS;
    uint32_t at = 0;
    if (nr_fits(side->at, side->length, declaration, sizeof declaration - 1)) {
        at = tag_end(side, 0);
        if (at == 0) {
            return more;
        }
        while (at < side->length && at < LINE_MAX &&
               (nr_is_blank(side->at[at]) || side->at[at] == '\r' || side->at[at] == '\n')) {
            at++;
        }
        if (at == side->length) {
            return more;
        }
    }
    if (!nr_fits(side->at + at, side->length - at, stream, sizeof stream - 1)) {
        return NR_NOT_THIS;
    }
    const uint32_t end = tag_end(side, at);
    if (end == 0) {
        return more;
    }
    if (!nr_contains((struct nr_span){side->at + at, end - at}, "jabber")) {
        return NR_NOT_THIS;
    }
    step->protocol = NR_APP_XMPP;
    step->used = end;
    return NR_MESSAGE;
}

static int read_xmpp(const struct side *side, struct step *step) {
    const uint32_t end = tag_end(side, 0);
    if (end == 0) {
        return side->length < LINE_MAX ? NR_MORE : NR_NOT_THIS;
    }
    step->used = end;
    const uint8_t *begin = memchr(side->at, '<', end);
    const struct nr_span tag = {begin, begin == NULL ? 0 : end - (uint32_t)(begin - side->at)};
    if (!side->from_orig) {
        const bool agrees = nr_begins(tag, "<proceed");
        step->meaning = answer(side, agrees || nr_begins(tag, "<failure"), agrees);
    } else if (nr_begins(tag, "<starttls")) {
        step->meaning = ASKS;
    } else if (nr_begins(tag, "<auth") || nr_begins(tag, "<iq") || nr_begins(tag, "<message")) {
        step->meaning = ENDS;
    }
    return NR_MESSAGE;
}

/* -- PostgreSQL -- */

static const uint8_t ASK_TLS[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
static const uint8_t ASK_GSS[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30};
static const uint8_t CANCEL[] = {0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e};

/* The first message with a version: names and values, each with a NUL behind it. */
static int read_startup(const struct side *side, struct step *step) {
    static const uint8_t version[] = {0, 3, 0};
    const uint8_t *at = side->at;
    if (at[0] != 0 || (side->length > 1 && at[1] != 0) ||
        (side->length > 4 && !nr_fits(at + 4, side->length - 4, version, sizeof version)) ||
        (side->length > 8 && (at[8] < 'a' || at[8] > 'z'))) {
        return NR_NOT_THIS;
    }
    if (side->length < 9) {
        return NR_MORE;
    }
    const uint32_t whole = (uint32_t)(at[2] << 8 | at[3]);
    if (whole < 16 || whole > STARTUP_MAX) {
        return NR_NOT_THIS;
    }
    if (side->length < whole) {
        step->needs = whole;
        return NR_MORE;
    }
    if (at[whole - 1] != 0 || at[whole - 2] != 0) {
        return NR_NOT_THIS;
    }
    step->meaning = ENDS;
    step->used = whole;
    return NR_MESSAGE;
}

static int read_postgresql(const struct side *side, struct step *step) {
    int verdict = NR_MESSAGE;
    step->protocol = NR_APP_POSTGRESQL;
    if (!side->from_orig) { /* one byte answers */
        step->used = 1;
        step->meaning = side->at[0] == 'S' || side->at[0] == 'N'
                            ? answer(side, true, side->at[0] == 'S')
                            : ENDS;
    } else if (nr_fits(side->at, side->length, ASK_TLS, sizeof ASK_TLS)) {
        step->used = sizeof ASK_TLS;
        step->meaning = ASKS;
    } else if (nr_fits(side->at, side->length, ASK_GSS, sizeof ASK_GSS)) {
        step->used = sizeof ASK_GSS;
    } else if (nr_fits(side->at, side->length, CANCEL, sizeof CANCEL)) {
        step->used = CANCEL[3];
        step->meaning = ENDS;
    } else {
        verdict = read_startup(side, step);
    }
    return verdict == NR_MESSAGE && step->used > side->length ? NR_MORE : verdict;
}

/* -- MySQL -- */

enum { MYSQL_HEAD = 4, MYSQL_TLS = 0x08 /* in the second byte of the capabilities */ };

static uint32_t mysql_length(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
}

/* The greeting: version 10, the server's version, and behind 14 bytes its capabilities. */
static int recognise_mysql(const struct side *side, struct step *step) {
    const uint8_t *at = side->at;
    if ((side->length > 2 && at[2] != 0) || (side->length > 3 && at[3] != 0) ||
        (side->length > 4 && at[4] != 10) || (side->length > 5 && !nr_is_digit(at[5]))) {
        return NR_NOT_THIS;
    }
    if (side->length < 6) {
        return NR_MORE;
    }
    const uint32_t whole = MYSQL_HEAD + mysql_length(at);
    if (whole < 32 || whole > MYSQL_MAX) {
        return NR_NOT_THIS;
    }
    if (side->length < whole) {
        step->needs = whole;
        return NR_MORE;
    }
    const uint8_t *end = memchr(at + 5, 0, whole - 5);
    const uint32_t version = end == NULL ? 0 : (uint32_t)(end - at);
    if (version == 0 || version + 16 > whole || at[version + 13] != 0 ||
        memchr(at + 5, '.', version - 5) == NULL ||
        !is_printable((struct nr_span){at + 5, version - 5})) {
        return NR_NOT_THIS;
    }
    step->protocol = NR_APP_MYSQL;
    step->used = whole;
    step->meaning = at[version + 15] & MYSQL_TLS ? GOES_ON : ENDS;
    return NR_MESSAGE;
}

/* The client begins TLS without an answer, right behind a short login that has no name. */
static int read_mysql(const struct side *side, struct step *step) {
    if (side->length < MYSQL_HEAD + 2) {
        return NR_MORE;
    }
    const uint32_t length = mysql_length(side->at);
    step->used = (uint64_t)MYSQL_HEAD + length;
    step->meaning =
        side->from_orig && length == 32 && (side->at[MYSQL_HEAD + 1] & MYSQL_TLS) ? BEGINS : ENDS;
    return NR_MESSAGE;
}

/* -- all of them -- */

/* Reads the first message, which must tell its protocol, or leave that to the next. */
static int recognise(const struct side *side, struct step *step) {
    int verdict = recognise_line(side, step);
    if (verdict != NR_NOT_THIS) {
        return verdict;
    }
    if (side->at[0] == '<') {
        return recognise_xmpp(side, step);
    }
    if (!side->from_orig) {
        return recognise_mysql(side, step);
    }
    return side->at[0] == BER_SEQUENCE ? read_ldap(side, false, step) : read_postgresql(side, step);
}

static int go_on(const struct side *side, uint8_t protocol, struct step *step) {
    switch (protocol) {
    case NR_APP_LDAP:
        return read_ldap(side, true, step);
    case NR_APP_XMPP:
        return read_xmpp(side, step);
    case NR_APP_POSTGRESQL:
        return read_postgresql(side, step);
    case NR_APP_MYSQL:
        return read_mysql(side, step);
    default:
        return read_command(side, protocol, step);
    }
}

/* LDAP in a datagram (MS-ADTS 6.3.3): a search that fills it. */
static int read_datagram(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const struct side side = {.at = bytes->at, .length = bytes->length, .from_orig = true};
    struct step step = {0};
    if (bytes->at[0] != BER_SEQUENCE || read_ldap(&side, false, &step) != NR_MESSAGE ||
        step.used != bytes->length) {
        return NR_NOT_THIS;
    }
    message->protocol = NR_APP_LDAP;
    message->role = NR_ALONE;
    message->next = NR_PARSE_NOTHING;
    message->used = bytes->length;
    return NR_MESSAGE;
}

/* Writes the message of a step, and its note. */
static void end_step(const struct step *step, uint8_t known, uint32_t note,
                     struct nr_message *message) {
    const uint8_t protocol = known != NR_APP_NONE ? known : step->protocol;
    const uint32_t count = (note >> 16 & 0xff) + 1;
    bool is_asked = note & NOTE_ASKED;
    if (step->meaning == ASKS || step->meaning == REFUSES) {
        is_asked = step->meaning == ASKS;
    }
    const bool ends = step->meaning == ENDS || count >= MESSAGES_MAX;
    message->protocol = protocol;
    message->role = known == protocol ? NR_SILENT : NR_ALONE;
    message->used = step->used;
    message->hands_over = step->meaning == BEGINS;
    message->next = ends ? NR_PARSE_NOTHING : NR_PARSE_SAME;
    message->note = NOTE_MARK | count * NOTE_COUNT | (is_asked ? NOTE_ASKED : 0u) |
                    (ends ? NOTE_ENDED : 0u) | protocol;
}

/* Other parsers leave other notes. */
static bool is_own(uint32_t note) {
    const uint32_t protocol = note & 0xff;
    return (note & 0xff000000u) == NOTE_MARK &&
           (protocol == NR_APP_NONE || (protocol >= NR_APP_SMTP && protocol <= NR_APP_MYSQL));
}

int nr_starttls_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const uint32_t note = is_own(bytes->note) ? bytes->note : 0;
    const uint8_t known = (uint8_t)note;
    struct step step = {0};
    int verdict;
    if (bytes->length == 0) {
        return NR_NOT_THIS;
    }
    if (bytes->is_datagram) {
        return read_datagram(bytes, message);
    }
    const struct side side = {
        .at = bytes->at,
        .length = bytes->length,
        .from_orig = bytes->from_orig,
        .is_asked = note & NOTE_ASKED,
        .port = bytes->from_orig ? bytes->dst_p : bytes->src_p,
    };
    if (note & NOTE_ENDED) {
        verdict = NR_NOT_THIS;
    } else if (known == NR_APP_NONE) {
        verdict = recognise(&side, &step);
    } else if (side.from_orig && side.is_asked && bytes->at[0] == 0x16) {
        verdict = NR_MORE; /* TLS; the answer that lets it begin is late */
    } else {
        verdict = go_on(&side, known, &step);
    }
    if (verdict == NR_MORE && !bytes->is_all) {
        message->protocol = known;
        message->needs = step.needs;
        return NR_MORE;
    }
    if (verdict != NR_MESSAGE && known == NR_APP_NONE) {
        return NR_NOT_THIS;
    }
    if (verdict != NR_MESSAGE) { /* the label stays */
        step = (struct step){.meaning = ENDS, .used = bytes->length};
    }
    end_step(&step, known, note, message);
    return NR_MESSAGE;
}
