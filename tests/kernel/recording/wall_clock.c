/* Preloaded: adds to the wall clock the seconds that the file named by WALL_CLOCK holds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long *added;

__attribute__((constructor)) static void open_file(void) {
    const int fd = open(getenv("WALL_CLOCK"), O_RDONLY | O_CLOEXEC);
    added = mmap(NULL, sizeof *added, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    const long rc = syscall(SYS_clock_gettime, clock, now);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += *added;
    }
    return (int)rc;
}
