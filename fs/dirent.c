/* SPDX-License-Identifier: Apache-2.0 */
/* dirent - names below: sealing, side links of long names, directory ids, emptiness.  crypto/FORMAT.md sections 2
 * and 5. */
#include "fs/fsys_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

int entry_seal(struct fsys *fs, struct inode *dir, const char *name, struct enc_name *out)
{
	return err_to_errno(name_seal(fs->vk, dir->id, name, strlen(name), out));
}

bool name_is_internal(const char *name, bool in_root)
{
	if (name[0] == '.' || strncmp(name, "N.", 2) == 0 || strcmp(name, DIR_ID_LINK) == 0)
		return true;
	return in_root && (strncmp(name, "S.", 2) == 0 || strncmp(name, "blobcryptfs.", 12) == 0 ||
				  strcmp(name, "lost+found") == 0);
}

int side_make(struct fsys *fs, struct inode *dir, const struct enc_name *n)
{
	(void)fs;
	if (!n->is_long || symlinkat(n->side_target, dir->dirfd, n->side) == 0)
		return 0;
	/* names are deterministic: one that is there already says the same */
	return errno == EEXIST ? 0 : errno;
}

void side_remove(struct fsys *fs, struct inode *dir, const struct enc_name *n)
{
	(void)fs;
	if (n->is_long)
		(void)unlinkat(dir->dirfd, n->side, 0); /* one left behind is harmless */
}

int dir_is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return errno;
	d = fdopendir(fd);
	if (!d) {
		rc = errno;
		close(fd);
		return rc;
	}
	errno = 0;
	while (rc == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !name_is_internal(e->d_name, false))
			rc = ENOTEMPTY;
	}
	if (rc == 0 && errno != 0)
		rc = errno;
	closedir(d);
	return rc;
}

int dir_id_make(struct fsys *fs, int dirfd, uint8_t id[static ID_BYTES], bool fresh)
{
	char text[DIRID_TEXT];
	enum err e = fresh ? volkeys_random_id(fs->vk, id) : ERR_OK;

	if (e == ERR_OK)
		e = dirid_encode(fs->vk, id, text);
	if (e != ERR_OK)
		return err_to_errno(e);
	return symlinkat(text, dirfd, DIR_ID_LINK) == 0 ? 0 : errno;
}

int dir_id_load(struct fsys *fs, int dirfd, const struct stat *st, uint8_t id[static ID_BYTES])
{
	char text[DIRID_TEXT + 1];
	ssize_t n = readlinkat(dirfd, DIR_ID_LINK, text, sizeof(text));
	int rc;

	if (n >= 0)
		return crypt_errno(
			fs, dirid_decode(fs->vk, text, (size_t)n, id), "directory id", st->st_ino, UINT64_MAX);
	if (errno == EINVAL)
		return damage(fs, "directory id is no link", st->st_ino, UINT64_MAX);
	if (errno != ENOENT)
		return errno;
	/* FORMAT.md section 5: a power cut between mkdir and the link leaves an empty directory without one */
	rc = dir_is_empty(dirfd);
	if (rc == ENOTEMPTY)
		return damage(fs, "directory id missing", st->st_ino, UINT64_MAX);
	if (rc != 0)
		return rc;
	accepted(fs, "directory id made anew", st->st_ino, UINT64_MAX);
	if (fs->opt.read_only)
		return err_to_errno(volkeys_random_id(fs->vk, id));
	return dir_id_make(fs, dirfd, id, true);
}
