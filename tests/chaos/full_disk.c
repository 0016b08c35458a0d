/* Preloaded into PostgreSQL: while the file named by FULL_DISK exists, no regular file grows any more (ENOSPC), as on a
 * disk without a free block. What lies within a file is written as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int full(int fd, off_t end)
{
    const char *flag = getenv("FULL_DISK");
    struct stat st;
    int was = errno, is = 0;
    if (flag && stat(flag, &st) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        is = end > st.st_size;
    errno = is ? ENOSPC : was;
    return is;
}

static size_t length(const struct iovec *v, int n)
{
    size_t all = 0;
    while (n-- > 0)
        all += v[n].iov_len;
    return all;
}

ssize_t pwrite(int fd, const void *b, size_t n, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwrite");
    return full(fd, at + (off_t)n) ? -1 : real(fd, b, n, at);
}

ssize_t pwrite64(int fd, const void *b, size_t n, off_t at)
{
    return pwrite(fd, b, n, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwritev");
    return full(fd, at + (off_t)length(v, n)) ? -1 : real(fd, v, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at)
{
    return pwritev(fd, v, n, at);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    static int (*real)(int, off_t, off_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "posix_fallocate");
    return full(fd, at + n) ? ENOSPC : real(fd, at, n);
}

int posix_fallocate64(int fd, off_t at, off_t n)
{
    return posix_fallocate(fd, at, n);
}
