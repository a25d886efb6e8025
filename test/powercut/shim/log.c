// The log, and the lock under which it is written.
#include "shim.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
int log_fd = -1;
static dev_t device;
static int shared;

// Events so far, and the one behind which the recorded process counts as killed; what its page cache has of files that are mapped
// is kept then.
static uint64_t appended, kill_at = UINT64_MAX;
struct mapped { char path[PATH_MAX], copy[PATH_MAX]; };
static struct mapped mapped[2];

void enter(void) {
  pthread_mutex_lock(&lock);
  if (shared) REAL(SYS_flock, log_fd, LOCK_EX);
}

void leave(void) {
  int kept = errno;
  if (shared) REAL(SYS_flock, log_fd, LOCK_UN);
  pthread_mutex_unlock(&lock);
  errno = kept;
}

static int64_t nanoseconds(struct statx_timestamp time) { return time.tv_sec * 1000000000LL + time.tv_nsec; }

int64_t change_of(const struct statx *stat) { return nanoseconds(stat->stx_ctime); }

int look_beneath(int directory, const char *path, int flags, struct statx *out) {
  return REAL(SYS_statx, directory, path, flags | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, out);
}

int look(int directory, const char *path, int flags, struct statx *out) {
  int result = look_beneath(directory, path, flags, out);
  if (result == 0) as_shown(out);
  return result;
}

int is_ours(const struct statx *stat) {
  return makedev(stat->stx_dev_major, stat->stx_dev_minor) == device;
}

void fill(struct record *record, const struct statx *stat) {
  record->ino = stat->stx_ino;
  record->mode = stat->stx_mode;
  record->uid = stat->stx_uid;
  record->gid = stat->stx_gid;
  record->bytes = stat->stx_size;
  record->rdev = makedev(stat->stx_rdev_major, stat->stx_rdev_minor);
  record->atime = nanoseconds(stat->stx_atime);
  record->mtime = nanoseconds(stat->stx_mtime);
  record->ctime = nanoseconds(stat->stx_ctime);
  record->btime = nanoseconds(stat->stx_btime);
}

static void keep(const struct mapped *file) {
  char buffer[65536];
  int from = REAL(SYS_openat, AT_FDCWD, file->path, O_RDONLY | O_CLOEXEC, 0);
  if (from < 0) return;
  int to = REAL(SYS_openat, AT_FDCWD, file->copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  for (ssize_t length; (length = REAL(SYS_read, from, buffer, sizeof buffer)) > 0;) {
    if (REAL(SYS_write, to, buffer, length) != length) abort();
  }
  REAL(SYS_close, from);
  REAL(SYS_close, to);
}

static void stop_recording(void) {
  if (log_fd >= 0) REAL(SYS_close, log_fd);
  log_fd = -1;
}

void append(struct record *record, const char *name, const char *name2, const void *data, size_t length) {
  if (log_fd < 0) return;
  record->name_length = name ? strlen(name) : 0;
  record->name2_length = name2 ? strlen(name2) : 0;
  record->data_length = length;
  record->thread = REAL(SYS_gettid);
  record->size = sizeof *record + record->name_length + record->name2_length + length;
  struct iovec parts[4] = {
    { record, sizeof *record }, { (void *)name, record->name_length }, { (void *)name2, record->name2_length }, { (void *)data, length },
  };
  ssize_t written = REAL(SYS_writev, log_fd, parts, 4);
  if (written != (ssize_t)record->size) {
    static const char message[] = "power-cut recording: the log cannot be written\n";
    REAL(SYS_write, 2, message, sizeof message - 1);
    abort();
  }
  if (appended++ != kill_at) return;
  for (int each = 0; each < 2; each++) keep(&mapped[each]);
  stop_recording();
}

// ---- places: a directory's descriptor and the last name

void find_place(struct place *place, int directory, const char *path) {
  place->fd = -1;
  place->ours = 0;
  char copy[PATH_MAX];
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof copy) return;
  memcpy(copy, path, length + 1);
  while (length > 1 && copy[length - 1] == '/') copy[--length] = 0;
  char *slash = strrchr(copy, '/');
  const char *base = slash ? slash + 1 : copy;
  if (strlen(base) > NAME_MAX || base[0] == 0) return;
  strcpy(place->name, base);
  const char *above = ".";
  if (slash) { slash[slash == copy] = 0; above = copy; }
  place->fd = REAL(SYS_openat, directory, above, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (place->fd < 0) return;
  if (look(place->fd, "", AT_EMPTY_PATH, &place->directory) == 0) place->ours = is_ours(&place->directory);
}

void drop_place(struct place *place) { if (place->fd >= 0) REAL(SYS_close, place->fd); }

int in_place(struct place *place, struct statx *out) {
  return place->fd < 0 ? -1 : look(place->fd, place->name, AT_SYMLINK_NOFOLLOW, out);
}

int64_t time_of(struct place *place) {
  struct statx now;
  return look(place->fd, "", AT_EMPTY_PATH, &now) == 0 ? nanoseconds(now.stx_mtime) : 0;
}

// A name that was made: file, directory, symlink, device.
void note_made(struct place *place, const char *target) {
  struct statx made;
  if (in_place(place, &made) != 0) return;
  struct record record = { .kind = CREATE, .parent = place->directory.stx_ino, .parent_time = time_of(place) };
  fill(&record, &made);
  append(&record, place->name, NULL, target, target ? strlen(target) : 0);
}

// ---- for the harness

// Records what happens on the device of `root` in the log from now on; `of_many`: several processes write to it.
int powercut_record(const char *root, const char *log, int of_many) {
  struct statx stat;
  if (look(AT_FDCWD, root, 0, &stat) != 0) return -1;
  device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
  shared = of_many;
  int fd = REAL(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  enter();
  log_fd = fd;
  appended = 0;
  kill_at = UINT64_MAX;
  leave();
  return 0;
}

// Nothing of what comes behind this event is recorded any more. Copies of two mapped files are made at that moment.
void powercut_kill(uint64_t event, const char *path, const char *copy, const char *path2, const char *copy2) {
  enter();
  snprintf(mapped[0].path, PATH_MAX, "%s", path);
  snprintf(mapped[0].copy, PATH_MAX, "%s", copy);
  snprintf(mapped[1].path, PATH_MAX, "%s", path2);
  snprintf(mapped[1].copy, PATH_MAX, "%s", copy2);
  kill_at = event;
  leave();
}

int powercut_recording(void) { return RECORDING; }

void powercut_pause(void) {
  pthread_mutex_lock(&lock);
  stop_recording();
  shared = 0;
  pthread_mutex_unlock(&lock);
}

// A note of the harness in the log.
void powercut_mark(const void *data, uint64_t length) {
  if (!RECORDING) return;
  enter();
  struct record record = { .kind = MARK };
  append(&record, NULL, NULL, data, length);
  leave();
}

// The processes of a daemon are told by their environment.
__attribute__((constructor)) static void begin(void) {
  const char *root = getenv("FERRYFS_POWERCUT_ROOT"), *log = getenv("FERRYFS_POWERCUT_LOG"), *boot = getenv("FERRYFS_POWERCUT_BOOT");
  const char *shown = getenv("FERRYFS_POWERCUT_SHOWN");
  if (boot) strncpy(boot_id, boot, sizeof boot_id - 1);
  if (shown) load_shown(shown);
  if (root && log) powercut_record(root, log, 1);
}
