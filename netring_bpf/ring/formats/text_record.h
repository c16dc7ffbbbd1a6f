/* Shared by encode.c and the formats: an event as a record of text, and the words and values that
 * the formats have in common. */
#ifndef NR_FORMATS_TEXT_RECORD_H
#define NR_FORMATS_TEXT_RECORD_H

#include "app/record.h"
#include "formats/builder.h"

/* The longest record without its capture's name: a few dozen numbers of up to 20 digits, and the
 * names of the fields; then those of an application record. A format writes a byte of that at most
 * twice, by itself and among the details: five characters for a byte of text (\\x1b), and ten for
 * a byte of an answer in DNS, the shortest of which have twelve bytes. */
#define NR_RECORD_ROOM (4096u + 2048u + 15u * NR_RECORD_SIZE)

/* A batch on its way: `seq` is the number of its next record, for options that want it. */
struct nr_encoding {
    const nr_text_options *options;
    uint64_t seq;
    struct nr_seconds seconds;
};

/* Writes one event as text. */
typedef char *nr_format(char *at, const nr_event *event, struct nr_encoding *encoding);
nr_format nr_json_record;
nr_format nr_zeek_record;
nr_format nr_zeek_json_record;
nr_format nr_eve_record;
nr_format nr_csv_record;
nr_format nr_zeek_ssl_record;
nr_format nr_zeek_http_record;
nr_format nr_zeek_dns_record;
nr_format nr_zeek_quic_record;
nr_format nr_zeek_dhcp_record;
nr_format nr_zeek_ssh_record;

/* -- shared by the formats -- */

/* The application record of an event; of size 0 if there is none. */
struct nr_app_record {
    const uint8_t *bytes;
    uint32_t size;
};
static inline struct nr_app_record nr_app_record_of(const nr_event *event, const uint8_t *batch,
                                                    uint64_t batch_size) {
    if (event->app_size == 0 || batch == NULL || event->app_at > batch_size ||
        event->app_size > batch_size - event->app_at) {
        return (struct nr_app_record){NULL, 0};
    }
    const uint32_t size = event->app_size < NR_RECORD_SIZE ? event->app_size : NR_RECORD_SIZE;
    return (struct nr_app_record){batch + event->app_at, size};
}
static inline struct nr_app_record nr_event_app(const nr_event *event,
                                                const struct nr_encoding *encoding) {
    const nr_text_options *options = encoding->options;
    return nr_app_record_of(event, options->batch, options->batch_size);
}

static inline uint64_t nr_event_last(const nr_event *event) {
    return nr_max_u64(event->start_ts, nr_max_u64(event->orig.last_ts, event->resp.last_ts));
}
static inline bool nr_is_icmp(uint8_t proto) {
    return proto == NR_PROTO_ICMP || proto == NR_PROTO_ICMP6;
}

/* Writes the protocol's usual name, or its number. */
char *nr_put_proto(char *at, uint8_t proto);
const char *nr_event_name(uint8_t kind);
const char *nr_how_name(uint8_t how);
const char *nr_tcp_state_name(uint32_t state);
const char *nr_end_name(uint8_t end_reason);
const char *nr_tunnel_name(uint8_t kind);
char *nr_put_history(char *at, const nr_event *event);

const char *nr_conn_state(const nr_event *event);
/* Returns the ICMP type that answers this one; -1: none. */
int nr_icmp_counterpart(uint8_t proto, uint16_t type);
/* Writes the Community ID, version 1, seed 0. The flow has IP addresses. */
char *nr_put_community_id(char *at, const nr_event *event);

/* -- shared by Zeek's logs: zeek.c -- */

const char *nr_zeek_proto_name(uint8_t proto);
/* Writes the columns that each log begins with, ts to id.resp_p, and a tab behind each. */
char *nr_zeek_put_head(char *at, const nr_event *event, uint64_t ts,
                       const nr_text_options *options);
char *nr_zeek_put_time(char *at, uint64_t ns);
char *nr_zeek_put_uid(char *at, const nr_text_options *options, uint64_t flow_id);

#endif
