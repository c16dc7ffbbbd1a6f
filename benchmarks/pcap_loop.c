/* Counts frames, which is the least that a C program does with libpcap:
 *
 *     pcap_loop INTERFACE
 *
 * Prints "ready", ends when its standard input does, and prints "name value" lines. */
#include <inttypes.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>

static void count(u_char *user, const struct pcap_pkthdr *header, const u_char *data) {
    (void)header;
    (void)data;
    ++*(uint64_t *)(void *)user;
}

int main(int argc, char **argv) {
    char error[PCAP_ERRBUF_SIZE] = "usage: pcap_loop INTERFACE";
    pcap_t *pcap = argc == 2 ? pcap_create(argv[1], error) : NULL;
    if (pcap == NULL || pcap_set_snaplen(pcap, 65536) != 0 || pcap_set_timeout(pcap, 20) != 0 ||
        pcap_set_buffer_size(pcap, 64 << 20) != 0 || pcap_activate(pcap) < 0 ||
        pcap_setnonblock(pcap, 1, error) != 0) {
        fprintf(stderr, "%s\n", pcap != NULL ? pcap_geterr(pcap) : error);
        return 2;
    }
    struct pollfd fds[2] = {{.fd = pcap_get_selectable_fd(pcap), .events = POLLIN},
                            {.fd = 0, .events = POLLIN}};
    uint64_t received = 0;
    puts("ready");
    fflush(stdout);
    while (fds[1].revents == 0 || fds[0].revents & POLLIN) {
        while (pcap_dispatch(pcap, -1, count, (u_char *)&received) > 0) {
        }
        (void)poll(fds, 2, 1000);
    }
    struct pcap_stat seen;
    struct rusage used;
    if (pcap_stats(pcap, &seen) != 0) {
        return 2;
    }
    getrusage(RUSAGE_SELF, &used);
    printf("received %" PRIu64 "\nlost %u\nreader_ns %" PRIu64 "\n", received, seen.ps_drop,
           (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
               (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u);
    pcap_close(pcap);
    return 0;
}
