/* Encapsulations: steps over what stands between a link header and the network layer.
 *
 * Formats: IEEE 802.3, 802.1Q and 802.1ad, 802.1ah and 802.1BR, 802.1AE without encryption, IEC
 * 62439-3 (HSR), RFC 3032, 4385 and 4448 (MPLS and its pseudowires), RFC 2516 (PPPoE), RFC 1661 and
 * 1662 (PPP), RFC 8300 (NSH), RFC 6325 (TRILL), batman-adv; Cisco's FabricPath, VN-tags and
 * security group tags. */
#include <string.h>

#include "dissect/cursor.h"

#define MAX_TAGS 8u

#define ETHERTYPE_8021Q NR_ETHERTYPE_8021Q
#define ETHERTYPE_8021AD 0x88a8
#define ETHERTYPE_QINQ_OLD 0x9100
#define ETHERTYPE_MPLS_MULTICAST 0x8848
#define ETHERTYPE_PPP 0x880b
#define ETHERTYPE_BACKBONE 0x88e7
#define ETHERTYPE_VNTAG 0x8926
#define ETHERTYPE_ETAG 0x893f
#define ETHERTYPE_SECURITY_GROUP 0x8909
#define ETHERTYPE_HSR 0x892f
#define ETHERTYPE_FABRICPATH 0x8903
#define ETHERTYPE_BATMAN 0x4305
#define ETHERTYPE_TRILL 0x22f3
#define ETHERTYPE_MACSEC 0x88e5

#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_MPLS 0x0281
#define PPP_MPLS_MULTICAST 0x0283

/* A tag of fixed size that names the next ethertype, or is always in front of the same one. */
struct tag {
    uint16_t ethertype;
    uint8_t size;
    uint8_t type_at; /* 0: it names none */
    uint16_t type;
};

static const struct tag TAGS[] = {
    {ETHERTYPE_VNTAG, 6, 4, 0},
    {ETHERTYPE_ETAG, 8, 6, 0},
    {ETHERTYPE_SECURITY_GROUP, 8, 6, 0},
    {ETHERTYPE_HSR, 6, 4, 0},
    {ETHERTYPE_BACKBONE, 4, 0, NR_ETHERTYPE_TEB},
};

static inline bool is_tag(uint16_t ethertype) {
    return ethertype == ETHERTYPE_8021Q || ethertype == ETHERTYPE_8021AD ||
           ethertype == ETHERTYPE_QINQ_OLD;
}

int nr_ethertype_by_version(const struct nr_cursor *c, uint16_t *ethertype) {
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
    case PPP_MPLS_MULTICAST:
        *ethertype = NR_ETHERTYPE_MPLS;
        return NR_KEYED;
    default:
        return NR_NOT_IP;
    }
}

/* LLC without SNAP may be shorter, and carries no IP. */
int nr_skip_snap(struct nr_cursor *c, uint16_t *ethertype) {
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

int nr_skip_ethernet(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
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

/* The address and control fields may be left out (RFC 1661 section 6.6), and an odd protocol
 * number is one byte where it is compressed (section 6.5). */
int nr_skip_ppp(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 2)) {
        return NR_CUT_LINK;
    }
    if (nr_be16(c->at) == NR_PPP_ADDRESS_CONTROL) {
        nr_skip(c, 2);
        if (!nr_has(c, 2)) {
            return NR_CUT_LINK;
        }
    }
    const bool compressed = c->at[0] & 1;
    const uint16_t protocol = compressed ? c->at[0] : nr_be16(c->at);
    nr_skip(c, compressed ? 1 : 2);
    return ethertype_by_ppp(protocol, ethertype);
}

static int skip_pppoe(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 6)) {
        return NR_CUT_LINK;
    }
    if (c->at[0] != 0x11 || c->at[1] != 0) { /* version and type 1, session data */
        return NR_NOT_IP;
    }
    nr_skip(c, 6);
    return nr_skip_ppp(c, ethertype);
}

/* -- what a payload without a type is -- */

bool nr_looks_like_ip(const struct nr_cursor *c, uint16_t ethertype, bool whole) {
    if (!nr_has(c, 1)) {
        return false;
    }
    const bool six = ethertype == NR_ETHERTYPE_IPV6;
    const uint32_t header = six ? 40 : (c->at[0] & 0x0fu) * 4u;
    if (c->at[0] >> 4 != (six ? 6 : 4) || header < 20 || header > c->wire) {
        return false;
    }
    if (!nr_has(c, 6)) {
        return !whole;
    }
    const uint32_t total = six ? 40u + nr_be16(c->at + 4) : nr_be16(c->at + 2);
    /* Offload leaves lengths of 0. */
    const bool unset = total == (six ? 40 : 0);
    return whole ? total == c->wire : unset || (total >= header && total <= c->wire);
}

/* Returns true if Ethernet begins here: a header before IP that fits, or before something else that
 * is common. */
static bool looks_like_ethernet(const struct nr_cursor *c) {
    struct nr_cursor inside = *c;
    if (!nr_has(c, 14)) {
        return false;
    }
    uint16_t type = nr_be16(c->at + 12);
    nr_skip(&inside, 14);
    for (unsigned tags = 0; tags < MAX_TAGS && is_tag(type) && nr_has(&inside, 4); tags++) {
        type = nr_be16(inside.at + 2);
        nr_skip(&inside, 4);
    }
    switch (type) {
    case NR_ETHERTYPE_IPV4:
    case NR_ETHERTYPE_IPV6:
        return nr_looks_like_ip(&inside, type, false);
    case NR_ETHERTYPE_ARP:
    case NR_ETHERTYPE_MPLS:
    case NR_ETHERTYPE_PPPOE:
        return true;
    default: /* what bridges send to each other, with or without an ethertype */
        return nr_be24(c->at) == 0x0180c2 || nr_be24(c->at) == 0x01000c;
    }
}

/* Finds what a label stack is in front of, which no field tells (RFC 3032): IP, or the Ethernet of
 * a pseudowire, with a control word of four bytes that begins with four zero bits, or without
 * (RFC 4448). A station's address may begin as IP and as a control word do. */
static int skip_pseudowire(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    if (!nr_has(c, 1)) {
        return NR_CUT_LINK;
    }
    const uint8_t nibble = c->at[0] >> 4;
    const bool plain = looks_like_ethernet(c);
    if (nibble == 4 || nibble == 6) {
        const uint32_t header = (c->at[0] & 0x0fu) * 4u;
        const bool is_ip =
            nibble == 6 ? nr_looks_like_ip(c, NR_ETHERTYPE_IPV6, true)
                        : header >= 20 && nr_has(c, header) && nr_checksum_is_right(c->at, header);
        if (is_ip || !plain) {
            return nr_ethertype_by_version(c, ethertype);
        }
    } else if (nibble == 0 && nr_has(c, 4)) {
        /* A word and a station's frame with a tag can be the same bytes: the tag is likelier. */
        struct nr_cursor after = *c;
        nr_skip(&after, 4);
        if (!plain ||
            (nr_be16(c->at) == 0 && !is_tag(nr_be16(c->at + 12)) && looks_like_ethernet(&after))) {
            *c = after;
        }
    } else if (!plain) {
        return NR_NOT_IP;
    }
    return nr_skip_ethernet(c, ends, ethertype);
}

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
    return skip_pseudowire(c, ends, ethertype);
}

/* Skips the service header of a function chain (RFC 8300), and its metadata. */
static int skip_nsh(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 8)) {
        return NR_CUT_LINK;
    }
    const uint32_t size = (c->at[1] & 0x3fu) * 4u;
    *ethertype = nr_nsh_ethertype(c->at[3]);
    if (c->at[0] >> 6 != 0 || size < 8 || *ethertype == 0) {
        return NR_NOT_IP;
    }
    if (!nr_has(c, size)) {
        return NR_CUT_LINK;
    }
    nr_skip(c, size);
    return NR_KEYED;
}

/* Skips the header of a mesh's data, which is in front of Ethernet. Frames in pieces stay closed.
 */
static int skip_batman(struct nr_cursor *c, uint16_t *ethertype) {
    static const struct {
        uint8_t version, type, size;
    } HEADERS[] = {{15, 0x40, 10}, {15, 0x42, 18}, {15, 0x01, 14},
                   {14, 0x03, 10}, {14, 0x09, 18}, {14, 0x04, 14}};
    if (!nr_has(c, 2)) {
        return NR_CUT_LINK;
    }
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        if (HEADERS[i].type == c->at[0] && HEADERS[i].version == c->at[1]) {
            if (!nr_has(c, HEADERS[i].size)) {
                return NR_CUT_LINK;
            }
            nr_skip(c, HEADERS[i].size);
            *ethertype = NR_ETHERTYPE_TEB;
            return NR_KEYED;
        }
    }
    return NR_NOT_IP;
}

/* Skips a TRILL header with its options, which is in front of Ethernet. */
static int skip_trill(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 6)) {
        return NR_CUT_LINK;
    }
    const uint32_t size = 6u + ((c->at[0] & 7u) << 2 | c->at[1] >> 6) * 4u;
    if (c->at[0] >> 6 != 0) {
        return NR_NOT_IP;
    }
    if (!nr_has(c, size)) {
        return NR_CUT_LINK;
    }
    nr_skip(c, size);
    *ethertype = NR_ETHERTYPE_TEB;
    return NR_KEYED;
}

/* Skips the tag of MACsec where the data is not encrypted. */
static int skip_macsec(struct nr_cursor *c, uint16_t *ethertype) {
    if (!nr_has(c, 1)) {
        return NR_CUT_LINK;
    }
    const uint32_t size = c->at[0] & 0x20 ? 14 : 6; /* with the channel, or without */
    if (c->at[0] & 0x8c) {                          /* another version, encrypted, or changed */
        return NR_NOT_IP;
    }
    if (!nr_has(c, size + 2)) {
        return NR_CUT_LINK;
    }
    *ethertype = nr_be16(c->at + size);
    nr_skip(c, size + 2);
    return NR_KEYED;
}

/* Skips one encapsulation of those that are no VLAN tag. Returns NR_NOT_IP if *ethertype is none.
 */
static int skip_encapsulation(struct nr_cursor *c, struct nr_ends *ends, uint16_t *ethertype) {
    for (size_t i = 0; i < sizeof TAGS / sizeof *TAGS; i++) {
        const struct tag *tag = &TAGS[i];
        if (tag->ethertype == *ethertype) {
            if (!nr_has(c, tag->size)) {
                return NR_CUT_LINK;
            }
            *ethertype = tag->type_at != 0 ? nr_be16(c->at + tag->type_at) : tag->type;
            nr_skip(c, tag->size);
            return NR_KEYED;
        }
    }
    switch (*ethertype) {
    case NR_ETHERTYPE_TEB:
        return nr_skip_ethernet(c, ends, ethertype);
    case NR_ETHERTYPE_NSH:
        return skip_nsh(c, ethertype);
    case ETHERTYPE_PPP:
        return nr_skip_ppp(c, ethertype);
    case ETHERTYPE_BATMAN:
        return skip_batman(c, ethertype);
    case ETHERTYPE_TRILL:
        return skip_trill(c, ethertype);
    case ETHERTYPE_MACSEC:
        return skip_macsec(c, ethertype);
    default:
        return NR_NOT_IP;
    }
}

/* Notes the VLAN of a tag, the outermost first. A tag with id 0 has a priority and no VLAN (IEEE
 * 802.1Q). */
static void note_vlan(struct nr_key *key, unsigned *vlans, uint16_t tag) {
    const uint16_t id = tag & 0x0fff;
    if (id != 0 && *vlans < 2) {
        key->vlan[(*vlans)++] = id;
    }
}

int nr_skip_encapsulations(struct nr_cursor *c, const struct nr_frame *frame, struct nr_key *key,
                           struct nr_ends *ends, uint16_t *ethertype) {
    unsigned tags = frame->vlan_tpid != 0 ? 1 : 0;
    unsigned vlans = 0;
    int reason = NR_KEYED;
    if (tags > 0) {
        note_vlan(key, &vlans, frame->vlan_tci);
    }
    while (reason == NR_KEYED && *ethertype != NR_ETHERTYPE_IPV4 &&
           *ethertype != NR_ETHERTYPE_IPV6) {
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
        } else if (*ethertype == NR_ETHERTYPE_MPLS || *ethertype == ETHERTYPE_MPLS_MULTICAST) {
            reason = skip_labels(c, ends, &tags, ethertype);
        } else if (*ethertype == NR_ETHERTYPE_PPPOE) {
            reason = skip_pppoe(c, ethertype);
        } else if (*ethertype < NR_ETHERTYPE_MIN) {
            nr_trim(c, *ethertype);
            reason = nr_skip_snap(c, ethertype);
            if (reason == NR_KEYED && *ethertype < NR_ETHERTYPE_MIN) {
                return NR_NOT_IP;
            }
        } else {
            reason = skip_encapsulation(c, ends, ethertype);
            if (reason == NR_KEYED && tags++ == MAX_TAGS) {
                return NR_TOO_MANY_TAGS;
            }
        }
    }
    return reason;
}
