/* Preloaded into the process under test: writes down, in order, everything it does to the files under one directory.
 *
 * RECORDER_ROOT   the directory, absolute and without symbolic links
 * RECORDER_NOTES  a file under it, whose writes are not part of the directory's state but remarks on it
 * RECORDER_LOG    where the records go
 *
 * A record is one byte of kind, three numbers (8 bytes each) and two byte strings (each behind its length in 8 bytes), all
 * little-endian:
 *
 *   o  handle, created, -        path, -       opened: handles are numbered by us and never used twice
 *   w  handle, offset, -         data, -       written
 *   t  handle, length, -         -, -          set to this length
 *   b  handle, sync, -           -, -          a sync of the file begins ...
 *   e  handle, sync, -           -, -          ... and has succeeded
 *   r  -, -, -                   from, to      renamed
 *   u  -, -, -                   path, -       file removed
 *   m  -, -, -                   path, -       directory made
 *   d  -, -, -                   path, -       directory removed
 *   n  -, -, -                   text, -       remark
 *   ?  -, -, -                   what, -       something that this recorder cannot follow
 *
 * One lock is held over each change and its record, so that the order of the records is the order of the changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define NONE 0
#define NOTES UINT64_MAX

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t handles[FILES]; /* by descriptor */
static uint64_t next_handle = 1, next_sync = 1;
static const char *root, *notes;
static size_t root_length;
static int log_fd = -1;

#define REAL(type, name, ...)                                                                                                \
    static type (*real_##name)(__VA_ARGS__);                                                                                 \
    if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)

static ssize_t raw_write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(fd, bytes, count);
}

__attribute__((constructor)) static void begin(void) {
    REAL(int, open64, const char *, int, ...);
    root = getenv("RECORDER_ROOT");
    notes = getenv("RECORDER_NOTES");
    root_length = root ? strlen(root) : 0;
    const char *log = getenv("RECORDER_LOG");
    if (root && log) log_fd = real_open64(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(char kind, uint64_t a, uint64_t b, const void *x, uint64_t x_length, const void *y, uint64_t y_length) {
    if (log_fd < 0) return;
    uint64_t numbers[3] = {a, b, 0};
    struct iovec parts[6] = {{&kind, 1},   {numbers, sizeof numbers}, {&x_length, 8}, {(void *)x, x_length},
                             {&y_length, 8}, {(void *)y, y_length}};
    REAL(ssize_t, writev, int, const struct iovec *, int);
    size_t total = 1 + sizeof numbers + 16 + x_length + y_length;
    if (real_writev(log_fd, parts, 6) != (ssize_t)total) abort();
}

static void record_path(char kind, uint64_t a, uint64_t b, const char *path) {
    record(kind, a, b, path, strlen(path), NULL, 0);
}

static int is_inside(const char *path) {
    return root && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* The path that a descriptor leads to; empty if none. */
static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static uint64_t opened(int fd, const char *path, int created) {
    uint64_t handle = notes && strcmp(path, notes) == 0 ? NOTES : next_handle++;
    if (fd < 0 || fd >= FILES) abort();
    handles[fd] = handle;
    if (handle != NOTES) record_path('o', handle, created, path);
    return handle;
}

/* The handle of a descriptor, also of one that came about in a way not watched, such as by dup. */
static uint64_t handle_of(int fd) {
    if (!root || fd < 0 || fd >= FILES) return NONE;
    if (handles[fd]) return handles[fd];
    char path[PATH_MAX];
    path_of(fd, path);
    return is_inside(path) ? opened(fd, path, 0) : NONE;
}

static int open_recorded(int dir, const char *name, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    if (!root) return real_openat64(dir, name, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = real_openat64(dir, name, flags, mode), error = errno;
    if (fd >= 0 && fd < FILES) {
        char path[PATH_MAX];
        path_of(fd, path);
        handles[fd] = NONE;
        if (is_inside(path)) {
            uint64_t handle = opened(fd, path, !existed && (flags & O_CREAT));
            if (existed && (flags & O_TRUNC) && handle != NOTES) record('t', handle, 0, NULL, 0, NULL, 0);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name, before, dir)                                                                                              \
    int name(before const char *path, int flags, ...) {                                                                     \
        va_list rest;                                                                                                        \
        va_start(rest, flags);                                                                                               \
        mode_t mode = mode_of(flags, rest);                                                                                  \
        va_end(rest);                                                                                                        \
        return open_recorded(dir, path, flags, mode);                                                                        \
    }
#define NOTHING
#define DIR_FIRST int dir,
OPEN(open, NOTHING, AT_FDCWD)
OPEN(open64, NOTHING, AT_FDCWD)
OPEN(openat, DIR_FIRST, dir)
OPEN(openat64, DIR_FIRST, dir)

int close(int fd) {
    REAL(int, close, int);
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FILES) handles[fd] = NONE;
    int done = real_close(fd);
    pthread_mutex_unlock(&lock);
    return done;
}

/* Writes at an offset, or at the descriptor's own place if that is negative. */
static ssize_t write_recorded(int fd, const void *bytes, size_t count, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    pthread_mutex_lock(&lock);
    uint64_t handle = handle_of(fd);
    ssize_t done = offset < 0 ? raw_write(fd, bytes, count) : real_pwrite64(fd, bytes, count, offset);
    int error = errno;
    if (done > 0 && handle == NOTES) {
        record('n', 0, 0, bytes, done, NULL, 0);
    } else if (done > 0 && handle != NONE) {
        record('w', handle, offset < 0 ? lseek64(fd, 0, SEEK_CUR) - done : offset, bytes, done, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *bytes, size_t count) { return write_recorded(fd, bytes, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return write_recorded(fd, bytes, count, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) { return write_recorded(fd, bytes, count, offset); }

/* Several parts are written one after another, which these calls leave open. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    pthread_mutex_lock(&lock);
    uint64_t handle = handle_of(fd);
    pthread_mutex_unlock(&lock);
    if (handle == NONE) return real_writev(fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

static int cannot_follow(int fd, const char *what) {
    pthread_mutex_lock(&lock);
    if (handle_of(fd) != NONE) record_path('?', 0, 0, what);
    pthread_mutex_unlock(&lock);
    return 0;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    cannot_follow(fd, "pwritev");
    return real_pwritev(fd, parts, count, offset);
}

/* Copies within the kernel are refused, so that the caller copies by read and write. */
static int is_refused(int fd) {
    pthread_mutex_lock(&lock);
    int refused = handle_of(fd) != NONE;
    pthread_mutex_unlock(&lock);
    if (refused) errno = ENOSYS;
    return refused;
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    return is_refused(to) ? -1 : real_copy_file_range(from, from_at, to, to_at, count, flags);
}

ssize_t sendfile64(int to, int from, off64_t *from_at, size_t count) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    return is_refused(to) ? -1 : real_sendfile64(to, from, from_at, count);
}

ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    REAL(ssize_t, splice, int, off64_t *, int, off64_t *, size_t, unsigned);
    return is_refused(to) ? -1 : real_splice(from, from_at, to, to_at, count, flags);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(int, fallocate64, int, int, off64_t, off64_t);
    cannot_follow(fd, "fallocate");
    return real_fallocate64(fd, mode, offset, length);
}

int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    pthread_mutex_lock(&lock);
    int done = real_ftruncate64(fd, length), error = errno;
    uint64_t handle = handle_of(fd);
    if (done == 0 && handle != NONE) record('t', handle, length, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* The lock is not held over the sync itself, which is how writes come to fall between its beginning and its end. */
static int sync_recorded(int fd, int (*sync)(int)) {
    pthread_mutex_lock(&lock);
    uint64_t handle = handle_of(fd), number = next_sync++;
    int is_ours = handle != NONE && handle != NOTES;
    if (is_ours) record('b', handle, number, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = sync(fd), error = errno;
    if (is_ours && done == 0) {
        pthread_mutex_lock(&lock);
        record('e', handle, number, NULL, 0, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return sync_recorded(fd, real_fsync);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return sync_recorded(fd, real_fdatasync);
}

/* sync_file_range is let through unrecorded: it promises nothing about a loss of power. */

/* The name at a directory's descriptor as an absolute path. */
static void absolute(int dir, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX];
    if (dir == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) abort();
    } else {
        path_of(dir, base);
    }
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) abort();
}

static int rename_recorded(int from_dir, const char *from, int to_dir, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    char old_path[PATH_MAX], new_path[PATH_MAX];
    absolute(from_dir, from, old_path);
    absolute(to_dir, to, new_path);
    pthread_mutex_lock(&lock);
    int done = real_renameat(from_dir, from, to_dir, to), error = errno;
    if (done == 0 && is_inside(old_path)) record('r', 0, 0, old_path, strlen(old_path), new_path, strlen(new_path));
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *from, const char *to) { return rename_recorded(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return rename_recorded(from_dir, from, to_dir, to); }

static int remove_recorded(int dir, const char *name, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char path[PATH_MAX];
    absolute(dir, name, path);
    pthread_mutex_lock(&lock);
    int done = real_unlinkat(dir, name, flags), error = errno;
    if (done == 0 && is_inside(path)) record_path(flags & AT_REMOVEDIR ? 'd' : 'u', 0, 0, path);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int unlink(const char *path) { return remove_recorded(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return remove_recorded(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int dir, const char *name, int flags) { return remove_recorded(dir, name, flags); }

int mkdir(const char *name, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    char path[PATH_MAX];
    absolute(AT_FDCWD, name, path);
    pthread_mutex_lock(&lock);
    int done = real_mkdir(name, mode), error = errno;
    if (done == 0 && is_inside(path)) record_path('m', 0, 0, path);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
