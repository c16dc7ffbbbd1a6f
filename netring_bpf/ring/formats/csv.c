/* Writes flows as comma-separated values (RFC 4180), under the names of formats/csv.py. No value
 * needs quotes but text of the network, and the interface, which comes quoted. A field that does not
 * apply is empty. */
#include "formats/app_text.h"
#include "formats/text_record.h"

static char *put_comma(char *at) {
    return NR_PUT(at, ",");
}

static char *put_number(char *at, uint64_t value) {
    return put_comma(nr_put_count(at, value));
}

static char *put_number_if(char *at, bool applies, uint64_t value) {
    return applies ? put_number(at, value) : put_comma(at);
}

static char *put_word(char *at, const char *word) {
    return put_comma(nr_put_string(at, word));
}

static char *put_time(char *at, struct nr_seconds *seconds, uint64_t ts) {
    return put_comma(ts != 0 ? nr_put_time(at, seconds, ts) : at);
}

static char *put_key(char *at, const nr_event *e) {
    const bool both = e->vlan[0] != NR_NO_VLAN && e->vlan[1] != NR_NO_VLAN;
    at = put_comma(nr_put_proto(at, e->proto));
    at = put_comma(nr_put_address(at, e->family, e->orig_h));
    at = put_number(at, e->orig_p);
    at = put_comma(nr_put_address(at, e->family, e->resp_h));
    at = put_number(at, e->resp_p);
    at = e->vlan[0] != NR_NO_VLAN ? nr_put_u64(at, e->vlan[0]) : at;
    at = both ? NR_PUT(at, " ") : at;
    at = put_comma(e->vlan[1] != NR_NO_VLAN ? nr_put_u64(at, e->vlan[1]) : at);
    at = put_number_if(at, nr_is_icmp(e->proto), e->icmp_id);
    return put_number_if(at, e->network != 0, (uint64_t)e->network - 1);
}

static char *put_side(char *at, const nr_event_side *side, bool is_tcp,
                      struct nr_seconds *seconds) {
    at = put_number(at, side->packets);
    at = put_number(at, side->bytes);
    at = put_number(at, side->ip_bytes);
    at = put_number(at, side->payload);
    at = put_time(at, seconds, side->first_ts);
    at = put_time(at, seconds, side->last_ts);
    at = put_comma(side->rtt_ns != 0 ? nr_put_seconds(at, side->rtt_ns) : at);
    at = put_number(at, side->missing_bytes);
    at = put_number(at, side->retransmitted);
    at = put_number(at, side->out_of_order);
    at = put_number(at, side->gaps);
    at = put_number(at, side->zero_windows);
    at = put_number(at, side->bad_checksums);
    at = put_number(at, side->implausible);
    at = put_word(at, is_tcp ? nr_tcp_state_name(side->tcp_state) : "");
    at = put_number_if(at, is_tcp, side->tcp_flags);
    at = put_word(at, side->fin_acked && is_tcp ? "true" : "");
    return put_number(at, side->fragments);
}

static char *put_tunnel(char *at, const nr_event *e) {
    if (e->tunnel_kind == 0) {
        return NR_PUT(at, ",,,,,,,");
    }
    at = put_word(at, nr_tunnel_name(e->tunnel_kind));
    at = put_number(at, e->tunnel_id);
    at = put_number_if(at, e->parent_id != 0, e->parent_id);
    at = put_comma(nr_put_address(at, e->tunnel_family, e->tunnel_orig_h));
    at = put_number(at, e->tunnel_orig_p);
    at = put_comma(nr_put_address(at, e->tunnel_family, e->tunnel_resp_h));
    return put_number(at, e->tunnel_resp_p);
}

/* Writes text of the network as formats/csv.py does: no formula, and in quotes where it has to be. */
static char *put_cell(char *at, const struct nr_field *field) {
    const uint8_t *text = field->value;
    const uint32_t size = field->length;
    if (size == 0) {
        return at;
    }
    const bool is_quoted = memchr(text, ',', size) != NULL || memchr(text, '"', size) != NULL;
    at = is_quoted ? NR_PUT(at, "\"") : at;
    at = strchr("=+-@", text[0]) != NULL && text[0] != 0 ? NR_PUT(at, "'") : at;
    at = nr_put_network_text(at, text, size, is_quoted ? NR_TEXT_CSV : NR_TEXT_PLAIN);
    return is_quoted ? NR_PUT(at, "\"") : at;
}

static char *put_text(char *at, struct nr_app_record record, uint8_t number) {
    struct nr_field field;
    const bool found = nr_record_find(record.bytes, record.size, number, &field);
    return put_comma(found ? put_cell(at, &field) : at);
}

static char *put_mac(char *at, const nr_event *e, const uint8_t *mac) {
    return put_comma(e->has_macs ? nr_put_address(at, 0, mac) : at);
}

static char *put_app(char *at, const nr_event *e, struct nr_app_record record) {
    const uint8_t protocol = e->app_protocol;
    struct nr_field name;
    uint32_t number;
    if (!nr_app_has_protocol(e)) {
        return NR_PUT(at, ",,,,,,,,,");
    }
    at = put_word(at, nr_app_protocol_name(protocol));
    const bool has_name = nr_app_find_name(protocol, record, &name);
    at = put_comma(has_name ? put_cell(at, &name) : at);
    at = put_word(at, has_name ? nr_app_name_source(protocol) : "");
    at = put_text(at, record, NR_FIELD_ALPN);
    const bool has_version = nr_app_find_number(record, NR_FIELD_VERSION, &number);
    at = put_comma(has_version ? nr_put_app_version(at, protocol, number) : at);
    at = put_text(at, record, NR_FIELD_JA4);
    const bool has_carrier = nr_app_find_carrier(record, &number);
    at = put_word(at, has_carrier ? nr_app_protocol_name((uint8_t)number) : "");
    at = put_number(at, e->app_count);
    return put_word(at, nr_app_is_cut(record) ? "true" : "");
}

char *nr_csv_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    struct nr_seconds *seconds = &encoding->seconds;
    const bool is_tcp = e->proto == NR_PROTO_TCP;
    const struct nr_app_record record = nr_event_app(e, encoding);
    const uint64_t last = nr_event_last(e);
    at = put_word(at, nr_event_name(e->kind));
    at = put_comma(nr_put_time(at, seconds, e->ts));
    at = put_number(at, e->flow_id);
    at = put_key(at, e);
    at = put_comma(nr_put_time(at, seconds, e->start_ts));
    at = put_comma(nr_put_time(at, seconds, last));
    at = put_comma(nr_put_seconds(at, last - e->start_ts));
    at = put_side(at, &e->orig, is_tcp, seconds);
    at = put_side(at, &e->resp, is_tcp, seconds);
    at = put_comma(nr_put_history(at, e));
    at = put_word(at, nr_conn_state(e));
    at = put_comma(e->family != 0 ? nr_put_community_id(at, e) : at);
    at = put_word(at, e->kind == NR_EVENT_ENDED ? nr_end_name(e->end_reason) : "");
    at = put_number(at, e->icmp_errors);
    at = put_number_if(at, e->icmp_errors != 0, e->icmp_error_type);
    at = put_number_if(at, e->icmp_errors != 0, e->icmp_error_code);
    at = put_tunnel(at, e);
    at = put_word(at, e->one_sided ? "true" : "");
    at = put_text(at, record, NR_FIELD_RESP_NAME);
    at = put_mac(at, e, e->orig_mac);
    at = put_mac(at, e, e->resp_mac);
    at = put_number(at, e->mac_changes);
    at = put_app(at, e, record);
    return nr_put(at, encoding->options->interface, encoding->options->interface_size);
}
