/* Writes flows as comma-separated values (RFC 4180). No value needs quotes. */
#include "formats/text_record.h"

static char *put_comma(char *at) {
    return NR_PUT(at, ",");
}

static char *put_number(char *at, uint64_t value) {
    return put_comma(nr_put_u64(at, value));
}

static char *put_key(char *at, const nr_event *e) {
    const bool tagged = e->vlan[0] != NR_NO_VLAN;
    const uint16_t outer = tagged ? e->vlan[0] : e->vlan[1];
    at = put_comma(nr_put_proto(at, e->proto));
    at = put_comma(nr_put_address(at, e->family, e->orig_h));
    at = put_number(at, e->orig_p);
    at = put_comma(nr_put_address(at, e->family, e->resp_h));
    at = put_number(at, e->resp_p);
    at = outer != NR_NO_VLAN ? put_number(at, outer) : put_comma(at);
    at = tagged && e->vlan[1] != NR_NO_VLAN ? put_number(at, e->vlan[1]) : put_comma(at);
    at = put_number(at, e->icmp_id);
    return e->network != 0 ? put_number(at, e->network - 1) : put_comma(at);
}

static char *put_side(char *at, const nr_event_side *side) {
    at = put_number(at, side->packets);
    at = put_number(at, side->bytes);
    at = put_number(at, side->ip_bytes);
    at = put_number(at, side->payload);
    at = put_number(at, side->first_ts);
    at = put_number(at, side->last_ts);
    at = put_number(at, side->rtt_ns);
    at = put_number(at, side->missing_bytes);
    at = put_number(at, side->retransmitted);
    at = put_number(at, side->out_of_order);
    at = put_number(at, side->gaps);
    at = put_number(at, side->zero_windows);
    at = put_number(at, side->bad_checksums);
    return put_comma(nr_put_string(at, nr_tcp_state_name(side->tcp_state)));
}

char *nr_csv_record(char *at, const nr_event *e, const nr_text_options *options, uint64_t seq) {
    (void)options, (void)seq;
    at = put_number(at, e->start_ts);
    at = put_number(at, nr_event_last(e));
    at = put_number(at, nr_event_last(e) - e->start_ts);
    at = put_key(at, e);
    at = put_comma(nr_put_string(at, nr_conn_state(e)));
    at = put_comma(nr_put_history(at, e));
    at = put_comma(nr_put_string(at, nr_end_name(e->end_reason)));
    at = put_side(at, &e->orig);
    at = put_side(at, &e->resp);
    at = put_number(at, e->icmp_errors);
    at = put_comma(nr_put_string(at, nr_tunnel_name(e->tunnel_kind)));
    at = e->tunnel_kind != 0 ? put_number(at, e->tunnel_id) : put_comma(at);
    at = put_comma(e->family != 0 ? nr_put_community_id(at, e) : at);
    at = nr_put_u64(at, e->flow_id);
    return nr_put_u64(put_comma(at), e->one_sided);
}
