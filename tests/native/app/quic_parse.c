/* Reads datagrams of one flow with app/quic.c, as the lines of its input say:
 *
 *   new              a flow begins
 *   plain            from now on without libcrypto
 *   scratch SIZE     from now on with so many bytes of scratch
 *   limit NUMBER     opens so many Initials a second
 *   0 HEX            a datagram of side 0; or of side 1
 *
 * It prints a line for each datagram: the verdict, the state, and the pieces as offset:bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "app/parser.h"

enum { LONGEST = 70000 };

static uint8_t *from_hex(const char *text, size_t size) {
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    for (size_t i = 0; i < size; i++) {
        const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return bytes;
}

static void print_hex(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        printf("%02x", bytes[i]);
    }
}

static void read_datagram(struct nr_quic *state, struct nr_crypto *crypto, uint32_t scratch_size,
                          const char *line) {
    static const char *const verdicts[] = {"not", "more", "message"};
    struct nr_hello_pieces pieces;
    const size_t size = (strlen(line) - 2) / 2;
    uint8_t *datagram = from_hex(line + 2, size), *scratch = malloc(scratch_size + 1);
    state->from = line[0] == '1';
    const int verdict =
        nr_quic_pieces(datagram, (uint32_t)size, state, crypto, scratch, scratch_size, &pieces);
    printf("%s %x ", verdicts[verdict], state->version);
    print_hex(state->dcid, state->dcid_length);
    printf(" client=%u%s%s%s%s", state->client, state->begins ? " begins" : "",
           state->is_retrying ? " retrying" : "", state->is_retried ? " retried" : "",
           state->is_negotiated ? " negotiated" : "");
    for (uint32_t i = 0; i < pieces.count; i++) {
        printf(" %u:", pieces.piece[i].offset);
        print_hex(pieces.piece[i].at, pieces.piece[i].length);
    }
    printf("\n");
    free(datagram);
    free(scratch);
}

int main(void) {
    static char line[2 * LONGEST];
    struct nr_crypto *opened = nr_crypto_open(), *crypto = opened;
    struct nr_quic state = {0};
    uint32_t scratch_size = LONGEST;
    if (crypto == NULL) {
        perror("libcrypto");
        return 1;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "new") == 0) {
            memset(&state, 0, sizeof state);
        } else if (strcmp(line, "plain") == 0) {
            crypto = NULL;
        } else if (strncmp(line, "scratch ", 8) == 0) {
            scratch_size = (uint32_t)strtoul(line + 8, NULL, 10);
        } else if (strncmp(line, "limit ", 6) == 0) {
            opened->for_openings.left = (uint32_t)strtoul(line + 6, NULL, 10);
        } else if (strcmp(line, "books") == 0) {
            printf("opened=%llu unopened=%llu left_out=%llu pieces_left_out=%llu errors=%llu\n",
                   (unsigned long long)opened->opened, (unsigned long long)opened->unopened,
                   (unsigned long long)opened->left_out,
                   (unsigned long long)opened->pieces_left_out, (unsigned long long)opened->errors);
        } else {
            read_datagram(&state, crypto, scratch_size, line);
        }
    }
    nr_crypto_close(opened);
    return 0;
}
