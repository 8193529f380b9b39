#include "tools/berth/child.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int child_open(struct child *c, struct loop *loop, const char *dir,
               void (*fn)(void *ctx, uint32_t events), void *ctx)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(c->notify_path, sizeof c->notify_path, "%s/notify-%s", dir, c->name);
    if (n < 0 || (size_t)n >= sizeof c->notify_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, c->notify_path, (size_t)n + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = bind(fd, (struct sockaddr *)&address, sizeof address) ? -errno : 0;
    if (!r)
        r = loop_fd_add(loop, &c->notify, fd, EPOLLIN, fn, ctx);
    if (r)
        close(fd);
    return r;
}

void child_close(struct child *c, struct loop *loop)
{
    if (!c->notify.fn)
        return;
    loop_fd_del(loop, &c->notify);
    close(c->notify.fd);
    unlink(c->notify_path);
}

// In the new process, until it is another program.
static void become(const struct child *c, const char *config_file, pid_t supervisor)
{
    sigset_t none;
    char pid[24];
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    snprintf(pid, sizeof pid, "%ld", (long)supervisor);
    setenv("BERTH_SUPERVISED", pid, 1);
    setenv("NOTIFY_SOCKET", c->notify_path, 1);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd >= 0)
        dup2(null_fd, STDIN_FILENO);
    execl(c->program, c->program, "-c", config_file, (char *)NULL);
    fprintf(stderr, "berth: %s: %s\n", c->program, strerror(errno));
    _exit(127);
}

int child_start(struct child *c, const char *config_file)
{
    c->ready = false;
    c->status[0] = '\0';
    c->started = clock_mono();
    pid_t supervisor = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        become(c, config_file, supervisor);
    c->pid = pid;
    return 0;
}

void child_signal(const struct child *c, int signo)
{
    if (c->pid)
        kill(c->pid, signo);
}

static void hear(struct child *c, const char *line)
{
    if (!strcmp(line, "READY=1")) {
        c->ready = true;
    } else if (!strncmp(line, "STATUS=", 7)) {
        snprintf(c->status, sizeof c->status, "%s", line + 7);
        log_info("process.status", LOG_S("child", c->name), LOG_S("msg", c->status));
    }
}

bool child_listen(struct child *c)
{
    bool was_ready = c->ready;
    char text[4096 + 64];
    ssize_t n;
    while ((n = recv(c->notify.fd, text, sizeof text - 1, 0)) >= 0) {
        char *rest = text;
        char *line;
        text[n] = '\0';
        while ((line = strsep(&rest, "\n")))
            hear(c, line);
    }
    return c->ready && !was_ready;
}
