/* The link layer: reads a frame from its first byte to its network layer.
 *
 * Formats: IEEE 802.3, 802.1Q and 802.1ad, IEEE 802.11 with radiotap, RFC 3032 (MPLS), RFC 2516
 * (PPPoE), RFC 1662 (PPP), and the LINKTYPE_ pages of tcpdump.org for Linux cooked v1 and v2, null,
 * loopback, raw IP and NFLOG; 802.1ah, VN-tags and FabricPath, which bridges of providers and data
 * centers add. */
#include <string.h>

#include "dissect/cursor.h"

#define MAX_TAGS 8u

#define ETHERTYPE_8021Q NR_ETHERTYPE_8021Q
#define ETHERTYPE_8021AD 0x88a8
#define ETHERTYPE_QINQ_OLD 0x9100
#define ETHERTYPE_MPLS 0x8847
#define ETHERTYPE_MPLS_MULTICAST 0x8848
#define ETHERTYPE_PPPOE 0x8864
#define ETHERTYPE_BACKBONE 0x88e7
#define ETHERTYPE_VNTAG 0x8926
#define ETHERTYPE_FABRICPATH 0x8903
#define SUBFRAME 14 /* header of a frame in an 802.11 aggregate: its stations and length */
#define NFLOG_PAYLOAD 9
#define NFLOG_MAX_ATTRIBUTES 32
#define ETHERTYPE_MIN 0x0600 /* below it, the field is a length */

#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_MPLS 0x0281

static inline bool is_tag(uint16_t ethertype) {
    return ethertype == ETHERTYPE_8021Q || ethertype == ETHERTYPE_8021AD ||
           ethertype == ETHERTYPE_QINQ_OLD;
}

/* Notes the VLAN of a tag, the outermost first. A tag with id 0 has a priority and no VLAN (IEEE
 * 802.1Q). */
static void note_vlan(struct nr_key *key, unsigned *vlans, uint16_t tag) {
    const uint16_t id = tag & 0x0fff;
    if (id != 0 && *vlans < 2) {
        key->vlan[(*vlans)++] = id;
    }
}

/* Tells IPv4 from IPv6 by the first byte. */
static int ethertype_by_version(const struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 1)) {
        return NR_CUT_LINK;
    }
    const uint8_t version = c->at[0] >> 4;
    if (version != 4 && version != 6) {
        return NR_NOT_IP;
    }
    *ethertype = version == 4 ? NR_ETHERTYPE_IPV4 : NR_ETHERTYPE_IPV6;
    return NR_KEYED;
}

static int ethertype_by_ppp(uint16_t protocol, uint16_t *ethertype) {
    switch (protocol) {
    case PPP_IPV4:
        *ethertype = NR_ETHERTYPE_IPV4;
        return NR_KEYED;
    case PPP_IPV6:
        *ethertype = NR_ETHERTYPE_IPV6;
        return NR_KEYED;
    case PPP_MPLS:
        *ethertype = ETHERTYPE_MPLS;
        return NR_KEYED;
    default:
        return NR_NOT_IP;
    }
}

/* Skips LLC with a SNAP header, which names an ethertype. LLC without one may be shorter, and
 * carries no IP. */
static int skip_snap(struct nr_cursor *c, uint16_t *ethertype) {
    static const uint8_t snap[] = {0xaa, 0xaa, 3};
    const uint32_t captured = nr_captured(c);
    if (c->wire < 8 || memcmp(c->at, snap, captured < sizeof snap ? captured : sizeof snap) != 0) {
        return NR_NOT_IP;
    }
    if (!nr_has(c, 8)) {
        return NR_CUT_LINK;
    }
    *ethertype = nr_be16(c->at + 6);
    nr_skip(c, 8);
    return NR_KEYED;
}

static int skip_ethernet(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, 14)) {
        return NR_CUT_LINK;
    }
    if (nr_be16(c->at + 12) == ETHERTYPE_FABRICPATH) { /* of switches, around the stations' frame */
        if (!nr_has(c, 16 + 14)) {
            return NR_CUT_LINK;
        }
        nr_skip(c, 16);
    }
    ends->dst_mac = c->at;
    ends->src_mac = c->at + 6;
    *ethertype = nr_be16(c->at + 12);
    nr_skip(c, 14);
    return NR_KEYED;
}

static int skip_pppoe(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 8)) {
        return NR_CUT_LINK;
    }
    if (c->at[0] != 0x11 || c->at[1] != 0) { /* version and type 1, session data */
        return NR_NOT_IP;
    }
    const uint16_t protocol = nr_be16(c->at + 6);
    nr_skip(c, 8);
    return ethertype_by_ppp(protocol, ethertype);
}

/* Skips the label stack. It does not tell what it carries (RFC 3032): IP, by its version, or
 * Ethernet after a control word, whose first four bits are 0 (RFC 4385). */
static int skip_labels(struct nr_cursor *c, struct nr_ends *ends, unsigned *tags,
                       uint16_t *ethertype) {
    bool bottom = false;
    while (!bottom) {
        if ((*tags)++ == MAX_TAGS) {
            return NR_TOO_MANY_TAGS;
        }
        if (!nr_has(c, 4)) {
            return NR_CUT_LINK;
        }
        bottom = c->at[2] & 1;
        nr_skip(c, 4);
    }
    if (nr_has(c, 4) && c->at[0] >> 4 == 0) {
        nr_skip(c, 4);
        return skip_ethernet(c, ends, ethertype);
    }
    return ethertype_by_version(c, ethertype);
}

/* Skips the service tag of a provider's backbone (802.1ah) and the Ethernet header of the
 * customer's frame after it. */
static int skip_backbone(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, 4)) {
        return NR_CUT_LINK;
    }
    nr_skip(c, 4);
    return skip_ethernet(c, ends, ethertype);
}

/* Skips tags, labels, PPPoE and SNAP in any order, at most MAX_TAGS of them. */
static int walk_ethertypes(struct nr_cursor *c, struct nr_key *key, struct nr_ends *ends,
                           unsigned tags, unsigned vlans, uint16_t *ethertype) {
    int reason = NR_KEYED;
    while (reason == NR_KEYED) {
        if (is_tag(*ethertype)) {
            if (tags++ == MAX_TAGS) {
                return NR_TOO_MANY_TAGS;
            }
            if (!nr_has(c, 4)) {
                return NR_CUT_LINK;
            }
            note_vlan(key, &vlans, nr_be16(c->at));
            *ethertype = nr_be16(c->at + 2);
            nr_skip(c, 4);
        } else if (*ethertype == ETHERTYPE_MPLS || *ethertype == ETHERTYPE_MPLS_MULTICAST) {
            reason = skip_labels(c, ends, &tags, ethertype);
        } else if (*ethertype == ETHERTYPE_PPPOE) {
            reason = skip_pppoe(c, ethertype);
        } else if (*ethertype == ETHERTYPE_BACKBONE) {
            reason = tags++ == MAX_TAGS ? NR_TOO_MANY_TAGS : skip_backbone(c, ends, ethertype);
        } else if (*ethertype == ETHERTYPE_VNTAG) {
            if (tags++ == MAX_TAGS) {
                return NR_TOO_MANY_TAGS;
            }
            if (!nr_has(c, 6)) {
                return NR_CUT_LINK;
            }
            *ethertype = nr_be16(c->at + 4);
            nr_skip(c, 6);
        } else if (*ethertype < ETHERTYPE_MIN) {
            nr_trim(c, *ethertype);
            reason = skip_snap(c, ethertype);
            if (reason == NR_KEYED && *ethertype < ETHERTYPE_MIN) {
                return NR_NOT_IP;
            }
        } else {
            break;
        }
    }
    return reason;
}

/* -- links other than Ethernet -- */

/* Reads the address family of the capturing host, in its byte order: AF_INET is 2 everywhere,
 * AF_INET6 is 10, 24, 28 or 30. */
static int skip_null(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 4)) {
        return NR_CUT_LINK;
    }
    uint32_t family = nr_be32(c->at);
    family = family > 0xffff ? __builtin_bswap32(family) : family;
    nr_skip(c, 4);
    if (family == 2) {
        *ethertype = NR_ETHERTYPE_IPV4;
        return NR_KEYED;
    }
    if (family == 10 || family == 24 || family == 28 || family == 30) {
        *ethertype = NR_ETHERTYPE_IPV6;
        return NR_KEYED;
    }
    return NR_NOT_IP;
}

/* Skips a Linux cooked header of `size` bytes, with the protocol at `at`. */
static int skip_cooked(struct nr_cursor *c, uint32_t size, uint32_t at, uint16_t *ethertype) {
    if (!nr_has(c, size)) {
        return NR_CUT_LINK;
    }
    *ethertype = nr_be16(c->at + at);
    nr_skip(c, size);
    return *ethertype < ETHERTYPE_MIN ? NR_NOT_IP : NR_KEYED;
}

static int skip_ppp(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 4)) {
        return NR_CUT_LINK;
    }
    if (c->at[0] == 0xff && c->at[1] == 0x03) {
        nr_skip(c, 2);
    }
    const uint16_t protocol = nr_be16(c->at);
    nr_skip(c, 2);
    return ethertype_by_ppp(protocol, ethertype);
}

/* Skips the header of a frame in an aggregate, and notes those behind it. Each begins at a multiple
 * of four bytes from the one before. */
static int skip_subframe(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, SUBFRAME)) {
        return NR_CUT_LINK;
    }
    const uint32_t length = nr_be16(c->at + 12);
    const uint32_t next = (SUBFRAME + length + 3) & ~3u;
    if (nr_has(c, next + SUBFRAME)) {
        ends->rest = *c;
        nr_skip(&ends->rest, next);
    }
    ends->dst_mac = c->at;
    ends->src_mac = c->at + 6;
    nr_skip(c, SUBFRAME);
    nr_trim(c, length);
    return skip_snap(c, ethertype);
}

/* Skips the header of a data frame that is not encrypted, and opens the first frame of an
 * aggregate. */
static int skip_80211(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, 24)) {
        return NR_CUT_LINK;
    }
    const uint8_t *header = c->at;
    const uint8_t kind = header[0], flags = header[1];
    const bool to_ds = flags & 0x01, from_ds = flags & 0x02, quality = kind & 0x80;
    if ((kind & 0x0f) != 0x08 || kind & 0x40 || flags & 0x40) {
        return NR_NOT_IP; /* not data, without data, or encrypted */
    }
    uint32_t size = 24 + (to_ds && from_ds ? 6 : 0);
    const uint32_t control = size;
    size += (quality ? 2 : 0) + (quality && flags & 0x80 ? 4 : 0);
    if (!nr_has(c, size)) {
        return NR_CUT_LINK;
    }
    const bool aggregate = quality && header[control] & 0x80;
    ends->dst_mac = header + (to_ds ? 16 : 4);
    ends->src_mac = header + (from_ds ? (to_ds ? 24 : 16) : 10);
    nr_skip(c, size);
    return aggregate ? skip_subframe(c, ends, ethertype) : skip_snap(c, ethertype);
}

static int skip_radiotap(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, 8)) {
        return NR_CUT_LINK;
    }
    const uint32_t length = (uint32_t)c->at[2] | (uint32_t)c->at[3] << 8;
    if (length < 8 || !nr_has(c, length)) {
        return NR_CUT_LINK;
    }
    nr_skip(c, length);
    return skip_80211(c, ends, ethertype);
}

/* Skips netlink attributes up to the one that is the packet; their numbers are little endian. */
static int skip_nflog(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 4)) {
        return NR_CUT_LINK;
    }
    const bool known = c->at[1] == 0;
    nr_skip(c, 4);
    for (int i = 0; known && i < NFLOG_MAX_ATTRIBUTES; i++) {
        if (!nr_has(c, 4)) {
            return NR_CUT_LINK;
        }
        const uint32_t length = (uint32_t)c->at[0] | (uint32_t)c->at[1] << 8;
        const uint32_t type = (uint32_t)c->at[2] | (uint32_t)c->at[3] << 8;
        const uint32_t padded = (length + 3) & ~3u;
        if (type == NFLOG_PAYLOAD) {
            nr_skip(c, 4);
            return ethertype_by_version(c, ethertype);
        }
        if (length < 4) {
            return NR_NOT_IP;
        }
        if (!nr_has(c, padded)) {
            return NR_CUT_LINK;
        }
        nr_skip(c, padded);
    }
    return NR_NOT_IP;
}

int nr_decode_link(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                   struct nr_ends *ends, uint16_t *ethertype) {
    const unsigned tags = frame->vlan_tpid != 0 ? 1 : 0;
    unsigned vlans = 0;
    int reason;
    key->vlan[0] = key->vlan[1] = NR_NO_VLAN;
    if (tags > 0) {
        note_vlan(key, &vlans, frame->vlan_tci);
    }
    switch (frame->link) {
    case NR_LINK_ETHERNET:
        reason = skip_ethernet(c, ends, ethertype);
        break;
    case NR_LINK_RAW:
        return ethertype_by_version(c, ethertype);
    case NR_LINK_NULL:
        return skip_null(c, ethertype);
    case NR_LINK_COOKED:
        reason = skip_cooked(c, 16, 14, ethertype);
        break;
    case NR_LINK_COOKED2:
        reason = skip_cooked(c, 20, 0, ethertype);
        break;
    case NR_LINK_PPP:
        reason = skip_ppp(c, ethertype);
        break;
    case NR_LINK_NFLOG:
        return skip_nflog(c, ethertype);
    case NR_LINK_80211:
        reason = skip_80211(c, ends, ethertype);
        break;
    case NR_LINK_SUBFRAMES:
        reason = skip_subframe(c, ends, ethertype);
        break;
    case NR_LINK_RADIOTAP:
        reason = skip_radiotap(c, ends, ethertype);
        break;
    default:
        return NR_UNKNOWN_LINK;
    }
    if (reason == NR_KEYED) {
        reason = walk_ethertypes(c, key, ends, tags, vlans, ethertype);
    }
    if (reason == NR_KEYED && *ethertype != NR_ETHERTYPE_IPV4 && *ethertype != NR_ETHERTYPE_IPV6) {
        reason = NR_NOT_IP;
    }
    return reason;
}
