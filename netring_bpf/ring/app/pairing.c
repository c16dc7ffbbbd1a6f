/* Pairs questions with answers, and tells of the exchanges. */
#include "app/driver.h"

/* Returns whether a record has several fields of this number. */
static bool may_repeat(uint8_t field) {
    return field == NR_FIELD_ALPN_OFFERED || field == NR_FIELD_ANSWER ||
           field == NR_FIELD_ASSIGNED || field == NR_FIELD_MESSAGE_TYPE || field == NR_FIELD_ROUTER;
}

/* Adds the fields of a question, but those that the answer tells anew. */
static void append_question(struct nr_record *record, const uint8_t *question, uint32_t size,
                            const struct nr_record *answer) {
    uint64_t anew[(UINT8_MAX + 1) / 64] = {0}; /* a bit for each number of a field */
    uint32_t at = 0, begin = 0, before = 0;
    struct nr_field field;
    while (nr_record_next(answer->bytes, answer->size, &at, &field)) {
        anew[field.field / 64] |= (uint64_t)!may_repeat(field.field) << field.field % 64;
    }
    for (at = 0; nr_record_next(question, size, &at, &field); before = at) {
        if (anew[field.field / 64] >> field.field % 64 & 1) {
            nr_record_append(record, question + begin, before - begin);
            begin = at;
        }
    }
    nr_record_append(record, question + begin, before - begin);
}

static bool has(const uint8_t *bytes, uint32_t size, uint8_t number) {
    struct nr_field field;
    return nr_record_find(bytes, size, number, &field);
}

/* Begins app->told: what came before, and whether all of it was seen. */
static void begin_told(struct nr_app *app, const struct nr_reading *r, bool is_cut,
                       const uint8_t *bytes, uint32_t size) {
    nr_record_clear(&app->told);
    if (is_cut && !has(bytes, size, NR_FIELD_CUT)) {
        nr_record_number(&app->told, NR_FIELD_CUT, 1);
    }
    if (r->carrier != NR_APP_NONE && !has(bytes, size, NR_FIELD_CARRIER)) {
        nr_record_number(&app->told, NR_FIELD_CARRIER, r->carrier);
    }
}

static void tell(struct nr_app *app, const struct nr_app_packet *p, uint8_t protocol) {
    app->exchanges++;
    app->listener.exchange(app->listener.owner, p->flow, protocol, &app->told);
}

/* Copies the record of a question to app->asked, unless it is there. Returns its size. */
static uint32_t copy_ask(struct nr_app *app, uint32_t record) {
    if (app->asked_record == record) {
        return nr_cells_head(&app->cells, record).size;
    }
    app->asked_record = record;
    return nr_cells_copy(&app->cells, record, app->asked);
}

/* Takes the record of a question out of the list, to app->asked. Returns its size. */
static uint32_t take_ask(struct nr_app *app, struct nr_reading *r, uint32_t n, uint8_t *protocol) {
    const uint32_t record = r->ask[n], below = (1u << n) - 1;
    *protocol = nr_cells_head(&app->cells, record).protocol;
    const uint32_t size = copy_ask(app, record);
    nr_cells_free(&app->cells, record);
    app->asked_record = 0;
    r->asks--;
    for (uint32_t j = n; j < r->asks; j++) {
        r->ask[j] = r->ask[j + 1];
        r->ask_pair[j] = r->ask_pair[j + 1];
    }
    r->ask_sides = (r->ask_sides & below) | (r->ask_sides >> 1 & ~below);
    return size;
}

static void tell_unanswered(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                            uint32_t n) {
    uint8_t protocol;
    const uint32_t size = take_ask(app, r, n, &protocol);
    nr_record_clear(&app->told);
    nr_record_append(&app->told, app->asked, size);
    tell(app, p, protocol);
}

void nr_app_give_up_asks(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                         uint32_t sides) {
    for (uint32_t n = 0; n < r->asks;) {
        if (sides >> (r->ask_sides >> n & 1) & 1) {
            tell_unanswered(app, r, p, n);
        } else {
            n++;
        }
    }
}

uint32_t nr_app_oldest_ask(struct nr_app *app, const struct nr_reading *r) {
    return r->asks > 0 ? copy_ask(app, r->ask[0]) : 0;
}

/* Returns the oldest question of the pair; NR_ASKS_MAX: there is none. */
static uint32_t find_ask(const struct nr_reading *r, uint32_t pair) {
    for (uint32_t n = 0; n < r->asks; n++) {
        if (r->ask_pair[n] == pair) {
            return n;
        }
    }
    return NR_ASKS_MAX;
}

/* Bytes of the field NR_FIELD_ASKED_TS, which is the last one of a question. */
#define TIME_FIELD (NR_FIELD_HEAD + (uint32_t)sizeof(uint64_t))

/* Returns whether the datagram asks once more what it has asked, as nobody answered. */
static bool is_asked_again(struct nr_app *app, const struct nr_reading *r, uint32_t pair) {
    const uint32_t n = find_ask(r, pair), size = app->told.size;
    return n < NR_ASKS_MAX && nr_cells_head(&app->cells, r->ask[n]).size == size + TIME_FIELD &&
           copy_ask(app, r->ask[n]) == size + TIME_FIELD &&
           memcmp(app->asked, app->told.bytes, size) == 0;
}

static void begin_question(struct nr_app *app, const struct nr_reading *r,
                           const struct nr_message *m) {
    begin_told(app, r, m->record.is_cut, m->record.bytes, m->record.size);
    nr_record_append(&app->told, m->record.bytes, m->record.size);
}

static void keep_ask(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                     const struct nr_message *m) {
    const bool is_renewed = r->is_renewed;
    r->is_renewed = false;
    begin_question(app, r, m);
    if (p->is_datagram && is_asked_again(app, r, m->pair)) {
        return;
    }
    if (is_renewed) {
        nr_app_give_up_asks(app, r, p, 3);
        begin_question(app, r, m);
    }
    nr_record_bytes(&app->told, NR_FIELD_ASKED_TS, (const uint8_t *)&p->ts, sizeof p->ts);
    if (r->side[p->side ^ 1].parser == NR_READ_NOTHING) {
        tell(app, p, m->protocol); /* no answer will be read */
        return;
    }
    const uint32_t record = nr_cells_put(&app->cells, app->told.bytes, app->told.size, m->protocol);
    if (record == 0) {
        app->missed[NR_MISSED_STORE_FULL]++;
        tell(app, p, m->protocol);
        return;
    }
    if (r->asks == NR_ASKS_MAX) {
        tell_unanswered(app, r, p, 0);
    }
    r->ask[r->asks] = record;
    r->ask_pair[r->asks] = m->pair;
    r->ask_sides = (r->ask_sides & ((1u << r->asks) - 1)) | (uint32_t)p->side << r->asks;
    r->asks++;
}

/* Makes app->told of a question, which app->asked has, and its answer. */
static void join(struct nr_app *app, const struct nr_reading *r, uint32_t asked_size,
                 const struct nr_record *answer, bool is_cut) {
    begin_told(app, r, is_cut, app->asked, asked_size);
    append_question(&app->told, app->asked, asked_size, answer);
    nr_record_append(&app->told, answer->bytes, answer->size);
}

/* -- clients without an address: their flow is not that of the answer -- */

#define CLIENT_NS (30 * 1000000000ull)
#define OFFER 2 /* also ADVERTISE of DHCPv6: another server's answer may count */

static const uint8_t OF_CLIENT[] = {NR_FIELD_HOST_NAME, NR_FIELD_CLIENT_FQDN, NR_FIELD_VENDOR_CLASS,
                                    NR_FIELD_REQUESTED};

static bool is_dhcp(uint8_t protocol) {
    return protocol == NR_APP_DHCP || protocol == NR_APP_DHCPV6;
}

static void keep_client(struct nr_app *app, const struct nr_app_packet *p,
                        const struct nr_message *m) {
    struct nr_client *client = &app->clients[m->pair % NR_CLIENTS];
    client->ts = p->ts;
    client->pair = m->pair;
    client->protocol = m->protocol;
    nr_record_clear(&client->record);
    nr_record_append(&client->record, m->record.bytes, m->record.size);
}

/* Returns whether the answer goes to this client, as far as both tell its MAC address. */
static bool is_for(const struct nr_client *client, const struct nr_record *answer) {
    struct nr_field mac, other;
    return !nr_record_find(client->record.bytes, client->record.size, NR_FIELD_MAC, &mac) ||
           !nr_record_find(answer->bytes, answer->size, NR_FIELD_MAC, &other) ||
           (mac.length == other.length && memcmp(mac.value, other.value, mac.length) == 0);
}

/* Adds what the client told to app->told, an answer that gives it an address. */
static void add_client(struct nr_app *app, const struct nr_app_packet *p,
                       const struct nr_message *m) {
    const struct nr_client *client = &app->clients[m->pair % NR_CLIENTS];
    struct nr_field field, other;
    uint32_t at = 0;
    if (client->protocol != m->protocol || client->pair != m->pair ||
        p->ts - client->ts > CLIENT_NS || !is_for(client, &m->record) ||
        nr_record_value(m->record.bytes, m->record.size, NR_FIELD_MESSAGE_TYPE, OFFER) == OFFER) {
        return;
    }
    while (nr_record_next(client->record.bytes, client->record.size, &at, &field)) {
        if (memchr(OF_CLIENT, field.field, sizeof OF_CLIENT) != NULL &&
            !nr_record_find(app->told.bytes, app->told.size, field.field, &other)) {
            nr_record_bytes(&app->told, field.field, field.value, field.length);
        }
    }
}

static void pair_answer(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                        const struct nr_message *m) {
    const uint32_t n = m->role == NR_ANSWERS ? find_ask(r, m->pair) : NR_ASKS_MAX;
    uint8_t protocol = m->protocol;
    const uint32_t size = n < NR_ASKS_MAX ? take_ask(app, r, n, &protocol) : 0;
    const bool is_cut = m->record.is_cut && !has(m->record.bytes, m->record.size, NR_FIELD_CUT);
    join(app, r, size, &m->record, is_cut);
    if (app->told.is_cut && !has(app->told.bytes, app->told.size, NR_FIELD_CUT)) {
        join(app, r, size, &m->record, true); /* both together are too long */
    }
    if (is_dhcp(m->protocol) && m->role == NR_ALONE) {
        keep_client(app, p, m);
    } else if (is_dhcp(m->protocol) && size == 0) {
        add_client(app, p, m);
    }
    tell(app, p, protocol);
}

void nr_app_stop(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                 int side) {
    struct nr_app_side *s = &r->side[side];
    nr_backlog_clear(&app->pool, &s->backlog);
    s->parser = NR_READ_NOTHING;
    s->skip = 0;
    s->needs = 0;
    s->is_lost = s->had_gap = s->is_chunks = false;
    nr_app_give_up_asks(app, r, p, 1u << (side ^ 1)); /* they will not be answered */
}

static void stop_both(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p) {
    nr_app_stop(app, r, p, p->side);
    nr_app_stop(app, r, p, p->side ^ 1);
}

void nr_app_label(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                  uint8_t protocol) {
    if (protocol == NR_APP_NONE) {
        return;
    }
    if (r->protocol != protocol) {
        r->protocol = protocol;
        app->listener.label(app->listener.owner, p->flow, protocol);
    }
    const bool is_last = protocol != NR_APP_STUN || !p->is_datagram; /* see nr_app_take() */
    if (app->only_labels && is_last) {
        stop_both(app, r, p);
    }
}

/* Both sides begin anew behind this message, with whatever protocol. */
static void hand_over(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                      uint8_t protocol) {
    nr_app_give_up_asks(app, r, p, 3);
    r->carrier = protocol;
    r->note = 0;
    for (int side = 0; side < 2; side++) {
        struct nr_app_side *s = &r->side[side];
        s->begins = s->parser == NR_READ_NOTHING;
        s->parser = NR_READ_ANY;
        s->needs = 0;
        s->attempts = s->tries = 0;
        s->is_chunks = s->is_lost = s->had_gap = false;
    }
}

void nr_app_take(struct nr_app *app, struct nr_reading *r, const struct nr_app_packet *p,
                 const struct nr_message *m) {
    const bool is_label = m->role == NR_ALONE && m->record.size == 0 && m->next == NR_PARSE_NOTHING;
    r->note = m->note;
    nr_app_label(app, r, p, m->protocol);
    if (app->only_labels) {
        return;
    }
    if (m->role == NR_ASKS) {
        keep_ask(app, r, p, m);
    } else if (m->role == NR_ANSWERS || (m->role == NR_ALONE && m->record.size > 0)) {
        pair_answer(app, r, p, m);
    }
    if (m->hands_over) {
        hand_over(app, r, p, m->protocol);
    } else if (is_label && m->protocol == NR_APP_STUN && p->is_datagram) {
        return; /* DTLS and RTP may follow on the same ports */
    } else if (is_label) {
        stop_both(app, r, p);
    } else if (m->next == NR_PARSE_NOTHING) {
        nr_app_stop(app, r, p, p->side);
    } else if (m->next == NR_PARSE_ANY) {
        r->side[p->side].parser = NR_READ_ANY;
    }
    r->side[p->side].is_chunks = m->next == NR_PARSE_CHUNKS;
}
