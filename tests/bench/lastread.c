/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lastread - readers that never stop, and when the last of their reads succeeded.
 *
 *   lastread SECONDS THREADS FILE...
 *
 * Each thread opens every FILE once and reads 4 KiB at random places through those descriptors.  After the first
 * refusal it goes on, until a read succeeds again on every thread or SECONDS have passed.  Prints one line of JSON;
 * times are CLOCK_MONOTONIC seconds, as in the log of the emulator.
 */
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

#define BLOCK 4096

static struct {
	char **files;
	int n_files, n_threads;
	uint64_t deadline;
	_Atomic uint64_t last_ok; /* before the first refusal was over, on any thread */
	_Atomic uint64_t first_refused, first_healed, last_healed;
	_Atomic uint64_t reads, refused, wrong;
	atomic_int healed, error;
} run;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void keep_max(_Atomic uint64_t *at, uint64_t value)
{
	uint64_t have = atomic_load(at);

	while (have < value && !atomic_compare_exchange_weak(at, &have, value))
		;
}

static void keep_first(_Atomic uint64_t *at, uint64_t value)
{
	uint64_t none = 0;

	atomic_compare_exchange_strong(at, &none, value);
}

/* true: this thread has been refused and has read again since */
static bool one_read(const int *fds, unsigned *seed, bool *was_refused)
{
	static _Thread_local char block[BLOCK];
	int fd = fds[rand_r(seed) % (unsigned)run.n_files];
	struct stat st;
	off_t blocks = fstat(fd, &st) == 0 && st.st_size > BLOCK ? st.st_size / BLOCK : 1;
	ssize_t n = pread(fd, block, BLOCK, rand_r(seed) % blocks * BLOCK);
	uint64_t t = now();

	if (n < 0) {
		atomic_store(&run.error, errno);
		keep_first(&run.first_refused, t);
		atomic_fetch_add(&run.refused, 1);
		*was_refused = true;
		nanosleep(&(struct timespec){0, 1000000}, NULL);
		return false;
	}
	atomic_fetch_add(&run.reads, 1);
	if (*was_refused) {
		keep_first(&run.first_healed, t);
		keep_max(&run.last_healed, t);
		return true;
	}
	keep_max(&run.last_ok, t);
	return false;
}

static void *reader(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg + 1;
	int *fds = calloc((size_t)run.n_files, sizeof(*fds));
	bool was_refused = false;

	for (int i = 0; fds && i < run.n_files; i++) {
		fds[i] = open(run.files[i], O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0) {
			perror(run.files[i]);
			exit(1);
		}
	}
	while (fds && now() < run.deadline) {
		if (one_read(fds, &seed, &was_refused)) {
			atomic_fetch_add(&run.healed, 1);
			break;
		}
	}
	free(fds);
	return NULL;
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

int main(int argc, char **argv)
{
	pthread_t threads[256];

	if (argc < 4 || atoi(argv[2]) < 1 || atoi(argv[2]) > 256)
		return 2;
	run.deadline = now() + (uint64_t)atoi(argv[1]) * 1000000000u;
	run.n_threads = atoi(argv[2]);
	run.files = argv + 3;
	run.n_files = argc - 3;
	for (int i = 0; i < run.n_threads; i++)
		if (pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)i) != 0)
			return 1;
	for (int i = 0; i < run.n_threads; i++)
		pthread_join(threads[i], NULL);
	printf("{\"last_ok\": %.6f, \"first_refused\": %.6f, \"first_healed\": %.6f, \"last_healed\": %.6f, "
	       "\"reads\": %llu, \"refused\": %llu, \"healed\": %d, \"error\": \"%s\"}\n",
		seconds(run.last_ok), seconds(run.first_refused), seconds(run.first_healed), seconds(run.last_healed),
		(unsigned long long)run.reads, (unsigned long long)run.refused, run.healed, strerror(run.error));
	return run.first_refused ? 0 : 1;
}
