/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd DIR SECONDS THREADS   threads that work in the same few directories, on the same names
 * crowd --check DIR           what is left has to be consistent
 *
 * A file holds nothing but its own number, in words of 8 bytes, and zeros. So no reader may ever see
 * two different numbers through one descriptor, whatever happens at the same time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIRS	 3
#define NAMES	 12
#define FIXED	 10
#define WORDS	 1024
#define FILES_MAX (DIRS * NAMES * 8)

static atomic_ullong next_number = 1;
static atomic_bool stop, failed;
static atomic_ulong done;

#define FAIL(...)                                            \
	do {                                                 \
		if (!atomic_exchange(&failed, true)) {       \
			printf("FAIL: " __VA_ARGS__);        \
			putchar('\n');                       \
			fflush(stdout);                      \
		}                                            \
		atomic_store(&stop, true);                   \
	} while (0)

/* Errors that another thread may cause by what it does at the same time. */
static bool may_be(int err)
{
	return err == ENOENT || err == EEXIST || err == ENOTEMPTY || err == ENOTDIR || err == EISDIR || err == EINVAL;
}

static void result(long rc, const char *what, const char *path)
{
	if (rc < 0 && !may_be(errno))
		FAIL("%s %s: %s", what, path, strerror(errno));
	atomic_fetch_add(&done, 1);
}

static void pick(unsigned *seed, char path[64])
{
	unsigned long_one = rand_r(seed) % 8 == 0;
	snprintf(path, 64, "d%u/%s%02u", rand_r(seed) % DIRS, long_one ? "name-" : "n", rand_r(seed) % NAMES);
}

static uint64_t number_of(int fd, const char *path, uint64_t known)
{
	uint64_t words[WORDS];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, words, sizeof(words), at)) > 0) {
		for (size_t i = 0; i < (size_t)n / 8; i++) {
			if (words[i] == 0)
				continue;
			if (known == 0)
				known = words[i];
			if (words[i] != known)
				FAIL("%s holds %llu and, at %lld, %llu", path, (unsigned long long)known,
					(long long)at + 8 * (long long)i, (unsigned long long)words[i]);
		}
		at += n / 8 * 8;
		if (n < 8)
			break;
	}
	if (n < 0)
		FAIL("read of %s: %s", path, strerror(errno));
	return known;
}

static void change(int fd, const char *path, unsigned *seed)
{
	uint64_t words[WORDS], number = number_of(fd, path, 0);
	size_t count = 1 + rand_r(seed) % WORDS;
	off_t at = (off_t)(rand_r(seed) % 20000) * 8;
	long rc;

	if (number == 0)
		return;
	for (size_t i = 0; i < count; i++)
		words[i] = number;
	switch (rand_r(seed) % 4) {
	case 0:
		rc = ftruncate(fd, at);
		break;
	case 1:
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)count * 8);
		break;
	default:
		rc = pwrite(fd, words, count * 8, at);
	}
	result(rc, "change of", path);
	if (rand_r(seed) % 16 == 0)
		result(fsync(fd), "fsync", path);
	number_of(fd, path, number);
}

static void make_file(const char *path, unsigned *seed)
{
	uint64_t words[WORDS];
	size_t count = 1 + rand_r(seed) % WORDS;
	uint64_t number = atomic_fetch_add(&next_number, 1) * 2654435761u;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);

	result(fd, "create", path);
	if (fd < 0)
		return;
	for (size_t i = 0; i < count; i++)
		words[i] = number;
	result(write(fd, words, count * 8), "write", path);
	/* Even if somebody has removed it: nobody else's number may be in it. */
	number_of(fd, path, number);
	close(fd);
}

static void use_file(const char *path, unsigned *seed)
{
	int fd = open(path, rand_r(seed) % 2 ? O_RDWR : O_RDONLY);
	struct stat st;

	result(fd, "open", path);
	if (fd < 0)
		return;
	if (fstat(fd, &st) < 0)
		FAIL("fstat of %s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		;
	else if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR)
		change(fd, path, seed);
	else
		number_of(fd, path, 0);
	close(fd);
}

static void list(const char *dir)
{
	unsigned seen[FIXED] = {0}, n;
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d) {
		FAIL("opendir of %s: %s", dir, strerror(errno));
		return;
	}
	while (errno = 0, (e = readdir(d))) {
		if (sscanf(e->d_name, "fixed%u", &n) == 1 && n < FIXED)
			seen[n]++;
	}
	if (errno)
		FAIL("readdir of %s: %s", dir, strerror(errno));
	closedir(d);
	for (n = 0; n < FIXED; n++) {
		if (seen[n] != 1)
			FAIL("%s lists fixed%u, which nobody touches, %u times", dir, n, seen[n]);
	}
	atomic_fetch_add(&done, 1);
}

static void *worker(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	char a[64], b[64], dir[16];
	struct stat st;

	while (!atomic_load(&stop)) {
		pick(&seed, a);
		pick(&seed, b);
		switch (rand_r(&seed) % 14) {
		case 0:
		case 1:
		case 2:
			make_file(a, &seed);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			use_file(a, &seed);
			break;
		case 7:
			result(rename(a, b), "rename", a);
			break;
		case 8:
			result(renameat2(AT_FDCWD, a, AT_FDCWD, b, rand_r(&seed) % 2 ? RENAME_NOREPLACE : RENAME_EXCHANGE),
				"renameat2", a);
			break;
		case 9:
			if (link(a, b) < 0 && errno != EPERM) /* a directory */
				result(-1, "link", a);
			break;
		case 10:
			result(unlink(a), "unlink", a);
			break;
		case 11:
			snprintf(dir, sizeof(dir), "d%u", rand_r(&seed) % DIRS);
			list(dir);
			break;
		case 12:
			result(rand_r(&seed) % 3 ? rmdir(a) : mkdir(a, 0700), "mkdir or rmdir", a);
			break;
		default:
			result(lstat(a, &st), "lstat", a);
		}
	}
	return NULL;
}

static int check(void)
{
	static struct {
		ino_t ino;
		nlink_t nlink, names;
	} files[FILES_MAX];
	size_t count = 0, i;
	struct stat st;
	struct dirent *e;

	for (unsigned n = 0; n < DIRS; n++) {
		char dir[16], path[300];
		nlink_t subdirs = 0;
		snprintf(dir, sizeof(dir), "d%u", n);
		DIR *d = opendir(dir);
		if (!d) {
			FAIL("opendir of %s: %s", dir, strerror(errno));
			return 1;
		}
		while ((e = readdir(d))) {
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
			if (lstat(path, &st) < 0) {
				FAIL("lstat of %s: %s", path, strerror(errno));
				continue;
			}
			if (st.st_ino != e->d_ino)
				FAIL("%s has the inode number %lu, its directory says %lu", path, (unsigned long)st.st_ino,
					(unsigned long)e->d_ino);
			if (S_ISDIR(st.st_mode)) {
				subdirs++;
				continue;
			}
			int fd = open(path, O_RDONLY);
			if (fd < 0)
				FAIL("open of %s: %s", path, strerror(errno));
			number_of(fd, path, 0);
			close(fd);
			for (i = 0; i < count && files[i].ino != st.st_ino; i++)
				;
			if (i == count && count < FILES_MAX) {
				files[count].ino = st.st_ino;
				files[count++].nlink = st.st_nlink;
			}
			files[i].names++;
		}
		closedir(d);
		if (stat(dir, &st) < 0 || (st.st_nlink != 2 + subdirs && st.st_nlink != 1))
			FAIL("%s has %lu links and %lu directories in it", dir, (unsigned long)st.st_nlink,
				(unsigned long)subdirs);
	}
	for (i = 0; i < count; i++) {
		if (files[i].nlink != files[i].names)
			FAIL("inode %lu has %lu links and %lu names", (unsigned long)files[i].ino,
				(unsigned long)files[i].nlink, (unsigned long)files[i].names);
	}
	printf("%zu files\n", count);
	return atomic_load(&failed);
}

static void make_dirs(void)
{
	char path[64];

	for (unsigned n = 0; n < DIRS; n++) {
		snprintf(path, sizeof(path), "d%u", n);
		if (mkdir(path, 0700) < 0)
			FAIL("mkdir of %s: %s", path, strerror(errno));
		for (unsigned f = 0; f < FIXED; f++) {
			snprintf(path, sizeof(path), "d%u/fixed%u", n, f);
			close(open(path, O_WRONLY | O_CREAT, 0600));
		}
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	bool only_check = argc == 3 && strcmp(argv[1], "--check") == 0;

	if ((argc != 4 && !only_check) || chdir(argv[only_check ? 2 : 1]) < 0) {
		fprintf(stderr, "usage: crowd DIR SECONDS THREADS | --check DIR\n");
		return 2;
	}
	if (only_check)
		return check();
	int n = atoi(argv[3]) < 64 ? atoi(argv[3]) : 64;
	struct timespec moment = {.tv_nsec = 50000000};
	make_dirs();
	for (int i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)(i + 1));
	for (int ticks = 0; ticks < atoi(argv[2]) * 20 && !atomic_load(&stop); ticks++)
		nanosleep(&moment, NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("%lu operations\n", atomic_load(&done));
	return check();
}
