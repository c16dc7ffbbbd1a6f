/* The pool of chunks: see pool.h. */
#include "app/pool.h"

#include <sys/mman.h>

bool nr_pool_create(struct nr_pool *pool, uint64_t size) {
    const uint64_t count = size / NR_CHUNK < UINT32_MAX ? size / NR_CHUNK : UINT32_MAX - 1;
    *pool = (struct nr_pool){.count = (uint32_t)count};
    if (count == 0) {
        return true;
    }
    void *at = mmap(NULL, count * NR_CHUNK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pool->chunks = at != MAP_FAILED ? at : NULL;
    return pool->chunks != NULL;
}

void nr_pool_destroy(struct nr_pool *pool) {
    if (pool->chunks != NULL) {
        munmap(pool->chunks, (size_t)pool->count * NR_CHUNK);
    }
    *pool = (struct nr_pool){0};
}

uint32_t nr_pool_take(struct nr_pool *pool) {
    uint32_t chunk = pool->free;
    if (chunk != 0) {
        memcpy(&pool->free, nr_chunk_at(pool, chunk), sizeof pool->free);
    } else if (pool->fresh < pool->count) {
        chunk = ++pool->fresh;
    } else {
        return 0;
    }
    pool->used++;
    return chunk;
}

void nr_pool_give(struct nr_pool *pool, uint32_t chunk) {
    memcpy(nr_chunk_at(pool, chunk), &pool->free, sizeof pool->free);
    pool->free = chunk;
    pool->used--;
}
