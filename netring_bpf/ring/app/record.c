/* Writes and reads application records: see record.h. */
#include "app/record.h"

static void put_field(struct nr_record *record, uint8_t field, const void *value, uint32_t length) {
    uint8_t *at = record->bytes + record->size;
    const uint16_t short_length = (uint16_t)length;
    at[0] = field;
    at[1] = 0;
    memcpy(at + 2, &short_length, sizeof short_length);
    if (length > 0) {
        memcpy(at + NR_FIELD_HEAD, value, length);
    }
    record->size += NR_FIELD_HEAD + length;
}

/* Returns the bytes left for the value of one more field. */
static uint32_t room_of(const struct nr_record *record) {
    const uint32_t left = NR_RECORD_SIZE - record->size;
    return left > NR_FIELD_HEAD ? left - NR_FIELD_HEAD : 0;
}

void nr_record_bytes(struct nr_record *record, uint8_t field, const uint8_t *bytes,
                     uint32_t length) {
    if (record->size + NR_FIELD_HEAD > NR_RECORD_SIZE || length > room_of(record)) {
        record->is_cut = true;
        return;
    }
    put_field(record, field, bytes, length);
}

void nr_record_number(struct nr_record *record, uint8_t field, uint32_t value) {
    const uint16_t length = sizeof value;
    uint8_t *at = record->bytes + record->size;
    if (NR_RECORD_SIZE - record->size < NR_FIELD_HEAD + sizeof value) {
        record->is_cut = true;
        return;
    }
    at[0] = field;
    at[1] = 0;
    memcpy(at + 2, &length, sizeof length);
    memcpy(at + NR_FIELD_HEAD, &value, sizeof value);
    record->size += NR_FIELD_HEAD + sizeof value;
}

void nr_record_text(struct nr_record *record, uint8_t field, const uint8_t *text, uint32_t length) {
    const uint32_t room = room_of(record);
    if (NR_LIKELY(length <= NR_TEXT_MAX && length < room)) {
        put_field(record, field, text, length);
        return;
    }
    uint32_t taken = length < NR_TEXT_MAX ? length : NR_TEXT_MAX;
    taken = taken < room ? taken : room;
    record->is_cut = record->is_cut || taken < length;
    nr_record_bytes(record, field, text, taken);
}

void nr_record_append(struct nr_record *record, const uint8_t *bytes, uint32_t size) {
    uint32_t at = 0;
    struct nr_field field;
    if (size <= NR_RECORD_SIZE - record->size) {
        memcpy(record->bytes + record->size, bytes, size);
        record->size += size;
        return;
    }
    while (nr_record_next(bytes, size, &at, &field)) {
        nr_record_bytes(record, field.field, field.value, field.length);
    }
}

bool nr_record_find(const uint8_t *bytes, uint32_t size, uint8_t number, struct nr_field *field) {
    uint32_t at = 0;
    while (nr_record_next(bytes, size, &at, field)) {
        if (field->field == number) {
            return true;
        }
    }
    return false;
}

uint32_t nr_record_value(const uint8_t *bytes, uint32_t size, uint8_t number, uint32_t none) {
    struct nr_field field;
    uint32_t value;
    if (!nr_record_find(bytes, size, number, &field) || field.length != sizeof value) {
        return none;
    }
    memcpy(&value, field.value, sizeof value);
    return value;
}

/* Takes the port off a host. */
static void take_port_off(struct nr_field *host) {
    uint16_t end = host->length;
    while (end > 0 && host->value[end - 1] >= '0' && host->value[end - 1] <= '9') {
        end--;
    }
    if (end > 1 && host->value[end - 1] == ':') {
        host->length = (uint16_t)(end - 1);
    }
}

bool nr_record_name(const uint8_t *bytes, uint32_t size, uint8_t protocol, struct nr_field *name) {
    switch (protocol) {
    case NR_APP_TLS:
    case NR_APP_DTLS:
    case NR_APP_QUIC:
        return nr_record_find(bytes, size, NR_FIELD_SERVER_NAME, name);
    case NR_APP_HTTP:
    case NR_APP_HTTP2:
        if (!nr_record_find(bytes, size, NR_FIELD_HOST, name)) {
            return false;
        }
        take_port_off(name);
        return true;
    case NR_APP_DNS:
    case NR_APP_MDNS:
    case NR_APP_LLMNR:
    case NR_APP_NETBIOS:
        return nr_record_find(bytes, size, NR_FIELD_QUERY, name);
    case NR_APP_DHCP:
    case NR_APP_DHCPV6:
        return nr_record_find(bytes, size, NR_FIELD_HOST_NAME, name) ||
               nr_record_find(bytes, size, NR_FIELD_CLIENT_FQDN, name);
    default:
        return false;
    }
}
