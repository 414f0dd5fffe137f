/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library to preload: logs what a process writes into files, and when it syncs, to $WRITELOG.
 *
 * A record: 6 integers of 64 bits in the machine's order (operation, inode, offset, length, mode, 0),
 * then, for a write, the bytes. A write is logged before it is done, a sync when it has returned.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OP_WRITE = 1, OP_TRUNCATE, OP_FALLOCATE, OP_SYNC, OP_SYNC_ALL };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("WRITELOG");
	if (path)
		log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(uint64_t op, int fd, uint64_t off, uint64_t len, uint64_t mode, const void *data)
{
	struct stat s;
	if (log_fd < 0 || fstat(fd, &s) < 0 || (op < OP_SYNC && !S_ISREG(s.st_mode)))
		return;
	uint64_t head[6] = {op, s.st_ino, off, len, mode, 0};
	struct iovec v[2] = {{head, sizeof(head)}, {(void *)(uintptr_t)data, data ? len : 0}};
	pthread_mutex_lock(&lock);
	if (writev(log_fd, v, 2) < 0)
		abort();
	pthread_mutex_unlock(&lock);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t off)
{
	note(OP_WRITE, fd, (uint64_t)off, len, 0, data);
	return NEXT(pwrite64)(fd, data, len, off);
}

int ftruncate64(int fd, off64_t len)
{
	note(OP_TRUNCATE, fd, 0, (uint64_t)len, 0, NULL);
	return NEXT(ftruncate64)(fd, len);
}

int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	note(OP_FALLOCATE, fd, (uint64_t)off, (uint64_t)len, (uint64_t)mode, NULL);
	return NEXT(fallocate64)(fd, mode, off, len);
}

int fsync(int fd)
{
	int r = NEXT(fsync)(fd);
	if (r == 0)
		note(OP_SYNC, fd, 0, 0, 0, NULL);
	return r;
}

int fdatasync(int fd)
{
	int r = NEXT(fdatasync)(fd);
	if (r == 0)
		note(OP_SYNC, fd, 0, 0, 0, NULL);
	return r;
}

int syncfs(int fd)
{
	int r = NEXT(syncfs)(fd);
	if (r == 0)
		note(OP_SYNC_ALL, fd, 0, 0, 0, NULL);
	return r;
}
