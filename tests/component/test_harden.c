// What a hardened process cannot do any more; each case in a child of its own.
#include "common/harden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return __LINE__;                                                                       \
    } while (0)

// 0, or the line of what is not as expected.
static void in_child(int (*fn)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int line = fn();
        if (line != 0)
            fprintf(stderr, "test_harden.c:%d\n", line);
        _exit(line != 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int run_another_program(void)
{
    char *const arguments[] = {(char *)(uintptr_t)"true", NULL};
    execv("/bin/true", arguments);
    return errno;
}

static void *in_thread(void *ctx)
{
    int *gates = ctx;
    char c;
    intptr_t result = read(gates[0], &c, 1) == 1 ? run_another_program() : -1;
    return (void *)result;
}

static int child_system_calls(void)
{
    int gates[2];
    pthread_t thread;
    void *result = NULL;
    EXPECT(pipe(gates) == 0);
    harden_begin(false);
    EXPECT(pthread_create(&thread, NULL, in_thread, gates) == 0);
    EXPECT(harden_system_calls());
    EXPECT(run_another_program() == EPERM);
    EXPECT(mount("none", "/tmp", "tmpfs", 0, NULL) < 0 && errno == EPERM);
    EXPECT(unshare(CLONE_NEWUSER) < 0 && errno == EPERM);
    EXPECT(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0) < 0 && errno == EPERM);
    // A thread that was there before is held as well.
    EXPECT(write(gates[1], "x", 1) == 1);
    EXPECT(pthread_join(thread, &result) == 0 && (intptr_t)result == EPERM);
    // What a server needs goes on.
    FILE *f = tmpfile();
    EXPECT(f != NULL && fputs("x", f) >= 0 && fclose(f) == 0);
    EXPECT(malloc(10 << 20) != NULL);
    EXPECT(getpid() > 0 && kill(getpid(), 0) == 0);
    return 0;
}

static int child_rights(void)
{
    const uint64_t kept = 1ull << CAP_DAC_OVERRIDE | 1ull << CAP_NET_BIND_SERVICE;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    harden_begin(false);
    EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    EXPECT(syscall(SYS_capget, &head, data) == 0);
    for (int i = 0; i < 2; i++) {
        uint32_t others = ~(uint32_t)(kept >> 32 * i);
        EXPECT((data[i].effective & others) == 0 && (data[i].permitted & others) == 0);
        EXPECT(data[i].inheritable == 0);
    }
    if (geteuid() == 0) {
        EXPECT(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0);
        EXPECT(setuid(1) < 0 && errno == EPERM);
        EXPECT(chown("/tmp", 1, 1) < 0);
    }
    EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
    return 0;
}

static int child_keys(void)
{
    struct rlimit limit;
    harden_begin(true);
    EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    EXPECT(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
    // The process still sees itself: its metrics count open files.
    EXPECT(open("/proc/self/fd", O_RDONLY | O_DIRECTORY) >= 0);
    EXPECT(open("/proc/self/statm", O_RDONLY) >= 0);
    return 0;
}

static void system_calls(void **state)
{
    in_child(child_system_calls);
}

static void rights(void **state)
{
    in_child(child_rights);
}

static void keys(void **state)
{
    in_child(child_keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(system_calls),
        cmocka_unit_test(rights),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
