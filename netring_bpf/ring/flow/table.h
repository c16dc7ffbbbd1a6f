/* The flow table's interface. The table is pure (no clock, no I/O), and takes memory at its
 * creation and in nr_table_make_room() only. */
#ifndef NR_FLOW_TABLE_H
#define NR_FLOW_TABLE_H

#include "app/neighbours.h"
#include "dissect/packet.h"
#include "handoff.h"

struct nr_table;

/* Returns the size of an event in the hand-off, with the records that follow it. */
uint32_t nr_event_size(const nr_flow_options *options);

struct nr_table *nr_table_create(const nr_flow_options *options, struct nr_handoff *handoff);
void nr_table_destroy(struct nr_table *table);

/* Adds a number to the ids of all flows to come. */
void nr_table_shift_ids(struct nr_table *table, uint64_t by);

/* Lets a table that may grow do so before `flows` more flows would fill it. Not on the packet path:
 * growing moves all flows. A table that cannot grow evicts flows once it is full. */
void nr_table_make_room(struct nr_table *table, uint32_t flows);

/* Hashes the keys of keyed packets, and prefetches the memory that several of them will need. Call
 * it before nr_table_packet, and again if a key changes. */
void nr_table_prepare(struct nr_table *table, struct nr_dissected *const *packets, uint32_t count);

/* The table's time is that of the packets, plus a lead: 0, unless the packets' clock was stepped
 * back. nr_table_step sets it for good, nr_table_set_lead for some packets. */
void nr_table_step(struct nr_table *table, int64_t lead);
void nr_table_set_lead(struct nr_table *table, int64_t lead);
int64_t nr_table_lead(const struct nr_table *table);

/* Accounts one keyed and prepared packet of `bytes` bytes, after the timers that ran out before it.
 * The packet makes at most NR_EVENTS_PER_PACKET events of its own, and NR_APP_EVENTS together with
 * those that nr_table_add adds. parent_id is the flow of the
 * packet around it, or 0. Returns the id of its flow if the packet has another inside, else 0. */
uint64_t nr_table_packet(struct nr_table *table, const struct nr_dissected *packet, uint64_t ts,
                         uint32_t bytes, uint64_t parent_id);

/* Accounts one more packet like that, without the timers: of the same frame, or one that has
 * waited. */
uint64_t nr_table_add(struct nr_table *table, const struct nr_dissected *packet, uint64_t ts,
                      uint32_t bytes, uint64_t parent_id);

/* Counts the packet, which was just added, as a fragment. `completes`: its datagram is whole now. */
void nr_table_count_fragment(struct nr_table *table, const struct nr_dissected *packet,
                             bool completes);

/* Moves the table's time to `now`, unless it is later already, then ends idle flows and reports
 * updates. nr_table_packet does the same before each packet, to the packet's time. One call handles
 * at most NR_SWEEP_MAX flows, so that it stays short. */
#define NR_SWEEP_MAX 1024u
void nr_table_tick(struct nr_table *table, uint64_t now);

/* Returns the table's time. It never runs backwards. */
uint64_t nr_table_now(const struct nr_table *table);

/* Moves the table's time on by `ns`, then as nr_table_tick. */
void nr_table_advance(struct nr_table *table, uint64_t ns);

/* Makes an event of what ARP or neighbour discovery told, at the table's time, unless the kinds of
 * events leave it out. */
bool nr_table_wants_neighbours(const struct nr_table *table);
void nr_table_tell_neighbour(struct nr_table *table, const struct nr_neighbour *neighbour,
                             const uint16_t vlan[2]);

/* The sums of flows by interval, if the options ask for them. With a live source the loop calls
 * nr_table_count() now and then: it ends the interval once its time has come, in steps, and returns
 * true as long as steps are left. `budget`: how much one may cost. A finite source ends its
 * intervals between two packets, and waits until the one before was taken, by calling `wait`, which
 * returns false if it is to wait no longer. */
bool nr_table_count(struct nr_table *table, uint32_t budget);
typedef bool nr_table_wait(void *waiter);
void nr_table_waits(struct nr_table *table, nr_table_wait *wait, void *waiter);
/* For the consumer: as nr_reader_take_interval() and so on. */
bool nr_table_take_interval(struct nr_table *table, nr_interval_span *span);
bool nr_table_has_interval(const struct nr_table *table);
void nr_table_take_last_interval(struct nr_table *table, nr_interval_span *span);

/* Ends live flows while the hand-off has room. Returns how many are left. */
uint32_t nr_table_flush(struct nr_table *table);

/* Returns whether libcrypto is missing that names need. */
int nr_table_lacks_crypto(const struct nr_table *table);

/* Writes the flow part of the books. */
void nr_table_account(const struct nr_table *table, nr_statistics *statistics);

#endif
