/* Makes the key of a flow: the 5-tuple, the pair of hosts, or the pair of stations. */
#include "dissect/key.h"

#include <string.h>

static void put_ends(const struct nr_ends *ends, size_t size, bool directional,
                     struct nr_dissected *out) {
    const int order = directional ? 0 : memcmp(ends->src_h, ends->dst_h, size);
    const bool swap = !directional && (order > 0 || (order == 0 && ends->src_p > ends->dst_p));
    nr_put_ends_of(ends, swap, size, out);
}

void nr_make_key(const struct nr_ends *ends, const nr_decode_options *options,
                 struct nr_dissected *out) {
    struct nr_key *key = &out->key;
    if (!options->key_vlan) {
        key->vlan[0] = key->vlan[1] = NR_NO_VLAN;
        key->network = 0;
    }
    if (options->directional) {
        out->one_way = true;
        out->from_responder = false;
    }
    if (options->key == NR_KEY_FIVE_TUPLE) {
        put_ends(ends, key->family == 4 ? 4 : 16, out->one_way, out);
        return;
    }
    const bool by_host = options->key == NR_KEY_HOST_PAIR;
    const struct nr_ends bare = {.src_h = by_host ? ends->src_h : ends->src_mac,
                                 .dst_h = by_host ? ends->dst_h : ends->dst_mac};
    key->proto = 0;
    key->icmp_id = 0;
    out->from_responder = false;
    out->one_way = options->directional;
    out->tcp_flags = 0;
    out->exchange = false;
    if (!by_host) {
        key->family = 0;
    }
    put_ends(&bare, by_host ? (key->family == 4 ? 4 : 16) : 6, out->one_way, out);
}
