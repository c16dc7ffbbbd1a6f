/* Writes flow events as JSON objects (docs/events.md). */
#include "formats/text_record.h"

static const char *event_name(uint8_t kind) {
    static const char *const names[] = {
        "",
        [NR_EVENT_STARTED] = "started",
        [NR_EVENT_ESTABLISHED] = "established",
        [NR_EVENT_UPDATED] = "updated",
        [NR_EVENT_ENDED] = "ended",
    };
    return kind <= NR_EVENT_ENDED ? names[kind] : "";
}

#define NUMBER(name, value) (at = nr_put_u64(NR_PUT(at, name), value))

static char *put_endpoint(char *at, uint8_t family, const uint8_t *address, uint16_t port) {
    at = NR_PUT(at, "{\"addr\":\"");
    at = nr_put_address(at, family, address);
    NUMBER("\",\"port\":", port);
    return NR_PUT(at, "}");
}

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
    at = put_endpoint(NR_PUT(at, "\",\"orig\":"), e->family, e->orig_h, e->orig_p);
    at = put_endpoint(NR_PUT(at, ",\"resp\":"), e->family, e->resp_h, e->resp_p);
    at = put_vlans(at, e->vlan);
    if (nr_is_icmp(e->proto)) {
        NUMBER(",\"icmp_id\":", e->icmp_id);
    }
    return at;
}

static char *put_counters(char *at, const nr_event *e) {
    NUMBER(",\"start\":", e->start_ts);
    NUMBER(",\"last\":", nr_event_last(e));
    NUMBER(",\"orig_packets\":", e->orig.packets);
    NUMBER(",\"orig_bytes\":", e->orig.bytes);
    NUMBER(",\"resp_packets\":", e->resp.packets);
    NUMBER(",\"resp_bytes\":", e->resp.bytes);
    NUMBER(",\"orig_ip_bytes\":", e->orig.ip_bytes);
    NUMBER(",\"orig_payload\":", e->orig.payload);
    NUMBER(",\"resp_ip_bytes\":", e->resp.ip_bytes);
    NUMBER(",\"resp_payload\":", e->resp.payload);
    return at;
}

/* Writes the fields that only some events have. */
static char *put_details(char *at, const nr_event *e) {
    if (e->family != 0) {
        at = nr_put_community_id(NR_PUT(at, ",\"community_id\":\""), e);
        at = NR_PUT(at, "\"");
    }
    if (e->network != 0) {
        NUMBER(",\"network\":", e->network - 1);
    }
    if (e->tunnel_kind != 0) {
        at = nr_put_string(NR_PUT(at, ",\"tunnel\":\""), nr_tunnel_name(e->tunnel_kind));
        at = NR_PUT(at, "\"");
    }
    if (e->icmp_errors != 0) {
        NUMBER(",\"icmp_errors\":", e->icmp_errors);
    }
    if (e->one_sided) {
        at = NR_PUT(at, ",\"one_sided\":true");
    }
    if (e->kind == NR_EVENT_ENDED) {
        at = nr_put_string(NR_PUT(at, ",\"reason\":\""), nr_end_name(e->end_reason));
        at = NR_PUT(at, "\"");
    }
    return at;
}

char *nr_json_record(char *at, const nr_event *e, const nr_text_options *options, uint64_t seq) {
    at = nr_put_string(NR_PUT(at, "{\"event\":\""), event_name(e->kind));
    NUMBER("\",\"ts\":", e->ts);
    NUMBER(",\"id\":", e->flow_id);
    at = put_key(at, e);
    at = put_counters(at, e);
    at = nr_put_history(NR_PUT(at, ",\"history\":\""), e);
    at = nr_put_string(NR_PUT(at, "\",\"conn_state\":\""), nr_conn_state(e));
    at = NR_PUT(at, "\"");
    at = put_details(at, e);
    if (options->interface_size > 0) {
        at = nr_put(NR_PUT(at, ",\"interface\":"), options->interface, options->interface_size);
    }
    if (options->capture_size > 0) {
        at = nr_put(NR_PUT(at, ",\"capture\":"), options->capture, options->capture_size);
    }
    if (options->has_seq) {
        NUMBER(",\"seq\":", seq);
    }
    return NR_PUT(at, "}");
}
