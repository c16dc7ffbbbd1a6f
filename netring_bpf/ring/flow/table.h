/* The flow table: pure (no clock, no I/O), all memory taken at creation. */
#ifndef NR_FLOW_TABLE_H
#define NR_FLOW_TABLE_H

#include "dissect/packet.h"
#include "handoff.h"

struct nr_table;

/* Bytes of an event in the hand-off, with what follows it. */
uint32_t nr_event_size(const nr_flow_options *options);

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff);
void nr_table_destroy(struct nr_table *table);

/* Hashes the keys of keyed packets: a must before nr_table_packet, and again if a key changes. If
 * there are several it also has the memory fetched that they will need. */
void nr_table_prepare(struct nr_table *table, struct nr_dissected *const *packets, uint32_t count);

/* Accounts one keyed and prepared packet of `bytes` bytes, after the timers that ran out before it:
 * at most NR_EVENTS_PER_PACKET events of its own. parent_id: the flow of the packet it was in, or
 * 0. Returns the id of its flow, for a packet that has another inside; else 0. */
uint64_t nr_table_packet(struct nr_table *table, const struct nr_dissected *packet, uint64_t ts,
                         uint32_t bytes, uint64_t parent_id);

/* Packet time is now at least this: ends idle flows and reports updates, at most NR_SWEEP_MAX per
 * call: it must stay short. So it does before every packet. */
#define NR_SWEEP_MAX 1024u
void nr_table_tick(struct nr_table *table, uint64_t now);

/* Ends live flows while the hand-off has room; returns how many are left. */
uint32_t nr_table_flush(struct nr_table *table);

/* Writes the flow part of the books. */
void nr_table_account(const struct nr_table *table, nr_statistics *statistics);

#endif
