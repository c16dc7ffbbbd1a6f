/* Writes what Suricata's EVE has of the protocols inside flows: the events tls, http, dns, quic,
 * ssh and dhcp, field by field as its loggers do, and app_proto of flows. */
#include "formats/app_text.h"
#include "formats/app_words.h"

enum { OPCODE_SHIFT = 11, QR = 0x8000, AA = 0x400, TC = 0x200, RD = 0x100, RA = 0x80, Z = 0x40 };
enum { DNS_ANY = 255, OFFER = 2, ACK = 5, NAK = 6 };

const char *nr_eve_protocol_name(uint32_t protocol) {
    static const char *const names[NR_APP_COUNT] = {
        [NR_APP_TLS] = "tls",     [NR_APP_QUIC] = "quic", [NR_APP_HTTP] = "http",
        [NR_APP_HTTP2] = "http2", [NR_APP_DNS] = "dns",   [NR_APP_MDNS] = "mdns",
        [NR_APP_DHCP] = "dhcp",   [NR_APP_SSH] = "ssh",   [NR_APP_MQTT] = "mqtt",
        [NR_APP_NTP] = "ntp",     [NR_APP_RDP] = "rdp",   [NR_APP_SMB] = "smb",
        [NR_APP_SMTP] = "smtp",   [NR_APP_IMAP] = "imap", [NR_APP_POP3] = "pop3",
        [NR_APP_FTP] = "ftp",     [NR_APP_LDAP] = "ldap", [NR_APP_POSTGRESQL] = "pgsql",
    };
    return protocol < NR_APP_COUNT ? names[protocol] : NULL;
}

/* -- one object -- */

/* Begins the next field of an object. */
static char *put_name(char *at, const char *name) {
    at = at[-1] == '{' ? NR_PUT(at, "\"") : NR_PUT(at, ",\"");
    return NR_PUT(nr_put_string(at, name), "\":");
}

static char *put_word(char *at, const char *name, const char *word) {
    at = nr_put_string(NR_PUT(put_name(at, name), "\""), word);
    return NR_PUT(at, "\"");
}

static char *put_number(char *at, const char *name, uint64_t number) {
    return nr_put_u64(put_name(at, name), number);
}

static char *put_text(char *at, const char *name, struct nr_app_record record, uint8_t number) {
    struct nr_field field;
    const bool found = nr_record_find(record.bytes, record.size, number, &field);
    return found ? nr_put_json_text(put_name(at, name), &field) : at;
}

static char *put_texts(char *begin, const char *name, struct nr_app_record record, uint8_t number) {
    char *at = NR_PUT(put_name(begin, name), "[");
    char *const first = at;
    uint32_t place = 0;
    struct nr_field field;
    while (nr_record_next(record.bytes, record.size, &place, &field)) {
        if (field.field == number) {
            at = nr_put_json_text(at > first ? NR_PUT(at, ",") : at, &field);
        }
    }
    return at > first ? NR_PUT(at, "]") : begin;
}

static char *put_ipv4(char *at, const char *name, struct nr_app_record record, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(record.bytes, record.size, number, &field) || field.length != 4) {
        return at;
    }
    at = nr_put_address(NR_PUT(put_name(at, name), "\""), 4, field.value);
    return NR_PUT(at, "\"");
}

/* -- TLS and QUIC -- */

static char *put_ja3(char *at, struct nr_app_record record) {
    struct nr_field field;
    if (!nr_record_find(record.bytes, record.size, NR_FIELD_JA3, &field)) {
        return at;
    }
    at = nr_put_json_text(NR_PUT(put_name(at, "ja3"), "{\"hash\":"), &field);
    return NR_PUT(at, "}");
}

/* Writes a version by Suricata's own names. */
static char *put_tls_version(char *at, uint32_t version) {
    switch (version) {
    case 0x0002:
        return NR_PUT(at, "\"SSLv2\"");
    case 0x0300:
        return NR_PUT(at, "\"SSLv3\"");
    case 0x0301:
        return NR_PUT(at, "\"TLSv1\"");
    case 0x0302:
    case 0x0303:
    case 0x0304:
        return NR_PUT(nr_put_u64(NR_PUT(at, "\"TLS 1."), version - 0x0301), "\"");
    default:
        return NR_PUT(nr_put_app_word(NR_PUT(at, "\""), NR_WORD_TLS_VERSION, version), "\"");
    }
}

static char *put_tls(char *at, struct nr_app_record record) {
    uint32_t number;
    at = put_text(at, "sni", record, NR_FIELD_SERVER_NAME);
    if (nr_app_find_number(record, NR_FIELD_VERSION, &number)) {
        at = put_tls_version(put_name(at, "version"), number);
    }
    if (nr_app_find_number(record, NR_FIELD_RESUMED, &number) && number != 0) {
        at = NR_PUT(put_name(at, "session_resumed"), "true");
    }
    if (nr_app_find_carrier(record, &number) && nr_eve_protocol_name(number) != NULL) {
        at = put_word(at, "from_proto", nr_eve_protocol_name(number));
    }
    at = put_ja3(at, record);
    at = put_text(at, "ja4", record, NR_FIELD_JA4);
    at = put_texts(at, "client_alpns", record, NR_FIELD_ALPN_OFFERED);
    at = put_texts(at, "server_alpns", record, NR_FIELD_ALPN);
    if (nr_app_find_number(record, NR_FIELD_CIPHER, &number)) {
        at = put_number(NR_PUT(put_name(at, "server_handshake"), "{"), "cipher", number);
        at = NR_PUT(at, "}");
    }
    return at;
}

static char *put_quic(char *at, struct nr_app_record record) {
    uint32_t version;
    if (nr_app_find_number(record, NR_FIELD_VERSION, &version)) {
        at = NR_PUT(put_name(at, "version"), "\"");
        int shift = 28;
        while (shift > 0 && version >> shift == 0) {
            shift -= 4;
        }
        for (; shift >= 0; shift -= 4) {
            *at++ = "0123456789abcdef"[version >> shift & 15];
        }
        at = NR_PUT(at, "\"");
    }
    at = put_text(at, "sni", record, NR_FIELD_SERVER_NAME);
    at = put_ja3(at, record);
    return put_text(at, "ja4", record, NR_FIELD_JA4);
}

/* -- HTTP -- */

static char *put_http(char *at, struct nr_app_record record) {
    uint32_t number;
    struct nr_field host;
    if (nr_app_find_name(NR_APP_HTTP, record, &host)) { /* without its port, as in Suricata */
        at = nr_put_json_text(put_name(at, "hostname"), &host);
    }
    at = put_text(at, "url", record, NR_FIELD_PATH);
    at = put_text(at, "http_user_agent", record, NR_FIELD_USER_AGENT);
    at = put_text(at, "http_content_type", record, NR_FIELD_CONTENT_TYPE);
    at = put_text(at, "http_method", record, NR_FIELD_METHOD);
    if (nr_app_find_number(record, NR_FIELD_VERSION, &number)) {
        at = nr_put_app_version(NR_PUT(put_name(at, "protocol"), "\""), NR_APP_HTTP, number);
        at = NR_PUT(at, "\"");
    }
    return nr_app_find_number(record, NR_FIELD_STATUS, &number) ? put_number(at, "status", number)
                                                                : at;
}

/* -- DNS -- */

static char *put_type(char *at, uint32_t type) {
    at = NR_PUT(put_name(at, "rrtype"), "\"");
    at = type == DNS_ANY ? NR_PUT(at, "ANY") : nr_put_app_word(at, NR_WORD_DNS_TYPE, type);
    return NR_PUT(at, "\"");
}

static char *put_flags(char *at, uint32_t flags) {
    static const struct {
        const char *name;
        uint32_t flag;
    } names[] = {{"qr", QR}, {"aa", AA}, {"tc", TC}, {"rd", RD}, {"ra", RA}, {"z", Z}};
    at = NR_PUT(put_name(at, "flags"), "\"");
    for (int shift = 12; shift >= 0; shift -= 4) {
        if ((flags & UINT16_MAX) >> shift || shift == 0) {
            *at++ = "0123456789abcdef"[flags >> shift & 15];
        }
    }
    at = NR_PUT(at, "\"");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        at = flags & names[i].flag ? NR_PUT(put_name(at, names[i].name), "true") : at;
    }
    return put_number(at, "opcode", flags >> OPCODE_SHIFT & 15);
}

static char *put_answer(char *at, const struct nr_app_answer *answer) {
    at = nr_put_json_text(NR_PUT(at, "{\"rrname\":"), &answer->owner);
    at = put_number(put_type(at, answer->type), "ttl", answer->ttl);
    at = put_name(at, "rdata");
    if (answer->family == 0) {
        at = nr_put_json_text(at, &answer->data);
    } else {
        at = nr_put_address(NR_PUT(at, "\""), answer->family, answer->data.value);
        at = NR_PUT(at, "\"");
    }
    return NR_PUT(at, "}");
}

static char *put_answers(char *begin, struct nr_app_record record) {
    char *at = NR_PUT(put_name(begin, "answers"), "[");
    char *const first = at;
    uint32_t place = 0;
    struct nr_field field;
    struct nr_app_answer answer;
    while (nr_record_next(record.bytes, record.size, &place, &field)) {
        if (field.field == NR_FIELD_ANSWER && nr_app_read_answer(&field, &answer)) {
            at = put_answer(at > first ? NR_PUT(at, ",") : at, &answer);
        }
    }
    return at > first ? NR_PUT(at, "]") : begin;
}

static char *put_query(char *begin, struct nr_app_record record) {
    char *at = NR_PUT(put_name(begin, "queries"), "[{");
    char *const first = at;
    uint32_t type;
    at = put_text(at, "rrname", record, NR_FIELD_QUERY);
    at = nr_app_find_number(record, NR_FIELD_QUERY_TYPE, &type) ? put_type(at, type) : at;
    return at > first ? NR_PUT(at, "}]") : begin;
}

static char *put_dns(char *at, struct nr_app_record record) {
    uint32_t number, flags = 0;
    const bool has_flags = nr_app_find_number(record, NR_FIELD_DNS_FLAGS, &flags);
    at = NR_PUT(at, "\"version\":3");
    at = put_word(at, "type", flags & QR ? "response" : "request");
    if (nr_app_find_number(record, NR_FIELD_ID, &number)) {
        at = put_number(at, "id", number);
    }
    at = has_flags ? put_flags(at, flags) : at;
    if (nr_app_find_number(record, NR_FIELD_RCODE, &number)) {
        at = nr_put_app_word(NR_PUT(put_name(at, "rcode"), "\""), NR_WORD_DNS_RCODE, number);
        at = NR_PUT(at, "\"");
    }
    return put_answers(put_query(at, record), record);
}

/* -- SSH -- */

/* Writes a banner in its parts: SSH-2.0-OpenSSH_9.2p1. */
static char *put_banner(char *at, const char *name, struct nr_app_record record, uint8_t number) {
    enum { PREFIX = 4 };
    struct nr_field field;
    if (!nr_record_find(record.bytes, record.size, number, &field) || field.length < PREFIX ||
        memcmp(field.value, "SSH-", PREFIX) != 0) {
        return at;
    }
    const uint8_t *version = field.value + PREFIX;
    const uint16_t rest = (uint16_t)(field.length - PREFIX);
    const uint8_t *dash = rest > 0 ? memchr(version, '-', rest) : NULL;
    const uint16_t size = dash != NULL ? (uint16_t)(dash - version) : rest;
    at = NR_PUT(put_name(at, name), "{");
    at = nr_put_json_text(put_name(at, "proto_version"), &(struct nr_field){version, size, number});
    if (dash != NULL) {
        const struct nr_field software = {dash + 1, (uint16_t)(rest - size - 1), number};
        at = nr_put_json_text(put_name(at, "software_version"), &software);
    }
    return NR_PUT(at, "}");
}

static char *put_ssh(char *at, struct nr_app_record record) {
    at = put_banner(at, "client", record, NR_FIELD_CLIENT_SOFTWARE);
    return put_banner(at, "server", record, NR_FIELD_SERVER_SOFTWARE);
}

/* -- DHCP -- */

/* Returns the type of the latest message; 0: there is none. */
static uint32_t last_message(struct nr_app_record record) {
    uint32_t place = 0, type = 0;
    struct nr_field field;
    while (nr_record_next(record.bytes, record.size, &place, &field)) {
        if (field.field == NR_FIELD_MESSAGE_TYPE && field.length == sizeof type) {
            memcpy(&type, field.value, sizeof type);
        }
    }
    return type;
}

static char *put_message_type(char *at, uint32_t type) {
    at = NR_PUT(put_name(at, "dhcp_type"), "\"");
    char *const word = at;
    at = nr_put_app_word(at, NR_WORD_DHCP_MESSAGE, type);
    for (char *letter = word; letter < at; letter++) {
        *letter = *letter >= 'A' && *letter <= 'Z' ? (char)(*letter | 0x20) : *letter;
    }
    return NR_PUT(at, "\"");
}

static char *put_routers(char *begin, struct nr_app_record record) {
    char *at = NR_PUT(put_name(begin, "routers"), "[");
    char *const first = at;
    uint32_t place = 0;
    struct nr_field field;
    while (nr_record_next(record.bytes, record.size, &place, &field)) {
        if (field.field == NR_FIELD_ROUTER && field.length == 4) {
            at = NR_PUT(at > first ? NR_PUT(at, ",") : at, "\"");
            at = NR_PUT(nr_put_address(at, 4, field.value), "\"");
        }
    }
    return at > first ? NR_PUT(at, "]") : begin;
}

static char *put_mask(char *at, uint32_t length) {
    const uint32_t bits = length == 0 ? 0 : UINT32_MAX << (32 - length);
    const uint8_t mask[4] = {(uint8_t)(bits >> 24), (uint8_t)(bits >> 16), (uint8_t)(bits >> 8),
                             (uint8_t)bits};
    at = nr_put_address(NR_PUT(put_name(at, "subnet_mask"), "\""), 4, mask);
    return NR_PUT(at, "\"");
}

static char *put_dhcp(char *at, struct nr_app_record record) {
    const uint32_t type = last_message(record);
    const bool is_reply = type == OFFER || type == ACK || type == NAK;
    struct nr_field mac;
    uint32_t number;
    at = put_word(at, "type", is_reply ? "reply" : "request");
    at = nr_app_find_number(record, NR_FIELD_ID, &number) ? put_number(at, "id", number) : at;
    if (nr_record_find(record.bytes, record.size, NR_FIELD_MAC, &mac) && mac.length == 6) {
        at = nr_put_address(NR_PUT(put_name(at, "client_mac"), "\""), 0, mac.value);
        at = NR_PUT(at, "\"");
    }
    at = put_ipv4(at, "assigned_ip", record, NR_FIELD_ASSIGNED);
    at = type != 0 ? put_message_type(at, type) : at;
    at = put_ipv4(at, "requested_ip", record, NR_FIELD_REQUESTED);
    if (nr_app_find_number(record, NR_FIELD_PREFIX_LENGTH, &number) && number <= 32) {
        at = put_mask(at, number);
    }
    at = put_routers(at, record);
    at = put_text(at, "hostname", record, NR_FIELD_HOST_NAME);
    if (nr_app_find_number(record, NR_FIELD_LEASE, &number)) {
        at = put_number(at, "lease_time", number);
    }
    return put_text(at, "vendor_class_identifier", record, NR_FIELD_VENDOR_CLASS);
}

/* -- the event -- */

typedef char *put_object(char *at, struct nr_app_record record);

static put_object *object_of(uint8_t protocol) {
    static put_object *const objects[NR_APP_COUNT] = {
        [NR_APP_TLS] = put_tls, [NR_APP_QUIC] = put_quic, [NR_APP_HTTP] = put_http,
        [NR_APP_DNS] = put_dns, [NR_APP_SSH] = put_ssh,   [NR_APP_DHCP] = put_dhcp,
    };
    return protocol < NR_APP_COUNT ? objects[protocol] : NULL;
}

const char *nr_eve_event_type(const nr_event *event, struct nr_app_record record) {
    if (record.size == 0 || object_of(event->app_protocol) == NULL) {
        return NULL;
    }
    return nr_eve_protocol_name(event->app_protocol);
}

char *nr_put_eve_object(char *at, const nr_event *event, struct nr_app_record record) {
    at = nr_put_string(NR_PUT(at, ",\""), nr_eve_protocol_name(event->app_protocol));
    at = object_of(event->app_protocol)(NR_PUT(at, "\":{"), record);
    return NR_PUT(at, "}");
}
