/* Between names.c and names_learn.c. */
#ifndef NR_APP_NAMES_INTERNAL_H
#define NR_APP_NAMES_INTERNAL_H

#include "app/names.h"

/* A name that somebody has told. */
struct nr_told_name {
    const uint8_t *address;
    const uint8_t *asker; /* NULL: it was told to all */
    uint8_t family;
    uint8_t source;
    uint16_t length; /* more than 0 */
    uint8_t text[NR_TEXT_MAX];
    uint64_t ts;
    uint64_t until;
};

void nr_names_take(nr_names *names, const struct nr_told_name *told);

#endif
