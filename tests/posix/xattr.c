/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes and POSIX ACLs. */
#include "diff.h"

#include <sys/xattr.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char big[70000];

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A hash of the sorted names; the order is anybody's own. */
static long names(const char *path)
{
	static char list[70000];
	char *sorted[2000];
	size_t n = 0;
	uint64_t h = HASH_START;
	ssize_t len = llistxattr(path, list, sizeof(list));
	if (len < 0)
		return -1;
	for (char *p = list; p < list + len && n < COUNT(sorted); p += strlen(p) + 1)
		sorted[n++] = p;
	qsort(sorted, n, sizeof(*sorted), by_text);
	for (size_t i = 0; i < n; i++)
		h = hash_bytes(h, sorted[i], strlen(sorted[i]) + 1);
	return (long)(h >> 2);
}

static long value(const char *path, const char *name)
{
	static char buf[70000];
	ssize_t n = lgetxattr(path, name, buf, sizeof(buf));
	return n < 0 ? -1 : (long)(hash_bytes(HASH_START, buf, (size_t)n) >> 2);
}

static const char *const name_table[] = {"user.a", "user.", "user.A", "user.a b", "user.\xff\x01",
	"user.posix", "user.bcfs.x", "trusted.a", "trusted.", "trusted.bcfs.y", "security.a",
	"security.", "system.a", "system.posix_acl_access", "nothing.a", "noprefix", "", "user",
	"user.overlay.opaque", "trusted.overlay.opaque"};

static void calls(const char *path)
{
	char buf[100];
	for (size_t i = 0; i < COUNT(name_table); i++) {
		const char *n = name_table[i];
		ctx("%s, \"%s\"", path, n);
		T(lgetxattr(path, n, buf, sizeof(buf)));
		T(lsetxattr(path, n, "value", 5, XATTR_REPLACE));
		T(lsetxattr(path, n, "value", 5, XATTR_CREATE));
		T(lsetxattr(path, n, "again", 5, XATTR_CREATE));
		T(lsetxattr(path, n, "longer value", 12, XATTR_REPLACE));
		T(value(path, n));
		T(lgetxattr(path, n, NULL, 0));
		T(lgetxattr(path, n, buf, 3));
		T(lgetxattr(path, n, buf, 12));
		T(lsetxattr(path, n, "", 0, 0));
		T(lgetxattr(path, n, buf, sizeof(buf)));
		T(lsetxattr(path, n, "v", 1, XATTR_CREATE | XATTR_REPLACE));
		T(lsetxattr(path, n, "v", 1, 8));
		T(names(path));
		if (i % 2) {
			T(lremovexattr(path, n));
			T(lremovexattr(path, n));
		}
		T(names(path));
	}
}

static void sizes(void)
{
	static const size_t lens[] = {0, 1, 15, 16, 17, 64, 255, 256, 1000, 2000, 2800, 65537, 66000};
	fresh("sizes of values");
	R(put("f", "x"));
	for (size_t i = 0; i < COUNT(lens); i++) {
		ctx("%zu bytes", lens[i]);
		T(setxattr("f", "user.size", big, lens[i], 0));
		T(value("f", "user.size"));
		T(getxattr("f", "user.size", NULL, 0));
		T(names("f"));
	}
	R(removexattr("f", "user.size"));
	for (size_t len = 1; len <= 252; len += len < 100 ? 7 : 3) {
		char name[300] = "user.";
		memset(name + 5, 'k', len);
		name[5 + len] = 0;
		ctx("name of %zu bytes", len + 5);
		T(setxattr("f", name, name, 10, 0));
		T(value("f", name));
		T(names("f"));
		T(listxattr("f", NULL, 0));
		T(removexattr("f", name));
	}
	char list[10];
	R(setxattr("f", "user.number1", "v", 1, 0));
	T(listxattr("f", list, 1));
	T(listxattr("f", list, sizeof(list)));
	for (int i = 0; i < 12; i++) {
		char name[32];
		snprintf(name, sizeof(name), "user.many%d", i);
		T(setxattr("f", name, name, strlen(name), 0));
		T(names("f"));
	}
}

void test_xattrs(void)
{
	memset(big, 'v', sizeof(big));
	for (int t = 0; t < TYPE_COUNT; t++) {
		for (int w = 0; w < WHO_COUNT; w++) {
			fresh("xattrs of a %s", type_names[t]);
			R(mk_owned(t, "x", 0644, UID_OWNER, GID_OWNER));
			if (t == LINK)
				R(put("target", "x"));
			as(w);
			calls("x");
			TREE();
		}
	}
	static const mode_t modes[] = {01777, 0777, 0444, 0222};
	for (size_t m = 0; m < COUNT(modes); m++) {
		for (int w = 0; w < WHO_COUNT; w++) {
			fresh("xattrs and modes");
			ctx("mode %o", modes[m]);
			R(mk_owned(DIR_, "d", modes[m], UID_OWNER, GID_OWNER));
			R(mk_owned(FILE_, "f", modes[m], UID_OWNER, GID_OWNER));
			as(w);
			T(setxattr("d", "user.a", "1", 1, 0));
			T(setxattr("f", "user.a", "1", 1, 0));
			T(value("d", "user.a"));
			T(value("f", "user.a"));
			T(setxattr("f", "trusted.a", "1", 1, 0));
			T(setxattr("f", "security.a", "1", 1, 0));
			T(names("f"));
			T(names("d"));
			T(removexattr("f", "user.a"));
		}
	}
	sizes();
	fresh("xattrs that move along");
	R(put("f", "x"));
	R(put("g", "y"));
	R(mkdir("d", 0755));
	R(setxattr("f", "user.keep", "kept", 4, 0));
	R(setxattr("d", "user.keep", "kept2", 5, 0));
	R(setxattr("f", "trusted.keep", "kept3", 5, 0));
	T(rename("f", "d/f2"));
	T(link("d/f2", "f3"));
	T(rename("d", "e"));
	T(value("e", "user.keep"));
	T(value("e/f2", "user.keep"));
	T(value("f3", "trusted.keep"));
	T(rename("e/f2", "g"));
	T(value("g", "user.keep"));
	T(truncate("g", 0));
	T(value("g", "user.keep"));
	T(names("g"));
}

/* ---- ACLs, in the form the kernel takes ---- */

struct ace {
	uint16_t tag, perm;
	uint32_t id;
};

#define ACL_MAX 8

struct acl {
	const char *name;
	int count;
	struct ace e[ACL_MAX];
};

#define NOBODY_ID ((uint32_t)-1)

static const struct acl acls[] = {
	{"minimal", 3, {{1, 6, NOBODY_ID}, {4, 4, NOBODY_ID}, {32, 4, NOBODY_ID}}},
	{"minimal, all", 3, {{1, 7, NOBODY_ID}, {4, 7, NOBODY_ID}, {32, 7, NOBODY_ID}}},
	{"user", 5, {{1, 6, NOBODY_ID}, {2, 6, UID_OTHER}, {4, 4, NOBODY_ID}, {16, 6, NOBODY_ID}, {32, 0, NOBODY_ID}}},
	{"user, masked", 5, {{1, 7, NOBODY_ID}, {2, 7, UID_OTHER}, {4, 5, NOBODY_ID}, {16, 4, NOBODY_ID}, {32, 7, NOBODY_ID}}},
	{"user refused", 5, {{1, 7, NOBODY_ID}, {2, 0, UID_OTHER}, {4, 7, NOBODY_ID}, {16, 7, NOBODY_ID}, {32, 7, NOBODY_ID}}},
	{"group", 5, {{1, 7, NOBODY_ID}, {4, 0, NOBODY_ID}, {8, 7, GID_OTHER}, {16, 7, NOBODY_ID}, {32, 0, NOBODY_ID}}},
	{"owner's group as entry", 5, {{1, 7, NOBODY_ID}, {4, 1, NOBODY_ID}, {8, 6, GID_OWNER}, {16, 7, NOBODY_ID}, {32, 0, NOBODY_ID}}},
	{"several", 8, {{1, 7, NOBODY_ID}, {2, 5, UID_MEMBER}, {2, 3, UID_OTHER}, {4, 4, NOBODY_ID}, {8, 6, GID_OTHER}, {8, 1, GID_SECOND}, {16, 7, NOBODY_ID}, {32, 1, NOBODY_ID}}},
	{"no mask", 4, {{1, 6, NOBODY_ID}, {2, 6, UID_OTHER}, {4, 4, NOBODY_ID}, {32, 0, NOBODY_ID}}},
	{"no owner", 2, {{4, 4, NOBODY_ID}, {32, 4, NOBODY_ID}}},
	{"order", 3, {{32, 4, NOBODY_ID}, {4, 4, NOBODY_ID}, {1, 6, NOBODY_ID}}},
	{"permission bits", 3, {{1, 15, NOBODY_ID}, {4, 4, NOBODY_ID}, {32, 4, NOBODY_ID}}},
	{"empty", 0, {{0, 0, 0}}},
};

static const char *const acl_names[2] = {"system.posix_acl_access", "system.posix_acl_default"};

static long set_acl(const char *path, int which, const struct acl *a, int fault)
{
	uint8_t buf[4 + 8 * ACL_MAX + 3] = {2, 0, 0, 0};
	for (int i = 0; i < a->count; i++)
		memcpy(buf + 4 + 8 * i, &a->e[i], 8);
	if (fault == 1)
		buf[0] = 3; /* version */
	return setxattr(path, acl_names[which], buf, 4 + 8 * (size_t)a->count + (fault == 2 ? 3 : 0), 0);
}

static void attempts(const char *path)
{
	for (int w = 0; w < WHO_COUNT; w++) {
		as(w);
		T(opens(path, O_RDONLY, 0));
		T(opens(path, O_WRONLY, 0));
		T(faccessat(AT_FDCWD, path, X_OK, AT_EACCESS));
		T(faccessat(AT_FDCWD, path, W_OK, AT_EACCESS));
	}
	as(ROOT);
}

static void access_acls(void)
{
	for (int t = 0; t < TYPE_COUNT; t++) {
		for (size_t a = 0; a < COUNT(acls); a++) {
			for (int w = 0; w < 3; w++) {
				static const enum who setters[] = {ROOT, OWNER, OTHER};
				fresh("access ACL of a %s", type_names[t]);
				ctx("\"%s\"", acls[a].name);
				R(mk_owned(t, "x", 02664, UID_OWNER, GID_OWNER));
				if (t == LINK)
					R(mk_owned(FILE_, "target", 0664, UID_OWNER, GID_OWNER));
				as(setters[w]);
				T(set_acl("x", 0, &acls[a], 0));
				T(set_acl("x", 0, &acls[a], 1));
				T(set_acl("x", 0, &acls[a], 2));
				S("x");
				T(value("x", acl_names[0]));
				T(names("x"));
				if (t == FILE_ || t == DIR_)
					attempts("x");
				as(setters[w]);
				if (t != LINK) {
					T(chmod("x", 0640));
					S("x");
					T(value("x", acl_names[0]));
					T(chmod("x", 0777));
					S("x");
					T(value("x", acl_names[0]));
				}
				T(lremovexattr("x", acl_names[0]));
				S("x");
				T(value("x", acl_names[0]));
				T(lremovexattr("x", acl_names[0]));
			}
		}
	}
}

static void default_acls(void)
{
	static const mode_t masks[] = {022, 0, 077};
	for (size_t a = 0; a < COUNT(acls); a++) {
		for (size_t m = 0; m < COUNT(masks); m++) {
			fresh("default ACL");
			ctx("\"%s\", umask %o", acls[a].name, masks[m]);
			R(mk_owned(DIR_, "d", 0777, UID_OWNER, GID_OWNER));
			R(put("file", "x"));
			T(set_acl("file", 1, &acls[a], 0));
			as(OTHER);
			T(set_acl("d", 1, &acls[a], 0));
			as(OWNER);
			T(set_acl("d", 1, &acls[a], 0));
			S("d");
			T(value("d", acl_names[1]));
			use_umask = masks[m];
			for (int t = 0; t < TYPE_COUNT; t++) {
				char path[32], sub[64];
				if (t == BLOCK || t == CHAR)
					continue;
				snprintf(path, sizeof(path), "d/%s", type_names[t]);
				T(mk(t, path, 0666));
				S(path);
				if (t == LINK)
					continue;
				T(value(path, acl_names[0]));
				T(value(path, acl_names[1]));
				T(names(path));
				if (t != DIR_)
					continue;
				snprintf(sub, sizeof(sub), "%s/in", path);
				R(chmod(path, 0777));
				T(mk(FILE_, sub, 0777));
				T(value(sub, acl_names[0]));
				attempts(sub);
			}
			as(OWNER);
			T(opens("d", O_TMPFILE | O_RDWR, 0666));
			attempts("d/file");
			attempts("d/dir");
			as(OWNER);
			T(removexattr("d", acl_names[1]));
			T(mk(FILE_, "d/after", 0666));
			S("d/after");
			T(value("d/after", acl_names[0]));
		}
	}
}

void test_acls(void)
{
	access_acls();
	default_acls();
}
