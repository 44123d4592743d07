/* Counts the file operations of this process under one folder, and lets one of them fail.

   Preloaded (LD_PRELOAD), it does nothing until `faults_arm` is called, through ctypes. An operation
   is one that changes a disk: open for writing, write, rename, sync, mkdir, unlink, truncate, link.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT, KILL, HALF, ONE, REST, IMAGES };

static char folder[PATH_MAX], images[PATH_MAX];
static size_t length;
static long at, done;
static int how, failure, record = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
extern char **environ;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* how: see above. at: which operation, 1, 2, ... error: the errno of ONE (it alone) and REST (it and
   all after it). copies: where IMAGES copies the folder before each operation, as 1, 2, ... log: a
   file for a line an operation. An empty folder disarms. */
void faults_arm(const char *where, int how_, long at_, int error, const char *copies, const char *log) {
  pthread_mutex_lock(&lock);
  if (record >= 0) close(record);
  record = *log ? REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
  snprintf(folder, sizeof folder, "%s", where);
  snprintf(images, sizeof images, "%s", copies);
  length = strlen(folder);
  how = how_, at = at_, failure = error, done = 0;
  pthread_mutex_unlock(&lock);
}

long faults_count(void) { return done; }

static void whole_path(int dir, const char *path, char *whole) {
  char link[64], base[PATH_MAX] = "";
  if (path && *path == '/') {
    snprintf(whole, PATH_MAX, "%s", path);
    return;
  }
  if (path && dir == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) *base = 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, base, sizeof base - 1);
    base[n > 0 ? n : 0] = 0;
  }
  if (snprintf(whole, PATH_MAX, "%s%s%s", base, path ? "/" : "", path ? path : "") < 0) *whole = 0;
}

static void copy_folder(long n) {
  char where[PATH_MAX + 32];
  char *words[] = {"cp", "-a", folder, where, NULL};
  pid_t child;
  int status;
  snprintf(where, sizeof where, "%s/%ld", images, n);
  if (!posix_spawnp(&child, "cp", NULL, NULL, words, environ)) waitpid(child, &status, 0);
}

/* What is to become of an operation: 0, an errno, or -1 for half a write and the end. */
static int meet(const char *operation, int dir, const char *path) {
  char whole[PATH_MAX], line[PATH_MAX + 64];
  int verdict = 0, before = errno;
  if (!length) return 0;
  whole_path(dir, path, whole);
  if (strncmp(whole, folder, length) || (whole[length] && whole[length] != '/')) return 0;
  pthread_mutex_lock(&lock);
  if (length) {
    long n = ++done;
    if (record >= 0) {
      int size = snprintf(line, sizeof line, "%s %s\n", operation, whole + length);
      if (REAL(write)(record, line, size) < 0) abort();
    }
    if (n == at && (how == KILL || (how == HALF && strcmp(operation, "write"))))
      kill(getpid(), SIGKILL);
    if (n == at && how == HALF) verdict = -1;
    if ((how == ONE && n == at) || (how == REST && n >= at)) verdict = failure;
    if (how == IMAGES) copy_folder(n);
  }
  pthread_mutex_unlock(&lock);
  errno = before;
  return verdict;
}

#define CALL(name, kind, operation, dir, path, arguments)                    \
  {                                                                          \
    int verdict = meet(operation, dir, path);                                \
    if (verdict > 0) {                                                       \
      errno = verdict;                                                       \
      return (kind)-1;                                                       \
    }                                                                        \
    return REAL(name) arguments;                                             \
  }
#define OPEN(name, parameters, dir, arguments)                               \
  int name parameters {                                                      \
    mode_t mode = 0;                                                         \
    va_list more;                                                            \
    va_start(more, flags);                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(more, mode_t);          \
    va_end(more);                                                            \
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT))) return REAL(name) arguments; \
    CALL(name, int, "open", dir, path, arguments)                            \
  }
#define WRITE(name, parameters, arguments, half)                             \
  ssize_t name parameters {                                                  \
    int verdict = meet("write", fd, NULL);                                   \
    if (verdict > 0) {                                                       \
      errno = verdict;                                                       \
      return -1;                                                             \
    }                                                                        \
    if (verdict < 0) {                                                       \
      half;                                                                  \
      kill(getpid(), SIGKILL);                                               \
    }                                                                        \
    return REAL(name) arguments;                                             \
  }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(openat, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))
OPEN(openat64, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))
int creat(const char *path, mode_t mode) CALL(creat, int, "open", AT_FDCWD, path, (path, mode))

WRITE(write, (int fd, const void *data, size_t n), (fd, data, n),
      if (REAL(write)(fd, data, n / 2) < 0) abort())
WRITE(pwrite, (int fd, const void *data, size_t n, off_t begin), (fd, data, n, begin),
      if (REAL(pwrite)(fd, data, n / 2, begin) < 0) abort())
WRITE(pwrite64, (int fd, const void *data, size_t n, off64_t begin), (fd, data, n, begin),
      if (REAL(pwrite)(fd, data, n / 2, begin) < 0) abort())
WRITE(writev, (int fd, const struct iovec *data, int n), (fd, data, n),
      if (REAL(writev)(fd, data, n / 2) < 0) abort())

int fsync(int fd) CALL(fsync, int, "sync", fd, NULL, (fd))
int fdatasync(int fd) CALL(fdatasync, int, "sync", fd, NULL, (fd))
int ftruncate(int fd, off_t n) CALL(ftruncate, int, "truncate", fd, NULL, (fd, n))
int ftruncate64(int fd, off64_t n) CALL(ftruncate64, int, "truncate", fd, NULL, (fd, n))
int rename(const char *path, const char *to) CALL(rename, int, "rename", AT_FDCWD, path, (path, to))
int renameat(int dir, const char *path, int other, const char *to)
    CALL(renameat, int, "rename", dir, path, (dir, path, other, to))
int renameat2(int dir, const char *path, int other, const char *to, unsigned flags)
    CALL(renameat2, int, "rename", dir, path, (dir, path, other, to, flags))
int link(const char *path, const char *to) CALL(link, int, "link", AT_FDCWD, to, (path, to))
int symlink(const char *path, const char *to) CALL(symlink, int, "link", AT_FDCWD, to, (path, to))
int mkdir(const char *path, mode_t mode) CALL(mkdir, int, "mkdir", AT_FDCWD, path, (path, mode))
int mkdirat(int dir, const char *path, mode_t mode)
    CALL(mkdirat, int, "mkdir", dir, path, (dir, path, mode))
int unlink(const char *path) CALL(unlink, int, "unlink", AT_FDCWD, path, (path))
int unlinkat(int dir, const char *path, int flags)
    CALL(unlinkat, int, "unlink", dir, path, (dir, path, flags))
int rmdir(const char *path) CALL(rmdir, int, "unlink", AT_FDCWD, path, (path))
