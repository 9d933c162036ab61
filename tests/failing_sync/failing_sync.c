/* Preloaded into the process under test: while the file named by FAILING_SYNC_IF exists, every sync fails as on a broken disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int is_broken(void) {
    const char *sign = getenv("FAILING_SYNC_IF");
    int error = errno, broken = sign && access(sign, F_OK) == 0;
    errno = broken ? EIO : error;
    return broken;
}

#define SYNC(name)                                                                                                           \
    int name(int fd) {                                                                                                       \
        static int (*real)(int);                                                                                             \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                \
        return is_broken() ? -1 : real(fd);                                                                                  \
    }
SYNC(fsync)
SYNC(fdatasync)
