/* Counts every frame, and redirects those that match the filter to the AF_XDP socket of their
 * receive queue. Frames that do not match, or whose queue has no socket, go on to the host. To hand
 * an interface back, user space turns the switch `handing_back` on and takes the sockets out: only
 * frames without a socket ask for the switch, so it costs the others nothing.
 *
 * BCC compiles it without kernel headers. program.py puts the translated filter in front, as
 * netring_filter() with the macro NETRING_FILTER, and defines NETRING_QUEUES. */

struct netring_counters {
    u64 seen;
    u64 not_matched; /* passed: the filter said no */
    u64 no_socket;   /* passed: its queue has no socket */
    u64 redirected;
    u64 handed_back; /* passed: its queue has no socket, as the switch is on */
};

BPF_XSKMAP(xsks_map, NETRING_QUEUES);
BPF_PERCPU_ARRAY(counters, struct netring_counters, NETRING_QUEUES);
BPF_ARRAY(handing_back, u32, 1);

int netring_redirect(struct xdp_md *ctx) {
    u32 queue = ctx->rx_queue_index;
    /* A queue added after the maps were made has no socket; the last slot counts it. */
    u32 slot = queue < NETRING_QUEUES ? queue : NETRING_QUEUES - 1;
    struct netring_counters *count = counters.lookup(&slot);
    if (!count) {
        return XDP_PASS; /* cannot happen: the slot is within the array */
    }
    u64 matched = 1, redirected = 0;
    int verdict = XDP_PASS;
#ifdef NETRING_FILTER
    matched = netring_filter(ctx);
#endif
    if (matched) {
        verdict = xsks_map.redirect_map(queue, XDP_PASS);
        redirected = verdict == XDP_REDIRECT;
        if (!redirected) {
            u32 first = 0;
            u32 *is_on = handing_back.lookup(&first);
            if (is_on && *is_on) {
                count->seen++;
                count->handed_back++;
                asm volatile("" ::: "memory"); /* as below */
                return XDP_PASS;
            }
        }
    }
    /* Every frame writes all counters, and the asm hides their values from the compiler. It
     * would otherwise choose between their addresses, and the verifier refuses such arithmetic to a
     * process without CAP_PERFMON. */
    asm volatile("" : "+r"(matched), "+r"(redirected));
    count->seen++;
    count->not_matched += 1 - matched;
    count->no_socket += matched - redirected;
    count->redirected += redirected;
    return verdict;
}
