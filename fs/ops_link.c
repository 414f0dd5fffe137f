/* SPDX-License-Identifier: Apache-2.0 */
/* ops_link - symlinks.  crypto/FORMAT.md section 6. */
#include "fs/fsys_internal.h"

#include "fs/ops_link.h"
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define TARGET_MAX  4095u /* plaintext bytes */
#define TEXT_MAX    5600u /* base64url of the largest blob, with NUL */
#define HEAD_CHARS  1001u /* of a long target's text: no text has this length by itself */
#define PIECE_CHARS 1000u /* XFS holds 1023 in a symlink, others 4095 */
#define MAX_PIECES  ((TEXT_MAX - HEAD_CHARS) / PIECE_CHARS + 1)

_Static_assert(LINK_HEAD_MAX > HEAD_CHARS, "room for a head");

/* "S.<hash of the first part>.<k>": where piece k (from 1) of the rest of a long target is. */
static int piece_name(struct fsys *fs, const char head[static HEAD_CHARS], unsigned k, char out[static NAME_ENC_MAX])
{
	uint8_t hash[32];
	enum err e = fips_sha256(volkeys_fips(fs->vk), head, HEAD_CHARS, hash);
	size_t n;

	if (e != ERR_OK)
		return err_to_errno(e);
	memcpy(out, "S.", sizeof("S."));
	b64_encode(hash, sizeof(hash), out + 2);
	n = strlen(out);
	snprintf(out + n, NAME_ENC_MAX - n, ".%u", k);
	return 0;
}

void link_rest_remove(struct fsys *fs, const char head[static LINK_HEAD_MAX])
{
	char name[NAME_ENC_MAX];

	for (unsigned k = 1; k <= MAX_PIECES; k++) {
		if (piece_name(fs, head, k, name) != 0 || unlinkat(fs->root.dirfd, name, 0) != 0)
			return;
	}
}

/* Makes them; rest: the text behind the head. */
static int pieces_make(struct fsys *fs, const char head[static LINK_HEAD_MAX], const char *rest)
{
	char name[NAME_ENC_MAX], piece[PIECE_CHARS + 1];
	int rc = 0;

	for (unsigned k = 1; *rest && rc == 0; k++) {
		size_t n = strnlen(rest, PIECE_CHARS);

		memcpy(piece, rest, n);
		piece[n] = '\0';
		rest += n;
		rc = piece_name(fs, head, k, name);
		if (rc == 0 && symlinkat(piece, fs->root.dirfd, name) != 0)
			rc = errno;
	}
	if (rc != 0)
		link_rest_remove(fs, head);
	return rc;
}

/* Length of the plaintext target whose text has so many characters. */
static off_t target_len(size_t text_len)
{
	size_t blob = text_len / 4 * 3 + (text_len % 4 ? text_len % 4 - 1 : 0);

	return blob > BLOB_OVERHEAD ? (off_t)(blob - BLOB_OVERHEAD) : 0;
}

/* Reads the rest of a long target behind the HEAD_CHARS characters in text; *len is their number so far. */
static int read_rest(struct fsys *fs, const struct inode *i, char text[static TEXT_MAX], size_t *len)
{
	char name[NAME_ENC_MAX];
	int rc = 0;

	for (unsigned k = 1; k <= MAX_PIECES; k++) {
		ssize_t more;

		rc = piece_name(fs, text, k, name);
		if (rc != 0)
			return rc;
		more = readlinkat(fs->root.dirfd, name, text + *len, TEXT_MAX - *len);
		if (more < 0 && errno == ENOENT && k > 1)
			return 0;
		if (more < 0)
			return errno == ENOENT ? damage(fs, "end of a symlink missing", i->key.ino, UINT64_MAX) : errno;
		*len += (size_t)more;
		if ((size_t)more < PIECE_CHARS || *len >= TEXT_MAX)
			return 0;
	}
	return 0;
}

/* The whole text of the symlink i. */
static int read_text(struct fsys *fs, struct inode *i, char text[static TEXT_MAX], size_t *len)
{
	int fd = inode_open(fs, i, O_PATH), rc = 0;
	ssize_t n;

	if (fd < 0)
		return -fd;
	n = readlinkat(fd, "", text, HEAD_CHARS + 1);
	if (n < 0)
		rc = errno;
	close(fd);
	*len = n < 0 ? 0 : (size_t)n;
	if (rc == 0 && *len == HEAD_CHARS)
		rc = read_rest(fs, i, text, len);
	return rc;
}

int link_size(struct fsys *fs, struct inode *i, off_t backing, off_t *out)
{
	char text[TEXT_MAX];
	size_t len = (size_t)backing;
	int rc = 0;

	if (len >= HEAD_CHARS)
		rc = read_text(fs, i, text, &len);
	*out = target_len(len);
	return rc;
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fsys *fs = fsys_of(req);
	struct inode *i = inode_of(fs, ino);
	char text[TEXT_MAX], target[TARGET_MAX + 1];
	uint8_t blob[TEXT_MAX];
	size_t len = 0, text_len = 0, blob_len;
	int rc = read_text(fs, i, text, &text_len);

	if (rc == 0) {
		enum err e = b64_decode(text, text_len, blob, sizeof(blob), &blob_len);

		if (e == ERR_OK && (blob_len <= BLOB_OVERHEAD || blob_len - BLOB_OVERHEAD > TARGET_MAX))
			e = ERR_CORRUPT;
		if (e == ERR_OK) {
			len = blob_len - BLOB_OVERHEAD;
			e = blob_open(fs->vk, BLOB_SYMLINK, NULL, 0, blob, blob_len, target);
		}
		rc = crypt_errno(fs, e, "symlink", i->key.ino, UINT64_MAX);
	}
	if (rc != 0) {
		reply_err(req, rc);
	} else {
		target[len] = '\0';
		reply_readlink(req, target);
	}
	secret_wipe(target, sizeof(target));
}

/* Makes the backing symlink (dir, enc) for the caller, and the pieces of a long text before it. */
static int make_link(fuse_req_t req, struct inode *dir, const char *enc, char text[static TEXT_MAX])
{
	struct fsys *fs = fsys_of(req);
	bool is_long = strlen(text) >= HEAD_CHARS;
	struct creds creds;
	int rc = is_long ? pieces_make(fs, text, text + HEAD_CHARS) : 0;

	if (rc != 0)
		return rc;
	if (is_long)
		text[HEAD_CHARS] = '\0';
	creds_take(req, &creds);
	rc = symlinkat(text, dir->dirfd, enc) == 0 ? 0 : errno;
	creds_drop(fs, &creds);
	if (rc != 0 && is_long)
		link_rest_remove(fs, text);
	return rc;
}

void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	struct fsys *fs = fsys_of(req);
	struct inode *dir = inode_of(fs, parent);
	size_t len = strlen(link);
	char text[TEXT_MAX];
	uint8_t blob[TARGET_MAX + BLOB_OVERHEAD];
	struct fuse_entry_param e = {0};
	struct enc_name enc;
	int rc = len > TARGET_MAX ? ENAMETOOLONG : len == 0 ? ENOENT : dir_get(fs, dir);

	if (rc != 0) {
		reply_err(req, rc);
		return;
	}
	rc = entry_seal(fs, dir, name, &enc);
	if (rc == 0)
		rc = err_to_errno(blob_seal(fs->vk, BLOB_SYMLINK, NULL, 0, link, len, blob));
	if (rc == 0)
		rc = side_make(fs, dir, &enc);
	if (rc == 0) {
		b64_encode(blob, len + BLOB_OVERHEAD, text);
		rc = make_link(req, dir, enc.text, text);
		if (rc != 0 && rc != EEXIST)
			side_remove(fs, dir, &enc);
	}
	if (rc == 0)
		rc = entry_reply_fill(fs, dir, enc.text, &e);
	dir_put(fs, dir);
	if (rc != 0)
		reply_err(req, rc);
	else if (reply_entry(req, &e) != 0)
		inode_forget(fs, inode_of(fs, e.ino), 1);
}

bool link_head(struct inode *dir, const char *enc, char head[static LINK_HEAD_MAX])
{
	struct stat st;

	return fstatat(dir->dirfd, enc, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) &&
	       st.st_size == (off_t)HEAD_CHARS && st.st_nlink == 1 &&
	       readlinkat(dir->dirfd, enc, head, LINK_HEAD_MAX) == (ssize_t)HEAD_CHARS;
}
