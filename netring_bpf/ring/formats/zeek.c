/* Writes Zeek's conn.log (docs/zeek-differences.md), tab-separated and as JSON. */
#include "formats/app_text.h"
#include "formats/text_record.h"
#include "siphash.h"

#define UNSET "-"

/* -- shared by both -- */

const char *nr_zeek_proto_name(uint8_t proto) {
    switch (proto) {
    case NR_PROTO_TCP:
        return "tcp";
    case NR_PROTO_UDP:
        return "udp";
    case NR_PROTO_ICMP:
    case NR_PROTO_ICMP6:
        return "icmp";
    default:
        return "unknown_transport";
    }
}

static bool is_parsed(uint8_t proto) {
    return proto == NR_PROTO_TCP || proto == NR_PROTO_UDP || nr_is_icmp(proto);
}

/* Writes Zeek's uid: C and 17 digits of base 62, from the flow's id under the salt's key. */
char *nr_zeek_put_uid(char *at, const nr_text_options *options, uint64_t flow_id) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const int count[2] = {9, 8}; /* digits from each hash */
    *at++ = 'C';
    for (uint64_t part = 0; part < 2; part++) {
        const uint64_t words[2] = {flow_id, part};
        uint64_t hash = nr_siphash13(options->uid_key, words, 2);
        for (int i = 0; i < count[part]; i++) {
            *at++ = digits[hash % 62];
            hash /= 62;
        }
    }
    return at;
}

static uint16_t orig_port(const nr_event *e) {
    return is_parsed(e->proto) ? e->orig_p : 0;
}

/* Returns the responder's port; ICMP: the type that answers, or else the code. */
static uint16_t resp_port(const nr_event *e) {
    const int answer = nr_is_icmp(e->proto) ? nr_icmp_counterpart(e->proto, e->orig_p) : -1;
    return answer >= 0 ? (uint16_t)answer : is_parsed(e->proto) ? e->resp_p : 0;
}

/* Writes the number of packets with a good checksum, those in fragments as one each. It may be
 * negative as in Python. */
static char *put_packets(char *at, const nr_event_side *side) {
    const uint64_t others = (uint64_t)side->bad_checksums + side->fragments;
    const bool fewer = side->packets < others;
    at = fewer ? NR_PUT(at, "-") : at;
    return nr_put_u64(at, fewer ? others - side->packets : side->packets - others);
}

/* Returns Zeek's name of the analyzer for a protocol inside; NULL: it has none. */
static const char *analyzer_name(uint32_t protocol, uint8_t proto) {
    static const char *const names[NR_APP_COUNT] = {
        [NR_APP_TLS] = "ssl",       [NR_APP_DTLS] = "dtls",
        [NR_APP_QUIC] = "quic",     [NR_APP_HTTP] = "http",
        [NR_APP_DNS] = "dns",       [NR_APP_MDNS] = "dns",
        [NR_APP_LLMNR] = "dns",     [NR_APP_NETBIOS] = "dns",
        [NR_APP_DHCP] = "dhcp",     [NR_APP_SSH] = "ssh",
        [NR_APP_MQTT] = "mqtt",     [NR_APP_NTP] = "ntp",
        [NR_APP_RDP] = "rdp",       [NR_APP_SMB] = "smb",
        [NR_APP_SMTP] = "smtp",     [NR_APP_BITTORRENT] = "bittorrent",
        [NR_APP_IMAP] = "imap",     [NR_APP_POP3] = "pop3",
        [NR_APP_FTP] = "ftp",       [NR_APP_XMPP] = "xmpp",
        [NR_APP_MYSQL] = "mysql",   [NR_APP_POSTGRESQL] = "postgresql",
        [NR_APP_LDAP] = "ldap_tcp",
    };
    if (protocol == NR_APP_LDAP && proto == NR_PROTO_UDP) {
        return "ldap_udp";
    }
    return protocol < NR_APP_COUNT ? names[protocol] : NULL;
}

/* Writes the protocols inside a flow, the one that handed over first; returns `at` for none. */
static char *put_service(char *at, const nr_event *e, struct nr_app_record record) {
    const char *name = analyzer_name(e->app_protocol, e->proto);
    uint32_t protocol;
    const char *carrier =
        nr_app_find_carrier(record, &protocol) ? analyzer_name(protocol, e->proto) : NULL;
    if (carrier != NULL) {
        at = nr_put_string(at, carrier);
        at = name != NULL ? NR_PUT(at, ",") : at;
    }
    return name != NULL ? nr_put_string(at, name) : at;
}

/* -- tab-separated -- */

static char *put_tab(char *at) {
    return NR_PUT(at, "\t");
}

static char *put_duration_tsv(char *at, const nr_event *e) {
    const uint64_t duration = nr_event_last(e) - e->start_ts;
    if (duration == 0) {
        return NR_PUT(at, UNSET "\t" UNSET "\t" UNSET "\t");
    }
    at = put_tab(nr_put_seconds_rounded(at, duration));
    at = put_tab(nr_put_u64(at, is_parsed(e->proto) ? e->orig.payload : 0));
    return put_tab(nr_put_u64(at, is_parsed(e->proto) ? e->resp.payload : 0));
}

static char *put_counters_tsv(char *at, const nr_event *e) {
    at = put_tab(nr_put_u64(at, e->orig.missing_bytes + e->resp.missing_bytes));
    at = put_tab(e->history[0] != 0 ? nr_put_history(at, e) : NR_PUT(at, UNSET));
    at = put_tab(put_packets(at, &e->orig));
    at = put_tab(nr_put_u64(at, e->orig.ip_bytes));
    at = put_tab(put_packets(at, &e->resp));
    return put_tab(nr_put_u64(at, e->resp.ip_bytes));
}

char *nr_zeek_put_time(char *at, uint64_t ns) {
    at = nr_put_u64(at, ns / 1000000000u);
    return nr_put_padded(NR_PUT(at, "."), ns / 1000 % 1000000, 6);
}

char *nr_zeek_put_head(char *at, const nr_event *e, uint64_t ts, const nr_text_options *options) {
    at = put_tab(nr_zeek_put_time(at, ts));
    at = put_tab(nr_zeek_put_uid(at, options, e->flow_id));
    at = put_tab(nr_put_address(at, e->family, e->orig_h));
    at = put_tab(nr_put_u64(at, orig_port(e)));
    at = put_tab(nr_put_address(at, e->family, e->resp_h));
    return put_tab(nr_put_u64(at, resp_port(e)));
}

char *nr_zeek_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const nr_text_options *options = encoding->options;
    at = nr_zeek_put_head(at, e, e->start_ts, options);
    at = nr_put_string(at, nr_zeek_proto_name(e->proto));
    char *const service = NR_PUT(at, "\t");
    at = put_service(service, e, nr_event_app(e, encoding));
    at = put_tab(at > service ? at : NR_PUT(at, UNSET));
    at = put_duration_tsv(at, e);
    at = nr_put_string(at, nr_conn_state(e));
    at = NR_PUT(at, "\t" UNSET "\t" UNSET "\t"); /* local_orig, local_resp */
    at = put_counters_tsv(at, e);
    at = put_tab(e->parent_id != 0 && e->tunnel_kind != 0
                     ? nr_zeek_put_uid(at, options, e->parent_id)
                     : NR_PUT(at, UNSET));
    at = put_tab(nr_put_u64(at, e->proto));
    const uint16_t outer = e->vlan[0] != NR_NO_VLAN ? e->vlan[0] : e->vlan[1];
    const uint16_t inner = e->vlan[0] != NR_NO_VLAN ? e->vlan[1] : NR_NO_VLAN;
    at = put_tab(outer != NR_NO_VLAN ? nr_put_u64(at, outer) : NR_PUT(at, UNSET));
    at = put_tab(inner != NR_NO_VLAN ? nr_put_u64(at, inner) : NR_PUT(at, UNSET));
    return e->family != 0 ? nr_put_community_id(at, e) : NR_PUT(at, UNSET);
}

/* -- JSON -- */

#define NUMBER(name, value) (at = nr_put_u64(NR_PUT(at, name), value))

static char *put_key_json(char *at, const nr_event *e) {
    at = nr_put_address(NR_PUT(at, "\",\"id.orig_h\":\""), e->family, e->orig_h);
    NUMBER("\",\"id.orig_p\":", orig_port(e));
    at = nr_put_address(NR_PUT(at, ",\"id.resp_h\":\""), e->family, e->resp_h);
    NUMBER("\",\"id.resp_p\":", resp_port(e));
    at = nr_put_string(NR_PUT(at, ",\"proto\":\""), nr_zeek_proto_name(e->proto));
    return NR_PUT(at, "\"");
}

static char *put_counters_json(char *at, const nr_event *e) {
    const uint64_t duration = nr_event_last(e) - e->start_ts;
    if (duration > 0) {
        at = nr_put_seconds(NR_PUT(at, ",\"duration\":"), duration);
        NUMBER(",\"orig_bytes\":", is_parsed(e->proto) ? e->orig.payload : 0);
        NUMBER(",\"resp_bytes\":", is_parsed(e->proto) ? e->resp.payload : 0);
    }
    at = nr_put_string(NR_PUT(at, ",\"conn_state\":\""), nr_conn_state(e));
    NUMBER("\",\"missed_bytes\":", e->orig.missing_bytes + e->resp.missing_bytes);
    if (e->history[0] != 0) {
        at = nr_put_history(NR_PUT(at, ",\"history\":\""), e);
        at = NR_PUT(at, "\"");
    }
    at = put_packets(NR_PUT(at, ",\"orig_pkts\":"), &e->orig);
    NUMBER(",\"orig_ip_bytes\":", e->orig.ip_bytes);
    at = put_packets(NR_PUT(at, ",\"resp_pkts\":"), &e->resp);
    NUMBER(",\"resp_ip_bytes\":", e->resp.ip_bytes);
    return at;
}

char *nr_zeek_json_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    static const char *const names[2] = {",\"vlan\":", ",\"inner_vlan\":"};
    const nr_text_options *options = encoding->options;
    int vlans = 0;
    at = nr_put_seconds(NR_PUT(at, "{\"ts\":"), e->start_ts);
    at = nr_zeek_put_uid(NR_PUT(at, ",\"uid\":\""), options, e->flow_id);
    at = put_key_json(at, e);
    char *const service = NR_PUT(at, ",\"service\":\"");
    char *const end = put_service(service, e, nr_event_app(e, encoding));
    at = end > service ? NR_PUT(end, "\"") : at;
    at = put_counters_json(at, e);
    if (e->parent_id != 0 && e->tunnel_kind != 0) {
        at = nr_zeek_put_uid(NR_PUT(at, ",\"tunnel_parents\":[\""), options, e->parent_id);
        at = NR_PUT(at, "\"]");
    }
    NUMBER(",\"ip_proto\":", e->proto);
    for (int i = 0; i < 2; i++) {
        if (e->vlan[i] != NR_NO_VLAN) {
            at = nr_put_u64(nr_put_string(at, names[vlans++]), e->vlan[i]);
        }
    }
    if (e->family != 0) {
        at = nr_put_community_id(NR_PUT(at, ",\"community_id\":\""), e);
        at = NR_PUT(at, "\"");
    }
    return NR_PUT(at, "}");
}
