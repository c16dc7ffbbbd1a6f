/* Reads lines `PARSER SRC_PORT DST_PORT FLAGS BYTES` (hexadecimal; `-`: none), and prints
 * what the parser says as a line of JSON. Flags: d datagram, a all, c cut. */
#include <stdio.h>
#include <stdlib.h>

#include "app/parser.h"

enum { LINE = 300000 };

static const struct {
    const char *name;
    nr_app_parser *parse;
} PARSERS[] = {
    {"dns", nr_dns_parse},       {"netbios", nr_netbios_parse}, {"dhcp", nr_dhcp_parse},
    {"dhcpv6", nr_dhcpv6_parse}, {"ssdp", nr_ssdp_parse},
};

/* Returns exactly as many bytes as there are, so that a sanitizer sees a read behind them. */
static uint8_t *unhex(const char *text, uint32_t *length) {
    *length = strcmp(text, "-") == 0 ? 0 : (uint32_t)strlen(text) / 2;
    uint8_t *bytes = malloc(*length);
    for (uint32_t i = 0; i < *length; i++) {
        unsigned value;
        sscanf(text + 2 * (size_t)i, "%2x", &value);
        bytes[i] = (uint8_t)value;
    }
    return bytes;
}

static void print_record(const struct nr_record *record) {
    struct nr_field field;
    uint32_t at = 0;
    const char *comma = "";
    printf("\"fields\": [");
    while (nr_record_next(record->bytes, record->size, &at, &field)) {
        printf("%s[%d, \"", comma, field.field);
        for (uint32_t i = 0; i < field.length; i++) {
            printf("%02x", field.value[i]);
        }
        printf("\"]");
        comma = ", ";
    }
    printf("]");
}

int main(void) {
    static char line[LINE], bytes[LINE];
    char name[16], flags[8];
    unsigned src_p, dst_p;
    while (fgets(line, sizeof line, stdin) != NULL &&
           sscanf(line, "%15s %u %u %7s %s", name, &src_p, &dst_p, flags, bytes) == 5) {
        struct nr_app_bytes in = {.src_p = (uint16_t)src_p, .dst_p = (uint16_t)dst_p};
        struct nr_message message;
        int verdict = -1;
        uint8_t *data = unhex(bytes, &in.length);
        in.at = data;
        in.is_datagram = strchr(flags, 'd') != NULL;
        in.is_all = in.is_datagram || strchr(flags, 'a') != NULL;
        in.is_cut = strchr(flags, 'c') != NULL;
        memset(&message, 0, sizeof message);
        for (size_t i = 0; i < sizeof PARSERS / sizeof *PARSERS; i++) {
            if (strcmp(PARSERS[i].name, name) == 0) {
                verdict = PARSERS[i].parse(&in, &message);
            }
        }
        printf("{\"verdict\": %d, \"protocol\": %d, \"role\": %d, \"next\": %d, \"pair\": %u, "
               "\"needs\": %u, \"used\": %llu, \"cut\": %s, ",
               verdict, message.protocol, message.role, message.next, message.pair, message.needs,
               (unsigned long long)message.used, message.record.is_cut ? "true" : "false");
        print_record(&message.record);
        printf("}\n");
        fflush(stdout);
        free(data);
    }
    return 0;
}
