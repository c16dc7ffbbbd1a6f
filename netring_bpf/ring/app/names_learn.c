/* Finds the names of addresses in the records of exchanges: see names.h.
 *
 * The table believes an answer to a question that was seen, and a server that answered to its name.
 * Otherwise anybody could give any address any name with one packet. */
#include "app/names_internal.h"

#define NS 1000000000u

enum { TYPE_A = 1, TYPE_AAAA = 28, ANSWER_HEAD = 8 };

static bool has(const struct nr_exchange *x, uint8_t number) {
    struct nr_field field;
    return nr_record_find(x->record, x->size, number, &field);
}

static uint64_t until(uint64_t ts, uint64_t seconds) {
    uint64_t time = seconds * NS;
    time = time > NR_NAMES_LEAST ? time : NR_NAMES_LEAST;
    return ts + (time < NR_NAMES_MOST ? time : NR_NAMES_MOST);
}

/* Takes over a name in small letters, without the dot at its end. Returns false if nothing is
 * left. */
static bool set_text(struct nr_told_name *told, const uint8_t *text, uint32_t length) {
    while (length > 0 && text[length - 1] == '.') {
        length--;
    }
    length = length < NR_TEXT_MAX ? length : NR_TEXT_MAX;
    for (uint32_t i = 0; i < length; i++) {
        told->text[i] = text[i] >= 'A' && text[i] <= 'Z' ? (uint8_t)(text[i] | 0x20) : text[i];
    }
    told->length = (uint16_t)length;
    return length > 0;
}

static bool is_unspecified(uint8_t family, const uint8_t *address) {
    static const uint8_t zeros[16];
    return memcmp(address, zeros, family == 4 ? 4 : 16) == 0;
}

/* -- DNS and its kin -- */

/* Learns an answer with an address: for DNS by the name that was asked for, else by its owner. */
static void learn_answer(nr_names *names, const struct nr_exchange *x, const uint8_t *answer,
                         uint32_t length, const struct nr_field *query) {
    uint32_t ttl;
    uint16_t type;
    if (length < ANSWER_HEAD || length < ANSWER_HEAD + (uint32_t)answer[7]) {
        return;
    }
    memcpy(&ttl, answer, sizeof ttl);
    memcpy(&type, answer + 4, sizeof type);
    const bool is_chained = answer[6] != 0;
    const uint32_t owner = answer[7], size = length - ANSWER_HEAD - owner;
    const uint8_t *address = answer + ANSWER_HEAD + owner;
    const uint8_t family = type == TYPE_A && size == 4       ? 4
                           : type == TYPE_AAAA && size == 16 ? 6
                                                             : 0;
    if (family == 0 || is_unspecified(family, address)) {
        return;
    }
    struct nr_told_name told = {.address = address,
                                .family = family,
                                .source = x->protocol,
                                .ts = x->ts,
                                .until = until(x->ts, ttl)};
    if (query != NULL) {
        told.asker = family == x->family ? x->orig : NULL;
        if (is_chained && set_text(&told, query->value, query->length)) {
            nr_names_take(names, &told);
        }
    } else if (ttl > 0 && set_text(&told, answer + ANSWER_HEAD, owner)) {
        nr_names_take(names, &told); /* a time of 0 takes a name back */
    }
}

static void learn_answers(nr_names *names, const struct nr_exchange *x, bool is_by_query) {
    struct nr_field field, query;
    uint32_t at = 0;
    if (is_by_query && !nr_record_find(x->record, x->size, NR_FIELD_QUERY, &query)) {
        return;
    }
    while (nr_record_next(x->record, x->size, &at, &field)) {
        if (field.field == NR_FIELD_ANSWER) {
            learn_answer(names, x, field.value, field.length, is_by_query ? &query : NULL);
        }
    }
}

/* NetBIOS answers have no owner where it is the name that was asked for. */
static void learn_netbios(nr_names *names, const struct nr_exchange *x) {
    struct nr_field field;
    const bool is_asked = has(x, NR_FIELD_ASKED_TS);
    if (is_asked || (nr_record_find(x->record, x->size, NR_FIELD_ANSWER, &field) &&
                     field.length >= ANSWER_HEAD && field.value[7] > 0)) {
        learn_answers(names, x, is_asked);
    }
}

/* -- DHCP -- */

/* Learns the name of the client that was given an address. */
static void learn_lease(nr_names *names, const struct nr_exchange *x) {
    struct nr_field name, address;
    uint32_t at = 0;
    const uint32_t lease = nr_record_value(x->record, x->size, NR_FIELD_LEASE, 0);
    if (!nr_record_find(x->record, x->size, NR_FIELD_HOST_NAME, &name) &&
        !nr_record_find(x->record, x->size, NR_FIELD_CLIENT_FQDN, &name)) {
        return;
    }
    while (nr_record_next(x->record, x->size, &at, &address)) {
        const uint8_t family = address.length == 4 ? 4 : address.length == 16 ? 6 : 0;
        if (address.field != NR_FIELD_ASSIGNED || family == 0 ||
            is_unspecified(family, address.value)) {
            continue;
        }
        struct nr_told_name told = {.address = address.value,
                                    .family = family,
                                    .source = x->protocol,
                                    .ts = x->ts,
                                    .until = until(x->ts, lease)};
        if (set_text(&told, name.value, name.length)) {
            nr_names_take(names, &told);
        }
    }
}

/* -- servers -- */

/* Returns whether a host, without its port, is an address or nonsense. */
static bool is_no_name(const uint8_t *host, uint32_t length) {
    bool is_number = true;
    for (uint32_t i = 0; i < length; i++) {
        if (host[i] == ':') {
            return true;
        }
        is_number = is_number && (host[i] == '.' || (host[i] >= '0' && host[i] <= '9'));
    }
    return is_number;
}

/* Returns the length of a host without its port. */
static uint32_t without_port(const uint8_t *host, uint32_t length) {
    uint32_t end = length;
    while (end > 0 && host[end - 1] >= '0' && host[end - 1] <= '9') {
        end--;
    }
    return end > 0 && host[end - 1] == ':' ? end - 1 : length;
}

/* Learns the name by which a client called the server that answered. */
static void learn_server(nr_names *names, const struct nr_exchange *x, uint8_t name, uint8_t sign) {
    struct nr_field field;
    if (!has(x, sign) || !nr_record_find(x->record, x->size, name, &field)) {
        return;
    }
    const uint32_t length =
        name == NR_FIELD_HOST ? without_port(field.value, field.length) : field.length;
    struct nr_told_name told = {.address = x->resp,
                                .asker = x->orig,
                                .family = x->family,
                                .source = x->protocol,
                                .ts = x->ts,
                                .until = until(x->ts, 0)};
    if (!is_no_name(field.value, length) && set_text(&told, field.value, length)) {
        nr_names_take(names, &told);
    }
}

/* Returns whether the responder is a proxy, and the name that of a server behind it. */
static bool is_behind_proxy(const struct nr_exchange *x) {
    struct nr_field path;
    if (nr_record_value(x->record, x->size, NR_FIELD_CARRIER, NR_APP_NONE) == NR_APP_HTTP) {
        return true; /* a tunnel */
    }
    return nr_record_find(x->record, x->size, NR_FIELD_PATH, &path) && path.length > 0 &&
           path.value[0] != '/' && path.value[0] != '*'; /* a whole URL, or CONNECT */
}

void nr_names_learn(nr_names *names, const struct nr_exchange *x) {
    if (x->size == 0 || (x->family != 4 && x->family != 6)) {
        return;
    }
    switch (x->protocol) {
    case NR_APP_DNS:
        if (has(x, NR_FIELD_ASKED_TS)) {
            learn_answers(names, x, true);
        }
        break;
    case NR_APP_MDNS:
    case NR_APP_LLMNR:
        learn_answers(names, x, false);
        break;
    case NR_APP_NETBIOS:
        learn_netbios(names, x);
        break;
    case NR_APP_DHCP:
    case NR_APP_DHCPV6:
        learn_lease(names, x);
        break;
    case NR_APP_TLS:
    case NR_APP_DTLS:
    case NR_APP_QUIC:
        /* The outer name is the operator's. */
        if (!has(x, NR_FIELD_ECH) && !is_behind_proxy(x)) {
            learn_server(names, x, NR_FIELD_SERVER_NAME, NR_FIELD_CIPHER);
        }
        break;
    case NR_APP_HTTP:
        if (!is_behind_proxy(x)) {
            learn_server(names, x, NR_FIELD_HOST, NR_FIELD_STATUS);
        }
        break;
    default:
        break;
    }
}

void nr_names_teach(nr_names *names, uint8_t family, const uint8_t *orig, const uint8_t *resp,
                    uint8_t protocol, const uint8_t *record, uint32_t size, uint64_t ts) {
    const struct nr_exchange exchange = {orig, resp, record, size, family, protocol, ts};
    nr_names_learn(names, &exchange);
}
