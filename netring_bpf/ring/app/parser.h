/* What a parser of an application protocol is: a pure function from the bytes of one side to one
 * message. It keeps nothing, allocates nothing, and reads no byte that it was not given. flow.c of
 * this room calls parsers, and pairs questions with answers. */
#ifndef NR_APP_PARSER_H
#define NR_APP_PARSER_H

#include "app/crypto.h"
#include "app/record.h"

/* The bytes that a side has sent, in order and without holes, from where its last message ended; or
 * one datagram. */
struct nr_app_bytes {
    const uint8_t *at;
    uint32_t length;
    bool is_datagram;
    bool is_all;    /* no more will come: a datagram, the end of a stream, or of what is kept */
    bool is_cut;    /* the capture has not all of the datagram */
    uint16_t src_p; /* ports count only where the content leaves a doubt */
    uint16_t dst_p;
    /* The record of the oldest question of this flow without an answer; NULL: there is none. */
    const uint8_t *asked;
    uint32_t asked_size;
    bool from_orig;           /* the originator of the flow sent them */
    struct nr_crypto *crypto; /* for JA4 and JA3; NULL: they are left out */
    uint32_t note; /* of the last message of this flow, whichever side sent it; 0: there was none
                      since both sides began, or began anew */
};

/* Verdicts of a parser. */
enum {
    NR_NOT_THIS, /* these bytes are not of the protocol */
    NR_MORE,     /* they may be, or are, and the message is not complete: see `needs` */
    NR_MESSAGE   /* a message was read */
};

/* Roles of a message. */
enum {
    NR_ASKS,    /* waits for an answer of the same `pair` */
    NR_ANSWERS, /* with the question of the same `pair` it makes one exchange */
    NR_ALONE,   /* an exchange of its own */
    NR_SILENT   /* says nothing: the rest of a body, a greeting */
};

/* The parser of the next bytes of a side. */
enum {
    NR_PARSE_SAME,    /* the same one */
    NR_PARSE_NOTHING, /* no more bytes of this side are read */
    NR_PARSE_ANY,     /* whichever recognises them, as at the beginning of a flow */
    NR_PARSE_CHUNKS   /* nr_http_chunk: a body in chunks, then as before */
};

struct nr_message {
    uint8_t protocol; /* NR_APP_*; set too with NR_MORE once it is certain, else NR_APP_NONE */
    uint8_t role;     /* NR_ASKS ... */
    uint8_t next;     /* NR_PARSE_* of this side's next bytes */
    bool hands_over;  /* both sides begin anew behind it (NR_PARSE_ANY), whatever its role */
    uint32_t pair;    /* tells the questions of one flow apart */
    uint32_t needs;   /* with NR_MORE: do not ask again before this many bytes; 0: unknown */
    uint64_t used;    /* bytes of this message; may lie beyond `length`: those are skipped */
    uint32_t note;    /* the parser's own, for its next call on either side of the flow */
    struct nr_record record;
};

/* Reads one message. The caller has cleared *message. */
typedef int nr_app_parser(const struct nr_app_bytes *bytes, struct nr_message *message);

/* tls.c: a record layer with a ClientHello or ServerHello, of a stream. */
nr_app_parser nr_tls_parse;
/* Adds JA4 and JA3 of the ClientHello that nr_tls_parse has read from these bytes, where they came
 * without `crypto`. */
void nr_tls_add_ja4(const struct nr_app_bytes *bytes, struct nr_crypto *crypto,
                    struct nr_record *record);
/* dtls.c: one datagram; hellos in several fragments are put together by the caller. */
/* http.c */
nr_app_parser nr_http_parse; /* version 1, requests and answers, and the preface of version 2 */
/* One chunk of a body; NR_SILENT. `next` is NR_PARSE_CHUNKS until the last chunk, and then
 * NR_PARSE_SAME: nr_http_parse again. */
nr_app_parser nr_http_chunk;
/* dns.c: by its ports it is DNS, mDNS or LLMNR; a stream has a length before each message. */
nr_app_parser nr_dns_parse;
nr_app_parser nr_netbios_parse;
/* dhcp.c, dhcpv6.c */
nr_app_parser nr_dhcp_parse;
nr_app_parser nr_dhcpv6_parse;
/* ssdp.c, ssh.c, mqtt.c */
nr_app_parser nr_ssdp_parse;
nr_app_parser nr_ssh_parse;
nr_app_parser nr_mqtt_parse;
/* starttls.c: SMTP, IMAP, POP3, FTP, LDAP, XMPP, PostgreSQL and MySQL, up to TLS. The first message
 * that tells the protocol is NR_ALONE with an empty record, and all others are NR_SILENT. */
nr_app_parser nr_starttls_parse;
/* labels.c: protocols that only get a label; the message is NR_ALONE with an empty record, and
 * next is NR_PARSE_NOTHING. */
nr_app_parser nr_label_parse;

/* -- hellos, which TLS, DTLS and QUIC have in common: hello.c, ja4.c -- */

/* Reads handshake messages, without record layers: a ClientHello or a ServerHello, first in
 * `bytes`. `transport` is 't' (TCP), 'd' (DTLS) or 'q' (QUIC), as JA4 has it. */
int nr_hello_parse(const uint8_t *bytes, uint32_t length, char transport,
                   struct nr_message *message);
/* The same, where no more bytes will come: a hello that is not complete gives what is certain, and
 * NR_FIELD_CUT, if its first part is there. */
int nr_hello_parse_cut(const uint8_t *bytes, uint32_t length, char transport,
                       struct nr_message *message);
/* Adds NR_FIELD_RESUMED to the record of a ServerHello, up to version 1.2, that took up the session
 * which the client named. `asked` is the record of the ClientHello. */
void nr_hello_compare(const uint8_t *hello, uint32_t length, char transport, const uint8_t *asked,
                      uint32_t asked_size, struct nr_record *record);

/* A piece of handshake bytes, as DTLS fragments and CRYPTO frames of QUIC carry them. */
struct nr_hello_piece {
    const uint8_t *at;
    uint32_t length;
    uint32_t offset; /* in the handshake messages of this side */
};
#define NR_HELLO_PIECES 32u
struct nr_hello_pieces {
    uint32_t count;
    uint16_t sequence; /* DTLS: of the message that the pieces belong to */
    bool is_cut;       /* there were more pieces, or some that were not all there */
    bool is_refused;   /* DTLS: an alert in place of the hello ends the handshake */
    uint8_t alert;     /* then: its description */
    struct nr_hello_piece piece[NR_HELLO_PIECES];
};
/* Leaves the pieces themselves as they are: most datagrams have none. */
static inline void nr_hello_pieces_clear(struct nr_hello_pieces *pieces) {
    memset(pieces, 0, offsetof(struct nr_hello_pieces, piece));
}

/* dtls.c: reads a datagram's handshake fragments of the first flight (message_seq 0 and 1; the
 * hello after a HelloVerifyRequest begins anew). Returns NR_NOT_THIS, or NR_MESSAGE with pieces
 * (perhaps none). The offset counts from the fragment's message header, which is put in front of
 * the first piece as TLS has it: see dtls.c. */
int nr_dtls_pieces(const uint8_t *datagram, uint32_t length, struct nr_hello_pieces *pieces);

/* quic.c: the Initial packets of a datagram (RFC 9000, RFC 9001, RFC 9369). */
struct nr_quic {
    uint32_t version;     /* the server's choice, the client's until then; 0: no Initial was seen */
    uint8_t from : 1;     /* set by the caller before each call: the side that sent the datagram */
    uint8_t client : 1;   /* the side of the client, if there is a version */
    bool begins : 1;      /* after a call: a new connection began, earlier pieces are void */
    bool is_retried : 1;  /* a Retry gave another dcid */
    bool is_retrying : 1; /* a Retry was seen, and no Initial that followed it */
    bool is_negotiated : 1; /* a Version Negotiation was seen, and no Initial of another version */
    uint8_t dcid_length;    /* of the client's first Initial, which gives the keys */
    uint8_t dcid[20];
};
/* Reads the Initials of a datagram. Returns
 * - NR_NOT_THIS: it is not QUIC, or nothing in it tells;
 * - NR_MORE: it is QUIC, and its Initials could not be opened: there is no libcrypto (`crypto` is
 *   NULL), the budget is spent, they are damaged, cut or longer than `scratch`, or the first one of
 *   the client was not seen. It has no pieces;
 * - NR_MESSAGE: it is QUIC, and *pieces has the pieces of its CRYPTO frames, perhaps none. They lie
 *   in `scratch`, of `scratch_size` bytes; a datagram needs at most as many as it has.
 * Once a flow has a version, none of its datagrams is NR_NOT_THIS. */
int nr_quic_pieces(const uint8_t *datagram, uint32_t length, struct nr_quic *state,
                   struct nr_crypto *crypto, uint8_t *scratch, uint32_t scratch_size,
                   struct nr_hello_pieces *pieces);

/* ja4.c: adds JA4 and JA3 to the record of a ClientHello that nr_hello_parse has read.  `crypto`
 * NULL: adds nothing. */
void nr_ja4_add(const uint8_t *hello, uint32_t length, char transport, struct nr_crypto *crypto,
                struct nr_record *record);
/* Tells whether a message that was read is a ClientHello, which nr_ja4_add takes. */
static inline bool nr_is_client_hello(const uint8_t *hello, uint32_t length) {
    return length > 0 && hello[0] == 1;
}

#endif
