/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit - one JSON line per event that somebody responsible for the data has to see: mount, unmount, key rotation,
 * damage found, an unsynced tail accepted after an unclean session, a mount without FIPS.  Never names, plaintext or
 * keys: inode numbers and sector numbers.
 *
 * Lines go to the audit log of the volume (root: /var/log/blobcryptfs/<volume id>.log, user:
 * $XDG_STATE_HOME/blobcryptfs/...) and to syslog. Threads: any.  Never fails the caller; repeats of the same (event,
 * inode) are limited to one a second.
 */
#pragma once
#include "crypto/volkeys.h"
#include <stdint.h>

/* Opens the log for a volume; without it events go to standard error only. */
void audit_open(const uint8_t volume_id[static ID_BYTES]);
void audit_close(void);

/* event: a short constant such as "damage", "accepted", "mount"; detail: constant text; ino: backing inode or 0;
 * sector: or UINT64_MAX if none. */
void audit_event(const char *event, const char *detail, uint64_t ino, uint64_t sector);
