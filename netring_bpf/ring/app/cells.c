/* The store of records: see cells.h. */
#include "app/cells.h"

#define FIRST ((uint32_t)(NR_CELL_BYTES - sizeof(struct nr_cell_head)))

static struct nr_cell *cell_at(const struct nr_cells *c, uint32_t number) {
    return &c->cells[number - 1];
}

static uint32_t cells_for(uint32_t size) {
    return size <= FIRST ? 1 : 1 + (size - FIRST + NR_CELL_BYTES - 1) / NR_CELL_BYTES;
}

static uint32_t take_cell(struct nr_cells *c) {
    const uint32_t number = c->free != 0 ? c->free : ++c->fresh;
    if (c->free != 0) {
        c->free = cell_at(c, number)->next;
    }
    c->used++;
    return number;
}

/* Copies at most a cell. Both ends overlap in the middle; libc's function, which looks at the size
 * more closely, is slower for so few bytes. */
static inline void copy_part(uint8_t *out, const uint8_t *bytes, uint32_t size) {
    enum { HALF = 32, QUARTER = 16 };
    if (size >= HALF) {
        memcpy(out, bytes, HALF);
        memcpy(out + size - HALF, bytes + size - HALF, HALF);
    } else if (size >= QUARTER) {
        memcpy(out, bytes, QUARTER);
        memcpy(out + size - QUARTER, bytes + size - QUARTER, QUARTER);
    } else {
        memcpy(out, bytes, size);
    }
}

uint32_t nr_cells_put(struct nr_cells *c, const uint8_t *record, uint32_t size, uint8_t protocol) {
    if (cells_for(size) > c->count - c->used) {
        return 0;
    }
    const struct nr_cell_head head = {.size = (uint16_t)size, .protocol = protocol};
    const uint32_t first = take_cell(c);
    struct nr_cell *cell = cell_at(c, first);
    uint8_t *at = cell->bytes + sizeof head;
    memcpy(cell->bytes, &head, sizeof head);
    for (uint32_t room = FIRST; size > room; room = NR_CELL_BYTES) {
        copy_part(at, record, room);
        record += room;
        size -= room;
        cell->next = take_cell(c);
        cell = cell_at(c, cell->next);
        at = cell->bytes;
    }
    copy_part(at, record, size);
    cell->next = 0;
    return first;
}

void nr_cells_free(struct nr_cells *c, uint32_t record) {
    uint32_t last = record;
    c->used--;
    while (cell_at(c, last)->next != 0) {
        last = cell_at(c, last)->next;
        c->used--;
    }
    cell_at(c, last)->next = c->free;
    c->free = record;
}

struct nr_cell_head nr_cells_head(const struct nr_cells *c, uint32_t record) {
    struct nr_cell_head head;
    memcpy(&head, cell_at(c, record)->bytes, sizeof head);
    return head;
}

void nr_cells_set_count(struct nr_cells *c, uint32_t record, uint32_t count) {
    struct nr_cell_head head = nr_cells_head(c, record);
    head.count = count;
    memcpy(cell_at(c, record)->bytes, &head, sizeof head);
}

void nr_cells_prefetch(const struct nr_cells *c, uint32_t record) {
    for (uint32_t n = 0; n < NR_CELLS_A_FLOW; n++) {
        __builtin_prefetch(cell_at(c, record + n), 1);
    }
}

uint32_t nr_cells_copy(const struct nr_cells *c, uint32_t record, uint8_t *out) {
    const uint32_t size = nr_cells_head(c, record).size;
    const struct nr_cell *cell = cell_at(c, record);
    const uint8_t *at = cell->bytes + sizeof(struct nr_cell_head);
    uint32_t left = size;
    for (uint32_t room = FIRST; left > room; room = NR_CELL_BYTES) {
        copy_part(out, at, room);
        out += room;
        left -= room;
        cell = cell_at(c, cell->next);
        at = cell->bytes;
    }
    copy_part(out, at, left);
    return size;
}
