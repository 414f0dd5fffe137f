/* SPDX-License-Identifier: Apache-2.0 */
/* xattr - what other callbacks need to know of extended attributes. */
#pragma once
#include "fs/inode.h"

/* Removes the file capability of i (fd: any descriptor of it), as every write and change of owner has to; cheap if
 * there is none. */
void xattr_drop_caps(struct fsys *fs, struct inode *i, int fd);
