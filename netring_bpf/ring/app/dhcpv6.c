/* DHCP for IPv6 (RFC 8415), on its ports alone: it has no number of its own, as DHCP has. */
#include "app/dns_name.h"
#include "app/parser.h"
#include "dissect/cursor.h"

enum { PORT_CLIENT = 546, PORT_SERVER = 547, HEADER = 4, RELAY_HEADER = 34, MAX_RELAYS = 8 };
enum { MAX_OPTIONS = 64, MAX_LEASES = 16 };
enum { TYPE_ADVERTISE = 2, TYPE_REPLY = 7, TYPE_RECONFIGURE = 10, TYPE_INFORMATION = 11 };
enum { RELAY_FORWARD = 12, RELAY_REPLY = 13 };
enum { DUID_LLT = 1, DUID_LL = 3, ETHERNET = 1 };

/* Options. */
enum {
    CLIENT_ID = 1,
    IA_NA = 3,
    IA_TA = 4,
    IA_ADDRESS = 5,
    RELAY_MESSAGE = 9,
    UNICAST = 12,
    VENDOR_CLASS = 16,
    DOMAINS = 24,
    IA_PD = 25,
    IA_PREFIX = 26,
    CLIENT_FQDN = 39,
    CLIENT_LINK = 79
};

struct option {
    const uint8_t *at;
    uint32_t length;
    uint16_t code;
};

/* Options one after another. */
struct options {
    const uint8_t *at;
    uint32_t length;
};

/* Takes the next option. Returns false at the end, and if it is not all there. */
static bool next_option(struct options *options, struct option *option) {
    if (options->length < 4) {
        return false;
    }
    *option = (struct option){options->at + 4, nr_be16(options->at + 2), nr_be16(options->at)};
    if (option->length > options->length - 4) {
        return false;
    }
    options->at += 4 + option->length;
    options->length -= 4 + option->length;
    return true;
}

static void add_mac(const uint8_t *at, uint32_t length, struct nr_record *record) {
    struct nr_field known;
    if (length == 6 && !nr_record_find(record->bytes, record->size, NR_FIELD_MAC, &known)) {
        nr_record_bytes(record, NR_FIELD_MAC, at, 6);
    }
}

/* Adds the address in a client's identifier, if it has one of Ethernet. */
static void add_duid(const struct option *option, struct nr_record *record) {
    if (option->length < 4 || nr_be16(option->at + 2) != ETHERNET) {
        return;
    }
    const uint16_t type = nr_be16(option->at);
    if (type == DUID_LL) {
        add_mac(option->at + 4, option->length - 4, record);
    } else if (type == DUID_LLT && option->length >= 8) {
        add_mac(option->at + 8, option->length - 8, record);
    }
}

static void add_lease(uint32_t seconds, struct nr_record *record) {
    struct nr_field known;
    if (!nr_record_find(record->bytes, record->size, NR_FIELD_LEASE, &known)) {
        nr_record_number(record, NR_FIELD_LEASE, seconds);
    }
}

/* Adds an address or a prefix that a server gives. The length of a prefix stands behind it. */
static void add_given(const struct option *option, struct nr_record *record) {
    if (option->code == IA_ADDRESS && option->length >= 24 && nr_be32(option->at + 20) > 0) {
        nr_record_bytes(record, NR_FIELD_ASSIGNED, option->at, 16);
        add_lease(nr_be32(option->at + 20), record);
    } else if (option->code == IA_PREFIX && option->length >= 25 && nr_be32(option->at + 4) > 0 &&
               option->at[8] <= 128) {
        nr_record_bytes(record, NR_FIELD_ASSIGNED, option->at + 9, 16);
        nr_record_number(record, NR_FIELD_PREFIX_LENGTH, option->at[8]);
        add_lease(nr_be32(option->at + 4), record);
    }
}

static void add_leases(const struct option *association, struct nr_record *record) {
    const uint32_t head = association->code == IA_TA ? 4 : 12;
    struct option option;
    if (association->length < head) {
        return;
    }
    struct options options = {association->at + head, association->length - head};
    for (uint32_t i = 0; i < MAX_LEASES && next_option(&options, &option); i++) {
        add_given(&option, record);
    }
}

static void add_name(const uint8_t *at, uint32_t length, uint8_t field, struct nr_record *record) {
    struct nr_labels_text text = {.length = 0};
    if (nr_put_partial_name(&text, at, length) && text.length > 0) {
        nr_record_text(record, field, text.bytes, text.length);
    }
}

static void add_vendor_class(const struct option *option, struct nr_record *record) {
    if (option->length < 6 || nr_be16(option->at + 4) > option->length - 6) {
        return;
    }
    nr_record_text(record, NR_FIELD_VENDOR_CLASS, option->at + 6, nr_be16(option->at + 4));
}

static void add_option(const struct option *option, uint8_t type, struct nr_record *record) {
    const bool gives = type == TYPE_ADVERTISE || type == TYPE_REPLY;
    switch (option->code) {
    case CLIENT_ID:
        add_duid(option, record);
        break;
    case IA_NA:
    case IA_TA:
    case IA_PD:
        if (gives) {
            add_leases(option, record);
        }
        break;
    case UNICAST:
        if (option->length == 16) {
            nr_record_bytes(record, NR_FIELD_SERVER, option->at, 16);
        }
        break;
    case VENDOR_CLASS:
        add_vendor_class(option, record);
        break;
    case DOMAINS:
        add_name(option->at, option->length, NR_FIELD_DOMAIN, record);
        break;
    case CLIENT_FQDN:
        if (option->length > 1) {
            add_name(option->at + 1, option->length - 1, NR_FIELD_CLIENT_FQDN, record);
        }
        break;
    default:
        break;
    }
}

/* Opens the messages of relays. Returns false if there is no other message in the innermost. A
 * relay next to the client may tell its address (RFC 6939). */
static bool open_relays(struct options *message, bool *is_relayed, struct nr_record *record) {
    struct option option;
    for (uint32_t depth = 0; message->length > 0; depth++) {
        if (message->at[0] != RELAY_FORWARD && message->at[0] != RELAY_REPLY) {
            return true;
        }
        if (depth == MAX_RELAYS || message->length < RELAY_HEADER) {
            return false;
        }
        struct options options = {message->at + RELAY_HEADER, message->length - RELAY_HEADER};
        *is_relayed = true;
        message->length = 0;
        for (uint32_t i = 0; i < MAX_OPTIONS && next_option(&options, &option); i++) {
            if (option.code == RELAY_MESSAGE) {
                *message = (struct options){option.at, option.length};
            } else if (option.code == CLIENT_LINK && option.length == 8 &&
                       nr_be16(option.at) == ETHERNET) {
                add_mac(option.at + 2, 6, record);
            }
        }
    }
    return false;
}

static uint8_t role_of(uint8_t type, bool is_relayed) {
    if (type == TYPE_ADVERTISE || type == TYPE_REPLY) {
        return NR_ANSWERS;
    }
    /* A client asks by multicast, and gets its answer in another flow. */
    return is_relayed && type != TYPE_RECONFIGURE ? NR_ASKS : NR_ALONE;
}

static int read_message(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const bool has_port = bytes->src_p == PORT_CLIENT || bytes->src_p == PORT_SERVER ||
                          bytes->dst_p == PORT_CLIENT || bytes->dst_p == PORT_SERVER;
    struct options inner = {bytes->at, bytes->length};
    struct option option;
    bool is_relayed = false;
    if (!bytes->is_datagram || !has_port || bytes->length < HEADER ||
        !open_relays(&inner, &is_relayed, &message->record) || inner.length < HEADER ||
        inner.at[0] == 0 || inner.at[0] > TYPE_INFORMATION) {
        return NR_NOT_THIS;
    }
    const uint8_t type = inner.at[0];
    message->pair = nr_be24(inner.at + 1);
    nr_record_number(&message->record, NR_FIELD_ID, message->pair);
    nr_record_number(&message->record, NR_FIELD_MESSAGE_TYPE, type);
    struct options options = {inner.at + HEADER, inner.length - HEADER};
    for (uint32_t i = 0; i < MAX_OPTIONS && next_option(&options, &option); i++) {
        add_option(&option, type, &message->record);
    }
    if (options.length > 0 && !bytes->is_cut) {
        return NR_NOT_THIS;
    }
    message->record.is_cut = message->record.is_cut || bytes->is_cut;
    message->protocol = NR_APP_DHCPV6;
    message->role = role_of(type, is_relayed);
    message->used = bytes->length;
    return NR_MESSAGE;
}

int nr_dhcpv6_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const int verdict = read_message(bytes, message);
    if (verdict != NR_MESSAGE) {
        nr_record_clear(&message->record);
    }
    return verdict;
}
