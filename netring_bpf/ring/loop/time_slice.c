/* Asks the kernel for short time slices for the reader's thread. Linux 6.12 and later run a thread
 * with shorter slices than the others as soon as it wakes up; it gets no more of the CPU in all. No
 * privilege is needed, and older kernels have no slices to change. Slices that end before the work
 * of a nap does would lose more frames (see docs/performance.md). */
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop/reader.h"

#define SLICE_NS 800000u /* longer than reading the frames of a nap takes */

/* Changes only an ordinary thread with longer slices; any other setting stays. */
void nr_reader_take_short_slices(void) {
    struct sched_attr own = {0};
    if (syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 &&
        own.sched_policy == SCHED_NORMAL && own.sched_runtime > SLICE_NS) {
        own.sched_runtime = SLICE_NS;
        (void)syscall(SYS_sched_setattr, 0, &own, 0); /* if refused, it waits like others */
    }
}
