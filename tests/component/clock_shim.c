// To be preloaded: the clocks of a process go by a file that a test writes, two 64-bit integers of
// milliseconds: what is added to CLOCK_BOOTTIME, and what to the wall clock. CLOCK_MONOTONIC stays,
// because the kernel and libraries wait by it.
//   LD_PRELOAD=libclock_shim.so CLOCK_SHIM=FILE PROGRAM
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offsets_ms;
static int (*real_clock_gettime)(clockid_t id, struct timespec *t);

__attribute__((constructor)) static void begin(void)
{
    // A function and an object pointer: the way that POSIX shows.
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CLOCK_SHIM");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, 2 * sizeof *offsets_ms, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        abort();
    offsets_ms = map;
}

static void add_ms(struct timespec *t, int64_t ms)
{
    int64_t ns = t->tv_nsec + (ms % 1000) * 1000000;
    t->tv_sec += ms / 1000;
    if (ns < 0) {
        ns += 1000000000;
        t->tv_sec--;
    } else if (ns >= 1000000000) {
        ns -= 1000000000;
        t->tv_sec++;
    }
    t->tv_nsec = ns;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (real_clock_gettime == NULL)
        begin();
    int r = real_clock_gettime(id, t);
    if (r != 0 || offsets_ms == NULL)
        return r;
    if (id == CLOCK_BOOTTIME)
        add_ms(t, offsets_ms[0]);
    else if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        add_ms(t, offsets_ms[1]);
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec t;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}
