/* Chunks of memory from one pool of fixed size, mapped when the reader opens. A page takes memory
 * once a chunk of it was used. */
#ifndef NR_APP_POOL_H
#define NR_APP_POOL_H

#include "core.h"

#define NR_CHUNK 1024u

struct nr_pool {
    uint8_t *chunks;
    uint32_t count;
    uint32_t fresh; /* the first chunk never used */
    uint32_t free;  /* freed chunks, chained through their first bytes; 0: none */
    uint32_t used;
};

/* Returns false if memory runs out. */
bool nr_pool_create(struct nr_pool *pool, uint64_t size);
void nr_pool_destroy(struct nr_pool *pool);

/* Returns the number of a chunk, from 1 on; 0: the pool is empty. */
uint32_t nr_pool_take(struct nr_pool *pool);
void nr_pool_give(struct nr_pool *pool, uint32_t chunk);

static inline uint8_t *nr_chunk_at(const struct nr_pool *pool, uint32_t chunk) {
    return pool->chunks + (size_t)(chunk - 1) * NR_CHUNK;
}

#endif
