/* ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861). A sender that has no address yet
 * only probes one, and tells nothing. */
#include "app/neighbours.h"

#include "dissect/cursor.h"

enum { ARP = 28, ARP_SENDER = 8, ARP_SENDER_IP = 14, ARP_TARGET_IP = 24 };
enum { ARP_REQUEST = 1, ARP_REPLY = 2, HARDWARE_ETHERNET = 1, HARDWARE_802 = 6 };

enum { IPV6 = 40, NEXT_HEADER = 6, HOP_LIMIT = 7, SRC = 8, DST = 24 };
enum { ROUTER_SOLICITATION = 133, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT };
enum { OPTION_SOURCE = 1, OPTION_TARGET = 2, OPTION_PREFIX = 3, OPTIONS_MAX = 64 };
enum { PREFIX = 32, PREFIX_ADDRESS = 16, ON_LINK = 0x80 };

static bool is_zero(const uint8_t *bytes, size_t size) {
    static const uint8_t none[16];
    return memcmp(bytes, none, size) == 0;
}

/* Returns whether a single station has this address. */
static bool is_station(const uint8_t mac[6]) {
    return !(mac[0] & 1) && !is_zero(mac, 6);
}

/* Returns whether a host may have this address: not 0.0.0.0/8, loopback, multicast and above. */
static bool is_host4(const uint8_t ip[4]) {
    return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

/* The same of IPv6: neither unspecified, nor loopback, nor multicast. */
static bool is_host6(const uint8_t ip[16]) {
    return ip[0] != 0xff && !(is_zero(ip, 15) && ip[15] <= 1);
}

static bool is_link_local(const uint8_t ip[16]) {
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

static void put(struct nr_neighbour *out, uint8_t family, const uint8_t *address,
                const uint8_t *mac, uint8_t how) {
    memset(out, 0, sizeof *out);
    memcpy(out->address, address, family == 4 ? 4 : 16);
    memcpy(out->mac, mac, sizeof out->mac);
    out->family = family;
    out->how = how;
}

static uint32_t read_arp(const uint8_t *arp, uint32_t length, struct nr_neighbour *out) {
    if (length < ARP || (nr_be16(arp) != HARDWARE_ETHERNET && nr_be16(arp) != HARDWARE_802) ||
        nr_be16(arp + 2) != NR_ETHERTYPE_IPV4 || arp[4] != 6 || arp[5] != 4) {
        return 0;
    }
    const uint16_t operation = nr_be16(arp + 6);
    if ((operation != ARP_REQUEST && operation != ARP_REPLY) || !is_station(arp + ARP_SENDER) ||
        !is_host4(arp + ARP_SENDER_IP)) {
        return 0;
    }
    const bool is_announced = memcmp(arp + ARP_SENDER_IP, arp + ARP_TARGET_IP, 4) == 0;
    put(out, 4, arp + ARP_SENDER_IP, arp + ARP_SENDER,
        is_announced               ? NR_HOW_ARP_ANNOUNCED
        : operation == ARP_REQUEST ? NR_HOW_ARP_REQUEST
                                   : NR_HOW_ARP_REPLY);
    return 1;
}

/* The options of a message, of which each kind is asked for alone. */
struct options {
    const uint8_t *at;
    uint32_t length;
};

/* Returns whether all options are whole. One of length 0 makes the message invalid. */
static bool are_whole(const struct options *options) {
    uint32_t at = 0;
    for (int n = 0; n < OPTIONS_MAX && at + 2 <= options->length; n++) {
        const uint32_t size = options->at[at + 1] * 8u;
        if (size == 0 || size > options->length - at) {
            return false;
        }
        at += size;
    }
    return at == options->length;
}

/* Returns the next option of this kind and size, from *at on; NULL: there is none. */
static const uint8_t *next_option(const struct options *options, uint8_t kind, uint32_t size,
                                  uint32_t *at) {
    while (*at < options->length) {
        const uint8_t *option = options->at + *at;
        *at += option[1] * 8u;
        if (option[0] == kind && option[1] * 8u == size) {
            return option;
        }
    }
    return NULL;
}

/* Returns the station that an option names; NULL: none does. */
static const uint8_t *station_of(const struct options *options, uint8_t kind) {
    uint32_t at = 0;
    const uint8_t *option = next_option(options, kind, 8, &at);
    return option != NULL && is_station(option + 2) ? option + 2 : NULL;
}

/* Puts the part of a prefix that counts. */
static void put_prefix(struct nr_neighbour *out, const uint8_t *option, const uint8_t *router) {
    const uint32_t bits = option[2];
    put(out, 6, option + PREFIX_ADDRESS, router, NR_HOW_PREFIX);
    out->prefix_length = option[2];
    for (uint32_t n = 0; n < 16; n++) {
        const uint32_t kept = bits > n * 8 ? bits - n * 8 : 0;
        out->address[n] &= (uint8_t)(kept >= 8 ? 0xff : 0xff00 >> kept);
    }
}

/* The sender, unless its time as a router is over, and the prefixes that are on the link. */
static uint32_t read_router(const uint8_t *ip, const uint8_t *icmp, const struct options *options,
                            const uint8_t *src_mac, struct nr_neighbour *found) {
    const uint8_t *router = station_of(options, OPTION_SOURCE), *option;
    uint32_t count = 0, at = 0;
    router = router != NULL ? router : src_mac;
    if (!is_link_local(ip + SRC) || router == NULL || !is_station(router)) {
        return 0;
    }
    const bool is_router = nr_be16(icmp + 6) != 0;
    put(&found[count++], 6, ip + SRC, router, is_router ? NR_HOW_ROUTER : NR_HOW_NDP_ADVERTISED);
    while (count < NR_NEIGHBOURS_MAX &&
           (option = next_option(options, OPTION_PREFIX, PREFIX, &at)) != NULL) {
        if (option[2] <= 128 && option[3] & ON_LINK && nr_be32(option + 4) != 0 &&
            !is_link_local(option + PREFIX_ADDRESS) && is_host6(option + PREFIX_ADDRESS)) {
            put_prefix(&found[count++], option, router);
        }
    }
    return count;
}

/* The sender of a solicitation, or the target of an advertisement, if an option names its station.
 */
static uint32_t read_neighbour(const uint8_t *ip, const uint8_t *icmp,
                               const struct options *options, struct nr_neighbour *out) {
    const bool is_advertised = icmp[0] == ADVERTISEMENT;
    const uint8_t *address = is_advertised ? icmp + 8 : ip + SRC;
    const uint8_t *mac = station_of(options, is_advertised ? OPTION_TARGET : OPTION_SOURCE);
    if (mac == NULL || !is_host6(address)) {
        return 0;
    }
    put(out, 6, address, mac, is_advertised ? NR_HOW_NDP_ADVERTISED : NR_HOW_NDP_SOLICITED);
    return 1;
}

static uint32_t read_ndp(const uint8_t *ip, uint32_t length, const uint8_t *src_mac,
                         struct nr_neighbour found[NR_NEIGHBOURS_MAX]) {
    static const uint8_t sizes[] = {8, 16, 24, 24}; /* from ROUTER_SOLICITATION on */
    if (length < IPV6 + 8 || ip[0] >> 4 != 6 || ip[NEXT_HEADER] != NR_PROTO_ICMP6 ||
        ip[HOP_LIMIT] != UINT8_MAX) {
        return 0;
    }
    const uint8_t *icmp = ip + IPV6;
    const uint32_t size = nr_be16(ip + 4);
    const struct nr_ends ends = {.src_h = ip + SRC, .dst_h = ip + DST};
    if (icmp[0] < ROUTER_SOLICITATION || icmp[0] > ADVERTISEMENT || icmp[1] != 0 ||
        size > length - IPV6 || size < sizes[icmp[0] - ROUTER_SOLICITATION] ||
        !nr_checksum_is_right_with(&ends, 6, NR_PROTO_ICMP6, icmp, size)) {
        return 0;
    }
    const uint32_t head = sizes[icmp[0] - ROUTER_SOLICITATION];
    const struct options options = {icmp + head, size - head};
    if (!are_whole(&options)) {
        return 0;
    }
    return icmp[0] == ROUTER_ADVERTISEMENT ? read_router(ip, icmp, &options, src_mac, found)
                                           : read_neighbour(ip, icmp, &options, found);
}

uint32_t nr_neighbours_read(const uint8_t *packet, uint32_t length, uint16_t ethertype,
                            const uint8_t *src_mac, struct nr_neighbour found[NR_NEIGHBOURS_MAX]) {
    switch (ethertype) {
    case NR_ETHERTYPE_ARP:
        return read_arp(packet, length, found);
    case NR_ETHERTYPE_IPV6:
        return read_ndp(packet, length, src_mac, found);
    default:
        return 0;
    }
}
