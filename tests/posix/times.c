/* SPDX-License-Identifier: Apache-2.0 */
/* Which times move when a call succeeds, and that none does when it fails. */
#include "diff.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define TIMED(what, call, with_atime, ...)                                                         \
	do {                                                                                       \
		ctx("%s", what);                                                                   \
		snap(__VA_ARGS__, (char *)NULL);                                                   \
		T(call);                                                                           \
		moved(what, with_atime);                                                           \
	} while (0)

static long fd_write(const char *path, int flags, const char *text, off_t at)
{
	int fd = open(path, O_WRONLY | flags | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = pwrite(fd, text, strlen(text), at);
	return close(fd) < 0 ? -1 : r;
}

static long fd_fallocate(const char *path, int mode, off_t at, off_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = fallocate(fd, mode, at, len);
	return close(fd) < 0 ? -1 : r;
}

static long fd_truncate(const char *path, off_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = ftruncate(fd, len);
	return close(fd) < 0 ? -1 : r;
}

static long map_write(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return -1;
	m[0] ^= 1;
	long r = msync(m, 4096, MS_SYNC);
	munmap(m, 4096);
	return close(fd) < 0 ? -1 : r;
}

static long list(const char *path)
{
	long n = 0;
	DIR *d = opendir(path);
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static long read_some(const char *path)
{
	char buf[16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = read(fd, buf, sizeof(buf));
	close(fd);
	return r;
}

static long make_things(void)
{
	char big[6000];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	if (mkdir("d", 0777) < 0 || mkdir("e", 0777) < 0 || put("d/f", big) < 0 ||
		put("d/g", "text") < 0 || put("d/empty", "") < 0 || mkdir("d/sub", 0777) < 0 ||
		mkdir("d/full", 0777) < 0 || put("d/full/x", "x") < 0 ||
		symlink("f", "d/l") < 0 || mk(FIFO, "d/p", 0666) < 0 ||
		put("e/v", "victim") < 0 || setxattr("d/f", "user.old", "v", 1, 0) < 0)
		return -1;
	return 0;
}

static void successes(void)
{
	char buf[100];
	TIMED("write", fd_write("d/f", 0, "abc", 10), false, "d/f", "d");
	TIMED("write at the end", fd_write("d/f", 0, "abc", 5999), false, "d/f", "d");
	TIMED("append", fd_write("d/f", O_APPEND, "abc", 0), false, "d/f", "d");
	TIMED("write of nothing", fd_write("d/f", 0, "", 10), false, "d/f", "d");
	TIMED("mmap write", map_write("d/f"), false, "d/f", "d");
	TIMED("truncate down", truncate("d/f", 4000), false, "d/f", "d");
	TIMED("truncate up", truncate("d/f", 9000), false, "d/f", "d");
	TIMED("truncate to the same size", truncate("d/f", 9000), false, "d/f", "d");
	TIMED("ftruncate down", fd_truncate("d/f", 5000), false, "d/f");
	TIMED("ftruncate to the same size", fd_truncate("d/f", 5000), false, "d/f");
	TIMED("O_TRUNC", opens("d/g", O_WRONLY | O_TRUNC, 0), false, "d/g", "d");
	TIMED("O_TRUNC of an empty file", opens("d/empty", O_WRONLY | O_TRUNC, 0), false, "d/empty", "d");
	TIMED("open to write", opens("d/f", O_RDWR, 0), false, "d/f", "d");
	TIMED("O_CREAT of an old file", opens("d/f", O_RDWR | O_CREAT, 0644), false, "d/f", "d");
	TIMED("fallocate", fd_fallocate("d/f", 0, 0, 10000), false, "d/f");
	TIMED("fallocate inside", fd_fallocate("d/f", 0, 0, 100), false, "d/f");
	TIMED("fallocate, keep size", fd_fallocate("d/f", FALLOC_FL_KEEP_SIZE, 20000, 100), false, "d/f");
	TIMED("punch hole", fd_fallocate("d/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5000), false, "d/f");
	TIMED("zero range", fd_fallocate("d/f", FALLOC_FL_ZERO_RANGE, 100, 300), false, "d/f");
	TIMED("chmod", chmod("d/f", 0640), false, "d/f", "d");
	TIMED("chmod to the same", chmod("d/f", 0640), false, "d/f", "d");
	TIMED("chmod of a directory", chmod("d/sub", 0750), false, "d/sub", "d");
	TIMED("chown", chown("d/f", 1, 2), false, "d/f", "d");
	TIMED("chown to the same", chown("d/f", 1, 2), false, "d/f", "d");
	TIMED("chown of nothing", chown("d/f", (uid_t)-1, (gid_t)-1), false, "d/f", "d");
	TIMED("lchown", lchown("d/l", 1, 2), false, "d/l", "d/f", "d");
	TIMED("setxattr", setxattr("d/f", "user.n", "v", 1, 0), false, "d/f", "d");
	TIMED("getxattr", getxattr("d/f", "user.n", buf, 10), false, "d/f", "d");
	TIMED("removexattr", removexattr("d/f", "user.n"), false, "d/f", "d");
	TIMED("create", opens("d/n1", O_CREAT | O_WRONLY, 0644), false, "d", "d/f");
	TIMED("mkdir", mkdir("d/n2", 0755), false, "d", "d/f");
	TIMED("mkfifo", mkfifo("d/n3", 0644), false, "d", "d/f");
	TIMED("mknod", mknod("d/n4", S_IFCHR | 0644, 259), false, "d", "d/f");
	TIMED("symlink", symlink("x", "d/n5"), false, "d", "d/f");
	TIMED("link", link("d/f", "d/n6"), false, "d", "d/f", "d/n6");
	TIMED("link elsewhere", link("d/f", "e/n6"), false, "d", "e", "d/f");
	TIMED("unlink of one of several", unlink("d/n6"), false, "d", "d/f");
	TIMED("unlink", unlink("d/n1"), false, "d");
	TIMED("rmdir", rmdir("d/n2"), false, "d");
	TIMED("rename", rename("d/f", "d/f2"), false, "d", "d/g");
	TIMED("rename back", rename("d/f2", "d/f"), false, "d", "e/n6");
	TIMED("rename elsewhere", rename("d/sub", "e/sub"), false, "d", "e");
	TIMED("rename over", rename("d/g", "e/v"), false, "d", "e");
	TIMED("rename to itself", rename("d/f", "d/f"), false, "d", "d/f");
	TIMED("rename to the same inode", rename("d/f", "e/n6"), false, "d", "e", "d/f");
	TIMED("exchange", renameat2(AT_FDCWD, "d/f", AT_FDCWD, "e/sub", RENAME_EXCHANGE), false, "d", "e");
	TIMED("exchange back", renameat2(AT_FDCWD, "d/f", AT_FDCWD, "e/sub", RENAME_EXCHANGE), false, "d", "e");
	TIMED("O_TMPFILE", opens("d", O_TMPFILE | O_RDWR, 0644), false, "d");
	TIMED("stat", faccessat(AT_FDCWD, "d/f", F_OK, 0), false, "d/f", "d");
	TIMED("utimensat, now", utimensat(AT_FDCWD, "d/f", NULL, 0), true, "d/f", "d");
}

static void failures(void)
{
	ctx("failures");
	TIMED("mkdir of what is there", mkdir("d/full", 0755), false, "d", "d/full");
	TIMED("create of what is there", opens("d/f", O_CREAT | O_EXCL | O_RDWR, 0644), false, "d", "d/f");
	TIMED("symlink over", symlink("x", "d/f"), false, "d", "d/f");
	TIMED("link over", link("d/p", "d/f"), false, "d", "d/f", "d/p");
	TIMED("link of a directory", link("d/full", "d/h"), false, "d", "d/full");
	TIMED("rmdir of a full one", rmdir("d/full"), false, "d", "d/full");
	TIMED("rmdir of a file", rmdir("d/f"), false, "d", "d/f");
	TIMED("unlink of a directory", unlink("d/full"), false, "d", "d/full");
	TIMED("unlink of nothing", unlink("d/none"), false, "d");
	TIMED("rename over a full directory", rename("e", "d/full"), false, "d", "e", "d/full");
	TIMED("rename of a file over a directory", rename("d/f", "e"), false, "d", "e", "d/f");
	TIMED("rename into itself", rename("d", "d/full/y"), false, "d", "d/full");
	TIMED("rename, no replace", renameat2(AT_FDCWD, "d/f", AT_FDCWD, "d/p", RENAME_NOREPLACE), false, "d", "d/f", "d/p");
	TIMED("removexattr of none", removexattr("d/f", "user.none"), false, "d/f");
	TIMED("setxattr replace of none", setxattr("d/f", "user.none", "v", 1, XATTR_REPLACE), false, "d/f");
	TIMED("truncate below zero", truncate("d/f", -1), false, "d/f");
	TIMED("truncate of a directory", truncate("d", 0), false, "d");
	R(chmod("d", 0755));
	R(chown("d/f", 0, 0));
	R(chmod("d/f", 0644));
	as(OTHER);
	TIMED("chmod by another", chmod("d/f", 0777), false, "d/f");
	TIMED("chown by another", chown("d/f", UID_OTHER, (gid_t)-1), false, "d/f");
	TIMED("truncate by another", truncate("d/f", 1), false, "d/f");
	TIMED("utimensat by another", utimensat(AT_FDCWD, "d/f", NULL, 0), true, "d/f");
	TIMED("unlink by another", unlink("d/f"), false, "d", "d/f");
	TIMED("create by another", opens("d/new", O_CREAT | O_RDWR, 0644), false, "d");
	TIMED("setxattr by another", setxattr("d/f", "user.z", "v", 1, 0), false, "d/f");
	as(ROOT);
}

/* With a read before the last change, and one after it, under relatime. */
static void access_times(void)
{
	static const struct timespec old[2] = {{1000000000, 0}, {1100000000, 0}};
	static const struct timespec newer[2] = {{1200000000, 0}, {1100000000, 0}};
	for (int i = 0; i < 2; i++) {
		const struct timespec *t = i ? newer : old;
		fresh("access times");
		R(make_things());
		R(utimensat(AT_FDCWD, "d/f", t, 0));
		R(utimensat(AT_FDCWD, "d/full", t, 0));
		R(utimensat(AT_FDCWD, "d/l", t, AT_SYMLINK_NOFOLLOW));
		char buf[10];
		/* not of a file: a read that the page cache serves is not known to a FUSE filesystem, which then has no
		 * access time to set (the kernel marks every FUSE inode as S_NOATIME) */
		TIMED(i ? "list, atime newer" : "list, atime older", list("d/full"), true, "d/full");
		TIMED(i ? "readlink, atime newer" : "readlink, atime older", readlink("d/l", buf, 5), true, "d/l");
	}
}

static long nanos(const char *path, int which)
{
	struct stat s;
	if (lstat(path, &s) < 0)
		return -1;
	return which ? s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec
		     : s.st_atim.tv_sec * 1000000000 + s.st_atim.tv_nsec;
}

static void exact_times(void)
{
	static const long secs[] = {0, 1, 1000000000, 2147483647, 2147483648, 4294967296, -1, -2147483648};
	static const long ns[] = {0, 1, 999999999, 123456789, UTIME_NOW, UTIME_OMIT, 1000000000, -1};
	for (int t = 0; t < TYPE_COUNT; t++) {
		fresh("exact times of a %s", type_names[t]);
		R(mk(t, "x", 0644));
		for (size_t s = 0; s < COUNT(secs); s++) {
			for (size_t n = 0; n < COUNT(ns); n++) {
				struct timespec base[2] = {{1500000000, 5}, {1500000001, 6}};
				struct timespec both[2] = {{secs[s], ns[n]}, {secs[s] + 1, 55}};
				ctx("%ld.%ld", secs[s], ns[n]);
				R(utimensat(AT_FDCWD, "x", base, AT_SYMLINK_NOFOLLOW));
				T(utimensat(AT_FDCWD, "x", both, AT_SYMLINK_NOFOLLOW));
				if (ns[n] != UTIME_NOW)
					T(nanos("x", 0));
				T(nanos("x", 1));
				R(utimensat(AT_FDCWD, "x", base, AT_SYMLINK_NOFOLLOW));
				struct timespec swapped[2] = {both[1], both[0]};
				T(utimensat(AT_FDCWD, "x", swapped, AT_SYMLINK_NOFOLLOW));
				if (ns[n] != UTIME_NOW)
					T(nanos("x", 1));
				T(nanos("x", 0));
			}
		}
	}
}

/* Who may set which of the two. */
static void set_rights(void)
{
	static const long ns[] = {0, UTIME_NOW, UTIME_OMIT};
	static const mode_t modes[] = {0600, 0666, 0444, 0000, 0622};
	for (int w = 0; w < WHO_COUNT; w++) {
		for (size_t m = 0; m < COUNT(modes); m++) {
			fresh("rights to set times");
			R(mk_owned(FILE_, "x", modes[m], UID_OWNER, GID_OWNER));
			for (int i = 0; i < 9; i++) {
				struct timespec t[2] = {{1400000000, ns[i % 3]}, {1400000000, ns[i / 3]}};
				as(w);
				ctx("mode %o, %ld and %ld", modes[m], ns[i % 3], ns[i / 3]);
				T(utimensat(AT_FDCWD, "x", t, 0));
			}
		}
	}
}

void test_times(void)
{
	fresh("times");
	R(make_things());
	successes();
	failures();
	access_times();
	exact_times();
	set_rights();
}
