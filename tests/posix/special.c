/* SPDX-License-Identifier: Apache-2.0 */
/* FIFOs, sockets, devices, statfs, and a mount that is read-only. */
#include "diff.h"

#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static long through_fifo(const char *path)
{
	char buf[16];
	int r = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), w = open(path, O_WRONLY | O_CLOEXEC);
	if (r < 0 || w < 0 || write(w, "hello", 5) != 5)
		return -1;
	long n = read(r, buf, sizeof(buf));
	close(r);
	close(w);
	return n == 5 && memcmp(buf, "hello", 5) == 0 ? 0 : 1;
}

static long through_socket(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), c = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char buf[16];
	long r = bind(s, (struct sockaddr *)&a, sizeof(a));
	if (r == 0 && (connect(c, (struct sockaddr *)&a, sizeof(a)) < 0 || write(c, "hello", 5) != 5 ||
		read(s, buf, sizeof(buf)) != 5))
		r = -1;
	int err = errno;
	close(s);
	close(c);
	errno = err;
	return r;
}

static long sane_statvfs(const char *path)
{
	struct statvfs s;
	if (statvfs(path, &s) < 0)
		return -1;
	if (s.f_bsize == 0 || s.f_frsize == 0 || s.f_blocks == 0 || s.f_bfree > s.f_blocks ||
		s.f_bavail > s.f_bfree || s.f_ffree > s.f_files)
		return 1;
	return (long)s.f_namemax;
}

static long null_device(const char *path)
{
	char buf[4];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	long r = write(fd, "abc", 3) * 10 + read(fd, buf, 4);
	close(fd);
	return r;
}

void test_special(void)
{
	static const dev_t devs[] = {0, 0x103, 0x8001, 0xfffff, 0xfff00000, 0xffffffff};
	fresh("special files");
	use_umask = 0;
	T(mkfifo("fifo", 0666));
	T(through_fifo("fifo"));
	T(through_socket("sock"));
	S("sock");
	T(through_socket("sock"));
	T(sane_statvfs("."));
	T(sane_statvfs("fifo"));
	R(mk(CHAR, "null", 0666));
	T(null_device("null"));
	for (int w = 0; w < WHO_COUNT; w++) {
		for (size_t i = 0; i < COUNT(devs); i++) {
			static const mode_t kinds[] = {S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFREG, S_IFDIR, S_IFLNK, 0, 0170000};
			for (size_t k = 0; k < COUNT(kinds); k++) {
				as(w);
				ctx("device %lx type %o", (unsigned long)devs[i], kinds[k]);
				T(mknod("n", kinds[k] | 0640, devs[i]));
				S("n");
				R(unlink("n") < 0 ? 0 : 0);
			}
		}
	}
	static const mode_t masks[] = {0, 022, 027, 077, 0777, 0123};
	for (size_t m = 0; m < COUNT(masks); m++) {
		for (int t = 0; t < TYPE_COUNT; t++) {
			for (unsigned mode = 0; mode <= 07777; mode = mode * 2 + 0111) {
				as(ROOT);
				use_umask = masks[m];
				ctx("%s mode %o umask %o", type_names[t], mode, masks[m]);
				T(mk(t, "n", mode));
				S("n");
				R(rm_rf("n"));
				as(OTHER);
				T(mk(t, "n", mode));
				S("n");
				R(rm_rf("n") < 0 ? 0 : 0);
			}
		}
	}
}

/* Runs in a directory made by --prepare-read-only, on mounts that are read-only now. */
void test_read_only(void)
{
	static const char *const extra[] = {"none", "file/", "none/x", "dir/none", "."};
	for (size_t i = 0; i < TYPE_COUNT + COUNT(extra); i++) {
		const char *p = i < TYPE_COUNT ? type_names[i] : extra[i - TYPE_COUNT];
		for (int w = 0; w < WHO_COUNT; w++) {
			char buf[64];
			as(w);
			ctx("\"%s\"", p);
			T(opens(p, O_RDONLY | O_NONBLOCK, 0));
			T(opens(p, O_WRONLY | O_NONBLOCK, 0));
			T(opens(p, O_RDWR | O_NONBLOCK, 0));
			T(opens(p, O_RDONLY | O_TRUNC | O_NONBLOCK, 0));
			T(opens(p, O_WRONLY | O_CREAT | O_NONBLOCK, 0644));
			T(opens(p, O_RDONLY | O_CREAT | O_NONBLOCK, 0644));
			T(opens(p, O_RDONLY | O_CREAT | O_EXCL | O_NONBLOCK, 0644));
			T(opens(p, O_TMPFILE | O_RDWR, 0644));
			T(mkdir(p, 0755));
			T(mkfifo(p, 0644));
			T(mknod(p, S_IFREG | 0644, 0));
			T(symlink("x", p));
			T(link(p, "new"));
			T(link("file", p));
			T(unlink(p));
			T(rmdir(p));
			T(rename(p, "new"));
			T(rename("file", p));
			T(chmod(p, 0700));
			T(lchown(p, 1, 1));
			T(truncate(p, 0));
			T(utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW));
			T(lsetxattr(p, "user.a", "v", 1, 0));
			T(lremovexattr(p, "user.a"));
			T(lgetxattr(p, "user.a", buf, sizeof(buf)));
			T(access(p, W_OK));
			T(access(p, R_OK));
			T(readlink(p, buf, sizeof(buf)));
		}
	}
	TREE();
}
