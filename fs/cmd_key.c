/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key - blobcryptfs key: shows and rotates the key that wraps the volume key.  No data is touched. */
#include "fs/audit.h"
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/log.h"
#include "fs/mounts.h"
#include "fs/report.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROTATE_SECONDS 120

static int print_key(const json_t *key, bool as_json)
{
	json_t *o = json_pack("{s:O}", "key", key);

	if (!o)
		return EXIT_MEMORY;
	if (as_json)
		report_dump(key, stdout);
	else
		report_print(o, stdout);
	json_decref(o);
	return EXIT_OK;
}

struct key_places {
	const char *now, *next; /* SPECs; NULL: where the descriptor says */
};

/* By the daemon that holds the volume. */
static int rotate_mounted(const struct volume *v, const struct lock_holder *holder, json_t **key, struct err_why *why)
{
	struct mount_info at = {0};
	json_t *answer = NULL;
	char hex[2 * ID_BYTES + 1];
	uid_t owner = geteuid();
	enum err e;
	int code;

	cli_hex(v->id, ID_BYTES, hex);
	if (holder->mountpoint[0] && mounts_at(holder->mountpoint, &at) == ERR_OK && at.is_ours)
		owner = at.user_id;
	mount_info_clear(&at);
	e = control_ask(hex, NULL, owner, "rotate", ROTATE_SECONDS, &answer, why);
	if (e != ERR_OK)
		return cli_why(why, EXIT_ALREADY_MOUNTED,
			"The volume is mounted at %s by process %ld on host %s, which can't be "
			"asked to rotate its key. Unmount it, or try as the user who mounted it.",
			holder->mountpoint, holder->pid, holder->host);
	code = (int)json_integer_value(json_object_get(answer, "code"));
	*key = json_incref(json_object_get(answer, "key"));
	if (code == EXIT_OK && !*key)
		code = EXIT_INTERNAL;
	if (code != EXIT_OK) {
		const char *text = json_string_value(json_object_get(answer, "error"));

		cli_why(why, code, "%s", text ? text : "The daemon gave no answer that makes sense.");
	}
	json_decref(answer);
	return code;
}

/* A provider object for a SPEC; NULL stays NULL. */
static int parse_spec(const char *spec, json_t **out, struct err_why *why)
{
	*out = spec ? managed_conf(spec, why) : NULL;
	return spec && !*out ? EXIT_USAGE : EXIT_OK;
}

static int rotate_unmounted(
	struct cli *c, struct volume *v, const struct key_places *at, json_t **key, struct err_why *why)
{
	json_t *now = NULL, *next = NULL;
	struct fips *fips = NULL;
	int code = cli_crypto(c, &fips, why);
	enum err e;

	if (code == EXIT_OK)
		code = parse_spec(at->now, &now, why);
	if (code == EXIT_OK)
		code = parse_spec(at->next, &next, why);
	if (code == EXIT_OK) {
		e = volume_rekey(v, fips, now, next, why);
		code = cli_exit_code_key(e, why);
		if (e == ERR_UNSUPPORTED) /* that kind of source can't: nothing newer about it */
			code = EXIT_USAGE;
		if (e != ERR_OK && !why->text[0])
			cli_why(why, code, "The key can't be rotated: %s.", err_text(e));
	}
	if (code == EXIT_OK) {
		audit_open(v->id);
		audit_event("key_rotated", "on request", 0, UINT64_MAX);
		audit_close();
		*key = report_key(v);
	}
	json_decref(now);
	json_decref(next);
	fips_close(fips);
	return code;
}

static int rotate(struct cli *c, const char *dir, const struct key_places *at, json_t **key, struct err_why *why)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct volume *v = NULL;
	enum err e = holder ? volume_open(dir, &v, why) : ERR_NOMEM;
	int code = cli_exit_code(e, why);

	if (e == ERR_OK) {
		/* Two at once would each make a key version and one of them remove the other's. */
		e = volume_lock(v, "", holder, why);
		if (e == ERR_EXISTS && (at->now || at->next))
			code = cli_why(why, EXIT_ALREADY_MOUNTED,
				"The volume is mounted at %s, with the key from where it was told then. Unmount it to "
				"move the key.",
				holder->mountpoint);
		else if (e == ERR_EXISTS)
			code = rotate_mounted(v, holder, key, why);
		else if (e != ERR_OK)
			code = cli_exit_code(e, why);
		else
			code = rotate_unmounted(c, v, at, key, why);
	}
	if (code != EXIT_OK && !why->text[0])
		cli_why(why, code, "%s: %s.", dir, err_text(e));
	volume_close(v);
	free(holder);
	return code;
}

static int show(const char *dir, json_t **key, struct err_why *why)
{
	struct volume *v = NULL;
	enum err e = volume_open(dir, &v, why);
	int code = cli_exit_code(e, why);

	if (e == ERR_OK)
		*key = report_key(v);
	else if (!why->text[0])
		cli_why(why, code, "%s: %s.", dir, err_text(e));
	volume_close(v);
	return code;
}

static int run(struct cli *c, int argc, char **argv)
{
	enum { OPT_KEY = CLI_FIRST_FREE, OPT_NEW_KEY };
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"managed-key", required_argument, NULL, OPT_KEY},
		{"new-managed-key", required_argument, NULL, OPT_NEW_KEY}, CLI_OPTIONS};
	struct err_why why = {0};
	struct key_places at = {0};
	json_t *key = NULL;
	bool as_json = false;
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, &command_key, argc, argv, ":j", options, &code)) >= 0) {
		if (opt == 'j')
			as_json = true;
		else if (opt == OPT_KEY)
			at.now = optarg;
		else
			at.next = optarg;
	}
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_key, argc, 2, 2))
		return EXIT_USAGE;
	log_set_level(LOG_WARN);
	if (strcmp(argv[optind], "show") == 0)
		code = show(argv[optind + 1], &key, &why);
	else if (strcmp(argv[optind], "rotate") == 0)
		code = rotate(c, argv[optind + 1], &at, &key, &why);
	else
		code = cli_why(&why, EXIT_USAGE, "\"key\" knows show and rotate, not \"%s\".", argv[optind]);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else
		code = print_key(key, as_json);
	json_decref(key);
	return code;
}

const struct command command_key = {
	.name = "key",
	.args = "rotate [--managed-key SPEC] [--new-managed-key SPEC] DIR | show [--json] DIR",
	.summary = "show or rotate the managed key",
	.help = "rotate  makes a new version of the managed key and wraps the volume key with it; no data is touched.\n"
		"        A mounted volume stays mounted.\n"
		"show    shows which key, in which version, wraps the volume key, as the descriptor says.\n\n"
		"  --json                  as a JSON object\n"
		"  --managed-key SPEC      where the key is now, if not where it was; see \"blobcryptfs help init\"\n"
		"  --new-managed-key SPEC  where the new key is to be (another key file, a new passphrase)\n",
	.run = run,
};
