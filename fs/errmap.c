/* SPDX-License-Identifier: Apache-2.0 */
/* errmap - the only place where enum err becomes an errno, and where damage is reported. */
#include "fs/fsys_internal.h"

int err_to_errno(enum err e)
{
	switch (e) {
	case ERR_OK:
		return 0;
	case ERR_NOMEM:
		return ENOMEM;
	case ERR_NOT_FOUND:
		return ENOENT;
	case ERR_EXISTS:
		return EEXIST;
	case ERR_RANGE:
		return ENAMETOOLONG;
	case ERR_KEY_REVOKED:
	case ERR_KEY_DENIED:
		return EKEYREVOKED;
	case ERR_KEY_UNAVAILABLE:
		return ENOKEY;
	case ERR_IO:
	case ERR_CORRUPT:
	case ERR_UNSUPPORTED:
	case ERR_CONFIG:
	case ERR_FIPS:
	case ERR_BUG:
		return EIO;
	}
	return EIO;
}

int damage(struct fsys *fs, const char *detail, uint64_t ino, uint64_t sector)
{
	COUNT(fs, damage);
	audit_event("damage", detail, ino, sector);
	return EIO;
}

void accepted(struct fsys *fs, const char *detail, uint64_t ino, uint64_t sector)
{
	COUNT(fs, accepted);
	audit_event("accepted", detail, ino, sector);
}

int crypt_errno(struct fsys *fs, enum err e, const char *detail, uint64_t ino, uint64_t sector)
{
	if (e == ERR_CORRUPT || e == ERR_UNSUPPORTED)
		return damage(fs, detail, ino, sector);
	return err_to_errno(e);
}
