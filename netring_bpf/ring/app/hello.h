/* Hellos of TLS, DTLS and QUIC, cut into their parts: hello.c reads them, and ja4.c, tls.c and
 * dtls.c use them. */
#ifndef NR_APP_HELLO_H
#define NR_APP_HELLO_H

#include "app/parser.h"
#include "dissect/cursor.h"

enum { NR_CLIENT_HELLO = 1, NR_SERVER_HELLO = 2 };
enum { NR_HELLO_HEAD = 4, NR_HELLO_RANDOM = 32, NR_EXTENSION_HEAD = 4 };
/* Longer messages are not believed: hellos with the largest keys and tickets are much shorter. */
#define NR_HELLO_MAX 0x1ffffu

/* Extensions by their numbers. */
enum {
    NR_EXT_SERVER_NAME = 0x0000,
    NR_EXT_GROUPS = 0x000a,
    NR_EXT_POINT_FORMATS = 0x000b,
    NR_EXT_SIGNATURES = 0x000d,
    NR_EXT_ALPN = 0x0010,
    NR_EXT_TICKET = 0x0023,
    NR_EXT_PRE_SHARED_KEY = 0x0029,
    NR_EXT_VERSIONS = 0x002b,
    NR_EXT_KEY_SHARE = 0x0033,
    NR_EXT_ECH = 0xfe0d
};

/* Bytes of a hello that are left to read. */
struct nr_span {
    const uint8_t *at;
    uint32_t length;
};

/* Takes bytes off the front. Returns false if there are fewer. */
static inline bool nr_take(struct nr_span *from, uint32_t count, struct nr_span *taken) {
    if (from->length < count) {
        return false;
    }
    *taken = (struct nr_span){from->at, count};
    from->at += count;
    from->length -= count;
    return true;
}
/* Takes a vector behind its length of one or two bytes. Returns false if it is not all there. */
static inline bool nr_take_vector(struct nr_span *from, uint32_t size, struct nr_span *vector) {
    if (from->length < size) {
        return false;
    }
    const uint32_t length = size == 1 ? from->at[0] : nr_be16(from->at);
    if (length > from->length - size) {
        return false;
    }
    *vector = (struct nr_span){from->at + size, length};
    from->at += size + length;
    from->length -= size + length;
    return true;
}
/* Takes a number of two bytes. */
static inline bool nr_take16(struct nr_span *from, uint16_t *number) {
    struct nr_span taken;
    if (!nr_take(from, 2, &taken)) {
        return false;
    }
    *number = nr_be16(taken.at);
    return true;
}
/* Takes an extension. Returns false at the end, or if the rest of it is not there. */
static inline bool nr_take_extension(struct nr_span *from, uint16_t *type, struct nr_span *body) {
    enum { HEAD = NR_EXTENSION_HEAD };
    if (from->length < HEAD) {
        return false;
    }
    const uint32_t size = nr_be16(from->at + 2);
    if (size > from->length - HEAD) {
        return false;
    }
    *type = nr_be16(from->at);
    *body = (struct nr_span){from->at + HEAD, size};
    from->at += HEAD + size;
    from->length -= HEAD + size;
    return true;
}

/* RFC 8701: numbers that mean nothing, which clients send so that servers bear unknown ones. */
static inline bool nr_is_grease(uint16_t number) {
    return (number & 0x0f0f) == 0x0a0a && number >> 8 == (number & 0xff);
}

/* Places of the extensions that are looked at. */
enum {
    NR_AT_UNKNOWN, /* all others */
    NR_AT_SERVER_NAME,
    NR_AT_GROUPS,
    NR_AT_POINT_FORMATS,
    NR_AT_SIGNATURES,
    NR_AT_ALPN,
    NR_AT_TICKET,
    NR_AT_PRE_SHARED_KEY,
    NR_AT_VERSIONS,
    NR_AT_KEY_SHARE,
    NR_AT_ECH,
    NR_EXTENSIONS_KNOWN
};
static inline uint32_t nr_extension_place(uint16_t type) {
    static const uint8_t places[NR_EXT_KEY_SHARE + 1] = {
        [NR_EXT_SERVER_NAME] = NR_AT_SERVER_NAME,
        [NR_EXT_GROUPS] = NR_AT_GROUPS,
        [NR_EXT_POINT_FORMATS] = NR_AT_POINT_FORMATS,
        [NR_EXT_SIGNATURES] = NR_AT_SIGNATURES,
        [NR_EXT_ALPN] = NR_AT_ALPN,
        [NR_EXT_TICKET] = NR_AT_TICKET,
        [NR_EXT_PRE_SHARED_KEY] = NR_AT_PRE_SHARED_KEY,
        [NR_EXT_VERSIONS] = NR_AT_VERSIONS,
        [NR_EXT_KEY_SHARE] = NR_AT_KEY_SHARE,
    };
    return type <= NR_EXT_KEY_SHARE ? places[type] : type == NR_EXT_ECH ? NR_AT_ECH : NR_AT_UNKNOWN;
}

#define NR_TYPES_KEPT 40u

/* The parts of a hello. A part that was not there yet is at NULL. */
struct nr_hello {
    uint8_t type;
    uint16_t version; /* the old field, which newer versions leave at that of TLS 1.2 */
    uint32_t size;    /* of the message, with its header */
    const uint8_t *random;
    struct nr_span session;
    struct nr_span ciphers;    /* a server's has one */
    struct nr_span extensions; /* as far as they are there */
    bool has_extensions;       /* all of them are there, or there are none */
    bool is_whole;             /* they are well-formed up to their end */
    uint32_t type_count;       /* of extensions that are all there */
    /* The body of the first one of each kind: in the upper half where it begins in `extensions`, in
     * the lower half its size. 0: there is none. */
    uint32_t extension[NR_EXTENSIONS_KNOWN];
    uint16_t types[NR_TYPES_KEPT]; /* of the first extensions */
};

/* Cuts a hello into its parts. Returns as nr_hello_parse does; with NR_MORE the parts that are
 * there. */
int nr_hello_open(const uint8_t *bytes, uint32_t length, char transport, struct nr_hello *hello);
/* Finds an extension that is all there, by its place (NR_AT_*). */
static inline bool nr_hello_find(const struct nr_hello *hello, uint32_t place,
                                 struct nr_span *body) {
    const uint32_t found = hello->extension[place];
    if (found == 0) {
        return false;
    }
    *body = (struct nr_span){hello->extensions.at + (found >> 16), found & 0xffff};
    return true;
}
/* Returns the newest version that a client offers, GREASE apart; 0: none is in the list.
 * `as_ja4`: by its number alone, so that drafts are above TLS 1.3. */
uint16_t nr_hello_newest(const struct nr_hello *hello, char transport, bool as_ja4);

/* Reads the version that a server chose. Returns false if the bytes that tell it are not there. */
bool nr_hello_chosen(const struct nr_hello *hello, uint16_t *version);
/* Does as nr_hello_compare does, of a server's hello. */
void nr_hello_compare_opened(const struct nr_hello *hello, const uint8_t *asked,
                             uint32_t asked_size, struct nr_record *record);

/* Reads a hello as nr_hello_parse does, or if `is_all` as nr_hello_parse_cut; with NR_MESSAGE its
 * parts are in *hello. */
int nr_hello_fill(const uint8_t *bytes, uint32_t length, char transport, bool is_all,
                  struct nr_hello *hello, struct nr_message *message);
/* ja4.c: reads a hello likewise, and adds what nr_ja4_add does. */
int nr_hello_read(const uint8_t *bytes, uint32_t length, char transport, bool is_all,
                  struct nr_crypto *crypto, struct nr_message *message);
/* ja4.c: the same as nr_ja4_add, of a hello that is complete. */
void nr_ja4_add_opened(const struct nr_hello *hello, char transport, struct nr_crypto *crypto,
                       struct nr_record *record);
/* ja4.c: the texts that JA4 and JA3 are digests of. */
enum { NR_JA4_HEAD = 10, NR_RAW_MAX = 8192 };
struct nr_raw {
    uint32_t size;
    bool is_full; /* something was left out: it has no digest */
    char text[NR_RAW_MAX];
};
void nr_ja4_head(const struct nr_hello *hello, char transport, char head[NR_JA4_HEAD]);
void nr_ja4_ciphers(const struct nr_hello *hello, struct nr_raw *raw);
void nr_ja4_extensions(const struct nr_hello *hello, struct nr_raw *raw);
void nr_ja3(const struct nr_hello *hello, struct nr_raw *raw);

#endif
