/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit - the volume's audit log (keyprov/AUDIT.md) as the rest of the program sees it: one process, one volume, one
 * log.  Events are told to syslog or standard error as well.  Never names, plaintext or keys: inode and sector numbers.
 *
 * The log lies in /var/log/blobcryptfs for root, $XDG_STATE_HOME/blobcryptfs for others, or where audit_dir= says.
 * Nothing here fails the caller; a log that can't be written to is told once.
 *
 * After audit_start a thread of its own writes, so that nobody waits for the disk or for another process that appends:
 * neither a FUSE callback nor whoever has to lock the volume.  Key events are synced at once, others within about a
 * second; audit_flush waits.  Before audit_start (and in commands) the caller writes.  Threads: any, but for open,
 * start and close.
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
/* About keys and access to them; with what the keeper said: reason, ids, kid.  d: NULL: nothing is remote. */
void audit_key_event(const char *event, const char *detail, const struct keyprov_detail *d);

/* Waits until what was said is in the log and, if it is about keys, on the disk; but no longer than 10 s. */
void audit_flush(void);

/* Where the log of this user lies: dir itself if it is not NULL.  False: nowhere. */
bool audit_place(const char *dir, char out[static PATH_MAX]);
/* The log that is open here, verified; vk NULL, or locked: without seals. */
enum err audit_verify_open(struct volkeys *vk, struct auditlog_verdict *out, struct err_why *why) MUST_CHECK;
