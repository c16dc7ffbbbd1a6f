/* The bpf(2) calls: make maps, load a compiled program, run it on bytes, and attach it as a
 * bpf_link, which the kernel removes when its descriptor is closed.
 *
 * The structures are written out because old linux/bpf.h headers lack some of them; the layout is
 * the kernel's (include/uapi/linux/bpf.h, union bpf_attr). */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core.h"

enum { MAP_CREATE = 0, MAP_LOOKUP = 1, MAP_UPDATE = 2, MAP_DELETE = 3 };
enum { PROGRAM_LOAD = 5, PROGRAM_RUN = 10, PROGRAM_BY_ID = 13, INFO_BY_FD = 15, PROGRAM_QUERY = 16 };
enum { LINK_CREATE = 28, LINK_UPDATE = 29, LINK_DETACH = 34 };
enum { ATTACH_XDP = 37, ATTACH_TCX_INGRESS = 46 };
enum { NAME_SIZE = NR_PROGRAM_NAME };

struct map_create_attr {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t entries;
    uint32_t flags;
    uint32_t inner_map_fd;
    uint32_t numa_node;
    char name[NAME_SIZE];
};

struct program_load_attr {
    uint32_t type;
    uint32_t insn_count;
    uint64_t insns;
    uint64_t license;
    uint32_t log_level;
    uint32_t log_size;
    uint64_t log;
    uint32_t kernel_version;
    uint32_t flags;
    char name[NAME_SIZE];
};

struct program_run_attr {
    uint32_t program_fd;
    uint32_t result;
    uint32_t data_size_in;
    uint32_t data_size_out;
    uint64_t data_in;
    uint64_t data_out;
    uint32_t repeat;
    uint32_t duration;
    uint64_t zero[5];
};

struct program_by_id_attr {
    uint32_t id;
    uint32_t next_id;
    uint32_t flags;
};

struct info_attr {
    uint32_t fd;
    uint32_t size;
    uint64_t info;
};

struct program_info {
    uint32_t type;
    uint32_t id;
    uint8_t tag[8];
    uint32_t jited_size;
    uint32_t translated_size;
    uint64_t jited;
    uint64_t translated;
    uint64_t load_time;
    uint32_t user;
    uint32_t map_count;
    uint64_t map_ids;
    char name[NAME_SIZE];
};

struct program_query_attr {
    uint32_t ifindex;
    uint32_t attach_type;
    uint32_t query_flags;
    uint32_t attach_flags;
    uint64_t ids;
    uint32_t count;
    uint32_t zero;
    uint64_t ids_of_flags;
    uint64_t link_ids;
    uint64_t link_ids_of_flags;
    uint64_t revision;
};

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

static int call_bpf(int command, void *attr, size_t size) {
    const long rc = syscall(SYS_bpf, command, attr, size);
    return rc >= 0 ? (int)rc : -errno;
}

/* The kernel makes the descriptors of maps, programs and links CLOEXEC. */

int nr_map_create(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries,
                  uint32_t flags, const char *name) {
    struct map_create_attr attr = {
        .type = type,
        .key_size = key_size,
        .value_size = value_size,
        .entries = entries,
        .flags = flags,
    };
    strncpy(attr.name, name, NAME_SIZE - 1);
    return call_bpf(MAP_CREATE, &attr, sizeof attr);
}

int nr_program_load(uint32_t type, const void *insns, uint32_t count, char *log,
                    uint32_t log_size) {
    struct program_load_attr attr = {
        .type = type,
        .insn_count = count,
        .insns = (uint64_t)(uintptr_t)insns,
        .license = (uint64_t)(uintptr_t) "Dual MIT/GPL",
        .log_level = log != NULL,
        .log_size = log != NULL ? log_size : 0,
        .log = (uint64_t)(uintptr_t)log,
        .name = "netring",
    };
    return call_bpf(PROGRAM_LOAD, &attr, sizeof attr);
}

int nr_program_run(int program_fd, const uint8_t *frame, uint32_t size, uint32_t repeat,
                   uint32_t *duration_ns) {
    struct program_run_attr attr = {
        .program_fd = (uint32_t)program_fd,
        .data_size_in = size,
        .data_in = (uint64_t)(uintptr_t)frame,
        .repeat = repeat,
    };
    const int rc = call_bpf(PROGRAM_RUN, &attr, sizeof attr);
    *duration_ns = attr.duration;
    return rc < 0 ? rc : (int)attr.result;
}

int nr_program_by_id(uint32_t id) {
    struct program_by_id_attr attr = {.id = id};
    return call_bpf(PROGRAM_BY_ID, &attr, sizeof attr);
}

int nr_program_info(int program_fd, uint32_t *id, char name[NR_PROGRAM_NAME]) {
    struct program_info info = {0};
    struct info_attr attr = {
        .fd = (uint32_t)program_fd,
        .size = sizeof info,
        .info = (uint64_t)(uintptr_t)&info,
    };
    const int rc = call_bpf(INFO_BY_FD, &attr, sizeof attr);
    *id = info.id;
    memcpy(name, info.name, NR_PROGRAM_NAME);
    return rc;
}

int nr_tcx_programs(uint32_t ifindex, uint32_t *ids, uint32_t count) {
    struct program_query_attr attr = {
        .ifindex = ifindex,
        .attach_type = ATTACH_TCX_INGRESS,
        .ids = (uint64_t)(uintptr_t)ids,
        .count = count,
    };
    const int rc = call_bpf(PROGRAM_QUERY, &attr, sizeof attr);
    return rc < 0 ? rc : (int)attr.count;
}

int nr_link_create(int program_fd, uint32_t ifindex, uint32_t xdp_flags) {
    struct link_create_attr attr = {
        .program_fd = (uint32_t)program_fd,
        .ifindex = ifindex,
        .attach_type = ATTACH_XDP,
        .flags = xdp_flags,
    };
    return call_bpf(LINK_CREATE, &attr, sizeof attr);
}

int nr_link_update(int link_fd, int program_fd) {
    struct link_update_attr attr = {
        .link_fd = (uint32_t)link_fd,
        .program_fd = (uint32_t)program_fd,
    };
    return call_bpf(LINK_UPDATE, &attr, sizeof attr);
}

int nr_link_detach(int link_fd) {
    uint32_t attr = (uint32_t)link_fd;
    return call_bpf(LINK_DETACH, &attr, sizeof attr);
}

static int call_on_map(int command, int map_fd, const void *key, const void *value) {
    struct map_attr attr = {
        .map_fd = (uint32_t)map_fd,
        .key = (uint64_t)(uintptr_t)key,
        .value = (uint64_t)(uintptr_t)value,
    };
    return call_bpf(command, &attr, sizeof attr);
}

int nr_map_update(int map_fd, const void *key, const void *value) {
    return call_on_map(MAP_UPDATE, map_fd, key, value);
}

int nr_map_lookup(int map_fd, const void *key, void *value) {
    return call_on_map(MAP_LOOKUP, map_fd, key, value);
}

int nr_map_delete(int map_fd, const void *key) {
    return call_on_map(MAP_DELETE, map_fd, key, NULL);
}

int nr_map_fill(int map_fd, const uint8_t *keys, uint32_t key_size, uint32_t count) {
    const uint8_t value = 1;
    for (uint32_t i = 0; i < count; i++) {
        const int rc = nr_map_update(map_fd, keys + (size_t)i * key_size, &value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
