/* The sums of an interval: see interval.h. */
#include "aggregate/interval.h"

#include <stdlib.h>

#include "app/text.h"

enum { PREFIX_BITS_4 = 24, PREFIX_BITS_6 = 48 };

static const uint8_t key_words[NR_TOP_COUNT] = {
    [NR_TOP_DEVICES] = 1,  [NR_TOP_HOSTS] = 3, [NR_TOP_NAMES] = NR_KEY_WORDS,
    [NR_TOP_SERVICES] = 1, [NR_TOP_PORTS] = 1, [NR_TOP_PREFIXES] = 3,
};

/* -- life -- */

struct nr_interval *nr_interval_create(uint32_t capacity, const uint64_t secret[2]) {
    struct nr_interval *interval = calloc(1, sizeof *interval);
    if (interval == NULL) {
        return NULL;
    }
    for (int kind = 0; kind < NR_TOP_COUNT; kind++) {
        if (nr_tally_create(&interval->tally[kind], capacity, key_words[kind], secret) != 0) {
            nr_interval_destroy(interval);
            return NULL;
        }
    }
    return interval;
}

void nr_interval_destroy(struct nr_interval *interval) {
    for (int kind = 0; interval != NULL && kind < NR_TOP_COUNT; kind++) {
        nr_tally_destroy(&interval->tally[kind]);
    }
    free(interval);
}

void nr_interval_clear(struct nr_interval *interval) {
    memset(interval->direction, 0, sizeof interval->direction);
    for (int kind = 0; kind < NR_TOP_COUNT; kind++) {
        nr_tally_clear(&interval->tally[kind]);
    }
}

bool nr_interval_is_empty(const struct nr_interval *interval) {
    uint64_t packets = 0;
    for (int d = 0; d < NR_DIRECTION_COUNT; d++) {
        packets |= interval->direction[d].packets;
    }
    return packets == 0;
}

/* -- directions -- */

/* Returns whether both have the same first bits. */
static bool same_bits(const uint8_t *a, const uint8_t *b, uint32_t bits) {
    const uint32_t whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool nr_is_local(const struct nr_local *local, uint8_t family, const uint8_t *address) {
    for (uint32_t i = 0; i < local->count; i++) {
        const nr_network *network = &local->network[i];
        if (network->family == family && same_bits(network->address, address, network->bits)) {
            return true;
        }
    }
    return false;
}

static uint32_t direction_of(bool from_local, bool to_local) {
    if (from_local) {
        return to_local ? NR_DIRECTION_INTERNAL : NR_DIRECTION_OUT;
    }
    return to_local ? NR_DIRECTION_IN : NR_DIRECTION_TRANSIT;
}

static void feed_directions(struct nr_interval *interval, const struct nr_local *local,
                            const struct nr_delta *delta) {
    bool is_local[2] = {false, false};
    for (int side = 0; side < 2 && delta->family != 0; side++) {
        is_local[side] = nr_is_local(local, delta->family, delta->address[side]);
    }
    for (int side = 0; side < 2; side++) {
        const uint32_t d = direction_of(is_local[side], is_local[side ^ 1]);
        nr_direction_sums *sums = &interval->direction[d];
        sums->packets += delta->packets[side];
        sums->bytes += delta->bytes[side];
        sums->flows += side == 0 ? delta->begun : 0;
    }
}

/* -- keys -- */

static uint32_t address_size(uint8_t family) {
    return family == 4 ? 4 : 16;
}

static void set_mac(uint64_t key[1], const uint8_t *mac) {
    key[0] = 0;
    memcpy(key, mac, 6);
}

static void set_address(uint64_t key[3], uint8_t family, const uint8_t *address) {
    key[0] = key[1] = 0;
    key[2] = family;
    memcpy(key, address, address_size(family));
}

static void set_prefix(uint64_t key[3], uint8_t family, const uint8_t *address) {
    key[0] = key[1] = 0;
    key[2] = family;
    memcpy(key, address, (family == 4 ? PREFIX_BITS_4 : PREFIX_BITS_6) / 8);
}

/* Returns the words of the key: a length, then the name in lower case. Names of hosts have no
 * case. */
static uint32_t set_name(uint64_t key[NR_KEY_WORDS], const uint8_t *name, uint16_t length) {
    uint8_t bytes[NR_KEY_WORDS * sizeof *key];
    const uint16_t size = length < NR_TEXT_MAX ? length : NR_TEXT_MAX;
    const uint32_t words = (uint32_t)((sizeof size + size + sizeof *key - 1) / sizeof *key);
    memcpy(bytes, &size, sizeof size);
    for (uint32_t i = 0; i < size; i++) {
        bytes[sizeof size + i] = nr_lower(name[i]);
    }
    memset(bytes + sizeof size + size, 0, words * sizeof *key - sizeof size - size);
    memcpy(key, bytes, words * sizeof *key);
    return words;
}

static bool has_ports(uint8_t proto) {
    return proto == NR_PROTO_TCP || proto == NR_PROTO_UDP || proto == NR_PROTO_SCTP;
}

/* -- feeding -- */

/* Adds to the keys of both ends. A flow whose ends have one key counts once, with all that was sent
 * and received. */
static void feed_ends(struct nr_tally *tally, uint64_t (*keys)[3], const struct nr_sums *sums) {
    const struct nr_sums back = {.packets = {sums->packets[1], sums->packets[0]},
                                 .bytes = {sums->bytes[1], sums->bytes[0]},
                                 .flows = sums->flows};
    const uint32_t words = tally->key_words;
    if (memcmp(keys[0], keys[1], words * sizeof keys[0][0]) != 0) {
        nr_tally_add(tally, keys[0], words, sums);
        nr_tally_add(tally, keys[1], words, &back);
        return;
    }
    struct nr_sums both = {.flows = sums->flows};
    both.packets[0] = both.packets[1] = sums->packets[0] + sums->packets[1];
    both.bytes[0] = both.bytes[1] = sums->bytes[0] + sums->bytes[1];
    nr_tally_add(tally, keys[0], words, &both);
}

static struct nr_sums sums_of(const struct nr_delta *delta) {
    return (struct nr_sums){.packets = {delta->packets[0], delta->packets[1]},
                            .bytes = {delta->bytes[0], delta->bytes[1]},
                            .flows = delta->begun};
}

void nr_interval_feed_ends(struct nr_interval *interval, const struct nr_local *local,
                           const struct nr_delta *delta) {
    const struct nr_sums sums = sums_of(delta);
    uint64_t keys[2][3];
    feed_directions(interval, local, delta);
    if (delta->mac[0] != NULL) {
        set_mac(keys[0], delta->mac[0]);
        set_mac(keys[1], delta->mac[1]);
        feed_ends(&interval->tally[NR_TOP_DEVICES], keys, &sums);
    }
    if (delta->family != 0) {
        set_address(keys[0], delta->family, delta->address[0]);
        set_address(keys[1], delta->family, delta->address[1]);
        feed_ends(&interval->tally[NR_TOP_HOSTS], keys, &sums);
        set_prefix(keys[0], delta->family, delta->address[0]);
        set_prefix(keys[1], delta->family, delta->address[1]);
        feed_ends(&interval->tally[NR_TOP_PREFIXES], keys, &sums);
    }
}

void nr_interval_feed_content(struct nr_interval *interval, const struct nr_delta *delta) {
    const struct nr_sums sums = sums_of(delta);
    uint64_t key[NR_KEY_WORDS];
    key[0] = delta->app != NR_APP_NONE ? delta->app : NR_SERVICE_OTHER | delta->proto;
    nr_tally_add(&interval->tally[NR_TOP_SERVICES], key, 1, &sums);
    if (has_ports(delta->proto)) {
        key[0] = (uint64_t)delta->proto << 16 | delta->resp_p;
        nr_tally_add(&interval->tally[NR_TOP_PORTS], key, 1, &sums);
    }
    if (delta->name != NULL) {
        const uint32_t words = set_name(key, delta->name, delta->name_length);
        nr_tally_add(&interval->tally[NR_TOP_NAMES], key, words, &sums);
    }
}

void nr_interval_merge(struct nr_interval *into, const struct nr_interval *from) {
    for (int d = 0; d < NR_DIRECTION_COUNT; d++) {
        into->direction[d].packets += from->direction[d].packets;
        into->direction[d].bytes += from->direction[d].bytes;
        into->direction[d].flows += from->direction[d].flows;
    }
    for (int kind = 0; kind < NR_TOP_COUNT; kind++) {
        nr_tally_merge(&into->tally[kind], &from->tally[kind]);
    }
}
