/* Compares the index of keys (slots.h) with the plainest model of it, also where all keys share one
 * hash, so that more flows pass a group than its counts can tell.
 *
 *     slots FLOWS HASHES STEPS
 *
 * Adds and removes keys at random, each of one of HASHES hashes. Looks for one key after each step,
 * and for all keys at the end. Prints the highest count seen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/slots.h"

static uint64_t state = 88172645463325252u;

static uint32_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* Neighbouring hashes share a group, and differ in the bits that select its count. */
static uint32_t hash_of(uint32_t i, uint32_t hashes) {
    return i % hashes;
}

static void expect_flow(const struct nr_table *t, uint32_t i, uint32_t hash, bool present) {
    const struct nr_key key = {.low_h = {1}, .network = i};
    if (nr_slots_find(t, hash, &key) != (present ? i : NIL)) {
        printf("flow %u: %s\n", i, present ? "not found" : "found");
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    const uint32_t flows = (uint32_t)atol(argv[1]), hashes = (uint32_t)atol(argv[2]);
    struct nr_table t = {.slot_groups = nr_slot_groups(flows)};
    bool *present = calloc(flows, sizeof *present);
    uint8_t fullest = 0;
    t.flows = calloc(flows, sizeof *t.flows);
    t.slots = calloc(t.slot_groups, sizeof *t.slots);
    for (uint32_t i = 0; i < flows; i++) {
        t.flows[i].key = (struct nr_key){.low_h = {1}, .network = i};
    }
    for (long left = atol(argv[3]); left > 0; left--) {
        const uint32_t i = next_random() % flows, other = next_random() % flows;
        (present[i] ? nr_slots_remove : nr_slots_add)(&t, hash_of(i, hashes), i);
        present[i] = !present[i];
        fullest =
            *nr_slots_passed(&t.slots[0], 0) > fullest ? *nr_slots_passed(&t.slots[0], 0) : fullest;
        expect_flow(&t, other, hash_of(other, hashes), present[other]);
    }
    for (uint32_t i = 0; i < flows; i++) {
        expect_flow(&t, i, hash_of(i, hashes), present[i]);
        if (present[i]) {
            nr_slots_remove(&t, hash_of(i, hashes), i);
        }
        expect_flow(&t, i, hash_of(i, hashes), false);
    }
    for (uint32_t g = 0; g < t.slot_groups; g++) {
        for (uint32_t n = 0; n < NR_SLOTS; n++) {
            if (t.slots[g].flow[n] != 0) {
                printf("group %u is not empty\n", g);
                return 1;
            }
        }
    }
    printf("%u\n", fullest);
    free(t.flows);
    free(t.slots);
    free(present);
    return 0;
}
