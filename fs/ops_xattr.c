/* SPDX-License-Identifier: Apache-2.0 */
/* ops_xattr - extended attributes, names and values encrypted; POSIX ACLs as they are.  crypto/FORMAT.md section 6. */
#include "fs/fsys_internal.h"

#include "fs/bufpool.h"
#include "fs/content.h"
#include "fs/xattr.h"
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define VALUE_MAX	 65536u /* XATTR_SIZE_MAX */
#define PREFIX_USER	 "user.bcfs."
#define PREFIX_TRUSTED	 "trusted.bcfs."
#define CAPABILITY	 "security.capability"
#define BACKING_NAME_MAX (sizeof(PREFIX_TRUSTED) + NAME_ENC_MAX)
/* the largest blob: length of the name, name, value */
#define BLOB_MAX (2u + 255u + VALUE_MAX + BLOB_OVERHEAD)

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

/* The backing name of a plaintext one. */
static int backing_name(struct fsys *fs, const char *name, char out[static BACKING_NAME_MAX])
{
	const char *prefix;
	char text[NAME_ENC_MAX];
	int rc;

	if (strncmp(name, "user.", 5) == 0)
		prefix = PREFIX_USER;
	else if (strncmp(name, "trusted.", 8) == 0 || strncmp(name, "security.", 9) == 0)
		prefix = fs->trusted_xattr ? PREFIX_TRUSTED : NULL;
	else
		return EOPNOTSUPP;
	if (!strchr(name, '.')[1])
		return EINVAL;
	if (!prefix)
		return EPERM; /* kept in trusted.*, for which the daemon lacks CAP_SYS_ADMIN */
	rc = err_to_errno(xattr_name_seal(fs->vk, name, text));
	if (rc == 0)
		snprintf(out, BACKING_NAME_MAX, "%s%s", prefix, text);
	return rc;
}

/* What a value is bound to: the file or directory it belongs to; links and devices have no id.  (Its name is inside.)
 */
static int owner_id(struct fsys *fs, struct inode *i, uint8_t id[static ID_BYTES])
{
	int rc = 0;

	memset(id, 0xff, ID_BYTES);
	if (i->type == S_IFDIR) {
		rc = dir_get(fs, i);
		if (rc == 0) {
			memcpy(id, i->id, ID_BYTES);
			dir_put(fs, i);
		}
	} else if (i->type == S_IFREG) {
		struct content *c;

		rc = content_open(fs, i, false, -1, &c);
		if (rc == 0) {
			rc = content_file_id(fs, c, id);
			content_close(fs, c);
		}
	}
	return rc;
}

/* Runs a call that has no *at form: on /proc/self/fd of an O_PATH descriptor. */
struct target {
	int fd;
	char path[PROC_FD_PATH];
};

static int target_open(struct fsys *fs, struct inode *i, struct target *t)
{
	t->fd = inode_open(fs, i, O_PATH);
	if (t->fd < 0)
		return -t->fd;
	proc_fd(t->path, t->fd);
	return 0;
}

/* ---- set ---- */

static int set_sealed(struct fsys *fs, struct inode *i, const char *name, const char *value, size_t size, int flags)
{
	char enc[BACKING_NAME_MAX];
	uint8_t id[ID_BYTES], *plain, *blob;
	size_t n = strlen(name), len = 2 + n + size;
	struct target t = {.fd = -1};
	int rc = backing_name(fs, name, enc);

	if (rc == 0)
		rc = owner_id(fs, i, id);
	if (rc != 0)
		return rc;
	plain = buf_get(BUF_LOCKED, BLOB_MAX);
	blob = buf_get(BUF_PLAIN, BLOB_MAX);
	if (!plain || !blob) {
		rc = ENOMEM;
	} else {
		plain[0] = (uint8_t)(n >> 8);
		plain[1] = (uint8_t)n;
		/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): its length goes before it, no zero after */
		memcpy(plain + 2, name, n);
		if (size > 0)
			memcpy(plain + 2 + n, value, size);
		rc = err_to_errno(blob_seal(fs->vk, BLOB_XATTR_VALUE, id, ID_BYTES, plain, len, blob));
	}
	if (rc == 0)
		rc = target_open(fs, i, &t);
	if (rc == 0 && setxattr(t.path, enc, blob, len + BLOB_OVERHEAD, flags) != 0)
		/* a value that fits VFS limits but, sealed, no longer does */
		rc = errno == E2BIG || errno == ERANGE ? ENOSPC : errno;
	if (t.fd >= 0)
		close(t.fd);
	buf_put(BUF_LOCKED, plain, BLOB_MAX);
	buf_put(BUF_PLAIN, blob, BLOB_MAX);
	return rc;
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	int rc;

	if (is_acl(name)) {
		struct target t;

		rc = target_open(fs, i, &t);
		if (rc == 0) {
			rc = setxattr(t.path, name, value, size, flags) == 0 ? 0 : errno;
			close(t.fd);
		}
	} else {
		rc = set_sealed(fs, i, name, value, size, flags);
		if (strcmp(name, CAPABILITY) == 0)
			atomic_store(&i->caps, CAPS_UNKNOWN);
	}
	reply_err(req, rc);
}

/* ---- get ---- */

/*
 * Opens the backing attribute enc of i: *buf is a new locked buffer of BLOB_MAX bytes with u16 name length, name and
 * value, *len bytes in all. ENODATA if there is none.  The caller puts *buf back in any case.
 */
static int get_blob(struct fsys *fs, struct inode *i, const char *path, const char *enc, uint8_t **buf, size_t *len)
{
	uint8_t id[ID_BYTES], *blob;
	ssize_t got;
	enum err e;
	int rc;

	*buf = NULL;
	/* mostly there is none: find that out before anything else */
	if (getxattr(path, enc, NULL, 0) < 0)
		return errno;
	blob = buf_get(BUF_PLAIN, BLOB_MAX);
	*buf = buf_get(BUF_LOCKED, BLOB_MAX);
	rc = blob && *buf ? owner_id(fs, i, id) : ENOMEM;
	if (rc == 0) {
		got = getxattr(path, enc, blob, BLOB_MAX);
		if (got < 0) {
			rc = errno;
		} else {
			e = (size_t)got < BLOB_OVERHEAD + 2
				    ? ERR_CORRUPT
				    : blob_open(fs->vk, BLOB_XATTR_VALUE, id, ID_BYTES, blob, (size_t)got, *buf);
			*len = (size_t)got - BLOB_OVERHEAD;
			if (e == ERR_OK && 2u + ((size_t)(*buf)[0] << 8 | (*buf)[1]) > *len)
				e = ERR_CORRUPT;
			rc = crypt_errno(fs, e, "extended attribute", i->key.ino, UINT64_MAX);
		}
	}
	buf_put(BUF_PLAIN, blob, BLOB_MAX);
	return rc;
}

static int get_sealed(
	struct fsys *fs, struct inode *i, const char *name, uint8_t **buf, const uint8_t **value, size_t *size)
{
	char enc[BACKING_NAME_MAX];
	size_t n = strlen(name), len = 0;
	struct target t;
	int rc = backing_name(fs, name, enc);

	*buf = NULL;
	if (rc == EPERM)
		rc = ENODATA;
	if (rc == 0)
		rc = target_open(fs, i, &t);
	if (rc != 0)
		return rc;
	rc = get_blob(fs, i, t.path, enc, buf, &len);
	close(t.fd);
	if (rc != 0)
		return rc;
	if (((size_t)(*buf)[0] << 8 | (*buf)[1]) != n || memcmp(*buf + 2, name, n) != 0)
		return damage(fs, "extended attribute of another name", i->key.ino, UINT64_MAX);
	*value = *buf + 2 + n;
	*size = len - 2 - n;
	return 0;
}

static void reply_value(fuse_req_t req, int rc, const void *value, size_t have, size_t room)
{
	if (rc == 0 && room > 0 && have > room)
		rc = ERANGE;
	if (rc != 0)
		reply_err(req, rc);
	else if (room == 0)
		reply_xattr(req, have);
	else
		reply_buf(req, value, have);
}

static void get_acl(fuse_req_t req, struct fsys *fs, struct inode *i, const char *name, size_t size)
{
	char *value = buf_get(BUF_PLAIN, VALUE_MAX);
	struct target t;
	ssize_t got = -1;
	int rc = value ? target_open(fs, i, &t) : ENOMEM;

	if (rc == 0) {
		got = getxattr(t.path, name, value, VALUE_MAX);
		rc = got < 0 ? errno : 0;
		close(t.fd);
	}
	reply_value(req, rc, value, got < 0 ? 0 : (size_t)got, size);
	buf_put(BUF_PLAIN, value, VALUE_MAX);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	const uint8_t *value = NULL;
	uint8_t *buf;
	size_t have = 0;
	int rc;

	if (is_acl(name)) {
		get_acl(req, fs, i, name, size);
		return;
	}
	if (strcmp(name, CAPABILITY) == 0 && atomic_load(&i->caps) == CAPS_NONE) {
		reply_err(req, ENODATA); /* asked before every write and exec */
		return;
	}
	rc = get_sealed(fs, i, name, &buf, &value, &have);
	if (strcmp(name, CAPABILITY) == 0 && (rc == 0 || rc == ENODATA))
		atomic_store(&i->caps, rc == 0 ? CAPS_SOME : CAPS_NONE);
	reply_value(req, rc, value, have, size);
	buf_put(BUF_LOCKED, buf, BLOB_MAX);
}

/* ---- list ---- */

struct listing {
	char *out;
	size_t len, cap;
};

static int list_add(struct listing *l, const char *name)
{
	size_t n = strlen(name) + 1;

	if (l->len + n > l->cap)
		return ERANGE;
	memcpy(l->out + l->len, name, n);
	l->len += n;
	return 0;
}

/* The name of an attribute whose sealed name is too long for one is in its value. */
static int long_name(struct fsys *fs, struct inode *i, const char *path, const char *enc, char out[static 256])
{
	uint8_t *buf;
	size_t len = 0, n;
	int rc = get_blob(fs, i, path, enc, &buf, &len);

	if (rc == 0 && buf) {
		n = (size_t)buf[0] << 8 | buf[1];
		if (n > 255) {
			rc = damage(fs, "name of an extended attribute", i->key.ino, UINT64_MAX);
		} else {
			memcpy(out, buf + 2, n);
			out[n] = '\0';
		}
	}
	buf_put(BUF_LOCKED, buf, BLOB_MAX);
	return rc;
}

static int list_one(struct fsys *fs, struct inode *i, const char *path, const char *backing, struct listing *l)
{
	char name[256];
	const char *text = NULL;
	int rc;

	if (is_acl(backing))
		return list_add(l, backing);
	if (strncmp(backing, PREFIX_USER, sizeof(PREFIX_USER) - 1) == 0)
		text = backing + sizeof(PREFIX_USER) - 1;
	else if (strncmp(backing, PREFIX_TRUSTED, sizeof(PREFIX_TRUSTED) - 1) == 0)
		text = backing + sizeof(PREFIX_TRUSTED) - 1;
	if (!text)
		return 0; /* somebody else's, such as security.selinux of the backing file */
	if (strncmp(text, "L.", 2) == 0)
		rc = long_name(fs, i, path, backing, name);
	else
		rc = crypt_errno(fs, xattr_name_open(fs->vk, text, strlen(text), name), "name of an extended attribute",
			i->key.ino, UINT64_MAX);
	return rc != 0 ? rc : list_add(l, name);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	struct listing l = {.cap = VALUE_MAX};
	char *backing = buf_get(BUF_PLAIN, VALUE_MAX);
	struct target t;
	ssize_t got = 0;
	int rc;

	/* not locked: a second locked buffer, for a value, may be needed on the way (see bufpool.h); wiped instead */
	l.out = buf_get(BUF_PLAIN, VALUE_MAX);
	rc = backing && l.out ? target_open(fs, i, &t) : ENOMEM;
	if (rc == 0) {
		got = listxattr(t.path, backing, VALUE_MAX);
		rc = got < 0 ? errno : 0;
		for (ssize_t at = 0; rc == 0 && at < got; at += (ssize_t)strlen(backing + at) + 1)
			rc = list_one(fs, i, t.path, backing + at, &l);
		close(t.fd);
	}
	reply_value(req, rc, l.out, l.len, size);
	buf_put(BUF_PLAIN, backing, VALUE_MAX);
	if (l.out)
		secret_wipe(l.out, l.len);
	buf_put(BUF_PLAIN, l.out, VALUE_MAX);
}

/* ---- remove ---- */

static int remove_sealed(struct fsys *fs, struct inode *i, const char *name)
{
	char enc[BACKING_NAME_MAX];
	struct target t;
	int rc = backing_name(fs, name, enc);

	if (rc == 0)
		rc = target_open(fs, i, &t);
	if (rc != 0)
		return rc;
	if (removexattr(t.path, enc) != 0)
		rc = errno;
	close(t.fd);
	return rc;
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	struct target t;
	int rc;

	if (is_acl(name)) {
		rc = target_open(fs, i, &t);
		if (rc == 0) {
			rc = removexattr(t.path, name) == 0 ? 0 : errno;
			close(t.fd);
		}
	} else {
		rc = remove_sealed(fs, i, name);
	}
	reply_err(req, rc);
}

void xattr_drop_caps(struct fsys *fs, struct inode *i, int fd)
{
	uint8_t known = atomic_load(&i->caps);
	char enc[BACKING_NAME_MAX], proc[PROC_FD_PATH];

	if (known == CAPS_NONE || i->type != S_IFREG || !fs->trusted_xattr)
		return;
	if (backing_name(fs, CAPABILITY, enc) != 0)
		return;
	if (removexattr(proc_fd(proc, fd), enc) == 0 || errno == ENODATA || errno == EOPNOTSUPP)
		atomic_store(&i->caps, CAPS_NONE);
}
