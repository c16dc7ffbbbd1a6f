/* The cryptography that names need: digests for JA4 and JA3, keys and ciphers for the Initials of
 * QUIC. All of it is libcrypto's (OpenSSL), which is opened at run time: without it the package
 * installs and captures, QUIC gets a label without a name, and JA4 and JA3 are left out. */
#ifndef NR_APP_CRYPTO_H
#define NR_APP_CRYPTO_H

#include "app/prints.h"

#define NR_AES_KEY 16u
#define NR_AES_BLOCK 16u
#define NR_GCM_NONCE 12u
#define NR_GCM_TAG 16u
#define NR_SHA256_SIZE 32u
#define NR_MD5_SIZE 16u
#define NR_OPENINGS_PER_SECOND 10000u
#define NR_PRINTS_PER_SECOND 10000u

/* So many of something in a second of packet time. */
struct nr_budget {
    uint32_t per_second;
    uint32_t left;
    uint64_t filled_ns; /* packet time up to which `left` was filled */
};

/* One thread uses it at a time: each reader opens its own. */
struct nr_crypto {
    uint64_t errors;   /* calls that libcrypto failed, but for a tag that is wrong */
    uint64_t opened;   /* Initials of QUIC */
    uint64_t unopened; /* those that were not: no key fits, no scratch, or left out as below */
    uint64_t left_out; /* attempts to open one that were over the budget */
    uint64_t pieces_left_out; /* CRYPTO frames of a datagram beyond NR_HELLO_PIECES */
    uint64_t prints_left_out; /* hellos without fingerprints, over the budget */
    uint64_t now_ns;          /* packet time, as the owner says before packets are read */
    struct nr_budget for_openings, for_prints;
    bool has_md5; /* libraries for FIPS 140 have none */
    struct nr_libcrypto *library;
    struct nr_prints prints;
};

/* Opens libcrypto, and makes its contexts. Not on the packet path. Returns NULL with errno: ENOENT
 * if there is no libcrypto, ENOTSUP if it lacks a function, ENOMEM, EMFILE or ENFILE. */
struct nr_crypto *nr_crypto_open(void);
void nr_crypto_close(struct nr_crypto *crypto);

/* Take one packet's share of the budget of openings, and one hello's of that of fingerprints.
 * Return false, and count it, if nothing is left. */
bool nr_crypto_may_open(struct nr_crypto *crypto);
bool nr_crypto_may_print(struct nr_crypto *crypto);

/* The functions below return false if libcrypto failed, and count it. Nothing else allocates or
 * blocks in them than libcrypto itself. */

/* Digests of `length` bytes. */
bool nr_crypto_sha256(struct nr_crypto *crypto, const void *bytes, size_t length,
                      uint8_t out[NR_SHA256_SIZE]);
/* Returns false too if !has_md5, which is no failure. */
bool nr_crypto_md5(struct nr_crypto *crypto, const void *bytes, size_t length,
                   uint8_t out[NR_MD5_SIZE]);

/* HKDF with SHA-256 (RFC 5869): its extraction. */
bool nr_crypto_extract(struct nr_crypto *crypto, const uint8_t *salt, size_t salt_size,
                       const uint8_t *input, size_t input_size, uint8_t out[NR_SHA256_SIZE]);
/* HKDF-Expand-Label (RFC 8446, 7.1) without a context. The label has at most 32 bytes, and so has
 * the output. */
bool nr_crypto_expand(struct nr_crypto *crypto, const uint8_t secret[NR_SHA256_SIZE],
                      const char *label, uint8_t *out, size_t size);

/* AES-128 of one block. */
bool nr_crypto_aes(struct nr_crypto *crypto, const uint8_t key[NR_AES_KEY],
                   const uint8_t block[NR_AES_BLOCK], uint8_t out[NR_AES_BLOCK]);

/* What AES-128-GCM has sealed: `sealed_size` bytes, the last NR_GCM_TAG are the tag. */
struct nr_sealed {
    const uint8_t *key;
    const uint8_t *nonce;  /* NR_GCM_NONCE bytes */
    const uint8_t *header; /* is authentic too, and in the clear */
    uint32_t header_size;
    const uint8_t *at;
    uint32_t size;
};
/* Opens it into `out`, which has room for size - NR_GCM_TAG bytes. Returns false if the tag is
 * wrong; this is no failure, and `out` then has bytes that mean nothing. */
bool nr_crypto_unseal(struct nr_crypto *crypto, const struct nr_sealed *sealed, uint8_t *out);

#endif
