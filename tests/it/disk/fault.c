/* A disk that fails when it is told to, between a program and the system (LD_PRELOAD).
 *
 * DISK_FOLDER   files below it are on this disk
 * DISK_CONTROL  a file: begins with 'f': the disk is full; with 's': fsync fails; with 'r': no read works,
 *               with '1': the first does not; with 'a': the first page of a store is read wrong; with 'w': no
 *               write works; with 'n': it is read-only; with 'm': there is no memory to map files; else it is
 *               sound
 * DISK_SHADOW   a folder: each file as a power cut would leave it, kept page by page
 *
 * After a failed fsync the system takes pages for written that never were (every other one here),
 * and still shows them to whoever reads: only the shadow has what is really there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES (1 << 16)
#define FILES 8

struct shadowed {
    char name[NAME_MAX + 1];
    unsigned char dirty[PAGES];
};

static struct shadowed files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static const char *below(const char *path, const char *folder) {
    size_t prefix = strlen(folder);
    if (strncmp(path, folder, prefix) != 0 || path[prefix] != '/') return NULL;
    return path + prefix + 1;
}

/* The file's name below the folder, or NULL where it is elsewhere. */
static const char *name_of(int fd, char *path) {
    const char *folder = getenv("DISK_FOLDER");
    char link[64];
    if (folder == NULL) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return below(path, folder);
}

static char fault(void) {
    const char *control = getenv("DISK_CONTROL");
    char now = 0;
    int fd = control == NULL ? -1 : open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, &now, 1) != 1) now = 0;
    close(fd);
    return now;
}

static int fails(int fd, char kind) {
    char path[PATH_MAX];
    int kept = errno;
    int failing = name_of(fd, path) != NULL && fault() == kind;
    errno = kept;
    return failing;
}

/* Called with the lock held; NULL for files that need not last. */
static struct shadowed *shadow_of(const char *name) {
    if (name == NULL || strstr(name, "-shm") != NULL) return NULL;
    for (int i = 0; i < FILES; i++) {
        if (files[i].name[0] == 0) snprintf(files[i].name, sizeof files[i].name, "%s", name);
        if (strcmp(files[i].name, name) == 0) return &files[i];
    }
    return NULL;
}

static void wrote(int fd, off_t from, ssize_t count) {
    char path[PATH_MAX];
    int kept = errno;
    if (count > 0) {
        pthread_mutex_lock(&lock);
        struct shadowed *file = shadow_of(name_of(fd, path));
        for (off_t page = from / PAGE; file != NULL && page <= (from + count - 1) / PAGE; page++) {
            if (page < PAGES) file->dirty[page] = 1;
        }
        pthread_mutex_unlock(&lock);
    }
    errno = kept;
}

/* Brings dirty pages to the shadow: all of them, or those that a failing disk happened to write. */
static void reaches_the_disk(int fd, int sound) {
    char path[PATH_MAX], target[PATH_MAX], page_bytes[PAGE];
    const char *folder = getenv("DISK_SHADOW");
    int kept = errno;
    struct stat found;
    pthread_mutex_lock(&lock);
    struct shadowed *file = shadow_of(name_of(fd, path));
    if (folder != NULL && file != NULL && fstat(fd, &found) == 0) {
        snprintf(target, sizeof target, "%s/%s", folder, file->name);
        int out = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (off_t page = 0; out >= 0 && page < PAGES; page++) {
            if (file->dirty[page] && (sound || page % 2 == 0)) {
                ssize_t count = pread(fd, page_bytes, PAGE, page * PAGE);
                if (count > 0 && REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)(
                                     out, page_bytes, (size_t)count, page * PAGE) != count)
                    abort();
            }
            file->dirty[page] = 0;
        }
        if (out >= 0 && sound && REAL(int, ftruncate64, int, off_t)(out, found.st_size) != 0) abort();
        if (out >= 0) close(out);
    }
    pthread_mutex_unlock(&lock);
    errno = kept;
}

static int read_fails(int fd) {
    static int once;
    return fails(fd, 'r') || (fails(fd, '1') && !__atomic_exchange_n(&once, 1, __ATOMIC_SEQ_CST));
}

ssize_t read(int fd, void *to, size_t count) {
    if (read_fails(fd)) return errno = EIO, -1;
    return REAL(ssize_t, read, int, void *, size_t)(fd, to, count);
}

static int reads_wrong(int fd, size_t count) {
    static int once;
    char path[PATH_MAX];
    if (count < PAGE || !fails(fd, 'a')) return 0;
    return strcmp(name_of(fd, path), "bank.db") == 0 && !__atomic_exchange_n(&once, 1, __ATOMIC_SEQ_CST);
}

ssize_t pread64(int fd, void *to, size_t count, off_t at) {
    if (read_fails(fd)) return errno = EIO, -1;
    ssize_t done = REAL(ssize_t, pread64, int, void *, size_t, off_t)(fd, to, count, at);
    if (done > 0 && reads_wrong(fd, count)) memset(to, 0xa5, (size_t)done);
    return done;
}

static int opens(const char *path, int flags, va_list more) {
    const char *folder = getenv("DISK_FOLDER");
    int makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    mode_t mode = makes ? va_arg(more, mode_t) : 0;
    int writes = (flags & O_ACCMODE) != O_RDONLY && folder != NULL && below(path, folder) != NULL;
    if (writes && fault() == 'n') return errno = EROFS, -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = opens(path, flags, more);
    va_end(more);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = opens(path, flags, more);
    va_end(more);
    return fd;
}

ssize_t pread(int fd, void *to, size_t count, off_t at) {
    return pread64(fd, to, count, at);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && fails(fd, 'm')) return errno = ENOMEM, MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mmap64(at, length, protection, flags, fd, offset);
}

ssize_t write(int fd, const void *from, size_t count) {
    if (fails(fd, 'f')) return errno = ENOSPC, -1;
    if (fails(fd, 'w')) return errno = EIO, -1;
    if (fails(fd, 'n')) return errno = EROFS, -1;
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(ssize_t, write, int, const void *, size_t)(fd, from, count);
    if (at >= 0) wrote(fd, at, done);
    return done;
}

ssize_t pwrite64(int fd, const void *from, size_t count, off_t at) {
    if (fails(fd, 'f')) return errno = ENOSPC, -1;
    if (fails(fd, 'w')) return errno = EIO, -1;
    if (fails(fd, 'n')) return errno = EROFS, -1;
    ssize_t done = REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)(fd, from, count, at);
    wrote(fd, at, done);
    return done;
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    return pwrite64(fd, from, count, at);
}

int posix_fallocate(int fd, off_t at, off_t length) {
    if (fails(fd, 'f')) return ENOSPC;
    return REAL(int, posix_fallocate, int, off_t, off_t)(fd, at, length);
}

int fsync(int fd) {
    if (fails(fd, 's')) {
        reaches_the_disk(fd, 0);
        return errno = EIO, -1;
    }
    int done = REAL(int, fsync, int)(fd);
    if (done == 0) reaches_the_disk(fd, 1);
    return done;
}

int fdatasync(int fd) {
    return fsync(fd);
}
