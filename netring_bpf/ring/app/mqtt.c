/* MQTT of 3.1, 3.1.1 and 5: CONNECT and its answer. */
#include "app/parser.h"
#include "app/text.h"

enum { CONNECT = 0x10, CONNACK = 0x20, MQTT_PORT = 1883 };
enum { REMAINING_MAX = 4, /* bytes of a length */ CONNACK_MAX = 8192 };
enum { LEVEL_3_1 = 3, LEVEL_3_1_1 = 4, LEVEL_5 = 5, BRIDGE = 0x80 };
enum { PROPERTY_CLIENT_ID = 0x12 }; /* of an answer: the one that the server assigned */

/* The note of a CONNECT: 'M' 'Q', and its level. */
#define NOTE 0x4d510000u

/* A packet: its fields begin at `at`, and end at `end`, as far as they are there. */
struct packet {
    const uint8_t *at;
    uint32_t length; /* bytes that are there */
    uint32_t end;    /* of the packet, from `at` */
};

static uint32_t be16(const uint8_t *at) {
    return (uint32_t)(at[0] << 8 | at[1]);
}

/* Reads a number of one to four bytes with seven bits each. Returns its bytes; 0: it is not there
 * whole; more than four: it is none. */
static uint32_t read_number(const uint8_t *at, uint32_t length, uint32_t *number) {
    *number = 0;
    for (uint32_t i = 0; i < REMAINING_MAX; i++) {
        if (i == length) {
            return 0;
        }
        *number |= (uint32_t)(at[i] & 0x7f) << 7 * i;
        if (at[i] < 0x80) {
            return i + 1;
        }
    }
    return REMAINING_MAX + 1;
}

/* Opens the fixed header. Returns NR_MESSAGE if the fields may be read. */
static int open_packet(const struct nr_app_bytes *bytes, struct packet *packet) {
    const uint32_t size = read_number(bytes->at + 1, bytes->length - 1, &packet->end);
    if (size > REMAINING_MAX) {
        return NR_NOT_THIS;
    }
    if (size == 0) {
        return NR_MORE;
    }
    packet->at = bytes->at + 1 + size;
    packet->length = bytes->length - 1 - size;
    packet->length = packet->length < packet->end ? packet->length : packet->end;
    return NR_MESSAGE;
}

/* -- CONNECT -- */

/* Returns where the level stands, behind the name; 0: it is another protocol. */
static uint32_t level_at(const struct packet *p) {
    static const uint8_t name_3_1[] = {0, 6, 'M', 'Q', 'I', 's', 'd', 'p'};
    static const uint8_t name[] = {0, 4, 'M', 'Q', 'T', 'T'};
    if (p->length > 1 && p->at[1] == 6) {
        return nr_fits(p->at, p->length, name_3_1, sizeof name_3_1) ? sizeof name_3_1 : 0;
    }
    return nr_fits(p->at, p->length, name, sizeof name) ? sizeof name : 0;
}

/* Checks the flags against each other: the bits of a will that is not there are 0. */
static bool are_flags(uint8_t flags) {
    const bool has_will = flags & 0x04;
    const uint8_t will = flags & 0x38;
    return !(flags & 0x01) && (has_will ? (flags & 0x18) != 0x18 : will == 0);
}

/* Finds the client's identifier. Returns NR_MORE with *needs, from p->at, if it is not there. */
static int find_client_id(const struct packet *p, uint32_t level, uint32_t at, struct nr_span *id,
                          uint32_t *needs) {
    if (level == LEVEL_5) {
        uint32_t properties;
        const uint32_t size =
            at < p->length ? read_number(p->at + at, p->length - at, &properties) : 0;
        if (size == 0) {
            *needs = p->length + 1;
            return p->length < p->end ? NR_MORE : NR_NOT_THIS;
        }
        if (size > REMAINING_MAX || properties > p->end - at - size) {
            return NR_NOT_THIS;
        }
        at += size + properties;
    }
    if (at + 2 > p->end) {
        return NR_NOT_THIS;
    }
    *needs = at + 2;
    if (*needs > p->length) {
        return NR_MORE;
    }
    *id = (struct nr_span){p->at + at + 2, be16(p->at + at)};
    *needs += id->length;
    if (*needs > p->end) {
        return NR_NOT_THIS;
    }
    return *needs > p->length ? NR_MORE : NR_MESSAGE;
}

static int read_connect(const struct nr_app_bytes *bytes, struct nr_message *message) {
    struct packet p;
    int verdict = open_packet(bytes, &p);
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    const uint32_t at = level_at(&p);
    /* level, flags, the time to keep alive, and the identifier's length */
    if (at == 0 || p.end < at + 6) {
        return NR_NOT_THIS;
    }
    message->needs = (uint32_t)(p.at - bytes->at) + at + 4;
    if (p.length < at + 4) {
        return NR_MORE;
    }
    const uint32_t level = p.at[at] & ~(uint32_t)BRIDGE;
    const bool is_3_1 = level == LEVEL_3_1;
    if (level < LEVEL_3_1 || level > LEVEL_5 || is_3_1 != (p.at[1] == 6) ||
        !are_flags(p.at[at + 1])) {
        return NR_NOT_THIS;
    }
    struct nr_span id = {0};
    uint32_t needs = 0;
    message->protocol = NR_APP_MQTT;
    verdict = find_client_id(&p, level, at + 4, &id, &needs);
    message->needs = (uint32_t)(p.at - bytes->at) + needs;
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    message->role = NR_ASKS;
    message->next = NR_PARSE_NOTHING;
    message->used = (uint64_t)(p.at - bytes->at) + p.end;
    message->note = NOTE | level;
    nr_record_number(&message->record, NR_FIELD_VERSION, level);
    if (id.length > 0) {
        nr_record_text(&message->record, NR_FIELD_CLIENT_ID, id.at, id.length);
    }
    if (message->record.is_cut) {
        nr_record_number(&message->record, NR_FIELD_CUT, 1);
    }
    return NR_MESSAGE;
}

/* -- CONNACK -- */

/* Returns the bytes of a property's value; 0: it is unknown, or does not fit. */
static uint32_t property_size(uint8_t property, const uint8_t *value, uint32_t length) {
    switch (property) {
    case 0x24: /* the highest quality of service, and what else is yes or no */
    case 0x25:
    case 0x28:
    case 0x29:
    case 0x2a:
        return 1;
    case 0x13: /* times and numbers */
    case 0x21:
    case 0x22:
        return 2;
    case 0x11:
    case 0x27:
        return 4;
    case PROPERTY_CLIENT_ID:
    case 0x15: /* texts */
    case 0x16:
    case 0x1a:
    case 0x1c:
    case 0x1f:
        return length >= 2 ? 2 + be16(value) : 0;
    case 0x26: { /* two texts */
        const uint32_t first = length >= 2 ? 2 + be16(value) : length;
        return first + 2 <= length ? first + 2 + be16(value + first) : 0;
    }
    default:
        return 0;
    }
}

/* Adds the identifier that the server assigned, if the properties have one. */
static void put_assigned(struct nr_span properties, struct nr_record *record) {
    while (properties.length > 1) {
        const uint8_t *value = properties.at + 1;
        const uint32_t left = properties.length - 1;
        const uint32_t size = property_size(properties.at[0], value, left);
        if (size == 0 || size > left) {
            return;
        }
        if (properties.at[0] == PROPERTY_CLIENT_ID) {
            nr_record_text(record, NR_FIELD_CLIENT_ID, value + 2, size - 2);
            return;
        }
        properties = (struct nr_span){value + size, left - size};
    }
}

/* Four bytes are an answer by themselves only on the port of MQTT; else a question must have been
 * seen. */
static int read_connack(const struct nr_app_bytes *bytes, struct nr_message *message) {
    const bool is_asked = (bytes->note & ~0xffu) == NOTE;
    const bool is_5 = is_asked && (bytes->note & 0xff) == LEVEL_5;
    struct packet p;
    if (!is_asked && bytes->src_p != MQTT_PORT) {
        return NR_NOT_THIS;
    }
    const int verdict = open_packet(bytes, &p);
    if (verdict != NR_MESSAGE) {
        return verdict;
    }
    if (p.end < 2 || p.end > CONNACK_MAX || (!is_5 && p.end != 2)) {
        return NR_NOT_THIS;
    }
    message->needs = (uint32_t)(p.at - bytes->at) + p.end;
    if (p.length < p.end) {
        return NR_MORE;
    }
    if (p.at[0] > 1 || (!is_5 && p.at[1] > 5)) {
        return NR_NOT_THIS;
    }
    uint32_t size;
    const uint32_t at = 2 + (p.end > 2 ? read_number(p.at + 2, p.end - 2, &size) : 0);
    message->protocol = NR_APP_MQTT;
    message->role = NR_ANSWERS;
    message->next = NR_PARSE_NOTHING;
    message->used = message->needs;
    nr_record_number(&message->record, NR_FIELD_STATUS, p.at[1]);
    if (at > 2 && at <= p.end && size <= p.end - at) {
        put_assigned((struct nr_span){p.at + at, size}, &message->record);
    }
    return NR_MESSAGE;
}

int nr_mqtt_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    int verdict = NR_NOT_THIS;
    if (bytes->is_datagram || bytes->length == 0) {
        return NR_NOT_THIS;
    }
    if (bytes->at[0] == CONNECT) {
        verdict = read_connect(bytes, message);
    } else if (bytes->at[0] == CONNACK) {
        verdict = read_connack(bytes, message);
    }
    return verdict == NR_MORE && bytes->is_all ? NR_NOT_THIS : verdict;
}
