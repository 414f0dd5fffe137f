/* SPDX-License-Identifier: Apache-2.0 */
/* Every call that takes a path, on every kind of path that should fail, or just not. */
#include "diff.h"

#include <limits.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static long c_stat(const char *p)
{
	struct stat s;
	return stat(p, &s);
}
static long c_lstat(const char *p)
{
	struct stat s;
	return lstat(p, &s);
}
static long c_open(const char *p)
{
	return opens(p, O_RDONLY | O_NONBLOCK, 0);
}
static long c_open_wr(const char *p)
{
	return opens(p, O_WRONLY | O_NONBLOCK, 0);
}
static long c_creat(const char *p)
{
	return opens(p, O_CREAT | O_RDWR | O_NONBLOCK, 0644);
}
static long c_excl(const char *p)
{
	return opens(p, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0644);
}
static long c_opendir(const char *p)
{
	return opens(p, O_RDONLY | O_DIRECTORY, 0);
}
static long c_nofollow(const char *p)
{
	return opens(p, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
}
static long c_tmpfile(const char *p)
{
	return opens(p, O_TMPFILE | O_RDWR, 0644);
}
static long c_mkdir(const char *p)
{
	return mkdir(p, 0755);
}
static long c_mkfifo(const char *p)
{
	return mkfifo(p, 0644);
}
static long c_mknod(const char *p)
{
	return mknod(p, S_IFREG | 0644, 0);
}
static long c_mkchr(const char *p)
{
	return mknod(p, S_IFCHR | 0644, 259);
}
static long c_mksock(const char *p)
{
	return mknod(p, S_IFSOCK | 0644, 0);
}
static long c_symlink(const char *p)
{
	return symlink("whatever", p);
}
static long c_link_from(const char *p)
{
	return link(p, "linked");
}
static long c_link_to(const char *p)
{
	return link("plain", p);
}
static long c_linkat_follow(const char *p)
{
	return linkat(AT_FDCWD, p, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW);
}
static long c_unlink(const char *p)
{
	return unlink(p);
}
static long c_rmdir(const char *p)
{
	return rmdir(p);
}
static long c_rename_from(const char *p)
{
	return rename(p, "renamed");
}
static long c_rename_to(const char *p)
{
	return rename("plain", p);
}
static long c_rename_dir_to(const char *p)
{
	return rename("plaindir", p);
}
static long c_noreplace(const char *p)
{
	return renameat2(AT_FDCWD, "plain", AT_FDCWD, p, RENAME_NOREPLACE);
}
static long c_exchange(const char *p)
{
	return renameat2(AT_FDCWD, "plain", AT_FDCWD, p, RENAME_EXCHANGE);
}
static long c_chmod(const char *p)
{
	return chmod(p, 0711);
}
static long c_chown(const char *p)
{
	return chown(p, 5, 6);
}
static long c_lchown(const char *p)
{
	return lchown(p, 5, 6);
}
static long c_truncate(const char *p)
{
	return truncate(p, 100);
}
static long c_truncate_neg(const char *p)
{
	return truncate(p, -1);
}
static long c_readlink(const char *p)
{
	char buf[5000];
	return readlink(p, buf, sizeof(buf));
}
static long c_utimens(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, 0);
}
static long c_lutimens(const char *p)
{
	return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW);
}
static long c_access(const char *p)
{
	return access(p, R_OK);
}
static long c_statfs(const char *p)
{
	struct statfs s;
	return statfs(p, &s);
}
static long c_chdir(const char *p)
{
	return chdir(p);
}
static long c_getxattr(const char *p)
{
	char buf[100];
	return getxattr(p, "user.none", buf, sizeof(buf));
}
static long c_setxattr(const char *p)
{
	return setxattr(p, "user.some", "v", 1, 0);
}
static long c_lsetxattr(const char *p)
{
	return lsetxattr(p, "user.some", "v", 1, 0);
}
static long c_listxattr(const char *p)
{
	return listxattr(p, NULL, 0) < 0 ? -1 : 0;
}
static long c_removexattr(const char *p)
{
	return removexattr(p, "user.none");
}

#define CALL(f)	 {#f, f, false}
#define CHECK(f) {#f, f, true}
static const struct {
	const char *name;
	long (*run)(const char *);
	bool harmless; /* changes nothing */
} calls[] = {CHECK(c_stat), CHECK(c_lstat), CHECK(c_open), CHECK(c_open_wr), CALL(c_creat),
	CALL(c_excl), CHECK(c_opendir), CHECK(c_nofollow), CHECK(c_tmpfile), CALL(c_mkdir),
	CALL(c_mkfifo), CALL(c_mknod), CALL(c_mkchr), CALL(c_mksock), CALL(c_symlink),
	CALL(c_link_from), CALL(c_link_to), CALL(c_linkat_follow), CALL(c_unlink), CALL(c_rmdir),
	CALL(c_rename_from), CALL(c_rename_to), CALL(c_rename_dir_to), CALL(c_noreplace),
	CALL(c_exchange), CALL(c_chmod), CALL(c_chown), CALL(c_lchown), CALL(c_truncate),
	CHECK(c_truncate_neg), CHECK(c_readlink), CALL(c_utimens), CALL(c_lutimens), CHECK(c_access),
	CHECK(c_statfs), CHECK(c_chdir), CHECK(c_getxattr), CALL(c_setxattr), CALL(c_lsetxattr),
	CHECK(c_listxattr), CHECK(c_removexattr)};

/* A directory with one of everything; made anew for a call that changes it. */
static long populate(void)
{
	if (mkdir("d", 0755) < 0 || mkdir("d/sub", 0755) < 0 || mkdir("empty", 0755) < 0 ||
		put("d/f", "f") < 0 || put("plain", "plain") < 0 || put("f", "text") < 0 ||
		mkdir("plaindir", 0755) < 0 || mkfifo("fifo", 0644) < 0 ||
		mknod("sock", S_IFSOCK | 0644, 0) < 0 || mknod("chr", S_IFCHR | 0644, 259) < 0 ||
		mknod("blk", S_IFBLK | 0644, 0xf14d) < 0 || symlink("f", "to-file") < 0 ||
		symlink("d", "to-dir") < 0 || symlink("none", "dangling") < 0 ||
		symlink("loop2", "loop1") < 0 || symlink("loop1", "loop2") < 0 ||
		symlink("self/x", "self") < 0 || symlink("to-dir", "to-to-dir") < 0 ||
		symlink(".", "here") < 0 || link("f", "hard") < 0)
		return -1;
	return 0;
}

static long clear(void)
{
	static const char *const all[] = {"d", "empty", "plain", "f", "plaindir", "fifo", "sock",
		"chr", "blk", "to-file", "to-dir", "dangling", "loop1", "loop2", "self",
		"to-to-dir", "here", "hard", "linked", "renamed", "none", "new"};
	for (size_t i = 0; i < COUNT(all); i++) {
		if (rm_rf(all[i]) < 0 && errno != ENOENT)
			return -1;
	}
	return 0;
}

static const char *const bad_paths[] = {"", "none", "none/x", "none/", "none/.", "f", "f/", "f/x",
	"f/.", "f/..", "d", "d/", "d/.", "d/..", "d/./sub/", "d/sub/..", ".", "..", "./", "empty",
	"empty/", "empty/.", "fifo", "fifo/x", "sock", "sock/x", "chr/x", "blk", "to-file",
	"to-file/", "to-file/x", "to-dir", "to-dir/", "to-dir/sub", "to-dir/.", "dangling",
	"dangling/", "dangling/x", "loop1", "loop1/", "loop1/x", "self", "self/x", "to-to-dir/f",
	"here/here/here/f", "hard", "new", "new/", "d/new", "plain", "plaindir", "plaindir/x",
	"/dev/shm", "/proc/version"};

static void bad_path_table(void)
{
	static const enum who users[] = {ROOT, OTHER};
	for (size_t u = 0; u < COUNT(users); u++) {
		for (size_t c = 0; c < COUNT(calls); c++) {
			fresh("paths that should fail");
			R(populate());
			for (size_t p = 0; p < COUNT(bad_paths); p++) {
				/* Not to touch what lies outside. */
				if (bad_paths[p][0] == '/' && (calls[c].run == c_chmod ||
					calls[c].run == c_chown || calls[c].run == c_lchown ||
					calls[c].run == c_utimens || calls[c].run == c_lutimens ||
					calls[c].run == c_setxattr || calls[c].run == c_lsetxattr ||
					calls[c].run == c_tmpfile || users[u] == OTHER))
					continue;
				as(users[u]);
				ctx("%s(\"%s\")", calls[c].name, bad_paths[p]);
				T(calls[c].run(bad_paths[p]));
				if (!any_done || calls[c].harmless)
					continue;
				TREE();
				R(clear());
				R(populate());
			}
			TREE();
		}
	}
}

/* ---- lengths ---- */

static void component_lengths(void)
{
	static const size_t lens[] = {1, 15, 16, 17, 143, 144, 159, 160, 161, 175, 176, 177, 191, 192,
		200, 239, 240, 254, 255, 256, 257, 1000};
	char name[1100], in[1200];
	for (size_t c = 0; c < COUNT(calls); c++) {
		fresh("lengths of a component");
		R(populate());
		for (size_t l = 0; l < COUNT(lens); l++) {
			memset(name, 'n', lens[l]);
			name[lens[l]] = 0;
			snprintf(in, sizeof(in), "%s/x", name);
			ctx("%s, %zu bytes", calls[c].name, lens[l]);
			T(calls[c].run(name));
			T(calls[c].run(in));
			S(name);
			R(rm_rf(name) < 0 ? 0 : 0);
			R(put(name, "x") < 0 ? 0 : 0);
			T(calls[c].run(name));
			S(name);
			R(rm_rf(name) < 0 ? 0 : 0);
			TREE();
			R(rm_rf("linked") < 0 ? 0 : 0);
			R(rm_rf("renamed") < 0 ? 0 : 0);
			R(put("plain", "plain"));
			R(mkdir("plaindir", 0755) < 0 ? 0 : 0);
		}
	}
}

/* A path of exactly len bytes to an entry "e" several directories down. */
static char *long_path(size_t len, size_t step)
{
	static char path[PATH_MAX + 100];
	size_t n = 0;
	while (n + step + 2 < len) {
		memset(path + n, 'p', step);
		path[n + step] = '/';
		n += step + 1;
	}
	while (n + 1 < len)
		path[n] = n % 2 ? '/' : '.', n++;
	path[len - 1] = 'e';
	path[len] = 0;
	return path;
}

static long make_parents(size_t step, int count)
{
	char name[256];
	int at = open(".", O_RDONLY | O_DIRECTORY);
	memset(name, 'p', step);
	name[step] = 0;
	for (int i = 0; i < count; i++) {
		if (mkdir(name, 0755) < 0 || chdir(name) < 0)
			return -1;
	}
	if (put("e", "end") < 0 || fchdir(at) < 0)
		return -1;
	return close(at);
}

static void path_lengths(void)
{
	static const size_t lens[] = {4092, 4093, 4094, 4095, 4096, 4097};
	for (size_t c = 0; c < COUNT(calls); c++) {
		fresh("lengths of a path");
		R(populate());
		R(make_parents(253, 16));
		for (size_t l = 0; l < COUNT(lens); l++) {
			const char *p = long_path(lens[l], 253);
			ctx("%s, %zu bytes", calls[c].name, lens[l]);
			T(calls[c].run(p));
			S("linked");
			S("renamed");
			S("plain");
			R(rm_rf("linked") < 0 ? 0 : 0);
			R(put("plain", "x"));
		}
	}
}

void test_paths(void)
{
	bad_path_table();
	component_lengths();
	path_lengths();
	fresh("symbolic links that lead on");
	R(put("s0", "x"));
	for (int i = 1; i <= 45; i++) {
		char a[16], b[16];
		snprintf(a, sizeof(a), "s%d", i - 1);
		snprintf(b, sizeof(b), "s%d", i);
		ctx("%d links", i);
		R(symlink(a, b));
		T(c_open(b));
		T(c_stat(b));
	}
	TREE();
}
