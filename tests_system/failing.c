/* A library to be preloaded: calls on files whose path holds a text fail, as those of a sick disk or file server do.
 *   FAIL_MATCH  part of the path        FAIL_CALL  open, read, write, rename, sync or lock
 *   FAIL_ERRNO  what they fail with     FAIL_AFTER calls of a process that succeed first (0)
 *   FAIL_TIMES  calls that fail (all)   FAIL_SLEEP_MS  or only take so long */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls;

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int fails(const char *call, const char *path)
{
    const char *match = getenv("FAIL_MATCH"), *wanted = getenv("FAIL_CALL");
    if (!match || !wanted || strcmp(call, wanted) || !path || !strstr(path, match)) return 0;
    long count = __sync_fetch_and_add(&calls, 1), after = number("FAIL_AFTER", 0), times = number("FAIL_TIMES", -1);
    if (count < after || (times >= 0 && count >= after + times)) return 0;
    long pause = number("FAIL_SLEEP_MS", 0);
    if (pause) {
        usleep((useconds_t)pause * 1000);
        return 0;
    }
    errno = (int)number("FAIL_ERRNO", EIO);
    return 1;
}

static int fails_on(const char *call, int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

#define REAL(NAME, RESULT, ...) static RESULT (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #NAME)
#define ON(CALL, NAME, RESULT, PARAMETERS, ARGUMENTS, ...)                                                            \
    RESULT NAME PARAMETERS                                                                                            \
    {                                                                                                                 \
        REAL(NAME, RESULT, __VA_ARGS__);                                                                              \
        return fails_on(CALL, fd) ? -1 : real ARGUMENTS;                                                              \
    }

ON("read", read, ssize_t, (int fd, void *b, size_t n), (fd, b, n), int, void *, size_t)
ON("read", pread, ssize_t, (int fd, void *b, size_t n, off_t o), (fd, b, n, o), int, void *, size_t, off_t)
ON("read", pread64, ssize_t, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o), int, void *, size_t, off64_t)
ON("read", preadv, ssize_t, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), int, const struct iovec *, int, off_t)
ON("read", preadv64, ssize_t, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o), int, const struct iovec *, int, off64_t)
ON("read", preadv2, ssize_t, (int fd, const struct iovec *v, int n, off_t o, int f), (fd, v, n, o, f), int, const struct iovec *, int, off_t, int)
ON("read", preadv64v2, ssize_t, (int fd, const struct iovec *v, int n, off64_t o, int f), (fd, v, n, o, f), int, const struct iovec *, int, off64_t, int)
ON("write", write, ssize_t, (int fd, const void *b, size_t n), (fd, b, n), int, const void *, size_t)
ON("write", writev, ssize_t, (int fd, const struct iovec *v, int n), (fd, v, n), int, const struct iovec *, int)
ON("sync", fsync, int, (int fd), (fd), int)
ON("sync", syncfs, int, (int fd), (fd), int)
ON("lock", flock, int, (int fd, int how), (fd, how), int, int)

int rename(const char *from, const char *to)
{
    REAL(rename, int, const char *, const char *);
    return fails("rename", to) ? -1 : real(from, to);
}

#define OPEN(NAME)                                                                                                    \
    int NAME(const char *path, int flags, ...)                                                                        \
    {                                                                                                                 \
        REAL(NAME, int, const char *, int, ...);                                                                      \
        va_list rest;                                                                                                 \
        va_start(rest, flags);                                                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                       \
        va_end(rest);                                                                                                 \
        return fails("open", path) ? -1 : real(path, flags, mode);                                                    \
    }

OPEN(open)
OPEN(open64)
