/* Encodes batches of flow events as text, for api.h. Each format has a file of its own. */
#include "formats/text_record.h"

static nr_format *const formats[] = {
    [NR_FORMAT_JSON] = nr_json_record,
    [NR_FORMAT_ZEEK] = nr_zeek_record,
    [NR_FORMAT_ZEEK_JSON] = nr_zeek_json_record,
    [NR_FORMAT_EVE] = nr_eve_record,
    [NR_FORMAT_CSV] = nr_csv_record,
    [NR_FORMAT_ZEEK_SSL] = nr_zeek_ssl_record,
    [NR_FORMAT_ZEEK_HTTP] = nr_zeek_http_record,
    [NR_FORMAT_ZEEK_DNS] = nr_zeek_dns_record,
    [NR_FORMAT_ZEEK_QUIC] = nr_zeek_quic_record,
    [NR_FORMAT_ZEEK_DHCP] = nr_zeek_dhcp_record,
    [NR_FORMAT_ZEEK_SSH] = nr_zeek_ssh_record,
};

uint32_t nr_text_room(const nr_text_options *options) {
    return NR_RECORD_ROOM + options->interface_size + options->capture_size +
           options->terminator_size;
}

uint32_t nr_encode(const nr_text_options *options, const void *events, uint32_t event_size,
                   const uint32_t *rows, uint32_t count, char *out, uint32_t size, uint32_t *ends,
                   nr_text *text) {
    nr_format *const format = formats[options->format];
    const uint32_t room = nr_text_room(options);
    struct nr_encoding encoding = {.options = options, .seq = options->seq};
    char *at = out;
    uint32_t i = 0;
    nr_seconds_clear(&encoding.seconds);
    text->records = 0;
    for (; i < count && (size_t)(out + size - at) >= room; i++) {
        const size_t row = rows != NULL ? rows[i] : i;
        const nr_event *event = (const void *)((const uint8_t *)events + row * event_size);
        const bool has_record =
            event->kind != NR_EVENT_NEIGHBOUR || options->format == NR_FORMAT_JSON;
        if (!has_record || !(options->kinds >> event->kind & 1)) {
            continue;
        }
        char *end = format(at, event, &encoding);
        if (end == at) {
            continue; /* the format has no record for it */
        }
        at = nr_put(end, options->terminator, options->terminator_size);
        if (ends != NULL) {
            ends[text->records] = (uint32_t)(at - out);
        }
        text->records++;
        encoding.seq++;
    }
    text->size = (uint32_t)(at - out);
    return i;
}

void nr_derive(const void *events, uint32_t event_size, uint32_t count, char *conn_states,
               char *community_ids) {
    for (uint32_t i = 0; i < count; i++) {
        const nr_event *event = (const void *)((const uint8_t *)events + (size_t)i * event_size);
        char *state = conn_states + (size_t)i * NR_CONN_STATE_SIZE;
        char *id = community_ids + (size_t)i * NR_COMMUNITY_ID_SIZE;
        memset(state, 0, NR_CONN_STATE_SIZE);
        memset(id, 0, NR_COMMUNITY_ID_SIZE);
        nr_put_string(state, nr_conn_state(event));
        if (event->family != 0) {
            nr_put_community_id(id, event);
        }
    }
}

static char *put_address(char *at, uint32_t column, const nr_event *event) {
    switch (column) {
    case NR_ADDRESS_COLUMN_ORIG:
        return nr_put_address(at, event->family, event->orig_h);
    case NR_ADDRESS_COLUMN_RESP:
        return nr_put_address(at, event->family, event->resp_h);
    case NR_ADDRESS_COLUMN_ORIG_MAC:
        return event->has_macs ? nr_put_address(at, 0, event->orig_mac) : at;
    case NR_ADDRESS_COLUMN_RESP_MAC:
        return event->has_macs ? nr_put_address(at, 0, event->resp_mac) : at;
    default:
        break;
    }
    if (event->tunnel_kind == 0) {
        return at;
    }
    return nr_put_address(at, event->tunnel_family,
                          column == NR_ADDRESS_COLUMN_TUNNEL_ORIG ? event->tunnel_orig_h
                                                                  : event->tunnel_resp_h);
}

uint64_t nr_address_column(uint32_t column, const void *events, uint32_t event_size, uint32_t count,
                           char *out, uint64_t *ends) {
    char *at = out;
    for (uint32_t i = 0; i < count; i++) {
        const nr_event *event = (const void *)((const uint8_t *)events + (size_t)i * event_size);
        at = put_address(at, column, event);
        ends[i] = (uint64_t)(at - out);
    }
    return (uint64_t)(at - out);
}
