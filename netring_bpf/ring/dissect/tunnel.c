/* Tunnels: finds the packet inside.
 *
 * Formats: RFC 2784 and 2890 (GRE), RFC 2637 (GRE version 1), draft-foschiano-erspan, Cisco's WCCP,
 * RFC 2003 and 4213 (IP in IP), RFC 3378 (EtherIP), RFC 8986 (Ethernet in IPv6), RFC 4023 and 7510
 * (MPLS in IP, GRE and UDP), RFC 2661 and 3931 (L2TP), RFC 7348 (VXLAN),
 * draft-ietf-nvo3-vxlan-gpe, RFC 8926 (GENEVE), 3GPP TS 29.281 (GTP-U), RFC 5415 and 5416 (CAPWAP),
 * RFC 9300 (LISP), RFC 4380 (Teredo), RFC 8086 (GRE in UDP), draft-massar-v6ops-ayiya (AYIYA), and
 * the 802.11 in GRE of Aruba's access points.
 *
 * A port of UDP promises nothing. A header that could be random bytes is taken for a tunnel's only
 * if IP whose lengths fit is inside. */
#include <string.h>

#include "dissect/cursor.h"

enum { GRE_CHECKSUM = 0x8000, GRE_ROUTING = 0x4000, GRE_KEY = 0x2000, GRE_SEQUENCE = 0x1000 };
enum { GRE_ACK = 0x0080, GRE_RESERVED = 0x0078, GRE_VERSION = 0x0007 };
enum { GRE_ERSPAN = 0x88be, GRE_ERSPAN3 = 0x22eb, GRE_PPP = 0x880b, GRE_WCCP = 0x883e };
enum { L2TP_CONTROL = 0x8000, L2TP_LENGTH = 0x4000, L2TP_SEQUENCE = 0x0800, L2TP_OFFSET = 0x0200 };
enum { L2TP_RESERVED = 0x34f0, L2TP_VERSION = 0x000f };
enum { CAPWAP_FRAGMENT = 0x80, CAPWAP_KEEP_ALIVE = 0x08, CAPWAP_80211 = 1 };
enum { LISP_INSTANCE = 0x08, LISP_RESERVED = 0x04 };
enum { VXLAN_VNI = 0x08, GPE_PROTOCOL = 0x04 };
enum { ERSPAN_KEPT = 0x18 }; /* type II: the mirrored frame has kept its tag */
#define MAX_LABELS 8
#define GTP_MAX_EXTENSIONS 8
#define NO_NEXT_HEADER 59

static void note_inner(const struct nr_cursor *c, uint16_t link, uint8_t kind, uint32_t id,
                       struct nr_inner *inner) {
    inner->at = c->at;
    inner->caplen = nr_captured(c);
    inner->len = c->wire;
    inner->link = link;
    inner->vlan = 0;
    inner->ethertype = 0;
    inner->tunnel.kind = kind;
    inner->tunnel.id = id;
}

static void note_typed(const struct nr_cursor *c, uint16_t ethertype, uint8_t kind, uint32_t id,
                       struct nr_inner *inner) {
    note_inner(c, NR_LINK_TYPED, kind, id, inner);
    inner->ethertype = ethertype;
}

/* Notes the ends of a tunnel whose kind and id are noted. */
static void note_ends(const struct nr_dissected *out, const struct nr_ends *ends,
                      struct nr_inner *inner) {
    const size_t size = out->key.family == 4 ? 4 : 16;
    const uint8_t kind = inner->tunnel.kind;
    const uint32_t id = inner->tunnel.id;
    memset(&inner->tunnel, 0, sizeof inner->tunnel);
    inner->tunnel.kind = kind;
    inner->tunnel.id = id;
    memcpy(inner->tunnel.src_h, ends->src_h, size);
    memcpy(inner->tunnel.dst_h, ends->dst_h, size);
    inner->tunnel.src_p = ends->src_p;
    inner->tunnel.dst_p = ends->dst_p;
    inner->tunnel.family = out->key.family;
    inner->tunnel.depth = (uint8_t)(out->tunnel.depth + 1);
}

/* Skips n bytes. Returns false if fewer were captured. */
static bool try_skip(struct nr_cursor *c, uint32_t n) {
    if (!nr_has(c, n)) {
        return false;
    }
    nr_skip(c, n);
    return true;
}

/* Opens what the bytes are, read as this link or ethertype, if they lead to IP. */
static bool open_link(const struct nr_cursor *c, uint16_t link, uint8_t kind, uint32_t id,
                      struct nr_inner *inner) {
    note_inner(c, link, kind, id, inner);
    return nr_holds_ip(c, link, 0);
}
static bool open_typed(const struct nr_cursor *c, uint16_t ethertype, uint8_t kind, uint32_t id,
                       struct nr_inner *inner) {
    note_typed(c, ethertype, kind, id, inner);
    return nr_holds_ip(c, NR_LINK_TYPED, ethertype);
}

/* -- tunnels over IP, some of them over UDP too -- */

static bool is_80211(uint16_t type) {
    return type == 0x9000 || (type & 0xff0f) == 0x8200 || (type & 0xff8f) == 0x8300;
}

/* Returns the VLAN that the switch took from the mirrored frame and put into the header; 0: none.
 * The frame may have kept its tag as well. */
static uint16_t mirrored_vlan(const struct nr_cursor *frame, uint16_t id, bool is_in_frame) {
    const bool has_tag = nr_has(frame, 16) && nr_be16(frame->at + 12) == NR_ETHERTYPE_8021Q;
    const bool is_same = has_tag && (nr_be16(frame->at + 14) & 0x0fff) == id;
    return is_in_frame || is_same ? 0 : id;
}

static bool open_erspan(struct nr_cursor *c, uint16_t flags, uint16_t type,
                        struct nr_inner *inner) {
    uint32_t session = 0;
    uint16_t vlan = 0;
    bool is_in_frame = false;
    if (type == GRE_ERSPAN3 || flags & GRE_SEQUENCE) { /* else type I, without a header */
        const uint32_t size = type == GRE_ERSPAN3 ? 12 : 8;
        if (!nr_has(c, size)) {
            return false;
        }
        session = nr_be16(c->at + 2) & 0x03ff;
        vlan = nr_be16(c->at) & 0x0fff;
        is_in_frame = type == GRE_ERSPAN && (c->at[2] & ERSPAN_KEPT) == ERSPAN_KEPT;
        const bool more = type == GRE_ERSPAN3 && c->at[11] & 1;
        if (!try_skip(c, size + (more ? 8 : 0))) {
            return false;
        }
    }
    note_inner(c, NR_LINK_ETHERNET, NR_TUNNEL_ERSPAN, session, inner);
    inner->vlan = mirrored_vlan(c, vlan, is_in_frame);
    return true;
}

static bool open_gre(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 4)) {
        return false;
    }
    const uint16_t flags = nr_be16(c->at), type = nr_be16(c->at + 2);
    const uint16_t version = flags & GRE_VERSION;
    const bool keyed = flags & GRE_KEY;
    uint32_t size = 4 + (flags & GRE_CHECKSUM ? 4 : 0);
    uint32_t key = 0;
    if (version > 1 || flags & (GRE_ROUTING | GRE_RESERVED)) {
        return false;
    }
    if (keyed && nr_has(c, size + 4)) {
        key = nr_be32(c->at + size);
    }
    size += (keyed ? 4 : 0) + (flags & GRE_SEQUENCE ? 4 : 0);
    size += version == 1 && flags & GRE_ACK ? 4 : 0;
    if (!try_skip(c, size)) {
        return false;
    }
    if (type == GRE_ERSPAN || type == GRE_ERSPAN3) {
        return version == 0 && open_erspan(c, flags, type, inner);
    }
    if (version == 1) {
        if (type != GRE_PPP) {
            return false;
        }
        note_inner(c, NR_LINK_PPP, NR_TUNNEL_GRE, key & 0xffff, inner); /* the call's id */
        return true;
    }
    if (is_80211(type)) {
        note_inner(c, NR_LINK_80211, NR_TUNNEL_GRE, key, inner);
        return true;
    }
    if (type == GRE_WCCP) {
        /* Version 2 has a header in front of IP, version 1 has none. */
        if (nr_has(c, 1) && c->at[0] >> 4 != 4 && !try_skip(c, 4)) {
            return false;
        }
        note_inner(c, NR_LINK_RAW, NR_TUNNEL_GRE, key, inner);
        return true;
    }
    note_typed(c, type, NR_TUNNEL_GRE, key, inner);
    return type >= NR_ETHERTYPE_MIN;
}

static bool open_etherip(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 2) || nr_be16(c->at) != 0x3000) { /* version 3 */
        return false;
    }
    nr_skip(c, 2);
    note_inner(c, NR_LINK_ETHERNET, NR_TUNNEL_ETHERIP, 0, inner);
    return true;
}

/* Notes a label stack; the tunnel's id is the label at its bottom. */
static bool open_mpls(struct nr_cursor *c, struct nr_inner *inner) {
    for (uint32_t at = 0; at < 4 * MAX_LABELS && nr_has(c, at + 4); at += 4) {
        if (c->at[at + 2] & 1) {
            note_typed(c, NR_ETHERTYPE_MPLS, NR_TUNNEL_MPLS, nr_be24(c->at + at) >> 4, inner);
            return true;
        }
    }
    return false;
}

/* Opens a session of L2TPv3, whose packets tell neither what they hold, nor whether a cookie of
 * four or eight bytes and a sublayer of four are in front. */
static bool open_session(const struct nr_cursor *c, uint32_t id, struct nr_inner *inner) {
    static const uint16_t links[] = {NR_LINK_ETHERNET, NR_LINK_PPP};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        for (uint32_t skip = 0; skip <= 12 && nr_has(c, skip); skip += 4) {
            struct nr_cursor payload = *c;
            nr_skip(&payload, skip);
            if (open_link(&payload, links[i], NR_TUNNEL_L2TP, id, inner)) {
                return true;
            }
        }
    }
    return false;
}

/* L2TPv3 over IP. */
static bool open_l2tp_ip(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 4) || nr_be32(c->at) == 0) { /* session 0 is control */
        return false;
    }
    const uint32_t id = nr_be32(c->at);
    nr_skip(c, 4);
    return open_session(c, id, inner);
}

bool nr_open_ip(struct nr_cursor *c, const struct nr_dissected *out, const struct nr_ends *ends,
                struct nr_inner *inner) {
    bool is_open = true;
    switch (out->key.proto) {
    case NR_PROTO_IPV4:
    case NR_PROTO_IPV6:
        note_inner(c, NR_LINK_RAW, NR_TUNNEL_IP, 0, inner);
        break;
    case NR_PROTO_GRE:
        is_open = open_gre(c, inner);
        break;
    case NR_PROTO_ETHERIP:
        is_open = open_etherip(c, inner);
        break;
    case NR_PROTO_ETHERNET:
        note_inner(c, NR_LINK_ETHERNET, NR_TUNNEL_ETHERIP, 0, inner);
        break;
    case NR_PROTO_MPLS:
        is_open = open_mpls(c, inner);
        break;
    case NR_PROTO_L2TP:
        is_open = open_l2tp_ip(c, inner);
        break;
    default:
        return false;
    }
    if (is_open) {
        note_ends(out, ends, inner);
    }
    return is_open;
}

/* -- tunnels over UDP -- */

/* Many set reserved bits; where they are clear, the header is no coincidence. */
static bool open_vxlan(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || !(c->at[0] & VXLAN_VNI)) {
        return false;
    }
    const bool strict = nr_be32(c->at) == VXLAN_VNI << 24 && c->at[7] == 0;
    const uint32_t vni = nr_be24(c->at + 4);
    nr_skip(c, 8);
    note_inner(c, NR_LINK_ETHERNET, NR_TUNNEL_VXLAN, vni, inner);
    return strict || nr_holds_ip(c, NR_LINK_ETHERNET, 0);
}

static bool open_vxlan_gpe(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || c->at[0] & 0xf0) { /* another version */
        return false;
    }
    const uint8_t flags = c->at[0];
    const uint16_t type =
        flags & GPE_PROTOCOL ? nr_nsh_ethertype(c->at[3]) : (uint16_t)NR_ETHERTYPE_TEB;
    const uint32_t vni = flags & VXLAN_VNI ? nr_be24(c->at + 4) : 0;
    nr_skip(c, 8);
    return type != 0 && open_typed(c, type, NR_TUNNEL_VXLAN_GPE, vni, inner);
}

static bool open_geneve(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || c->at[0] >> 6 != 0) {
        return false;
    }
    const uint32_t options = (c->at[0] & 0x3fu) * 4;
    const uint16_t type = nr_be16(c->at + 2);
    const uint32_t vni = nr_be24(c->at + 4);
    const bool strict = !(c->at[1] & 0x3f) && c->at[7] == 0 && type == NR_ETHERTYPE_TEB;
    if (!try_skip(c, 8 + options)) {
        return false;
    }
    note_typed(c, type, NR_TUNNEL_GENEVE, vni, inner);
    return strict || nr_holds_ip(c, NR_LINK_TYPED, type);
}

/* Returns true if an IP packet fills the rest exactly, as far as it was captured. */
static bool is_whole_ip(const struct nr_cursor *c) {
    if (!nr_has(c, 6)) {
        return c->wire >= 20;
    }
    const uint8_t version = c->at[0] >> 4;
    return (version == 4 && nr_be16(c->at + 2) == c->wire) ||
           (version == 6 && nr_be16(c->at + 4) + 40u == c->wire);
}

static bool open_gtpu(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || (c->at[0] & 0xf0) != 0x30 || c->at[1] != 255) {
        return false; /* another version, GTP', or no user data */
    }
    const uint8_t flags = c->at[0];
    const uint32_t teid = nr_be32(c->at + 4);
    nr_trim(c, nr_be16(c->at + 2) + 8u);
    nr_skip(c, 8);
    if (flags & 0x07) {
        if (!nr_has(c, 4)) {
            return false;
        }
        uint8_t next = flags & 0x04 ? c->at[3] : 0;
        nr_skip(c, 4);
        for (int i = 0; next != 0; i++) {
            if (i == GTP_MAX_EXTENSIONS || !nr_has(c, 1) || c->at[0] == 0 ||
                !nr_has(c, c->at[0] * 4u)) {
                return false;
            }
            const uint32_t size = c->at[0] * 4u;
            next = c->at[size - 1];
            nr_skip(c, size);
        }
    }
    if (is_whole_ip(c)) {
        note_inner(c, NR_LINK_RAW, NR_TUNNEL_GTPU, teid, inner);
        return true;
    }
    return open_link(c, NR_LINK_ETHERNET, NR_TUNNEL_GTPU, teid, inner);
}

/* Skips Teredo's indications: authentication, then origin. */
static bool skip_indications(struct nr_cursor *c) {
    if (nr_has(c, 4) && c->at[0] == 0 && c->at[1] == 1 && !try_skip(c, 13u + c->at[2] + c->at[3])) {
        return false;
    }
    return !(nr_has(c, 2) && c->at[0] == 0 && c->at[1] == 0) || try_skip(c, 8);
}

static bool in_teredo_prefix(const uint8_t *address) {
    static const uint8_t prefix[] = {0x20, 0x01, 0, 0}; /* 2001::/32 */
    return memcmp(address, prefix, sizeof prefix) == 0;
}

/* Accepts any whole IPv6 packet on Teredo's port; elsewhere, one of its ends must have Teredo's
 * prefix. */
static bool open_teredo(struct nr_cursor *c, bool on_port, struct nr_inner *inner) {
    if (!skip_indications(c) || !nr_has(c, 40) || c->at[0] >> 4 != 6 ||
        nr_be16(c->at + 4) + 40u != c->wire || c->at[6] == NO_NEXT_HEADER) {
        return false;
    }
    if (!on_port && !in_teredo_prefix(c->at + 8) && !in_teredo_prefix(c->at + 24)) {
        return false;
    }
    note_inner(c, NR_LINK_RAW, NR_TUNNEL_TEREDO, 0, inner);
    return true;
}

static bool open_ayiya(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || (c->at[2] & 0x0f) != 1) {
        return false; /* not the forward operation */
    }
    const uint8_t next = c->at[3];
    if ((next != NR_PROTO_IPV4 && next != NR_PROTO_IPV6) ||
        !try_skip(c, 8u + (1u << (c->at[0] >> 4)) + (c->at[1] >> 4) * 4u)) {
        return false;
    }
    return open_link(c, NR_LINK_RAW, NR_TUNNEL_AYIYA, 0, inner);
}

/* GRE in UDP. */
static bool open_gre_udp(struct nr_cursor *c, struct nr_inner *inner) {
    struct nr_cursor inside;
    if (!open_gre(c, inner)) {
        return false;
    }
    inside = (struct nr_cursor){inner->at, inner->at + inner->caplen, inner->len};
    return nr_holds_ip(&inside, inner->link, inner->ethertype);
}

static bool open_l2tp(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 12)) {
        return false;
    }
    const uint16_t flags = nr_be16(c->at);
    if (flags == 3 && nr_be16(c->at + 2) == 0) { /* version 3, data */
        const uint32_t id = nr_be32(c->at + 4);
        nr_skip(c, 8);
        return open_session(c, id, inner);
    }
    if ((flags & L2TP_VERSION) != 2 || flags & (L2TP_CONTROL | L2TP_RESERVED)) {
        return false;
    }
    const uint32_t ids = flags & L2TP_LENGTH ? 4 : 2;
    const uint32_t id = nr_be32(c->at + ids); /* of the tunnel, and of the session in it */
    uint32_t size = ids + 4 + (flags & L2TP_SEQUENCE ? 4 : 0);
    if (flags & L2TP_LENGTH) {
        nr_trim(c, nr_be16(c->at + 2));
    }
    if (flags & L2TP_OFFSET) {
        if (!nr_has(c, size + 2)) {
            return false;
        }
        size += 2u + nr_be16(c->at + size);
    }
    return try_skip(c, size) && open_link(c, NR_LINK_PPP, NR_TUNNEL_L2TP, id, inner);
}

/* Opens data between an access point and its controller: an Ethernet frame, or one of 802.11, in
 * which some exchange the two bytes of the frame control. */
static bool open_capwap(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || c->at[0] != 0) { /* another version, or encrypted */
        return false;
    }
    const uint32_t size = (c->at[1] >> 3) * 4u;
    const bool wireless = c->at[2] & 1;
    const uint8_t binding = c->at[2] >> 1 & 0x1f;
    if (c->at[3] & (CAPWAP_FRAGMENT | CAPWAP_KEEP_ALIVE) || size < 8 || !try_skip(c, size)) {
        return false;
    }
    if (!wireless) {
        return open_link(c, NR_LINK_ETHERNET, NR_TUNNEL_CAPWAP, 0, inner);
    }
    return binding == CAPWAP_80211 &&
           (open_link(c, NR_LINK_80211, NR_TUNNEL_CAPWAP, 0, inner) ||
            open_link(c, NR_LINK_80211_SWAPPED, NR_TUNNEL_CAPWAP, 0, inner));
}

static bool open_lisp(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || c->at[0] & LISP_RESERVED) {
        return false;
    }
    const uint32_t id = c->at[0] & LISP_INSTANCE ? nr_be24(c->at + 4) : 0;
    nr_skip(c, 8);
    return open_link(c, NR_LINK_RAW, NR_TUNNEL_LISP, id, inner);
}

static bool open_kind(uint8_t kind, struct nr_cursor c, struct nr_inner *inner) {
    switch (kind) {
    case NR_TUNNEL_VXLAN:
        return open_vxlan(&c, inner);
    case NR_TUNNEL_VXLAN_GPE:
        return open_vxlan_gpe(&c, inner);
    case NR_TUNNEL_GENEVE:
        return open_geneve(&c, inner);
    case NR_TUNNEL_GTPU:
        return open_gtpu(&c, inner);
    case NR_TUNNEL_TEREDO:
        return open_teredo(&c, true, inner);
    case NR_TUNNEL_GRE:
        return open_gre_udp(&c, inner);
    case NR_TUNNEL_AYIYA:
        return open_ayiya(&c, inner);
    case NR_TUNNEL_MPLS:
        return open_mpls(&c, inner) && nr_holds_ip(&c, NR_LINK_TYPED, NR_ETHERTYPE_MPLS);
    case NR_TUNNEL_L2TP:
        return open_l2tp(&c, inner);
    case NR_TUNNEL_CAPWAP:
        return open_capwap(&c, inner);
    case NR_TUNNEL_LISP:
        return open_lisp(&c, inner);
    default:
        return false;
    }
}

/* Opens tunnels on any port: Teredo between clients, and AYIYA as all its clients send it (a
 * signature of five words by SHA-1, with a shared secret, to forward). */
static bool open_by_looks(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_looks_like_tunnel(c->at, nr_captured(c))) {
        return false;
    }
    return nr_looks_like_ayiya(c->at) ? open_ayiya(c, inner) : open_teredo(c, false, inner);
}

uint8_t nr_tunnel_on(const nr_decode_options *options, uint16_t port) {
    for (uint32_t i = 0; i < options->tunnel_port_count; i++) {
        if (options->tunnel_ports[i].port == port) {
            return options->tunnel_ports[i].kind;
        }
    }
    return 0;
}

bool nr_open_udp(const struct nr_cursor *payload, const nr_decode_options *options,
                 const struct nr_dissected *out, const struct nr_ends *ends,
                 struct nr_inner *inner) {
    struct nr_cursor guess = *payload;
    if (!open_kind(nr_tunnel_on(options, ends->dst_p), *payload, inner) &&
        !open_kind(nr_tunnel_on(options, ends->src_p), *payload, inner) &&
        !open_by_looks(&guess, inner)) {
        return false;
    }
    note_ends(out, ends, inner);
    return true;
}
