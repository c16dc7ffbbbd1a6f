/* What makes two packets one flow: the 5-tuple, the pair of hosts, or the pair of stations. */
#include "key.h"

#include <string.h>

static void put(uint8_t *to, const uint8_t *from, size_t size) {
    memset(to, 0, 16);
    memcpy(to, from, size);
}

static void put_ends(const struct nr_ends *ends, const uint8_t *src, const uint8_t *dst,
                     size_t size, bool directional, struct nr_dissected *out) {
    struct nr_key *key = &out->key;
    const int order = memcmp(src, dst, size);
    const bool swap = !directional && (order > 0 || (order == 0 && ends->src_p > ends->dst_p));
    put(key->low_h, swap ? dst : src, size);
    put(key->high_h, swap ? src : dst, size);
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
