/* The hand-off ring: see handoff.h. */
#include "handoff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int nr_handoff_create(struct nr_handoff *handoff, uint32_t slots, uint32_t slot_size) {
    int error;
    memset(handoff, 0, sizeof *handoff);
    handoff->event_fd = handoff->space_fd = -1;
    handoff->mask = slots - 1;
    handoff->slot_size = slot_size;
    handoff->slots = calloc(slots, slot_size);
    if (handoff->slots == NULL) {
        return -ENOMEM;
    }
    handoff->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    handoff->space_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handoff->event_fd < 0 || handoff->space_fd < 0) {
        error = -errno;
        nr_handoff_destroy(handoff);
        return error;
    }
    return 0;
}

void nr_handoff_destroy(struct nr_handoff *handoff) {
    if (handoff->event_fd >= 0) {
        close(handoff->event_fd);
    }
    if (handoff->space_fd >= 0) {
        close(handoff->space_fd);
    }
    free(handoff->slots);
    memset(handoff, 0, sizeof *handoff);
    handoff->event_fd = handoff->space_fd = -1;
}

/* Signals an eventfd. The write fails only when 2^64 - 2 signals are pending, and the eventfd is
 * readable then as well. */
static void ring_bell(int fd) {
    const uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) {
        return;
    }
}

void nr_handoff_publish(struct nr_handoff *handoff) {
    if (handoff->published == handoff->head) {
        return;
    }
    nr_store_release(&handoff->published, handoff->head);
    ring_bell(handoff->event_fd);
}

uint32_t nr_handoff_take(struct nr_handoff *handoff, void *events, uint32_t max) {
    uint64_t drained;
    /* Drain the bell before reading the ring: events published later ring it again. */
    if (read(handoff->event_fd, &drained, sizeof drained) < 0 && errno != EAGAIN) {
        return 0;
    }
    const uint64_t published = nr_load_acquire(&handoff->published);
    const uint64_t tail = handoff->tail;
    const uint64_t ready = published - tail;
    const uint32_t count = ready < max ? (uint32_t)ready : max;
    const size_t size = handoff->slot_size;
    const uint32_t at = (uint32_t)tail & handoff->mask;
    const uint32_t until_end = handoff->mask + 1 - at;
    const uint32_t front = count < until_end ? count : until_end;
    memcpy(events, handoff->slots + at * size, front * size);
    memcpy((uint8_t *)events + front * size, handoff->slots, (count - front) * size);
    /* Sequentially consistent with the producer's `waiting`: one of the two threads sees the
     * other. */
    __atomic_store_n(&handoff->tail, tail + count, __ATOMIC_SEQ_CST);
    if (count < ready) {
        ring_bell(handoff->event_fd);
    }
    if (count > 0 && __atomic_load_n(&handoff->waiting, __ATOMIC_SEQ_CST)) {
        ring_bell(handoff->space_fd);
    }
    return count;
}
