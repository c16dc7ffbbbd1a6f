/* Seals frames as Initials, for the fuzzer of QUIC, with libcrypto opened as the core opens it. */
#ifndef NR_TEST_QUIC_SEAL_H
#define NR_TEST_QUIC_SEAL_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SEAL_LARGEST 70000u
enum { SEAL_HEAD = 18, SEAL_NUMBER = 4, SEAL_TAG = 16, SEAL_LEAST = 4, SEAL_GET_TAG = 0x10 };

static struct {
    void *(*make)(void);
    const void *(*gcm)(void);
    const void *(*ecb)(void);
    int (*init)(void *ctx, const void *type, void *engine, const uint8_t *key, const uint8_t *iv);
    int (*update)(void *ctx, uint8_t *out, int *size, const uint8_t *in, int in_size);
    int (*final)(void *ctx, uint8_t *out, int *size);
    int (*control)(void *ctx, int type, int argument, void *pointer);
} seal_calls;
static void *seal_gcm, *seal_ecb;

static inline bool seal_open(void) {
    static const char *const names[] = {
        "EVP_CIPHER_CTX_new", "EVP_aes_128_gcm",     "EVP_aes_128_ecb",    "EVP_EncryptInit_ex",
        "EVP_EncryptUpdate",  "EVP_EncryptFinal_ex", "EVP_CIPHER_CTX_ctrl"};
    void *library = dlopen("libcrypto.so.3", RTLD_NOW);
    for (size_t i = 0; library != NULL && i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(library, names[i]);
        memcpy((uint8_t *)&seal_calls + i * sizeof found, &found, sizeof found);
    }
    seal_gcm = library != NULL ? seal_calls.make() : NULL;
    seal_ecb = library != NULL ? seal_calls.make() : NULL;
    return seal_gcm != NULL && seal_ecb != NULL;
}

/* Seals the frames with the keys of RFC 9001, A.1: of the server if bit 1 of the kind is set.
 * Returns the packet's length. */
static inline uint32_t seal(const uint8_t *frames, uint32_t length, uint8_t kind, uint8_t *out) {
    static const uint8_t keys[2][44] = {
        {0x1f, 0x36, 0x96, 0x13, 0xdd, 0x76, 0xd5, 0x46, 0x77, 0x30, 0xef, 0xcb, 0xe3, 0xb1, 0xa2,
         0x2d, 0xfa, 0x04, 0x4b, 0x2f, 0x42, 0xa3, 0xfd, 0x3b, 0x46, 0xfb, 0x25, 0x5c, 0x9f, 0x50,
         0x44, 0x9e, 0x04, 0xa0, 0xe8, 0x10, 0x28, 0x3a, 0x1e, 0x99, 0x33, 0xad, 0xed, 0xd2},
        {0xcf, 0x3a, 0x53, 0x31, 0x65, 0x3c, 0x36, 0x4c, 0x88, 0xf0, 0xf3, 0x79, 0xb6, 0x06, 0x7e,
         0x37, 0x0a, 0xc1, 0x49, 0x3c, 0xa1, 0x90, 0x58, 0x53, 0xb0, 0xbb, 0xa0, 0x3e, 0xc2, 0x06,
         0xb8, 0x43, 0x40, 0xe6, 0xa3, 0x2a, 0x31, 0x81, 0xec, 0xda, 0x1f, 0xb7, 0x4c, 0x0b}};
    static const uint8_t head[] = {0xc3, 0x00, 0x00, 0x00, 0x01, 0x08, 0x83, 0x94,
                                   0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0x00, 0x00};
    const uint8_t *key = keys[kind >> 1 & 1];
    const uint32_t sealed = length < SEAL_LEAST ? SEAL_LEAST : length;
    const uint32_t rest = SEAL_NUMBER + sealed + SEAL_TAG;
    uint8_t *at = out + SEAL_HEAD + SEAL_NUMBER, mask[16];
    int size;
    if (rest >= 0x4000) {
        return 0;
    }
    memcpy(out, head, sizeof head);
    out[16] = (uint8_t)(0x40 | rest >> 8);
    out[17] = (uint8_t)rest;
    memset(out + SEAL_HEAD, 0, SEAL_NUMBER);
    memset(at, 0, SEAL_LEAST);
    memcpy(at, frames, length);
    seal_calls.init(seal_gcm, seal_calls.gcm(), NULL, key, key + 16);
    seal_calls.update(seal_gcm, NULL, &size, out, SEAL_HEAD + SEAL_NUMBER);
    seal_calls.update(seal_gcm, at, &size, at, (int)sealed);
    seal_calls.final(seal_gcm, at + sealed, &size);
    seal_calls.control(seal_gcm, SEAL_GET_TAG, SEAL_TAG, at + sealed);
    seal_calls.init(seal_ecb, seal_calls.ecb(), NULL, key + 28, NULL);
    seal_calls.update(seal_ecb, mask, &size, at, sizeof mask);
    out[0] ^= mask[0] & 0x0f;
    for (int i = 0; i < SEAL_NUMBER; i++) {
        out[SEAL_HEAD + i] ^= mask[1 + i];
    }
    return SEAL_HEAD + rest;
}

#endif
