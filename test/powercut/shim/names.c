// Names and attributes.
#include "shim.h"
#include <sys/time.h>
#include <sys/xattr.h>

// A change of a name at one place.
#define AT_PLACE(directory, path, call, noted) \
  if (!RECORDING) return call;                 \
  enter();                                     \
  struct place place;                          \
  find_place(&place, directory, path);         \
  struct statx before;                         \
  int existed = place.ours && in_place(&place, &before) == 0; \
  long result = call;                          \
  int kept = errno;                            \
  (void)existed;                               \
  if (result >= 0 && place.ours) { noted; }    \
  drop_place(&place);                          \
  leave();                                     \
  errno = kept;                                \
  return result;

int mkdirat(int directory, const char *path, mode_t mode) { AT_PLACE(directory, path, REAL(SYS_mkdirat, directory, path, mode), note_made(&place, NULL)) }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int mknodat(int directory, const char *path, mode_t mode, dev_t rdev) {
  unsigned encoded = (minor(rdev) & 0xff) | (major(rdev) << 8) | ((minor(rdev) & ~0xffu) << 12);
  AT_PLACE(directory, path, REAL(SYS_mknodat, directory, path, mode, encoded), note_made(&place, NULL))
}
int mknod(const char *path, mode_t mode, dev_t rdev) { return mknodat(AT_FDCWD, path, mode, rdev); }
int symlinkat(const char *target, int directory, const char *path) { AT_PLACE(directory, path, REAL(SYS_symlinkat, target, directory, path), note_made(&place, target)) }
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

static void note_unlinked(struct place *place, const struct statx *before) {
  struct record record = { .kind = UNLINK, .parent = place->directory.stx_ino, .parent_time = time_of(place) };
  fill(&record, before);
  // Links are left: the time of change moved.
  record.ctime = record.parent_time;
  append(&record, place->name, NULL, NULL, 0);
}

int unlinkat(int directory, const char *path, int flags) { AT_PLACE(directory, path, REAL(SYS_unlinkat, directory, path, flags), note_unlinked(&place, &before)) }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  if (unlink(path) == 0) return 0;
  return errno == EISDIR || errno == EPERM ? rmdir(path) : -1;
}

static void note_linked(struct place *place) {
  struct statx made;
  if (in_place(place, &made) != 0) return;
  struct record record = { .kind = LINK, .parent = place->directory.stx_ino, .parent_time = time_of(place) };
  fill(&record, &made);
  append(&record, place->name, NULL, NULL, 0);
}

int linkat(int from_directory, const char *from, int directory, const char *path, int flags) {
  AT_PLACE(directory, path, REAL(SYS_linkat, from_directory, from, directory, path, flags), note_linked(&place))
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
  if (!RECORDING) return REAL(SYS_renameat2, from_directory, from, to_directory, to, flags);
  enter();
  struct place source, target;
  find_place(&source, from_directory, from);
  find_place(&target, to_directory, to);
  struct statx moved, replaced, after;
  int known = source.ours && in_place(&source, &moved) == 0;
  int replaces = target.ours && in_place(&target, &replaced) == 0;
  // A file that is replaced here and has other names left: the time of its change moves as well.
  int held = replaces ? REAL(SYS_openat, target.fd, target.name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0) : -1;
  int result = REAL(SYS_renameat2, from_directory, from, to_directory, to, flags);
  int kept = errno;
  if (result == 0 && known && !(replaces && replaced.stx_ino == moved.stx_ino)) {
    struct record record = {
      .kind = RENAME, .parent = source.directory.stx_ino, .parent2 = target.directory.stx_ino,
      .other = replaces ? replaced.stx_ino : 0, .a = flags, .parent_time = time_of(&target),
    };
    if (in_place(&target, &after) == 0) moved = after;
    if (held >= 0 && look(held, "", AT_EMPTY_PATH, &after) == 0) record.b = change_of(&after);
    fill(&record, &moved);
    append(&record, source.name, target.name, NULL, 0);
  }
  if (held >= 0) REAL(SYS_close, held);
  drop_place(&source);
  drop_place(&target);
  leave();
  errno = kept;
  return result;
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) { return renameat2(from_directory, from, to_directory, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

static void note_attributes(int directory, const char *path, int flags) {
  struct statx now;
  if (look(directory, path, flags, &now) != 0 || !is_ours(&now)) return;
  struct record record = { .kind = ATTRIBUTES };
  fill(&record, &now);
  append(&record, NULL, NULL, NULL, 0);
}

#define ATTRIBUTES_OF(call, directory, path, flags) \
  if (!RECORDING) return call;                      \
  enter();                                          \
  long result = call;                               \
  int kept = errno;                                 \
  if (result == 0) note_attributes(directory, path, flags); \
  leave();                                          \
  errno = kept;                                     \
  return result;

int fchmodat(int directory, const char *path, mode_t mode, int flags) { (void)flags; ATTRIBUTES_OF(REAL(SYS_fchmodat, directory, path, mode), directory, path, 0) }
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int fchmod(int fd, mode_t mode) { ATTRIBUTES_OF(REAL(SYS_fchmod, fd, mode), fd, "", AT_EMPTY_PATH) }
int fchownat(int directory, const char *path, uid_t uid, gid_t gid, int flags) { ATTRIBUTES_OF(REAL(SYS_fchownat, directory, path, uid, gid, flags), directory, path, flags) }
int chown(const char *path, uid_t uid, gid_t gid) { return fchownat(AT_FDCWD, path, uid, gid, 0); }
int lchown(const char *path, uid_t uid, gid_t gid) { return fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW); }
int fchown(int fd, uid_t uid, gid_t gid) { ATTRIBUTES_OF(REAL(SYS_fchown, fd, uid, gid), fd, "", AT_EMPTY_PATH) }
int utimensat(int directory, const char *path, const struct timespec times[2], int flags) {
  ATTRIBUTES_OF(REAL(SYS_utimensat, directory, path, times, flags), directory, path, flags)
}
int futimens(int fd, const struct timespec times[2]) { ATTRIBUTES_OF(REAL(SYS_utimensat, fd, NULL, times, 0), fd, "", AT_EMPTY_PATH) }

static int times_of(const struct timeval from[2], struct timespec to[2]) {
  for (int i = 0; i < 2; i++) { to[i].tv_sec = from[i].tv_sec; to[i].tv_nsec = from[i].tv_usec * 1000; }
  return 0;
}
int utimes(const char *path, const struct timeval times[2]) { struct timespec exact[2]; if (times) times_of(times, exact); return utimensat(AT_FDCWD, path, times ? exact : NULL, 0); }
int lutimes(const char *path, const struct timeval times[2]) { struct timespec exact[2]; if (times) times_of(times, exact); return utimensat(AT_FDCWD, path, times ? exact : NULL, AT_SYMLINK_NOFOLLOW); }
int futimes(int fd, const struct timeval times[2]) { struct timespec exact[2]; if (times) times_of(times, exact); return futimens(fd, times ? exact : NULL); }

static void note_xattr(int directory, const char *path, int flags, enum kind kind, const char *name, const void *value, size_t size) {
  struct statx now;
  if (look(directory, path, flags, &now) != 0 || !is_ours(&now)) return;
  struct record record = { .kind = kind };
  fill(&record, &now);
  append(&record, name, NULL, value, size);
}

#define XATTR_OF(call, directory, path, flags, kind, name, value, size) \
  if (!RECORDING) return call;                      \
  enter();                                          \
  long result = call;                               \
  int kept = errno;                                 \
  if (result == 0) note_xattr(directory, path, flags, kind, name, value, size); \
  leave();                                          \
  errno = kept;                                     \
  return result;

int setxattr(const char *path, const char *name, const void *value, size_t size, int flags) { XATTR_OF(REAL(SYS_setxattr, path, name, value, size, flags), AT_FDCWD, path, 0, SETXATTR, name, value, size) }
int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags) { XATTR_OF(REAL(SYS_lsetxattr, path, name, value, size, flags), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, SETXATTR, name, value, size) }
int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags) { XATTR_OF(REAL(SYS_fsetxattr, fd, name, value, size, flags), fd, "", AT_EMPTY_PATH, SETXATTR, name, value, size) }
int removexattr(const char *path, const char *name) { XATTR_OF(REAL(SYS_removexattr, path, name), AT_FDCWD, path, 0, REMOVEXATTR, name, NULL, 0) }
int lremovexattr(const char *path, const char *name) { XATTR_OF(REAL(SYS_lremovexattr, path, name), AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, REMOVEXATTR, name, NULL, 0) }
int fremovexattr(int fd, const char *name) { XATTR_OF(REAL(SYS_fremovexattr, fd, name), fd, "", AT_EMPTY_PATH, REMOVEXATTR, name, NULL, 0) }

