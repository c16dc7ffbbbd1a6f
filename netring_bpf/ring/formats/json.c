/* Writes flow events as JSON objects: the record of events/fields.py, whose names and order these
 * are. A field that does not apply, or a rare counter that is 0, is left out. */
#include "formats/app_text.h"
#include "formats/text_record.h"

#define COUNT(name, value) (at = nr_put_count(NR_PUT(at, name), value))
/* For a counter that is rarely more than 0. */
#define COUNT_IF_ANY(name, value) (at = (value) != 0 ? nr_put_count(NR_PUT(at, name), value) : at)

static char *put_vlans(char *at, const uint16_t vlans[2]) {
    at = NR_PUT(at, ",\"vlans\":[");
    for (int i = 0; i < 2; i++) {
        if (vlans[i] != NR_NO_VLAN) {
            at = at[-1] == '[' ? at : NR_PUT(at, ",");
            at = nr_put_u64(at, vlans[i]);
        }
    }
    return NR_PUT(at, "]");
}

static char *put_key(char *at, const nr_event *e) {
    at = nr_put_proto(NR_PUT(at, ",\"proto\":\""), e->proto);
    at = nr_put_address(NR_PUT(at, "\",\"orig_addr\":\""), e->family, e->orig_h);
    COUNT("\",\"orig_port\":", e->orig_p);
    at = nr_put_address(NR_PUT(at, ",\"resp_addr\":\""), e->family, e->resp_h);
    COUNT("\",\"resp_port\":", e->resp_p);
    at = put_vlans(at, e->vlan);
    if (nr_is_icmp(e->proto)) {
        COUNT(",\"icmp_id\":", e->icmp_id);
    }
    return e->network != 0 ? COUNT(",\"network\":", e->network - 1) : at;
}

static char *put_times(char *at, const nr_event *e, struct nr_seconds *seconds) {
    const uint64_t last = nr_event_last(e);
    at = nr_put_time(NR_PUT(at, ",\"start\":\""), seconds, e->start_ts);
    at = nr_put_time(NR_PUT(at, "\",\"last\":\""), seconds, last);
    return nr_put_seconds(NR_PUT(at, "\",\"duration\":"), last - e->start_ts);
}

/* Begins the field `name` of a side, whose own name has four letters. */
#define OF_SIDE(name) NR_PUT(nr_put(NR_PUT(at, ",\""), side_name, 4), "_" name "\":")
#define SIDE_COUNT(name, value) (at = nr_put_count(OF_SIDE(name), value))
#define SIDE_COUNT_IF_ANY(name, value) (at = (value) != 0 ? nr_put_count(OF_SIDE(name), value) : at)

static char *put_side_time(char *at, const char *side_name, const char *name, uint64_t ts,
                           struct nr_seconds *seconds) {
    if (ts == 0) {
        return at;
    }
    at = nr_put_string(nr_put(NR_PUT(at, ",\""), side_name, 4), name);
    at = nr_put_time(NR_PUT(at, "\":\""), seconds, ts);
    return NR_PUT(at, "\"");
}

static char *put_side(char *at, const nr_event_side *side, bool is_tcp, const char *side_name,
                      struct nr_seconds *seconds) {
    SIDE_COUNT("packets", side->packets);
    SIDE_COUNT("bytes", side->bytes);
    SIDE_COUNT("ip_bytes", side->ip_bytes);
    SIDE_COUNT("payload", side->payload);
    at = put_side_time(at, side_name, "_first", side->first_ts, seconds);
    at = put_side_time(at, side_name, "_last", side->last_ts, seconds);
    if (side->rtt_ns != 0) {
        at = nr_put_seconds(OF_SIDE("rtt"), side->rtt_ns);
    }
    SIDE_COUNT_IF_ANY("missing_bytes", side->missing_bytes);
    SIDE_COUNT_IF_ANY("retransmitted", side->retransmitted);
    SIDE_COUNT_IF_ANY("out_of_order", side->out_of_order);
    SIDE_COUNT_IF_ANY("gaps", side->gaps);
    SIDE_COUNT_IF_ANY("zero_windows", side->zero_windows);
    SIDE_COUNT_IF_ANY("bad_checksums", side->bad_checksums);
    SIDE_COUNT_IF_ANY("implausible", side->implausible);
    if (is_tcp) {
        at = nr_put_string(NR_PUT(OF_SIDE("state"), "\""), nr_tcp_state_name(side->tcp_state));
        at = NR_PUT(at, "\"");
        SIDE_COUNT("tcp_flags", side->tcp_flags);
        at = side->fin_acked ? NR_PUT(OF_SIDE("fin_acked"), "true") : at;
    }
    SIDE_COUNT_IF_ANY("fragments", side->fragments);
    return at;
}

static char *put_tunnel(char *at, const nr_event *e) {
    at = nr_put_string(NR_PUT(at, ",\"tunnel_kind\":\""), nr_tunnel_name(e->tunnel_kind));
    COUNT("\",\"tunnel_id\":", e->tunnel_id);
    COUNT_IF_ANY(",\"tunnel_flow_id\":", e->parent_id);
    at = NR_PUT(at, ",\"tunnel_orig_addr\":\"");
    at = nr_put_address(at, e->tunnel_family, e->tunnel_orig_h);
    COUNT("\",\"tunnel_orig_port\":", e->tunnel_orig_p);
    at = NR_PUT(at, ",\"tunnel_resp_addr\":\"");
    at = nr_put_address(at, e->tunnel_family, e->tunnel_resp_h);
    return COUNT("\",\"tunnel_resp_port\":", e->tunnel_resp_p);
}

/* Writes the fields that only some events have. */
static char *put_details(char *at, const nr_event *e) {
    if (e->family != 0) {
        at = nr_put_community_id(NR_PUT(at, ",\"community_id\":\""), e);
        at = NR_PUT(at, "\"");
    }
    if (e->kind == NR_EVENT_ENDED) {
        at = nr_put_string(NR_PUT(at, ",\"reason\":\""), nr_end_name(e->end_reason));
        at = NR_PUT(at, "\"");
    }
    if (e->icmp_errors != 0) {
        COUNT(",\"icmp_errors\":", e->icmp_errors);
        COUNT(",\"icmp_error_type\":", e->icmp_error_type);
        COUNT(",\"icmp_error_code\":", e->icmp_error_code);
    }
    if (e->tunnel_kind != 0) {
        at = put_tunnel(at, e);
    }
    return e->one_sided ? NR_PUT(at, ",\"one_sided\":true") : at;
}

static char *put_neighbour(char *at, const nr_event *e) {
    at = nr_put_address(NR_PUT(at, ",\"address\":\""), e->family, e->orig_h);
    at = nr_put_address(NR_PUT(at, "\",\"mac\":\""), 0, e->orig_mac);
    at = nr_put_string(NR_PUT(at, "\",\"how\":\""), nr_how_name(e->how));
    at = NR_PUT(at, "\"");
    if (e->how == NR_HOW_PREFIX) {
        COUNT(",\"prefix_length\":", e->prefix_length);
    }
    return put_vlans(at, e->vlan);
}

static char *put_flow(char *at, const nr_event *e, struct nr_encoding *encoding) {
    struct nr_seconds *seconds = &encoding->seconds;
    const bool is_tcp = e->proto == NR_PROTO_TCP;
    COUNT(",\"id\":", e->flow_id);
    at = put_key(at, e);
    at = put_times(at, e, seconds);
    at = put_side(at, &e->orig, is_tcp, "orig", seconds);
    at = put_side(at, &e->resp, is_tcp, "resp", seconds);
    at = nr_put_history(NR_PUT(at, ",\"history\":\""), e);
    at = nr_put_string(NR_PUT(at, "\",\"conn_state\":\""), nr_conn_state(e));
    at = NR_PUT(at, "\"");
    at = put_details(at, e);
    return nr_put_app_json(at, e, nr_event_app(e, encoding));
}

char *nr_json_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const nr_text_options *options = encoding->options;
    struct nr_seconds *seconds = &encoding->seconds;
    at = nr_put_string(NR_PUT(at, "{\"event\":\""), nr_event_name(e->kind));
    at = nr_put_time(NR_PUT(at, "\",\"ts\":\""), seconds, e->ts);
    at = NR_PUT(at, "\"");
    at = e->kind == NR_EVENT_NEIGHBOUR ? put_neighbour(at, e) : put_flow(at, e, encoding);
    if (options->interface_size > 0) {
        at = nr_put(NR_PUT(at, ",\"interface\":"), options->interface, options->interface_size);
    }
    if (options->capture_size > 0) {
        at = nr_put(NR_PUT(at, ",\"capture\":"), options->capture, options->capture_size);
    }
    if (options->has_seq) {
        COUNT(",\"seq\":", encoding->seq);
    }
    return NR_PUT(at, "}");
}
