/* Application records as text: the words for their numbers, and text of the network made harmless.
 * Shared by the formats. */
#ifndef NR_FORMATS_APP_TEXT_H
#define NR_FORMATS_APP_TEXT_H

#include "app/record.h"
#include "formats/text_record.h"

/* How text of the network is written: as it stands, inside of a JSON string, or inside of a quoted
 * cell of CSV. */
enum nr_text_style { NR_TEXT_PLAIN, NR_TEXT_JSON, NR_TEXT_CSV };
#define NR_PLAIN_GROWTH 4u /* characters for one byte, at most: \x1b */
#define NR_JSON_GROWTH 5u  /* and in JSON: \\x1b */

/* Writes text that somebody sent, so that no reader obeys it: control characters, ends of lines,
 * marks of direction, and bytes that are no UTF-8 become \x1b. */
char *nr_put_network_text(char *at, const uint8_t *text, uint32_t size, enum nr_text_style style);
/* Writes a field as a string of JSON, with its quotes. */
char *nr_put_json_text(char *at, const struct nr_field *field);

/* Writes what a number stands for: NR_WORD_* of api.h. */
char *nr_put_app_word(char *at, uint32_t of, uint32_t number);
/* Writes a version as people do: TLSv1.3, QUICv1, HTTP/1.1, 2.0. */
char *nr_put_app_version(char *at, uint8_t protocol, uint32_t version);

/* Finds the name in a record: that of the server, or the one that was asked for. */
bool nr_app_find_name(uint8_t protocol, struct nr_app_record record, struct nr_field *field);
/* Tells where a protocol's name comes from: "sni", "http", ... */
const char *nr_app_name_source(uint8_t protocol);
/* Finds a number; returns false if there is none. */
bool nr_app_find_number(struct nr_app_record record, uint8_t field, uint32_t *value);
/* Finds the protocol that handed over to this one: NR_APP_*. */
bool nr_app_find_carrier(struct nr_app_record record, uint32_t *protocol);
static inline bool nr_app_has_protocol(const nr_event *event) {
    return event->app_protocol > NR_APP_NONE && event->app_protocol < NR_APP_COUNT;
}

/* Tells whether the record has not all that was sent. */
bool nr_app_is_cut(struct nr_app_record record);

/* An NR_FIELD_ANSWER, read. */
struct nr_app_answer {
    uint32_t ttl;
    uint16_t type;
    bool chained;
    struct nr_field owner;
    struct nr_field data;
    uint8_t family; /* 4 or 6: the data is an address; 0: text */
};
bool nr_app_read_answer(const struct nr_field *field, struct nr_app_answer *answer);

/* The fields of the record of events/fields.py that come from an application record: JSON. */
char *nr_put_app_json(char *at, const nr_event *event, struct nr_app_record record);

/* Suricata's name of a protocol; NULL: it has none. */
const char *nr_eve_protocol_name(uint32_t protocol);
/* The type of Suricata's event for an exchange; NULL: it has none. */
const char *nr_eve_event_type(const nr_event *event, struct nr_app_record record);
/* Writes the object of that event. */
char *nr_put_eve_object(char *at, const nr_event *event, struct nr_app_record record);

#endif
