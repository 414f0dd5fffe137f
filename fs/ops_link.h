/* SPDX-License-Identifier: Apache-2.0 */
/* ops_link - what other callbacks need to know of symlinks. */
#pragma once
#include "fs/inode.h"

#define LINK_HEAD_MAX 1024

/* st_size of the symlink i, whose backing symlink has that length; 0 or errno. */
int link_size(struct fsys *fs, struct inode *i, off_t backing, off_t *out);
/* Is (dir, enc) the last link of a symlink with a long target?  Then head identifies the rest of it, to be removed
 * after the link. */
bool link_head(struct inode *dir, const char *enc, char head[static LINK_HEAD_MAX]);
void link_rest_remove(struct fsys *fs, const char head[static LINK_HEAD_MAX]);
