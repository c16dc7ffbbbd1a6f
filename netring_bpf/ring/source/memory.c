/* A source that replays frames from memory, for tests without root. api.h gives the format. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/source.h"

struct record {
    uint64_t ts;
    uint32_t caplen;
    uint32_t len;
    uint16_t vlan_tci;
    uint16_t vlan_tpid;
    uint32_t zero;
};

struct replay {
    struct nr_source source;
    const uint8_t *at;
    const uint8_t *end;
};

static uint32_t replay_next(struct nr_source *source, struct nr_frame *frames, uint32_t max) {
    struct replay *r = (struct replay *)source;
    uint32_t count = 0;
    struct record record;
    while (count < max && (size_t)(r->end - r->at) >= sizeof record) {
        memcpy(&record, r->at, sizeof record);
        const size_t left = (size_t)(r->end - r->at) - sizeof record;
        if (record.caplen > left) {
            break;
        }
        const size_t padded = ((size_t)record.caplen + 7) & ~(size_t)7;
        frames[count] = (struct nr_frame){
            .data = r->at + sizeof record,
            .ts = record.ts,
            .caplen = record.caplen,
            .len = record.len,
            .vlan_tci = record.vlan_tci,
            .vlan_tpid = record.vlan_tpid,
        };
        source->file_overlong += nr_frame_lengthen(&frames[count++]);
        r->at += sizeof record + (padded < left ? padded : left);
    }
    source->finished = count < max;
    source->lent += count;
    return count;
}

static void replay_nothing(struct nr_source *source) {
    (void)source;
}
static int replay_check(struct nr_source *source) {
    return (void)source, 0;
}
static uint64_t replay_in_ring(const struct nr_source *source) {
    return (void)source, 0;
}
static void replay_destroy(struct nr_source *source) {
    free(source);
}

static const struct nr_source_ops replay_ops = {
    .next = replay_next,
    .release = replay_nothing,
    .check = replay_check,
    .account = replay_nothing,
    .in_ring = replay_in_ring,
    .destroy = replay_destroy,
};

int nr_replay_create(const uint8_t *records, uint64_t size, struct nr_source **out) {
    struct replay *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return -ENOMEM;
    }
    r->source.ops = &replay_ops;
    r->source.fd = -1;
    r->source.finite = true;
    r->at = records;
    r->end = records + size;
    *out = &r->source;
    return 0;
}
