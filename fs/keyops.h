/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyops - what the key commands do to a volume, written once for the two who do it: the command itself, if the volume
 * is not mounted, and the key worker of its daemon, if it is.
 *
 * Requests are those of the control socket, by name and with their arguments as a JSON object:
 *   key_set       {"uri", "cloud", "api_version", "identity": azid_conf, "region", "allow_other_region",
 *                  "expired_allowed", "probe_seconds", "lease_seconds", "dry_run"}; all but uri may be left out
 *   key_rotate    {"dry_run", "managed"}
 *   key_off       {"dry_run"}
 *   key_verify    {}
 *   key_identity  {}
 * The answer is a JSON object: {"code": EXIT_..., "changed": bool, "dry_run": bool, "error": "sentence" (code is not
 * 0), "did": ["sentence", ...] what was done, or, in a dry run, would be, "checks": [{"name", "state", "found",
 * "remedy"}], "key": report_key's object, "detail": what the vault said last, "identity": {...}}; what does not apply
 * is left out. state is "ok", "failed", "warning" or "skipped".
 *
 * Calls block on the network, so never in a FUSE callback or under a filesystem lock.  Audit events are written here,
 * to the log that the caller opened.  Threads: as struct volume.
 */
#pragma once
#include "crypto/fips.h"
#include "keyprov/vault.h"
#include "keyprov/volume.h"
#include <jansson.h>
#include <stdbool.h>

struct keyops {
	struct volume *v; /* locked by the caller; without the exclusive lock nothing is changed */
	const struct fips *fips;
	const json_t *now;  /* where the managed key is, if not where the descriptor says; or NULL */
	const json_t *next; /* rotate: where the new managed key is to be; NULL: the same source */
	const char *cause;  /* for the audit log: "on request", "by age", "newer version found"; NULL: the first */
	bool read_only;	    /* mounted read-only: what would write is refused */
	bool mounted; /* in the daemon: the volume is open or locked already, and is not opened once more to verify */
};

/* Is it one of these requests? */
bool keyops_knows(const char *request);
/* New reference; NULL: the request is not known, or no memory. */
json_t *keyops_run(const struct keyops *k, const char *request, const json_t *args);

/* The single ones; new references, NULL without memory. */
json_t *keyops_set(const struct keyops *k, const struct vault_want *want, bool dry_run);
/* With a customer's key on: to its newest version if the identifier has none, unless managed asks for the layer below.
 * Without: a new version of the managed key. */
json_t *keyops_rotate(const struct keyops *k, bool managed, bool dry_run);
json_t *keyops_off(const struct keyops *k, bool dry_run);
json_t *keyops_verify(const struct keyops *k);
json_t *keyops_identity(const struct keyops *k);

/* "audit_verify": {"code", "sound", "seals_checked", "lines", "unsealed_end", "torn_end", "first_seq", "last_seq",
 * "file", "line", "what"} for the log that is open.  vk NULL: without seals.  _here: opens the volume for it. */
json_t *keyops_audit(struct volkeys *vk);
json_t *keyops_audit_here(const struct keyops *k);

/* An answer that says no more than this. */
json_t *keyops_refuse(int code, const char *sentence);

/* ---- keyops_args.c ---- */
/* key_set's arguments, without dry_run; new reference, NULL without memory. */
json_t *keyops_set_args(const struct vault_want *want);
/* The same back; want borrows from args.  Strict.  ERR_CONFIG. */
enum err keyops_set_parse(const json_t *args, struct vault_want *want, struct err_why *why) MUST_CHECK;
/* All that can be said about them without asking anybody: identifier, cloud, numbers, identity. */
enum err keyops_set_check(const struct vault_want *want, struct err_why *why) MUST_CHECK;
/* A boolean of a request's arguments. */
bool keyops_flag(const json_t *args, const char *name);

/* ---- keyops_who.c: also for a vault without a volume ---- */
struct keyops_where {
	const char *cloud; /* NULL: public */
	struct azure_key_id id;
	const json_t *identity; /* NULL: auto */
	const char *api_version, *tenant;
	bool allow_cli;
};
/* Who we are to that vault, and the commands that grant the role: {"kind", "oid", "appid", "tenant", "resource",
 * "vault", "vault_tenant", "vault_region", "grant"}.  New reference in out. */
enum err keyops_who(const struct fips *f, const struct keyops_where *w, json_t **out, struct err_why *why) MUST_CHECK;
/* The exit code of an error from a vault that no volume depends on yet: "no" is 7 (denied), not 8 (revoked). */
int keyops_code_vault(enum err e, const struct err_why *why);
