/* The name service of NetBIOS (RFC 1001 and 1002): queries, registrations, refreshes, and their
 * answers. A name is 16 bytes, written as 32 letters from A to P, which nothing else has. */
#include "app/dns_name.h"
#include "app/parser.h"
#include "dissect/cursor.h"

enum { HEADER = 12, NAME_LETTERS = 32, NAME_SIZE = 15, NAME_END = 34 };
enum { TYPE_A = 1, TYPE_NB = 32, TYPE_NBSTAT = 33, TYPE_NULL = 10, CLASS_IN = 1 };
enum { FLAG_RESPONSE = 0x8000, FLAG_BROADCAST = 0x10, RCODE = 15, OPCODE_QUERY = 0 };
enum { GROUP = 0x80, ADDRESS_SIZE = 6, STATUS_SIZE = 18, MAX_ADDRESSES = 25, ANSWER_HEAD = 8 };
enum { SUFFIX_WORKSTATION = 0x00, SUFFIX_SERVER = 0x20 };

struct netbios {
    const uint8_t *at;
    uint32_t length;
    uint16_t id, flags;
    uint16_t questions, answers, additionals;
    uint8_t name[NAME_SIZE];
    uint8_t name_length; /* without the blanks behind it */
    uint8_t suffix;
};

static bool is_opcode(uint16_t flags) {
    const int opcode = flags >> 11 & 15;
    return opcode == OPCODE_QUERY || (opcode >= 5 && opcode <= 9) || opcode == 15;
}

/* Decodes 32 letters. Returns false if one is none of A to P. */
static bool decode_name(const uint8_t *letters, uint8_t name[NAME_SIZE + 1]) {
    for (int i = 0; i <= NAME_SIZE; i++) {
        const uint8_t high = (uint8_t)(letters[2 * i] - 'A');
        const uint8_t low = (uint8_t)(letters[2 * i + 1] - 'A');
        if (high > 15 || low > 15) {
            return false;
        }
        name[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static uint8_t trimmed(const uint8_t *name) {
    uint8_t length = NAME_SIZE;
    while (length > 0 && (name[length - 1] == ' ' || name[length - 1] == 0)) {
        length--;
    }
    return length;
}

/* Reads the header and the first name. Returns false if they are not of the name service. */
static bool read_head(const struct nr_app_bytes *bytes, struct netbios *netbios) {
    const uint8_t *at = bytes->at;
    uint8_t name[NAME_SIZE + 1];
    if (bytes->length < HEADER + NAME_END + 4 || at[HEADER] != NAME_LETTERS) {
        return false;
    }
    netbios->at = at;
    netbios->length = bytes->length;
    netbios->id = nr_be16(at);
    netbios->flags = nr_be16(at + 2);
    netbios->questions = nr_be16(at + 4);
    netbios->answers = nr_be16(at + 6);
    netbios->additionals = nr_be16(at + 10);
    if (!is_opcode(netbios->flags) || netbios->questions > 1 || netbios->answers > 1 ||
        netbios->additionals > 1 || !decode_name(at + HEADER + 1, name)) {
        return false;
    }
    memcpy(netbios->name, name, NAME_SIZE);
    netbios->name_length = trimmed(name);
    netbios->suffix = name[NAME_SIZE];
    return true;
}

/* Reads the type at *at behind a name, and moves *at behind the class. */
static bool read_type(const struct netbios *netbios, uint32_t *at, uint16_t *type) {
    const struct nr_labels labels = {netbios->at, netbios->length};
    const uint32_t end = nr_skip_name(&labels, *at);
    if (end == 0 || netbios->length - end < 4) {
        return false;
    }
    *type = nr_be16(netbios->at + end);
    *at = end + 4;
    return nr_be16(netbios->at + end + 2) == CLASS_IN &&
           (*type == TYPE_NB || *type == TYPE_NBSTAT || *type == TYPE_A || *type == TYPE_NULL);
}

/* Finds the data of the record at *at: moves *at to them, and *size tells how many are there. */
static bool read_record(const struct netbios *netbios, uint32_t *at, uint16_t *type, uint32_t *ttl,
                        uint32_t *size) {
    if (!read_type(netbios, at, type) || netbios->length - *at < 6) {
        return false;
    }
    *ttl = nr_be32(netbios->at + *at);
    *size = nr_be16(netbios->at + *at + 4);
    *at += 6;
    return *size <= netbios->length - *at;
}

/* Adds the addresses of a name, as answers of the type A. */
static void add_addresses(const struct netbios *netbios, uint32_t at, uint32_t size, uint32_t ttl,
                          struct nr_record *record) {
    const uint16_t type = TYPE_A;
    const uint8_t n = netbios->name_length;
    uint8_t field[ANSWER_HEAD + NAME_SIZE + 4];
    memcpy(field, &ttl, sizeof ttl);
    memcpy(field + 4, &type, sizeof type);
    field[6] = 1;
    field[7] = n;
    memcpy(field + ANSWER_HEAD, netbios->name, n);
    for (uint32_t i = 0; i < MAX_ADDRESSES && size >= ADDRESS_SIZE; i++) {
        memcpy(field + ANSWER_HEAD + n, netbios->at + at + 2, 4);
        nr_record_bytes(record, NR_FIELD_ANSWER, field, ANSWER_HEAD + n + 4u);
        at += ADDRESS_SIZE;
        size -= ADDRESS_SIZE;
    }
    record->is_cut = record->is_cut || size >= ADDRESS_SIZE;
}

/* Adds the names that a station has for itself, and its MAC address. */
static void add_status(const uint8_t *at, uint32_t size, struct nr_record *record) {
    static const uint8_t none[6] = {0};
    const uint32_t count = size > 0 ? at[0] : 0;
    bool has_host = false, has_domain = false;
    if (size < 1 + count * STATUS_SIZE) {
        record->is_cut = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = at + 1 + i * STATUS_SIZE;
        bool *has = row[16] & GROUP ? &has_domain : &has_host;
        if (row[NAME_SIZE] == SUFFIX_WORKSTATION && !*has) {
            nr_record_text(record, row[16] & GROUP ? NR_FIELD_DOMAIN : NR_FIELD_HOST_NAME, row,
                           trimmed(row));
            *has = true;
        }
    }
    const uint8_t *unit = at + 1 + count * STATUS_SIZE;
    if (size - 1 - count * STATUS_SIZE >= 6 && memcmp(unit, none, 6) != 0) {
        nr_record_bytes(record, NR_FIELD_MAC, unit, 6);
    }
}

/* Reads a request behind its question. One that takes a name for its sender tells the address. */
static bool add_request(const struct netbios *netbios, uint32_t at, struct nr_record *record) {
    uint16_t type;
    uint32_t ttl, size;
    if ((netbios->flags >> 11 & 15) == OPCODE_QUERY || netbios->additionals == 0) {
        return true;
    }
    if (!read_record(netbios, &at, &type, &ttl, &size) || type != TYPE_NB || size < ADDRESS_SIZE) {
        return false;
    }
    const bool is_own = (netbios->at[at] & GROUP) == 0 && (netbios->flags >> 11 & 15) != 6;
    if (is_own) {
        add_addresses(netbios, at, size, ttl, record);
        if (netbios->suffix == SUFFIX_WORKSTATION || netbios->suffix == SUFFIX_SERVER) {
            nr_record_text(record, NR_FIELD_HOST_NAME, netbios->name, netbios->name_length);
        }
    }
    return true;
}

static bool add_response(const struct netbios *netbios, uint32_t at, struct nr_record *record) {
    uint16_t type;
    uint32_t ttl, size;
    if (!read_record(netbios, &at, &type, &ttl, &size)) {
        return false;
    }
    nr_record_number(record, NR_FIELD_QUERY_TYPE, type);
    nr_record_number(record, NR_FIELD_QUERY_CLASS, CLASS_IN);
    nr_record_number(record, NR_FIELD_RCODE, netbios->flags & RCODE);
    if (type == TYPE_NBSTAT) {
        add_status(netbios->at + at, size, record);
    } else if (type == TYPE_NB && (netbios->flags & RCODE) == 0) {
        add_addresses(netbios, at, size, ttl, record);
    }
    return true;
}

static bool add_question(const struct netbios *netbios, uint32_t *at, struct nr_record *record) {
    uint16_t type;
    if (!read_type(netbios, at, &type)) {
        return false;
    }
    nr_record_number(record, NR_FIELD_QUERY_TYPE, type);
    nr_record_number(record, NR_FIELD_QUERY_CLASS, CLASS_IN);
    return true;
}

static int read_message(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct netbios netbios;
    struct nr_record *record = &message->record;
    uint32_t at = HEADER;
    if (!bytes->is_datagram || !read_head(bytes, &netbios)) {
        return NR_NOT_THIS;
    }
    const bool is_response = (netbios.flags & FLAG_RESPONSE) != 0;
    nr_record_text(record, NR_FIELD_QUERY, netbios.name, netbios.name_length);
    nr_record_number(record, NR_FIELD_SUFFIX, netbios.suffix);
    nr_record_number(record, NR_FIELD_ID, netbios.id);
    nr_record_number(record, NR_FIELD_DNS_FLAGS, netbios.flags);
    if (netbios.questions > 0 && !add_question(&netbios, &at, record)) {
        return NR_NOT_THIS;
    }
    if (is_response ? !add_response(&netbios, at, record)
                    : netbios.questions == 0 || !add_request(&netbios, at, record)) {
        if (!bytes->is_cut) {
            return NR_NOT_THIS;
        }
        record->is_cut = true;
    }
    const bool is_broadcast = (netbios.flags & FLAG_BROADCAST) != 0;
    message->protocol = NR_APP_NETBIOS;
    message->role = is_response ? NR_ANSWERS : is_broadcast ? NR_ALONE : NR_ASKS;
    message->pair = netbios.id;
    message->used = bytes->length;
    return NR_MESSAGE;
}

int nr_netbios_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const int verdict = read_message(bytes, message);
    if (verdict != NR_MESSAGE) {
        nr_record_clear(&message->record);
    }
    return verdict;
}
