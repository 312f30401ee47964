/* A disk that can lose its power, preloaded into Walrus: what was synced is copied to a mirror, and
 * that mirror is all that is left after the cut. Syncing a file saves its bytes, syncing a folder
 * saves its names; nothing else saves anything, not even a rename.
 *
 *   MALLEE_DISK    the folder that is on the disk
 *   MALLEE_MIRROR  where the mirror is: files/ID with bytes, folders/ID with lines of "ID NAME"
 *   MALLEE_EIO     a file; while it is there, its text is a part of a path: syncs of such paths
 *                  fail with EIO and save nothing, as those of a disk with a bad sector do
 *
 * ID is inode and birth time, so that a number that is used again is another file.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void must(int good, const char *what) {
  if (!good) {
    fprintf(stderr, "the mirror of the disk: %s: %s\n", what, strerror(errno));
    abort();
  }
}

static int identify(int folder, const char *name, char *id, size_t size, int *is_folder) {
  struct statx seen;
  int flags = *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;
  if (statx(folder, name, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &seen) != 0) return -1;
  snprintf(id, size, "%llu-%lld-%u", (unsigned long long)seen.stx_ino,
           (long long)seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec);
  *is_folder = S_ISDIR(seen.stx_mode);
  return 0;
}

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return -1;
  path[length] = 0;
  return 0;
}

static int is_to_fail(const char *path) {
  const char *control = getenv("MALLEE_EIO");
  char part[256] = {0};
  int fd = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  ssize_t length = read(fd, part, sizeof part - 1);
  close(fd);
  return length > 0 && strstr(path, part) != NULL;
}

/* What was saved already is not copied again when the file only grows; any other file is saved
 * beside its name, for the process may be killed while it saves. */
static void save_file(int fd, const char *to) {
  char source[64], fresh[PATH_MAX + 8];
  snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
  int in = open(source, O_RDONLY | O_CLOEXEC);
  must(in >= 0, "open what is synced");
  int grows = fcntl(fd, F_GETFL) & O_APPEND;
  snprintf(fresh, sizeof fresh, "%s.new", to);
  int out = open(grows ? to : fresh, O_WRONLY | O_CREAT | O_CLOEXEC | (grows ? 0 : O_TRUNC), 0600);
  must(out >= 0, to);

  struct stat now, before;
  must(fstat(in, &now) == 0 && fstat(out, &before) == 0, "stat");
  off_t at = before.st_size < now.st_size ? before.st_size : 0;
  static char buffer[1 << 20];
  for (;;) {
    ssize_t got = pread(in, buffer, sizeof buffer, at);
    must(got >= 0, "read what is synced");
    if (got == 0) break;
    must(pwrite(out, buffer, got, at) == got, "write the mirror");
    at += got;
  }
  must(ftruncate(out, at) == 0, "truncate the mirror");
  must(grows || rename(fresh, to) == 0, "save a file of the mirror");
  close(out);
  close(in);
}

static void save_folder(int fd, const char *to) {
  char fresh[PATH_MAX + 8], source[64], id[96];
  snprintf(fresh, sizeof fresh, "%s.new", to);
  snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
  FILE *out = fopen(fresh, "we");
  DIR *names = opendir(source);
  must(out && names, "open a folder of the mirror");
  struct dirent *entry;
  int is_folder;
  while ((entry = readdir(names))) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    if (identify(dirfd(names), entry->d_name, id, sizeof id, &is_folder) == 0)
      fprintf(out, "%s %c %s\n", id, is_folder ? 'd' : 'f', entry->d_name);
  }
  closedir(names);
  must(fclose(out) == 0 && rename(fresh, to) == 0, "save a folder of the mirror");
}

static int sync_fd(int fd) {
  const char *disk = getenv("MALLEE_DISK"), *mirror = getenv("MALLEE_MIRROR");
  char path[PATH_MAX], id[96], to[PATH_MAX];
  int is_folder;
  if (!disk || !mirror || path_of(fd, path, sizeof path) != 0) return 0;
  if (strncmp(path, disk, strlen(disk)) != 0) return 0;
  if (is_to_fail(path)) {
    errno = EIO;
    return -1;
  }
  pthread_mutex_lock(&one_at_a_time);
  must(identify(fd, "", id, sizeof id, &is_folder) == 0, "identify");
  snprintf(to, sizeof to, "%s/%s/%s", mirror, is_folder ? "folders" : "files", id);
  if (is_folder)
    save_folder(fd, to);
  else
    save_file(fd, to);
  pthread_mutex_unlock(&one_at_a_time);
  return 0;
}

int fsync(int fd) { return sync_fd(fd); }
int fdatasync(int fd) { return sync_fd(fd); }
