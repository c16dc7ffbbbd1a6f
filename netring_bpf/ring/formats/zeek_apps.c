/* Writes Zeek's logs of application protocols, tab-separated: a line an exchange
 * (docs/zeek-differences.md). Columns are those of formats/zeek.py. */
#include "formats/app_text.h"
#include "formats/app_words.h"
#include "formats/text_record.h"

#define UNSET "-"
#define EMPTY "(empty)"

enum { OPCODE_SHIFT = 11, IS_ANSWER = 0x8000, AA = 0x400, TC = 0x200, RD = 0x100, RA = 0x80 };
enum { NETBIOS_PORT = 137, DHCP_SERVER = 67, HTTP_0_9 = 9 };

/* -- text of the network -- */

/* Writes text as the other formats do, and as Zeek's writer escapes a backslash. `also`: another
 * character that is escaped, as the comma inside of a set. */
static char *put_escaped(char *at, const uint8_t *text, uint32_t length, char also) {
    uint32_t begin = 0;
    for (uint32_t i = 0; i < length; i++) {
        if (text[i] == '\\' || (also != 0 && text[i] == (uint8_t)also)) {
            at = nr_put_network_text(at, text + begin, i - begin, NR_TEXT_PLAIN);
            at = nr_put_hex_byte(NR_PUT(at, "\\x"), text[i]);
            begin = i + 1;
        }
    }
    return nr_put_network_text(at, text + begin, length - begin, NR_TEXT_PLAIN);
}

/* Writes text so that no reader takes it for the sign of a value that is missing, or empty. */
static char *put_text(char *at, const uint8_t *text, uint32_t length, char also) {
    if (length == 0) {
        return NR_PUT(at, EMPTY);
    }
    if (length == 1 && text[0] == UNSET[0]) {
        return NR_PUT(at, "\\x2d");
    }
    return put_escaped(at, text, length, also);
}

/* -- columns: each function writes a value and a tab -- */

static char *put_tab(char *at) {
    return NR_PUT(at, "\t");
}

static char *put_unset(char *at) {
    return NR_PUT(at, UNSET "\t");
}

static char *put_word(char *at, const char *word) {
    return put_tab(nr_put_string(at, word));
}

static char *put_flag(char *at, bool flag) {
    return put_word(at, flag ? "T" : "F");
}

static char *put_number(char *at, const struct nr_app_record *app, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, number, &field)) {
        return put_unset(at);
    }
    return put_tab(nr_put_u64(at, nr_record_value(app->bytes, app->size, number, 0)));
}

static char *put_field(char *at, const struct nr_app_record *app, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, number, &field)) {
        return put_unset(at);
    }
    return put_tab(put_text(at, field.value, field.length, 0));
}

/* Writes the name of a number, or else `unknown` and the number. */
static char *put_name(char *at, const char *name, const char *unknown, uint32_t number) {
    return put_tab(name != NULL ? nr_put_string(at, name)
                                : nr_put_u64(nr_put_string(at, unknown), number));
}

static char *put_interval(char *at, uint64_t ns) {
    return put_tab(nr_zeek_put_time(at, ns));
}

static bool has(const struct nr_app_record *app, uint8_t number) {
    struct nr_field field;
    return nr_record_find(app->bytes, app->size, number, &field);
}

static uint32_t value_of(const struct nr_app_record *app, uint8_t number) {
    return nr_record_value(app->bytes, app->size, number, 0);
}

/* Returns when the exchange began: with its question, if one was seen. */
static uint64_t began(const nr_event *e, const struct nr_app_record *app) {
    struct nr_field field;
    uint64_t ts;
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_ASKED_TS, &field) ||
        field.length != sizeof ts) {
        return e->ts;
    }
    memcpy(&ts, field.value, sizeof ts);
    return ts < e->ts ? ts : e->ts;
}

/* Takes back the tab behind the last column. */
static char *end_line(char *at) {
    return at - 1;
}

/* -- ssl.log, quic.log -- */

static bool has_hello(const nr_event *e, const struct nr_app_record *app) {
    const uint8_t protocol = e->app_protocol;
    return app->size > 0 &&
           (protocol == NR_APP_TLS || protocol == NR_APP_DTLS || protocol == NR_APP_QUIC);
}

static char *put_tls_version(char *at, uint32_t version) {
    const char *name = nr_tls_version_name(version);
    if (version / 0xff == 0x7f) {
        return put_tab(nr_put_u64(NR_PUT(at, "TLSv13-draft"), version % 0x7f));
    }
    if (name == NULL) {
        return put_tab(nr_put_u64(NR_PUT(at, "unknown-"), version));
    }
    for (; *name != 0; name++) {
        if (*name != '.') {
            *at++ = *name;
        }
    }
    return put_tab(at);
}

/* Writes IANA's name of a suite; Zeek has "anon" in capitals. */
static char *put_cipher(char *at, uint32_t suite) {
    const char *name = suite <= UINT16_MAX ? nr_cipher_name((uint16_t)suite) : NULL;
    const char *anon = name != NULL ? strstr(name, "_anon_") : NULL;
    if (anon == NULL) {
        return put_name(at, name, "unknown-", suite);
    }
    at = nr_put(at, name, (size_t)(anon - name));
    return put_word(NR_PUT(at, "_ANON_"), anon + strlen("_anon_"));
}

/* Writes what the server chose. QUIC carries TLS 1.3 alone, and its record has QUIC's version. */
static char *put_chosen(char *at, const nr_event *e, const struct nr_app_record *app) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_CIPHER, &field)) {
        at = put_unset(put_unset(at));
    } else {
        const bool is_quic = e->app_protocol == NR_APP_QUIC;
        at = put_tls_version(at, is_quic ? 0x0304 : value_of(app, NR_FIELD_VERSION));
        at = put_cipher(at, value_of(app, NR_FIELD_CIPHER));
    }
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_GROUP, &field)) {
        return put_unset(at);
    }
    const uint32_t group = value_of(app, NR_FIELD_GROUP);
    return put_name(at, nr_tls_group_name((uint16_t)group), "unknown-", group);
}

char *nr_zeek_ssl_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (!has_hello(e, &app)) {
        return at;
    }
    at = nr_zeek_put_head(at, e, began(e, &app), encoding->options);
    at = put_chosen(at, e, &app);
    at = put_field(at, &app, NR_FIELD_SERVER_NAME);
    at = put_flag(at, value_of(&app, NR_FIELD_RESUMED) != 0);
    at = put_field(at, &app, NR_FIELD_ALPN);
    at = put_field(at, &app, NR_FIELD_JA3);
    return end_line(put_field(at, &app, NR_FIELD_JA4));
}

static char *put_quic_version(char *at, uint32_t version) {
    switch (version) {
    case 1:
        return put_word(at, "1");
    case 0x6b3343cf:
        return put_word(at, "quicv2");
    default:
        break;
    }
    if (version >> 8 == 0xff0000) {
        return put_tab(nr_put_u64(NR_PUT(at, "draft-"), version & 0xff));
    }
    at = NR_PUT(at, "unknown-");
    for (int shift = 24; shift >= 0; shift -= 8) {
        at = nr_put_hex_byte(at, (uint8_t)(version >> shift));
    }
    return put_tab(at);
}

char *nr_zeek_quic_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (e->app_protocol != NR_APP_QUIC || app.size == 0) {
        return at;
    }
    at = nr_zeek_put_head(at, e, began(e, &app), encoding->options);
    at = put_quic_version(at, value_of(&app, NR_FIELD_VERSION));
    at = put_field(at, &app, NR_FIELD_SERVER_NAME);
    return end_line(put_field(at, &app, NR_FIELD_ALPN_OFFERED));
}

/* -- http.log -- */

static int hex_digit(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Undoes the percent escapes of a target into `out`, and returns how many bytes there are. */
static uint32_t unescape(const uint8_t *text, uint32_t length, uint8_t *out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < length; i++) {
        const bool has_two = text[i] == '%' && length - i > 2;
        const int high = has_two ? hex_digit(text[i + 1]) : -1;
        const int low = has_two ? hex_digit(text[i + 2]) : -1;
        const bool is_escape = high >= 0 && low >= 0;
        out[count++] = is_escape ? (uint8_t)(high << 4 | low) : text[i];
        i += is_escape ? 2 : 0;
    }
    return count;
}

/* Writes the target without the scheme and the host of an absolute one. */
static char *put_uri(char *at, const struct nr_app_record *app) {
    static const char scheme[] = "http://";
    struct nr_field field;
    uint8_t plain[NR_TEXT_MAX];
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_PATH, &field)) {
        return has(app, NR_FIELD_METHOD) ? put_word(at, EMPTY) : put_unset(at);
    }
    const uint8_t *text = field.value;
    uint32_t length = field.length < sizeof plain ? field.length : (uint32_t)sizeof plain;
    if (length >= sizeof scheme - 1 && memcmp(text, scheme, sizeof scheme - 1) == 0) {
        const uint8_t *path = memchr(text + sizeof scheme - 1, '/', length - (sizeof scheme - 1));
        length = path != NULL ? length - (uint32_t)(path - text) : 1;
        text = path != NULL ? path : (const uint8_t *)"/";
    }
    return put_tab(put_text(at, plain, unescape(text, length, plain), 0));
}

/* Writes the version of the answer. */
static char *put_http_version(char *at, const struct nr_app_record *app) {
    const uint32_t version = value_of(app, NR_FIELD_VERSION);
    if (!has(app, NR_FIELD_STATUS) && version != HTTP_0_9) {
        return put_unset(at);
    }
    return put_tab(nr_put_u64(NR_PUT(nr_put_u64(at, version >> 8), "."), version & 0xff));
}

/* Writes the status and its words. Answers of version 0.9 have none: Zeek writes 0. */
static char *put_http_answer(char *at, const struct nr_app_record *app) {
    struct nr_field reason;
    const bool has_reason =
        nr_record_find(app->bytes, app->size, NR_FIELD_REASON, &reason) && reason.length > 0;
    if (!has(app, NR_FIELD_STATUS)) {
        return value_of(app, NR_FIELD_VERSION) == HTTP_0_9 ? put_word(at, "0\t<empty>")
                                                           : put_unset(put_unset(at));
    }
    at = put_number(at, app, NR_FIELD_STATUS);
    return has_reason ? put_field(at, app, NR_FIELD_REASON) : put_word(at, "<empty>");
}

char *nr_zeek_http_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (e->app_protocol != NR_APP_HTTP || app.size == 0) {
        return at;
    }
    at = nr_zeek_put_head(at, e, began(e, &app), encoding->options);
    at = put_tab(nr_put_u64(at, e->app_count > 0 ? e->app_count : 1));
    at = put_field(at, &app, NR_FIELD_METHOD);
    at = put_field(at, &app, NR_FIELD_HOST);
    at = put_uri(at, &app);
    at = put_http_version(at, &app);
    at = put_field(at, &app, NR_FIELD_USER_AGENT);
    return end_line(put_http_answer(at, &app));
}

/* -- dns.log -- */

static bool is_dns(uint8_t protocol) {
    return protocol == NR_APP_DNS || protocol == NR_APP_MDNS || protocol == NR_APP_LLMNR ||
           protocol == NR_APP_NETBIOS;
}

/* Writes a name of the DNS: in small letters, and with no backslash in front of a dot or of another
 * backslash, as Zeek does. */
static char *put_dns_name(char *at, const uint8_t *name, uint32_t length) {
    uint8_t plain[NR_TEXT_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < length && count < sizeof plain; i++) {
        const bool is_escape = name[i] == '\\' && i + 1 < length;
        const uint8_t c = is_escape ? name[++i] : name[i];
        plain[count++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
    }
    return put_text(at, plain, count, ',');
}

static bool is_name(uint16_t type) {
    switch (type) {
    case 2:  /* NS */
    case 5:  /* CNAME */
    case 6:  /* SOA */
    case 12: /* PTR */
    case 15: /* MX */
    case 33: /* SRV */
    case 39: /* DNAME */
        return true;
    default:
        return false;
    }
}

/* An answer of the record: see NR_FIELD_ANSWER. */
struct answer {
    uint32_t ttl;
    uint16_t type;
    const uint8_t *data;
    uint32_t length;
};

static bool next_answer(const struct nr_app_record *app, uint32_t *at, struct answer *answer) {
    struct nr_field field;
    while (nr_record_next(app->bytes, app->size, at, &field)) {
        if (field.field == NR_FIELD_ANSWER && field.length >= 8 &&
            field.length >= 8u + field.value[7]) {
            memcpy(&answer->ttl, field.value, sizeof answer->ttl);
            memcpy(&answer->type, field.value + 4, sizeof answer->type);
            answer->data = field.value + 8 + field.value[7];
            answer->length = field.length - 8u - field.value[7];
            return true;
        }
    }
    return false;
}

static char *put_answer(char *at, const struct answer *answer) {
    if (answer->type == 1 && answer->length == 4) {
        return nr_put_address(at, 4, answer->data);
    }
    if (answer->type == 28 && answer->length == 16) {
        return nr_put_address(at, 6, answer->data);
    }
    return is_name(answer->type) ? put_dns_name(at, answer->data, answer->length)
                                 : put_text(at, answer->data, answer->length, ',');
}

/* Writes the answers, and how long each may be kept. */
static char *put_answers(char *at, const struct nr_app_record *app) {
    struct answer answer;
    uint32_t next = 0;
    char *first = at;
    while (next_answer(app, &next, &answer)) {
        at = put_answer(at != first ? NR_PUT(at, ",") : at, &answer);
    }
    if (at == first) {
        return put_unset(put_unset(at));
    }
    at = first = put_tab(at);
    for (next = 0; next_answer(app, &next, &answer);) {
        at = nr_put_u64(at != first ? NR_PUT(at, ",") : at, answer.ttl);
        at = NR_PUT(at, ".000000");
    }
    return put_tab(at);
}

static char *put_question(char *at, const nr_event *e, const struct nr_app_record *app) {
    const uint32_t class = value_of(app, NR_FIELD_QUERY_CLASS);
    const uint32_t type = value_of(app, NR_FIELD_QUERY_TYPE);
    struct nr_field query;
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_QUERY, &query)) {
        at = put_unset(at);
    } else if (e->app_protocol == NR_APP_NETBIOS) {
        at = put_field(at, app, NR_FIELD_QUERY);
    } else {
        at = put_tab(put_dns_name(at, query.value, query.length));
    }
    if (!has(app, NR_FIELD_QUERY_TYPE)) {
        return put_unset(put_unset(put_unset(put_unset(at))));
    }
    at = put_number(at, app, NR_FIELD_QUERY_CLASS);
    at = put_name(at, nr_dns_class_name((uint16_t) class), "qclass-", class);
    at = put_number(at, app, NR_FIELD_QUERY_TYPE);
    if (e->resp_p == NETBIOS_PORT && type == 33) {
        return put_word(at, "NBSTAT"); /* RFC 1002 had the number before SRV */
    }
    return put_name(at, nr_dns_type_name((uint16_t)type), "query-", type);
}

static const char *netbios_opcode_name(uint32_t opcode) {
    static const char *const names[16] = {
        [0] = "netbios-query", [5] = "netbios-registration", [6] = "netbios-release",
        [7] = "netbios-wack",  [8] = "netbios-refresh",
    };
    return names[opcode & 15];
}

static char *put_opcode(char *at, const nr_event *e, uint32_t flags) {
    const uint32_t opcode = flags >> OPCODE_SHIFT & 15;
    const bool is_netbios = e->app_protocol == NR_APP_NETBIOS;
    at = put_tab(nr_put_u64(at, opcode));
    return is_netbios ? put_name(at, netbios_opcode_name(opcode), "netbios-opcode-", opcode)
                      : put_name(at, nr_dns_opcode_name((uint16_t)opcode), "opcode-", opcode);
}

char *nr_zeek_dns_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (!is_dns(e->app_protocol) || app.size == 0) {
        return at;
    }
    const uint32_t flags = value_of(&app, NR_FIELD_DNS_FLAGS);
    const uint32_t rcode = value_of(&app, NR_FIELD_RCODE);
    const uint64_t start = began(e, &app);
    const bool is_answered = (flags & IS_ANSWER) != 0;
    at = nr_zeek_put_head(at, e, start, encoding->options);
    at = put_word(at, nr_zeek_proto_name(e->proto));
    at = put_number(at, &app, NR_FIELD_ID);
    at = is_answered && start < e->ts ? put_interval(at, e->ts - start) : put_unset(at);
    at = put_question(at, e, &app);
    if (is_answered && has(&app, NR_FIELD_RCODE)) {
        at = put_number(at, &app, NR_FIELD_RCODE);
        at = put_name(at, nr_dns_rcode_name((uint16_t)rcode), "rcode-", rcode);
    } else {
        at = put_unset(put_unset(at));
    }
    at = put_flag(at, is_answered && (flags & AA));
    at = put_flag(at, flags & TC);
    at = put_flag(at, flags & RD);
    at = put_flag(at, is_answered && (flags & RA));
    at = put_tab(nr_put_u64(at, flags >> 4 & 7));
    at = put_answers(at, &app);
    return end_line(put_opcode(at, e, flags));
}

/* -- dhcp.log -- */

static char *put_ipv4_field(char *at, const struct nr_app_record *app, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, number, &field) || field.length != 4) {
        return put_unset(at);
    }
    return put_tab(nr_put_address(at, 4, field.value));
}

/* Writes the client's own address, or else the one it was given; then the server's, if it gave
 * one. */
static char *put_dhcp_ends(char *at, const nr_event *e, const struct nr_app_record *app) {
    const bool is_flipped = e->orig_p == DHCP_SERVER && e->resp_p != DHCP_SERVER;
    const uint8_t *client = is_flipped ? e->resp_h : e->orig_h;
    const uint8_t *server = is_flipped ? e->orig_h : e->resp_h;
    const bool is_given = has(app, NR_FIELD_ASSIGNED);
    const bool sent = is_flipped ? e->resp.packets > 0 : e->orig.packets > 0;
    if (sent && client[0] != 0 && e->family == 4) {
        at = put_tab(nr_put_address(at, 4, client));
    } else {
        at = put_ipv4_field(at, app, NR_FIELD_ASSIGNED);
    }
    return is_given ? put_tab(nr_put_address(at, e->family, server)) : put_unset(at);
}

static char *put_mac_field(char *at, const struct nr_app_record *app) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, NR_FIELD_MAC, &field) || field.length != 6) {
        return put_unset(at);
    }
    return put_tab(nr_put_address(at, 0, field.value));
}

static char *put_message_types(char *at, const struct nr_app_record *app) {
    struct nr_field field;
    uint32_t next = 0, type;
    char *first = at;
    while (nr_record_next(app->bytes, app->size, &next, &field)) {
        if (field.field == NR_FIELD_MESSAGE_TYPE && field.length == sizeof type) {
            memcpy(&type, field.value, sizeof type);
            const char *name = nr_dhcp_message_name((uint16_t)type);
            at = at != first ? NR_PUT(at, ",") : at;
            at = name != NULL ? nr_put_string(at, name)
                              : nr_put_u64(NR_PUT(at, "Unknown DHCP message type "), type);
        }
    }
    return put_tab(at != first ? at : NR_PUT(at, EMPTY));
}

char *nr_zeek_dhcp_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (e->app_protocol != NR_APP_DHCP || app.size == 0) {
        return at;
    }
    const uint64_t start = began(e, &app);
    at = put_tab(nr_zeek_put_time(at, start));
    at = put_tab(nr_zeek_put_uid(at, encoding->options, e->flow_id));
    at = put_dhcp_ends(at, e, &app);
    at = put_mac_field(at, &app);
    at = put_field(at, &app, NR_FIELD_HOST_NAME);
    at = put_field(at, &app, NR_FIELD_CLIENT_FQDN);
    at = put_field(at, &app, NR_FIELD_DOMAIN);
    at = put_ipv4_field(at, &app, NR_FIELD_REQUESTED);
    at = put_ipv4_field(at, &app, NR_FIELD_ASSIGNED);
    at = has(&app, NR_FIELD_LEASE)
             ? put_interval(at, value_of(&app, NR_FIELD_LEASE) * (uint64_t)1000000000u)
             : put_unset(at);
    at = put_message_types(at, &app);
    at = put_interval(at, e->ts - start);
    return end_line(put_number(at, &app, NR_FIELD_ID));
}

/* -- ssh.log -- */

/* Returns the major versions that a banner offers, as bits 1 and 2: SSH-1.99 offers both. */
static unsigned banner_versions(const struct nr_app_record *app, uint8_t number) {
    struct nr_field field;
    if (!nr_record_find(app->bytes, app->size, number, &field) || field.length < 5) {
        return 0;
    }
    const bool is_both = field.length >= 8 && memcmp(field.value + 4, "1.99", 4) == 0;
    return is_both ? 3 : field.value[4] == '1' || field.value[4] == '2' ? field.value[4] - '0' : 0;
}

char *nr_zeek_ssh_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record app = nr_event_app(e, encoding);
    if (e->app_protocol != NR_APP_SSH || app.size == 0) {
        return at;
    }
    const unsigned client = banner_versions(&app, NR_FIELD_CLIENT_SOFTWARE);
    const unsigned server = banner_versions(&app, NR_FIELD_SERVER_SOFTWARE);
    const unsigned common = client & server;
    at = nr_zeek_put_head(at, e, began(e, &app), encoding->options);
    at = client == 0 || server == 0 ? put_unset(at)
                                    : put_tab(nr_put_u64(at, common == 3 ? 2 : common));
    at = put_field(at, &app, NR_FIELD_CLIENT_SOFTWARE);
    return end_line(put_field(at, &app, NR_FIELD_SERVER_SOFTWARE));
}
