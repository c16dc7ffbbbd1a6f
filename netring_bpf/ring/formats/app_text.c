/* Writes what application records hold as text: see app_text.h. */
#include "formats/app_text.h"

#include "formats/app_words.h"

/* -- text of the network -- */

static bool continues(uint8_t byte) {
    return (byte & 0xc0) == 0x80;
}

/* Returns the length of the UTF-8 sequence of a character beyond ASCII; 0: there is none. */
static uint32_t sequence_length(const uint8_t *text, uint32_t left) {
    const uint8_t first = text[0];
    const uint32_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || left < length) {
        return 0;
    }
    for (uint32_t i = 1; i < length; i++) {
        if (!continues(text[i])) {
            return 0;
        }
    }
    const bool is_overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    const bool is_surrogate = first == 0xed && text[1] > 0x9f;
    const bool is_beyond = first == 0xf4 && text[1] > 0x8f;
    return is_overlong || is_surrogate || is_beyond ? 0 : length;
}

/* Tells whether a reader of text may obey this character: the controls of ISO 6429, ends of lines,
 * marks of direction, and the mark of byte order. */
static bool is_obeyed(const uint8_t *text, uint32_t length) {
    if (length == 2) {
        return (text[0] == 0xc2 && text[1] < 0xa0) || (text[0] == 0xd8 && text[1] == 0x9c);
    }
    if (length != 3) {
        return false;
    }
    const uint32_t character = (text[0] & 15u) << 12 | (text[1] & 63u) << 6 | (text[2] & 63u);
    return character == 0x200e || character == 0x200f ||
           (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069) || character == 0xfeff;
}

static char *put_hidden(char *at, const uint8_t *bytes, uint32_t count, enum nr_text_style style) {
    for (uint32_t i = 0; i < count; i++) {
        at = style == NR_TEXT_JSON ? NR_PUT(at, "\\\\x") : NR_PUT(at, "\\x");
        at = nr_put_hex_byte(at, bytes[i]);
    }
    return at;
}

static char *put_ascii(char *at, uint8_t byte, enum nr_text_style style) {
    if (style == NR_TEXT_JSON && (byte == '"' || byte == '\\')) {
        *at++ = '\\';
    } else if (style == NR_TEXT_CSV && byte == '"') {
        *at++ = '"';
    }
    *at++ = (char)byte;
    return at;
}

char *nr_put_network_text(char *at, const uint8_t *text, uint32_t size, enum nr_text_style style) {
    for (uint32_t i = 0; i < size;) {
        if (text[i] >= 0x20 && text[i] < 0x7f) {
            at = put_ascii(at, text[i++], style);
            continue;
        }
        const uint32_t length = text[i] < 0x80 ? 0 : sequence_length(text + i, size - i);
        if (length > 0 && !is_obeyed(text + i, length)) {
            at = nr_put(at, (const char *)text + i, length);
        } else {
            at = put_hidden(at, text + i, length > 0 ? length : 1, style);
        }
        i += length > 0 ? length : 1;
    }
    return at;
}

uint32_t nr_network_text(const uint8_t *text, uint32_t size, char *out) {
    return (uint32_t)(nr_put_network_text(out, text, size, NR_TEXT_PLAIN) - out);
}

char *nr_put_json_text(char *at, const struct nr_field *field) {
    at = nr_put_network_text(NR_PUT(at, "\""), field->value, field->length, NR_TEXT_JSON);
    return NR_PUT(at, "\"");
}

/* -- words -- */

const char *nr_app_protocol_name(uint8_t protocol) {
    static const char *const names[NR_APP_COUNT] = {
        [NR_APP_NONE] = "",
        [NR_APP_TLS] = "tls",
        [NR_APP_DTLS] = "dtls",
        [NR_APP_QUIC] = "quic",
        [NR_APP_HTTP] = "http",
        [NR_APP_HTTP2] = "http2",
        [NR_APP_DNS] = "dns",
        [NR_APP_MDNS] = "mdns",
        [NR_APP_LLMNR] = "llmnr",
        [NR_APP_NETBIOS] = "netbios",
        [NR_APP_DHCP] = "dhcp",
        [NR_APP_DHCPV6] = "dhcpv6",
        [NR_APP_SSDP] = "ssdp",
        [NR_APP_SSH] = "ssh",
        [NR_APP_MQTT] = "mqtt",
        [NR_APP_NTP] = "ntp",
        [NR_APP_RDP] = "rdp",
        [NR_APP_SMB] = "smb",
        [NR_APP_BITTORRENT] = "bittorrent",
        [NR_APP_WIREGUARD] = "wireguard",
        [NR_APP_STUN] = "stun",
        [NR_APP_RTP] = "rtp",
        [NR_APP_SMTP] = "smtp",
        [NR_APP_IMAP] = "imap",
        [NR_APP_POP3] = "pop3",
        [NR_APP_FTP] = "ftp",
        [NR_APP_LDAP] = "ldap",
        [NR_APP_XMPP] = "xmpp",
        [NR_APP_POSTGRESQL] = "postgresql",
        [NR_APP_MYSQL] = "mysql",
    };
    return protocol < NR_APP_COUNT ? names[protocol] : "";
}

const char *nr_app_name_source(uint8_t protocol) {
    const bool is_tls = protocol == NR_APP_TLS || protocol == NR_APP_DTLS;
    return is_tls ? "sni" : nr_app_protocol_name(protocol);
}

static char *put_unknown(char *at, uint32_t number) {
    at = NR_PUT(at, "unknown-0x");
    for (int shift = number > UINT16_MAX ? 24 : 8; shift >= 0; shift -= 8) {
        at = nr_put_hex_byte(at, (uint8_t)(number >> shift));
    }
    return at;
}

static const char *dhcpv6_message_name(uint32_t type) {
    static const char *const names[] = {
        [1] = "SOLICIT",      [2] = "ADVERTISE",   [3] = "REQUEST",
        [4] = "CONFIRM",      [5] = "RENEW",       [6] = "REBIND",
        [7] = "REPLY",        [8] = "RELEASE",     [9] = "DECLINE",
        [10] = "RECONFIGURE", [12] = "RELAY-FORW", [11] = "INFORMATION-REQUEST",
        [13] = "RELAY-REPL",
    };
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

static const char *word_of(uint32_t of, uint32_t number) {
    if (of == NR_WORD_TLS_VERSION) {
        return nr_tls_version_name(number);
    }
    if (number > UINT16_MAX) {
        return NULL;
    }
    switch (of) {
    case NR_WORD_CIPHER:
        return nr_cipher_name((uint16_t)number);
    case NR_WORD_GROUP:
        return nr_tls_group_name((uint16_t)number);
    case NR_WORD_DNS_TYPE:
        return nr_dns_type_name((uint16_t)number);
    case NR_WORD_DNS_RCODE:
        return nr_dns_rcode_name((uint16_t)number);
    case NR_WORD_DHCP_MESSAGE:
        return nr_dhcp_message_name((uint16_t)number);
    case NR_WORD_DHCPV6_MESSAGE:
        return dhcpv6_message_name(number);
    default:
        return NULL;
    }
}

char *nr_put_app_word(char *at, uint32_t of, uint32_t number) {
    const char *word = word_of(of, number);
    return word != NULL ? nr_put_string(at, word) : put_unknown(at, number);
}

uint32_t nr_app_word(uint32_t of, uint32_t number, char *out) {
    return (uint32_t)(nr_put_app_word(out, of, number) - out);
}

static char *put_quic_version(char *at, uint32_t version) {
    if (version == 1 || version == 0x6b3343cf) {
        return version == 1 ? NR_PUT(at, "QUICv1") : NR_PUT(at, "QUICv2");
    }
    if (version >> 8 == 0xff0000) {
        return nr_put_u64(NR_PUT(at, "QUIC-draft-"), version & UINT8_MAX);
    }
    return put_unknown(at, version);
}

static char *put_mqtt_version(char *at, uint32_t level) {
    switch (level) {
    case 3:
        return NR_PUT(at, "3.1");
    case 4:
        return NR_PUT(at, "3.1.1");
    case 5:
        return NR_PUT(at, "5.0");
    default:
        return put_unknown(at, level);
    }
}

static char *put_major_minor(char *at, uint32_t version) {
    at = nr_put_u64(at, version >> 8);
    return nr_put_u64(NR_PUT(at, "."), version & UINT8_MAX);
}

char *nr_put_app_version(char *at, uint8_t protocol, uint32_t version) {
    switch (protocol) {
    case NR_APP_QUIC:
        return put_quic_version(at, version);
    case NR_APP_HTTP:
    case NR_APP_HTTP2:
        return put_major_minor(NR_PUT(at, "HTTP/"), version);
    case NR_APP_MQTT:
        return put_mqtt_version(at, version);
    case NR_APP_TLS:
    case NR_APP_DTLS:
        return nr_put_app_word(at, NR_WORD_TLS_VERSION, version);
    default:
        return put_major_minor(at, version);
    }
}

uint32_t nr_app_version(uint8_t protocol, uint32_t version, char *out) {
    return (uint32_t)(nr_put_app_version(out, protocol, version) - out);
}

/* -- fields -- */

static bool find(struct nr_app_record record, uint8_t number, struct nr_field *field) {
    return nr_record_find(record.bytes, record.size, number, field);
}

bool nr_app_find_number(struct nr_app_record record, uint8_t number, uint32_t *value) {
    struct nr_field field;
    if (!find(record, number, &field) || field.length != sizeof *value) {
        return false;
    }
    memcpy(value, field.value, sizeof *value);
    return true;
}

bool nr_app_find_carrier(struct nr_app_record record, uint32_t *protocol) {
    return nr_app_find_number(record, NR_FIELD_CARRIER, protocol) && *protocol > NR_APP_NONE &&
           *protocol < NR_APP_COUNT;
}

bool nr_app_is_cut(struct nr_app_record record) {
    uint32_t cut;
    return nr_app_find_number(record, NR_FIELD_CUT, &cut) && cut != 0;
}

bool nr_app_find_name(uint8_t protocol, struct nr_app_record record, struct nr_field *field) {
    return nr_record_name(record.bytes, record.size, protocol, field);
}

bool nr_app_read_answer(const struct nr_field *field, struct nr_app_answer *answer) {
    enum { HEAD = 8, A = 1, AAAA = 28 };
    const uint8_t *at = field->value;
    if (field->length < HEAD || at[7] > field->length - HEAD) {
        return false;
    }
    const uint16_t length = (uint16_t)(field->length - HEAD - at[7]);
    memcpy(&answer->ttl, at, sizeof answer->ttl);
    memcpy(&answer->type, at + 4, sizeof answer->type);
    answer->chained = at[6] != 0;
    answer->owner = (struct nr_field){at + HEAD, at[7], NR_FIELD_ANSWER};
    answer->data = (struct nr_field){at + HEAD + at[7], length, NR_FIELD_ANSWER};
    answer->family = answer->type == A && length == 4       ? 4
                     : answer->type == AAAA && length == 16 ? 6
                                                            : 0;
    return true;
}

/* -- columns -- */

static char *put_column(char *at, uint32_t column, const nr_event *event,
                        struct nr_app_record record) {
    static const uint8_t texts[] = {
        [NR_APP_COLUMN_ALPN] = NR_FIELD_ALPN,
        [NR_APP_COLUMN_JA4] = NR_FIELD_JA4,
        [NR_APP_COLUMN_RESP_NAME] = NR_FIELD_RESP_NAME,
    };
    const uint8_t protocol = event->app_protocol;
    struct nr_field field;
    uint32_t number;
    switch (column) {
    case NR_APP_COLUMN_NAME_FROM:
        return nr_app_find_name(protocol, record, &field)
                   ? nr_put_string(at, nr_app_name_source(protocol))
                   : NULL;
    case NR_APP_COLUMN_VERSION:
        return nr_app_has_protocol(event) && nr_app_find_number(record, NR_FIELD_VERSION, &number)
                   ? nr_put_app_version(at, protocol, number)
                   : NULL;
    case NR_APP_COLUMN_CARRIER:
        return nr_app_has_protocol(event) && nr_app_find_carrier(record, &number)
                   ? nr_put_string(at, nr_app_protocol_name((uint8_t)number))
                   : NULL;
    case NR_APP_COLUMN_CUT:
        return nr_app_has_protocol(event) && nr_app_is_cut(record) ? at : NULL;
    case NR_APP_COLUMN_NAME:
        if (!nr_app_find_name(protocol, record, &field)) {
            return NULL;
        }
        break;
    default:
        if ((column != NR_APP_COLUMN_RESP_NAME && !nr_app_has_protocol(event)) ||
            !find(record, texts[column], &field)) {
            return NULL;
        }
    }
    return nr_put_network_text(at, field.value, field.length, NR_TEXT_PLAIN);
}

uint64_t nr_app_column(uint32_t column, const void *events, uint32_t event_size, uint32_t count,
                       const uint8_t *batch, uint64_t batch_size, char *out, uint64_t *ends,
                       uint8_t *there) {
    char *at = out;
    for (uint32_t i = 0; i < count; i++) {
        const nr_event *event = (const void *)((const uint8_t *)events + (size_t)i * event_size);
        char *end = put_column(at, column, event, nr_app_record_of(event, batch, batch_size));
        there[i] = end != NULL;
        at = end != NULL ? end : at;
        ends[i] = (uint64_t)(at - out);
    }
    return (uint64_t)(at - out);
}
