/* What makes two packets one flow: the 5-tuple, the pair of hosts, or the pair of stations. */
#include "key.h"

#include <string.h>

/* As memcmp, for the sizes there are: this is run for every packet. */
static int compare(const uint8_t *a, const uint8_t *b, size_t size) {
    if (size == 4) {
        const uint32_t x = nr_be32(a), y = nr_be32(b);
        return (x > y) - (x < y);
    }
    return memcmp(a, b, size);
}

static void put_ends(const struct nr_ends *ends, const uint8_t *src, const uint8_t *dst,
                     size_t size, bool directional, struct nr_dissected *out) {
    struct nr_key *key = &out->key; /* all zero until now */
    const int order = directional ? 0 : compare(src, dst, size);
    const bool swap = !directional && (order > 0 || (order == 0 && ends->src_p > ends->dst_p));
    const uint8_t *low = swap ? dst : src, *high = swap ? src : dst;
    if (size == 4) {
        memcpy(key->low_h, low, 4);
        memcpy(key->high_h, high, 4);
    } else {
        memcpy(key->low_h, low, size);
        memcpy(key->high_h, high, size);
    }
    key->low_p = swap ? ends->dst_p : ends->src_p;
    key->high_p = swap ? ends->src_p : ends->dst_p;
    out->from_high = swap;
}

void nr_make_key(const struct nr_ends *ends, const nr_decode_options *options,
                 struct nr_dissected *out) {
    struct nr_key *key = &out->key;
    if (!options->key_vlan) {
        key->vlan[0] = key->vlan[1] = NR_NO_VLAN;
    }
    if (options->directional) {
        out->one_way = true;
        out->from_responder = false;
    }
    if (options->key == NR_KEY_FIVE_TUPLE) {
        put_ends(ends, ends->src_h, ends->dst_h, key->family == 4 ? 4 : 16, out->one_way, out);
        return;
    }
    const struct nr_ends bare = {0};
    key->proto = 0;
    key->icmp_id = 0;
    out->from_responder = false;
    out->one_way = options->directional;
    out->tcp_flags = 0;
    out->exchange = false;
    if (options->key == NR_KEY_HOST_PAIR) {
        put_ends(&bare, ends->src_h, ends->dst_h, key->family == 4 ? 4 : 16, out->one_way, out);
    } else {
        key->family = 0;
        put_ends(&bare, ends->src_mac, ends->dst_mac, 6, out->one_way, out);
    }
}
