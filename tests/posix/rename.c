/* SPDX-License-Identifier: Apache-2.0 */
/* rename and link: every pair of types, flags, users. */
#include "diff.h"

#ifndef RENAME_NOREPLACE
#include <linux/fs.h>
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Beyond the types: nothing there, a directory with an entry, a second name of the source. */
enum { FULL_DIR = TYPE_COUNT, HARD, NONE, KIND_COUNT };

static const char *kind_name(int k)
{
	return k < TYPE_COUNT ? type_names[k] : k == FULL_DIR ? "full dir"
		: k == HARD				      ? "same inode"
							      : "nothing";
}

static long make_kind(int k, const char *path, const char *src)
{
	char in[300];
	if (k == NONE)
		return 0;
	if (k == HARD)
		return link(src, path);
	if (k == FULL_DIR) {
		snprintf(in, sizeof(in), "%s/in", path);
		return mkdir(path, 0755) < 0 || put(in, path) < 0 ? -1 : 0;
	}
	if (mk(k, path, 0644) < 0)
		return -1;
	return k == FILE_ && put(path, path) < 0 ? -1 : 0;
}

static const unsigned flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT,
	RENAME_NOREPLACE | RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_WHITEOUT,
	RENAME_NOREPLACE | RENAME_WHITEOUT, 8};

/* An opened target has to live on after it was replaced. */
static long rename_over_open(const char *from, const char *to, unsigned flag)
{
	struct stat s;
	int fd = open(to, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	long r = renameat2(AT_FDCWD, from, AT_FDCWD, to, flag);
	int err = errno;
	if (r == 0 && fd >= 0 && fstat(fd, &s) == 0)
		r = 1000 + (long)s.st_nlink;
	if (fd >= 0)
		close(fd);
	errno = err;
	return r;
}

static void matrix(void)
{
	for (int a = 0; a < KIND_COUNT; a++) {
		if (a == HARD)
			continue;
		for (int b = 0; b < KIND_COUNT; b++) {
			if (b == HARD && (a == DIR_ || a == FULL_DIR || a == NONE))
				continue;
			for (size_t f = 0; f < COUNT(flags); f++) {
				for (int across = 0; across < 2; across++) {
					const char *from = "d1/from", *to = across ? "d2/to" : "d1/to";
					fresh("rename of a %s to a %s", kind_name(a), kind_name(b));
					ctx("flags %u%s", flags[f], across ? ", to another directory" : "");
					R(mkdir("d1", 0755));
					R(mkdir("d2", 0755));
					R(make_kind(a, from, NULL));
					R(make_kind(b, to, from));
					T(rename_over_open(from, to, flags[f]));
					S(from);
					S(to);
					S("d1");
					S("d2");
					TREE();
				}
			}
		}
	}
}

static void loops(void)
{
	fresh("rename into itself");
	R(mkdir("d", 0755));
	R(mkdir("d/e", 0755));
	R(mkdir("d/e/f", 0755));
	R(put("file", "x"));
	T(rename("d", "d/e"));
	T(rename("d", "d/x"));
	T(rename("d", "d/e/f"));
	T(rename("d", "d/e/f/g"));
	T(rename("d/e", "d"));
	T(rename("d/e/f", "d"));
	T(rename("d/e/f", "d/e"));
	T(renameat2(AT_FDCWD, "d", AT_FDCWD, "d/e", RENAME_EXCHANGE));
	T(renameat2(AT_FDCWD, "d/e", AT_FDCWD, "d", RENAME_EXCHANGE));
	T(rename("d", "d"));
	T(rename("d/", "d"));
	T(rename("d/.", "x"));
	T(rename("d/..", "x"));
	T(rename("d", "."));
	T(rename("d", "d/."));
	T(rename("file", "file"));
	T(rename("file", "file/"));
	T(rename("file", "file/x"));
	T(rename("d", "newname/"));
	T(rename("newname/", "d"));
	T(rename("file", "/dev/shm/posixdiff"));
	T(rename("d", "/dev/shm/posixdiff"));
	T(link("file", "/dev/shm/posixdiff"));
	T(rename("/proc/version", "file"));
	T(link("/proc/version", "file2"));
	TREE();
}

/* The moved entry's owner, the directories' owners and modes, the victim's owner. */
static void sticky(void)
{
	static const mode_t modes[] = {0777, 01777, 01775, 0755};
	static const uid_t owners[] = {0, UID_OWNER, UID_OTHER};
	for (size_t m = 0; m < COUNT(modes); m++) {
		for (size_t o = 0; o < 27; o++) {
			uid_t dir = owners[o % 3], entry = owners[o / 3 % 3], victim = owners[o / 9];
			for (int t = 0; t < 2; t++) {
				static const enum who users[] = {OWNER, OTHER, MEMBER};
				for (size_t u = 0; u < COUNT(users); u++) {
					fresh("rename with sticky directories");
					ctx("mode %o, directory of %u, entry of %u, victim of %u, %s", modes[m],
						dir, entry, victim, type_names[t]);
					R(mk_owned(DIR_, "a", modes[m], dir, GID_OWNER));
					R(mk_owned(DIR_, "b", modes[m], dir, GID_OWNER));
					R(mk_owned(t, "a/x", 0755, entry, entry));
					R(mk_owned(t, "a/v", 0755, victim, victim));
					R(mk_owned(t, "b/v", 0755, victim, victim));
					as(users[u]);
					T(rename("a/x", "b/v"));
					T(rename("a/x", "a/v"));
					T(renameat2(AT_FDCWD, "a/x", AT_FDCWD, "b/v", RENAME_EXCHANGE));
					T(t ? rmdir("a/v") : unlink("a/v"));
					TREE();
				}
			}
		}
	}
}

void test_rename(void)
{
	matrix();
	loops();
	sticky();
	fresh("rename of many");
	for (int i = 0; i < 60; i++) {
		char a[32], b[32];
		snprintf(a, sizeof(a), "n%d", i);
		snprintf(b, sizeof(b), "n%d", i * 7 % 60);
		R(put(a, a));
		T(rename(a, b));
	}
	TREE();
}

static void link_counts(void)
{
	fresh("link counts");
	R(put("f", "x"));
	for (int i = 0; i < 100; i++) {
		char name[300];
		snprintf(name, sizeof(name), i % 3 ? "l%d" : "l%0250d", i);
		T(link("f", name));
		S("f");
		S(name);
	}
	TREE();
	R(mkdir("d", 0755));
	for (int i = 0; i < 30; i++) {
		char name[64];
		snprintf(name, sizeof(name), "d/s%d", i);
		T(mkdir(name, 0755));
		S("d");
	}
	R(mkdir("e", 0755));
	for (int i = 0; i < 30; i++) {
		char a[64], b[64];
		snprintf(a, sizeof(a), "d/s%d", i);
		snprintf(b, sizeof(b), "e/s%d", i / 2);
		T(rename(a, b));
		S("d");
		S("e");
	}
	T(rmdir("e"));
	T(unlink("e"));
	TREE();
}

static long fd_link(const char *path, const char *to, int flags)
{
	char proc[64];
	int fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	long r = linkat(AT_FDCWD, proc, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

void test_links(void)
{
	for (int t = 0; t < TYPE_COUNT; t++) {
		for (int w = 0; w < WHO_COUNT; w++) {
			fresh("link to a %s", type_names[t]);
			R(mk_owned(t, "x", 0644, UID_OWNER, GID_OWNER));
			R(mkdir("d", 0777));
			R(chmod("d", 0777));
			as(w);
			T(link("x", "d/y"));
			S("x");
			S("d/y");
			T(link("x", "d/y"));
			T(link("x", "x"));
			T(linkat(AT_FDCWD, "x", AT_FDCWD, "d/z", AT_SYMLINK_FOLLOW));
			T(linkat(AT_FDCWD, "x", AT_FDCWD, "d/z", 0x40000000));
			T(fd_link("x", "d/fd", O_RDONLY | O_NONBLOCK));
			T(unlink("x"));
			S("d/y");
			T(link("d/y", "x"));
			TREE();
			T(unlink("x"));
			T(unlink("d/y"));
			TREE();
		}
	}
	fresh("O_TMPFILE");
	R(mkdir("d", 0777));
	R(chmod("d", 0777));
	for (int w = 0; w < WHO_COUNT; w++) {
		char name[32];
		as(w);
		snprintf(name, sizeof(name), "d/%s", who_names[w]);
		T(fd_link("d", name, O_TMPFILE | O_RDWR));
		T(fd_link("d", name, O_TMPFILE | O_WRONLY));
		snprintf(name, sizeof(name), "d/%s2", who_names[w]);
		T(fd_link("d", name, O_TMPFILE | O_RDWR | O_EXCL));
		T(opens("d", O_TMPFILE | O_RDONLY, 0644));
		TREE();
	}
	link_counts();
}
