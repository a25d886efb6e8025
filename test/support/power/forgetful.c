// LD_PRELOAD: what a disk has of the files whose path ends in one of the lines of $FORGETFUL_DIR/track (or holds it, where the line ends in "/").
// A page (4 KiB) that is written is dirty; a sync brings the dirty pages of its file to the disk. A sync of a file that the
// line in $FORGETFUL_DIR/fail means fails once with EIO: the pages are clean then, as the kernel holds them, and not on
// the disk; no later sync brings them there, unless they are written again. For a file, $FORGETFUL_DIR has "<path>.img" (what
// is on the disk) and "<path>.map" (a byte for each page, 1: dirty), with % for each slash.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int ends(const char *text, const char *end) {
  size_t t = strlen(text), e = strlen(end);
  return e > 0 && t >= e && strcmp(text + t - e, end) == 0;
}

static int means(const char *line, const char *path) {
  return ends(line, "/") ? strstr(path, line) != NULL : ends(path, line);
}

static int tracked(const char *path) {
  const char *dir = getenv("FORGETFUL_DIR");
  char name[4200], line[256];
  if (!dir || strncmp(path, dir, strlen(dir)) == 0) return 0;
  snprintf(name, sizeof name, "%s/track", dir);
  FILE *list = fopen(name, "r");
  int found = 0;
  while (list && !found && fgets(line, sizeof line, list)) {
    line[strcspn(line, "\n")] = 0;
    found = means(line, path);
  }
  if (list) fclose(list);
  return found;
}

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  if (!getenv("FORGETFUL_DIR")) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, size - 1);
  if (n <= 0 || path[0] != '/') return 0;
  path[n] = 0;
  return tracked(path);
}

static void shadow(const char *path, const char *kind, char *name, size_t size) {
  int n = snprintf(name, size, "%s/", getenv("FORGETFUL_DIR"));
  for (const char *p = path; *p && (size_t)n < size - 8; p++) name[n++] = *p == '/' ? '%' : *p;
  snprintf(name + n, size - n, ".%s", kind);
}

static int open_shadow(const char *path, const char *kind) {
  char name[4300];
  shadow(path, kind, name, sizeof name);
  return open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static ssize_t raw_pwrite(int fd, const void *data, size_t n, off_t at) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
  return real(fd, data, n, at);
}

static void wrote(int fd, off_t at, ssize_t n) {
  char path[4096];
  int kept = errno;
  if (n <= 0 || !path_of(fd, path, sizeof path)) { errno = kept; return; }
  pthread_mutex_lock(&lock);
  int map = open_shadow(path, "map");
  for (off_t page = at / PAGE; page * PAGE < at + n; page++) raw_pwrite(map, "\1", 1, page);
  close(map);
  pthread_mutex_unlock(&lock);
  errno = kept;
}

// 0, or -1 where the sync is to fail
static int synced(int fd) {
  char path[4096], name[4200], text[256] = "", page[PAGE], dirty;
  if (!path_of(fd, path, sizeof path)) return 0;
  pthread_mutex_lock(&lock);
  snprintf(name, sizeof name, "%s/fail", getenv("FORGETFUL_DIR"));
  FILE *order = fopen(name, "r");
  if (order) {
    if (!fgets(text, sizeof text, order)) text[0] = 0;
    text[strcspn(text, "\n")] = 0;
    fclose(order);
  }
  int fail = means(text, path) && unlink(name) == 0;
  int map = open_shadow(path, "map"), image = open_shadow(path, "img");
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  int file = open(name, O_RDONLY | O_CLOEXEC);
  struct stat st;
  fstat(fd, &st);
  for (off_t at = 0; pread(map, &dirty, 1, at) == 1; at++) {
    if (!dirty) continue;
    ssize_t n = fail ? 0 : pread(file, page, PAGE, at * PAGE);
    if (n > 0) raw_pwrite(image, page, n, at * PAGE);
    raw_pwrite(map, "\0", 1, at);
  }
  if (!fail) {
    REAL(int, ftruncate64, int, off_t);
    real(image, st.st_size);
  }
  close(map); close(image); close(file);
  pthread_mutex_unlock(&lock);
  if (fail) errno = EIO;
  return fail ? -1 : 0;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  ssize_t done = real(fd, data, n, at);
  wrote(fd, at, done);
  return done;
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) {
  ssize_t done = raw_pwrite(fd, data, n, at);
  wrote(fd, at, done);
  return done;
}

ssize_t write(int fd, const void *data, size_t n) {
  REAL(ssize_t, write, int, const void *, size_t);
  ssize_t done = real(fd, data, n);
  off_t end = done > 0 && getenv("FORGETFUL_DIR") ? lseek(fd, 0, SEEK_CUR) : -1;
  if (end >= done) wrote(fd, end - done, done);
  return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
  ssize_t done = real(fd, parts, count, at);
  wrote(fd, at, done);
  return done;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(ssize_t, pwritev64, int, const struct iovec *, int, off_t);
  ssize_t done = real(fd, parts, count, at);
  wrote(fd, at, done);
  return done;
}

int fsync(int fd) {
  REAL(int, fsync, int);
  return synced(fd) < 0 ? -1 : real(fd);
}

int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  return synced(fd) < 0 ? -1 : real(fd);
}

// A name that is removed is so on the disk, too: this is about bytes.
int unlink(const char *path) {
  REAL(int, unlink, const char *);
  if (tracked(path)) {
    char name[4300];
    for (int i = 0; i < 2; i++) {
      shadow(path, i ? "img" : "map", name, sizeof name);
      real(name);
    }
  }
  return real(path);
}
