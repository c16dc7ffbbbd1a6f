/* How long the reader's thread is given the CPU at a time. Linux 6.12 and later let a thread ask
 * for short slices; whoever has them runs before those with long ones as soon as it wakes up, and
 * gets no more of the CPU in all. So a reader need not wait 3 ms for a program that happens to run,
 * while its ring fills up. No privilege is needed. Older kernels ignore it. */
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "reader.h"

#define SLICE_NS 100000u /* the shortest there is */

/* Of this thread, if it is an ordinary one: what was chosen for it otherwise stays. */
void nr_reader_take_short_slices(void) {
    struct sched_attr own = {0};
    if (syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 &&
        own.sched_policy == SCHED_NORMAL) {
        own.sched_runtime = SLICE_NS;
        (void)syscall(SYS_sched_setattr, 0, &own, 0); /* refused: it waits as others do */
    }
}
