/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lastread DIR THREADS   threads that read in all the ways there are, until the end of standard input
 *
 * DIR has files file0 to file7 of at least 1 MiB. Prints "ready" when all threads have got through once; at the end the
 * time (CLOCK_BOOTTIME, nanoseconds) of the last success of any way, "last WAY NS" for each, and "refused N". A thread
 * that is refused tries again and again. Any error but ENOKEY, EKEYREVOKED and SIGBUS is told, exit code 1.
 */
#include <dirent.h>
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
#include <time.h>
#include <unistd.h>

enum way { CACHED, UNCACHED, MAPPED, OPENING, STATTING, LISTING, LINKS, WAYS };

static const char *const name[WAYS] = {"cached", "uncached", "mapped", "opening", "statting", "listing", "links"};
static const char *dir;
static useconds_t pause_us; /* so that a thousand do not need all of a machine */
static atomic_bool stop, failed;
static atomic_ulong refused, ready;
static _Atomic uint64_t last[WAYS];
static _Thread_local sigjmp_buf bus;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus, 1);
}

static int touch(volatile char *at)
{
	if (sigsetjmp(bus, 1)) {
		errno = ENOKEY;
		return -1;
	}
	(void)*at;
	return 0;
}

static int list(void)
{
	DIR *d = opendir(dir);
	int n = 0;

	if (!d)
		return -1;
	errno = 0;
	while (readdir(d))
		n++;
	int saved = errno;
	closedir(d);
	errno = saved;
	return saved ? -1 : n;
}

static void *reader(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg, seed = n;
	enum way way = n % WAYS;
	char path[4096], link[4096], *buf = aligned_alloc(4096, 65536);
	struct stat st;

	snprintf(path, sizeof(path), "%s/file%u", dir, n / WAYS % 8);
	snprintf(link, sizeof(link), "%s/link", dir);
	int fd = open(path, O_RDONLY | (way == UNCACHED ? O_DIRECT : 0));
	char *map = way == MAPPED ? mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0) : NULL;
	bool through = false;
	while (!atomic_load(&stop)) {
		off_t at = (off_t)(rand_r(&seed) % 240) * 4096;
		long rc = -1;
		switch (way) {
		case CACHED:
		case UNCACHED:
			rc = pread(fd, buf, 65536, at);
			break;
		case MAPPED:
			rc = touch(map + at);
			break;
		case OPENING:
			rc = open(path, O_RDONLY);
			if (rc >= 0)
				close((int)rc);
			break;
		case STATTING:
			rc = stat(path, &st);
			break;
		case LISTING:
			rc = list();
			break;
		default:
			rc = readlink(link, buf, 4096);
		}
		if (rc >= 0) {
			uint64_t t = now(), seen = atomic_load(&last[way]);
			while (t > seen && !atomic_compare_exchange_weak(&last[way], &seen, t))
				;
			if (!through)
				atomic_fetch_add(&ready, 1);
			through = true;
			if (pause_us)
				usleep(pause_us);
			continue;
		}
		if (errno != ENOKEY && errno != EKEYREVOKED && !atomic_exchange(&failed, true))
			printf("FAIL: %s: %s (%d)\n", name[way], strerrorname_np(errno), errno);
		atomic_fetch_add(&refused, 1);
		usleep(1000 + pause_us);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_bus};
	unsigned threads = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	pthread_t *t = calloc(threads + 1, sizeof(*t));
	pthread_attr_t attr;
	char line[64];

	if (argc != 3) {
		fprintf(stderr, "usage: lastread DIR THREADS\n");
		return 2;
	}
	dir = argv[1];
	pause_us = threads > 100 ? 50000 : 0;
	sigaction(SIGBUS, &sa, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (unsigned i = 0; i < threads; i++) {
		if (pthread_create(&t[i], &attr, reader, (void *)(uintptr_t)i) != 0) {
			puts("FAIL: no thread");
			return 1;
		}
	}
	while (atomic_load(&ready) < threads && !atomic_load(&failed))
		usleep(1000);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		;
	atomic_store(&stop, true);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < WAYS && i < threads; i++)
		printf("last %s %llu\n", name[i], (unsigned long long)atomic_load(&last[i]));
	printf("refused %lu\n", atomic_load(&refused));
	return atomic_load(&failed);
}
