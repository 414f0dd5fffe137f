/* SPDX-License-Identifier: Apache-2.0 */
/* ops_link - what other callbacks need to know of symlinks. */
#pragma once
#include "fs/inode.h"

/* st_size of the symlink i, whose backing symlink has that length; 0 or errno. */
int link_size(struct fsys *fs, struct inode *i, off_t backing, off_t *out);
/* If (dir, enc) is the last link of a long symlink: the name in the backing root of the target's end, to be removed after it; else "". */
void link_side_of(struct fsys *fs, struct inode *dir, const char *enc, char out[static NAME_ENC_MAX]);
