/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io - the system calls of the benchmark, with as little of its own around them as possible; see run.  Prints the seconds that the
 * measured part took.
 *
 *   io write FILE BYTES BLOCK           a new file, sequentially
 *   io read FILE BLOCK                  sequentially, to the end
 *   io reread FILE BLOCK                the same, the second time through one descriptor
 *   io randread FILE OPS THREADS SKIP   4 KiB blocks, each at most once; SKIP of them left to another call
 *   io randwrite FILE OPS
 *   io append FILE OPS BYTES
 *   io mmap FILE                        every byte through a mapping
 *   io create DIR FILES BYTES           in subdirectories of 100 files
 *   io stat DIR | readall DIR | rename DIR | delete DIR
 *   io evict DIR                        drops what the page cache has of all files below
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define PER_DIR 100u
#define MAX_THREADS 16u

static unsigned char *buf;
static struct timespec began;

static void die(const char *what)
{
	fprintf(stderr, "io: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void short_of(const char *what)
{
	fprintf(stderr, "io: %s: fewer bytes than there should be\n", what);
	exit(1);
}

static void start(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
}

static void stop(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%.9f\n", (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || end == text) {
		fprintf(stderr, "io: %s is not a number\n", text);
		exit(2);
	}
	return n;
}

static void buffer(size_t len)
{
	uint64_t x = 88172645463325252u;

	buf = aligned_alloc(PAGE, (len + PAGE - 1) / PAGE * PAGE);
	if (!buf)
		die("memory");
	for (size_t k = 0; k < len; k++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[k] = (unsigned char)x;
	}
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		die(path);
	return fd;
}

static uint64_t size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		die("fstat");
	return (uint64_t)st.st_size;
}

static void do_write(const char *path, uint64_t bytes, size_t block)
{
	int fd;

	buffer(block);
	start();
	fd = must_open(path, O_WRONLY | O_CREAT | O_TRUNC);
	for (uint64_t done = 0; done < bytes; done += block) {
		if (write(fd, buf, block) != (ssize_t)block)
			die(path);
	}
	if (close(fd) != 0)
		die(path);
	stop();
}

static void read_through(int fd, const char *path, size_t block)
{
	uint64_t done = 0;
	ssize_t n;

	while ((n = read(fd, buf, block)) > 0)
		done += (uint64_t)n;
	if (n < 0)
		die(path);
	if (done != size_of(fd))
		short_of(path);
}

static void do_read(const char *path, size_t block, int again)
{
	int fd;

	buffer(block);
	start();
	fd = must_open(path, O_RDONLY);
	read_through(fd, path, block);
	if (again) {
		if (lseek(fd, 0, SEEK_SET) != 0)
			die(path);
		start();
		read_through(fd, path, block);
	}
	close(fd);
	stop();
}

/* The k-th block in an order that looks random and repeats none. */
static uint64_t shuffled(uint64_t k, uint64_t blocks)
{
	uint64_t mask = 1, x = k;

	while (mask < blocks)
		mask <<= 1;
	mask--;
	do {
		x = (x * 0x5851f42d4c957f2du + 0x14057b7ef767814fu) & mask;
		x ^= x >> 7;
		x = (x * 0x2545f4914f6cdd1du + 0x1b873593u) & mask;
	} while (x >= blocks);
	return x;
}

struct part {
	pthread_t thread;
	const char *path;
	uint64_t first, count, blocks;
};

static void *reader(void *arg)
{
	struct part *p = arg;
	unsigned char page[PAGE];
	int fd = must_open(p->path, O_RDONLY);

	if (posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) != 0)
		die(p->path);
	for (uint64_t k = p->first; k < p->first + p->count; k++) {
		if (pread(fd, page, PAGE, (off_t)(shuffled(k, p->blocks) * PAGE)) != PAGE)
			die(p->path);
	}
	close(fd);
	return NULL;
}

static void do_randread(const char *path, uint64_t ops, uint64_t threads, uint64_t skip)
{
	struct part parts[MAX_THREADS];
	int fd = must_open(path, O_RDONLY);
	uint64_t blocks = size_of(fd) / PAGE;

	close(fd);
	if (threads == 0 || threads > MAX_THREADS) {
		fprintf(stderr, "io: from 1 to %u threads\n", MAX_THREADS);
		exit(2);
	}
	start();
	for (uint64_t t = 0; t < threads; t++) {
		parts[t] = (struct part){.path = path, .first = skip + t * (ops / threads), .count = ops / threads, .blocks = blocks};
		if (pthread_create(&parts[t].thread, NULL, reader, &parts[t]) != 0)
			die("thread");
	}
	for (uint64_t t = 0; t < threads; t++)
		pthread_join(parts[t].thread, NULL);
	stop();
}

static void do_randwrite(const char *path, uint64_t ops)
{
	uint64_t blocks;
	int fd;

	buffer(PAGE);
	start();
	fd = must_open(path, O_WRONLY);
	blocks = size_of(fd) / PAGE;
	for (uint64_t k = 0; k < ops; k++) {
		if (pwrite(fd, buf, PAGE, (off_t)(shuffled(k, blocks) * PAGE)) != PAGE)
			die(path);
	}
	if (close(fd) != 0)
		die(path);
	stop();
}

static void do_append(const char *path, uint64_t ops, size_t bytes)
{
	int fd;

	buffer(bytes);
	start();
	fd = must_open(path, O_WRONLY | O_CREAT | O_APPEND);
	for (uint64_t k = 0; k < ops; k++) {
		if (write(fd, buf, bytes) != (ssize_t)bytes)
			die(path);
	}
	if (close(fd) != 0)
		die(path);
	stop();
}

static void do_mmap(const char *path)
{
	int fd;
	uint64_t size, sum = 0;
	const uint64_t *map;

	start();
	fd = must_open(path, O_RDONLY);
	size = size_of(fd);
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die(path);
	for (uint64_t k = 0; k < size / sizeof(*map); k++)
		sum += map[k];
	close(fd);
	stop();
	if (sum == 0)
		short_of(path);
}

static void do_create(const char *dir, uint64_t files, size_t bytes)
{
	char path[4096];

	buffer(bytes);
	start();
	if (mkdir(dir, 0755) != 0)
		die(dir);
	for (uint64_t k = 0; k < files; k++) {
		int fd;

		snprintf(path, sizeof(path), "%s/d%03u", dir, (unsigned)(k / PER_DIR));
		if (k % PER_DIR == 0 && mkdir(path, 0755) != 0)
			die(path);
		snprintf(path, sizeof(path), "%s/d%03u/file-%06u.txt", dir, (unsigned)(k / PER_DIR), (unsigned)k);
		fd = must_open(path, O_WRONLY | O_CREAT | O_EXCL);
		if (write(fd, buf, bytes) != (ssize_t)bytes || close(fd) != 0)
			die(path);
	}
	stop();
}

struct name {
	char *text;
	mode_t type;
};

/* Calls one for every entry below fd, for a directory after what is in it. */
static void walk(int fd, void (*one)(int dirfd, const char *name, mode_t type))
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	size_t n = 0, room = 0;
	struct name *names = NULL;

	if (!d)
		die("fdopendir");
	errno = 0;
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (n == room) {
			room = room ? 2 * room : 128;
			names = realloc(names, room * sizeof(*names));
			if (!names)
				die("memory");
		}
		names[n].text = strdup(e->d_name);
		names[n].type = DTTOIF(e->d_type);
		if (!names[n++].text)
			die("memory");
	}
	if (errno != 0)
		die("readdir");
	for (size_t k = 0; k < n; k++) {
		if (S_ISDIR(names[k].type)) {
			int sub = openat(fd, names[k].text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			if (sub < 0)
				die(names[k].text);
			walk(sub, one);
		}
		one(fd, names[k].text, names[k].type);
		free(names[k].text);
	}
	free(names);
	closedir(d);
}

static uint64_t found;

static void one_stat(int dirfd, const char *name, mode_t type)
{
	struct stat st;

	found++;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || (st.st_mode & S_IFMT) != type)
		die(name);
}

static void one_read(int dirfd, const char *name, mode_t type)
{
	uint64_t done = 0;
	ssize_t n;
	int fd;

	found++;
	if (!S_ISREG(type))
		return;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(name);
	while ((n = read(fd, buf, 65536)) > 0)
		done += (uint64_t)n;
	if (n < 0)
		die(name);
	if (done != size_of(fd))
		short_of(name);
	close(fd);
}

static void one_rename(int dirfd, const char *name, mode_t type)
{
	char to[512];

	found++;
	if (!S_ISREG(type))
		return;
	snprintf(to, sizeof(to), "renamed-%s", name);
	if (renameat(dirfd, name, dirfd, to) != 0)
		die(name);
}

static void one_delete(int dirfd, const char *name, mode_t type)
{
	found++;
	if (unlinkat(dirfd, name, S_ISDIR(type) ? AT_REMOVEDIR : 0) != 0)
		die(name);
}

static void one_evict(int dirfd, const char *name, mode_t type)
{
	int fd;

	if (!S_ISREG(type))
		return;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!fsync(fd);
	(void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void do_walk(const char *dir, void (*one)(int dirfd, const char *name, mode_t type))
{
	buffer(65536);
	start();
	walk(must_open(dir, O_RDONLY | O_DIRECTORY), one);
	stop();
	if (found == 0 && one != one_evict)
		short_of(dir);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";

	if (strcmp(what, "write") == 0 && argc == 5)
		do_write(path, number(argv[3]), number(argv[4]));
	else if (strcmp(what, "read") == 0 && argc == 4)
		do_read(path, number(argv[3]), 0);
	else if (strcmp(what, "reread") == 0 && argc == 4)
		do_read(path, number(argv[3]), 1);
	else if (strcmp(what, "randread") == 0 && argc == 6)
		do_randread(path, number(argv[3]), number(argv[4]), number(argv[5]));
	else if (strcmp(what, "randwrite") == 0 && argc == 4)
		do_randwrite(path, number(argv[3]));
	else if (strcmp(what, "append") == 0 && argc == 5)
		do_append(path, number(argv[3]), number(argv[4]));
	else if (strcmp(what, "mmap") == 0 && argc == 3)
		do_mmap(path);
	else if (strcmp(what, "create") == 0 && argc == 5)
		do_create(path, number(argv[3]), number(argv[4]));
	else if (strcmp(what, "stat") == 0 && argc == 3)
		do_walk(path, one_stat);
	else if (strcmp(what, "readall") == 0 && argc == 3)
		do_walk(path, one_read);
	else if (strcmp(what, "rename") == 0 && argc == 3)
		do_walk(path, one_rename);
	else if (strcmp(what, "delete") == 0 && argc == 3)
		do_walk(path, one_delete);
	else if (strcmp(what, "evict") == 0 && argc == 3)
		do_walk(path, one_evict);
	else {
		fprintf(stderr, "usage: io WHAT PATH ARGUMENTS; see the head of tests/bench/io.c\n");
		return 2;
	}
	return 0;
}
