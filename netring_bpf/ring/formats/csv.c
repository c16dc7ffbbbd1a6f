/* Flows as comma-separated values (RFC 4180), as formats/csv.py defines them: no value needs
 * quotes. */
#include "formats/text_record.h"

static char *comma(char *at) {
    return NR_PUT(at, ",");
}

static char *number(char *at, uint64_t value) {
    return comma(nr_put_u64(at, value));
}

static char *put_key(char *at, const nr_event *e) {
    const bool tagged = e->vlan[0] != NR_NO_VLAN;
    const uint16_t outer = tagged ? e->vlan[0] : e->vlan[1];
    at = comma(nr_put_proto(at, e->proto));
    at = comma(nr_put_address(at, e->family, e->orig_h));
    at = number(at, e->orig_p);
    at = comma(nr_put_address(at, e->family, e->resp_h));
    at = number(at, e->resp_p);
    at = outer != NR_NO_VLAN ? number(at, outer) : comma(at);
    at = tagged && e->vlan[1] != NR_NO_VLAN ? number(at, e->vlan[1]) : comma(at);
    at = number(at, e->icmp_id);
    return e->network != 0 ? number(at, e->network - 1) : comma(at);
}

static char *put_side(char *at, const nr_event_side *side) {
    at = number(at, side->packets);
    at = number(at, side->bytes);
    at = number(at, side->ip_bytes);
    at = number(at, side->payload);
    at = number(at, side->first_ts);
    at = number(at, side->last_ts);
    at = number(at, side->rtt_ns);
    at = number(at, side->missing_bytes);
    at = number(at, side->retransmitted);
    at = number(at, side->out_of_order);
    at = number(at, side->gaps);
    at = number(at, side->zero_windows);
    at = number(at, side->bad_checksums);
    return comma(nr_put_string(at, nr_tcp_state_name(side->tcp_state)));
}

char *nr_csv_record(char *at, const nr_event *e, const nr_text_options *options, uint64_t seq) {
    (void)options, (void)seq;
    at = number(at, e->start_ts);
    at = number(at, nr_event_last(e));
    at = number(at, nr_event_last(e) - e->start_ts);
    at = put_key(at, e);
    at = comma(nr_put_string(at, nr_conn_state(e)));
    at = comma(nr_put_history(at, e));
    at = comma(nr_put_string(at, nr_end_name(e->end_reason)));
    at = put_side(at, &e->orig);
    at = put_side(at, &e->resp);
    at = number(at, e->icmp_errors);
    at = comma(nr_put_string(at, nr_tunnel_name(e->tunnel_kind)));
    at = e->tunnel_kind != 0 ? number(at, e->tunnel_id) : comma(at);
    at = comma(e->family != 0 ? nr_put_community_id(at, e) : at);
    return nr_put_u64(at, e->flow_id);
}
