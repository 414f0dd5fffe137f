/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_key_volume - finds the volume a key command is about, and whoever has it.  A mounted one is its daemon's alone:
 * the daemon is asked; else the work is done here, under the volume's lock.
 */
#include "fs/audit.h"
#include "fs/cmd_key.h"
#include "fs/control.h"
#include "fs/keyops.h"
#include "fs/mounts.h"
#include "fs/report.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORK_SECONDS 300 /* every check of a key, each up to its deadline */
#define LOOK_SECONDS 5

/* The mount right at dir, if it is one of ours; looked for by name first, since a dead mount can't be resolved. */
static bool find_mount(const char *dir, struct mount_info *at)
{
	char *path = path_absolute(dir);
	bool found = path && mounts_at(path, at) == ERR_OK && at->is_ours;

	free(path);
	if (found)
		return true;
	mount_info_clear(at);
	memset(at, 0, sizeof(*at));
	path = realpath(dir, NULL);
	found = path && mounts_at(path, at) == ERR_OK && at->is_ours;
	free(path);
	if (!found) {
		mount_info_clear(at);
		memset(at, 0, sizeof(*at));
	}
	return found;
}

static int open_volume(const char *dir, struct volume **v, struct err_why *why)
{
	enum err e = volume_open(dir, v, why);

	if (e != ERR_OK && !why->text[0])
		return cli_why(why, cli_exit_code(e, why), "%s: %s.", dir, err_text(e));
	return cli_exit_code(e, why);
}

/* Who mounted it, as far as the mount table knows. */
static uid_t owner_of(const struct lock_holder *holder)
{
	struct mount_info at = {0};
	uid_t owner = geteuid();

	if (holder->mountpoint[0] && mounts_at(holder->mountpoint, &at) == ERR_OK && at.is_ours)
		owner = at.user_id;
	mount_info_clear(&at);
	return owner;
}

/* ---- by the daemon ---- */

static int refuse_places(const char *mountpoint, struct err_why *why)
{
	return cli_why(why, EXIT_ALREADY_MOUNTED,
		"The volume is mounted at %s, with the managed key from where it was told then. Unmount it to name "
		"another place.",
		mountpoint);
}

static int ask_mount(
	const struct mount_info *at, const char *request, const json_t *args, json_t **answer, struct err_why *why)
{
	struct err_why silence = {0};
	enum err e = control_ask_args(NULL, at->target, at->user_id, request, args, WORK_SECONDS, answer, &silence);

	if (e == ERR_OK)
		return EXIT_OK;
	return cli_why(why, EXIT_ALREADY_MOUNTED,
		"The daemon of the mount at %s can't be asked (%s). Unmount it, or try as the user who mounted it.",
		at->target, silence.text[0] ? silence.text : "it can't be found; has it died?");
}

static int ask_holder(const struct volume *v, const struct lock_holder *holder, const char *request, const json_t *args,
	json_t **answer, struct err_why *why)
{
	char hex[2 * ID_BYTES + 1];
	enum err e;

	if (!holder->mountpoint[0])
		return cli_why(why, EXIT_ALREADY_MOUNTED,
			"Process %ld on host %s is at work on the volume's key; try again when it is done.",
			holder->pid, holder->host);
	cli_hex(v->id, ID_BYTES, hex);
	e = control_ask_args(hex, NULL, owner_of(holder), request, args, WORK_SECONDS, answer, NULL);
	if (e == ERR_OK)
		return EXIT_OK;
	return cli_why(why, EXIT_ALREADY_MOUNTED,
		"The volume is mounted at %s by process %ld on host %s, which can't be asked about its key. Unmount "
		"it, or try as the user who mounted it.",
		holder->mountpoint, holder->pid, holder->host);
}

/* ---- here ---- */

/* A provider object for a SPEC; NULL stays NULL. */
static int parse_spec(const char *spec, json_t **out, struct err_why *why)
{
	*out = spec ? managed_conf(spec, why) : NULL;
	return spec && !*out ? EXIT_USAGE : EXIT_OK;
}

static void seal_audit(void *arg, struct volkeys *vk)
{
	(void)arg;
	audit_keyed(vk);
}

static int work_here(struct cli *c, struct volume *v, const char *request, const json_t *args,
	const struct key_options *o, json_t **answer, struct err_why *why)
{
	json_t *now = NULL, *next = NULL;
	struct fips *fips = NULL;
	int code = key_network(c, &fips, why);

	if (code == EXIT_OK)
		code = parse_spec(o->managed_key, &now, why);
	if (code == EXIT_OK)
		code = parse_spec(o->new_managed_key, &next, why);
	if (code == EXIT_OK) {
		const struct keyops k = {.v = v, .fips = fips, .now = now, .next = next};

		audit_open(fips, v->id, o->audit_dir);
		if (strcmp(request, "audit_verify") != 0) /* who only looks writes nothing */
			v->keyed = seal_audit;
		*answer = keyops_run(&k, request, args);
		audit_close();
		if (!*answer)
			code = cli_why(why, EXIT_MEMORY, "There is not enough memory for the answer.");
	}
	json_decref(now);
	json_decref(next);
	fips_close(fips);
	return code;
}

static int fail_lock(enum err e, const char *dir, struct err_why *why)
{
	int code = cli_exit_code(e, why);

	return why->text[0] ? code : cli_why(why, code, "%s: %s.", dir, err_text(e));
}

static int ask_directory(struct cli *c, const char *dir, const char *request, const json_t *args,
	const struct key_options *o, json_t **answer, struct err_why *why)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct volume *v = NULL;
	int code = holder ? open_volume(dir, &v, why) : cli_why(why, EXIT_MEMORY, "There is not enough memory.");
	enum err e;

	if (code == EXIT_OK) {
		/* Two at once would each make a key version and one of them remove the other's. */
		e = volume_lock(v, "", holder, why);
		if (e == ERR_EXISTS && holder->mountpoint[0] && (o->managed_key || o->new_managed_key))
			code = refuse_places(holder->mountpoint, why);
		else if (e == ERR_EXISTS)
			code = ask_holder(v, holder, request, args, answer, why);
		else if (e != ERR_OK)
			code = fail_lock(e, dir, why);
		else
			code = work_here(c, v, request, args, o, answer, why);
	}
	volume_close(v);
	free(holder);
	return code;
}

int key_ask(struct cli *c, const char *dir, const char *request, const json_t *args, const struct key_options *o,
	json_t **answer, struct err_why *why)
{
	struct mount_info at = {0};
	int code;

	*answer = NULL;
	if (!find_mount(dir, &at))
		return ask_directory(c, dir, request, args, o, answer, why);
	if (o->managed_key || o->new_managed_key)
		code = refuse_places(at.target, why);
	else
		code = ask_mount(&at, request, args, answer, why);
	mount_info_clear(&at);
	return code;
}

/* ---- looking only ---- */

int key_open(const char *dir, struct volume **v, struct err_why *why)
{
	struct mount_info at = {0};
	int code = open_volume(find_mount(dir, &at) ? at.source : dir, v, why);

	mount_info_clear(&at);
	return code;
}

static json_t *key_of_status(json_t *status)
{
	json_t *key = json_incref(json_object_get(status, "key"));

	json_decref(status);
	return key;
}

int key_look(const char *dir, json_t **key, struct err_why *why)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct mount_info at = {0};
	struct volume *v = NULL;
	json_t *status = NULL;
	char hex[2 * ID_BYTES + 1];
	bool mounted = find_mount(dir, &at);
	int code = EXIT_OK;

	*key = NULL;
	if (mounted && control_ask(NULL, at.target, at.user_id, "status", LOOK_SECONDS, &status, NULL) == ERR_OK)
		*key = key_of_status(status);
	if (!*key)
		code = open_volume(mounted ? at.source : dir, &v, why);
	if (v && !mounted && holder && volume_lock_holder(v, holder) == ERR_OK && holder->mountpoint[0]) {
		cli_hex(v->id, ID_BYTES, hex);
		if (control_ask(hex, NULL, owner_of(holder), "status", LOOK_SECONDS, &status, NULL) == ERR_OK)
			*key = key_of_status(status);
	}
	if (v && !*key) {
		*key = report_key(v);
		if (!*key)
			code = cli_why(why, EXIT_MEMORY, "There is not enough memory for the report.");
	}
	volume_close(v);
	mount_info_clear(&at);
	free(holder);
	return code;
}

int key_conf(const char *dir, json_t **conf, struct err_why *why)
{
	struct mount_info at = {0};
	struct volume *v = NULL;
	bool mounted = find_mount(dir, &at);
	int code = open_volume(mounted ? at.source : dir, &v, why);

	*conf = NULL;
	if (code == EXIT_OK && volume_customer_conf(v))
		*conf = json_deep_copy(volume_customer_conf(v));
	volume_close(v);
	mount_info_clear(&at);
	return code;
}
