/* Records the sizes and gaps of a flow's packets as running moments (Welford, 1962), and its first
 * packets one by one. */
#include "flow/table_internal.h"

static void note_moment(double *mean, double *m2, double value, uint64_t count) {
    const double difference = value - *mean;
    *mean += difference / (double)count;
    *m2 += difference * (value - *mean);
}

/* `count`: the side's packets, with this one; `before`: the time of the side's packet before it. */
static void note_statistics(nr_packet_statistics *s, uint64_t count, uint64_t before, uint32_t size,
                            uint64_t ts) {
    note_moment(&s->size_mean, &s->size_m2, size, count);
    s->size_min = count == 1 || size < s->size_min ? size : s->size_min;
    s->size_max = size > s->size_max ? size : s->size_max;
    if (count > 1) {
        const uint64_t gap = ts > before ? ts - before : 0;
        note_moment(&s->gap_mean_ns, &s->gap_m2, (double)gap, count - 1);
        s->gap_min_ns = count == 2 || gap < s->gap_min_ns ? gap : s->gap_min_ns;
        s->gap_max_ns = gap > s->gap_max_ns ? gap : s->gap_max_ns;
    }
}

void nr_timing_packet(struct nr_table *t, uint32_t i, int side, uint32_t size, uint64_t ts) {
    const struct flow *f = &t->flows[i];
    const uint64_t number = nr_flow_packets(t, i, ORIG) + nr_flow_packets(t, i, RESP) - 1;
    if (t->timing != NULL) {
        note_statistics(&t->timing[i].side[side], nr_flow_packets(t, i, side),
                        f->side[side].last_ts, size, ts);
    }
    if (number < t->first_count) {
        const uint64_t before = nr_max_u64(f->side[ORIG].last_ts, f->side[RESP].last_ts);
        t->first_packets[(size_t)i * t->first_count + number] = (nr_first_packet){
            .gap_ns = number > 0 && ts > before ? ts - before : 0,
            .size = side == ORIG ? (int32_t)size : -(int32_t)size,
        };
    }
}
