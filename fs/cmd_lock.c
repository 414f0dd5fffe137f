/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_lock - blobcryptfs lock, unlock, metrics, revocation-report: what a running mount is asked by its mount point, or
 * all of them at once.
 */
#include "fs/cli.h"
#include "fs/control.h"
#include "fs/mounts.h"
#include "fs/report.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCK_SECONDS   60  /* dirty pages are drained, caches dropped */
#define UNLOCK_SECONDS 120 /* a keeper may have to be waited for */
#define ASK_SECONDS    5
#define OWNERS_MAX     256u

struct question {
	const struct command *cmd;
	const char *request;
	unsigned seconds;
};

/* The code in an answer, with its sentence in why. */
static int code_of(const json_t *answer, struct err_why *why)
{
	const json_t *code = json_object_get(answer, "code");
	const char *text = json_string_value(json_object_get(answer, "error"));

	if (json_is_integer(code) && json_integer_value(code) == EXIT_OK)
		return EXIT_OK;
	return cli_why(why, json_is_integer(code) ? (int)json_integer_value(code) : EXIT_INTERNAL, "%s",
		text ? text : "The daemon gave no answer that makes sense.");
}

static int find_mount(const char *arg, struct mount_info *at, struct err_why *why)
{
	char *path = path_absolute(arg);

	if (path && mounts_at(path, at) != ERR_OK) { /* perhaps a symlink to it */
		free(path);
		path = realpath(arg, NULL);
		if (path && mounts_at(path, at) != ERR_OK)
			memset(at, 0, sizeof(*at));
	}
	free(path);
	return at->is_ours ? EXIT_OK : cli_why(why, EXIT_NOT_MOUNTED, "No volume is mounted at %s.", arg);
}

/* The answer of the mount at arg, whatever its code. */
static int ask_mount(const struct question *q, const char *arg, json_t **answer, struct err_why *why)
{
	struct mount_info at = {0};
	struct err_why silence = {0};
	int code = find_mount(arg, &at, why);
	enum err e;

	if (code == EXIT_OK) {
		e = control_ask(NULL, at.target, at.user_id, q->request, q->seconds, answer, &silence);
		if (e == ERR_IO && (silence.sys_errno == EACCES || silence.sys_errno == EPERM))
			code = cli_why(why, EXIT_PERMISSION, "%s", silence.text);
		else if (e != ERR_OK)
			code = cli_why(why, EXIT_BUSY, "The daemon of %s can't be asked: %s", at.target,
				silence.text[0] ? silence.text : "it is not there; has it died?");
		else
			code = code_of(*answer, why);
	}
	mount_info_clear(&at);
	return code;
}

/* ---- all of them ---- */

struct roll { /* what all the daemons have said */
	const char *done;
	unsigned good;
	int worst;
};

static void heard(void *arg, const json_t *answer)
{
	struct roll *r = arg;
	struct err_why why = {0};
	const char *at = json_string_value(json_object_get(answer, "mountpoint"));
	int code = answer ? code_of(answer, &why) : cli_why(&why, EXIT_BUSY, "A daemon has not answered in time.");

	if (code == EXIT_OK) {
		r->good++;
		printf("%s: %s\n", at ? at : "(no mount point told)", r->done);
		return;
	}
	r->worst = code;
	cli_say("%s%s%s", at ? at : "", at ? ": " : "", why.text);
}

static int ask_everybody(const struct question *q, const char *done)
{
	uid_t owners[OWNERS_MAX] = {geteuid()};
	struct roll r = {.done = done};
	size_t n = 1;
	unsigned asked = 0;

	/* Root's word is for the mounts of users as well. */
	if (geteuid() == 0)
		n += mounts_owners(owners + 1, OWNERS_MAX - 1);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || owners[i] != owners[0])
			asked += control_ask_all(owners[i], q->request, NULL, q->seconds, heard, &r);
	if (asked == 0) {
		cli_say("No volume is mounted.");
		return EXIT_NOT_MOUNTED;
	}
	return r.worst;
}

static int run_gate(struct cli *c, int argc, char **argv, const struct question *q, const char *done)
{
	static const struct option options[] = {{"all", no_argument, NULL, 'a'}, CLI_OPTIONS};
	struct err_why why = {0};
	json_t *answer = NULL;
	bool all = false;
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, q->cmd, argc, argv, ":a", options, &code)) >= 0)
		all = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(q->cmd, argc, all ? 0 : 1, all ? 0 : 1))
		return EXIT_USAGE;
	if (all)
		return ask_everybody(q, done);
	code = ask_mount(q, argv[optind], &answer, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	json_decref(answer);
	return code;
}

static int run_lock(struct cli *c, int argc, char **argv)
{
	const struct question q = {&command_lock, "lock", LOCK_SECONDS};

	return run_gate(c, argc, argv, &q, "locked");
}

static int run_unlock(struct cli *c, int argc, char **argv)
{
	const struct question q = {&command_unlock, "unlock", UNLOCK_SECONDS};

	return run_gate(c, argc, argv, &q, "open");
}

/* ---- reports ---- */

static int run_metrics(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS};
	const struct question q = {&command_metrics, "metrics", ASK_SECONDS};
	struct err_why why = {0};
	json_t *answer = NULL;
	int code = EXIT_OK;

	if (cli_getopt(c, q.cmd, argc, argv, ":", options, &code) == CLI_STOP)
		return code;
	if (!cli_operands(q.cmd, argc, 1, 1))
		return EXIT_USAGE;
	code = ask_mount(&q, argv[optind], &answer, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else
		fputs(json_string_value(json_object_get(answer, "text")), stdout);
	json_decref(answer);
	return code;
}

static int run_report(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	const struct question q = {&command_revocation_report, "revocation_report", ASK_SECONDS};
	struct err_why why = {0};
	json_t *answer = NULL;
	bool as_json = false;
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, q.cmd, argc, argv, ":j", options, &code)) >= 0)
		as_json = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(q.cmd, argc, 1, 1))
		return EXIT_USAGE;
	code = ask_mount(&q, argv[optind], &answer, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else if (as_json)
		report_dump(answer, stdout);
	else
		report_print_revocation(answer, stdout);
	json_decref(answer);
	return code;
}

const struct command command_lock = {
	.name = "lock",
	.args = "MOUNTPOINT | --all",
	.summary = "lock a mounted volume",
	.help = "Locks the volume mounted at MOUNTPOINT: what is dirty is written, then every key and every cached "
		"byte\n"
		"is wiped and nothing can be read or written (ENOKEY) until \"blobcryptfs unlock\". Open files stay\n"
		"open. Asks nobody: it works without a network. Returns when the volume is locked.\n\n"
		"  -a, --all  every volume that you have mounted; for root that of every user\n",
	.run = run_lock,
};

const struct command command_unlock = {
	.name = "unlock",
	.args = "MOUNTPOINT | --all",
	.summary = "open a locked volume again",
	.help = "Asks the keepers of its keys at once, and opens the volume mounted at MOUNTPOINT. If the customer's\n"
		"key is revoked or can't be had, the volume stays locked for that reason and opens by itself when the\n"
		"key is there again.\n\n"
		"  -a, --all  every volume that you have mounted; for root that of every user\n",
	.run = run_unlock,
};

const struct command command_metrics = {
	.name = "metrics",
	.args = "MOUNTPOINT",
	.summary = "print a mount's numbers for a monitoring system",
	.help = "Prints the state of the gate, the lease, probes, requests and memory of the volume mounted at\n"
		"MOUNTPOINT as OpenMetrics text.\n",
	.run = run_metrics,
};

const struct command command_revocation_report = {
	.name = "revocation-report",
	.args = "[--json] MOUNTPOINT",
	.summary = "show when and how a mount was last locked",
	.help = "Shows the first denial, its confirmation, the steps of the lock that followed and the last read that\n"
		"was served, of the volume mounted at MOUNTPOINT.\n\n"
		"  --json  as a JSON object\n",
	.run = run_report,
};
