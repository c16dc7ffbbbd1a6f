/* Fuzzes the tables of sums: three of them, beside an exact model of each. The first byte of the
 * input is their capacity; four bytes each then are a call. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../native/tally_check.h"

enum { TABLES = 3, KEYS = 48, CALL = 4 };

static struct nr_tally tables[TABLES];
static uint64_t truth[TABLES][KEYS][2];

static void fail(const char *wrong) {
    fprintf(stderr, "%s\n", wrong);
    abort();
}

/* Keys of two or three words; the first says how many, so none is the beginning of another. */
static uint32_t make_key(uint64_t key[3], uint32_t n) {
    key[0] = 2 + n % 2;
    key[1] = n;
    key[2] = ~(uint64_t)n;
    return (uint32_t)key[0];
}

static void check(int number) {
    const struct nr_tally *t = &tables[number];
    bool is_there[KEYS] = {false};
    const char *wrong = check_tally(t);
    if (wrong != NULL) {
        fail(wrong);
    }
    for (uint32_t i = 0; i < t->count; i++) {
        const struct nr_tally_entry *e = &t->entries[i];
        const uint64_t n = nr_tally_key(t, i)[1];
        if (n >= KEYS || is_there[n]) {
            fail("a key is there twice, or was never given");
        }
        is_there[n] = true;
        const uint64_t true_bytes = truth[number][n][0] + truth[number][n][1];
        if (nr_tally_bytes(e) > true_bytes || nr_tally_bytes(e) + e->error < true_bytes) {
            fail("the true sum is not within the error");
        }
        if (e->sums.bytes[0] > truth[number][n][0] || e->sums.bytes[1] > truth[number][n][1]) {
            fail("more was sent or received than was given");
        }
        if (t->floor == 0 && e->error != 0) {
            fail("a table that was never full has errors");
        }
    }
    for (uint32_t n = 0; n < KEYS; n++) {
        if (!is_there[n] && truth[number][n][0] + truth[number][n][1] > t->floor) {
            fail("a key without an entry had more than the floor");
        }
    }
    uint32_t top[KEYS];
    const uint32_t count = nr_tally_top(t, top, 7);
    for (uint32_t i = 1; i < count; i++) {
        if (nr_tally_bytes(&t->entries[top[i - 1]]) < nr_tally_bytes(&t->entries[top[i]])) {
            fail("the top is out of order");
        }
    }
    if (count != (t->count < 7 ? t->count : 7)) {
        fail("the top has not all that there are");
    }
}

static void add(int number, uint32_t n, uint64_t sent, uint64_t received) {
    uint64_t key[3];
    const uint32_t words = make_key(key, n);
    const struct nr_sums sums = {.packets = {1, 1}, .bytes = {sent, received}, .flows = 1};
    nr_tally_add(&tables[number], key, words, &sums);
    truth[number][n][0] += sent;
    truth[number][n][1] += received;
}

static void merge(int into, int from) {
    nr_tally_merge(&tables[into], &tables[from]);
    for (uint32_t n = 0; n < KEYS; n++) {
        truth[into][n][0] += truth[from][n][0];
        truth[into][n][1] += truth[from][n][1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint64_t secret[2] = {1, 2};
    if (size < 1) {
        return 0;
    }
    memset(truth, 0, sizeof truth);
    for (int n = 0; n < TABLES; n++) {
        if (nr_tally_create(&tables[n], 1 + data[0] % 32, 3, secret) != 0) {
            abort();
        }
    }
    for (size_t at = 1; at + CALL <= size; at += CALL) {
        const uint8_t *call = data + at;
        const int table = call[0] % TABLES, other = (table + 1 + call[0] / 16 % 2) % TABLES;
        if (call[0] / TABLES % 16 == 0) {
            merge(table, other);
        } else if (call[0] == 255) {
            nr_tally_clear(&tables[table]);
            memset(truth[table], 0, sizeof truth[table]);
        } else {
            add(table, call[1] % KEYS, call[2], call[3]);
        }
        check(table);
    }
    for (int n = 0; n < TABLES; n++) {
        nr_tally_destroy(&tables[n]);
    }
    return 0;
}
