/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posixdiff REFERENCE TESTED: does the same things in two directories and
 * compares what comes of it. Needs root, as it changes users.
 */
#include "diff.h"

#include <signal.h>
#include <time.h>

#include "main.h"

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{"permissions", test_permissions},
	{"directory-permissions", test_directory_permissions},
	{"privilege-bits", test_privilege_bits},
	{"paths", test_paths},
	{"rename", test_rename},
	{"links", test_links},
	{"open", test_open},
	{"times", test_times},
	{"data", test_data},
	{"limits", test_limits},
	{"unlinked", test_unlinked},
	{"xattrs", test_xattrs},
	{"acls", test_acls},
	{"locks", test_locks},
	{"directories", test_directories},
	{"names", test_names},
	{"special", test_special},
};

static const char usage[] =
	"usage: posixdiff [--self] [--test NAME]... REFERENCE TESTED\n"
	"       posixdiff --prepare-read-only REFERENCE TESTED\n"
	"       posixdiff --read-only REFERENCE TESTED\n"
	"       posixdiff --list\n";

/* Files of one of each type, for a mount that can't be written to. */
static int prepare(const char *root)
{
	umask(0);
	if (chdir(root) < 0 || mkdir("ro", 0777) < 0 || chdir("ro") < 0)
		return -1;
	for (int t = 0; t < TYPE_COUNT; t++) {
		if (mk(t, type_names[t], 0777) < 0)
			return -1;
	}
	return put("file", "some text") < 0 ? -1 : 0;
}

static int open_root(const char *path)
{
	struct stat s;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &s) < 0) {
		fprintf(stderr, "posixdiff: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	return fd;
}

static bool wanted(const char *name, char **only, int count)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(only[i], name) == 0)
			return true;
	}
	return count == 0;
}

static void run_all(char **only, int count)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct timespec a, b;
		unsigned long checks = checks_done(), bad = mismatches();
		if (!wanted(tests[i].name, only, count))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &a);
		diff_section();
		tests[i].run();
		diff_drop();
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%-22s %6lu checks, %lu mismatches, %.1f s\n", tests[i].name,
			checks_done() - checks, mismatches() - bad,
			(double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	char *only[64];
	int count = 0, i = 1;
	bool ro = false, prep = false;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--list") == 0) {
			for (size_t t = 0; t < sizeof(tests) / sizeof(tests[0]); t++)
				puts(tests[t].name);
			return 0;
		} else if (strcmp(argv[i], "--read-only") == 0) {
			ro = true;
		} else if (strcmp(argv[i], "--prepare-read-only") == 0) {
			prep = true;
		} else if (strcmp(argv[i], "--test") == 0 && i + 1 < argc && count < 64) {
			only[count++] = argv[++i];
		} else if (strcmp(argv[i], "--self") != 0) {
			fputs(usage, stderr);
			return 2;
		}
	}
	if (argc - i != 2 || geteuid() != 0) {
		fputs(geteuid() ? "posixdiff: needs root\n" : usage, stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	diff_start(open_root(argv[i]), open_root(argv[i + 1]));
	if (prep) {
		char *base = getcwd(NULL, 0);
		if (prepare(argv[i]) < 0 || chdir(base) < 0 || prepare(argv[i + 1]) < 0) {
			perror("posixdiff: prepare");
			return 2;
		}
		return 0;
	}
	if (ro) {
		diff_use("ro");
		test_read_only();
		diff_keep();
	} else {
		run_all(only, count);
	}
	printf("%lu checks, %lu mismatches\n", checks_done(), mismatches());
	return mismatches() ? 1 : 0;
}
