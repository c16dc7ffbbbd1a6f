/* The filter of a TPACKET_V3 socket where it must count: classic BPF cannot. What it returns is
 * how many bytes of the frame are captured.
 *
 * Compiled by BCC; program.py puts the translated filters in front, as netring_filter(), and
 * defines NETRING_SNAPLEN. */

int netring_socket(struct __sk_buff *ctx) {
    return netring_filter(ctx) ? NETRING_SNAPLEN : 0;
}
