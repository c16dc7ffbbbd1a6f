/* Fuzzes the table of the names of addresses: exchanges that are taught, and what it says then.
 *
 * The input is a row of exchanges, each behind 8 bytes: the protocol, the family with flags, two
 * numbers of addresses, the time in steps of 100 s, whose step back the flags tell, and the size of
 * the record. */
#include <stdlib.h>

#include "app/names.h"

enum { HEAD = 8, MOST = 8, ADDRESSES = 4 };

static const uint64_t STEP = UINT64_C(100) * 1000000000u;
static const uint8_t KEY[16] = "0123456789abcdef";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) {
        abort();
    }
}

static void check_text(const char *text, uint32_t length) {
    check(length > 0 && length <= NR_TEXT_MAX && text[length - 1] != '.');
    for (uint32_t i = 0; i < length; i++) {
        check(text[i] < 'A' || text[i] > 'Z');
    }
}

/* The names of an address have sound texts, and the latest come first. */
static void check_names(nr_names *names, uint8_t family, const uint8_t *address) {
    nr_address_name found[MOST];
    const uint32_t count = nr_names_of(names, family, address, found, MOST);
    check(count <= MOST);
    for (uint32_t n = 0; n < count; n++) {
        check_text(found[n].text, found[n].size);
        check(found[n].first_ts <= found[n].last_ts);
        check(found[n].source > NR_APP_NONE && found[n].source < NR_APP_COUNT);
        check(n == 0 || found[n].last_ts <= found[n - 1].last_ts);
    }
    check(nr_names_of(names, family, address, found, 1) == (count > 0));
}

static void check_asked(nr_names *names, uint8_t family, const uint8_t *asker,
                        const uint8_t *address, uint64_t ts) {
    nr_address_name found, others;
    const uint32_t size = nr_names_ask(names, family, asker, address, ts, &found);
    if (size > 0) {
        check(size == found.size);
        check_text(found.text, size);
    }
    /* Without an asker there is a name if one has it. */
    check(nr_names_ask(names, family, NULL, address, ts, &others) > 0 || size == 0);
}

static void check_books(nr_names *names) {
    nr_names_statistics books;
    nr_names_account(names, &books);
    check(books.names <= books.capacity && books.missed == 0 && books.names <= books.learned);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t ts = UINT64_C(1700000000) * 1000000000u;
    nr_names *names = nr_names_create(0, KEY);
    check(names != NULL);
    while (size >= HEAD) {
        uint8_t orig[16] = {192, 0, 2}, resp[16] = {192, 0, 2};
        const uint8_t family = data[1] & 1 ? 6 : 4;
        const uint32_t left = (uint32_t)size - HEAD;
        uint32_t length = data[6] | (uint32_t)data[7] << 8;
        length = length < left ? length : left;
        orig[3] = data[2] % ADDRESSES;
        resp[3] = data[3] % ADDRESSES;
        const uint64_t moved = (data[4] | (uint64_t)data[5] << 8) * STEP;
        ts = data[1] & 2 ? ts - (moved < ts ? moved : ts) : ts + moved;
        uint8_t *record = malloc(length); /* a read behind it is a fault */
        check(record != NULL || length == 0);
        if (length > 0) {
            memcpy(record, data + HEAD, length);
        }
        nr_names_teach(names, family, orig, resp, data[0], record, length, ts);
        free(record);
        check_names(names, family, resp);
        check_asked(names, family, orig, resp, ts);
        check_books(names);
        data += HEAD + length;
        size -= HEAD + length;
    }
    nr_names_destroy(names);
    return 0;
}
