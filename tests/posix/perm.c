/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what: every type, mode and user. */
#include "diff.h"

#include <sys/xattr.h>

static const mode_t modes[] = {0000, 0100, 0200, 0400, 0600, 0500, 0700, 0010, 0020, 0040, 0060,
	0070, 0001, 0002, 0004, 0006, 0007, 0644, 0666, 0777, 04755, 02755, 06777, 01777};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Calls that change nothing, or nothing that a later one sees. */
static void read_calls(enum type t)
{
	T(opens("x", O_RDONLY | O_NONBLOCK, 0));
	T(opens("x", O_WRONLY | O_NONBLOCK, 0));
	T(opens("x", O_RDWR | O_NONBLOCK, 0));
	T(opens("x", O_PATH, 0));
	T(faccessat(AT_FDCWD, "x", R_OK, AT_EACCESS));
	T(faccessat(AT_FDCWD, "x", W_OK, AT_EACCESS));
	T(faccessat(AT_FDCWD, "x", X_OK, AT_EACCESS));
	if (t == FILE_ || t == DIR_) {
		char buf[64];
		T(getxattr("x", "user.a", buf, sizeof(buf)));
		T(listxattr("x", NULL, 0));
	}
	if (t == DIR_) {
		T(chdir("x"));
		T(opens("x/none", O_RDONLY, 0));
		T(opens("x/in", O_RDONLY, 0));
	}
}

static void write_calls(enum type t, mode_t mode)
{
	struct timespec both[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
	if (t != LINK) {
		T(chmod("x", mode ^ 0111));
		S("x");
		R(chmod("x", mode));
	}
	T(utimensat(AT_FDCWD, "x", both, AT_SYMLINK_NOFOLLOW));
	T(utimensat(AT_FDCWD, "x", now, AT_SYMLINK_NOFOLLOW));
	T(utimensat(AT_FDCWD, "x", NULL, 0));
	T(link("x", "y"));
	R(unlink("y") < 0 ? 0 : 0);
	T(truncate("x", 3));
	S("x");
	if (t != LINK)
		R(chmod("x", mode));
	if (t == FILE_ || t == DIR_) {
		T(setxattr("x", "user.b", "1", 1, 0));
		T(removexattr("x", "user.b"));
	} else {
		T(lsetxattr("x", "user.b", "1", 1, 0));
	}
	T(lsetxattr("x", "security.test", "1", 1, 0));
	if (t == FILE_)
		T(put("x", "new text"));
	S("x");
}

static const struct {
	long uid, gid;
} owners[] = {{-1, -1}, {UID_OWNER, -1}, {UID_OTHER, -1}, {0, -1}, {-1, GID_OWNER},
	{-1, GID_SECOND}, {-1, GID_MEMBER}, {-1, 0}, {UID_OWNER, GID_SECOND}, {UID_MEMBER, GID_OWNER}};

static void own_calls(enum type t, mode_t mode)
{
	for (size_t i = 0; i < COUNT(owners); i++) {
		uid_t u = (uid_t)owners[i].uid;
		gid_t g = (gid_t)owners[i].gid;
		ctx("%s mode %o, chown %ld:%ld", type_names[t], mode, owners[i].uid, owners[i].gid);
		T(lchown("x", u, g));
		S("x");
		R(lchown("x", UID_OWNER, GID_OWNER));
		if (t != LINK)
			R(chmod("x", mode));
	}
}

static void make_x(enum type t, mode_t mode)
{
	R(mk_owned(t, "x", mode, UID_OWNER, GID_OWNER));
	if (t == DIR_)
		R(put("x/in", "in"));
	if (t == FILE_ || t == DIR_)
		R(setxattr("x", "user.a", "value", 5, 0));
	if (t == FILE_) {
		R(put("x", "some text"));
		R(chmod("x", mode));
	}
	if (t == LINK)
		R(put("target", "target"));
}

void test_permissions(void)
{
	for (int t = 0; t < TYPE_COUNT; t++) {
		for (size_t m = 0; m < (t == LINK ? 1 : COUNT(modes)); m++) {
			for (int w = 0; w < WHO_COUNT; w++) {
				fresh("permissions of a %s", type_names[t]);
				ctx("mode %o", modes[m]);
				make_x(t, modes[m]);
				as(w);
				S("x");
				read_calls(t);
				write_calls(t, modes[m]);
				if (m % 4 == 0 || modes[m] > 0777)
					own_calls(t, modes[m]);
			}
		}
	}
}

/* ---- what the directory's mode allows ---- */

static const mode_t dir_modes[] = {0000, 0100, 0300, 0500, 0700, 0010, 0030, 0050, 0070, 0001,
	0003, 0005, 0007, 0755, 0775, 0777, 01777, 01770, 01007, 02777, 03777};

static void dir_calls(void)
{
	struct stat s;
	T(lstat("d/f", &s));
	T(opens("d", O_RDONLY | O_DIRECTORY, 0));
	T(opens("d/f", O_RDONLY, 0));
	T(opens("d/new", O_CREAT | O_WRONLY, 0640));
	T(opens("d/newx", O_CREAT | O_EXCL | O_WRONLY, 0640));
	T(opens("d", O_TMPFILE | O_RDWR, 0600));
	T(mkdir("d/newdir", 0750));
	T(mkfifo("d/newfifo", 0640));
	T(mknod("d/newnode", S_IFREG | 0640, 0));
	T(mknod("d/newchr", S_IFCHR | 0640, 259));
	T(symlink("t", "d/newlink"));
	T(link("mine", "d/newhard"));
	T(link("d/f", "hard"));
	T(rename("d/f", "d/g"));
	T(rename("d/g", "d/f"));
	T(rename("mine", "d/moved"));
	T(rename("d/f", "out"));
	T(rename("out", "d/f"));
	T(rename("d/sub", "d/sub2"));
	T(rename("d/sub2", "subout"));
	T(rename("d/new", "d/f"));
	T(unlink("d/f"));
	T(rmdir("d/sub"));
	T(unlink("d/link"));
	T(unlink("d/none"));
	T(rmdir("d/newdir"));
}

static const uid_t entry_owners[] = {0, UID_OWNER, UID_OTHER};

void test_directory_permissions(void)
{
	for (size_t m = 0; m < COUNT(dir_modes); m++) {
		for (int w = 0; w < WHO_COUNT; w++) {
			for (size_t o = 0; o < COUNT(entry_owners); o++) {
				uid_t eo = entry_owners[o];
				fresh("entries of a directory");
				ctx("directory mode %o of the owner, entries of uid %u", dir_modes[m], eo);
				R(mk_owned(DIR_, "d", dir_modes[m], UID_OWNER, GID_OWNER));
				R(mk_owned(FILE_, "d/f", 0666, eo, eo));
				R(mk_owned(DIR_, "d/sub", 0777, eo, eo));
				R(mk_owned(LINK, "d/link", 0777, eo, eo));
				R(mk_owned(FILE_, "mine", 0666, eo, eo));
				as(w);
				dir_calls();
				TREE();
			}
		}
	}
}

/* ---- set-user-id, set-group-id, sticky, capabilities ---- */

static const mode_t priv_modes[] = {04777, 02777, 06777, 02767, 06767, 04666, 02666, 06666, 02676};

enum { OP_CHOWN_NOTHING = 7 };

static long fd_op(const char *path, int what)
{
	long r = -1;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	switch (what) {
	case 0: r = write(fd, "abc", 3); break;
	case 1: r = pwrite(fd, "abc", 3, 100); break;
	case 2: r = ftruncate(fd, 2); break;
	case 3: r = ftruncate(fd, 9); break; /* as long as before */
	case 4: r = fallocate(fd, 0, 0, 5000); break;
	case 5: r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4); break;
	case 6: r = fchmod(fd, 06755); break;
	case OP_CHOWN_NOTHING: r = fchown(fd, (uid_t)-1, (gid_t)-1); break;
	case 8: r = fchown(fd, UID_OWNER, (gid_t)-1); break;
	case 9: r = write(fd, "", 0); break;
	case 10: {
		int in = open("plain", O_RDONLY | O_CLOEXEC);
		r = in < 0 ? -1 : copy_file_range(in, NULL, fd, NULL, 5, 0);
		if (in >= 0)
			close(in);
		break;
	}
	case 11: r = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4); break;
	default: break;
	}
	int err = errno;
	close(fd);
	errno = err;
	return r;
}
#define FD_OPS 12

/* A v2 capability set: CAP_NET_BIND_SERVICE, effective. */
static const uint8_t caps_value[20] = {1, 0, 0, 2, 0, 4};

static void other_priv_calls(mode_t mode, enum who w)
{
	for (int op = 0; op < 5; op++) {
		R(put("x", "some text"));
		R(chown("x", UID_OWNER, GID_OWNER));
		R(chmod("x", mode));
		R(setxattr("x", "security.capability", caps_value, sizeof(caps_value), 0));
		ctx("mode %o, path operation %d", mode, op);
		as(w);
		switch (op) {
		case 0: T(truncate("x", 4)); break;
		case 1: T(opens("x", O_WRONLY | O_TRUNC, 0)); break;
		case 2: T(chown("x", (uid_t)-1, GID_SECOND)); break;
		case 3: T(chown("x", UID_OWNER, GID_OWNER)); break;
		default: T(chmod("x", mode)); break;
		}
		S("x");
		T(getxattr("x", "security.capability", NULL, 0));
	}
}

void test_privilege_bits(void)
{
	for (size_t m = 0; m < COUNT(priv_modes); m++) {
		for (int w = 0; w < WHO_COUNT; w++) {
			fresh("privilege bits of a file");
			R(put("plain", "plain text"));
			for (int op = 0; op < FD_OPS; op++) {
				R(put("x", "some text"));
				R(chown("x", UID_OWNER, GID_OWNER));
				R(chmod("x", priv_modes[m]));
				/* A chown of nothing on a file with a capability reaches a FUSE filesystem as the very
				 * request that drops the capability before a write; told apart only without one. */
				if (op != OP_CHOWN_NOTHING)
					R(setxattr("x", "security.capability", caps_value, sizeof(caps_value), 0));
				ctx("mode %o, descriptor operation %d", priv_modes[m], op);
				as(w);
				T(fd_op("x", op));
				S("x");
				T(getxattr("x", "security.capability", NULL, 0));
			}
			other_priv_calls(priv_modes[m], w);
		}
	}
	/* Directories hand down their group and the bit itself. */
	for (int w = 0; w < WHO_COUNT; w++) {
		static const mode_t masks[] = {0, 022, 077};
		for (size_t u = 0; u < COUNT(masks); u++) {
			for (int t = 0; t < TYPE_COUNT; t++) {
				if ((t == BLOCK || t == CHAR) && w != ROOT)
					continue;
				fresh("a new %s in a set-group-id directory", type_names[t]);
				R(mk_owned(DIR_, "d", 02777, 0, GID_OWNER));
				R(mk_owned(DIR_, "plain", 0777, 0, GID_OWNER));
				as(w);
				use_umask = masks[u];
				ctx("umask %o", masks[u]);
				T(mk(t, "d/a", 0777));
				T(mk(t, "d/b", 06777));
				T(mk(t, "d/c", 01777));
				T(mk(t, "plain/a", 06777));
				if (t != LINK) {
					T(chmod("d/a", 02711));
					T(chmod("d/a", 06711));
					T(chmod("d/a", 01711));
					T(chmod("d/b", 02755));
				}
				T(rename("plain/a", "d/moved"));
				TREE();
			}
		}
	}
}
