/* Reads a capture file into its buffer, and gives the formats its bytes and times. */
#include "source/savefile.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS 1000000000u
/* Bytes read at once: few enough to be still in the cache when they are dissected. */
#define READ_SIZE (256u << 10)

/* -- the buffer -- */

enum nr_read nr_file_fill(struct nr_savefile *f) {
    struct pollfd ready = {.fd = f->source.fd, .events = POLLIN};
    if (f->start > 0) {
        memmove(f->buffer, f->buffer + f->start, f->end - f->start);
        f->end -= f->start;
        f->start = 0;
    }
    if (poll(&ready, 1, 0) == 0) {
        return NR_READ_STARVED;
    }
    const size_t room = f->capacity - f->end;
    const ssize_t count =
        read(f->source.fd, f->buffer + f->end, room < READ_SIZE ? room : READ_SIZE);
    if (count < 0) {
        if (errno == EINTR || errno == EAGAIN) {
            return NR_READ_STARVED;
        }
        f->state.error = (uint32_t)errno;
        return nr_file_fail(f, NR_FILE_UNREADABLE);
    }
    f->at_end = count == 0;
    f->end += (size_t)count;
    return NR_READ_OTHER;
}

const uint8_t *nr_file_need(struct nr_savefile *f, size_t n, enum nr_read *result) {
    if (f->end - f->start >= n) {
        return f->buffer + f->start;
    }
    if (f->at_end) {
        *result =
            f->end == f->start && f->block == 0 ? NR_READ_END : nr_file_fail(f, NR_FILE_TRUNCATED);
        return NULL;
    }
    *result = NR_READ_STARVED;
    return NULL;
}

void nr_file_pass(struct nr_savefile *f, uint64_t n) {
    const size_t here = f->end - f->start;
    const size_t now = n < here ? (size_t)n : here;
    f->start += now;
    f->offset += now;
    f->skip = n - now;
}

enum nr_read nr_file_fail(struct nr_savefile *f, uint32_t problem) {
    f->state.problem = problem;
    f->state.offset = f->record;
    return NR_READ_END;
}

/* -- interfaces -- */

struct nr_file_interface *nr_file_add_interface(struct nr_savefile *f) {
    if (f->interface_count == NR_MAX_INTERFACES) {
        nr_file_fail(f, NR_FILE_TOO_MANY_INTERFACES);
        return NULL;
    }
    if (f->interface_count == f->interface_room) {
        const uint32_t room = f->interface_room == 0 ? 4 : f->interface_room * 2;
        struct nr_file_interface *more = realloc(f->interfaces, room * sizeof *more);
        if (more == NULL) {
            f->state.error = ENOMEM;
            nr_file_fail(f, NR_FILE_UNREADABLE);
            return NULL;
        }
        f->interfaces = more;
        f->interface_room = room;
    }
    return &f->interfaces[f->interface_count++];
}

/* -- numbers -- */

uint64_t nr_file_ns(const struct nr_file_interface *i, uint64_t units) {
    uint64_t seconds = 0, ns;
    if (i->units_are == NR_UNITS_DECIMAL) {
        seconds = units / i->units;
        ns = (uint64_t)((unsigned __int128)(units % i->units) * NS / i->units);
    } else if (i->units_are == NR_UNITS_BINARY) {
        seconds = i->shift < 64 ? units >> i->shift : 0;
        const uint64_t rest = i->shift < 64 ? units - (seconds << i->shift) : units;
        ns = (uint64_t)((unsigned __int128)rest * NS >> i->shift);
    } else {
        ns = i->units == 0 ? 0 : units / i->units;
    }
    const __int128 at = ((__int128)seconds + i->offset_s) * NS + ns;
    return at < 0 ? 0 : at > INT64_MAX ? INT64_MAX : (uint64_t)at;
}
