/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_status - blobcryptfs status: a running mount is asked; without one the descriptor is shown, as it stands there.
 */
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/mounts.h"
#include "fs/report.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASK_SECONDS 5

static void add_text(json_t *o, const char *name, const char *text)
{
	if (o && text && *text)
		json_object_set_new(o, name, json_string(text));
}

/* What can be said about a mount whose daemon says nothing. */
static int from_mount_table(
	const struct mount_info *at, const struct err_why *silence, json_t **out, struct err_why *why)
{
	struct volume *v = NULL;
	enum err e = volume_open(at->source, &v, why);

	if (e == ERR_OK)
		*out = report_volume(v, at->source);
	else
		*out = json_pack("{s:s, s:b}", "directory", at->source, "authenticated", 0);
	volume_close(v);
	if (*out) {
		json_object_set_new(*out, "mounted", json_true());
		add_text(*out, "mountpoint", at->target);
		add_text(*out, "note", silence->text[0] ? silence->text : "The daemon can't be found; has it died?");
	}
	return *out ? EXIT_OK : cli_why(why, EXIT_MEMORY, "There is not enough memory for the report.");
}

static int of_mountpoint(const struct mount_info *at, json_t **out, struct err_why *why)
{
	struct err_why silence = {0};

	if (control_ask(NULL, at->target, at->user_id, "status", ASK_SECONDS, out, &silence) == ERR_OK)
		return EXIT_OK;
	return from_mount_table(at, &silence, out, why);
}

static int of_mounted_directory(
	const struct volume *v, const char *dir, const struct lock_holder *holder, json_t **out, struct err_why *why)
{
	struct mount_info at = {0};
	struct err_why silence = {0};
	char hex[2 * ID_BYTES + 1], note[256];
	uid_t owner = geteuid();

	cli_hex(v->id, ID_BYTES, hex);
	if (holder->mountpoint[0] && mounts_at(holder->mountpoint, &at) == ERR_OK && at.is_ours)
		owner = at.user_id;
	mount_info_clear(&at);
	if (control_ask(hex, NULL, owner, "status", ASK_SECONDS, out, &silence) == ERR_OK)
		return EXIT_OK;
	if (owner != 0 && control_ask(hex, NULL, 0, "status", ASK_SECONDS, out, &silence) == ERR_OK)
		return EXIT_OK;
	*out = report_volume(v, dir);
	if (!*out)
		return cli_why(why, EXIT_MEMORY, "There is not enough memory for the report.");
	snprintf(note, sizeof(note), "held by process %ld on host %s; %.100s", holder->pid, holder->host,
		silence.text[0] ? silence.text : "its daemon can't be asked from here");
	json_object_set_new(*out, "mounted", json_true());
	add_text(*out, "mountpoint", holder->mountpoint);
	add_text(*out, "note", note);
	return EXIT_OK;
}

static int of_directory(const char *dir, json_t **out, struct err_why *why)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct volume *v = NULL;
	enum err e = holder ? volume_open(dir, &v, why) : ERR_NOMEM;
	int code = cli_exit_code(e, why);

	if (e == ERR_OK && volume_lock_holder(v, holder) == ERR_OK) {
		code = of_mounted_directory(v, dir, holder, out, why);
	} else if (e == ERR_OK) {
		*out = report_volume(v, dir);
		if (!*out)
			code = cli_why(why, EXIT_MEMORY, "There is not enough memory for the report.");
		add_text(
			*out, "note", "not mounted: what is shown is the descriptor, which only a mount authenticates");
	}
	if (code != EXIT_OK && !why->text[0])
		cli_why(why, code, "%s: %s.", dir, err_text(e));
	volume_close(v);
	free(holder);
	return code;
}

static int status(const char *arg, json_t **out, struct err_why *why)
{
	char *path = path_absolute(arg), *real;
	struct mount_info at = {0};
	int code;

	if (path && mounts_at(path, &at) == ERR_OK && at.is_ours) {
		code = of_mountpoint(&at, out, why);
		mount_info_clear(&at);
		free(path);
		return code;
	}
	mount_info_clear(&at);
	free(path);
	real = realpath(arg, NULL);
	if (!real)
		return cli_why(why, errno == EACCES ? EXIT_PERMISSION : EXIT_NOT_A_VOLUME, "%s can't be found: %s.",
			arg, strerror(errno));
	if (mounts_at(real, &at) == ERR_OK && at.is_ours)
		code = of_mountpoint(&at, out, why);
	else
		code = of_directory(real, out, why);
	mount_info_clear(&at);
	free(real);
	return code;
}

static int run(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct err_why why = {0};
	json_t *report = NULL;
	bool as_json = false;
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, &command_status, argc, argv, ":j", options, &code)) >= 0)
		as_json = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_status, argc, 1, 1))
		return EXIT_USAGE;
	code = status(argv[optind], &report, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else if (as_json)
		report_dump(report, stdout);
	else
		report_print(report, stdout);
	json_decref(report);
	return code;
}

const struct command command_status = {
	.name = "status",
	.args = "[--json] DIR|MOUNTPOINT",
	.summary = "show a volume and, if it is mounted, its mount",
	.help = "Shows the volume in DIR or mounted at MOUNTPOINT: keys, FIPS provider, transport, cache, session, "
		"counters.\n"
		"Without a mount it shows the descriptor, whose values nobody has authenticated then.\n\n"
		"  --json  as a JSON object\n",
	.run = run,
};
