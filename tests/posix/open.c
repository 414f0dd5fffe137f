/* SPDX-License-Identifier: Apache-2.0 */
/* open: every mix of flags on everything there may be; and what happens to removed files. */
#include "diff.h"

#include <sys/mman.h>
#include <sys/xattr.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const int bits[] = {O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_DIRECTORY};
static const int access_modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
static const char *const things[] = {"file", "dir", "fifo", "char", "block", "sock", "to-file",
	"to-dir", "dangling", "loop", "none", "file/", "dir/", "none/", "readonly", "dir/none"};

static long populate(void)
{
	if (put("file", "some text") < 0 || mkdir("dir", 0755) < 0 || mk(FIFO, "fifo", 0666) < 0 ||
		mk(CHAR, "char", 0666) < 0 || mk(BLOCK, "block", 0666) < 0 ||
		mk(SOCK, "sock", 0666) < 0 || symlink("file", "to-file") < 0 ||
		symlink("dir", "to-dir") < 0 || symlink("gone", "dangling") < 0 ||
		symlink("loop", "loop") < 0 || put("readonly", "text") < 0 ||
		chmod("readonly", 0444) < 0 || chmod("file", 0666) < 0)
		return -1;
	return 0;
}

static long refill(void)
{
	if (put("file", "some text") < 0 || put("readonly", "text") < 0)
		return -1;
	rm_rf("none");
	rm_rf("gone");
	rm_rf("dir/none");
	return 0;
}

static void flag_matrix(void)
{
	static const enum who users[] = {ROOT, OTHER};
	for (size_t u = 0; u < COUNT(users); u++) {
		fresh("flags of open");
		R(populate());
		for (int mask = 0; mask < 1 << COUNT(bits); mask++) {
			int flag = O_NONBLOCK;
			for (size_t i = 0; i < COUNT(bits); i++)
				flag |= mask & 1 << i ? bits[i] : 0;
			for (size_t a = 0; a < COUNT(access_modes); a++) {
				for (size_t p = 0; p < COUNT(things); p++) {
					as(users[u]);
					ctx("\"%s\" flags 0%o", things[p], (unsigned)(flag | access_modes[a]));
					T(opens(things[p], flag | access_modes[a], 0644));
				}
			}
			TREE();
			R(refill());
		}
		as(users[u]);
		for (size_t p = 0; p < COUNT(things); p++) {
			ctx("\"%s\" O_PATH", things[p]);
			T(opens(things[p], O_PATH, 0));
			T(opens(things[p], O_PATH | O_NOFOLLOW, 0));
			T(opens(things[p], O_PATH | O_DIRECTORY, 0));
		}
	}
}

/* One descriptor, one call; the result or the error. */
static long on_fd(const char *path, int flags, int what)
{
	char buf[64];
	struct stat s;
	long r = -1;
	int fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	switch (what) {
	case 0: r = read(fd, buf, sizeof(buf)); break;
	case 1: r = write(fd, "wxyz", 4); break;
	case 2: r = pread(fd, buf, 4, 2); break;
	case 3: r = pwrite(fd, "PQ", 2, 1); break;
	case 4: r = ftruncate(fd, 5); break;
	case 5: r = ftruncate(fd, -1); break;
	case 6: r = fallocate(fd, 0, 0, 20); break;
	case 7: r = fallocate(fd, 0, -1, 20); break;
	case 8: r = fallocate(fd, 0, 0, 0); break;
	case 9: r = lseek(fd, 0, SEEK_END); break;
	case 10: r = lseek(fd, -1, SEEK_SET); break;
	case 11: r = lseek(fd, 1000, SEEK_SET); break;
	case 12: r = lseek(fd, 0, SEEK_DATA); break;
	case 13: r = lseek(fd, 1000000, SEEK_DATA); break;
	case 14: r = lseek(fd, 0, SEEK_HOLE); break;
	case 15: r = fstat(fd, &s) < 0 ? -1 : (long)s.st_nlink; break;
	case 16: r = fchmod(fd, 0640); break;
	case 17: r = fchown(fd, (uid_t)-1, (gid_t)-1); break;
	case 18: r = futimens(fd, NULL); break;
	case 19: r = fsync(fd); break;
	case 20: r = fdatasync(fd); break;
	case 21: r = flistxattr(fd, NULL, 0); break;
	case 22: r = fsetxattr(fd, "user.f", "v", 1, 0); break;
	case 23: r = fgetxattr(fd, "user.f", buf, sizeof(buf)); break;
	case 24: r = fremovexattr(fd, "user.f"); break;
	case 25: r = fchdir(fd); break;
	case 26: r = fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND); break;
	case 27: r = copy_file_range(fd, NULL, fd, NULL, 4, 0); break;
	case 28: r = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); break;
	case 29: r = sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); break;
	case 30: {
		void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		r = m == MAP_FAILED ? -1 : munmap(m, 4096);
		break;
	}
	case 31: r = fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4); break; /* needs KEEP_SIZE */
	default: break;
	}
	int err = errno;
	close(fd);
	errno = err;
	return r;
}
#define ON_FD 32

static void descriptor_calls(void)
{
	static const char *const on[] = {"file", "dir", "to-file", "readonly"};
	static const int kinds[] = {O_RDONLY, O_WRONLY, O_RDWR, O_PATH, O_RDWR | O_APPEND,
		O_WRONLY | O_TRUNC, O_RDWR | O_SYNC, O_RDONLY | O_NOFOLLOW};
	for (size_t p = 0; p < COUNT(on); p++) {
		fresh("calls on a descriptor");
		R(populate());
		for (size_t k = 0; k < COUNT(kinds); k++) {
			for (int op = 0; op < ON_FD; op++) {
				if (p == 1 && op >= 9 && op <= 14)
					continue; /* offsets in directories are anybody's own */
				ctx("\"%s\" flags 0%o operation %d", on[p], (unsigned)kinds[k], op);
				T(on_fd(on[p], kinds[k], op));
				S("file");
				T(content("file"));
				R(refill());
			}
		}
		TREE();
	}
}

/* ---- running programs ---- */

static long copy(const char *from, const char *to)
{
	static char buf[1 << 16];
	ssize_t n;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
	if (in < 0 || out < 0)
		return -1;
	while ((n = read(in, buf, sizeof(buf))) > 0) {
		if (write(out, buf, (size_t)n) != n)
			return -1;
	}
	close(in);
	return close(out) < 0 ? -1 : n;
}

static long run(const char *path)
{
	pid_t p = fork();
	if (p == 0) {
		execl(path, path, "-c", "exit 7", (char *)NULL);
		_exit(100 + (errno == ETXTBSY ? 1 : errno == EACCES ? 2 : 3));
	}
	return reap(p);
}

static long run_while_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	long r = run(path);
	close(fd);
	return r;
}

/* Does something to a program that runs. */
static long while_running(const char *path, int what)
{
	int to[2], from[2];
	char c;
	long r;
	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		return -1;
	pid_t p = fork();
	if (p == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		execl(path, path, "-c", "echo; read x", (char *)NULL);
		_exit(1);
	}
	close(from[1]);
	if (read(from[0], &c, 1) != 1)
		r = -1;
	else if (what == 0)
		r = opens(path, O_WRONLY, 0);
	else if (what == 1)
		r = truncate(path, 0);
	else if (what == 2)
		r = opens(path, O_RDONLY, 0);
	else if (what == 3)
		r = chmod(path, 0755);
	else
		r = unlink(path);
	int err = errno;
	close(to[1]);
	reap(p);
	close(to[0]);
	close(from[0]);
	errno = err;
	return r;
}

static void programs(void)
{
	fresh("programs");
	R(copy("/bin/sh", "sh"));
	T(run("./sh"));
	T(run_while_open("./sh"));
	for (int i = 0; i < 5; i++) {
		ctx("operation %d", i);
		T(while_running("./sh", i));
	}
	R(put("script", "#!/bin/sh\nexit 9\n"));
	T(run("./script"));
	R(chmod("script", 0755));
	T(run("./script"));
	as(OTHER);
	T(run("./script"));
	R(chmod("script", 0744));
	T(run("./script"));
}

void test_open(void)
{
	flag_matrix();
	descriptor_calls();
	programs();
}

/* ---- removed while open ---- */

static long removed(int how, int what)
{
	char buf[100] = {0};
	struct stat s;
	long r = -1;
	int fd = open("x", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if ((how == 0 && unlink("x") < 0) || (how == 1 && rename("y", "x") < 0))
		goto out;
	switch (what) {
	case 0: r = fstat(fd, &s) < 0 ? -1 : (long)s.st_nlink * 1000 + s.st_size; break;
	case 1: r = write(fd, "more text", 9) < 0 || pread(fd, buf, 100, 0) < 0 ? -1 : (long)(hash_bytes(HASH_START, buf, 100) >> 2); break;
	case 2: r = ftruncate(fd, 12345) < 0 || fstat(fd, &s) < 0 ? -1 : s.st_size; break;
	case 3: r = fchmod(fd, 0600) < 0 || fstat(fd, &s) < 0 ? -1 : (long)s.st_mode; break;
	case 4: r = fchown(fd, 3, 4) < 0 || fstat(fd, &s) < 0 ? -1 : (long)s.st_uid * 100 + s.st_gid; break;
	case 5: r = futimens(fd, NULL); break;
	case 6: r = fsetxattr(fd, "user.q", "v", 1, 0) < 0 ? -1 : fgetxattr(fd, "user.q", buf, 10); break;
	case 7: r = fallocate(fd, 0, 0, 9000) < 0 || fstat(fd, &s) < 0 ? -1 : s.st_size; break;
	case 8: r = fsync(fd); break;
	case 9: {
		char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (m == MAP_FAILED)
			break;
		m[1] = 'M';
		r = msync(m, 4096, MS_SYNC) < 0 || pread(fd, buf, 4, 0) < 0 ? -1 : buf[1];
		munmap(m, 4096);
		break;
	}
	case 10: {
		char proc[64];
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
		r = opens(proc, O_RDWR, 0);
		break;
	}
	case 11: {
		char proc[64];
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
		r = linkat(AT_FDCWD, proc, AT_FDCWD, "again", AT_SYMLINK_FOLLOW);
		break;
	}
	default: break;
	}
out:;
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

static long removed_dir(int what)
{
	struct stat s;
	long r = -1;
	int fd = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || rmdir("d") < 0)
		return -1;
	switch (what) {
	case 0: r = fstat(fd, &s) < 0 ? -1 : (long)s.st_nlink; break;
	case 1: r = mkdirat(fd, "x", 0755); break;
	case 2: r = openat(fd, "x", O_CREAT | O_WRONLY | O_CLOEXEC, 0644); break;
	case 3: r = symlinkat("x", fd, "x"); break;
	case 4: r = openat(fd, ".", O_RDONLY | O_CLOEXEC) < 0 ? -1 : 0; break;
	case 5: r = openat(fd, "..", O_RDONLY | O_CLOEXEC) < 0 ? -1 : 0; break;
	case 6: r = renameat(AT_FDCWD, "x", fd, "x"); break;
	case 7: r = fchmod(fd, 0700); break;
	case 8: r = unlinkat(fd, "x", 0); break;
	case 9: r = fstatat(fd, "x", &s, 0); break;
	case 10: r = linkat(AT_FDCWD, "x", fd, "x", 0); break;
	default: break;
	}
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

void test_unlinked(void)
{
	for (int how = 0; how < 3; how++) {
		for (int what = 0; what < 12; what++) {
			fresh("a file removed while open");
			ctx("%s, operation %d", how == 0 ? "unlink" : how == 1 ? "rename over" : "kept", what);
			R(put("x", "some text"));
			R(put("y", "other text"));
			T(removed(how, what));
			TREE();
			R(put("x", "some text"));
			R(link("x", "second"));
			R(put("y", "other text"));
			T(removed(how, what));
			TREE();
		}
	}
	for (int what = 0; what < 11; what++) {
		fresh("a directory removed while open");
		ctx("operation %d", what);
		R(mkdir("d", 0755));
		R(put("x", "x"));
		T(removed_dir(what));
		TREE();
	}
}
