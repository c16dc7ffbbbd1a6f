/* Lets threads learn names, look them up and list them in one small table, for the sanitizers. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "app/names.h"

enum { THREADS = 4, ROUNDS = 50000 };

static nr_names *names;

static uint64_t next(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

/* Makes the record of an answer of DNS: a name of the address itself, or now and then of any bytes
 * and any length. */
static void fill(struct nr_record *record, const uint8_t address[4], uint64_t *seed) {
    uint8_t answer[12] = {60};
    uint8_t name[NR_TEXT_MAX];
    const uint16_t type = 1;
    const uint64_t when = 1;
    uint32_t size = 4;
    memcpy(answer + 4, &type, sizeof type);
    answer[6] = 1;
    memcpy(answer + 8, address, 4);
    memset(name, 'a' + address[3] % 26, sizeof name);
    if (next(seed) % 16 == 0) {
        size = (uint32_t)(next(seed) % (NR_TEXT_MAX + 1));
    }
    nr_record_clear(record);
    nr_record_bytes(record, NR_FIELD_ASKED_TS, (const uint8_t *)&when, sizeof when);
    nr_record_text(record, NR_FIELD_QUERY, name, size);
    nr_record_bytes(record, NR_FIELD_ANSWER, answer, sizeof answer);
}

/* Returns how many names were found that belong to another address. */
static void *work(void *number) {
    uint64_t seed = 88172645463325252ull + (uintptr_t)number, wrong = 0;
    struct nr_record record;
    struct nr_name name;
    nr_address_name found[4];
    for (uint64_t i = 0; i < ROUNDS; i++) {
        const uint8_t address[4] = {10, 0, 0, (uint8_t)next(&seed)};
        const uint8_t asker[4] = {10, 1, 0, (uint8_t)(next(&seed) % 8)};
        fill(&record, address, &seed);
        nr_names_teach(names, 4, asker, address, NR_APP_DNS, record.bytes, record.size, i + 1);
        if (nr_names_find(names, 4, asker, address, i + 1, &name)) {
            wrong += name.length == 0 || name.text[0] != 'a' + address[3] % 26;
        }
        const uint32_t count = nr_names_of(names, 4, address, found, 4);
        for (uint32_t n = 0; n < count; n++) {
            wrong += found[n].size == 0 || found[n].text[0] != 'a' + address[3] % 26;
        }
    }
    return (void *)(uintptr_t)wrong;
}

int main(void) {
    static const uint8_t key[16] = {1, 2, 3};
    pthread_t threads[THREADS];
    nr_names_statistics books;
    uintptr_t wrong = 0;
    names = nr_names_create(1 << 16, key);
    for (uintptr_t n = 0; n < THREADS; n++) {
        pthread_create(&threads[n], NULL, work, (void *)n);
    }
    for (int n = 0; n < THREADS; n++) {
        void *found;
        pthread_join(threads[n], &found);
        wrong += (uintptr_t)found;
    }
    nr_names_account(names, &books);
    nr_names_destroy(names);
    puts(wrong == 0 && books.learned > ROUNDS && books.names <= books.capacity ? "right" : "wrong");
    return 0;
}
