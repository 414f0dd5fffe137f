/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PATH_LEN 4096

static bool same_content(const char *a, const char *b)
{
	static const size_t len = 1 << 16;
	char *x = malloc(len), *y = malloc(len);
	int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);
	bool same = x && y && fa >= 0 && fb >= 0;
	for (off_t at = 0; same; at += (off_t)len) {
		ssize_t n = pread(fa, x, len, at), m = pread(fb, y, len, at);
		if (n != m || n < 0 || memcmp(x, y, (size_t)n) != 0)
			same = false;
		if (n < (ssize_t)len)
			break;
	}
	if (fa >= 0)
		close(fa);
	if (fb >= 0)
		close(fb);
	free(x);
	free(y);
	return same;
}

static bool same_entry(const char *a, const char *b)
{
	char x[PATH_LEN] = {0}, y[PATH_LEN] = {0};
	struct stat s, t;
	if (lstat(a, &s) < 0 || lstat(b, &t) < 0 || s.st_mode != t.st_mode || s.st_nlink != t.st_nlink)
		return false;
	if (!S_ISDIR(s.st_mode) && s.st_size != t.st_size)
		return false;
	if (S_ISLNK(s.st_mode))
		return readlink(a, x, sizeof(x) - 1) == readlink(b, y, sizeof(y) - 1) && strcmp(x, y) == 0;
	ssize_t n = getxattr(a, "user.model", x, sizeof(x)), m = getxattr(b, "user.model", y, sizeof(y));
	if (n != m || (n > 0 && memcmp(x, y, (size_t)n) != 0))
		return false;
	return !S_ISREG(s.st_mode) || same_content(a, b);
}

static int count_entries(const char *path)
{
	int n = 0;
	DIR *d = opendir(path);
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

bool same_trees(const char *tested, const char *model, unsigned long *seen)
{
	bool same = true;
	if (count_entries(tested) != count_entries(model)) {
		printf("DIFFERENT number of entries: %s\n", tested);
		return false;
	}
	DIR *d = opendir(model);
	for (struct dirent *e; d && same && (e = readdir(d));) {
		char a[PATH_LEN], b[PATH_LEN];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(a, sizeof(a), "%.1800s/%s", tested, e->d_name);
		snprintf(b, sizeof(b), "%.1800s/%s", model, e->d_name);
		(*seen)++;
		if (!same_entry(a, b)) {
			printf("DIFFERENT: %s\n", a);
			same = false;
		} else if (e->d_type == DT_DIR) {
			same = same_trees(a, b, seen);
		}
	}
	if (d)
		closedir(d);
	return same && d;
}
