/* Does what the lines of its input say with app/crypto.c, and prints a line for each: bytes in
 * hexadecimal, or "no". Arguments are bytes in hexadecimal, or numbers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "app/crypto.h"

enum { WORDS = 6, LONGEST = 70000 };

struct bytes {
    uint8_t *at;
    uint32_t size;
};

void *__real_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags);

/* The linker gives crypto.c this for dlopen: a machine that has only the named library. */
void *__wrap_dlopen(const char *name, int flags) {
    const char *only = getenv("ONLY");
    errno = 0;
    return only == NULL || strcmp(only, name) == 0 ? __real_dlopen(name, flags) : NULL;
}

static struct bytes from_hex(const char *text) {
    const size_t size = text == NULL || text[0] == '-' ? 0 : strlen(text) / 2;
    struct bytes bytes = {malloc(size > 0 ? size : 1), (uint32_t)size};
    for (size_t i = 0; i < size; i++) {
        unsigned int byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        bytes.at[i] = (uint8_t)byte;
    }
    return bytes;
}

static void print(bool is_good, const uint8_t *bytes, size_t size) {
    if (!is_good) {
        printf("no\n");
        return;
    }
    for (size_t i = 0; i < size; i++) {
        printf("%02x", bytes[i]);
    }
    printf("\n");
}

static void unseal(struct nr_crypto *crypto, const struct bytes *a) {
    const struct nr_sealed sealed = {a[1].at, a[2].at, a[3].at, a[3].size, a[4].at, a[4].size};
    uint8_t *out = malloc(a[4].size - NR_GCM_TAG + 1);
    print(nr_crypto_unseal(crypto, &sealed, out), out, a[4].size - NR_GCM_TAG);
    free(out);
}

/* Lets packet time be what the first argument says, and tries as often as the second. */
static void spend(struct nr_crypto *crypto, bool (*may)(struct nr_crypto *), const char *ts,
                  const char *times) {
    uint32_t allowed = 0;
    crypto->now_ns = strtoull(ts, NULL, 10);
    for (long i = atol(times); i > 0; i--) {
        allowed += may(crypto);
    }
    printf("%u\n", allowed);
}

static void obey(struct nr_crypto *crypto, char *line) {
    char *word[WORDS] = {0};
    struct bytes a[WORDS];
    uint8_t out[32];
    uint32_t n = 0;
    for (char *at = strtok(line, " \n"); at != NULL && n < WORDS; at = strtok(NULL, " \n")) {
        word[n++] = at;
    }
    for (n = 0; n < WORDS; n++) {
        a[n] = from_hex(word[n]);
    }
    if (strcmp(word[0], "sha256") == 0) {
        print(nr_crypto_sha256(crypto, a[1].at, a[1].size, out), out, 32);
    } else if (strcmp(word[0], "md5") == 0) {
        print(nr_crypto_md5(crypto, a[1].at, a[1].size, out), out, 16);
    } else if (strcmp(word[0], "extract") == 0) {
        print(nr_crypto_extract(crypto, a[1].at, a[1].size, a[2].at, a[2].size, out), out, 32);
    } else if (strcmp(word[0], "expand") == 0) {
        const size_t size = strtoul(word[2], NULL, 10);
        for (char *at = word[3]; at != NULL && *at != '\0'; at++) {
            *at = *at == '_' ? ' ' : *at;
        }
        print(nr_crypto_expand(crypto, a[1].at, word[3], out, size), out, size);
    } else if (strcmp(word[0], "aes") == 0) {
        print(nr_crypto_aes(crypto, a[1].at, a[2].at, out), out, 16);
    } else if (strcmp(word[0], "unseal") == 0) {
        unseal(crypto, a);
    } else if (strcmp(word[0], "limit") == 0) {
        crypto->for_openings.per_second = (uint32_t)strtoul(word[1], NULL, 10);
        printf("ok\n");
    } else if (strcmp(word[0], "open") == 0) {
        spend(crypto, nr_crypto_may_open, word[1], word[2]);
    } else if (strcmp(word[0], "print") == 0) {
        spend(crypto, nr_crypto_may_print, word[1], word[2]);
    } else if (strcmp(word[0], "books") == 0) {
        printf("errors=%llu left_out=%llu prints_left_out=%llu\n",
               (unsigned long long)crypto->errors, (unsigned long long)crypto->left_out,
               (unsigned long long)crypto->prints_left_out);
    }
    for (n = 0; n < WORDS; n++) {
        free(a[n].at);
    }
}

int main(void) {
    static char line[4 * LONGEST];
    struct rlimit files, few;
    getrlimit(RLIMIT_NOFILE, &files);
    few = files;
    few.rlim_cur = getenv("FILES") != NULL ? strtoul(getenv("FILES"), NULL, 10) : files.rlim_cur;
    setrlimit(RLIMIT_NOFILE, &few);
    struct nr_crypto *crypto = nr_crypto_open();
    const int reason = errno;
    setrlimit(RLIMIT_NOFILE, &files); /* the sanitizers open files at the end */
    if (crypto == NULL) {
        printf("missing: %s\n", strerror(reason));
        return 0;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        obey(crypto, line);
    }
    nr_crypto_close(crypto);
    return 0;
}
