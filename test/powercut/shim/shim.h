// Preloaded into the process that is recorded. Every call that changes a file, a name or an attribute on one device, or syncs
// something there, is carried out and then written to a log, one after the other under one lock: the log is the order in which
// they took place. Node, libuv and SQLite reach these functions as symbols; koffi asks dlsym for them, which answers with ours.
//
// In a process that recovers a crash state it makes that state complete: files have the inode numbers and the times of change
// that they had (no call sets those), and the machine another boot id.
#ifndef SHIM_H
#define SHIM_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
  WRITE = 1, TRUNCATE, CREATE, UNLINK, RENAME, LINK, FSYNC, FDATASYNC, SYNCFS, ATTRIBUTES, SETXATTR, REMOVEXATTR, FALLOCATE, MARK,
};

// 8-byte fields only, so that a reader needs no padding rules.
struct record {
  uint64_t size;        // of the whole record
  uint64_t kind;
  uint64_t thread;
  uint64_t ino;         // the file
  uint64_t parent;      // directory of `name`
  uint64_t parent2;     // directory of `name2`
  uint64_t other;       // the file that a rename replaced or exchanged
  uint64_t mode, uid, gid, bytes, rdev;
  int64_t atime, mtime, ctime, btime;   // of the file afterwards
  int64_t parent_time;  // mtime and ctime of the directories afterwards
  uint64_t a, b, c;     // what the kind says; b of a rename: ctime of `other` afterwards
  uint64_t name_length, name2_length, data_length;
};

// The call itself, past every function that is replaced here.
#define REAL(...) syscall(__VA_ARGS__)

// The log's descriptor, negative while nothing is recorded.
extern int log_fd;
#define RECORDING (log_fd >= 0)

// What the boot id is read from instead, if anything.
extern char boot_id[PATH_MAX];

// One after the other, between the threads and, where there are several, between the processes.
void enter(void);
void leave(void);

// As the file system has it, and as it is shown.
int look_beneath(int directory, const char *path, int flags, struct statx *out);
void as_shown(struct statx *stat);
void load_shown(const char *path);
int look(int directory, const char *path, int flags, struct statx *out);
// Whether the file lies on the device that is recorded.
int is_ours(const struct statx *stat);
// The time of the last change.
int64_t change_of(const struct statx *stat);
void fill(struct record *record, const struct statx *stat);
void append(struct record *record, const char *name, const char *name2, const void *data, size_t length);

// A name: a directory's descriptor, and the last part of a path.
struct place {
  int fd;
  char name[NAME_MAX + 1];
  struct statx directory;
  int ours;
};

void find_place(struct place *place, int directory, const char *path);
void drop_place(struct place *place);
int in_place(struct place *place, struct statx *out);
void note_made(struct place *place, const char *target);
int64_t time_of(struct place *place);

// A change of an open file.
#define AT_FD(fd, call, noted)                 \
  if (!RECORDING) return call;                 \
  enter();                                     \
  long result = call;                          \
  int kept = errno;                            \
  struct statx now;                            \
  if (result >= 0 && look(fd, "", AT_EMPTY_PATH, &now) == 0 && is_ours(&now)) { \
    struct record record = { 0 };              \
    fill(&record, &now);                       \
    noted;                                     \
  }                                            \
  leave();                                     \
  errno = kept;                                \
  return result;

#endif
