/* Hands events from the reader's thread to one consumer: a single-producer single-consumer ring of
 * fixed size, one more for their application records, and an eventfd that is readable while there
 * are events. */
#ifndef NR_HANDOFF_H
#define NR_HANDOFF_H

#include "core.h"

struct nr_handoff {
    uint8_t *slots;
    uint32_t slot_size; /* an nr_event with its records */
    uint32_t mask;
    int event_fd; /* consumer waits here */
    int space_fd; /* a finite source's producer waits here */
    /* producer's side */
    uint64_t produced; /* events made, lost ones included */
    uint64_t lost;
    uint64_t head; /* next slot to write; published by nr_handoff_publish */
    /* The application records of the events, one behind the other, in a ring of their own. */
    uint8_t *texts;
    uint32_t text_mask;
    uint32_t text_reserve; /* bytes that the records of one frame take at most */
    uint64_t text_head;
    uint64_t text_pause; /* a replay looks for room from here on: loop.c */
    uint64_t texts_lost;
    /* shared; each written by one side only, and on a cache line of its own */
    _Alignas(64) uint64_t published; /* by the producer */
    _Alignas(64) uint64_t tail;      /* by the consumer */
    uint64_t text_tail;              /* by the consumer */
    _Alignas(64) uint32_t waiting;   /* the producer waits for space */
    uint64_t held_from;              /* events from this number on wait; UINT64_MAX: none do */
};

/* Makes room for `slots` events, and for at least twice `text_reserve` bytes of records. */
int nr_handoff_create(struct nr_handoff *handoff, uint32_t slots, uint32_t slot_size,
                      uint32_t text_reserve);
void nr_handoff_destroy(struct nr_handoff *handoff);

/* Returns the number of free slots, for the producer. */
static inline uint32_t nr_handoff_room(const struct nr_handoff *handoff) {
    return handoff->mask + 1 - (uint32_t)(handoff->head - nr_load_acquire(&handoff->tail));
}

/* Returns the slot for the next event, which the caller fills in place. Returns NULL if the ring is
 * full, and counts the event as lost. */
static inline nr_event *nr_handoff_reserve(struct nr_handoff *handoff) {
    handoff->produced++;
    if (NR_UNLIKELY(nr_handoff_room(handoff) == 0)) {
        handoff->lost++;
        return NULL;
    }
    return (nr_event *)(void *)(handoff->slots +
                                (handoff->head++ & handoff->mask) * handoff->slot_size);
}

/* Makes reserved events visible and wakes the consumer; called once a batch, not once an event. */
void nr_handoff_publish(struct nr_handoff *handoff);

/* Wakes the consumer. */
void nr_handoff_ring(const struct nr_handoff *handoff);

/* Lets the events that are reserved from now on wait until the consumer releases them. */
static inline void nr_handoff_hold(struct nr_handoff *handoff) {
    nr_store_release(&handoff->held_from, handoff->head);
}
/* For the consumer: returns how many events it has to take before those that wait; UINT64_MAX: none
 * wait. */
uint64_t nr_handoff_until_held(const struct nr_handoff *handoff);
/* For the consumer: releases the events that wait. */
static inline void nr_handoff_release(struct nr_handoff *handoff) {
    nr_store_release(&handoff->held_from, UINT64_MAX);
}
/* Wakes both sides after that. */
void nr_handoff_wake(const struct nr_handoff *handoff);

/* Returns the bytes that are free for records, for the producer. */
static inline uint32_t nr_handoff_text_room(const struct nr_handoff *handoff) {
    return handoff->text_mask + 1 -
           (uint32_t)(handoff->text_head - nr_load_acquire(&handoff->text_tail));
}

/* Returns the bytes for records that timers leave to packets. */
static inline uint32_t nr_handoff_text_kept(const struct nr_handoff *handoff) {
    const uint32_t quarter = (handoff->text_mask + 1) / 4;
    return quarter > handoff->text_reserve ? quarter : handoff->text_reserve;
}

/* Gives the event that was reserved last a record of `size` bytes, which nr_handoff_put_text()
 * brings, in any number of parts. Returns false if there is no room: the event then goes without,
 * and that is counted. */
bool nr_handoff_give_text(struct nr_handoff *handoff, nr_event *event, uint32_t size);
void nr_handoff_put_text(struct nr_handoff *handoff, const uint8_t *bytes, uint32_t size);

/* Copies up to max slots to `events`, and their records behind them, as many as fit into `size`
 * bytes. Returns the number of events, and all bytes through *used. */
uint32_t nr_handoff_take(struct nr_handoff *handoff, void *events, uint32_t max, uint32_t size,
                         uint32_t *used);
/* Takes all events that there are, for programs that do not look at them. Both threads are one. */
static inline void nr_handoff_pass_over(struct nr_handoff *handoff) {
    handoff->tail = handoff->head;
    handoff->text_tail = handoff->text_head;
}

#endif
