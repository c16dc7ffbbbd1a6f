/* DHCP (RFC 2131, RFC 2132), with options in several pieces (RFC 3396) and in the fields of the
 * header (option 52). The number behind the header tells it from everything else. */
#include "app/dns_name.h"
#include "app/parser.h"
#include "dissect/cursor.h"

enum { HEADER = 236, OPTIONS = 240, MAX_PIECES = 64, VALUE_MAX = 512, MAX_ROUTERS = 8 };
enum { XID = 4, CIADDR = 12, YIADDR = 16, GIADDR = 24, CHADDR = 28, SNAME = 44, FILE_NAME = 108 };
enum { REQUEST = 1, REPLY = 2, ETHERNET = 1, FQDN_IN_LABELS = 4, FQDN_HEAD = 3 };
enum { IN_FILE = 1, IN_SNAME = 2, TYPE_DECLINE = 4, TYPE_RELEASE = 7 };
#define COOKIE 0x63825363u

/* Options. */
enum {
    PAD = 0,
    MASK = 1,
    ROUTER = 3,
    HOST_NAME = 12,
    DOMAIN = 15,
    REQUESTED = 50,
    LEASE = 51,
    OVERLOAD = 52,
    MESSAGE_TYPE = 53,
    SERVER = 54,
    VENDOR_CLASS = 60,
    CLIENT_ID = 61,
    CLIENT_FQDN = 81,
    END = 255
};

/* Pieces of options, in the order in which they are put together. */
struct pieces {
    uint32_t count;
    bool is_cut;
    struct {
        const uint8_t *at;
        uint8_t code;
        uint8_t length;
    } piece[MAX_PIECES];
};

/* The value of one option, from all of its pieces. */
struct value {
    uint32_t length;
    uint8_t bytes[VALUE_MAX];
};

static void note_pieces(const uint8_t *at, uint32_t length, struct pieces *pieces) {
    uint32_t i = 0;
    while (i < length && at[i] != END) {
        if (at[i] == PAD) {
            i++;
            continue;
        }
        if (length - i < 2 || at[i + 1] > length - i - 2 || pieces->count == MAX_PIECES) {
            pieces->is_cut = true;
            return;
        }
        pieces->piece[pieces->count].at = at + i + 2;
        pieces->piece[pieces->count].code = at[i];
        pieces->piece[pieces->count].length = at[i + 1];
        pieces->count++;
        i += at[i + 1] + 2u;
    }
}

static bool gather(const struct pieces *pieces, uint8_t code, struct value *value) {
    bool is_there = false;
    value->length = 0;
    for (uint32_t i = 0; i < pieces->count; i++) {
        const uint32_t length = pieces->piece[i].length;
        if (pieces->piece[i].code != code || length > VALUE_MAX - value->length) {
            continue;
        }
        memcpy(value->bytes + value->length, pieces->piece[i].at, length);
        value->length += length;
        is_there = true;
    }
    return is_there;
}

static void find_pieces(const struct nr_app_bytes *bytes, struct pieces *pieces) {
    struct value overload;
    pieces->count = 0;
    pieces->is_cut = bytes->is_cut;
    note_pieces(bytes->at + OPTIONS, bytes->length - OPTIONS, pieces);
    if (!gather(pieces, OVERLOAD, &overload) || overload.length == 0) {
        return;
    }
    if (overload.bytes[0] & IN_FILE) {
        note_pieces(bytes->at + FILE_NAME, HEADER - FILE_NAME, pieces);
    }
    if (overload.bytes[0] & IN_SNAME) {
        note_pieces(bytes->at + SNAME, FILE_NAME - SNAME, pieces);
    }
}

/* -- fields -- */

static void add_text(const struct pieces *pieces, uint8_t code, uint8_t field,
                     struct nr_record *record) {
    struct value value;
    if (!gather(pieces, code, &value)) {
        return;
    }
    while (value.length > 0 && value.bytes[value.length - 1] == 0) { /* C strings, sent as such */
        value.length--;
    }
    if (value.length > 0) {
        nr_record_text(record, field, value.bytes, value.length);
    }
}

static void add_addresses(const struct pieces *pieces, uint8_t code, uint8_t field, uint32_t most,
                          struct nr_record *record) {
    struct value value;
    if (!gather(pieces, code, &value)) {
        return;
    }
    for (uint32_t i = 0; i < most && value.length - 4 * i >= 4; i++) {
        nr_record_bytes(record, field, value.bytes + 4 * i, 4);
    }
}

/* Reads an option of four bytes. Returns false if it is not there. */
static bool find_number(const struct pieces *pieces, uint8_t code, uint32_t *number) {
    struct value value;
    if (!gather(pieces, code, &value) || value.length < 4) {
        return false;
    }
    *number = nr_be32(value.bytes);
    return true;
}

static void add_numbers(const struct pieces *pieces, struct nr_record *record) {
    uint32_t number;
    if (find_number(pieces, LEASE, &number)) {
        nr_record_number(record, NR_FIELD_LEASE, number);
    }
    if (find_number(pieces, MASK, &number)) {
        const uint32_t length = (uint32_t)__builtin_popcount(number);
        if (length > 0 && number == UINT32_MAX << (32 - length)) {
            nr_record_number(record, NR_FIELD_PREFIX_LENGTH, length);
        }
    }
}

/* The client's name is text, or labels (RFC 4702). */
static void add_client_fqdn(const struct pieces *pieces, struct nr_record *record) {
    struct value value;
    if (!gather(pieces, CLIENT_FQDN, &value) || value.length <= FQDN_HEAD) {
        return;
    }
    const uint8_t *name = value.bytes + FQDN_HEAD;
    const uint32_t length = value.length - FQDN_HEAD;
    if ((value.bytes[0] & FQDN_IN_LABELS) == 0) {
        nr_record_text(record, NR_FIELD_CLIENT_FQDN, name, length);
        return;
    }
    struct nr_labels_text text = {.length = 0};
    if (nr_put_partial_name(&text, name, length) && text.length > 0) {
        nr_record_text(record, NR_FIELD_CLIENT_FQDN, text.bytes, text.length);
    }
}

/* The client's address is in its identifier, or in the header. */
static void add_mac(const uint8_t *at, const struct pieces *pieces, struct nr_record *record) {
    static const uint8_t none[6] = {0};
    struct value id;
    if (at[0] == REQUEST && gather(pieces, CLIENT_ID, &id) && id.length == 7 &&
        id.bytes[0] == ETHERNET) {
        nr_record_bytes(record, NR_FIELD_MAC, id.bytes + 1, 6);
    } else if (at[1] == ETHERNET && at[2] == 6 && memcmp(at + CHADDR, none, 6) != 0) {
        nr_record_bytes(record, NR_FIELD_MAC, at + CHADDR, 6);
    }
}

static uint8_t message_type(const struct pieces *pieces) {
    struct value type;
    return gather(pieces, MESSAGE_TYPE, &type) && type.length > 0 ? type.bytes[0] : 0;
}

static void add_fields(const uint8_t *at, const struct pieces *pieces, struct nr_record *record) {
    const uint8_t type = message_type(pieces);
    nr_record_number(record, NR_FIELD_ID, nr_be32(at + XID));
    if (type != 0) {
        nr_record_number(record, NR_FIELD_MESSAGE_TYPE, type);
    }
    add_mac(at, pieces, record);
    if (at[0] == REPLY && nr_be32(at + YIADDR) != 0) {
        nr_record_bytes(record, NR_FIELD_ASSIGNED, at + YIADDR, 4);
    }
    add_addresses(pieces, REQUESTED, NR_FIELD_REQUESTED, 1, record);
    add_addresses(pieces, SERVER, NR_FIELD_SERVER, 1, record);
    add_addresses(pieces, ROUTER, NR_FIELD_ROUTER, MAX_ROUTERS, record);
    add_numbers(pieces, record);
    add_text(pieces, HOST_NAME, NR_FIELD_HOST_NAME, record);
    add_client_fqdn(pieces, record);
    add_text(pieces, VENDOR_CLASS, NR_FIELD_VENDOR_CLASS, record);
    add_text(pieces, DOMAIN, NR_FIELD_DOMAIN, record);
}

/* A request gets its answer in the same flow only if the client has an address, or a relay sends
 * it. */
static uint8_t role_of(const uint8_t *at, const struct pieces *pieces) {
    const uint8_t type = message_type(pieces);
    if (at[0] == REPLY) {
        return NR_ANSWERS;
    }
    const bool is_answered = (nr_be32(at + CIADDR) != 0 || nr_be32(at + GIADDR) != 0) &&
                             type != TYPE_DECLINE && type != TYPE_RELEASE;
    return is_answered ? NR_ASKS : NR_ALONE;
}

int nr_dhcp_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const uint8_t *at = bytes->at;
    struct pieces pieces;
    if (!bytes->is_datagram || bytes->length < OPTIONS || (at[0] != REQUEST && at[0] != REPLY) ||
        at[2] > 16 || nr_be32(at + HEADER) != COOKIE) {
        return NR_NOT_THIS;
    }
    find_pieces(bytes, &pieces);
    message->record.is_cut = pieces.is_cut;
    add_fields(at, &pieces, &message->record);
    message->protocol = NR_APP_DHCP;
    message->role = role_of(at, &pieces);
    message->pair = nr_be32(at + XID);
    message->used = bytes->length;
    return NR_MESSAGE;
}
