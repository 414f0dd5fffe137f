/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memscan: looks for bytes in all of a process's memory.
 *
 *   memscan --at-exit LOG NEEDLES COMMAND...   runs it under ptrace, stops it when it is
 *                                              about to end, and scans what is left then
 *   memscan --pid PID NEEDLES                  scans a running process (which is stopped meanwhile)
 *
 * NEEDLES is a file of lines "name hex-bytes". Prints "found NAME at ADDRESS in MAPPING" for each;
 * at the end "scanned N bytes, M found". Exit code 0 if nothing was found, 1 if something was,
 * 2 on trouble; with --at-exit the findings go to LOG and the exit code is the command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEEDLES_MAX 256
#define CHUNK	    (1 << 20)
#define NEEDLE_MAX  256

static struct {
	char name[64];
	uint8_t bytes[NEEDLE_MAX];
	size_t len;
} needles[NEEDLES_MAX];
static size_t needle_count;

static void die(const char *what)
{
	fprintf(stderr, "memscan: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void load(const char *path)
{
	char line[2 * NEEDLE_MAX + 100], hex[2 * NEEDLE_MAX + 1];
	FILE *f = fopen(path, "re");
	if (!f)
		die(path);
	while (needle_count < NEEDLES_MAX && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %512s", needles[needle_count].name, hex) != 2)
			continue;
		size_t n = strlen(hex) / 2;
		for (size_t i = 0; i < n; i++)
			sscanf(hex + 2 * i, "%2hhx", &needles[needle_count].bytes[i]);
		needles[needle_count++].len = n;
	}
	fclose(f);
	if (!needle_count) {
		fprintf(stderr, "memscan: no needles in %s\n", path);
		exit(2);
	}
}

static unsigned long scan_range(int mem, uint64_t from, uint64_t to, const char *what, FILE *out,
	uint64_t *total)
{
	static uint8_t buf[CHUNK + NEEDLE_MAX];
	unsigned long found = 0;
	for (uint64_t at = from; at < to; at += CHUNK) {
		size_t want = to - at < sizeof(buf) ? (size_t)(to - at) : sizeof(buf);
		ssize_t n = pread(mem, buf, want, (off_t)at);
		if (n <= 0) {
			/* A page without access inside: go on page by page. */
			n = 0;
			for (size_t p = 0; p < want; p += 4096) {
				size_t part = want - p < 4096 ? want - p : 4096;
				if (pread(mem, buf + p, part, (off_t)(at + p)) != (ssize_t)part)
					memset(buf + p, 0, part);
				n = (ssize_t)(p + part);
			}
		}
		*total += (uint64_t)(n < CHUNK ? n : CHUNK);
		for (size_t k = 0; k < needle_count; k++) {
			uint8_t *p = buf, *hit;
			size_t left = (size_t)n;
			while ((hit = memmem(p, left, needles[k].bytes, needles[k].len))) {
				if (hit - buf < CHUNK) {
					fprintf(out, "found %s at %lx in %s\n", needles[k].name,
						(unsigned long)(at + (uint64_t)(hit - buf)), what);
					found++;
				}
				left -= (size_t)(hit + 1 - p);
				p = hit + 1;
			}
		}
	}
	return found;
}

/* Scans what of a mapping is in memory or swapped out: most of a stack has never been touched. */
static unsigned long scan_mapping(int mem, int pagemap, uint64_t from, uint64_t to, const char *what, FILE *out,
	uint64_t *total)
{
	static uint64_t entry[CHUNK / 8];
	unsigned long found = 0;
	uint64_t run = 0; /* start of the pages to be scanned; 0: none */
	for (uint64_t at = from; at < to;) {
		size_t want = (to - at) / 4096 < CHUNK / 8 ? (to - at) / 4096 : CHUNK / 8;
		ssize_t n = pread(pagemap, entry, want * 8, (off_t)(at / 4096 * 8));
		if (n <= 0) /* not told: all of it */
			return found + scan_range(mem, run ? run : at, to, what, out, total);
		for (ssize_t k = 0; k < n / 8; k++, at += 4096) {
			bool there = entry[k] >> 62;
			if (there && !run)
				run = at;
			if (!there && run)
				found += scan_range(mem, run, at, what, out, total);
			if (!there)
				run = 0;
		}
	}
	return run ? found + scan_range(mem, run, to, what, out, total) : found;
}

/* Of a sanitizer: its shadow memory, one byte about eight, and what it has reserved and not used. To ask which of their
 * pages are there takes half a minute. */
static bool has_no_data(uint64_t len, const char *perms)
{
	return len > 1UL << 40 || (len > 1UL << 32 && strncmp(perms, "---", 3) == 0);
}

static unsigned long scan(pid_t pid, FILE *out)
{
	char path[64], line[4500];
	unsigned long found = 0;
	uint64_t total = 0;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (mem < 0 || pagemap < 0 || !maps)
		die("cannot read the process's memory");
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;
		char name[4200] = "anonymous", perms[8];
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %4199[^\n]", &from, &to, perms, name) < 3 ||
			strstr(name, "[vvar") || strstr(name, "[vsyscall]") || has_no_data(to - from, perms))
			continue;
		found += scan_mapping(mem, pagemap, from, to, name, out, &total);
	}
	close(pagemap);
	fclose(maps);
	close(mem);
	fprintf(out, "scanned %llu bytes, %lu found\n", (unsigned long long)total, found);
	fflush(out);
	return found;
}

static int scan_running(pid_t pid)
{
	int status;
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 ||
		waitpid(pid, &status, __WALL) != pid)
		die("cannot stop the process");
	unsigned long found = scan(pid, stdout);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return found ? 1 : 0;
}

/* Threads are traced too: only the exit event of the last one is the end of the process. */
static int run_traced(const char *log, char **argv)
{
	int status, code = 2;
	FILE *out = fopen(log, "we");
	if (!out)
		die(log);
	pid_t child = fork();
	if (child == 0) {
		raise(SIGSTOP);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(child, &status, WUNTRACED) != child ||
		ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE) < 0)
		die("cannot trace");
	kill(child, SIGCONT);
	for (pid_t p; (p = waitpid(-1, &status, __WALL)) > 0;) {
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (p == child)
				code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		int event = status >> 16, sig = WSTOPSIG(status);
		if (event == PTRACE_EVENT_EXIT && p == child) {
			fprintf(out, "at exit of %d\n", p);
			scan(p, out);
		}
		if (event == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN))
			ptrace(PTRACE_LISTEN, p, 0, 0);
		else
			ptrace(PTRACE_CONT, p, 0, event ? 0 : sig);
	}
	fclose(out);
	return code;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "--pid") == 0) {
		load(argv[3]);
		return scan_running(atoi(argv[2]));
	}
	if (argc >= 5 && strcmp(argv[1], "--at-exit") == 0) {
		load(argv[3]);
		return run_traced(argv[2], argv + 4);
	}
	fprintf(stderr, "usage: memscan --at-exit LOG NEEDLES COMMAND... | --pid PID NEEDLES\n");
	return 2;
}
