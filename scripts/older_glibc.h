/* Included in front of each C file of a wheel (scripts/release), so that it runs with an older glibc
 * than the one of the machine that builds it.
 *
 * glibc 2.34 moved these functions from libdl to libc and gave them new versions; the old versions
 * are still there, in libdl before and in libc since. They are the same functions. */
#if defined __x86_64__
#define NR_OLD "GLIBC_2.2.5"
#elif defined __aarch64__
#define NR_OLD "GLIBC_2.17"
#else
#error "which version had dlopen before glibc 2.34 on this machine?"
#endif
__asm__(".symver dlopen, dlopen@" NR_OLD);
__asm__(".symver dlsym, dlsym@" NR_OLD);
__asm__(".symver dlclose, dlclose@" NR_OLD);
