/* Socket filters: the kernel runs a filter before it queues a packet, and swaps it atomically. */
#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>

#include "core.h"

int nr_attach_filter(int fd, const nr_bpf_insn *insns, uint32_t count) {
    _Static_assert(sizeof(nr_bpf_insn) == sizeof(struct sock_filter), "classic BPF layout");
    if (count > BPF_MAXINSNS) {
        return -EINVAL;
    }
    struct sock_fprog program = {
        .len = (unsigned short)count,
        .filter = (struct sock_filter *)(uintptr_t)insns,
    };
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

int nr_attach_program(int fd, int program_fd) {
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program_fd, sizeof program_fd) == 0 ? 0
                                                                                          : -errno;
}
