/* The addresses of a link's stations, as ARP and IPv6 neighbour discovery tell them. */
#ifndef NR_APP_NEIGHBOURS_H
#define NR_APP_NEIGHBOURS_H

#include "core.h"

struct nr_neighbour {
    uint8_t address[16]; /* IPv4 in the first four bytes */
    uint8_t mac[6];
    uint8_t family;
    uint8_t how;           /* NR_HOW_* */
    uint8_t prefix_length; /* NR_HOW_PREFIX only */
};

#define NR_NEIGHBOURS_MAX 4u /* of one packet: a router, and three prefixes */

/* Reads a packet of this ethertype from its ARP or IPv6 header on; `src_mac` is the sender of its
 * frame, or NULL. Returns how many neighbours it tells; 0 if it is nothing of the kind, is cut, or
 * breaks a rule of its protocol. Pure. */
uint32_t nr_neighbours_read(const uint8_t *packet, uint32_t length, uint16_t ethertype,
                            const uint8_t *src_mac, struct nr_neighbour found[NR_NEIGHBOURS_MAX]);

#endif
