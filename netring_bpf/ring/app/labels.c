/* Protocols that are recognised by their first bytes, and get a label alone. A wrong label is worse
 * than none: each check asks for several bytes that other protocols do not have there. */
#include "app/parser.h"
#include "app/text.h"

static uint32_t be16(const uint8_t *at) {
    return (uint32_t)(at[0] << 8 | at[1]);
}
static uint32_t be32(const uint8_t *at) {
    return be16(at) << 16 | be16(at + 2);
}

static bool begins_with(const struct nr_app_bytes *bytes, const void *first, uint32_t size) {
    return bytes->length >= size && memcmp(bytes->at, first, size) == 0;
}

static bool is_port(const struct nr_app_bytes *bytes, uint16_t port) {
    return bytes->src_p == port || bytes->dst_p == port;
}

/* -- datagrams -- */

/* WireGuard: the two messages of a handshake, by their type, three zeros and their lengths. */
static bool is_wireguard(const struct nr_app_bytes *bytes) {
    const uint8_t *at = bytes->at;
    return ((bytes->length == 148 && at[0] == 1) || (bytes->length == 92 && at[0] == 2)) &&
           at[1] == 0 && at[2] == 0 && at[3] == 0;
}

/* STUN and TURN (RFC 8489): the magic cookie, and a length that fits. */
static bool is_stun(const struct nr_app_bytes *bytes) {
    static const uint8_t cookie[] = {0x21, 0x12, 0xa4, 0x42};
    const uint8_t *at = bytes->at;
    if (bytes->length < 20 || at[0] > 0x3f || memcmp(at + 4, cookie, sizeof cookie) != 0) {
        return false;
    }
    const uint32_t length = be16(at + 2);
    return length % 4 == 0 && (!bytes->is_datagram || length == bytes->length - 20);
}

/* NTP on its port: versions 1 to 4 (RFC 5905), its control messages (RFC 9327), and those of the
 * private mode. */
static bool is_ntp(const struct nr_app_bytes *bytes) {
    const uint8_t *at = bytes->at;
    const uint32_t version = bytes->length > 0 ? at[0] >> 3 & 7 : 0;
    if (!is_port(bytes, 123) || bytes->length < 8 || version < 1 || version > 4) {
        return false;
    }
    switch (at[0] & 7) {
    case 6:
        return bytes->length >= 12 && at[0] >> 6 == 0 && be16(at + 10) <= bytes->length - 12;
    case 7:
        return at[2] == 0 || at[2] == 2 || at[2] == 3;
    case 0:
        return version == 1 && bytes->length == 48;
    default:
        return bytes->length >= 48 && bytes->length % 4 == 0 && at[1] <= 16;
    }
}

/* The packets of a compound of RTCP (RFC 3550 6.1) fill the datagram, and the first is a report. */
static bool is_rtcp(const struct nr_app_bytes *bytes) {
    uint32_t at = 0, count = 0;
    if (bytes->length < 16 || (bytes->at[1] != 200 && bytes->at[1] != 201)) {
        return false;
    }
    while (bytes->length - at >= 4 && count < 16) {
        const uint8_t *packet = bytes->at + at;
        const uint32_t size = (be16(packet + 2) + 1) * 4;
        if (packet[0] >> 6 != 2 || packet[1] < 200 || packet[1] > 207 ||
            size > bytes->length - at) {
            return false;
        }
        at += size;
        count++;
    }
    return count >= 2 && at == bytes->length;
}

/* One datagram of RTP has little to tell it by: it is taken only with a payload of a fixed type,
 * whole frames of it, even ports, and nothing optional in its header. Others are missed. */
static bool is_rtp(const struct nr_app_bytes *bytes) {
    if (bytes->length < 12 + 20 || bytes->at[0] != 0x80 || bytes->src_p % 2 != 0 ||
        bytes->dst_p % 2 != 0 || bytes->src_p < 1024 || bytes->dst_p < 1024) {
        return false;
    }
    const uint32_t payload = bytes->length - 12;
    switch (bytes->at[1] & 0x7f) {
    case 0: /* PCMU, PCMA and G.722: 10 ms are 80 bytes */
    case 8:
    case 9:
        return payload % 80 == 0 && payload <= 480;
    case 3: /* GSM */
        return payload % 33 == 0 && payload <= 99;
    case 18: /* G.729; a short frame at the end is silence */
        return payload % 10 == 0 && payload <= 60;
    default:
        return false;
    }
}

/* The messages of BitTorrent's hash table (BEP 5) are dictionaries that begin with "a" or "r",
 * whose first value is the "id" of the node. */
static bool is_bittorrent_table(const struct nr_app_bytes *bytes) {
    static const char ask[] = "d1:ad2:id20:", answer[] = "d1:rd2:id20:";
    const uint32_t size = sizeof ask - 1;
    return bytes->length > size + 20 && bytes->at[bytes->length - 1] == 'e' &&
           (begins_with(bytes, ask, size) || begins_with(bytes, answer, size));
}

/* The first packet of uTP (BEP 29): a SYN that answers nothing. */
static bool is_utp(const struct nr_app_bytes *bytes) {
    static const uint8_t nothing[4] = {0}, extension[] = {0, 8};
    const uint8_t *at = bytes->at;
    if (bytes->length < 20 || at[0] != 0x41 || memcmp(at + 8, nothing, 4) != 0 ||
        be16(at + 18) != 0 || be32(at + 12) == 0 || be32(at + 4) == 0) {
        return false;
    }
    return at[1] == 0   ? bytes->length == 20
           : at[1] == 2 ? bytes->length == 30 && memcmp(at + 20, extension, 2) == 0
                        : false;
}

static bool is_bittorrent_datagram(const struct nr_app_bytes *bytes) {
    static const uint8_t tracker[] = {0, 0, 0x04, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0};
    static const char search[] = "BT-SEARCH * HTTP/1.1\r\n";
    return is_bittorrent_table(bytes) || is_utp(bytes) ||
           (bytes->length == 16 && begins_with(bytes, tracker, sizeof tracker)) ||
           begins_with(bytes, search, sizeof search - 1);
}

static uint8_t label_datagram(const struct nr_app_bytes *bytes) {
    if (is_wireguard(bytes)) {
        return NR_APP_WIREGUARD;
    }
    if (is_stun(bytes)) {
        return NR_APP_STUN;
    }
    if (is_ntp(bytes)) {
        return NR_APP_NTP;
    }
    if (is_bittorrent_datagram(bytes)) {
        return NR_APP_BITTORRENT;
    }
    return is_rtcp(bytes) || is_rtp(bytes) ? NR_APP_RTP : NR_APP_NONE;
}

/* -- streams -- */

/* What is known of a stream's first bytes. */
struct found {
    uint8_t protocol;
    bool may_be; /* the bytes fit so far, and more are needed */
    bool hands_over;
    uint32_t used;
};

enum { RDP_PORT = 3389, TPKT = 3, X224_HEAD = 11, RDP_CHOICE = 8 };

/* RDP (MS-RDPBCGR 2.2.1): a connection request or confirmation of X.224 in a TPKT. Others use these
 * too, so that it must say more: a cookie, or a choice of protocols. The server's choice may be
 * TLS, which follows. */
static struct found read_rdp(const struct nr_app_bytes *bytes) {
    static const char cookie[] = "Cookie: mst";
    const uint8_t *at = bytes->at;
    const uint32_t length = bytes->length;
    const struct found none = {0};
    if (at[0] != TPKT || (length > 1 && at[1] != 0) || (length > 2 && at[2] > 1)) {
        return none;
    }
    if (length >= 6 && at[5] != 0xe0 && at[5] != 0xd0) {
        return none;
    }
    const uint32_t whole = length >= 4 ? be16(at + 2) : 0;
    if (length >= 5 && (whole < X224_HEAD || at[4] + 5u != whole)) {
        return none;
    }
    if (length < X224_HEAD || length < whole) {
        return (struct found){.may_be = true};
    }
    const uint8_t *more = at + X224_HEAD;
    const uint32_t size = whole - X224_HEAD;
    /* The choice is last: a kind, flags, its length, and the protocols. */
    const uint8_t *choice = size >= RDP_CHOICE ? at + whole - RDP_CHOICE : NULL;
    const bool has_choice = choice != NULL && choice[2] == RDP_CHOICE && choice[3] == 0;
    const bool asks = at[5] == 0xe0;
    const bool has_cookie =
        size >= sizeof cookie - 1 && memcmp(more, cookie, sizeof cookie - 1) == 0;
    const bool is_rdp =
        (asks && (has_cookie || (has_choice && choice[0] == 1))) ||
        (!asks && has_choice && size == RDP_CHOICE && (choice[0] == 2 || choice[0] == 3)) ||
        (size == 0 && is_port(bytes, RDP_PORT));
    return (struct found){
        .protocol = is_rdp ? NR_APP_RDP : NR_APP_NONE,
        .hands_over = is_rdp && !asks && has_choice && choice[0] == 2 && choice[4] != 0,
        .used = whole,
    };
}

/* Names of NetBIOS in their first encoding: 32 letters from A to P. */
static bool is_netbios_name(const uint8_t *at) {
    if (at[0] != 32 || at[33] != 0) {
        return false;
    }
    for (uint32_t i = 1; i <= 32; i++) {
        if (at[i] < 'A' || at[i] > 'P') {
            return false;
        }
    }
    return true;
}

/* SMB 1, 2 and 3 with their length before them, or the request for a session of NetBIOS. */
static struct found read_smb(const struct nr_app_bytes *bytes) {
    static const uint8_t session[] = {0x81, 0, 0, 68};
    const uint8_t *at = bytes->at;
    const uint32_t length = bytes->length;
    struct found found = {0};
    if (nr_fits(at, length, session, sizeof session)) {
        found.may_be = length < 72;
        found.protocol = length >= 72 && is_netbios_name(at + 4) && is_netbios_name(at + 38)
                             ? NR_APP_SMB
                             : NR_APP_NONE;
    } else if (at[0] == 0 && (length < 5 || at[4] >= 0xfc) &&
               (length < 6 || nr_fits(at + 5, length - 5, "SMB", 3))) {
        found.may_be = length < 8 && length > 4;
        found.protocol = length >= 8 ? NR_APP_SMB : NR_APP_NONE;
    }
    return found;
}

static struct found read_bittorrent(const struct nr_app_bytes *bytes) {
    static const char hello[] = "\x13"
                                "BitTorrent protocol";
    const bool fits = nr_fits(bytes->at, bytes->length, hello, sizeof hello - 1);
    const bool is_whole = bytes->length >= sizeof hello - 1;
    return (struct found){
        .protocol = fits && is_whole ? NR_APP_BITTORRENT : NR_APP_NONE,
        .may_be = fits && !is_whole,
    };
}

static struct found read_stun(const struct nr_app_bytes *bytes) {
    return (struct found){.protocol = is_stun(bytes) ? NR_APP_STUN : NR_APP_NONE};
}

static struct found label_stream(const struct nr_app_bytes *bytes) {
    static struct found (*const readers[])(const struct nr_app_bytes *) = {
        read_rdp, read_smb, read_bittorrent, read_stun};
    bool may_be = false;
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        const struct found found = readers[i](bytes);
        may_be = may_be || found.may_be;
        if (found.protocol != NR_APP_NONE) {
            return found;
        }
    }
    return (struct found){.may_be = may_be};
}

/* A request of RDP may be followed by TLS: its side goes on, and the server's answer, which is
 * NR_SILENT if the request was seen, hands over. */
static void end_rdp(const struct nr_app_bytes *bytes, const struct found *found,
                    struct nr_message *message) {
    if (bytes->at[5] == 0xe0) {
        message->next = NR_PARSE_SAME;
        message->note = NR_APP_RDP;
    } else if (bytes->note == NR_APP_RDP) {
        message->role = NR_SILENT;
    }
    message->hands_over = found->hands_over;
    message->used = found->used;
}

int nr_label_parse(const struct nr_app_bytes *bytes, struct nr_message *message) {
    if (bytes->length == 0) {
        return NR_NOT_THIS;
    }
    const struct found found =
        bytes->is_datagram
            ? (struct found){.protocol = bytes->is_cut ? NR_APP_NONE : label_datagram(bytes)}
            : label_stream(bytes);
    if (found.protocol == NR_APP_NONE) {
        return found.may_be && !bytes->is_all ? NR_MORE : NR_NOT_THIS;
    }
    message->protocol = found.protocol;
    message->role = NR_ALONE;
    message->next = NR_PARSE_NOTHING;
    message->used = bytes->length;
    if (found.protocol == NR_APP_RDP) {
        end_rdp(bytes, &found, message);
    }
    return NR_MESSAGE;
}
