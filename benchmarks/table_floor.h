/* The floor beside the flow table: parse a frame, hash its five-tuple, count it. */
#ifndef BENCHMARKS_TABLE_FLOOR_H
#define BENCHMARKS_TABLE_FLOOR_H

#include "source/source.h"

struct floor_flow;

struct floor {
    struct floor_flow *slots;
    uint32_t mask;
    uint32_t flows;
};

/* Room for so many flows, with half of the slots left free; slots is NULL without memory. */
struct floor floor_create(uint32_t flows);
void floor_destroy(struct floor *floor);

/* Counts the frames; returns how many of them had a five-tuple. */
uint32_t floor_take(struct floor *floor, const struct nr_frame *frames, uint32_t count);

/* Sums the packets (or the bytes) of all flows, by the end that sent them: the lower one first. */
void floor_sums(const struct floor *floor, uint64_t packets[2], uint64_t bytes[2]);

#endif
