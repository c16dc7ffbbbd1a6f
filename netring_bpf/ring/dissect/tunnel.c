/* Tunnels: finds the packet inside.
 *
 * Formats: RFC 2784 and 2890 (GRE), RFC 2637 (GRE version 1), draft-foschiano-erspan, RFC 2003 and
 * 4213 (IP in IP), RFC 7348 (VXLAN), RFC 8926 (GENEVE), 3GPP TS 29.281 (GTP-U), RFC 4380 (Teredo),
 * RFC 8086 (GRE in UDP), draft-massar-v6ops-ayiya (AYIYA), and the 802.11 in GRE of Aruba's access
 * points. */
#include <string.h>

#include "dissect/cursor.h"

enum { GRE_CHECKSUM = 0x8000, GRE_ROUTING = 0x4000, GRE_KEY = 0x2000, GRE_SEQUENCE = 0x1000 };
enum { GRE_ACK = 0x0080, GRE_RESERVED = 0x0078, GRE_VERSION = 0x0007 };
enum { GRE_ERSPAN = 0x88be, GRE_ERSPAN3 = 0x22eb, GRE_PPP = 0x880b };
enum { ERSPAN_KEPT = 0x18 }; /* type II: the mirrored frame has kept its tag */
#define GTP_MAX_EXTENSIONS 8
#define NO_NEXT_HEADER 59

static void note_inner(const struct nr_cursor *c, uint16_t link, uint8_t kind, uint32_t id,
                       struct nr_inner *inner) {
    inner->at = c->at;
    inner->caplen = nr_captured(c);
    inner->len = c->wire;
    inner->link = link;
    inner->vlan = 0;
    inner->tunnel.kind = kind;
    inner->tunnel.id = id;
}

static void note_ends(const struct nr_dissected *out, const struct nr_ends *ends,
                      struct nr_inner *inner) {
    const size_t size = out->key.family == 4 ? 4 : 16;
    memset(&inner->tunnel, 0, sizeof inner->tunnel);
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

/* -- protocols of IP -- */

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
    if (type == NR_ETHERTYPE_IPV4 || type == NR_ETHERTYPE_IPV6) {
        note_inner(c, NR_LINK_RAW, NR_TUNNEL_GRE, key, inner);
        return true;
    }
    if (type == NR_ETHERTYPE_TEB || is_80211(type)) {
        note_inner(c, type == NR_ETHERTYPE_TEB ? NR_LINK_ETHERNET : NR_LINK_80211, NR_TUNNEL_GRE,
                   key, inner);
        return true;
    }
    return false;
}

bool nr_open_ip(struct nr_cursor *c, const struct nr_dissected *out, const struct nr_ends *ends,
                struct nr_inner *inner) {
    note_ends(out, ends, inner);
    if (out->key.proto == NR_PROTO_GRE) {
        return open_gre(c, inner);
    }
    note_inner(c, NR_LINK_RAW, NR_TUNNEL_IP, 0, inner);
    return true;
}

/* -- tunnels over UDP -- */

static bool open_vxlan(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || !(c->at[0] & 0x08)) {
        return false;
    }
    const uint32_t vni = nr_be24(c->at + 4);
    nr_skip(c, 8);
    note_inner(c, NR_LINK_ETHERNET, NR_TUNNEL_VXLAN, vni, inner);
    return true;
}

static bool open_geneve(struct nr_cursor *c, struct nr_inner *inner) {
    if (!nr_has(c, 8) || c->at[0] >> 6 != 0) {
        return false;
    }
    const uint32_t options = (c->at[0] & 0x3fu) * 4;
    const uint16_t type = nr_be16(c->at + 2);
    const uint32_t vni = nr_be24(c->at + 4);
    const bool ip = type == NR_ETHERTYPE_IPV4 || type == NR_ETHERTYPE_IPV6;
    if ((!ip && type != NR_ETHERTYPE_TEB) || !try_skip(c, 8 + options)) {
        return false;
    }
    note_inner(c, ip ? NR_LINK_RAW : NR_LINK_ETHERNET, NR_TUNNEL_GENEVE, vni, inner);
    return true;
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
    if (!is_whole_ip(c)) {
        return false; /* something else on this port */
    }
    note_inner(c, NR_LINK_RAW, NR_TUNNEL_GTPU, teid, inner);
    return true;
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
    note_inner(c, NR_LINK_RAW, NR_TUNNEL_AYIYA, 0, inner);
    return true;
}

static bool open_on_port(uint16_t port, struct nr_cursor *c, struct nr_inner *inner) {
    switch (port) {
    case NR_PORT_VXLAN:
        return open_vxlan(c, inner);
    case NR_PORT_GENEVE:
        return open_geneve(c, inner);
    case NR_PORT_GTPU:
        return open_gtpu(c, inner);
    case NR_PORT_TEREDO:
        return open_teredo(c, true, inner);
    case NR_PORT_GRE:
        return open_gre(c, inner);
    case NR_PORT_AYIYA:
        return open_ayiya(c, inner);
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

bool nr_open_udp(const struct nr_cursor *payload, const struct nr_dissected *out,
                 const struct nr_ends *ends, struct nr_inner *inner) {
    struct nr_cursor c = *payload;
    struct nr_cursor again = *payload;
    struct nr_cursor guess = *payload;
    if (!open_on_port(ends->dst_p, &c, inner) && !open_on_port(ends->src_p, &again, inner) &&
        !open_by_looks(&guess, inner)) {
        return false;
    }
    const uint8_t kind = inner->tunnel.kind;
    const uint32_t id = inner->tunnel.id;
    note_ends(out, ends, inner);
    inner->tunnel.kind = kind;
    inner->tunnel.id = id;
    return true;
}
