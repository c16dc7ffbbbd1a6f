/* The hash of a flow's key: pair-multiply-shift (Thorup, "High Speed Hashing for Integers and
 * Strings", 2015) under a secret that each reader draws. The hash is strongly universal: two keys
 * chosen without the secret collide no more often than chance has it. That holds for pairs only.
 * Keys in a row give hashes in a row, which would crowd neighbouring groups of slots, so a last
 * multiplication scatters all 64 bits. SipHash-1-3, which costs several times as much, only derives
 * the secret. */
#ifndef NR_FLOW_HASH_H
#define NR_FLOW_HASH_H

#include <string.h>

#include "dissect/packet.h"
#include "siphash.h"

#define NR_KEY_PAIRS (sizeof(struct nr_key) / sizeof(uint64_t))

struct nr_hash_secret {
    uint64_t factor[NR_KEY_PAIRS][2];
    uint64_t offset;
};

/* Derives the secret from 16 random bytes. */
static inline void nr_hash_seed(struct nr_hash_secret *secret, const uint8_t seed[16]) {
    uint64_t key[2], word = 0;
    memcpy(key, seed, sizeof key);
    for (size_t i = 0; i < NR_KEY_PAIRS; i++) {
        for (int j = 0; j < 2; j++, word++) {
            secret->factor[i][j] = nr_siphash13(key, &word, 1);
        }
    }
    secret->offset = nr_siphash13(key, &word, 1);
}

static inline uint32_t nr_hash_key(const struct nr_hash_secret *secret, const struct nr_key *key) {
    uint64_t sum = secret->offset;
#pragma GCC unroll 6
    for (size_t i = 0; i < NR_KEY_PAIRS; i++) {
        const uint64_t pair = nr_key_word(key, i);
        sum += (secret->factor[i][0] + (pair >> 32)) * (secret->factor[i][1] + (uint32_t)pair);
    }
    sum ^= sum >> 32;
    sum *= 0x9fb21c651e98df25u;
    return (uint32_t)((sum ^ sum >> 28) >> 32);
}

#endif
