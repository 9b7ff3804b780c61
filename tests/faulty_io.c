/* Reading that fails as on a network file system; preloaded into a process by the tests.
 *
 * Calls on files whose path holds FAULT_PATH are touched, as FAULT says:
 *   short         reads give 1000 bytes at most, and every third is interrupted first (EINTR)
 *   stale-open=N  the first N opens fail with ESTALE
 *   stale-read=N  the first N reads of pixels (positioned, into a buffer) fail with ESTALE
 *   eio           every read of pixels fails with EIO
 */
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

static int calls;

static int wanted(const char *path) {
    const char *part = getenv("FAULT_PATH");
    return part != NULL && strstr(path, part) != NULL;
}

static int wanted_file(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return wanted(path);
}

/* Return how often a fault is to occur, -1 where another one is asked for. */
static int times(const char *name) {
    const char *fault = getenv("FAULT");
    size_t size = strlen(name);
    if (fault == NULL || strncmp(fault, name, size) != 0) return -1;
    return fault[size] == '=' ? atoi(fault + size + 1) : 1 << 30;
}

static int fails(const char *name, int error) {
    if (__sync_fetch_and_add(&calls, 1) >= times(name)) return 0;
    errno = error;
    return 1;
}

typedef int open_call(const char *, int, ...);

int open64(const char *path, int flags, ...) {
    open_call *real = (open_call *)dlsym(RTLD_NEXT, "open64");
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    if (times("stale-open") >= 0 && wanted(path) && fails("stale-open", ESTALE)) return -1;
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    return open64(path, flags, mode);
}

typedef ssize_t preadv_call(int, const struct iovec *, int, off_t, int);

ssize_t preadv64v2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
    preadv_call *real = (preadv_call *)dlsym(RTLD_NEXT, "preadv64v2");
    if (!wanted_file(descriptor)) return real(descriptor, parts, count, offset, flags);
    if (times("stale-read") >= 0 && fails("stale-read", ESTALE)) return -1;
    if (times("eio") >= 0 && fails("eio", EIO)) return -1;
    if (times("short") < 0) return real(descriptor, parts, count, offset, flags);
    if (__sync_fetch_and_add(&calls, 1) % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    struct iovec first = parts[0];
    if (first.iov_len > 1000) first.iov_len = 1000;
    return real(descriptor, &first, 1, offset, flags);
}

ssize_t preadv64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return preadv64v2(descriptor, parts, count, offset, 0);
}

typedef ssize_t pread_call(int, void *, size_t, off_t);

ssize_t pread64(int descriptor, void *buffer, size_t size, off_t offset) {
    pread_call *real = (pread_call *)dlsym(RTLD_NEXT, "pread64");
    if (times("short") < 0 || !wanted_file(descriptor)) return real(descriptor, buffer, size, offset);
    if (__sync_fetch_and_add(&calls, 1) % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return real(descriptor, buffer, size > 1000 ? 1000 : size, offset);
}

ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset) {
    return pread64(descriptor, buffer, size, offset);
}
