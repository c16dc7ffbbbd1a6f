/* The bpf(2) calls that BCC does not make for us, or not in the way we need: an XDP attachment
 * as a bpf_link, which the kernel takes down with its descriptor, and map access.
 *
 * The structures are written out because old linux/bpf.h headers lack some of them; the layout
 * is the kernel's (include/uapi/linux/bpf.h, union bpf_attr). */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core.h"

enum { MAP_LOOKUP = 1, MAP_UPDATE = 2, MAP_DELETE = 3, LINK_CREATE = 28, LINK_UPDATE = 29 };
enum { ATTACH_XDP = 37 };

struct map_attr {
    uint32_t map_fd;
    uint32_t zero;
    uint64_t key;
    uint64_t value;
    uint64_t flags;
};

struct link_create_attr {
    uint32_t program_fd;
    uint32_t ifindex;
    uint32_t attach_type;
    uint32_t flags;
    uint64_t zero[4];
};

struct link_update_attr {
    uint32_t link_fd;
    uint32_t program_fd;
    uint32_t flags;
    uint32_t old_program_fd;
};

static int bpf(int command, void *attr, size_t size) {
    const long rc = syscall(SYS_bpf, command, attr, size);
    return rc >= 0 ? (int)rc : -errno;
}

/* The kernel makes link descriptors CLOEXEC. */
int nr_link_create(int program_fd, uint32_t ifindex, uint32_t xdp_flags) {
    struct link_create_attr attr = {
        .program_fd = (uint32_t)program_fd,
        .ifindex = ifindex,
        .attach_type = ATTACH_XDP,
        .flags = xdp_flags,
    };
    return bpf(LINK_CREATE, &attr, sizeof attr);
}

int nr_link_update(int link_fd, int program_fd) {
    struct link_update_attr attr = {
        .link_fd = (uint32_t)link_fd,
        .program_fd = (uint32_t)program_fd,
    };
    return bpf(LINK_UPDATE, &attr, sizeof attr);
}

static int on_map(int command, int map_fd, const void *key, const void *value) {
    struct map_attr attr = {
        .map_fd = (uint32_t)map_fd,
        .key = (uint64_t)(uintptr_t)key,
        .value = (uint64_t)(uintptr_t)value,
    };
    return bpf(command, &attr, sizeof attr);
}

int nr_map_update(int map_fd, const void *key, const void *value) {
    return on_map(MAP_UPDATE, map_fd, key, value);
}

int nr_map_lookup(int map_fd, const void *key, void *value) {
    return on_map(MAP_LOOKUP, map_fd, key, value);
}

int nr_map_delete(int map_fd, const void *key) {
    return on_map(MAP_DELETE, map_fd, key, NULL);
}
