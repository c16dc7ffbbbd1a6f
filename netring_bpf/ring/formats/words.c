/* Turns the numbers of records into words. */
#include "formats/text_record.h"

static const char *const protocols[256] = {
    [1] = "icmp",  [2] = "igmp",  [6] = "tcp",    [17] = "udp",   [33] = "dccp",
    [41] = "ipv6", [47] = "gre",  [50] = "esp",   [51] = "ah",    [58] = "icmp6",
    [89] = "ospf", [103] = "pim", [112] = "vrrp", [132] = "sctp", [136] = "udplite",
};

char *nr_put_proto(char *at, uint8_t proto) {
    const char *name = protocols[proto];
    return name != NULL ? nr_put_string(at, name) : nr_put_u64(at, proto);
}

const char *nr_event_name(uint8_t kind) {
    static const char *const names[] = {
        "",
        [NR_EVENT_STARTED] = "started",
        [NR_EVENT_ESTABLISHED] = "established",
        [NR_EVENT_UPDATED] = "updated",
        [NR_EVENT_ENDED] = "ended",
        [NR_EVENT_APP] = "app",
        [NR_EVENT_NEIGHBOUR] = "neighbour",
    };
    return kind <= NR_EVENT_NEIGHBOUR ? names[kind] : "";
}

const char *nr_how_name(uint8_t how) {
    static const char *const names[] = {
        "",
        [NR_HOW_ARP_REQUEST] = "arp_request",
        [NR_HOW_ARP_REPLY] = "arp_reply",
        [NR_HOW_ARP_ANNOUNCED] = "arp_announced",
        [NR_HOW_NDP_SOLICITED] = "ndp_solicited",
        [NR_HOW_NDP_ADVERTISED] = "ndp_advertised",
        [NR_HOW_ROUTER] = "router",
        [NR_HOW_PREFIX] = "prefix",
    };
    return how <= NR_HOW_PREFIX ? names[how] : "";
}

const char *nr_tcp_state_name(uint32_t state) {
    static const char *const names[] = {
        [NR_STATE_INACTIVE] = "inactive",
        [NR_STATE_SYN_SENT] = "syn_sent",
        [NR_STATE_SYN_ACK_SENT] = "syn_ack_sent",
        [NR_STATE_PARTIAL] = "partial",
        [NR_STATE_ESTABLISHED] = "established",
        [NR_STATE_CLOSED] = "closed",
        [NR_STATE_RESET] = "reset",
    };
    return state <= NR_STATE_RESET ? names[state] : "";
}

const char *nr_end_name(uint8_t end_reason) {
    static const char *const names[NR_END_COUNT] = {
        [NR_END_NONE] = "",         [NR_END_FIN] = "fin",         [NR_END_RST] = "rst",
        [NR_END_IDLE] = "idle",     [NR_END_EVICTED] = "evicted", [NR_END_SHUTDOWN] = "shutdown",
        [NR_END_ACTIVE] = "active", [NR_END_REUSED] = "reused",
    };
    return end_reason < NR_END_COUNT ? names[end_reason] : "";
}

const char *nr_tunnel_name(uint8_t kind) {
    static const char *const names[] = {
        "",
        [NR_TUNNEL_IP] = "ip",
        [NR_TUNNEL_GRE] = "gre",
        [NR_TUNNEL_ERSPAN] = "erspan",
        [NR_TUNNEL_VXLAN] = "vxlan",
        [NR_TUNNEL_GENEVE] = "geneve",
        [NR_TUNNEL_GTPU] = "gtpu",
        [NR_TUNNEL_TEREDO] = "teredo",
        [NR_TUNNEL_AYIYA] = "ayiya",
        [NR_TUNNEL_VXLAN_GPE] = "vxlan-gpe",
        [NR_TUNNEL_MPLS] = "mpls",
        [NR_TUNNEL_ETHERIP] = "etherip",
        [NR_TUNNEL_L2TP] = "l2tp",
        [NR_TUNNEL_CAPWAP] = "capwap",
        [NR_TUNNEL_LISP] = "lisp",
    };
    return kind < sizeof names / sizeof *names ? names[kind] : "";
}

char *nr_put_history(char *at, const nr_event *event) {
    return nr_put(at, event->history, strnlen(event->history, NR_HISTORY_SIZE));
}
