// Opening files, their content, and syncing.
#include "shim.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static long real_openat(int directory, const char *path, int flags, mode_t mode) {
  if (boot_id[0] && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) path = boot_id;
  return REAL(SYS_openat, directory, path, flags, mode);
}

static int do_open(int directory, const char *path, int flags, mode_t mode) {
  int makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  if (!RECORDING || (!makes && (flags & O_TRUNC) == 0)) return real_openat(directory, path, flags, mode);
  enter();
  struct place place;
  find_place(&place, directory, path);
  struct statx before;
  int existed = place.ours && in_place(&place, &before) == 0;
  int fd = real_openat(directory, path, flags, mode);
  int kept = errno;
  if (fd >= 0 && place.ours) {
    struct statx now;
    if (!existed && makes) note_made(&place, NULL);
    else if ((flags & O_TRUNC) != 0 && look(fd, "", AT_EMPTY_PATH, &now) == 0 && is_ours(&now)) {
      struct record record = { .kind = TRUNCATE };
      fill(&record, &now);
      append(&record, NULL, NULL, NULL, 0);
    }
  }
  drop_place(&place);
  leave();
  errno = kept;
  return fd;
}

#define MODE_OF(flags) \
  mode_t mode = 0;     \
  if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *path, int flags, ...) { MODE_OF(flags) return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int directory, const char *path, int flags, ...) { MODE_OF(flags) return do_open(directory, path, flags, mode); }
int openat64(int directory, const char *path, int flags, ...) { MODE_OF(flags) return do_open(directory, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static ssize_t note_written(int fd, const struct iovec *parts, int count, off_t offset, ssize_t result) {
  struct statx now;
  if (result <= 0 || look(fd, "", AT_EMPTY_PATH, &now) != 0 || !is_ours(&now) || !S_ISREG(now.stx_mode)) return result;
  struct record record = { .kind = WRITE, .a = offset };
  fill(&record, &now);
  if (count == 1) { append(&record, NULL, NULL, parts[0].iov_base, result); return result; }
  char *all = malloc(result);
  size_t done = 0;
  for (int i = 0; i < count && done < (size_t)result; i++) {
    size_t part = parts[i].iov_len < (size_t)result - done ? parts[i].iov_len : (size_t)result - done;
    memcpy(all + done, parts[i].iov_base, part);
    done += part;
  }
  append(&record, NULL, NULL, all, result);
  free(all);
  return result;
}

// offset < 0: at the file's own position.
static ssize_t do_write(int fd, const struct iovec *parts, int count, off_t offset) {
  if (!RECORDING || fd == log_fd)
    return offset < 0 ? REAL(SYS_writev, fd, parts, count) : REAL(SYS_pwritev, fd, parts, count, offset, 0);
  struct statx before;
  if (look(fd, "", AT_EMPTY_PATH, &before) != 0 || !is_ours(&before))
    return offset < 0 ? REAL(SYS_writev, fd, parts, count) : REAL(SYS_pwritev, fd, parts, count, offset, 0);
  enter();
  look(fd, "", AT_EMPTY_PATH, &before);
  off_t at = offset;
  if (offset < 0) at = REAL(SYS_fcntl, fd, F_GETFL) & O_APPEND ? (off_t)before.stx_size : REAL(SYS_lseek, fd, 0, SEEK_CUR);
  ssize_t result = offset < 0 ? REAL(SYS_writev, fd, parts, count) : REAL(SYS_pwritev, fd, parts, count, offset, 0);
  int kept = errno;
  note_written(fd, parts, count, at, result);
  leave();
  errno = kept;
  return result;
}

ssize_t write(int fd, const void *data, size_t length) { struct iovec part = { (void *)data, length }; return do_write(fd, &part, 1, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { struct iovec part = { (void *)data, length }; return do_write(fd, &part, 1, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return pwrite(fd, data, length, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return do_write(fd, parts, count, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return do_write(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return do_write(fd, parts, count, offset); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) { (void)flags; return do_write(fd, parts, count, offset); }
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) { (void)flags; return do_write(fd, parts, count, offset); }

// What another call put there, read back.
static void note_range(int fd, off_t offset, ssize_t length) {
  if (length <= 0) return;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int reader = REAL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  char *data = malloc(length);
  struct iovec part = { data, length };
  if (reader >= 0 && REAL(SYS_pread64, reader, data, length, offset) == length) note_written(fd, &part, 1, offset, length);
  free(data);
  if (reader >= 0) REAL(SYS_close, reader);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length, unsigned flags) {
  if (!RECORDING) return REAL(SYS_copy_file_range, in, in_offset, out, out_offset, length, flags);
  enter();
  off_t at = out_offset ? *out_offset : REAL(SYS_lseek, out, 0, SEEK_CUR);
  ssize_t result = REAL(SYS_copy_file_range, in, in_offset, out, out_offset, length, flags);
  int kept = errno;
  note_range(out, at, result);
  leave();
  errno = kept;
  return result;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  struct statx now;
  if (!RECORDING || look(out, "", AT_EMPTY_PATH, &now) != 0 || !is_ours(&now)) return REAL(SYS_sendfile, out, in, offset, count);
  enter();
  off_t at = REAL(SYS_lseek, out, 0, SEEK_CUR);
  ssize_t result = REAL(SYS_sendfile, out, in, offset, count);
  int kept = errno;
  note_range(out, at, result);
  leave();
  errno = kept;
  return result;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { return sendfile(out, in, offset, count); }

int ftruncate(int fd, off_t size) { AT_FD(fd, REAL(SYS_ftruncate, fd, size), record.kind = TRUNCATE; record.a = size; append(&record, NULL, NULL, NULL, 0)) }
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int truncate(const char *path, off_t size) {
  int fd = REAL(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return -1;
  int result = ftruncate(fd, size);
  int kept = errno;
  REAL(SYS_close, fd);
  errno = kept;
  return result;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

int fallocate(int fd, int mode, off_t offset, off_t length) {
  AT_FD(fd, REAL(SYS_fallocate, fd, mode, offset, length),
        record.kind = FALLOCATE; record.a = mode; record.b = offset; record.c = length; append(&record, NULL, NULL, NULL, 0))
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

// ---- syncing

int fsync(int fd) { AT_FD(fd, REAL(SYS_fsync, fd), record.kind = FSYNC; append(&record, NULL, NULL, NULL, 0)) }
int fdatasync(int fd) { AT_FD(fd, REAL(SYS_fdatasync, fd), record.kind = FDATASYNC; append(&record, NULL, NULL, NULL, 0)) }
int syncfs(int fd) { AT_FD(fd, 0 * fd, record.kind = SYNCFS; append(&record, NULL, NULL, NULL, 0)) }

