/* Feeds the datagrams of libFuzzer to the parser of QUIC's Initials.
 *
 * Each datagram has two bytes in front: a kind, and a length in units of eight bytes. Some kinds
 * have the bytes as they are; others seal them as the frames of an Initial, so that the reading of
 * frames is reached. Three calls in a row use one state. */
#include <stdlib.h>
#include <string.h>

#include "app/parser.h"

#include "quic_seal.h"

enum { SCRATCH = 2048, DATAGRAMS = 3, HEAD = 2 };

static struct nr_crypto *crypto;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    crypto = nr_crypto_open();
    return crypto == NULL || !seal_open() ? 1 : 0;
}

static void check(bool is_true) {
    if (!is_true) {
        abort();
    }
}

/* The pieces lie in scratch, in the order of their packets, and do not overlap. */
static void check_pieces(const struct nr_hello_pieces *pieces, const uint8_t *scratch,
                         uint32_t scratch_size) {
    const uint8_t *at = scratch;
    check(pieces->count <= NR_HELLO_PIECES);
    for (uint32_t i = 0; i < pieces->count; i++) {
        const struct nr_hello_piece *piece = &pieces->piece[i];
        check(piece->length > 0 && piece->offset + piece->length >= piece->offset);
        check(piece->at >= at && piece->at + piece->length <= scratch + scratch_size);
        at = piece->at + piece->length;
    }
}

/* Reads the datagram from memory of its exact size; twice, which must give the same. */
static void read_datagram(struct nr_quic *state, struct nr_crypto *with, const uint8_t *datagram,
                          uint32_t length, uint32_t scratch_size) {
    struct nr_hello_pieces pieces[2];
    struct nr_quic states[2] = {*state, *state};
    uint8_t *copy = malloc(length), *scratch[2];
    int verdict[2];
    const uint32_t version = state->version;
    if (length > 0) {
        memcpy(copy, datagram, length);
    }
    for (int i = 0; i < 2; i++) {
        crypto->for_openings.left = 100;
        scratch[i] = malloc(scratch_size);
        verdict[i] =
            nr_quic_pieces(copy, length, &states[i], with, scratch[i], scratch_size, &pieces[i]);
        check_pieces(&pieces[i], scratch[i], scratch_size);
    }
    *state = states[0];
    check(verdict[0] == verdict[1] && memcmp(&states[0], &states[1], sizeof *states) == 0);
    check(pieces[0].count == pieces[1].count && crypto->errors == 0);
    for (uint32_t i = 0; i < pieces[0].count; i++) {
        check(memcmp(pieces[0].piece[i].at, pieces[1].piece[i].at, pieces[0].piece[i].length) == 0);
    }
    check(verdict[0] == NR_MESSAGE || pieces[0].count == 0);
    check(version == 0 || verdict[0] != NR_NOT_THIS);
    check(with != NULL || pieces[0].count == 0);
    check(state->dcid_length <= sizeof state->dcid);
    free(copy);
    free(scratch[0]);
    free(scratch[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t sealed[SEAL_LARGEST];
    struct nr_quic state;
    memset(&state, 0, sizeof state);
    for (int n = 0; n < DATAGRAMS && size >= HEAD; n++) {
        const uint8_t kind = data[0];
        const size_t wanted = n == DATAGRAMS - 1 ? size : data[1] * 8u;
        data += HEAD;
        size -= HEAD;
        uint32_t length = (uint32_t)(wanted < size ? wanted : size);
        const uint8_t *datagram = data;
        data += length;
        size -= length;
        if (kind & 1) {
            length = seal(datagram, length, kind, sealed);
            datagram = sealed;
        }
        state.from = kind >> 1 & 1;
        read_datagram(&state, kind >> 7 ? NULL : crypto, datagram, length,
                      kind & 4 ? SCRATCH : length);
    }
    return 0;
}
