/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ackwrite DIR THREADS   threads that change files in DIR at full speed, until the end of standard input
 *
 * Each remembers what was acknowledged to it: a write that returned, a store into a shared mapping that did not fault, a
 * file that was made, an fsync. What is refused (ENOKEY, EKEYREVOKED, SIGBUS) it tries again. At the end each compares:
 * everything acknowledged is there, and nothing else. Exit code
 * 1 and a line "FAIL" if not. Prints "ready" when all have begun.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGES  64
#define PAGE   4096
#define RECORD 3000 /* across sectors and pages */
#define KEEP   200  /* records of an appender's file before it begins anew */

static const char *dir;
static atomic_bool stop, failed;
static atomic_ulong ready, refused, done;
static _Thread_local sigjmp_buf bus;

#define FAIL(...)                                      \
	do {                                           \
		if (!atomic_exchange(&failed, true)) { \
			printf("FAIL: " __VA_ARGS__);  \
			putchar('\n');                 \
			fflush(stdout);                \
		}                                      \
		atomic_store(&stop, true);             \
	} while (0)

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus, 1);
}

/* True: try again.  Any other error is a failure. */
static bool again(const char *what)
{
	if (errno != ENOKEY && errno != EKEYREVOKED) {
		FAIL("%s: %s (%d)", what, strerror(errno), errno);
		return false;
	}
	atomic_fetch_add(&refused, 1);
	usleep(500);
	return !atomic_load(&stop);
}

/* All of it, however often it is refused: the kernel may make several requests of a write, so it may be cut short. */
static bool write_all(int fd, const char *buf, size_t len, off_t at, const char *what)
{
	size_t n = 0;

	while (n < len) {
		ssize_t put = pwrite(fd, buf + n, len - n, at + (off_t)n);

		if (put < 0) {
			again(what);
			if (atomic_load(&failed))
				return false;
			continue;
		}
		n += (size_t)put;
	}
	return true;
}

static void fill(char *buf, size_t len, uint64_t n)
{
	for (size_t i = 0; i < len; i += 8)
		memcpy(buf + i, &n, len - i < 8 ? len - i : 8);
}

static void check_record(int fd, off_t at, size_t len, uint64_t n, const char *what)
{
	char have[PAGE], want[PAGE];

	if (pread(fd, have, len, at) != (ssize_t)len) {
		FAIL("%s: the record at %lld is missing: %s", what, (long long)at, strerror(errno));
		return;
	}
	fill(want, len, n);
	if (memcmp(have, want, len) != 0)
		FAIL("%s: at %lld is %llu, not %llu", what, (long long)at, *(unsigned long long *)(void *)have,
			(unsigned long long)n);
}

static int open_file(const char *kind, unsigned n)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s%u", dir, kind, n);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	if (fd < 0)
		FAIL("open of %s: %s", path, strerror(errno));
	return fd;
}

/* Appends records; ftruncates now and then. */
static void appender(unsigned id)
{
	int fd = open_file("append", id);
	uint64_t n = 1, first = 1;
	char buf[RECORD];
	struct stat st;

	while (!atomic_load(&stop)) {
		off_t at = (off_t)((n - first) * RECORD);

		if (n - first == KEEP) {
			if (ftruncate(fd, 0) < 0) {
				again("ftruncate");
				continue;
			}
			first = n;
			continue;
		}
		fill(buf, RECORD, n);
		if (!write_all(fd, buf, RECORD, at, "append"))
			return;
		if (n % 64 == 0 && fsync(fd) < 0)
			again("fsync");
		n++;
		atomic_fetch_add(&done, 1);
	}
	for (uint64_t k = first; k < n && !atomic_load(&failed); k++)
		check_record(fd, (off_t)((k - first) * RECORD), RECORD, k, "append");
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)((n - first) * RECORD))
		FAIL("append: size %lld after %llu records", (long long)st.st_size, (unsigned long long)(n - first));
	close(fd);
}

/* Overwrites records in place. */
static void overwriter(unsigned id)
{
	int fd = open_file("over", id);
	uint64_t have[PAGES] = {0}, n = 1;
	unsigned seed = id;
	char buf[RECORD];

	memset(buf, 0, sizeof(buf));
	for (int k = 0; k < PAGES; k++)
		write_all(fd, buf, RECORD, (off_t)k * RECORD, "write");
	while (!atomic_load(&stop)) {
		int k = rand_r(&seed) % PAGES;

		fill(buf, RECORD, n);
		if (!write_all(fd, buf, RECORD, (off_t)k * RECORD, "overwrite"))
			return;
		have[k] = n++;
		atomic_fetch_add(&done, 1);
	}
	for (int k = 0; k < PAGES && !atomic_load(&failed); k++)
		check_record(fd, (off_t)k * RECORD, RECORD, have[k], "overwrite");
	close(fd);
}

static bool store(char *at, uint64_t n)
{
	if (sigsetjmp(bus, 1))
		return false;
	*(volatile uint64_t *)(void *)at = n;
	return true;
}

/* Stores into a shared mapping: what did not fault is there. */
static void mapper(unsigned id)
{
	int fd = open_file("map", id);
	uint64_t have[PAGES] = {0}, n = 1;
	unsigned seed = id;

	while (ftruncate(fd, PAGES * PAGE) < 0 && again("ftruncate"))
		;
	char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	while (!atomic_load(&stop)) {
		int k = rand_r(&seed) % PAGES;

		if (!store(map + k * PAGE, n)) {
			errno = ENOKEY;
			again("store");
			continue;
		}
		have[k] = n++;
		atomic_fetch_add(&done, 1);
	}
	for (int k = 0; k < PAGES && !atomic_load(&failed); k++)
		check_record(fd, (off_t)k * PAGE, 8, have[k], "mapping");
	close(fd);
}

/* Makes small files and renames them; removes the old ones. */
static void maker(unsigned id)
{
	char path[4096], to[4096], buf[64];
	uint64_t n = 0;
	int fd;

	while (!atomic_load(&stop)) {
		snprintf(path, sizeof(path), "%s/new%u", dir, id);
		snprintf(to, sizeof(to), "%s/made%u.%llu", dir, id, (unsigned long long)n % 20);
		if ((fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600)) < 0) {
			again("create");
			continue;
		}
		int len = snprintf(buf, sizeof(buf), "%llu\n", (unsigned long long)n);
		if (n % 5 && write(fd, buf, (size_t)len) < 0) { /* each fifth stays empty */
			close(fd);
			again("write of a new file");
			continue;
		}
		close(fd);
		if (rename(path, to) < 0) {
			again("rename");
			continue;
		}
		n++;
		atomic_fetch_add(&done, 1);
	}
	for (uint64_t k = n > 19 ? n - 19 : 0; k < n && !atomic_load(&failed); k++) {
		struct stat st;

		snprintf(to, sizeof(to), "%s/made%u.%llu", dir, id, (unsigned long long)k % 20);
		int len = snprintf(buf, sizeof(buf), "%llu\n", (unsigned long long)k);
		if (stat(to, &st) < 0 || st.st_size != (k % 5 ? len : 0))
			FAIL("%s: %lld bytes, %s", to, (long long)st.st_size, strerror(errno));
	}
}

static void *worker(void *arg)
{
	static void (*const kinds[])(unsigned) = {appender, overwriter, mapper, maker};
	unsigned id = (unsigned)(uintptr_t)arg;

	atomic_fetch_add(&ready, 1);
	kinds[id % 4](id);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_bus, .sa_flags = SA_NODEFER};
	unsigned threads = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	pthread_t *t = calloc(threads + 1, sizeof(*t));
	char line[64];

	if (argc != 3) {
		fprintf(stderr, "usage: ackwrite DIR THREADS\n");
		return 2;
	}
	dir = argv[1];
	sigaction(SIGBUS, &sa, NULL);
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, worker, (void *)(uintptr_t)i);
	while (atomic_load(&done) < threads * 20 && !atomic_load(&failed))
		usleep(1000);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		;
	atomic_store(&stop, true);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	printf("%lu changes acknowledged, %lu refused\n", atomic_load(&done), atomic_load(&refused));
	return atomic_load(&failed);
}
