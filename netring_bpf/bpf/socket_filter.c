/* The eBPF filter of a TPACKET_V3 socket, for named filters whose matches are counted: classic BPF
 * cannot count. Returns the number of bytes of the frame to capture.
 *
 * BCC compiles it. program.py puts the translated filters in front, as netring_filter(), and
 * defines NETRING_SNAPLEN. */

int netring_socket(struct __sk_buff *ctx) {
    return netring_filter(ctx) ? NETRING_SNAPLEN : 0;
}
