/* Opens the Initial packets of QUIC, and takes the pieces of the hellos out of them.
 *
 * Formats: RFC 9000 (packets and frames), RFC 9001 (keys), RFC 9369 (version 2), RFC 8999 (what all
 * versions have in common), draft-ietf-quic-transport-29 to 34.
 *
 * The keys of both sides come from the destination that the client chose for its first Initial, and
 * from the version of a packet. A client that opens a new connection from the same port, or goes on
 * after a Retry or a Version Negotiation, sends an Initial that its own destination opens: nothing
 * else proves that it took another one. */
#include "app/parser.h"
#include "dissect/cursor.h"

#define MAX_PACKETS 8u     /* that are read of a datagram */
#define MAX_ID 20u         /* bytes of a connection's id */
#define MIN_FIRST_ID 8u    /* bytes of an id that a client chose for the server */
#define MIN_DATAGRAM 1200u /* bytes of a datagram with an Initial */
#define MAX_DATAGRAM 65527u
#define MIN_PACKET 20u /* bytes behind the length: those up to the sample, and the sample */
#define SAMPLE_AT 4u   /* from the packet number */
enum { LONG_HEADER = 0x80, FIXED_BIT = 0x40, NUMBER_BITS = 0x03, HIDDEN_BITS = 0x0f };
enum { INITIAL, ZERO_RTT, HANDSHAKE, RETRY };
enum {
    FRAME_PADDING = 0x00,
    FRAME_PING = 0x01,
    FRAME_ACK = 0x02,
    FRAME_ACK_ECN = 0x03,
    FRAME_CRYPTO = 0x06,
    FRAME_CLOSE = 0x1c
};

/* A version that can be opened, or a range of drafts. */
struct version {
    uint32_t first;
    uint32_t last;
    uint8_t salt[20];
    uint8_t initial; /* bits of an Initial's type; the other types follow */
    const char *key;
    const char *iv;
    const char *hp;
};
#define SALT_29                                                                                    \
    {                                                                                              \
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11,  \
            0xe0, 0x43, 0x90, 0xa8, 0x99                                                           \
    }
#define SALT_1                                                                                     \
    {                                                                                              \
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,  \
            0xad, 0xcc, 0xbb, 0x7f, 0x0a                                                           \
    }
#define SALT_2                                                                                     \
    {                                                                                              \
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,  \
            0xcb, 0xf9, 0xbd, 0x2e, 0xd9                                                           \
    }
static const struct version versions[] = {
    {0x00000001, 0x00000001, SALT_1, 0, "quic key", "quic iv", "quic hp"},
    {0x6b3343cf, 0x6b3343cf, SALT_2, 1, "quicv2 key", "quicv2 iv", "quicv2 hp"},
    {0xff00001d, 0xff000020, SALT_29, 0, "quic key", "quic iv", "quic hp"},
    {0xff000021, 0xff000022, SALT_1, 0, "quic key", "quic iv", "quic hp"},
};

struct span {
    const uint8_t *at;
    uint32_t left;
};

/* A packet with a long header. */
struct packet {
    const uint8_t *at;
    uint32_t size;      /* as its length says */
    uint32_t number_at; /* the packet number, from `at` */
    uint32_t number;
    const struct version *version; /* NULL: not one of the table */
    const uint8_t *dcid;
    uint8_t dcid_length;
    uint8_t scid_length;
    uint8_t type;
    bool has_token;
};

/* The reading of a datagram. */
struct reading {
    struct nr_quic *state;
    struct nr_crypto *crypto;
    uint32_t length; /* of the datagram */
    uint8_t *scratch;
    uint32_t scratch_left;
    struct nr_hello_pieces *pieces;
    bool has_initial;
    bool has_opened;
};

/* -- reading -- */

static bool skip(struct span *s, uint64_t n) {
    if (n > s->left) {
        return false;
    }
    s->at += n;
    s->left -= (uint32_t)n;
    return true;
}

/* Takes a number of one, two, four or eight bytes (RFC 9000, 16). */
static bool take_number(struct span *s, uint64_t *number) {
    if (s->left == 0) {
        return false;
    }
    const uint8_t *at = s->at;
    const uint32_t size = 1u << (at[0] >> 6);
    if (!skip(s, size)) {
        return false;
    }
    *number = at[0] & 0x3f;
    for (uint32_t i = 1; i < size; i++) {
        *number = *number << 8 | at[i];
    }
    return true;
}

/* Takes a connection's id. Those of unknown versions may be longer, but nobody uses such. */
static bool take_id(struct span *s, const uint8_t **id, uint8_t *length) {
    if (s->left == 0 || s->at[0] > MAX_ID) {
        return false;
    }
    *length = s->at[0];
    *id = s->at + 1;
    return skip(s, 1u + *length);
}

static const struct version *find_version(uint32_t number) {
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        if (number >= versions[i].first && number <= versions[i].last) {
            return &versions[i];
        }
    }
    return NULL;
}

/* Reads a long header up to what its type decides. */
static bool read_invariants(struct span *s, struct packet *p) {
    const uint8_t *scid;
    if (s->left < 7 || !(s->at[0] & LONG_HEADER)) {
        return false;
    }
    p->at = s->at;
    p->number = nr_be32(s->at + 1);
    p->version = find_version(p->number);
    skip(s, 5);
    return take_id(s, &p->dcid, &p->dcid_length) && take_id(s, &scid, &p->scid_length);
}

/* Reads the rest of a header whose version is known. Returns false if it makes no sense. */
static bool read_typed(struct span *s, struct packet *p) {
    uint64_t length;
    p->type = ((p->at[0] >> 4) - p->version->initial) & 3;
    p->has_token = false;
    if (p->type == RETRY) {
        return s->left > NR_GCM_TAG; /* a token and a tag, which fill the datagram */
    }
    if (p->type == INITIAL) {
        uint64_t token;
        if (!take_number(s, &token) || !skip(s, token)) {
            return false;
        }
        p->has_token = token > 0;
    }
    if (!take_number(s, &length) || length < MIN_PACKET || length > MAX_DATAGRAM) {
        return false;
    }
    p->number_at = (uint32_t)(s->at - p->at);
    p->size = p->number_at + (uint32_t)length;
    return true;
}

/* -- opening -- */

struct keys {
    uint8_t key[NR_AES_KEY];
    uint8_t iv[NR_GCM_NONCE];
    uint8_t hp[NR_AES_KEY];
};

static bool derive(struct nr_crypto *crypto, const struct version *v, const uint8_t *dcid,
                   uint32_t dcid_length, bool is_client, struct keys *keys) {
    uint8_t secret[NR_SHA256_SIZE];
    const char *side = is_client ? "client in" : "server in";
    return nr_crypto_extract(crypto, v->salt, sizeof v->salt, dcid, dcid_length, secret) &&
           nr_crypto_expand(crypto, secret, side, secret, sizeof secret) &&
           nr_crypto_expand(crypto, secret, v->key, keys->key, sizeof keys->key) &&
           nr_crypto_expand(crypto, secret, v->iv, keys->iv, sizeof keys->iv) &&
           nr_crypto_expand(crypto, secret, v->hp, keys->hp, sizeof keys->hp);
}

/* Copies the header, takes its protection off, and mixes the packet number into the nonce. Returns
 * the header's size. The number is used as sent: nobody sends so many Initials that its upper bytes
 * are left out. */
static uint32_t unmask(const struct packet *p, const uint8_t mask[NR_AES_BLOCK], uint8_t *header,
                       uint8_t nonce[NR_GCM_NONCE]) {
    const uint8_t first = p->at[0] ^ (mask[0] & HIDDEN_BITS);
    const uint32_t number_size = (first & NUMBER_BITS) + 1u;
    memcpy(header, p->at, p->number_at + number_size);
    header[0] = first;
    for (uint32_t i = 0; i < number_size; i++) {
        header[p->number_at + i] ^= mask[1 + i];
        nonce[NR_GCM_NONCE - number_size + i] ^= header[p->number_at + i];
    }
    return p->number_at + number_size;
}

/* Opens a whole packet into scratch: its header, behind it the frames. Returns false if these are
 * not its keys. */
static bool open_with(const struct reading *r, const struct packet *p, const uint8_t *dcid,
                      uint32_t dcid_length, bool is_client, struct span *frames) {
    struct keys keys;
    uint8_t mask[NR_AES_BLOCK];
    if (!nr_crypto_may_open(r->crypto) ||
        !derive(r->crypto, p->version, dcid, dcid_length, is_client, &keys) ||
        !nr_crypto_aes(r->crypto, keys.hp, p->at + p->number_at + SAMPLE_AT, mask)) {
        return false;
    }
    const uint32_t header_size = unmask(p, mask, r->scratch, keys.iv);
    const struct nr_sealed sealed = {.key = keys.key,
                                     .nonce = keys.iv,
                                     .header = r->scratch,
                                     .header_size = header_size,
                                     .at = p->at + header_size,
                                     .size = p->size - header_size};
    *frames = (struct span){r->scratch + header_size, sealed.size - NR_GCM_TAG};
    return nr_crypto_unseal(r->crypto, &sealed, r->scratch + header_size);
}

/* -- frames -- */

static void add_piece(struct reading *r, const uint8_t *at, uint64_t length, uint64_t offset) {
    struct nr_hello_pieces *pieces = r->pieces;
    if (length == 0 || offset + length > UINT32_MAX) {
        return; /* the caller keeps far less of a hello */
    }
    if (pieces->count == NR_HELLO_PIECES) {
        r->crypto->pieces_left_out++;
        return;
    }
    pieces->piece[pieces->count++] =
        (struct nr_hello_piece){at, (uint32_t)length, (uint32_t)offset};
}

static bool take_crypto(struct reading *r, struct span *s) {
    uint64_t offset, length;
    if (!take_number(s, &offset) || !take_number(s, &length)) {
        return false;
    }
    const uint8_t *at = s->at;
    if (!skip(s, length)) {
        return false;
    }
    add_piece(r, at, length, offset);
    return true;
}

static bool skip_ack(struct span *s, bool has_ecn) {
    uint64_t number, ranges;
    if (!take_number(s, &number) || !take_number(s, &number) || !take_number(s, &ranges) ||
        !take_number(s, &number) || ranges > s->left) {
        return false;
    }
    /* A gap and a length for each range; counts of ECT0, ECT1 and CE. */
    for (uint64_t left = 2 * ranges + (has_ecn ? 3 : 0); left > 0; left--) {
        if (!take_number(s, &number)) {
            return false;
        }
    }
    return true;
}

static bool skip_close(struct span *s) {
    uint64_t number;
    return take_number(s, &number) && take_number(s, &number) && take_number(s, &number) &&
           skip(s, number);
}

/* Takes the pieces of CRYPTO frames, up to a frame that an Initial must not have. */
static void take_frames(struct reading *r, struct span frames) {
    bool is_good = true;
    while (is_good && frames.left > 0) {
        const uint8_t type = frames.at[0];
        skip(&frames, 1);
        switch (type) {
        case FRAME_PADDING:
        case FRAME_PING:
            break;
        case FRAME_ACK:
        case FRAME_ACK_ECN:
            is_good = skip_ack(&frames, type == FRAME_ACK_ECN);
            break;
        case FRAME_CRYPTO:
            is_good = take_crypto(r, &frames);
            break;
        case FRAME_CLOSE:
            is_good = skip_close(&frames);
            break;
        default:
            return;
        }
    }
}

/* -- connections -- */

static void begin(struct nr_quic *state, const struct packet *p) {
    state->version = p->number;
    state->client = state->from;
    state->dcid_length = p->dcid_length;
    memcpy(state->dcid, p->dcid, p->dcid_length);
}

/* Tries the keys of the connection that is known. */
static bool open_known(const struct reading *r, const struct packet *p, struct span *frames) {
    struct nr_quic *state = r->state;
    const bool is_client = state->from == state->client;
    if (state->version == 0 ||
        !open_with(r, p, state->dcid, state->dcid_length, is_client, frames)) {
        return false;
    }
    if (!is_client) {
        state->version = p->number;
    } else if (state->is_negotiated && state->version != p->number) {
        state->version = p->number;
        state->is_negotiated = false;
        state->begins = true;
    }
    return true;
}

/* Tries the keys of a client's first Initial, or of its first one after a Retry. */
static bool open_first(const struct reading *r, const struct packet *p, struct span *frames) {
    struct nr_quic *state = r->state;
    const bool goes_on = state->is_retrying && state->from == state->client;
    if ((p->dcid_length < MIN_FIRST_ID && !p->has_token) ||
        !open_with(r, p, p->dcid, p->dcid_length, true, frames)) {
        return false;
    }
    begin(state, p);
    state->is_retried = goes_on;
    state->is_retrying = false;
    state->is_negotiated = false;
    state->begins = state->begins || !goes_on;
    return true;
}

static bool has_dcid(const struct nr_quic *state, const struct packet *p) {
    return state->version != 0 && state->from == state->client &&
           state->dcid_length == p->dcid_length &&
           memcmp(state->dcid, p->dcid, p->dcid_length) == 0;
}

/* Tries the keys that a packet may have; the likely ones first. */
static bool open_any(const struct reading *r, const struct packet *p, struct span *frames) {
    if (has_dcid(r->state, p)) {
        return open_known(r, p, frames);
    }
    if (r->state->is_retrying) {
        return open_first(r, p, frames) || open_known(r, p, frames);
    }
    return open_known(r, p, frames) || open_first(r, p, frames);
}

static bool open_initial(struct reading *r, const struct packet *p) {
    struct span frames;
    if (p->size > r->scratch_left || !open_any(r, p, &frames)) {
        r->crypto->unopened++;
        return false;
    }
    r->crypto->opened++;
    r->scratch += p->size;
    r->scratch_left -= p->size;
    take_frames(r, frames);
    return true;
}

/* Returns true if the header of an Initial that was not opened is no coincidence. */
static bool is_certain(const struct packet *p, bool is_whole, uint32_t length) {
    return p->at[0] & FIXED_BIT &&
           (is_whole ? length >= MIN_DATAGRAM : p->dcid_length >= MIN_FIRST_ID);
}

static void read_initial(struct reading *r, const struct packet *p, bool is_whole) {
    r->has_initial = true;
    if (r->crypto != NULL && is_whole && open_initial(r, p)) {
        r->has_opened = true;
    } else if (r->state->version == 0 && is_certain(p, is_whole, r->length)) {
        begin(r->state, p);
    }
}

/* Reads the list of a Version Negotiation. It comes from a server that a client has asked; where
 * the question was not seen, a known version must be in it. */
static void read_negotiation(struct nr_quic *state, const struct packet *p, const struct span *s) {
    bool is_known = false;
    for (uint32_t at = 0; at + 4 <= s->left; at += 4) {
        is_known = is_known || find_version(nr_be32(s->at + at)) != NULL;
    }
    if (s->left > 0 && s->left % 4 == 0 &&
        (state->version != 0 ? state->from != state->client
                             : is_known && p->scid_length >= MIN_FIRST_ID)) {
        state->is_negotiated = true;
    }
}

/* Reads the next packet of the datagram. Returns false if no other one follows it. */
static bool read_packet(struct reading *r, struct span *s) {
    struct packet p;
    const uint32_t size = s->left;
    if (!read_invariants(s, &p)) {
        return false;
    }
    if (p.number == 0) {
        read_negotiation(r->state, &p, s);
    }
    if (p.version == NULL || !read_typed(s, &p)) {
        return false;
    }
    if (p.type == RETRY) {
        r->state->is_retrying |= r->state->version != 0 && r->state->from != r->state->client;
        return false;
    }
    const bool is_whole = p.size <= size;
    if (p.type == INITIAL) {
        read_initial(r, &p, is_whole);
    }
    if (is_whole) {
        *s = (struct span){p.at + p.size, size - p.size};
    }
    return is_whole;
}

int nr_quic_pieces(const uint8_t *datagram, uint32_t length, struct nr_quic *state,
                   struct nr_crypto *crypto, uint8_t *scratch, uint32_t scratch_size,
                   struct nr_hello_pieces *pieces) {
    struct reading r = {.state = state,
                        .crypto = crypto,
                        .length = length,
                        .scratch = scratch,
                        .scratch_left = scratch_size,
                        .pieces = pieces};
    struct span s = {datagram, length};
    uint32_t packets = 0;
    nr_hello_pieces_clear(pieces);
    state->begins = false;
    while (packets < MAX_PACKETS && read_packet(&r, &s)) {
        packets++;
    }
    if (state->version == 0 && !state->is_negotiated) {
        return NR_NOT_THIS;
    }
    return r.has_initial && !r.has_opened ? NR_MORE : NR_MESSAGE;
}
