/* SPDX-License-Identifier: Apache-2.0 */
/*
 * held DIR ERRNO-NAME   a process that has everything in use when a volume is locked
 *
 * Makes files in DIR, opens and maps them, and says "ready". For each line "locked" on its standard input everything it
 * tries has to fail with that errno (ENOKEY, EKEYREVOKED), mappings with SIGBUS; for each "open" everything has to work
 * again through the same descriptors, mappings and working directory, with the bytes of before. Answers each line with
 * "ok"; exit code 1 after the first failure.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SIZE  (1 << 20)
#define PAGE  4096
#define COUNT 300

static struct {
	char dir[PATH_MAX];
	int rd, rw, direct, path, empty, dirfd, out;
	DIR *stream;
	char *shared, *writable, *private;
	char *page; /* aligned */
} h;

static int expected;
static unsigned long checks;

#define FAIL(...)                     \
	do {                          \
		printf("FAIL: " __VA_ARGS__); \
		putchar('\n');        \
		fflush(stdout);       \
		exit(1);              \
	} while (0)
#define MUST(call)                                                     \
	do {                                                           \
		checks++;                                              \
		if ((long)(call) < 0)                                  \
			FAIL("%s: %s", #call, strerror(errno));        \
	} while (0)
/* Has to fail with the errno; through another file system's call a few are mapped, given as "or". */
#define REFUSED(call)                                                                             \
	do {                                                                                      \
		checks++;                                                                         \
		errno = 0;                                                                        \
		if ((long)(call) >= 0)                                                            \
			FAIL("while locked this works: %s", #call);                               \
		if (errno != expected)                                                            \
			FAIL("while locked: %s: %s (%d)", #call, strerror(errno), errno);          \
	} while (0)

/* ---- mappings ---- */

static sigjmp_buf bus;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus, 1);
}

static bool faults(volatile char *at, bool write)
{
	checks++;
	if (sigsetjmp(bus, 1))
		return true;
	if (write)
		*at = 'x';
	else
		(void)*at;
	return false;
}

/* ---- the files ---- */

static char byte_at(size_t i)
{
	return (char)('a' + i % 23);
}

static void prepare(void)
{
	char *buf = malloc(SIZE);
	char name[64];
	int fd;

	for (size_t i = 0; i < SIZE; i++)
		buf[i] = byte_at(i);
	MUST(fd = open("file", O_CREAT | O_RDWR, 0600));
	if (write(fd, buf, SIZE) != SIZE)
		FAIL("write: %s", strerror(errno));
	close(fd);
	MUST(fd = open("other", O_CREAT | O_RDWR, 0600));
	MUST(write(fd, buf, 10000));
	MUST(fsetxattr(fd, "user.attribute", "value", 5, 0));
	close(fd);
	MUST(symlink("file", "link"));
	MUST(mkdir("sub", 0700));
	MUST(mkdir("entries", 0700));
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "entries/%03d", i);
		MUST(fd = open(name, O_CREAT | O_WRONLY, 0600));
		close(fd);
	}
	/* a program */
	MUST(fd = open("true", O_CREAT | O_WRONLY, 0700));
	int in = open("/bin/true", O_RDONLY);
	for (ssize_t n; (n = read(in, buf, SIZE)) > 0;)
		MUST(write(fd, buf, (size_t)n));
	close(in);
	close(fd);
	free(buf);
}

static int run(const char *program)
{
	char *argv[] = {(char *)program, NULL}, *envp[] = {NULL};
	pid_t pid;
	int status, rc = posix_spawn(&pid, program, NULL, NULL, argv, envp);

	if (rc != 0) {
		errno = rc;
		return -1;
	}
	waitpid(pid, &status, 0);
	return status == 0 ? 0 : -1;
}

static void take(void)
{
	struct stat st;

	MUST(h.rd = open("file", O_RDONLY));
	MUST(h.rw = open("file", O_RDWR));
	MUST(h.direct = open("file", O_RDONLY | O_DIRECT));
	MUST(h.path = open("file", O_PATH));
	MUST(h.empty = open("empty", O_CREAT | O_RDWR, 0600)); /* has no header yet */
	MUST(h.dirfd = open("entries", O_RDONLY | O_DIRECTORY));
	h.stream = opendir("entries");
	h.page = aligned_alloc(PAGE, PAGE);
	h.shared = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, h.rd, 0);
	h.writable = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, h.rw, 0);
	h.private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, h.rd, 0);
	if (!h.stream || h.shared == MAP_FAILED || h.writable == MAP_FAILED || h.private == MAP_FAILED)
		FAIL("mmap: %s", strerror(errno));
	if (stat("missing", &st) == 0 || errno != ENOENT) /* a negative entry */
		FAIL("missing");
	MUST(run("./true"));
	MUST(chdir("sub"));
}

/* Everything is in the kernel's caches, and there are dirty pages. */
static void warm(char mark)
{
	volatile char sum = 0;

	for (size_t i = 0; i < SIZE / 2; i += PAGE)
		sum = (char)(sum + h.shared[i] + h.private[i]);
	for (size_t i = 0; i < SIZE; i += 8 * PAGE)
		h.writable[i] = mark;
	MUST(pread(h.direct, h.page, PAGE, 0));
}

static void getdents_from_start(int fd, long *n)
{
	char buf[32768];

	lseek(fd, 0, SEEK_SET);
	*n = syscall(SYS_getdents64, fd, buf, sizeof(buf));
}

static int new_mapping(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, h.rd, PAGE);
	int rc;

	if (p == MAP_FAILED)
		FAIL("mmap while locked: %s", strerror(errno));
	rc = faults(p, false) ? 0 : -1;
	munmap(p, PAGE);
	return rc;
}

static void locked_descriptors(void)
{
	struct iovec iov = {h.page, PAGE};
	struct stat st;
	int p[2];
	long n;

	REFUSED(pread(h.rd, h.page, 10, 0));
	REFUSED(pread(h.rd, h.page, 10, SIZE - 10));
	lseek(h.rd, 0, SEEK_SET);
	REFUSED(read(h.rd, h.page, 10));
	REFUSED(preadv(h.rw, &iov, 1, 100));
	REFUSED(pread(h.direct, h.page, PAGE, 0));
	REFUSED(pwrite(h.rw, "x", 1, 0));
	REFUSED(pwrite(h.rw, "x", 1, SIZE + 5));
	REFUSED(write(h.empty, "x", 1));
	REFUSED(ftruncate(h.rw, 100));
	REFUSED(fallocate(h.rw, 0, 0, 2 * SIZE));
	REFUSED(fallocate(h.rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	REFUSED(lseek(h.rd, 0, SEEK_DATA));
	REFUSED(fstat(h.rd, &st));
	REFUSED(fstat(h.path, &st));
	REFUSED(fchmod(h.rw, 0644));
	REFUSED(futimens(h.rw, NULL));
	REFUSED(fgetxattr(h.rd, "user.attribute", h.page, PAGE));
	REFUSED(flistxattr(h.rd, h.page, PAGE));
	REFUSED(fsetxattr(h.rw, "user.attribute", "x", 1, 0));
	MUST(pipe(p));
	off_t at = 0;
	REFUSED(splice(h.rd, &at, p[1], NULL, PAGE, 0));
	at = 0;
	REFUSED(sendfile(p[1], h.rd, &at, PAGE));
	at = 0;
	REFUSED(sendfile(h.out, h.rd, &at, PAGE));
	off_t in = 0, to = SIZE;
	REFUSED(copy_file_range(h.rd, &in, h.rw, &to, PAGE, 0));
	MUST(write(p[1], "pipe", 4));
	at = 0;
	REFUSED(splice(p[0], NULL, h.rw, &at, 4, 0));
	close(p[0]);
	close(p[1]);
	REFUSED((getdents_from_start(h.dirfd, &n), n));
	rewinddir(h.stream);
	REFUSED(readdir(h.stream) || errno == 0 ? 0 : -1);
	REFUSED(openat(h.dirfd, "000", O_RDONLY));
	REFUSED(fstatat(h.dirfd, "000", &st, 0));
	/* what needs no key */
	MUST(fsync(h.rw));
	MUST(fdatasync(h.empty));
	MUST(flock(h.rd, LOCK_SH));
	MUST(flock(h.rd, LOCK_UN));
}

static void locked_mappings(void)
{
	if (!faults(h.shared, false) || !faults(h.shared + SIZE / 2 + PAGE, false))
		FAIL("a shared mapping is readable while locked");
	if (!faults(h.writable, false) || !faults(h.writable, true) || !faults(h.writable + SIZE - 1, true))
		FAIL("a shared mapping is writable while locked");
	if (!faults(h.private, false) || !faults(h.private + SIZE / 2 + PAGE, true))
		FAIL("a private mapping is readable while locked");
	if (new_mapping() < 0)
		FAIL("a new mapping is readable while locked");
	checks++;
	if (madvise(h.shared, SIZE, MADV_POPULATE_READ) == 0)
		FAIL("MADV_POPULATE_READ works while locked");
	if (msync(h.writable, SIZE, MS_SYNC) < 0)
		FAIL("msync while locked: %s", strerror(errno));
}

static void locked_names(void)
{
	char buf[PATH_MAX], self[64];
	struct statfs sf;
	struct stat st;

	REFUSED(open("../file", O_RDONLY));
	REFUSED(open("../file", O_WRONLY | O_TRUNC));
	REFUSED(open("new", O_CREAT | O_RDWR, 0600));
	REFUSED(open(".", O_TMPFILE | O_RDWR, 0600));
	REFUSED(open("../sub", O_RDONLY | O_DIRECTORY));
	REFUSED(stat("../file", &st));
	REFUSED(lstat("../link", &st));
	REFUSED(stat("../missing", &st));
	REFUSED(stat("never asked for", &st));
	REFUSED(access("../file", R_OK));
	REFUSED(readlink("../link", buf, sizeof(buf)));
	REFUSED(opendir("..") ? 0 : -1);
	REFUSED(opendir(".") ? 0 : -1);
	REFUSED(chdir("../entries"));
	REFUSED(unlink("../other"));
	REFUSED(rmdir("../sub"));
	REFUSED(mkdir("new", 0700));
	REFUSED(mkfifo("new", 0600));
	REFUSED(symlink("x", "new"));
	REFUSED(link("../other", "new"));
	REFUSED(rename("../other", "new"));
	REFUSED(renameat2(AT_FDCWD, "../other", AT_FDCWD, "../file", RENAME_EXCHANGE));
	REFUSED(truncate("../other", 1));
	REFUSED(chmod("../other", 0644));
	REFUSED(lchown("../other", getuid(), getgid()));
	REFUSED(utimensat(AT_FDCWD, "../other", NULL, 0));
	REFUSED(getxattr("../other", "user.attribute", buf, sizeof(buf)));
	REFUSED(listxattr("../other", buf, sizeof(buf)));
	REFUSED(setxattr("../other", "user.attribute", "x", 1, 0));
	REFUSED(removexattr("../other", "user.attribute"));
	REFUSED(run("../true"));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", h.path);
	REFUSED(open(self, O_RDONLY));
	/* the root itself */
	snprintf(buf, sizeof(buf), "%s/..", h.dir);
	buf[strlen(buf) - 3] = '\0';
	*strrchr(buf, '/') = '\0';
	MUST(stat(buf, &st));
	MUST(statfs(buf, &sf));
}

static void check_bytes(int fd, char mark)
{
	char *buf = malloc(SIZE);

	if (pread(fd, buf, SIZE, 0) != SIZE)
		FAIL("pread after unlock: %s", strerror(errno));
	for (size_t i = 0; i < SIZE; i++) {
		if (buf[i] != (i % (8 * PAGE) == 0 ? mark : byte_at(i)))
			FAIL("byte %zu is %d after unlock", i, buf[i]);
	}
	free(buf);
	checks++;
}

static void open_again(char mark)
{
	char cwd[PATH_MAX], want[PATH_MAX + 8];
	struct stat st;
	int fd, n = 0;
	long got;

	check_bytes(h.rd, mark);
	check_bytes(h.rw, mark);
	if (h.shared[0] != mark || h.writable[8 * PAGE] != mark || h.shared[SIZE - 1] != byte_at(SIZE - 1) ||
		h.private[1] != byte_at(1))
		FAIL("a mapping has other bytes after unlock");
	MUST(pread(h.direct, h.page, PAGE, 0));
	if (h.page[1] != byte_at(1))
		FAIL("O_DIRECT reads other bytes after unlock");
	MUST(pwrite(h.empty, "x", 1, 0));
	MUST(ftruncate(h.empty, 0));
	rewinddir(h.stream);
	for (struct dirent *e; (e = readdir(h.stream));)
		n += e->d_name[0] != '.';
	if (n != COUNT)
		FAIL("the directory has %d entries after unlock", n);
	MUST((getdents_from_start(h.dirfd, &got), got));
	MUST(fstat(h.path, &st));
	MUST(stat("../file", &st));
	MUST(run("../true"));
	if (stat("../missing", &st) == 0 || errno != ENOENT)
		FAIL("missing after unlock: %s", strerror(errno));
	MUST(fd = open("here", O_CREAT | O_RDWR, 0600));
	close(fd);
	MUST(unlink("here"));
	snprintf(want, sizeof(want), "%s/sub", h.dir);
	if (!getcwd(cwd, sizeof(cwd)) || strcmp(cwd, want) != 0)
		FAIL("the working directory is %s after unlock, not %s", cwd, want);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_bus};
	char line[64], mark = 'A';

	if (argc != 3 || chdir(argv[1]) < 0 || !realpath(".", h.dir)) {
		fprintf(stderr, "usage: held DIR ERRNO-NAME\n");
		return 2;
	}
	expected = strcmp(argv[2], "EKEYREVOKED") == 0 ? EKEYREVOKED : ENOKEY;
	sigaction(SIGBUS, &sa, NULL);
	h.out = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	prepare();
	take();
	warm(mark);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "locked\n") == 0) {
			locked_descriptors();
			locked_mappings();
			locked_names();
		} else {
			open_again(mark);
			warm(++mark);
		}
		printf("ok %lu\n", checks);
		fflush(stdout);
	}
	return 0;
}
