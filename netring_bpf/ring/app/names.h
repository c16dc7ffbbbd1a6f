/* The names of addresses, as traffic tells them: a table of fixed size that all readers of a
 * capture share. Each reader's thread learns and looks up; nothing is allocated after the
 * beginning, and no call waits for another for more than a moment.
 *
 * A name belongs to an address and to the protocol that told it. Beside that, the table knows which
 * name an asker used last for an address. Both parts are sets of a few ways, chosen by a keyed
 * hash; the least recently used of a set makes room. */
#ifndef NR_APP_NAMES_H
#define NR_APP_NAMES_H

#include "app/record.h"

#define NR_NAMES_LEAST (UINT64_C(600) * 1000000000u)  /* ns that a name holds at least */
#define NR_NAMES_MOST (UINT64_C(86400) * 1000000000u) /* and at most */

/* An exchange as the table looks at it. Addresses are those of nr_event. */
struct nr_exchange {
    const uint8_t *orig;
    const uint8_t *resp;
    const uint8_t *record;
    uint32_t size;
    uint8_t family; /* 4 or 6 */
    uint8_t protocol;
    uint64_t ts;
};

struct nr_name {
    uint8_t source; /* NR_APP_* */
    uint16_t length;
    uint8_t text[NR_TEXT_MAX];
};

/* Learns the names that an exchange tells. */
void nr_names_learn(nr_names *names, const struct nr_exchange *exchange);
/* Finds the name that `asker` (NULL: unknown) used last for an address of the same family, or else
 * the one that anybody did. */
bool nr_names_find(nr_names *names, uint8_t family, const uint8_t *asker, const uint8_t *address,
                   uint64_t ts, struct nr_name *name);

#endif
