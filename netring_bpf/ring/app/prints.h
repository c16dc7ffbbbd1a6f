/* The fingerprints of TLS clients seen of late. A client sends much the same hello again and again,
 * and digests cost more than all else that is read of it. */
#ifndef NR_APP_PRINTS_H
#define NR_APP_PRINTS_H

#include "core.h"

#define NR_PRINTS 512u /* a power of two */
enum { NR_JA4_SIZE = 36, NR_JA3_SIZE = 32 };

struct nr_print {
    uint64_t key; /* 0: there is none */
    char ja4[NR_JA4_SIZE];
    char ja3[NR_JA3_SIZE];
    bool has_ja3;
};

struct nr_prints {
    uint64_t secret[2]; /* so that a sender cannot make a hello of the same key as another's */
    struct nr_print print[NR_PRINTS];
};

struct nr_hello;
/* Returns the key of all in a ClientHello that its fingerprints are made of; 0: it is too long. */
uint64_t nr_prints_key(const struct nr_prints *prints, const struct nr_hello *hello,
                       char transport);
static inline struct nr_print *nr_prints_at(struct nr_prints *prints, uint64_t key) {
    return &prints->print[key % NR_PRINTS];
}

#endif
