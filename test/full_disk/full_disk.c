/* Loaded before a server, makes the disk of its tables full while there is a file $METER_FULL_DISK: what
 * would make a file of a table longer fails with ENOSPC, once a process has done so as often as the
 * file says. What is written within a file, and all other files, the WAL too, are let through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int extended;      /* how often this process has, since the file came */
static ino_t counted_for; /* the file that it is counted for */

/* Whether writing up to `end` is to fail. */
static int is_full(int fd, off_t end)
{
    const char* flag = getenv("METER_FULL_DISK");
    struct stat of_flag, of_file;
    char link[64], path[4096], text[32] = "";
    ssize_t length;
    int flag_fd;

    if (flag == NULL || stat(flag, &of_flag) != 0 || fstat(fd, &of_file) != 0 || end <= of_file.st_size)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    if (strstr(path, "/base/") == NULL)
        return 0;
    flag_fd = open(flag, O_RDONLY);
    if (flag_fd < 0)
        return 0;
    if (read(flag_fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(flag_fd);
    if (counted_for != of_flag.st_ino) {
        counted_for = of_flag.st_ino;
        extended = 0;
    }
    return extended++ >= atoi(text);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t at)
{
    static ssize_t (*real)(int, const void*, size_t, off_t);
    if (real == NULL)
        real = (ssize_t(*)(int, const void*, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    if (is_full(fd, at + (off_t)size)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, data, size, at);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

ssize_t pwritev64(int fd, const struct iovec* parts, int count, off_t at)
{
    static ssize_t (*real)(int, const struct iovec*, int, off_t);
    off_t size = 0;
    int i;
    if (real == NULL)
        real = (ssize_t(*)(int, const struct iovec*, int, off_t))dlsym(RTLD_NEXT, "pwritev64");
    for (i = 0; i < count; ++i)
        size += (off_t)parts[i].iov_len;
    if (is_full(fd, at + size)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, parts, count, at);
}

ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at)
{
    return pwritev64(fd, parts, count, at);
}

int posix_fallocate64(int fd, off_t at, off_t size)
{
    static int (*real)(int, off_t, off_t);
    if (real == NULL)
        real = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate64");
    return is_full(fd, at + size) ? ENOSPC : real(fd, at, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return posix_fallocate64(fd, at, size);
}
