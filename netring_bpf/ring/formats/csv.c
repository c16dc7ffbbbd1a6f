/* Writes flows as comma-separated values (RFC 4180), under the names of formats/csv.py. No value
 * needs quotes but the interface, which comes quoted. A field that does not apply is empty. */
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
    return put_word(at, side->fin_acked && is_tcp ? "true" : "");
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

char *nr_csv_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    struct nr_seconds *seconds = &encoding->seconds;
    const bool is_tcp = e->proto == NR_PROTO_TCP;
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
    return nr_put(at, encoding->options->interface, encoding->options->interface_size);
}
