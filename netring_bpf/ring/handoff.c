/* The hand-off ring: see handoff.h. */
#include "handoff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TEXT_A_SLOT 128u /* bytes of records for each slot; most events have none */

int nr_handoff_create(struct nr_handoff *handoff, uint32_t slots, uint32_t slot_size,
                      uint32_t text_reserve) {
    uint32_t text_size = slots * TEXT_A_SLOT;
    int error;
    memset(handoff, 0, sizeof *handoff);
    handoff->event_fd = handoff->space_fd = -1;
    handoff->mask = slots - 1;
    handoff->slot_size = slot_size;
    handoff->held_from = UINT64_MAX;
    handoff->slots = calloc(slots, slot_size);
    while (text_size < 2 * text_reserve) {
        text_size *= 2;
    }
    handoff->text_reserve = text_reserve;
    handoff->text_pause = UINT64_MAX;
    handoff->text_mask = text_size - 1;
    handoff->texts = calloc(1, text_size);
    if (handoff->slots == NULL || handoff->texts == NULL) {
        nr_handoff_destroy(handoff);
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
    free(handoff->texts);
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

void nr_handoff_ring(const struct nr_handoff *handoff) {
    ring_bell(handoff->event_fd);
}

uint64_t nr_handoff_until_held(const struct nr_handoff *handoff) {
    const uint64_t held_from = nr_load_acquire(&handoff->held_from);
    return held_from != UINT64_MAX ? held_from - handoff->tail : UINT64_MAX;
}

void nr_handoff_wake(const struct nr_handoff *handoff) {
    ring_bell(handoff->event_fd);
    if (__atomic_load_n(&handoff->waiting, __ATOMIC_SEQ_CST)) {
        ring_bell(handoff->space_fd);
    }
}

bool nr_handoff_give_text(struct nr_handoff *handoff, nr_event *event, uint32_t size) {
    if (NR_UNLIKELY(nr_handoff_text_room(handoff) < size)) {
        handoff->texts_lost++;
        return false;
    }
    event->app_size = size;
    return true;
}

void nr_handoff_put_text(struct nr_handoff *handoff, const uint8_t *bytes, uint32_t size) {
    const uint32_t at = (uint32_t)handoff->text_head & handoff->text_mask;
    const uint32_t until_end = handoff->text_mask + 1 - at;
    const uint32_t front = size < until_end ? size : until_end;
    memcpy(handoff->texts + at, bytes, front);
    memcpy(handoff->texts, bytes + front, size - front);
    handoff->text_head += size;
}

static const nr_event *slot_at(const struct nr_handoff *handoff, uint64_t number) {
    const size_t at = (size_t)(number & handoff->mask) * handoff->slot_size;
    return (const nr_event *)(const void *)(handoff->slots + at);
}

/* Returns how many of the next events fit with their records into `size` bytes, and the bytes of
 * the records. */
static uint32_t count_fitting(const struct nr_handoff *handoff, uint64_t tail, uint32_t most,
                              uint32_t size, uint32_t *text) {
    uint32_t count = 0;
    uint64_t all = 0, texts = 0;
    for (; count < most; count++) {
        const uint32_t more = slot_at(handoff, tail + count)->app_size;
        all += handoff->slot_size + more;
        if (all > size) {
            break;
        }
        texts += more;
    }
    *text = (uint32_t)texts;
    return count;
}

/* Tells each event where its record is, as seen from the first event. */
static void place_texts(uint8_t *events, uint32_t count, uint32_t slot_size) {
    uint32_t at = count * slot_size;
    for (uint32_t n = 0; n < count; n++) {
        nr_event *event = (nr_event *)(void *)(events + (size_t)n * slot_size);
        event->app_at = event->app_size > 0 ? at : 0;
        at += event->app_size;
    }
}

/* Copies bytes of a ring that begin at `at`. */
static void copy_out(uint8_t *out, const uint8_t *ring, size_t ring_size, size_t at, size_t size) {
    const size_t until_end = ring_size - at;
    const size_t front = size < until_end ? size : until_end;
    memcpy(out, ring + at, front);
    memcpy(out + front, ring, size - front);
}

uint32_t nr_handoff_take(struct nr_handoff *handoff, void *events, uint32_t max, uint32_t size,
                         uint32_t *used) {
    uint64_t drained;
    *used = 0;
    /* Drain the bell before reading the ring: events published later ring it again. */
    if (read(handoff->event_fd, &drained, sizeof drained) < 0 && errno != EAGAIN) {
        return 0;
    }
    const uint64_t published = nr_load_acquire(&handoff->published);
    const uint64_t tail = handoff->tail;
    const uint64_t until_held = nr_handoff_until_held(handoff);
    const uint64_t ready = published - tail < until_held ? published - tail : until_held;
    uint32_t text;
    const uint32_t count =
        count_fitting(handoff, tail, ready < max ? (uint32_t)ready : max, size, &text);
    const size_t slots = (size_t)count * handoff->slot_size;
    const size_t ring_size = (size_t)(handoff->mask + 1) * handoff->slot_size;
    copy_out(events, handoff->slots, ring_size, (size_t)(tail & handoff->mask) * handoff->slot_size,
             slots);
    copy_out((uint8_t *)events + slots, handoff->texts, (size_t)handoff->text_mask + 1,
             handoff->text_tail & handoff->text_mask, text);
    place_texts(events, count, handoff->slot_size);
    *used = (uint32_t)slots + text;
    nr_store_release(&handoff->text_tail, handoff->text_tail + text);
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
