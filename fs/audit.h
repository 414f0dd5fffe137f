/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit - the volume's audit log (keyprov/AUDIT.md) as the rest of the program sees it: one process, one volume, one
 * log.  Events are told to syslog or standard error as well.  Never names, plaintext or keys: inode and sector numbers.
 *
 * The log lies in /var/log/blobcryptfs for root, $XDG_STATE_HOME/blobcryptfs for others, or where audit_dir= says.
 * Nothing here fails the caller; a log that can't be written to is told once.
 *
 * Two kinds: audit_event is for FUSE callbacks too and never waits for the disk: a thread of its own writes, if
 * audit_start was called.  audit_key_event is for what happens to keys and is durable when it returns, so it is never
 * called from a FUSE callback.  Threads: any, but for open, start and close.
 */
#pragma once
#include "crypto/fips.h"
#include "crypto/volkeys.h"
#include "keyprov/auditlog.h"
#include "keyprov/keyprov.h"
#include <limits.h>
#include <stdint.h>

/* Opens the log of a volume.  dir: NULL, or another place.  f and dir are borrowed until audit_close. */
void audit_open(const struct fips *f, const uint8_t volume_id[static ID_BYTES], const char *dir);
/* The volume's keys are there: lines are sealed from now on, also after the keys have gone.  Repeatable. */
void audit_keyed(struct volkeys *vk);
/* Starts the thread. */
void audit_start(void);
void audit_close(void);

/* event and detail: constant texts; ino: backing inode or 0; sector: or UINT64_MAX if none.  Repeats of the same
 * (event, inode) are limited to one a second. */
void audit_event(const char *event, const char *detail, uint64_t ino, uint64_t sector);
/* With what the keeper said: reason, ids, kid.  d: NULL: nothing is remote. */
void audit_key_event(const char *event, const char *detail, const struct keyprov_detail *d);

/* Where the log of this user lies: dir itself if it is not NULL.  False: nowhere. */
bool audit_place(const char *dir, char out[static PATH_MAX]);
/* The log that is open here, verified; vk NULL: without seals. */
enum err audit_verify_open(struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why) MUST_CHECK;
