/* Reads lines, and answers each with one: what the parsers of TLS and DTLS say to bytes.
 *
 *     tls more|all BYTES ASKED         nr_tls_parse; with JA4 and JA3 if the library is there
 *     t|d|q more|all BYTES ASKED       nr_hello_parse, nr_hello_parse_cut
 *     pieces more BYTES -              nr_dtls_pieces
 *     raw-t|raw-d|raw-q more BYTES -   the texts of JA4 and JA3, before their digests
 *
 * Bytes are hexadecimal, "-" for none. ASKED is the record of the question. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/crypto.h"
#include "app/hello.h"

enum { LINE = 1 << 20 };

static uint32_t from_hex(const char *text, uint8_t **bytes) {
    const size_t length = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
    *bytes = malloc(length > 0 ? length : 1);
    for (size_t i = 0; i < length; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        (*bytes)[i] = (uint8_t)byte;
    }
    return (uint32_t)length;
}

static void print_hex(const uint8_t *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        printf("%02x", bytes[i]);
    }
}

static const char *const VERDICTS[] = {"not", "more", "message"};

static void print_message(int verdict, const struct nr_message *m) {
    printf("%s %d %d %d %u %llu %d ", VERDICTS[verdict], m->protocol, m->role, m->next, m->needs,
           (unsigned long long)m->used, m->record.is_cut);
    print_hex(m->record.bytes, m->record.size);
    printf("-\n");
}

static void say_pieces(const uint8_t *bytes, uint32_t length) {
    struct nr_hello_pieces p;
    printf("%s", VERDICTS[nr_dtls_pieces(bytes, length, &p)]);
    printf(" %u %d %d %u", p.sequence, p.is_cut, p.is_refused, p.alert);
    for (uint32_t i = 0; i < p.count; i++) {
        printf(" %u:", p.piece[i].offset);
        print_hex(p.piece[i].at, p.piece[i].length);
    }
    printf("\n");
}

static void say_raw(char transport, const uint8_t *bytes, uint32_t length) {
    struct nr_hello hello;
    struct nr_raw raw[3];
    char head[NR_JA4_HEAD];
    memset(raw, 0, sizeof raw);
    if (nr_hello_open(bytes, length, transport, &hello) == NR_NOT_THIS) {
        printf("not\n");
        return;
    }
    nr_ja4_head(&hello, transport, head);
    nr_ja4_ciphers(&hello, &raw[0]);
    nr_ja4_extensions(&hello, &raw[1]);
    nr_ja3(&hello, &raw[2]);
    printf("%.*s_%.*s_%.*s %.*s\n", NR_JA4_HEAD, head, (int)raw[0].size, raw[0].text,
           (int)raw[1].size, raw[1].text, (int)raw[2].size, raw[2].text);
}

static void say_message(const char *what, const struct nr_app_bytes *bytes,
                        struct nr_crypto *crypto) {
    static struct nr_message message;
    int verdict;
    memset(&message, 0, sizeof message);
    if (strcmp(what, "tls") == 0) {
        verdict = nr_tls_parse(bytes, &message);
        if (verdict == NR_MESSAGE && message.role == NR_ASKS) {
            nr_tls_add_ja4(bytes, crypto, &message.record);
        }
    } else {
        verdict = bytes->is_all ? nr_hello_parse_cut(bytes->at, bytes->length, what[0], &message)
                                : nr_hello_parse(bytes->at, bytes->length, what[0], &message);
        if (verdict == NR_MESSAGE && nr_is_client_hello(bytes->at, bytes->length)) {
            nr_ja4_add(bytes->at, bytes->length, what[0], crypto, &message.record);
        } else if (verdict == NR_MESSAGE) {
            nr_hello_compare(bytes->at, bytes->length, what[0], bytes->asked, bytes->asked_size,
                             &message.record);
        }
    }
    print_message(verdict, &message);
}

int main(void) {
    static char line[LINE], what[16], which[16], hex[LINE], asked_hex[LINE];
    struct nr_crypto *crypto = nr_crypto_open();
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint8_t *at, *asked;
        if (sscanf(line, "%15s %15s %s %s", what, which, hex, asked_hex) != 4) {
            return 1;
        }
        const uint32_t length = from_hex(hex, &at), asked_size = from_hex(asked_hex, &asked);
        const struct nr_app_bytes bytes = {.at = at,
                                           .length = length,
                                           .is_all = strcmp(which, "all") == 0,
                                           .asked = asked_size > 0 ? asked : NULL,
                                           .asked_size = asked_size};
        if (strcmp(what, "pieces") == 0) {
            say_pieces(at, length);
        } else if (strncmp(what, "raw-", 4) == 0) {
            say_raw(what[4], at, length);
        } else {
            say_message(what, &bytes, crypto);
        }
        fflush(stdout);
        free(at);
        free(asked);
    }
    if (crypto != NULL) {
        nr_crypto_close(crypto);
    }
    return 0;
}
