/* What flows say inside: leads the payload of packets to the driver of app/, keeps what it tells of
 * each flow, and makes events of it. */
#include "flow/table_internal.h"

#define NS_PER_S 1000000000u
#define DATAGRAMS_TRIED 3u /* of a side, before it is given up as unknown */
#define DATAGRAMS_STUN 16u /* the same, if only STUN was recognised */

/* -- what the driver tells -- */

static void note_label(void *owner, uint32_t i, uint8_t protocol) {
    struct nr_table *t = owner;
    const uint8_t known = t->insides[i].protocol;
    if (known == NR_APP_NONE || known == NR_APP_STUN) {
        t->insides[i].protocol = protocol;
    }
}

static const uint8_t *address_of(const struct flow *f, int side) {
    return f->orig_is_high == (side == ORIG) ? f->key.high_h : f->key.low_h;
}

/* Adds the name by which the originator knows the responder. */
static void add_name(struct nr_table *t, uint32_t i, struct nr_record *record) {
    const struct flow *f = &t->flows[i];
    struct nr_name name;
    if (t->names != NULL && f->key.family != 0 &&
        nr_names_find(t->names, f->key.family, address_of(f, ORIG), address_of(f, RESP), t->now,
                      &name)) {
        nr_record_text(record, NR_FIELD_RESP_NAME, name.text, name.length);
        nr_record_number(record, NR_FIELD_RESP_NAME_FROM, name.source);
    }
}

static void learn_names(struct nr_table *t, uint32_t i, uint8_t protocol,
                        const struct nr_record *record) {
    const struct flow *f = &t->flows[i];
    const struct nr_exchange exchange = {.orig = address_of(f, ORIG),
                                         .resp = address_of(f, RESP),
                                         .record = record->bytes,
                                         .size = record->size,
                                         .family = f->key.family,
                                         .protocol = protocol,
                                         .ts = t->now};
    nr_names_learn(t->names, &exchange);
}

static void keep_record(struct nr_table *t, uint32_t i, uint8_t protocol,
                        const struct nr_record *record) {
    const uint32_t kept = nr_cells_put(&t->app->cells, record->bytes, record->size, protocol);
    t->app->missed[NR_MISSED_STORE_FULL] += kept == 0;
    t->insides[i].record = kept & NR_INSIDE_RECORD;
}

/* Returns whether the flow's record has no exchange of this flow: its responder's name alone, or
 * what was told before the flow was continued as another one. */
static bool is_replaceable(const struct nr_table *t, uint32_t i) {
    const uint32_t record = t->insides[i].record;
    return record != 0 && nr_cells_head(&t->app->cells, record).count == 0;
}

/* Takes the responder's name over from the flow's record, and frees that. */
static void take_name(struct nr_table *t, uint32_t i, struct nr_record *record) {
    uint8_t old[NR_RECORD_SIZE];
    struct nr_field field;
    uint32_t at = 0;
    const uint32_t size = nr_cells_copy(&t->app->cells, t->insides[i].record, old);
    while (nr_record_next(old, size, &at, &field)) {
        if (field.field == NR_FIELD_RESP_NAME || field.field == NR_FIELD_RESP_NAME_FROM) {
            nr_record_bytes(record, field.field, field.value, field.length);
        }
    }
    nr_payload_free(t, i);
}

/* Finds the responder's name at the beginning of a flow. */
static void name_flow(struct nr_table *t, uint32_t i) {
    struct nr_record record;
    nr_record_clear(&record);
    add_name(t, i, &record);
    if (record.size > 0) {
        keep_record(t, i, NR_APP_NONE, &record);
    }
}

/* Keeps an exchange as the flow's first, behind the responder's name. */
static void keep_first(struct nr_table *t, uint32_t i, uint8_t protocol,
                       const struct nr_record *record) {
    struct nr_record whole;
    nr_record_clear(&whole);
    if (is_replaceable(t, i)) {
        take_name(t, i, &whole);
    }
    if (whole.size == 0) {
        add_name(t, i, &whole); /* perhaps the exchange itself told it */
    }
    t->insides[i].protocol = protocol;
    if (whole.size == 0) {
        keep_record(t, i, protocol, record);
        return;
    }
    if (whole.size + record->size > NR_RECORD_SIZE &&
        nr_record_value(record->bytes, record->size, NR_FIELD_CUT, 0) == 0) {
        nr_record_number(&whole, NR_FIELD_CUT, 1);
    }
    nr_record_append(&whole, record->bytes, record->size);
    keep_record(t, i, protocol, &whole);
}

/* Keeps the first exchange of a flow, and counts the others. Returns their number. */
static uint32_t keep_exchange(struct nr_table *t, uint32_t i, uint8_t protocol,
                              const struct nr_record *record) {
    struct inside *inside = &t->insides[i];
    struct nr_cells *cells = &t->app->cells;
    if (inside->record == 0 || is_replaceable(t, i)) {
        keep_first(t, i, protocol, record);
    }
    if (inside->record == 0) {
        return 1;
    }
    const uint32_t count = nr_cells_head(cells, inside->record).count;
    const uint32_t counted = count < UINT32_MAX ? count + 1 : count;
    nr_cells_set_count(cells, inside->record, counted);
    return counted;
}

/* Returns whether one more exchange may make an event now. */
static bool may_tell(struct nr_table *t, uint32_t count) {
    const uint64_t second = t->now / NS_PER_S;
    if (second != t->app_second) {
        t->app_second = second;
        t->app_told = 0;
    }
    if (count > NR_EXCHANGES_MAX || t->app_told == NR_EXCHANGE_RATE || t->app_left == 0) {
        t->app->missed[NR_MISSED_LEFT_OUT]++;
        return false;
    }
    t->app_told++;
    t->app_left--;
    return true;
}

static void note_exchange(void *owner, uint32_t i, uint8_t protocol,
                          const struct nr_record *record) {
    struct nr_table *t = owner;
    if (t->names != NULL) {
        learn_names(t, i, protocol, record);
    }
    const uint32_t count = keep_exchange(t, i, protocol, record);
    if ((t->kinds >> NR_EVENT_APP & 1) && may_tell(t, count)) {
        nr_emit_exchange(t, i, protocol, record);
    }
}

/* -- life -- */

bool nr_payload_create(struct nr_table *t, const nr_flow_options *options) {
    const struct nr_app_listener listener = {t, note_label, note_exchange};
    if (options->names == NR_NAMES_OFF) {
        return true;
    }
    t->names = options->names == NR_NAMES_ALL ? options->address_names : NULL;
    t->app = nr_app_create(options->names_bytes, options->names == NR_NAMES_SERVICE, listener);
    return t->app != NULL;
}

void nr_payload_begin(struct nr_table *t, uint32_t i) {
    struct flow *f = &t->flows[i];
    const bool is_read = f->key.proto == NR_PROTO_TCP || f->key.proto == NR_PROTO_UDP;
    t->insides[i] = (struct inside){0};
    f->stream[ORIG].reads = f->stream[RESP].reads = is_read;
    if (t->names != NULL) {
        name_flow(t, i);
    }
}

/* -- packets -- */

static struct nr_app_packet packet_of(const struct nr_table *t, uint32_t i, int side) {
    const struct flow *f = &t->flows[i];
    const bool from_high = f->orig_is_high == (side == ORIG);
    return (struct nr_app_packet){
        .side = (uint8_t)side,
        .from_orig = side == ORIG,
        .is_datagram = f->key.proto == NR_PROTO_UDP,
        .src_p = from_high ? f->key.high_p : f->key.low_p,
        .dst_p = from_high ? f->key.low_p : f->key.high_p,
        .flow = i,
        .ts = t->now,
    };
}

/* Makes a reading for a flow that has none. */
static struct nr_reading *begin_reading(struct nr_table *t, uint32_t i) {
    const struct flow *f = &t->flows[i];
    t->insides[i].reading = nr_app_take_reading(t->app) & NR_INSIDE_READING;
    struct nr_reading *r = nr_app_reading(t->app, t->insides[i].reading);
    for (int side = ORIG; side <= RESP; side++) {
        const struct stream *s = &f->stream[side];
        r->side[side].parser = s->reads ? NR_READ_ANY : NR_READ_NOTHING;
        r->side[side].base = s->start + 1;
    }
    r->protocol = t->insides[i].protocol;
    return r;
}

/* Keeps the reading only as long as something in it is needed. */
static void keep_reading(struct nr_table *t, uint32_t i, const struct nr_reading *r) {
    struct inside *inside = &t->insides[i];
    struct flow *f = &t->flows[i];
    for (int side = ORIG; side <= RESP; side++) {
        f->stream[side].reads = r->side[side].parser != NR_READ_NOTHING;
    }
    if (nr_reading_is_bare(r)) {
        nr_app_free_reading(t->app, inside->reading);
        inside->reading = 0;
    }
}

/* Returns whether the datagrams of a side are to be read no longer. */
static bool is_unknown(const struct nr_table *t, uint32_t i, int side) {
    const uint8_t known = t->insides[i].protocol;
    const uint64_t packets = nr_flow_packets(t, i, side);
    return (known == NR_APP_NONE && packets >= DATAGRAMS_TRIED) ||
           (known == NR_APP_STUN && packets >= DATAGRAMS_STUN);
}

void nr_payload_read(struct nr_table *t, uint32_t i, int side, const struct nr_dissected *p) {
    const struct stream *s = &t->flows[i].stream[side];
    if (p->bad_checksum || p->inner.at != NULL || p->piece.first || p->piece.later ||
        p->part != 0 || (p->tcp_flags & NR_FLAG_RST && nr_is_tcp(&t->flows[i]))) {
        return;
    }
    t->reads_payload = true;
    struct nr_app_packet packet = packet_of(t, i, side);
    const uint32_t kept = t->insides[i].reading;
    struct nr_reading *r = kept != 0 ? nr_app_reading(t->app, kept) : begin_reading(t, i);
    packet.captured = nr_find_payload(p, &packet.at);
    packet.length = p->payload;
    if (packet.is_datagram) {
        if (!nr_app_datagram(t->app, r, &packet) && is_unknown(t, i, side)) {
            nr_app_stop(t->app, r, &packet, side);
        }
    } else {
        packet.sequence = p->tcp_seq + (p->tcp_flags & NR_FLAG_SYN ? 1 : 0);
        packet.delivered = s->start + (uint32_t)s->delivered;
        packet.given_up = s->given_up;
        nr_app_segment(t->app, r, &packet);
    }
    keep_reading(t, i, r);
}

void nr_payload_prefetch(const struct nr_table *t, uint32_t i) {
    const uint32_t reading = t->insides[i].reading;
    if (reading != 0) {
        const struct nr_reading *r = nr_app_reading(t->app, reading);
        __builtin_prefetch(r, 1);
        __builtin_prefetch(&r->side[ORIG], 1);
        __builtin_prefetch(&r->side[RESP], 1);
    }
}

void nr_payload_prefetch_ask(const struct nr_table *t, uint32_t i) {
    const uint32_t reading = t->insides[i].reading;
    if (reading != 0 && nr_app_reading(t->app, reading)->asks > 0) {
        nr_cells_prefetch(&t->app->cells, nr_app_reading(t->app, reading)->ask[0]);
    }
}

void nr_payload_prefetch_end(const struct nr_table *t, uint32_t i) {
    if (t->insides[i].record != 0) {
        nr_cells_prefetch(&t->app->cells, t->insides[i].record);
    }
}

void nr_payload_flip(struct nr_table *t, uint32_t i) {
    if (t->names != NULL && (t->insides[i].record == 0 || is_replaceable(t, i))) {
        nr_payload_free(t, i);
        name_flow(t, i); /* the responder is the other side now */
    }
    if (t->insides[i].reading != 0) {
        nr_app_flip(nr_app_reading(t->app, t->insides[i].reading));
    }
}

/* -- the end -- */

void nr_payload_end(struct nr_table *t, uint32_t i) {
    const uint32_t reading = t->insides[i].reading;
    if (reading != 0) {
        struct nr_app_packet packet = packet_of(t, i, ORIG);
        nr_app_end(t->app, nr_app_reading(t->app, reading), &packet);
        nr_app_free_reading(t->app, reading);
        t->insides[i].reading = 0;
    }
    t->flows[i].stream[ORIG].reads = t->flows[i].stream[RESP].reads = false;
}

void nr_payload_free(struct nr_table *t, uint32_t i) {
    if (t->insides[i].record != 0) {
        nr_cells_free(&t->app->cells, t->insides[i].record);
        t->insides[i].record = 0;
    }
}

void nr_payload_renew(struct nr_table *t, uint32_t i) {
    if (t->insides[i].record != 0) {
        nr_cells_set_count(&t->app->cells, t->insides[i].record, 0);
    }
}

/* -- books -- */

void nr_payload_account(const struct nr_table *t, nr_statistics *s) {
    const struct nr_app *app = t->app;
    s->names_read = app->exchanges;
    memcpy(s->names_missed, app->missed, sizeof s->names_missed);
    s->names_missed[NR_MISSED_HANDOFF_FULL] = t->handoff->texts_lost;
    if (app->crypto != NULL) {
        s->names_missed[NR_MISSED_NOT_OPENED] = app->crypto->unopened;
        s->names_missed[NR_MISSED_NOT_PRINTED] = app->crypto->prints_left_out;
    }
}

int nr_table_lacks_crypto(const struct nr_table *t) {
    return t->app != NULL && !t->app->only_labels && t->app->crypto == NULL;
}
