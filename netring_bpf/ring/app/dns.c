/* DNS over UDP and TCP (RFC 1035), multicast DNS (RFC 6762) and LLMNR (RFC 4795).
 *
 * On a port of its own a message may be odd, as Zeek takes it too. On another port it is one only
 * if all of it is well-formed, and asks for one name. */
#include "app/dns_text.h"
#include "app/parser.h"
#include "dissect/cursor.h"

enum { HEADER = 12, RECORD_MIN = 11, QUESTION_MIN = 5, QUESTION_MAX = 259 };
enum { MAX_QUESTIONS = 64, MAX_ALIASES = 16 };
enum { FLAG_RESPONSE = 0x8000, FLAG_AUTHORITATIVE = 0x0400, FLAG_RESERVED = 0x0040, RCODE = 15 };
enum { OPCODE_QUERY = 0, OPCODE_NOTIFY = 4, OPCODE_UPDATE = 5 };
enum { PORT_DNS = 53, PORT_NETBIOS = 137, PORT_MDNS = 5353, PORT_LLMNR = 5355 };
enum { CLASS_MASK = 0x7fff }; /* the highest bit has a meaning of its own in multicast DNS */
enum { ANSWER_HEAD = 8, OWNER_MAX = 255 };

struct dns {
    struct nr_labels labels; /* the message */
    uint16_t id, flags;
    uint16_t questions, answers, authorities, additionals;
    uint8_t protocol;
    bool is_strict; /* on a port that promises nothing */
    bool is_cut;    /* the bytes are fewer than the message has */
};

static bool has_port(const struct nr_app_bytes *bytes, uint16_t port) {
    return bytes->src_p == port || bytes->dst_p == port;
}

/* Returns NR_APP_*, as the ports have it, and whether they leave a doubt. */
static uint8_t protocol_of(const struct nr_app_bytes *bytes, bool *is_strict) {
    *is_strict = false;
    if (has_port(bytes, PORT_DNS)) {
        return NR_APP_DNS;
    }
    if (has_port(bytes, PORT_MDNS)) {
        return NR_APP_MDNS;
    }
    if (has_port(bytes, PORT_LLMNR)) {
        return NR_APP_LLMNR;
    }
    *is_strict = true;
    return has_port(bytes, PORT_NETBIOS) ? NR_APP_NONE : NR_APP_DNS;
}

static bool is_opcode(uint16_t flags) {
    const int opcode = flags >> 11 & 15;
    return opcode == OPCODE_QUERY || opcode == OPCODE_NOTIFY || opcode == OPCODE_UPDATE;
}

/* Checks the header as a message on any port may have it. */
static bool is_strict_header(const struct dns *dns) {
    if (dns->questions != 1 || dns->flags & FLAG_RESERVED) {
        return false;
    }
    if (dns->flags & FLAG_RESPONSE) {
        return true;
    }
    return (dns->flags & (FLAG_AUTHORITATIVE | RCODE)) == 0 && dns->answers == 0 &&
           dns->authorities <= 1 && dns->additionals <= 2;
}

/* Checks the counts of a header. `length` is that of the message. */
static bool fits(const struct dns *dns, uint32_t length) {
    const uint32_t records = (uint32_t)dns->answers + dns->authorities + dns->additionals;
    const bool says_nothing = dns->questions == 0 && records == 0;
    if (dns->questions > MAX_QUESTIONS || (says_nothing && !(dns->flags & FLAG_RESPONSE))) {
        return false;
    }
    return HEADER + dns->questions * QUESTION_MIN + (uint64_t)records * RECORD_MIN <= length;
}

/* Reads the header. Returns false if it is of no message whose length is `length`. */
static bool read_header(struct dns *dns, uint32_t length) {
    const uint8_t *at = dns->labels.at;
    dns->id = nr_be16(at);
    dns->flags = nr_be16(at + 2);
    dns->questions = nr_be16(at + 4);
    dns->answers = nr_be16(at + 6);
    dns->authorities = nr_be16(at + 8);
    dns->additionals = nr_be16(at + 10);
    return is_opcode(dns->flags) && fits(dns, length) && (!dns->is_strict || is_strict_header(dns));
}

static bool is_class(uint16_t value) {
    value &= CLASS_MASK;
    return value == 1 || value == 3 || value == 4 || value == 254 || value == 255;
}

/* Skips the questions, from *at. Returns false if they are malformed, or not all there. */
static bool skip_questions(const struct dns *dns, uint32_t *at) {
    for (uint32_t i = 0; i < dns->questions; i++) {
        const uint32_t end = nr_skip_name(&dns->labels, *at);
        if (end == 0 || dns->labels.length - end < 4) {
            return false;
        }
        if (dns->is_strict &&
            (nr_be16(dns->labels.at + end) == 0 || !is_class(nr_be16(dns->labels.at + end + 2)))) {
            return false;
        }
        *at = end + 4;
    }
    return true;
}

/* Reads the parts of the record at `at`. Returns false if it is malformed, or not all there. */
static bool read_record(const struct dns *dns, uint32_t at, struct nr_dns_record *record) {
    const uint32_t end = nr_skip_name(&dns->labels, at);
    if (end == 0 || dns->labels.length - end < 10) {
        return false;
    }
    const uint8_t *fixed = dns->labels.at + end;
    const uint16_t size = nr_be16(fixed + 8);
    *record =
        (struct nr_dns_record){at, end + 10, end + 10 + size, nr_be32(fixed + 4), nr_be16(fixed)};
    return size <= dns->labels.length - record->data;
}

/* Returns true if all records behind the questions are well-formed, and fill the message. */
static bool is_well_formed(const struct dns *dns, uint32_t at) {
    const uint32_t records = (uint32_t)dns->answers + dns->authorities + dns->additionals;
    struct nr_dns_record record;
    for (uint32_t i = 0; i < records; i++) {
        if (!read_record(dns, at, &record)) {
            return false;
        }
        at = record.next;
    }
    return at == dns->labels.length;
}

/* -- answers -- */

/* The name that was asked for, and its aliases, by their places in the message. */
struct aliases {
    uint32_t count;
    uint32_t name[1 + MAX_ALIASES];
};

static bool is_alias(const struct dns *dns, const struct aliases *aliases, uint32_t owner) {
    for (uint32_t i = 0; i < aliases->count; i++) {
        if (nr_is_same_name(&dns->labels, aliases->name[i], owner)) {
            return true;
        }
    }
    return false;
}

/* Notes the records that give an alias, and returns how many there are. */
static uint32_t find_links(const struct dns *dns, uint32_t at,
                           struct nr_dns_record links[MAX_ALIASES]) {
    struct nr_dns_record record;
    uint32_t count = 0;
    for (uint32_t i = 0; i < dns->answers && count < MAX_ALIASES; i++) {
        if (!read_record(dns, at, &record)) {
            break;
        }
        at = record.next;
        if (record.type == NR_DNS_CNAME && record.next > record.data) {
            links[count++] = record;
        }
    }
    return count;
}

/* Follows the aliases from the name that was asked for, in whatever order the answers give them. */
static void find_aliases(const struct dns *dns, uint32_t asked, uint32_t answers,
                         struct aliases *aliases) {
    struct nr_dns_record links[MAX_ALIASES];
    uint32_t left = find_links(dns, answers, links);
    aliases->count = 1;
    aliases->name[0] = asked;
    for (uint32_t i = 0; i < aliases->count; i++) {
        for (uint32_t k = 0; k < left;) {
            if (!nr_is_same_name(&dns->labels, aliases->name[i], links[k].owner)) {
                k++;
                continue;
            }
            aliases->name[aliases->count++] = links[k].data;
            links[k] = links[--left];
        }
    }
}

/* Returns true for records that say nothing about a name. */
static bool is_meta(uint16_t type) {
    return type == NR_DNS_OPT || type == NR_DNS_TSIG || type == NR_DNS_TKEY || type == NR_DNS_WKS ||
           type == NR_DNS_NB;
}

/* Adds the data of an answer: an address, or text. Returns false if they are malformed. */
static bool put_data(const struct dns *dns, const struct nr_dns_record *answer,
                     struct nr_labels_text *text) {
    const uint32_t size = answer->next - answer->data;
    if (answer->type == NR_DNS_A || answer->type == NR_DNS_AAAA) {
        nr_put_bytes(text, dns->labels.at + answer->data, size);
        return size == (answer->type == NR_DNS_A ? 4u : 16u);
    }
    return nr_put_dns_data(text, &dns->labels, answer);
}

static void put_answer(const struct nr_dns_record *answer, bool is_chained,
                       const struct nr_labels_text *owner, const struct nr_labels_text *data,
                       struct nr_record *record) {
    uint8_t field[ANSWER_HEAD + OWNER_MAX + NR_LABELS_TEXT];
    const uint32_t n = owner->length < OWNER_MAX ? owner->length : OWNER_MAX;
    memcpy(field, &answer->ttl, sizeof answer->ttl);
    memcpy(field + 4, &answer->type, sizeof answer->type);
    field[6] = is_chained;
    field[7] = (uint8_t)n;
    memcpy(field + ANSWER_HEAD, owner->bytes, n);
    memcpy(field + ANSWER_HEAD + n, data->bytes, data->length);
    record->is_cut = record->is_cut || n < owner->length || data->is_cut;
    nr_record_bytes(record, NR_FIELD_ANSWER, field, ANSWER_HEAD + n + data->length);
}

/* Adds one answer. Returns false if it is malformed, or does not fit. */
static bool add_answer(const struct dns *dns, const struct nr_dns_record *answer,
                       const struct aliases *aliases, struct nr_record *record) {
    struct nr_labels_text owner = {.length = 0}, data = {.length = 0};
    const uint32_t before = record->size;
    if (nr_put_name(&owner, &dns->labels, answer->owner) == 0 || !put_data(dns, answer, &data)) {
        return false;
    }
    put_answer(answer, is_alias(dns, aliases, answer->owner), &owner, &data, record);
    return record->size > before;
}

/* Adds the answers from *at, and moves *at behind them. Returns false if not all could be read. */
static bool add_answers(const struct dns *dns, uint32_t *at, const struct aliases *aliases,
                        struct nr_record *record) {
    struct nr_dns_record answer;
    for (uint32_t i = 0; i < dns->answers; i++) {
        if (!read_record(dns, *at, &answer) ||
            (!is_meta(answer.type) && !add_answer(dns, &answer, aliases, record))) {
            return false;
        }
        *at = answer.next;
    }
    return true;
}

/* Adds the addresses among the additional records of multicast DNS. */
static bool add_addresses(const struct dns *dns, uint32_t at, const struct aliases *aliases,
                          struct nr_record *record) {
    const uint32_t records = (uint32_t)dns->authorities + dns->additionals;
    struct nr_dns_record extra;
    uint32_t added = 0, i;
    for (i = 0; i < records && read_record(dns, at, &extra); i++) {
        const bool is_address = extra.type == NR_DNS_A || extra.type == NR_DNS_AAAA;
        if (i >= dns->authorities && is_address) {
            if (!add_answer(dns, &extra, aliases, record)) {
                break;
            }
            added++;
        }
        at = extra.next;
    }
    if (added > 0) {
        nr_record_number(record, NR_FIELD_ADDITIONAL, added);
    }
    return i == records;
}

/* -- messages -- */

/* Adds the first question, or of an answer without one, the name that it is about. */
static bool add_question(const struct dns *dns, struct nr_record *record) {
    struct nr_labels_text query = {.length = 0};
    const uint32_t end = nr_put_name(&query, &dns->labels, HEADER);
    if (end == 0) {
        return false;
    }
    nr_record_text(record, NR_FIELD_QUERY, query.bytes, query.length);
    if (dns->questions > 0) {
        nr_record_number(record, NR_FIELD_QUERY_TYPE, nr_be16(dns->labels.at + end));
        nr_record_number(record, NR_FIELD_QUERY_CLASS, nr_be16(dns->labels.at + end + 2));
    }
    nr_record_number(record, NR_FIELD_ID, dns->id);
    return true;
}

static void add_response(const struct dns *dns, uint32_t answers, struct nr_record *record) {
    struct aliases aliases;
    nr_record_number(record, NR_FIELD_RCODE, dns->flags & RCODE);
    if ((dns->flags >> 11 & 15) == OPCODE_UPDATE || dns->answers == 0) {
        return; /* the sections of an update are no answers */
    }
    find_aliases(dns, HEADER, answers, &aliases);
    bool is_whole = add_answers(dns, &answers, &aliases, record);
    if (is_whole && dns->protocol == NR_APP_MDNS) {
        is_whole = add_addresses(dns, answers, &aliases, record);
    }
    record->is_cut = record->is_cut || !is_whole;
}

/* Questions by multicast get their answers in other flows, and multicast DNS does not tell which
 * question an answer belongs to. */
static uint8_t role_of(const struct nr_app_bytes *bytes, const struct dns *dns) {
    const bool is_response = (dns->flags & FLAG_RESPONSE) != 0;
    if (!is_response && dns->questions == 0) {
        return NR_SILENT; /* more of the answers that an asker knows already */
    }
    const bool is_multicast =
        bytes->is_datagram &&
        ((dns->protocol == NR_APP_MDNS && bytes->src_p == PORT_MDNS && bytes->dst_p == PORT_MDNS) ||
         (dns->protocol == NR_APP_LLMNR && !is_response));
    return is_multicast ? NR_ALONE : is_response ? NR_ANSWERS : NR_ASKS;
}

/* Reads a message, of which the bytes of `dns` are there. */
static int read_message(const struct nr_app_bytes *bytes, const struct dns *dns,
                        struct nr_message *message) {
    uint32_t at = HEADER;
    const bool has_questions = skip_questions(dns, &at);
    const bool has_name = dns->questions > 0 || dns->answers > 0;
    if (!has_questions && (dns->is_strict || dns->questions > 0)) {
        return NR_NOT_THIS;
    }
    if (dns->is_strict && !dns->is_cut && !is_well_formed(dns, at)) {
        return NR_NOT_THIS;
    }
    if (has_name && !add_question(dns, &message->record)) {
        return NR_NOT_THIS;
    }
    if (!has_name) {
        nr_record_number(&message->record, NR_FIELD_ID, dns->id);
    }
    nr_record_number(&message->record, NR_FIELD_DNS_FLAGS, dns->flags);
    if (dns->flags & FLAG_RESPONSE) {
        add_response(dns, at, &message->record);
    }
    message->record.is_cut = message->record.is_cut || dns->is_cut;
    message->protocol = dns->protocol;
    message->role = role_of(bytes, dns);
    message->next = NR_PARSE_SAME;
    message->pair = dns->id;
    return NR_MESSAGE;
}

static int read_datagram(const struct nr_app_bytes *bytes, struct dns *dns,
                         struct nr_message *message) {
    dns->labels = (struct nr_labels){bytes->at, bytes->length};
    dns->is_cut = bytes->is_cut;
    if (bytes->length < HEADER || !read_header(dns, bytes->is_cut ? UINT32_MAX : bytes->length)) {
        return NR_NOT_THIS;
    }
    message->used = bytes->length;
    return read_message(bytes, dns, message);
}

/* Reads the first bytes of a message that is not all there. */
static int read_beginning(const struct dns *dns, uint32_t size, struct nr_message *message) {
    uint32_t at = HEADER;
    if (skip_questions(dns, &at)) {
        message->protocol = dns->protocol;
    } else if (dns->is_strict && dns->labels.length >= HEADER + QUESTION_MAX) {
        return NR_NOT_THIS;
    }
    message->needs = 2 + size;
    return NR_MORE;
}

/* Returns true if the first bytes of a header may be one. */
static bool may_be_header(const struct nr_labels *labels, bool is_strict) {
    if (labels->length < 4) {
        return true;
    }
    const uint16_t flags = nr_be16(labels->at + 2);
    if (!is_opcode(flags)) {
        return false;
    }
    if (!is_strict) {
        return true;
    }
    const bool is_query = (flags & FLAG_RESPONSE) == 0;
    return (flags & FLAG_RESERVED) == 0 && !(is_query && flags & (FLAG_AUTHORITATIVE | RCODE)) &&
           (labels->length < 6 || nr_be16(labels->at + 4) == 1);
}

static int read_stream(const struct nr_app_bytes *bytes, struct dns *dns,
                       struct nr_message *message) {
    if (bytes->length < 2) {
        message->needs = 2;
        return bytes->length == 0 || bytes->is_all ? NR_NOT_THIS : NR_MORE;
    }
    const uint32_t size = nr_be16(bytes->at);
    const uint32_t there = bytes->length - 2;
    dns->labels = (struct nr_labels){bytes->at + 2, there < size ? there : size};
    dns->is_cut = there < size;
    if (size < HEADER || !may_be_header(&dns->labels, dns->is_strict)) {
        return NR_NOT_THIS;
    }
    if (dns->labels.length < HEADER) {
        message->needs = 2 + HEADER;
        return bytes->is_all ? NR_NOT_THIS : NR_MORE;
    }
    if (!read_header(dns, size)) {
        return NR_NOT_THIS;
    }
    if (dns->is_cut && !bytes->is_all) {
        return read_beginning(dns, size, message);
    }
    message->used = 2 + size;
    return read_message(bytes, dns, message);
}

int nr_dns_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct dns dns = {.is_cut = false};
    dns.protocol = protocol_of(bytes, &dns.is_strict);
    if (dns.protocol == NR_APP_NONE) {
        return NR_NOT_THIS;
    }
    const int verdict = bytes->is_datagram ? read_datagram(bytes, &dns, message)
                                           : read_stream(bytes, &dns, message);
    if (verdict != NR_MESSAGE) {
        nr_record_clear(&message->record);
    }
    return verdict;
}
