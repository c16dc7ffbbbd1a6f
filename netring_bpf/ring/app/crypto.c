/* Opens libcrypto at run time: see crypto.h. Only this file knows it.
 *
 * It needs no headers of OpenSSL. The functions are those that version 1.1 and later have in
 * common; where there is EVP_MD_fetch (version 3), the algorithms are fetched once, for otherwise
 * libcrypto looks them up for every packet. */
#include "app/crypto.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define SET_TAG 0x11 /* EVP_CTRL_AEAD_SET_TAG */
#define NS 1000000000u
#define LABEL_MAX 32u
static const char prefix[] = "tls13 ";

/* libcrypto's functions; its types stay unknown here. */
struct calls {
    void *(*digest_new)(void);
    void (*digest_free)(void *ctx);
    int (*digest_init)(void *ctx, const void *type, void *engine);
    int (*digest_update)(void *ctx, const void *bytes, size_t size);
    int (*digest_final)(void *ctx, uint8_t *out, unsigned int *size);
    const void *(*sha256)(void);
    const void *(*md5)(void);
    void *(*hmac_new)(void);
    void (*hmac_free)(void *ctx);
    int (*hmac_init)(void *ctx, const void *key, int size, const void *type, void *engine);
    int (*hmac_update)(void *ctx, const uint8_t *bytes, size_t size);
    int (*hmac_final)(void *ctx, uint8_t *out, unsigned int *size);
    void *(*cipher_new)(void);
    void (*cipher_free)(void *ctx);
    int (*cipher_padding)(void *ctx, int on);
    int (*cipher_control)(void *ctx, int type, int argument, void *pointer);
    int (*encrypt_init)(void *ctx, const void *type, void *engine, const uint8_t *key,
                        const uint8_t *iv);
    int (*encrypt_update)(void *ctx, uint8_t *out, int *size, const uint8_t *in, int in_size);
    int (*decrypt_init)(void *ctx, const void *type, void *engine, const uint8_t *key,
                        const uint8_t *iv);
    int (*decrypt_update)(void *ctx, uint8_t *out, int *size, const uint8_t *in, int in_size);
    int (*decrypt_final)(void *ctx, uint8_t *out, int *size);
    const void *(*aes_ecb)(void);
    const void *(*aes_gcm)(void);
    void (*clear_error)(void);
    /* Version 3; NULL in earlier ones. */
    void *(*digest_fetch)(void *library, const char *name, const char *properties);
    void (*digest_unfetch)(void *type);
    void *(*cipher_fetch)(void *library, const char *name, const char *properties);
    void (*cipher_unfetch)(void *type);
};

static const struct symbol {
    const char *name;
    size_t offset;
} symbols[] = {
    {"EVP_MD_CTX_new", offsetof(struct calls, digest_new)},
    {"EVP_MD_CTX_free", offsetof(struct calls, digest_free)},
    {"EVP_DigestInit_ex", offsetof(struct calls, digest_init)},
    {"EVP_DigestUpdate", offsetof(struct calls, digest_update)},
    {"EVP_DigestFinal_ex", offsetof(struct calls, digest_final)},
    {"EVP_sha256", offsetof(struct calls, sha256)},
    {"EVP_md5", offsetof(struct calls, md5)},
    {"HMAC_CTX_new", offsetof(struct calls, hmac_new)},
    {"HMAC_CTX_free", offsetof(struct calls, hmac_free)},
    {"HMAC_Init_ex", offsetof(struct calls, hmac_init)},
    {"HMAC_Update", offsetof(struct calls, hmac_update)},
    {"HMAC_Final", offsetof(struct calls, hmac_final)},
    {"EVP_CIPHER_CTX_new", offsetof(struct calls, cipher_new)},
    {"EVP_CIPHER_CTX_free", offsetof(struct calls, cipher_free)},
    {"EVP_CIPHER_CTX_set_padding", offsetof(struct calls, cipher_padding)},
    {"EVP_CIPHER_CTX_ctrl", offsetof(struct calls, cipher_control)},
    {"EVP_EncryptInit_ex", offsetof(struct calls, encrypt_init)},
    {"EVP_EncryptUpdate", offsetof(struct calls, encrypt_update)},
    {"EVP_DecryptInit_ex", offsetof(struct calls, decrypt_init)},
    {"EVP_DecryptUpdate", offsetof(struct calls, decrypt_update)},
    {"EVP_DecryptFinal_ex", offsetof(struct calls, decrypt_final)},
    {"EVP_aes_128_ecb", offsetof(struct calls, aes_ecb)},
    {"EVP_aes_128_gcm", offsetof(struct calls, aes_gcm)},
    {"ERR_clear_error", offsetof(struct calls, clear_error)},
    {"EVP_MD_fetch", offsetof(struct calls, digest_fetch)},
    {"EVP_MD_free", offsetof(struct calls, digest_unfetch)},
    {"EVP_CIPHER_fetch", offsetof(struct calls, cipher_fetch)},
    {"EVP_CIPHER_free", offsetof(struct calls, cipher_unfetch)},
};
#define NEEDED (sizeof symbols / sizeof *symbols - 4)

struct nr_libcrypto {
    void *handle;
    bool is_fetched; /* the algorithms below must be given back */
    struct calls calls;
    const void *sha256;
    const void *md5; /* NULL: there is none */
    const void *ecb;
    const void *gcm;
    void *digest;
    void *hmac;
    void *block;  /* context of AES-128-ECB */
    void *stream; /* context of AES-128-GCM */
};

/* -- opening -- */

static void *open_any(void) {
    /* Version 4 has a name of its own; the last one is whatever the administrator has linked. */
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.4", "libcrypto.so.1.1",
                                        "libcrypto.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        /* Threads that used libcrypto end after it is closed, so its code must stay. */
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        if (handle != NULL) {
            return handle;
        }
    }
    /* This fails as well if the limit on open files is the reason. */
    const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        close(file);
        errno = ENOENT;
    }
    return NULL;
}

static bool find_calls(struct nr_libcrypto *library) {
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *found = dlsym(library->handle, symbols[i].name);
        if (found == NULL && i < NEEDED) {
            return false;
        }
        memcpy((uint8_t *)&library->calls + symbols[i].offset, &found, sizeof found);
    }
    return true;
}

static void choose_algorithms(struct nr_libcrypto *library) {
    const struct calls *c = &library->calls;
    library->is_fetched = c->digest_fetch != NULL && c->digest_unfetch != NULL &&
                          c->cipher_fetch != NULL && c->cipher_unfetch != NULL;
    if (library->is_fetched) {
        library->sha256 = c->digest_fetch(NULL, "SHA256", NULL);
        library->md5 = c->digest_fetch(NULL, "MD5", NULL);
        library->ecb = c->cipher_fetch(NULL, "AES-128-ECB", NULL);
        library->gcm = c->cipher_fetch(NULL, "AES-128-GCM", NULL);
    } else {
        library->sha256 = c->sha256();
        library->md5 = c->md5();
        library->ecb = c->aes_ecb();
        library->gcm = c->aes_gcm();
    }
}

static bool make_contexts(struct nr_libcrypto *library) {
    const struct calls *c = &library->calls;
    library->digest = c->digest_new();
    library->hmac = c->hmac_new();
    library->block = c->cipher_new();
    library->stream = c->cipher_new();
    return library->digest != NULL && library->hmac != NULL && library->block != NULL &&
           library->stream != NULL && library->sha256 != NULL && library->ecb != NULL &&
           library->gcm != NULL &&
           c->encrypt_init(library->block, library->ecb, NULL, NULL, NULL) == 1 &&
           c->cipher_padding(library->block, 0) == 1 &&
           c->decrypt_init(library->stream, library->gcm, NULL, NULL, NULL) == 1;
}

/* Uses each function once: libcrypto reads its configuration, and makes much of what it needs, at
 * the first use. */
static bool try_all(struct nr_crypto *crypto) {
    uint8_t digest[NR_SHA256_SIZE] = {0}, nothing[NR_GCM_TAG] = {0}, block[NR_AES_BLOCK];
    const struct nr_sealed sealed = {.key = digest,
                                     .nonce = digest,
                                     .header = digest,
                                     .header_size = sizeof digest,
                                     .at = nothing,
                                     .size = sizeof nothing};
    crypto->has_md5 = crypto->library->md5 != NULL;
    crypto->has_md5 = nr_crypto_md5(crypto, digest, sizeof digest, digest);
    crypto->errors = 0;
    if (!nr_crypto_sha256(crypto, digest, sizeof digest, digest) ||
        !nr_crypto_extract(crypto, digest, sizeof digest, nothing, sizeof nothing, digest) ||
        !nr_crypto_expand(crypto, digest, "", digest, sizeof digest) ||
        !nr_crypto_aes(crypto, digest, nothing, block)) {
        return false;
    }
    nr_crypto_unseal(crypto, &sealed, block);
    return crypto->errors == 0;
}

struct nr_crypto *nr_crypto_open(void) {
    struct nr_crypto *crypto = calloc(1, sizeof *crypto);
    struct nr_libcrypto *library = calloc(1, sizeof *library);
    int reason = ENOMEM;
    if (crypto == NULL || library == NULL) {
        goto failed;
    }
    crypto->per_second = crypto->left = NR_CRYPTO_PER_SECOND;
    crypto->library = library;
    library->handle = open_any();
    reason = errno;
    if (library->handle == NULL) {
        goto failed;
    }
    reason = ENOTSUP;
    if (!find_calls(library)) {
        dlclose(library->handle);
        goto failed;
    }
    choose_algorithms(library);
    if (!make_contexts(library) || !try_all(crypto)) {
        nr_crypto_close(crypto);
        errno = reason;
        return NULL;
    }
    return crypto;
failed:
    free(library);
    free(crypto);
    errno = reason;
    return NULL;
}

/* Gives fetched algorithms back. */
static void unfetch(struct nr_libcrypto *library) {
    const struct calls *c = &library->calls;
    c->digest_unfetch((void *)(uintptr_t)library->sha256);
    c->digest_unfetch((void *)(uintptr_t)library->md5);
    c->cipher_unfetch((void *)(uintptr_t)library->ecb);
    c->cipher_unfetch((void *)(uintptr_t)library->gcm);
}

void nr_crypto_close(struct nr_crypto *crypto) {
    if (crypto == NULL) {
        return;
    }
    struct nr_libcrypto *library = crypto->library;
    library->calls.digest_free(library->digest);
    library->calls.hmac_free(library->hmac);
    library->calls.cipher_free(library->block);
    library->calls.cipher_free(library->stream);
    if (library->is_fetched) {
        unfetch(library);
    }
    library->calls.clear_error();
    dlclose(library->handle);
    free(library);
    free(crypto);
}

/* -- the budget -- */

void nr_crypto_budget(struct nr_crypto *crypto, uint64_t ts) {
    if (ts + NS < crypto->filled_ns) {
        crypto->filled_ns = ts; /* a clock that was set back, not packets out of order */
    }
    if (ts <= crypto->filled_ns) {
        return;
    }
    const uint64_t passed = ts - crypto->filled_ns;
    if (passed >= NS) {
        crypto->left = crypto->per_second;
        crypto->filled_ns = ts;
        return;
    }
    const uint64_t more = passed * crypto->per_second / NS;
    if (more > 0) { /* else the time goes on to count until it gives one */
        const uint64_t left = crypto->left + more;
        crypto->left = left < crypto->per_second ? (uint32_t)left : crypto->per_second;
        crypto->filled_ns += more * NS / crypto->per_second;
    }
}

bool nr_crypto_may_open(struct nr_crypto *crypto) {
    if (crypto->left == 0) {
        crypto->left_out++;
        return false;
    }
    crypto->left--;
    return true;
}

/* -- what libcrypto computes -- */

/* Counts a failure. A reader's thread may use libcrypto for other things too (Python's ssl), which
 * would take the error for theirs. */
static bool checked(struct nr_crypto *crypto, bool is_good) {
    if (!is_good) {
        crypto->errors++;
        crypto->library->calls.clear_error();
    }
    return is_good;
}

static bool digest(struct nr_crypto *crypto, const void *type, const void *bytes, size_t length,
                   uint8_t *out) {
    const struct calls *c = &crypto->library->calls;
    void *ctx = crypto->library->digest;
    return checked(crypto, c->digest_init(ctx, type, NULL) == 1 &&
                               c->digest_update(ctx, bytes, length) == 1 &&
                               c->digest_final(ctx, out, NULL) == 1);
}

bool nr_crypto_sha256(struct nr_crypto *crypto, const void *bytes, size_t length,
                      uint8_t out[NR_SHA256_SIZE]) {
    return digest(crypto, crypto->library->sha256, bytes, length, out);
}

bool nr_crypto_md5(struct nr_crypto *crypto, const void *bytes, size_t length,
                   uint8_t out[NR_MD5_SIZE]) {
    return crypto->has_md5 && digest(crypto, crypto->library->md5, bytes, length, out);
}

static bool hmac(struct nr_crypto *crypto, const uint8_t *key, size_t key_size,
                 const uint8_t *bytes, size_t length, uint8_t out[NR_SHA256_SIZE]) {
    const struct nr_libcrypto *library = crypto->library;
    const struct calls *c = &library->calls;
    void *ctx = library->hmac;
    return checked(crypto, c->hmac_init(ctx, key, (int)key_size, library->sha256, NULL) == 1 &&
                               c->hmac_update(ctx, bytes, length) == 1 &&
                               c->hmac_final(ctx, out, NULL) == 1);
}

bool nr_crypto_extract(struct nr_crypto *crypto, const uint8_t *salt, size_t salt_size,
                       const uint8_t *input, size_t input_size, uint8_t out[NR_SHA256_SIZE]) {
    return hmac(crypto, salt, salt_size, input, input_size, out);
}

bool nr_crypto_expand(struct nr_crypto *crypto, const uint8_t secret[NR_SHA256_SIZE],
                      const char *label, uint8_t *out, size_t size) {
    uint8_t info[2 + 1 + sizeof prefix - 1 + LABEL_MAX + 1 + 1];
    uint8_t block[NR_SHA256_SIZE];
    const size_t label_size = strlen(label);
    if (label_size > LABEL_MAX || size > sizeof block) {
        return false;
    }
    uint8_t *at = info;
    *at++ = 0;
    *at++ = (uint8_t)size;
    *at++ = (uint8_t)(sizeof prefix - 1 + label_size);
    memcpy(at, prefix, sizeof prefix - 1);
    at += sizeof prefix - 1;
    memcpy(at, label, label_size);
    at += label_size;
    *at++ = 0; /* the context has no bytes */
    *at++ = 1; /* the first block of HKDF-Expand, and the only one */
    if (!hmac(crypto, secret, NR_SHA256_SIZE, info, (size_t)(at - info), block)) {
        return false;
    }
    memcpy(out, block, size);
    return true;
}

bool nr_crypto_aes(struct nr_crypto *crypto, const uint8_t key[NR_AES_KEY],
                   const uint8_t block[NR_AES_BLOCK], uint8_t out[NR_AES_BLOCK]) {
    const struct calls *c = &crypto->library->calls;
    void *ctx = crypto->library->block;
    int size = 0;
    return checked(crypto, c->encrypt_init(ctx, NULL, NULL, key, NULL) == 1 &&
                               c->encrypt_update(ctx, out, &size, block, NR_AES_BLOCK) == 1 &&
                               size == NR_AES_BLOCK);
}

bool nr_crypto_unseal(struct nr_crypto *crypto, const struct nr_sealed *sealed, uint8_t *out) {
    const struct calls *c = &crypto->library->calls;
    void *ctx = crypto->library->stream;
    const int size = (int)(sealed->size - NR_GCM_TAG);
    uint8_t tag[NR_GCM_TAG], rest[NR_AES_BLOCK];
    int done = 0;
    memcpy(tag, sealed->at + size, sizeof tag);
    if (!checked(crypto,
                 c->decrypt_init(ctx, NULL, NULL, sealed->key, sealed->nonce) == 1 &&
                     c->decrypt_update(ctx, NULL, &done, sealed->header,
                                       (int)sealed->header_size) == 1 &&
                     (size == 0 || c->decrypt_update(ctx, out, &done, sealed->at, size) == 1) &&
                     c->cipher_control(ctx, SET_TAG, NR_GCM_TAG, tag) == 1)) {
        return false;
    }
    if (c->decrypt_final(ctx, rest, &done) != 1) {
        c->clear_error();
        return false;
    }
    return true;
}
