/* Writes Suricata's EVE events, field by field as Suricata's own logger does: those of flows here,
 * those of exchanges in eve_apps.c. */
#include "formats/app_text.h"
#include "formats/text_record.h"

#define NS 1000000000u

/* -- words -- */

/* Suricata's names of IP protocols: those of IANA's registry with a few of its own. */
static const char *const protocols[] = {
    "HOPOPT",      "ICMP",       "IGMP",        "GGP",        "IP-in-IP",
    "ST",          "TCP",        "CBT",         "EGP",        "IGP",
    "BBN-RCC-MON", "NVP-II",     "PUP",         "ARGUS",      "EMCON",
    "XNET",        "CHAOS",      "UDP",         "MUX",        "DCN-MEAS",
    "HMP",         "PRM",        "XNS-IDP",     "TRUNK-1",    "TRUNK-2",
    "LEAF-1",      "LEAF-2",     "RDP",         "IRTP",       "ISO-TP4",
    "NETBLT",      "MFE-NSP",    "MERIT-INP",   "DCCP",       "3PC",
    "IDPR",        "XTP",        "DDP",         "IDPR-CMTP",  "TP++",
    "IL",          "IPv6",       "SDRP",        "IPv6-Route", "IPv6-Frag",
    "IDRP",        "RSVP",       "GRE",         "DSR",        "BNA",
    "ESP",         "AH",         "I-NLSP",      "SwIPe",      "NARP",
    "MOBILE",      "TLSP",       "SKIP",        "IPv6-ICMP",  "IPv6-NoNxt",
    "IPv6-Opts",   "Any",        "CFTP",        "Any",        "SAT-EXPAK",
    "KRYPTOLAN",   "RVD",        "IPPC",        "Any",        "SAT-MON",
    "VISA",        "IPCU",       "CPNX",        "CPHB",       "WSN",
    "PVP",         "BR-SAT-MON", "SUN-ND",      "WB-MON",     "WB-EXPAK",
    "ISO-IP",      "VMTP",       "SECURE-VMTP", "VINES",      "TTP",
    "NSFNET-IGP",  "DGP",        "TCF",         "EIGRP",      "OSPF",
    "Sprite-RPC",  "LARP",       "MTP",         "AX.25",      "OS",
    "MICP",        "SCC-SP",     "ETHERIP",     "ENCAP",      "Any",
    "GMTP",        "IFMP",       "PNNI",        "PIM",        "ARIS",
    "SCPS",        "QNX",        "A/N",         "IPComp",     "SNP",
    "Compaq-Peer", "IPX-in-IP",  "VRRP",        "PGM",        "Any",
    "L2TP",        "DDX",        "IATP",        "STP",        "SRP",
    "UTI",         "SMP",        "SM",          "PTP",        "IS-IS",
    "FIRE",        "CRTP",       "CRUDP",       "SSCOPMCE",   "IPLT",
    "SPS",         "PIPE",       "SCTP",        "FC",         "RSVP-E2E-IGNORE",
    "Mobility",    "UDPLite",    "MPLS-in-IP",  "manet",      "HIP",
    "Shim6",       "WESP",       "ROHC",        "Ethernet",
};

static char *put_proto(char *at, uint8_t proto) {
    return proto < sizeof protocols / sizeof protocols[0] ? nr_put_string(at, protocols[proto])
                                                          : nr_put_u64(at, proto);
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

/* -- the state of a TCP connection: Suricata's follows that of the server -- */

enum state {
    NONE,
    SYN_SENT,
    SYN_RECV,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    TIME_WAIT,
    LAST_ACK,
    CLOSE_WAIT,
    CLOSING,
    CLOSED
};

/* Returns whether the responder's FIN came before the originator's. */
static bool responder_closed_first(const nr_event *e) {
    bool found = false, responder = false;
    for (int i = 0; i < NR_HISTORY_SIZE && e->history[i] != 0; i++) {
        const char letter = e->history[i];
        if (!found && (letter == 'F' || letter == 'f')) {
            found = true;
            responder = letter == 'f';
        } else if (found && letter == '^') {
            responder = !responder; /* the sides were exchanged after it */
        }
    }
    return responder;
}

static enum state closing_state(const nr_event *e, bool orig_closed, bool resp_closed) {
    const bool orig_acked = e->orig.fin_acked, resp_acked = e->resp.fin_acked;
    if (!resp_closed) {
        return CLOSE_WAIT;
    }
    if (!orig_closed) {
        return resp_acked ? FIN_WAIT2 : FIN_WAIT1;
    }
    if ((e->orig.tcp_flags | e->resp.tcp_flags) & NR_FLAG_RST) {
        return CLOSED; /* a FIN, then a RST */
    }
    if (!responder_closed_first(e)) {
        return resp_acked ? CLOSED : LAST_ACK;
    }
    if (resp_acked && orig_acked) {
        return CLOSED;
    }
    return resp_acked || orig_acked ? TIME_WAIT : CLOSING;
}

static enum state tcp_state(const nr_event *e) {
    const uint32_t orig = e->orig.tcp_state, resp = e->resp.tcp_state;
    if (orig == NR_STATE_RESET || resp == NR_STATE_RESET) {
        return CLOSED;
    }
    if (orig == NR_STATE_INACTIVE && resp == NR_STATE_INACTIVE) {
        return NONE;
    }
    if (orig == NR_STATE_SYN_ACK_SENT || resp == NR_STATE_SYN_ACK_SENT) {
        return SYN_RECV;
    }
    if (resp == NR_STATE_INACTIVE && e->orig.tcp_flags & NR_FLAG_SYN) {
        return SYN_SENT;
    }
    if (orig == NR_STATE_CLOSED || resp == NR_STATE_CLOSED) {
        return closing_state(e, orig == NR_STATE_CLOSED, resp == NR_STATE_CLOSED);
    }
    if (orig == NR_STATE_SYN_SENT) {
        return SYN_SENT; /* the responder answered, and not by a SYN */
    }
    const bool answered = e->resp.tcp_flags & NR_FLAG_SYN;
    return answered && !(e->orig.tcp_flags & NR_FLAG_ACK) ? SYN_RECV : ESTABLISHED;
}

static const char *tcp_state_name(enum state state) {
    static const char *const names[] = {
        [NONE] = "none",
        [SYN_SENT] = "syn_sent",
        [SYN_RECV] = "syn_recv",
        [ESTABLISHED] = "established",
        [FIN_WAIT1] = "fin_wait1",
        [FIN_WAIT2] = "fin_wait2",
        [TIME_WAIT] = "time_wait",
        [LAST_ACK] = "last_ack",
        [CLOSE_WAIT] = "close_wait",
        [CLOSING] = "closing",
        [CLOSED] = "closed",
    };
    return names[state];
}

static const char *flow_state_name(const nr_event *e) {
    if (e->proto != NR_PROTO_TCP) {
        return e->resp.packets > 0 ? "established" : "new";
    }
    switch (tcp_state(e)) {
    case NONE:
    case SYN_SENT:
    case SYN_RECV:
        return "new";
    case TIME_WAIT:
    case LAST_ACK:
    case CLOSED:
        return "closed";
    default:
        return "established";
    }
}

/* -- the record -- */

#define COUNT(name, value) (at = nr_put_count(NR_PUT(at, name), value))

static char *put_address(char *at, const nr_event *e, const uint8_t *address,
                         const nr_text_options *options) {
    return e->family == 6 && !options->compress_ipv6 ? nr_put_ipv6_expanded(at, address)
                                                     : nr_put_address(at, e->family, address);
}

static char *put_vlans(char *at, const nr_event *e) {
    for (int i = 0, found = 0; i < 2; i++) {
        if (e->vlan[i] != NR_NO_VLAN) {
            at = found++ ? NR_PUT(at, ",") : NR_PUT(at, ",\"vlan\":[");
            at = nr_put_u64(at, e->vlan[i]);
        }
    }
    return e->vlan[0] != NR_NO_VLAN || e->vlan[1] != NR_NO_VLAN ? NR_PUT(at, "]") : at;
}

/* Suricata has ports for these protocols only. */
static bool has_ports(uint8_t proto) {
    return proto == NR_PROTO_TCP || proto == NR_PROTO_UDP || proto == NR_PROTO_SCTP;
}

static char *put_icmp(char *at, const nr_event *e) {
    COUNT(",\"icmp_type\":", e->orig_p);
    COUNT(",\"icmp_code\":", e->resp_p);
    if (e->resp.packets > 0) {
        const int answer = nr_icmp_counterpart(e->proto, e->orig_p);
        COUNT(",\"response_icmp_type\":", answer >= 0 ? (uint64_t)answer : 0);
        at = NR_PUT(at, ",\"response_icmp_code\":0");
    }
    return at;
}

static char *put_key(char *at, const nr_event *e, const nr_text_options *options) {
    at = put_vlans(at, e);
    if (e->family == 0) { /* a pair of stations: Suricata has no such flow, but a place for them */
        at = nr_put_address(NR_PUT(at, ",\"ether\":{\"src_mac\":\""), e->family, e->orig_h);
        at = nr_put_address(NR_PUT(at, "\",\"dest_mac\":\""), e->family, e->resp_h);
        return NR_PUT(at, "\"}");
    }
    at = put_address(NR_PUT(at, ",\"src_ip\":\""), e, e->orig_h, options);
    at = NR_PUT(at, "\"");
    if (has_ports(e->proto)) {
        COUNT(",\"src_port\":", e->orig_p);
    }
    at = put_address(NR_PUT(at, ",\"dest_ip\":\""), e, e->resp_h, options);
    at = NR_PUT(at, "\"");
    if (has_ports(e->proto)) {
        COUNT(",\"dest_port\":", e->resp_p);
    }
    COUNT(",\"ip_v\":", e->family);
    at = put_proto(NR_PUT(at, ",\"proto\":\""), e->proto);
    at = NR_PUT(at, "\"");
    return nr_is_icmp(e->proto) ? put_icmp(at, e) : at;
}

static char *put_flow(char *at, const nr_event *e, struct nr_seconds *seconds) {
    const uint64_t last = nr_event_last(e);
    COUNT(",\"flow\":{\"pkts_toserver\":", e->orig.packets);
    COUNT(",\"pkts_toclient\":", e->resp.packets);
    COUNT(",\"bytes_toserver\":", e->orig.bytes);
    COUNT(",\"bytes_toclient\":", e->resp.bytes);
    at = nr_put_time_micros(NR_PUT(at, ",\"start\":\""), seconds, e->start_ts);
    at = nr_put_time_micros(NR_PUT(at, "\",\"end\":\""), seconds, last);
    COUNT("\",\"age\":", last / NS - e->start_ts / NS);
    at = nr_put_string(NR_PUT(at, ",\"state\":\""), flow_state_name(e));
    at = nr_put_string(NR_PUT(at, "\",\"reason\":\""), end_reason_name(e->end_reason));
    return NR_PUT(at, "\",\"alerted\":false}");
}

static char *put_flags(char *at, uint8_t flags) {
    static const struct {
        uint8_t flag;
        const char *field;
    } names[] = {
        {NR_FLAG_SYN, ",\"syn\":true"}, {NR_FLAG_FIN, ",\"fin\":true"},
        {NR_FLAG_RST, ",\"rst\":true"}, {NR_FLAG_PSH, ",\"psh\":true"},
        {NR_FLAG_ACK, ",\"ack\":true"}, {NR_FLAG_URG, ",\"urg\":true"},
        {NR_FLAG_ECE, ",\"ecn\":true"}, {NR_FLAG_CWR, ",\"cwr\":true"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        at = flags & names[i].flag ? nr_put_string(at, names[i].field) : at;
    }
    return at;
}

static char *put_tcp(char *at, const nr_event *e) {
    const uint8_t flags = e->orig.tcp_flags | e->resp.tcp_flags;
    at = nr_put_hex_byte(NR_PUT(at, ",\"tcp\":{\"tcp_flags\":\""), flags);
    at = nr_put_hex_byte(NR_PUT(at, "\",\"tcp_flags_ts\":\""), e->orig.tcp_flags);
    at = nr_put_hex_byte(NR_PUT(at, "\",\"tcp_flags_tc\":\""), e->resp.tcp_flags);
    at = put_flags(NR_PUT(at, "\""), flags);
    at = nr_put_string(NR_PUT(at, ",\"state\":\""), tcp_state_name(tcp_state(e)));
    at = NR_PUT(at, "\"");
    at = e->resp.gaps > 0 ? NR_PUT(at, ",\"tc_gap\":true") : at;
    at = e->orig.gaps > 0 ? NR_PUT(at, ",\"ts_gap\":true") : at;
    return NR_PUT(at, "}");
}

static char *put_app_proto(char *at, const nr_event *e, struct nr_app_record record) {
    const char *name = nr_eve_protocol_name(e->app_protocol);
    uint32_t carrier;
    if (name == NULL) {
        return at;
    }
    at = NR_PUT(nr_put_string(NR_PUT(at, ",\"app_proto\":\""), name), "\"");
    if (nr_app_find_carrier(record, &carrier) && nr_eve_protocol_name(carrier) != NULL) {
        at = nr_put_string(NR_PUT(at, ",\"app_proto_orig\":\""), nr_eve_protocol_name(carrier));
        at = NR_PUT(at, "\"");
    }
    return at;
}

static char *put_community_id(char *at, const nr_event *e) {
    if (e->family == 0) {
        return at;
    }
    return NR_PUT(nr_put_community_id(NR_PUT(at, ",\"community_id\":\""), e), "\"");
}

static char *put_begin(char *at, const nr_event *e, struct nr_encoding *encoding,
                       const char *type) {
    const nr_text_options *options = encoding->options;
    at = nr_put_time_micros(NR_PUT(at, "{\"timestamp\":\""), &encoding->seconds, e->ts);
    COUNT("\",\"flow_id\":", e->flow_id);
    if (e->parent_id != 0 && e->tunnel_kind != 0) {
        COUNT(",\"parent_id\":", e->parent_id);
    }
    if (options->interface_size > 0) {
        at = nr_put(NR_PUT(at, ",\"in_iface\":"), options->interface, options->interface_size);
    }
    at = NR_PUT(nr_put_string(NR_PUT(at, ",\"event_type\":\""), type), "\"");
    return put_key(at, e, options);
}

char *nr_eve_record(char *at, const nr_event *e, struct nr_encoding *encoding) {
    const struct nr_app_record record = nr_event_app(e, encoding);
    if (e->kind == NR_EVENT_APP) {
        const char *type = nr_eve_event_type(e, record);
        if (type == NULL) {
            return at;
        }
        at = put_community_id(put_begin(at, e, encoding, type), e);
        return NR_PUT(nr_put_eve_object(at, e, record), "}");
    }
    at = put_app_proto(put_begin(at, e, encoding, "flow"), e, record);
    at = put_flow(at, e, &encoding->seconds);
    if (e->one_sided) { /* as a rule's flowbit, because Suricata's schema takes no other fields */
        at = NR_PUT(at, ",\"metadata\":{\"flowbits\":[\"one_sided\"]}");
    }
    at = put_community_id(at, e);
    at = e->proto == NR_PROTO_TCP && e->family != 0 ? put_tcp(at, e) : at;
    return NR_PUT(at, "}");
}
