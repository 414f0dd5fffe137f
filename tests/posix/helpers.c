/* SPDX-License-Identifier: Apache-2.0 */
#include "diff.h"

#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/sysmacros.h>

int mk(enum type t, const char *path, mode_t mode)
{
	int fd;
	switch (t) {
	case FILE_:
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode);
		return fd < 0 ? -1 : close(fd);
	case DIR_:
		return mkdir(path, mode);
	case FIFO:
		return mkfifo(path, mode);
	case BLOCK:
		return mknod(path, S_IFBLK | mode, makedev(241, 77)); /* nobody's */
	case CHAR:
		return mknod(path, S_IFCHR | mode, makedev(1, 3)); /* null */
	case SOCK:
		return mknod(path, S_IFSOCK | mode, 0);
	case LINK:
		return symlink("target", path);
	case TYPE_COUNT:
		break;
	}
	errno = EINVAL;
	return -1;
}

int mk_owned(enum type t, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	if (mk(t, path, mode) < 0 || lchown(path, uid, gid) < 0)
		return -1;
	return t == LINK ? 0 : chmod(path, mode);
}

long put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int err = errno;
	close(fd);
	errno = err;
	return n;
}

long opens(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CLOEXEC, mode);
	return fd < 0 ? -1 : close(fd);
}

static int rm_one(const char *path, const struct stat *s, int flag, struct FTW *f)
{
	(void)s;
	(void)flag;
	(void)f;
	return remove(path);
}

long rm_rf(const char *path)
{
	return nftw(path, rm_one, 64, FTW_DEPTH | FTW_PHYS);
}

#define REAP_DEADLINE_MS 20000

long reap(pid_t p)
{
	int status;
	struct pollfd pfd = {.fd = (int)syscall(SYS_pidfd_open, p, 0), .events = POLLIN};
	if (pfd.fd < 0)
		return -1;
	int ready = poll(&pfd, 1, REAP_DEADLINE_MS);
	close(pfd.fd);
	if (ready != 1) {
		kill(p, SIGKILL);
		errno = ETIMEDOUT;
		return -2;
	}
	return waitpid(p, &status, 0) == p && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

uint64_t hash_bytes(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t w;
		memcpy(&w, p, 8);
		h = (h ^ w) * 1099511628211ull;
		h ^= h >> 29;
	}
	for (; len; p++, len--)
		h = (h ^ *p) * 1099511628211ull;
	return h;
}

long content(const char *path)
{
	static uint8_t buf[1 << 16];
	uint64_t h = HASH_START, total = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* Read whole buffers, so that the hash does not depend on how reads are cut. */
	do {
		size_t got = 0;
		while (got < sizeof(buf) && (n = read(fd, buf + got, sizeof(buf) - got)) > 0)
			got += (size_t)n;
		if (got < sizeof(buf) && n < 0)
			break;
		h = hash_bytes(h, buf, got);
		total += got;
		if (got < sizeof(buf))
			break;
	} while (1);
	int err = errno;
	close(fd);
	errno = err;
	if (n < 0)
		return -1;
	h = hash_bytes(h, &total, sizeof(total));
	return (long)(h & 0x7fffffffffffffff);
}
