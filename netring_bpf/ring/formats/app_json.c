/* Writes application records as fields of JSON: those of events/fields.py, and `app_details` with
 * the fields of the classes of events/app.py, in their order. */
#include "formats/app_text.h"

/* What a field of a record is in JSON. */
enum form {
    TEXT,
    TEXTS,
    NUMBER,
    FLAG,
    ADDRESS,
    ADDRESSES,
    MAC,
    ANSWERS,
    WORD,                        /* WORD + NR_WORD_*: a word for a number */
    WORDS = WORD + NR_WORD_COUNT /* the words of several */
};

struct detail {
    const char *name;
    uint8_t field;
    uint8_t form;
};
struct details {
    const struct detail *detail;
    size_t count;
};

static const struct detail tls[] = {
    {"client_version", NR_FIELD_CLIENT_VERSION, WORD + NR_WORD_TLS_VERSION},
    {"cipher", NR_FIELD_CIPHER, WORD + NR_WORD_CIPHER},
    {"group", NR_FIELD_GROUP, WORD + NR_WORD_GROUP},
    {"resumed", NR_FIELD_RESUMED, FLAG},
    {"ech", NR_FIELD_ECH, FLAG},
    {"alert", NR_FIELD_ALERT, NUMBER},
    {"ja3", NR_FIELD_JA3, TEXT},
    {"alpn_offered", NR_FIELD_ALPN_OFFERED, TEXTS},
};
static const struct detail http[] = {
    {"method", NR_FIELD_METHOD, TEXT},
    {"host", NR_FIELD_HOST, TEXT},
    {"path", NR_FIELD_PATH, TEXT},
    {"status", NR_FIELD_STATUS, NUMBER},
    {"reason", NR_FIELD_REASON, TEXT},
    {"user_agent", NR_FIELD_USER_AGENT, TEXT},
    {"content_type", NR_FIELD_CONTENT_TYPE, TEXT},
};
static const struct detail dns[] = {
    {"query", NR_FIELD_QUERY, TEXT},
    {"type", NR_FIELD_QUERY_TYPE, WORD + NR_WORD_DNS_TYPE},
    {"qclass", NR_FIELD_QUERY_CLASS, NUMBER},
    {"rcode", NR_FIELD_RCODE, WORD + NR_WORD_DNS_RCODE},
    {"id", NR_FIELD_ID, NUMBER},
    {"flags", NR_FIELD_DNS_FLAGS, NUMBER},
    {"suffix", NR_FIELD_SUFFIX, NUMBER},
    {"answers", NR_FIELD_ANSWER, ANSWERS},
};
#define DHCP(words)                                                                                \
    {                                                                                              \
        {"mac", NR_FIELD_MAC, MAC}, {"host_name", NR_FIELD_HOST_NAME, TEXT},                       \
            {"client_fqdn", NR_FIELD_CLIENT_FQDN, TEXT},                                           \
            {"vendor_class", NR_FIELD_VENDOR_CLASS, TEXT}, {"domain", NR_FIELD_DOMAIN, TEXT},      \
            {"message_types", NR_FIELD_MESSAGE_TYPE, WORDS + (words)},                             \
            {"assigned", NR_FIELD_ASSIGNED, ADDRESSES},                                            \
            {"requested", NR_FIELD_REQUESTED, ADDRESS}, {"server", NR_FIELD_SERVER, ADDRESS},      \
            {"routers", NR_FIELD_ROUTER, ADDRESSES},                                               \
            {"prefix_length", NR_FIELD_PREFIX_LENGTH, NUMBER}, {"lease", NR_FIELD_LEASE, NUMBER},  \
            {"id", NR_FIELD_ID, NUMBER},                                                           \
    }
static const struct detail dhcp[] = DHCP(NR_WORD_DHCP_MESSAGE);
static const struct detail dhcpv6[] = DHCP(NR_WORD_DHCPV6_MESSAGE);
static const struct detail ssdp[] = {
    {"method", NR_FIELD_METHOD, TEXT},         {"service", NR_FIELD_SERVICE, TEXT},
    {"location", NR_FIELD_LOCATION, TEXT},     {"server", NR_FIELD_SERVER_SOFTWARE, TEXT},
    {"user_agent", NR_FIELD_USER_AGENT, TEXT},
};
static const struct detail ssh[] = {
    {"client", NR_FIELD_CLIENT_SOFTWARE, TEXT},
    {"server", NR_FIELD_SERVER_SOFTWARE, TEXT},
};
static const struct detail mqtt[] = {
    {"client_id", NR_FIELD_CLIENT_ID, TEXT},
};
#define DETAILS(table) ((struct details){(table), sizeof(table) / sizeof *(table)})

static struct details details_of(uint8_t protocol) {
    switch (protocol) {
    case NR_APP_TLS:
    case NR_APP_DTLS:
    case NR_APP_QUIC:
        return DETAILS(tls);
    case NR_APP_HTTP:
    case NR_APP_HTTP2:
        return DETAILS(http);
    case NR_APP_DNS:
    case NR_APP_MDNS:
    case NR_APP_LLMNR:
    case NR_APP_NETBIOS:
        return DETAILS(dns);
    case NR_APP_DHCP:
        return DETAILS(dhcp);
    case NR_APP_DHCPV6:
        return DETAILS(dhcpv6);
    case NR_APP_SSDP:
        return DETAILS(ssdp);
    case NR_APP_SSH:
        return DETAILS(ssh);
    case NR_APP_MQTT:
        return DETAILS(mqtt);
    default:
        return (struct details){NULL, 0};
    }
}

/* -- one value -- */

static char *put_quoted_address(char *at, uint8_t family, const uint8_t *address) {
    at = nr_put_address(NR_PUT(at, "\""), family, address);
    return NR_PUT(at, "\"");
}

static char *put_answer(char *at, const struct nr_app_answer *answer) {
    at = nr_put_json_text(NR_PUT(at, "{\"owner\":"), &answer->owner);
    at = nr_put_app_word(NR_PUT(at, ",\"type\":\""), NR_WORD_DNS_TYPE, answer->type);
    at = nr_put_u64(NR_PUT(at, "\",\"ttl\":"), answer->ttl);
    at = NR_PUT(at, ",\"data\":");
    at = answer->family != 0 ? put_quoted_address(at, answer->family, answer->data.value)
                             : nr_put_json_text(at, &answer->data);
    return answer->chained ? NR_PUT(at, ",\"chained\":true}") : NR_PUT(at, "}");
}

static char *put_word(char *at, uint32_t of, uint32_t number) {
    at = nr_put_app_word(NR_PUT(at, "\""), of, number);
    return NR_PUT(at, "\"");
}

/* Writes the value of a field; returns `at` if the field does not hold one. */
static char *put_value(char *at, const struct nr_field *field, uint8_t form) {
    struct nr_app_answer answer;
    uint32_t number = 0;
    switch (form) {
    case TEXT:
    case TEXTS:
        return nr_put_json_text(at, field);
    case MAC:
        return field->length == 6 ? put_quoted_address(at, 0, field->value) : at;
    case ADDRESS:
    case ADDRESSES:
        return field->length == 4    ? put_quoted_address(at, 4, field->value)
               : field->length == 16 ? put_quoted_address(at, 6, field->value)
                                     : at;
    case ANSWERS:
        return nr_app_read_answer(field, &answer) ? put_answer(at, &answer) : at;
    default:
        break;
    }
    if (field->length != sizeof number) {
        return at;
    }
    memcpy(&number, field->value, sizeof number);
    if (form == NUMBER) {
        return nr_put_u64(at, number);
    }
    if (form == FLAG) {
        return number != 0 ? NR_PUT(at, "true") : at;
    }
    return put_word(at, form >= WORDS ? form - (uint32_t)WORDS : form - (uint32_t)WORD, number);
}

static bool is_list(uint8_t form) {
    return form == TEXTS || form == ADDRESSES || form == ANSWERS || form >= WORDS;
}

/* Writes all values of a field, as a list; returns `begin` if there is none. */
static char *put_list(char *begin, struct nr_app_record record, const struct detail *detail) {
    char *at = NR_PUT(begin, "[");
    uint32_t place = 0;
    struct nr_field field;
    while (nr_record_next(record.bytes, record.size, &place, &field)) {
        if (field.field != detail->field) {
            continue;
        }
        char *value = at[-1] == '[' ? at : NR_PUT(at, ",");
        char *end = put_value(value, &field, detail->form);
        at = end > value ? end : at;
    }
    return at[-1] == '[' ? begin : NR_PUT(at, "]");
}

static char *put_details(char *begin, uint8_t protocol, struct nr_app_record record) {
    const struct details details = details_of(protocol);
    char *at = NR_PUT(begin, ",\"app_details\":{");
    char *const first = at;
    for (size_t i = 0; i < details.count; i++) {
        const struct detail *detail = &details.detail[i];
        struct nr_field field;
        char *value = at > first ? NR_PUT(at, ",\"") : NR_PUT(at, "\"");
        value = NR_PUT(nr_put_string(value, detail->name), "\":");
        char *end = value;
        if (is_list(detail->form)) {
            end = put_list(value, record, detail);
        } else if (nr_record_find(record.bytes, record.size, detail->field, &field)) {
            end = put_value(value, &field, detail->form);
        }
        at = end > value ? end : at;
    }
    return at > first ? NR_PUT(at, "}") : begin;
}

/* -- the record -- */

static char *put_text(char *at, const char *name, struct nr_app_record record, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(record.bytes, record.size, number, &field)) {
        return at;
    }
    return nr_put_json_text(nr_put_string(at, name), &field);
}

static char *put_record(char *at, const nr_event *event, struct nr_app_record record) {
    struct nr_field name;
    uint32_t number;
    if (nr_app_find_name(event->app_protocol, record, &name)) {
        at = nr_put_json_text(NR_PUT(at, ",\"app_name\":"), &name);
        at = nr_put_string(NR_PUT(at, ",\"app_name_from\":\""),
                           nr_app_name_source(event->app_protocol));
        at = NR_PUT(at, "\"");
    }
    at = put_text(at, ",\"app_alpn\":", record, NR_FIELD_ALPN);
    if (nr_app_find_number(record, NR_FIELD_VERSION, &number)) {
        at = nr_put_app_version(NR_PUT(at, ",\"app_version\":\""), event->app_protocol, number);
        at = NR_PUT(at, "\"");
    }
    at = put_text(at, ",\"app_ja4\":", record, NR_FIELD_JA4);
    if (nr_app_find_carrier(record, &number)) {
        at =
            nr_put_string(NR_PUT(at, ",\"app_carrier\":\""), nr_app_protocol_name((uint8_t)number));
        at = NR_PUT(at, "\"");
    }
    return at;
}

static char *put_macs(char *at, const nr_event *event) {
    at = nr_put_address(NR_PUT(at, ",\"orig_mac\":\""), 0, event->orig_mac);
    at = nr_put_address(NR_PUT(at, "\",\"resp_mac\":\""), 0, event->resp_mac);
    return NR_PUT(at, "\"");
}

char *nr_put_app_json(char *at, const nr_event *event, struct nr_app_record record) {
    at = put_text(at, ",\"resp_name\":", record, NR_FIELD_RESP_NAME);
    at = event->has_macs ? put_macs(at, event) : at;
    if (event->mac_changes > 0) {
        at = nr_put_u64(NR_PUT(at, ",\"mac_changes\":"), event->mac_changes);
    }
    if (!nr_app_has_protocol(event)) {
        return at;
    }
    at = nr_put_string(NR_PUT(at, ",\"app_protocol\":\""),
                       nr_app_protocol_name(event->app_protocol));
    at = NR_PUT(at, "\"");
    at = put_record(at, event, record);
    if (event->app_count > 0) {
        at = nr_put_u64(NR_PUT(at, ",\"app_count\":"), event->app_count);
    }
    at = nr_app_is_cut(record) ? NR_PUT(at, ",\"app_cut\":true") : at;
    return put_details(at, event->app_protocol, record);
}
