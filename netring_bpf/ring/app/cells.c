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

/* Copies what is in a cell. libc's function is slower for so few bytes. */
static inline void copy_part(uint8_t *out, const uint8_t *bytes, uint32_t size) {
    enum { STEP = 16 };
    if (size < STEP) {
        memcpy(out, bytes, size);
        return;
    }
    for (uint32_t at = 0; at < size - STEP; at += STEP) {
        memcpy(out + at, bytes + at, STEP);
    }
    memcpy(out + size - STEP, bytes + size - STEP, STEP);
}

uint32_t nr_cells_put(struct nr_cells *c, const uint8_t *record, uint32_t size, uint8_t protocol) {
    if (cells_for(size) > c->count - c->used) {
        return 0;
    }
    const struct nr_cell_head head = {.size = (uint16_t)size, .protocol = protocol};
    const uint32_t first = take_cell(c);
    struct nr_cell *cell = cell_at(c, first);
    const uint32_t part = size < FIRST ? size : FIRST;
    memcpy(cell->bytes, &head, sizeof head);
    copy_part(cell->bytes + sizeof head, record, part);
    for (record += part, size -= part; size > 0;) {
        const uint32_t more = size < NR_CELL_BYTES ? size : NR_CELL_BYTES;
        cell->next = take_cell(c);
        cell = cell_at(c, cell->next);
        copy_part(cell->bytes, record, more);
        record += more;
        size -= more;
    }
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
    uint32_t part = size < FIRST ? size : FIRST;
    copy_part(out, cell->bytes + sizeof(struct nr_cell_head), part);
    for (uint32_t done = part; done < size; done += part) {
        cell = cell_at(c, cell->next);
        part = size - done < NR_CELL_BYTES ? size - done : NR_CELL_BYTES;
        copy_part(out + done, cell->bytes, part);
    }
    return size;
}
