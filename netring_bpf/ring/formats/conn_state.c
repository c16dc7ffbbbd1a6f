/* Derives Zeek's conn_state from an event. */
#include "formats/text_record.h"

/* Returns whether the originator sent a SYN and then a RST, with nothing in between. */
static bool is_taken_back(const char *history, size_t size) {
    size_t i = size > 0 && history[0] == '^';
    if (i == size || history[i] != 'S') {
        return false;
    }
    while (++i < size && strchr("HAFGIQ", history[i]) == NULL) {
        if (history[i] == 'R') {
            return true;
        }
    }
    return false;
}

static const char *reset_responder_state(const nr_event *e, bool orig_silent) {
    const uint32_t o = e->orig.tcp_state;
    const bool empty = e->orig.payload == 0 && e->resp.payload == 0;
    if (o == NR_STATE_SYN_SENT || o == NR_STATE_SYN_ACK_SENT || (o == NR_STATE_RESET && empty)) {
        return "REJ";
    }
    return orig_silent ? "RSTRH" : "RSTR";
}

static const char *tcp_conn_state(const nr_event *e) {
    const uint32_t o = e->orig.tcp_state, r = e->resp.tcp_state;
    const bool orig_silent = o == NR_STATE_INACTIVE || o == NR_STATE_PARTIAL;
    const bool resp_silent = r == NR_STATE_INACTIVE || r == NR_STATE_PARTIAL;
    if (r == NR_STATE_RESET) {
        return reset_responder_state(e, orig_silent);
    }
    if (o == NR_STATE_RESET) {
        const size_t size = strnlen(e->history, NR_HISTORY_SIZE);
        return !resp_silent ? "RSTO" : is_taken_back(e->history, size) ? "RSTOS0" : "OTH";
    }
    if (o == NR_STATE_CLOSED) {
        return r == NR_STATE_CLOSED ? "SF" : resp_silent ? "SH" : "S2";
    }
    if (r == NR_STATE_CLOSED) {
        return orig_silent ? "SHR" : "S3";
    }
    if (o == NR_STATE_SYN_SENT && r == NR_STATE_INACTIVE) {
        return "S0";
    }
    return o == NR_STATE_ESTABLISHED && r == NR_STATE_ESTABLISHED ? "S1" : "OTH";
}

const char *nr_conn_state(const nr_event *e) {
    if (e->proto == NR_PROTO_TCP) {
        return tcp_conn_state(e);
    }
    if (e->proto == NR_PROTO_UDP) {
        const bool orig = e->orig.packets > e->orig.bad_checksums;
        const bool resp = e->resp.packets > e->resp.bad_checksums;
        return orig ? (resp ? "SF" : "S0") : resp ? "SHR" : "OTH";
    }
    return "OTH";
}
