/* A store of records, in cells of 64 bytes that are chained. There are a few for each flow; a page
 * of them takes memory once a record was put there. */
#ifndef NR_APP_CELLS_H
#define NR_APP_CELLS_H

#include "app/record.h"

#define NR_CELLS_A_FLOW 4u
#define NR_CELL_BYTES 60u

struct nr_cell {
    uint32_t next; /* number of the record's next cell, or of the next free one; 0: none */
    uint8_t bytes[NR_CELL_BYTES];
};
_Static_assert(sizeof(struct nr_cell) == 64, "one cache line");

/* In front of a record, in its first cell. */
struct nr_cell_head {
    uint32_t count; /* exchanges of the flow, if this is its first */
    uint16_t size;
    uint8_t protocol;
    uint8_t zero;
};

struct nr_cells {
    struct nr_cell *cells; /* the owner maps them, and may move them to make more */
    uint32_t count;
    uint32_t fresh, free; /* as in pool.h */
    uint32_t used;
};

/* Stores a record. Returns its number, from 1 on; 0: there is no room. */
uint32_t nr_cells_put(struct nr_cells *cells, const uint8_t *record, uint32_t size,
                      uint8_t protocol);
void nr_cells_free(struct nr_cells *cells, uint32_t record);
struct nr_cell_head nr_cells_head(const struct nr_cells *cells, uint32_t record);
void nr_cells_set_count(struct nr_cells *cells, uint32_t record, uint32_t count);
/* Prefetches a record. Most often its cells lie side by side. */
void nr_cells_prefetch(const struct nr_cells *cells, uint32_t record);
/* Copies a record to `out`, which has room for NR_RECORD_SIZE bytes. Returns its size. */
uint32_t nr_cells_copy(const struct nr_cells *cells, uint32_t record, uint8_t *out);

#endif
