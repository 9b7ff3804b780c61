/* Reading that fails as on a network file system; preloaded into a process by the tests.
 *
 * Calls on files whose path holds FAULT_PATH are touched, as FAULT says:
 *   short         reads give 1000 bytes at most, and every third is interrupted first (EINTR)
 *   stale-open=N  the first N opens fail with ESTALE
 *   stale-read=N  the first N reads of pixels (preadv, or pread of compiled code) fail with ESTALE
 *   eio           every read of pixels fails with EIO
 *   slow=MS       every read of 1000 bytes of pixels or more takes so many milliseconds more
 *
 * READ_LOG=FILE gets a line for each of these reads of pixels: path, offset, bytes asked for.
 *
 * KILL=CALL:N:before or KILL=CALL:N:after ends the process as kill -9 does, before or after the N-th
 * CALL (pwrite, fdatasync, fsync, rename, unlink) on a file whose path ends with KILL_PATH.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

/* Note a read in the file that READ_LOG names; lines of several processes do not mix. */
static void note_read(int descriptor, size_t bytes, off_t offset) {
    const char *log = getenv("READ_LOG");
    if (log == NULL) return;
    char link[64], path[4096], line[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return;
    path[size] = 0;
    int length = snprintf(line, sizeof line, "%s %lld %zu\n", path, (long long)offset, bytes);
    int file = ((open_call *)dlsym(RTLD_NEXT, "open64"))(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0) return;
    if (write(file, line, length) != length) abort();
    close(file);
}

typedef ssize_t preadv_call(int, const struct iovec *, int, off_t, int);

/* Return whether a read of pixels is to fail; let it wait where it is to be slow. */
static int pixels_fail(int descriptor, size_t size, off_t offset) {
    note_read(descriptor, size, offset);
    if (times("stale-read") >= 0 && fails("stale-read", ESTALE)) return 1;
    if (times("eio") >= 0 && fails("eio", EIO)) return 1;
    if (times("slow") >= 0 && size >= 1000) usleep(1000 * times("slow"));
    return 0;
}

static int interrupted(void) {
    if (__sync_fetch_and_add(&calls, 1) % 3 != 0) return 0;
    errno = EINTR;
    return 1;
}

ssize_t preadv64v2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
    preadv_call *real = (preadv_call *)dlsym(RTLD_NEXT, "preadv64v2");
    if (!wanted_file(descriptor)) return real(descriptor, parts, count, offset, flags);
    if (pixels_fail(descriptor, parts[0].iov_len, offset)) return -1;
    if (times("short") < 0) return real(descriptor, parts, count, offset, flags);
    if (interrupted()) return -1;
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
    if (interrupted()) return -1;
    return real(descriptor, buffer, size > 1000 ? 1000 : size, offset);
}

/* Compiled code reads pixels by this name; Python, which reads headers, by that above. */
ssize_t pread(int descriptor, void *buffer, size_t size, off_t offset) {
    if (wanted_file(descriptor) && pixels_fail(descriptor, size, offset)) return -1;
    return pread64(descriptor, buffer, size, offset);
}

static int killing;

/* End the process if this is the call and the moment that KILL names; calls count before it. */
static void moment(const char *call, const char *when, const char *path) {
    const char *kill_at = getenv("KILL"), *part = getenv("KILL_PATH");
    size_t size = strlen(call), length = strlen(path);
    if (kill_at == NULL || part == NULL || length < strlen(part)) return;
    if (strcmp(path + length - strlen(part), part) != 0) return;
    if (strncmp(kill_at, call, size) != 0 || kill_at[size] != ':') return;
    if (strcmp(when, "before") == 0) __sync_fetch_and_add(&killing, 1);
    char *rest;
    if (strtol(kill_at + size + 1, &rest, 10) != killing) return;
    if (strcmp(rest + 1, when) == 0) kill(getpid(), SIGKILL);
}

static void moment_of_file(const char *call, const char *when, int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return;
    path[size] = 0;
    moment(call, when, path);
}

typedef ssize_t pwrite_call(int, const void *, size_t, off_t);

ssize_t pwrite64(int descriptor, const void *buffer, size_t size, off_t offset) {
    pwrite_call *real = (pwrite_call *)dlsym(RTLD_NEXT, "pwrite64");
    moment_of_file("pwrite", "before", descriptor);
    ssize_t done = real(descriptor, buffer, size, offset);
    moment_of_file("pwrite", "after", descriptor);
    return done;
}

ssize_t pwrite(int descriptor, const void *buffer, size_t size, off_t offset) {
    return pwrite64(descriptor, buffer, size, offset);
}

typedef int file_call(int);

int fdatasync(int descriptor) {
    moment_of_file("fdatasync", "before", descriptor);
    int done = ((file_call *)dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
    moment_of_file("fdatasync", "after", descriptor);
    return done;
}

int fsync(int descriptor) {
    moment_of_file("fsync", "before", descriptor);
    int done = ((file_call *)dlsym(RTLD_NEXT, "fsync"))(descriptor);
    moment_of_file("fsync", "after", descriptor);
    return done;
}

typedef int rename_call(const char *, const char *);

int rename(const char *from, const char *to) {
    moment("rename", "before", from);
    int done = ((rename_call *)dlsym(RTLD_NEXT, "rename"))(from, to);
    moment("rename", "after", from);
    return done;
}

typedef int path_call(const char *);

int unlink(const char *path) {
    moment("unlink", "before", path);
    int done = ((path_call *)dlsym(RTLD_NEXT, "unlink"))(path);
    moment("unlink", "after", path);
    return done;
}
