/* Fuzzes the text of application records: in each format, with exactly the room that it asks for.
 */
#include <stdlib.h>

#include "formats/text_record.h"

enum { HEAD = 8, FORMATS = NR_FORMAT_ZEEK_SSH + 1 };

static void check(bool holds) {
    if (!holds) {
        abort();
    }
}

static nr_event event_of(const uint8_t *head, uint32_t size) {
    static const uint8_t families[] = {4, 6, 0}, protos[] = {NR_PROTO_TCP, NR_PROTO_UDP, 1, 253};
    nr_event event = {
        .ts = UINT64_MAX,
        .flow_id = UINT64_MAX,
        .family = families[head[1] % 3],
        .proto = protos[head[2] % 4],
        .kind = head[3] & 1 ? NR_EVENT_APP : NR_EVENT_ENDED,
        .end_reason = NR_END_IDLE,
        .app_protocol = head[0],
        .has_macs = head[4] & 1,
        .app_at = sizeof(nr_event),
        .app_size = size,
        .app_count = head[5],
        .mac_changes = head[6],
        .vlan = {NR_NO_VLAN, NR_NO_VLAN},
    };
    return event;
}

static void encode(const uint8_t *batch, uint32_t batch_size, uint32_t format) {
    const nr_text_options options = {
        .format = format,
        .kinds = UINT32_MAX,
        .terminator = "\n",
        .terminator_size = 1,
        .interface = "",
        .capture = "",
        .batch = batch,
        .batch_size = batch_size,
    };
    const uint32_t room = nr_text_room(&options);
    char *out = malloc(room);
    nr_text text;
    check(out != NULL);
    check(nr_encode(&options, batch, sizeof(nr_event), NULL, 1, out, room, NULL, &text) == 1);
    check(text.size <= room / 6 * 5);
    for (uint32_t i = 0; i + 1 < text.size; i++) {
        const unsigned char byte = (unsigned char)out[i];
        check(byte >= ' ' || byte == '\t' || byte == '\r');
        check(byte != 0x7f);
    }
    free(out);
}

static void columns(const uint8_t *batch, uint32_t batch_size, uint32_t size) {
    const uint32_t room = NR_WORD_SIZE + 4 * (size < NR_RECORD_SIZE ? size : NR_RECORD_SIZE);
    char *out = malloc(room);
    uint64_t end;
    uint8_t there;
    check(out != NULL);
    for (uint32_t column = 0; column <= NR_APP_COLUMN_CUT; column++) {
        const uint64_t made =
            nr_app_column(column, batch, sizeof(nr_event), 1, batch, batch_size, out, &end, &there);
        check(made == end && made <= room && there <= 1);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD) {
        return 0;
    }
    const uint32_t record = (uint32_t)size - HEAD;
    const uint32_t batch_size = (uint32_t)sizeof(nr_event) + record;
    uint8_t *batch = malloc(batch_size);
    check(batch != NULL);
    const nr_event event = event_of(data, record);
    memcpy(batch, &event, sizeof event);
    if (record > 0) {
        memcpy(batch + sizeof event, data + HEAD, record);
    }
    for (uint32_t format = 0; format < FORMATS; format++) {
        encode(batch, batch_size, format);
    }
    columns(batch, batch_size, record);
    free(batch);
    return 0;
}
