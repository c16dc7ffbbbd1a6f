/* Feeds messages of libFuzzer to the parsers of DNS, NetBIOS, DHCP and SSDP.
 *
 * The first two bytes choose the ports and what is known of the bytes. The message follows. */
#include <stdlib.h>
#include <string.h>

#include "app/parser.h"

enum { HEAD = 2, ANSWER_HEAD = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static nr_app_parser *const PARSERS[] = {nr_dns_parse, nr_netbios_parse, nr_dhcp_parse,
                                         nr_dhcpv6_parse, nr_ssdp_parse};
static const uint16_t PORTS[] = {53, 5353, 5355, 137, 67, 547, 1900, 40000};

static void demand(bool holds) {
    if (!holds) {
        abort();
    }
}

static void check_field(const struct nr_field *field) {
    demand(field->field != 0);
    if (field->field == NR_FIELD_ANSWER) {
        demand(field->length >= ANSWER_HEAD && field->value[6] <= 1 &&
               field->value[7] <= field->length - ANSWER_HEAD);
    } else if (field->field == NR_FIELD_MAC) {
        demand(field->length == 6);
    } else {
        demand(field->length <= NR_TEXT_MAX);
    }
}

static void check(int verdict, const struct nr_app_bytes *bytes, const struct nr_message *message) {
    const struct nr_record *record = &message->record;
    struct nr_field field;
    uint32_t at = 0;
    demand(record->size <= NR_RECORD_SIZE && (verdict == NR_MESSAGE || record->size == 0));
    while (nr_record_next(record->bytes, record->size, &at, &field)) {
        check_field(&field);
    }
    demand(at == record->size);
    if (verdict == NR_MORE) {
        demand(!bytes->is_all && (message->needs == 0 || message->needs > bytes->length));
    }
    if (verdict == NR_MESSAGE) {
        demand(message->used >= 1 && message->protocol != NR_APP_NONE &&
               message->role <= NR_SILENT && message->next == NR_PARSE_SAME);
        demand(message->used == bytes->length || !bytes->is_datagram);
        demand(message->used <= 2 + UINT16_MAX || bytes->is_datagram);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct nr_message message;
    if (size < HEAD) {
        return 0;
    }
    const uint32_t length = (uint32_t)size - HEAD;
    uint8_t *exact = malloc(length);
    if (length > 0) {
        memcpy(exact, data + HEAD, length);
    }
    const bool is_datagram = (data[0] & 1) != 0;
    const struct nr_app_bytes bytes = {
        .at = exact,
        .length = length,
        .is_datagram = is_datagram,
        .is_all = is_datagram || (data[0] & 2) != 0,
        .is_cut = is_datagram && (data[0] & 4) != 0,
        .src_p = PORTS[data[1] & 7],
        .dst_p = PORTS[data[1] >> 3 & 7],
    };
    for (size_t i = 0; i < sizeof PARSERS / sizeof *PARSERS; i++) {
        memset(&message, 0,
               offsetof(struct nr_message, record) + offsetof(struct nr_record, bytes));
        check(PARSERS[i](&bytes, &message), &bytes, &message);
    }
    free(exact);
    return 0;
}
