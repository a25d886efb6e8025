// What a crash state shows of its files: inode numbers and times that no call can set, and another boot id.
#include "shim.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

char boot_id[PATH_MAX];

struct shown { uint64_t real; uint64_t ino; struct statx_timestamp real_ctime, ctime, btime; };

static struct shown *table;
static size_t table_size, table_used;
static dev_t shown_device;

static struct shown *slot_of(uint64_t real) {
  size_t at = (real * 0x9e3779b97f4a7c15ull) & (table_size - 1);
  while (table[at].real != 0 && table[at].real != real) at = (at + 1) & (table_size - 1);
  return &table[at];
}

static struct shown *shown_of(uint64_t real, uint64_t major_, uint64_t minor_) {
  if (table_used == 0 || makedev(major_, minor_) != shown_device) return NULL;
  struct shown *found = slot_of(real);
  return found->real == 0 ? NULL : found;
}

void as_shown(struct statx *out) {
  struct shown *found = shown_of(out->stx_ino, out->stx_dev_major, out->stx_dev_minor);
  if (!found) return;
  out->stx_ino = found->ino;
  out->stx_btime = found->btime;
  // As long as nothing has changed it since the state was laid out.
  if (out->stx_ctime.tv_sec == found->real_ctime.tv_sec && out->stx_ctime.tv_nsec == found->real_ctime.tv_nsec) out->stx_ctime = found->ctime;
}

int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
  long result = REAL(SYS_statx, directory, path, flags, mask, out);
  if (result == 0) as_shown(out);
  return result;
}

ssize_t getdents64(int fd, void *buffer, size_t length) {
  ssize_t result = REAL(SYS_getdents64, fd, buffer, length);
  struct statx now;
  if (result <= 0 || table_used == 0 || look(fd, "", AT_EMPTY_PATH, &now) != 0) return result;
  for (ssize_t at = 0; at < result;) {
    struct dirent64 *entry = (struct dirent64 *)((char *)buffer + at);
    struct shown *found = shown_of(entry->d_ino, now.stx_dev_major, now.stx_dev_minor);
    if (found) entry->d_ino = found->ino;
    at += entry->d_reclen;
  }
  return result;
}

void powercut_boot(const char *path) { snprintf(boot_id, sizeof boot_id, "%s", path); }

// Forgets all; room for so many files on the device of `root`.
int powercut_show(const char *root, uint64_t files) {
  struct statx stat;
  free(table);
  table = NULL;
  table_used = table_size = 0;
  if (files == 0) return 0;
  if (look_beneath(AT_FDCWD, root, 0, &stat) != 0) return -1;
  shown_device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
  for (table_size = 64; table_size < files * 2; table_size *= 2);
  table = calloc(table_size, sizeof *table);
  return table ? 0 : -1;
}

// For the processes of a daemon, which show the same: the table with its size before it.
struct saved { uint64_t device, size, used; };

int powercut_save(const char *path) {
  int fd = REAL(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  struct saved head = { shown_device, table_size, table_used };
  struct iovec parts[2] = { { &head, sizeof head }, { table, table_size * sizeof *table } };
  ssize_t wanted = parts[0].iov_len + parts[1].iov_len, written = REAL(SYS_writev, fd, parts, 2);
  REAL(SYS_close, fd);
  return written == wanted ? 0 : -1;
}

void load_shown(const char *path) {
  int fd = REAL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  struct saved head;
  if (fd < 0) return;
  if (REAL(SYS_read, fd, &head, sizeof head) == sizeof head && (table = calloc(head.size, sizeof *table))) {
    ssize_t wanted = head.size * sizeof *table;
    if (REAL(SYS_read, fd, table, wanted) == wanted) {
      shown_device = head.device;
      table_size = head.size;
      table_used = head.used;
    }
  }
  REAL(SYS_close, fd);
}

static struct statx_timestamp timestamp(int64_t ns) {
  return (struct statx_timestamp){ .tv_sec = ns / 1000000000LL, .tv_nsec = ns % 1000000000LL };
}

// The file at the path is shown with this number and these times.
int powercut_show_file(const char *path, uint64_t ino, int64_t ctime, int64_t btime) {
  struct statx stat;
  if (look_beneath(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &stat) != 0) return -1;
  struct shown *slot = slot_of(stat.stx_ino);
  *slot = (struct shown){ stat.stx_ino, ino, stat.stx_ctime, timestamp(ctime), timestamp(btime) };
  table_used++;
  return 0;
}

