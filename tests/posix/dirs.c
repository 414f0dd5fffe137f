/* SPDX-License-Identifier: Apache-2.0 */
/* Directory streams: complete, without doubles, also while entries come and go. */
#include "diff.h"

#include <dirent.h>
#include <sys/syscall.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static long fill(const char *dir, int from, int to, const char *form)
{
	char name[600];
	for (int i = from; i < to; i++) {
		snprintf(name, sizeof(name), "%s/", dir);
		snprintf(name + strlen(name), 300, form, i);
		int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/*
 * Reads a directory of files k0.. (which stay) while others are made and removed
 * between two reads: every k has to be seen once. 0 if so.
 */
static long churn(int keep, int churned, int step)
{
	char *seen = calloc(1, (size_t)keep);
	long r = -1;
	int n = 0, made = 0;
	if (mkdir("churn", 0755) < 0 || fill("churn", 0, keep, "k%d") < 0 ||
		fill("churn", 0, churned, "old%d") < 0)
		return -1;
	DIR *d = opendir("churn");
	if (!d)
		return -1;
	r = 0;
	for (struct dirent *e; (e = readdir(d));) {
		int i;
		if (sscanf(e->d_name, "k%d", &i) == 1 && i >= 0 && i < keep && seen[i]++) {
			r = 1000 + i; /* twice */
			break;
		}
		if (++n % step)
			continue;
		char name[64];
		snprintf(name, sizeof(name), "churn/old%d", made);
		if (made < churned && unlink(name) < 0) {
			r = 2;
			break;
		}
		snprintf(name, sizeof(name), "churn/new%d", made++);
		if (made < 5 * churned && put(name, "x") < 0) {
			r = 3;
			break;
		}
	}
	closedir(d);
	for (int i = 0; i < keep && r == 0; i++) {
		if (!seen[i])
			r = 100000 + i; /* missing */
	}
	free(seen);
	rm_rf("churn");
	return r;
}

/* Removes every entry it reads; all have to go in one or two passes. */
static long remove_all(int count)
{
	if (mkdir("gone", 0755) < 0 || fill("gone", 0, count, "%0100d") < 0)
		return -1;
	DIR *d = opendir("gone");
	if (!d)
		return -1;
	long removed = 0;
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) < 0)
			return -1;
		removed++;
	}
	closedir(d);
	return rmdir("gone") < 0 ? -1 : removed;
}

/* Goes back to remembered places: the same names have to follow. 0 if so. */
static long seek_back(const char *dir, int step)
{
	long place[600];
	char name[600][256];
	int n = 0;
	DIR *d = opendir(dir);
	if (!d)
		return -1;
	for (;;) {
		long at = telldir(d);
		struct dirent *e = readdir(d);
		if (!e || n == 600)
			break;
		place[n] = at;
		snprintf(name[n++], 256, "%s", e->d_name);
	}
	for (int i = n - 1; i >= 0; i -= step) {
		seekdir(d, place[i]);
		struct dirent *e = readdir(d);
		if (!e || strcmp(e->d_name, name[i]) != 0)
			return 1 + i;
		e = readdir(d);
		if (i + 1 < n && (!e || strcmp(e->d_name, name[i + 1]) != 0))
			return 10000 + i;
	}
	rewinddir(d);
	long count = 0;
	while (readdir(d))
		count++;
	closedir(d);
	return count == n ? 0 : 20000;
}

/* rewinddir shows what was made after opendir. */
static long rewinds(void)
{
	struct dirent *e;
	DIR *d = opendir("d");
	long n = 0;
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	if (put("d/later", "x") < 0)
		return -1;
	rewinddir(d);
	bool found = false;
	while ((e = readdir(d)))
		found |= strcmp(e->d_name, "later") == 0;
	closedir(d);
	unlink("d/later");
	return n * 2 + found;
}

/* A hash of names, types and the inode numbers' agreement with stat. */
static long listing(const char *dir)
{
	uint64_t sum = 0;
	struct stat s;
	DIR *d = opendir(dir);
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));) {
		uint64_t h = hash_bytes(HASH_START, e->d_name, strlen(e->d_name));
		uint8_t type = e->d_type;
		h = hash_bytes(h, &type, 1);
		bool same = strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, ".") == 0 ||
			(fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 && s.st_ino == e->d_ino);
		sum += hash_bytes(h, &same, sizeof(same));
	}
	closedir(d);
	return (long)(sum >> 2);
}

static long small_buffer(size_t len, const char *dir)
{
	char *buf = malloc(len);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n, calls = 0;
	while ((n = syscall(SYS_getdents64, fd, buf, len)) > 0)
		calls++;
	int err = errno;
	close(fd);
	free(buf);
	errno = err;
	return n < 0 ? -1 : calls > 0;
}

static long empty_checks(void)
{
	long r = 0;
	if (mkdir("e", 0755) < 0 || put("e/x", "x") < 0)
		return -1;
	r = rmdir("e") == 0 ? -9 : errno;
	if (unlink("e/x") < 0 || rmdir("e") < 0)
		return -1;
	return r;
}

void test_directories(void)
{
	static const int steps[] = {1, 2, 7, 50};
	fresh("directories");
	R(mkdir("d", 0755));
	R(fill("d", 0, 500, "e%d"));
	R(fill("d", 0, 80, "long%0240d"));
	T(listing("d"));
	T(listing("."));
	for (size_t i = 0; i < COUNT(steps); i++) {
		ctx("step %d", steps[i]);
		T(churn(300, 100, steps[i]));
		T(churn(1200, 600, steps[i]));
		T(churn(40, 400, steps[i]));
		T(seek_back("d", steps[i]));
	}
	T(rewinds());
	T(remove_all(10));
	T(remove_all(1500));
	T(empty_checks());
	for (size_t len = 1; len < 300; len += 9) {
		ctx("buffer of %zu", len);
		T(small_buffer(len, "d"));
	}
	for (int t = 0; t < TYPE_COUNT; t++)
		R(mk(t, type_names[t], 0644));
	T(listing("."));
	TREE();
	fresh("deep directories");
	char path[3000] = "";
	for (int i = 0; i < 200; i++) {
		snprintf(path + strlen(path), 20, "%sd%d", i ? "/" : "", i);
		T(mkdir(path, 0755));
	}
	strcat(path, "/f");
	T(put(path, "x"));
	T(content(path));
	TREE();
}
