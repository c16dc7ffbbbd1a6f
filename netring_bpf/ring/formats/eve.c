/* Writes Suricata's EVE flow events. */
#include "formats/text_record.h"

#define NS 1000000000u
#define DAY 86400u

/* -- dates -- */

/* Writes the date of a day since 1970, by years that begin in March (Hinnant, "chrono-compatible
 * low-level date algorithms"). */
static char *put_date(char *at, uint64_t day) {
    const uint64_t since = day + 719468; /* 0000-03-01 */
    const uint64_t era = since / 146097, of_era = since % 146097;
    const uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    const uint64_t month = (5 * of_year + 2) / 153; /* 0: March */
    at = nr_put_padded(at, era * 400 + year + (month >= 10), 4);
    at = nr_put_padded(NR_PUT(at, "-"), month < 10 ? month + 3 : month - 9, 2);
    return nr_put_padded(NR_PUT(at, "-"), of_year - (153 * month + 2) / 5 + 1, 2);
}

static char *put_time(char *at, uint64_t ns) {
    const uint64_t seconds = ns / NS;
    at = put_date(at, seconds / DAY);
    at = nr_put_padded(NR_PUT(at, "T"), seconds % DAY / 3600, 2);
    at = nr_put_padded(NR_PUT(at, ":"), seconds % 3600 / 60, 2);
    at = nr_put_padded(NR_PUT(at, ":"), seconds % 60, 2);
    at = nr_put_padded(NR_PUT(at, "."), ns / 1000 % 1000000, 6);
    return NR_PUT(at, "+0000");
}

/* -- words -- */

static char *put_proto(char *at, uint8_t proto) {
    switch (proto) {
    case NR_PROTO_ICMP:
        return NR_PUT(at, "ICMP");
    case NR_PROTO_TCP:
        return NR_PUT(at, "TCP");
    case NR_PROTO_UDP:
        return NR_PUT(at, "UDP");
    case NR_PROTO_ICMP6:
        return NR_PUT(at, "IPv6-ICMP");
    case NR_PROTO_SCTP:
        return NR_PUT(at, "SCTP");
    case NR_PROTO_GRE:
        return NR_PUT(at, "GRE");
    default:
        return nr_put_u64(at, proto);
    }
}

static const char *end_reason_name(uint8_t end_reason) {
    switch (end_reason) {
    case NR_END_ACTIVE:
    case NR_END_EVICTED:
        return "forced";
    case NR_END_REUSED:
        return "tcp_reuse";
    case NR_END_SHUTDOWN:
        return "shutdown";
    default:
        return "timeout";
    }
}

static bool is_open_or_closed(uint32_t state) {
    return state == NR_STATE_ESTABLISHED || state == NR_STATE_CLOSED;
}

/* Returns whether a side has reset the connection, or both have closed it. */
static bool is_over(uint32_t orig, uint32_t resp) {
    return orig == NR_STATE_RESET || resp == NR_STATE_RESET ||
           (orig == NR_STATE_CLOSED && resp == NR_STATE_CLOSED);
}

static const char *flow_state_name(const nr_event *e) {
    const uint32_t orig = e->orig.tcp_state, resp = e->resp.tcp_state;
    if (e->proto != NR_PROTO_TCP) {
        return e->resp.packets > 0 ? "established" : "new";
    }
    if (is_over(orig, resp)) {
        return "closed";
    }
    return is_open_or_closed(orig) || is_open_or_closed(resp) ? "established" : "new";
}

static const char *tcp_state_name(uint32_t orig, uint32_t resp) {
    if (is_over(orig, resp)) {
        return "closed";
    }
    if (orig == NR_STATE_CLOSED || resp == NR_STATE_CLOSED) {
        return "fin_wait1";
    }
    if (orig == NR_STATE_ESTABLISHED && resp == NR_STATE_ESTABLISHED) {
        return "established";
    }
    return orig == NR_STATE_SYN_SENT ? "syn_sent" : "none";
}

/* -- the record -- */

#define NUMBER(name, value) (at = nr_put_u64(NR_PUT(at, name), value))

static char *put_key(char *at, const nr_event *e) {
    at = nr_put_address(NR_PUT(at, ",\"event_type\":\"flow\",\"src_ip\":\""), e->family, e->orig_h);
    at = nr_put_address(NR_PUT(at, "\",\"dest_ip\":\""), e->family, e->resp_h);
    at = put_proto(NR_PUT(at, "\",\"proto\":\""), e->proto);
    at = NR_PUT(at, "\"");
    for (int i = 0, found = 0; i < 2; i++) {
        if (e->vlan[i] != NR_NO_VLAN) {
            at = found++ ? NR_PUT(at, ",") : NR_PUT(at, ",\"vlan\":[");
            at = nr_put_u64(at, e->vlan[i]);
        }
    }
    if (e->vlan[0] != NR_NO_VLAN || e->vlan[1] != NR_NO_VLAN) {
        at = NR_PUT(at, "]");
    }
    const bool icmp = nr_is_icmp(e->proto);
    at = nr_put_string(at, icmp ? ",\"icmp_type\":" : ",\"src_port\":");
    at = nr_put_u64(at, e->orig_p);
    at = nr_put_string(at, icmp ? ",\"icmp_code\":" : ",\"dest_port\":");
    return nr_put_u64(at, e->resp_p);
}

static char *put_flow(char *at, const nr_event *e) {
    const uint64_t last = nr_event_last(e);
    NUMBER(",\"flow\":{\"pkts_toserver\":", e->orig.packets);
    NUMBER(",\"pkts_toclient\":", e->resp.packets);
    NUMBER(",\"bytes_toserver\":", e->orig.bytes);
    NUMBER(",\"bytes_toclient\":", e->resp.bytes);
    at = put_time(NR_PUT(at, ",\"start\":\""), e->start_ts);
    at = put_time(NR_PUT(at, "\",\"end\":\""), last);
    NUMBER("\",\"age\":", last / NS - e->start_ts / NS);
    at = nr_put_string(NR_PUT(at, ",\"state\":\""), flow_state_name(e));
    at = nr_put_string(NR_PUT(at, "\",\"reason\":\""), end_reason_name(e->end_reason));
    return NR_PUT(at, "\",\"alerted\":false}");
}

char *nr_eve_record(char *at, const nr_event *e, const nr_text_options *options, uint64_t seq) {
    (void)options, (void)seq;
    at = put_time(NR_PUT(at, "{\"timestamp\":\""), e->ts);
    NUMBER("\",\"flow_id\":", e->flow_id);
    at = put_key(at, e);
    if (e->family != 0) {
        at = nr_put_community_id(NR_PUT(at, ",\"community_id\":\""), e);
        at = NR_PUT(at, "\"");
    }
    at = put_flow(at, e);
    if (e->proto == NR_PROTO_TCP) {
        at = nr_put_string(NR_PUT(at, ",\"tcp\":{\"state\":\""),
                           tcp_state_name(e->orig.tcp_state, e->resp.tcp_state));
        at = NR_PUT(at, "\"}");
    }
    if (e->one_sided) {
        at = NR_PUT(at, ",\"one_sided\":true");
    }
    return NR_PUT(at, "}");
}
