/* The flow table: pure (no clock, no I/O), all memory taken at creation. */
#ifndef NR_FLOW_H
#define NR_FLOW_H

#include "frame.h"
#include "handoff.h"

struct nr_table;

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff);
void nr_table_destroy(struct nr_table *table);

/* Accounts one keyed packet, after the timers that ran out before it: at most
 * NR_EVENTS_PER_FRAME events of its own. */
void nr_table_packet(struct nr_table *table, const struct nr_frame *frame,
                     const struct nr_dissected *packet);

/* Packet time is now at least this: ends idle flows and reports updates, a bounded number per
 * call. */
void nr_table_tick(struct nr_table *table, uint64_t now);

/* Ends live flows while the hand-off has room; returns how many are left. */
uint32_t nr_table_flush(struct nr_table *table);

/* Writes the flow part of the books. */
void nr_table_account(const struct nr_table *table, nr_statistics *statistics);

#endif
