/* The link layer: reads a frame from its first byte to its network layer.
 *
 * Formats: IEEE 802.3, IEEE 802.11 with radiotap and older headers, RFC 1662 (PPP), Cisco's HDLC,
 * RFC 2427 (frame relay), and the LINKTYPE_ pages of tcpdump.org. A link that is a header in front
 * of something known is a row of HEADERS. */
#include "dissect/cursor.h"

#define SUBFRAME 14 /* header of a frame in an 802.11 aggregate: its stations and length */
#define NFLOG_PAYLOAD 9
#define NFLOG_MAX_ATTRIBUTES 32
#define MAX_LINKS 4 /* headers of links in front of each other */
#define AVS_COOKIE 0x80211000u

#define NLPID_SNAP 0x80
#define NLPID_IPV6 0x8e
#define NLPID_IPV4 0xcc

/* The length of a header: fixed, or in the header. */
enum length { FIXED, PADDED_BYTE, LITTLE_16, LITTLE_32, BIG_32 };
/* The layer behind a header: a link, or the one that the header names. */
enum follows { NOTHING, LINK, NAMED_ETHERTYPE, NAMED_LINKTYPE };

struct header {
    uint8_t size; /* the least, where the header tells its length */
    uint8_t length;
    uint8_t length_at;
    uint8_t follows;
    uint8_t named_at;
    uint8_t link;
    bool has_macs; /* of the receiver and the sender */
    uint8_t macs_at;
};

static const struct header HEADERS[NR_LINK_COUNT] = {
    [NR_LINK_COOKED] = {.size = 16, .follows = NAMED_ETHERTYPE, .named_at = 14},
    [NR_LINK_COOKED2] = {.size = 20, .follows = NAMED_ETHERTYPE, .named_at = 0},
    [NR_LINK_CHDLC] = {.size = 4, .follows = NAMED_ETHERTYPE, .named_at = 2},
    [NR_LINK_IPOIB] = {.size = 44, .follows = NAMED_ETHERTYPE, .named_at = 40},
    [NR_LINK_FIREWIRE] = {.size = 18, .follows = NAMED_ETHERTYPE, .named_at = 16},
    [NR_LINK_DSA] = {.size = 18, .follows = NAMED_ETHERTYPE, .named_at = 16, .has_macs = true},
    [NR_LINK_EDSA] = {.size = 22, .follows = NAMED_ETHERTYPE, .named_at = 20, .has_macs = true},
    [NR_LINK_DSA_PREPENDED] = {.size = 4, .follows = LINK, .link = NR_LINK_ETHERNET},
    [NR_LINK_EPON] = {.size = 8, .follows = LINK, .link = NR_LINK_ETHERNET},
    [NR_LINK_NETANALYZER] = {.size = 4, .follows = LINK, .link = NR_LINK_ETHERNET},
    [NR_LINK_NETANALYZER_TRANSPARENT] = {.size = 12, .follows = LINK, .link = NR_LINK_ETHERNET},
    [NR_LINK_FDDI] =
        {.size = 13, .follows = LINK, .link = NR_LINK_LLC, .has_macs = true, .macs_at = 1},
    [NR_LINK_IP_OVER_FC] = {.size = 16, .follows = LINK, .link = NR_LINK_LLC},
    [NR_LINK_ENC] = {.size = 12, .follows = LINK, .link = NR_LINK_RAW},
    [NR_LINK_SLIP] = {.size = 16, .follows = LINK, .link = NR_LINK_RAW},
    [NR_LINK_IPNET] = {.size = 24, .follows = LINK, .link = NR_LINK_RAW},
    [NR_LINK_PFLOG] = {.size = 4, .length = PADDED_BYTE, .follows = LINK, .link = NR_LINK_RAW},
    [NR_LINK_PPP_PPPD] = {.size = 2, .follows = LINK, .link = NR_LINK_PPP},
    [NR_LINK_PPP_DIRECTED] = {.size = 1, .follows = LINK, .link = NR_LINK_PPP},
    [NR_LINK_CHDLC_DIRECTED] = {.size = 1, .follows = LINK, .link = NR_LINK_CHDLC},
    [NR_LINK_FRAME_RELAY_DIRECTED] = {.size = 1, .follows = LINK, .link = NR_LINK_FRAME_RELAY},
    [NR_LINK_PRISM] = {.size = 144, .follows = LINK, .link = NR_LINK_80211},
    [NR_LINK_AVS] =
        {.size = 8, .length = BIG_32, .length_at = 4, .follows = LINK, .link = NR_LINK_80211},
    [NR_LINK_RADIOTAP] =
        {.size = 8, .length = LITTLE_16, .length_at = 2, .follows = LINK, .link = NR_LINK_80211},
    [NR_LINK_PPI] =
        {.size = 8, .length = LITTLE_16, .length_at = 2, .follows = NAMED_LINKTYPE, .named_at = 4},
    [NR_LINK_PKTAP] = {.size = 12, .length = LITTLE_32, .follows = NAMED_LINKTYPE, .named_at = 8},
};

static inline uint16_t little_16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t little_32(const uint8_t *p) {
    return (uint32_t)little_16(p + 2) << 16 | little_16(p);
}

static uint32_t length_of(const struct header *h, const uint8_t *header) {
    const uint8_t *at = header + h->length_at;
    switch (h->length) {
    case PADDED_BYTE:
        return (at[0] + 3u) & ~3u;
    case LITTLE_16:
        return little_16(at);
    case LITTLE_32:
        return little_32(at);
    case BIG_32:
        return nr_be32(at);
    default:
        return h->size;
    }
}

/* Skips the header of a link, and finds what follows: another link, or *link is NR_LINK_TYPED. */
static int skip_header(struct nr_cursor *c, const struct header *h, struct nr_ends *ends,
                       uint16_t *link, uint16_t *ethertype) {
    if (!nr_has(c, h->size)) {
        return NR_CUT_LINK;
    }
    const uint32_t length = length_of(h, c->at);
    if (length < h->size || !nr_has(c, length)) {
        return NR_CUT_LINK;
    }
    if (h->has_macs) {
        ends->dst_mac = c->at + h->macs_at;
        ends->src_mac = c->at + h->macs_at + 6;
    }
    if (h->follows == NAMED_ETHERTYPE) {
        *ethertype = nr_be16(c->at + h->named_at);
        *link = NR_LINK_TYPED;
    } else {
        *link = h->follows == LINK ? h->link : nr_link_layer(little_32(c->at + h->named_at));
    }
    nr_skip(c, length);
    /* A length in place of the ethertype is told by Ethernet alone. */
    return *link == NR_LINK_TYPED && *ethertype < NR_ETHERTYPE_MIN && !h->has_macs ? NR_NOT_IP
                                                                                   : NR_KEYED;
}

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

/* Skips PPP, or Cisco HDLC, which has other values in the place of address and control. */
static int skip_serial(struct nr_cursor *c, uint16_t *ethertype) {
    if (nr_has(c, 4) && (c->at[0] == 0x0f || c->at[0] == 0x8f) && c->at[1] == 0) {
        *ethertype = nr_be16(c->at + 2);
        nr_skip(c, 4);
        return *ethertype < NR_ETHERTYPE_MIN ? NR_NOT_IP : NR_KEYED;
    }
    return nr_skip_ppp(c, ethertype);
}

/* Skips an address of two to four bytes, and the header of RFC 2427 or Cisco's ethertype. */
static int skip_frame_relay(struct nr_cursor *c, uint16_t *ethertype) {
    uint32_t address = 1;
    while (address < 4 && nr_has(c, address) && !(c->at[address - 1] & 1)) {
        address++;
    }
    if (!nr_has(c, address + 3)) {
        return NR_CUT_LINK;
    }
    nr_skip(c, address);
    if (c->at[0] != NR_PPP_CONTROL) {
        *ethertype = nr_be16(c->at);
        nr_skip(c, 2);
        return *ethertype < NR_ETHERTYPE_MIN ? NR_NOT_IP : NR_KEYED;
    }
    nr_skip(c, c->at[1] == 0 ? 2 : 1); /* with a byte of padding, or without */
    const uint8_t protocol = c->at[0];
    nr_skip(c, 1);
    switch (protocol) {
    case NLPID_IPV4:
        *ethertype = NR_ETHERTYPE_IPV4;
        return NR_KEYED;
    case NLPID_IPV6:
        *ethertype = NR_ETHERTYPE_IPV6;
        return NR_KEYED;
    case NLPID_SNAP: /* three bytes of an organization, then its ethertype */
        if (!nr_has(c, 5)) {
            return NR_CUT_LINK;
        }
        *ethertype = nr_be16(c->at + 3);
        nr_skip(c, 5);
        return *ethertype < NR_ETHERTYPE_MIN ? NR_NOT_IP : NR_KEYED;
    default:
        return NR_NOT_IP;
    }
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
    return nr_skip_snap(c, ethertype);
}

/* Skips the header of a data frame that is not encrypted, and opens the first frame of an
 * aggregate. */
static int skip_80211(struct nr_cursor *c, bool swapped, struct nr_ends *ends,
                      uint16_t *ethertype) {
    if (!nr_has(c, 24)) {
        return NR_CUT_LINK;
    }
    const uint8_t *header = c->at;
    const uint8_t kind = header[swapped], flags = header[!swapped];
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
    return aggregate ? skip_subframe(c, ends, ethertype) : nr_skip_snap(c, ethertype);
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
        const uint32_t length = little_16(c->at), type = little_16(c->at + 2);
        const uint32_t padded = (length + 3) & ~3u;
        if (type == NFLOG_PAYLOAD) {
            nr_skip(c, 4);
            return nr_ethertype_by_version(c, ethertype);
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

static int read_link(struct nr_cursor *c, const struct nr_frame *frame, struct nr_ends *ends,
                     uint16_t *ethertype) {
    uint16_t link = frame->link;
    int reason = NR_KEYED;
    *ethertype = frame->ethertype;
    for (int i = 0; i < MAX_LINKS && reason == NR_KEYED; i++) {
        switch (link) {
        case NR_LINK_ETHERNET:
            return nr_skip_ethernet(c, ends, ethertype);
        case NR_LINK_RAW:
            return nr_ethertype_by_version(c, ethertype);
        case NR_LINK_TYPED:
            return NR_KEYED;
        case NR_LINK_LLC:
            return nr_skip_snap(c, ethertype);
        case NR_LINK_NULL:
            return skip_null(c, ethertype);
        case NR_LINK_PPP:
            return skip_serial(c, ethertype);
        case NR_LINK_FRAME_RELAY:
            return skip_frame_relay(c, ethertype);
        case NR_LINK_PPPOE:
            *ethertype = NR_ETHERTYPE_PPPOE;
            return NR_KEYED;
        case NR_LINK_MPLS:
            *ethertype = NR_ETHERTYPE_MPLS;
            return NR_KEYED;
        case NR_LINK_80211:
        case NR_LINK_80211_SWAPPED:
            return skip_80211(c, link == NR_LINK_80211_SWAPPED, ends, ethertype);
        case NR_LINK_SUBFRAMES:
            return skip_subframe(c, ends, ethertype);
        case NR_LINK_NFLOG:
            return skip_nflog(c, ethertype);
        default:
            break;
        }
        if (link >= NR_LINK_COUNT || HEADERS[link].follows == NOTHING) {
            return NR_UNKNOWN_LINK;
        }
        /* Drivers put either header in front of 802.11. */
        const bool avs =
            link == NR_LINK_PRISM && nr_has(c, 4) && (nr_be32(c->at) & 0xfffff000u) == AVS_COOKIE;
        reason = skip_header(c, &HEADERS[avs ? NR_LINK_AVS : link], ends, &link, ethertype);
    }
    return reason == NR_KEYED ? NR_UNKNOWN_LINK : reason;
}

int nr_decode_link(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                   struct nr_ends *ends, uint16_t *ethertype) {
    key->vlan[0] = key->vlan[1] = NR_NO_VLAN;
    const int reason = read_link(c, frame, ends, ethertype);
    return reason == NR_KEYED ? nr_skip_encapsulations(c, frame, key, ends, ethertype) : reason;
}

bool nr_holds_ip(const struct nr_cursor *c, uint16_t link, uint16_t ethertype) {
    const struct nr_frame frame = {.link = link, .ethertype = ethertype};
    struct nr_cursor copy = *c;
    struct nr_key key;
    struct nr_ends ends = {0};
    uint16_t type;
    return nr_decode_link(&copy, &frame, &key, &ends, &type) == NR_KEYED &&
           nr_looks_like_ip(&copy, type, ends.src_mac == NULL);
}
