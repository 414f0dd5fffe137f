/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_audit - blobcryptfs audit show, audit verify. */
#include "fs/audit.h"
#include "fs/cmd_key.h"
#include "fs/report.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct audit_options {
	struct key_options key; /* as_json, audit_dir, managed_key */
	unsigned long last;	/* ULONG_MAX: all */
};

/* ---- verify ---- */

static void print_verdict(const json_t *o)
{
	const char *why = json_string_value(json_object_get(o, "no_keys"));
	const char *file = json_string_value(json_object_get(o, "file"));
	const char *what = json_string_value(json_object_get(o, "what"));
	json_int_t lines = json_integer_value(json_object_get(o, "lines"));
	json_int_t open_end = json_integer_value(json_object_get(o, "unsealed_end"));
	json_int_t line = json_integer_value(json_object_get(o, "line"));

	if (!json_is_true(json_object_get(o, "sound"))) {
		printf("NOT SOUND: %s%s", file ? file : "the log", line ? ", line " : "");
		if (line)
			printf("%" JSON_INTEGER_FORMAT, line);
		printf(": %s\n", what ? what : "damaged");
	} else if (json_is_true(json_object_get(o, "seals_checked"))) {
		printf("sound: %" JSON_INTEGER_FORMAT " lines, chained and sealed\n", lines);
	} else {
		printf("chained: %" JSON_INTEGER_FORMAT
		       " lines; their seals can't be checked without the volume's keys\n",
			lines);
	}
	if (open_end)
		printf("%" JSON_INTEGER_FORMAT " of them, at the end, are not sealed yet\n", open_end);
	if (why)
		printf("no keys: %s\n", why);
}

static int verify(struct cli *c, const char *dir, const struct audit_options *o, struct err_why *why)
{
	json_t *answer = NULL;
	int code = key_ask(c, dir, "audit_verify", NULL, &o->key, &answer, why);

	if (code != EXIT_OK)
		return code;
	code = (int)json_integer_value(json_object_get(answer, "code"));
	if (json_is_string(json_object_get(answer, "error")))
		cli_why(why, code, "%s", json_string_value(json_object_get(answer, "error")));
	else if (o->key.as_json)
		report_dump(answer, stdout);
	else
		print_verdict(answer);
	json_decref(answer);
	return code;
}

/* ---- show ---- */

struct show {
	bool as_json, first;
};

static void print_members(const json_t *line)
{
	static const char *const left_out[] = {
		"time", "seq", "volume", "event", "detail", "prev", "w", "n", "mac", "pid", "uid"};
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)line, name, value)
	{
		size_t i = 0;

		while (i < sizeof(left_out) / sizeof(left_out[0]) && strcmp(left_out[i], name) != 0)
			i++;
		if (i < sizeof(left_out) / sizeof(left_out[0]))
			continue;
		printf(" %s=", name);
		report_print_value(value, stdout);
	}
}

static const char *member(const json_t *line, const char *name)
{
	const char *text = json_string_value(json_object_get(line, name));

	return text ? text : "";
}

static bool show_line(void *arg, const char *text, size_t len)
{
	const struct show *s = arg;
	json_t *line = s->as_json ? NULL : json_loadb(text, len, 0, NULL);

	if (s->as_json) {
		fwrite(text, 1, len, stdout);
		fputc('\n', stdout);
		return true;
	}
	if (!line) {
		printf("(no line of this log: %zu bytes)\n", len);
		return true;
	}
	printf("%-5" JSON_INTEGER_FORMAT " ", json_integer_value(json_object_get(line, "seq")));
	report_print_text(member(line, "time"), stdout);
	fputc(' ', stdout);
	report_print_text(member(line, "event"), stdout);
	fputs(": ", stdout);
	report_print_text(member(line, "detail"), stdout);
	print_members(line);
	fputs(json_object_get(line, "mac") ? "\n" : " (not sealed)\n", stdout);
	json_decref(line);
	return true;
}

static int show(const char *dir, const struct audit_options *o, struct err_why *why)
{
	struct show s = {.as_json = o->key.as_json};
	struct volume *v = NULL;
	char place[PATH_MAX];
	int code = key_open(dir, &v, why);
	enum err e;

	if (code != EXIT_OK)
		return code;
	if (!audit_place(o->key.audit_dir, place))
		code = cli_why(why, EXIT_USAGE,
			"Neither XDG_STATE_HOME nor HOME is set, so give the log's place by --audit-dir.");
	if (code == EXIT_OK) {
		e = auditlog_read(place, v->id, o->last, show_line, &s, why);
		if (e == ERR_NOT_FOUND)
			code = cli_why(why, EXIT_NO_AUDIT_LOG,
				"There is no audit log of this volume in %.300s; --audit-dir names another place.",
				place);
		else if (e != ERR_OK)
			code = cli_exit_code(e, why);
	}
	volume_close(v);
	return code;
}

static bool parse_last(const char *text, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *out > 0)
		return true;
	cli_say("--last needs a number of lines, not \"%s\".", text);
	return false;
}

static int run(struct cli *c, int argc, char **argv)
{
	enum { OPT_KEY = CLI_FIRST_FREE, OPT_DIR, OPT_LAST };
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"managed-key", required_argument, NULL, OPT_KEY}, {"audit-dir", required_argument, NULL, OPT_DIR},
		{"last", required_argument, NULL, OPT_LAST}, CLI_OPTIONS};
	struct audit_options o = {.last = ULONG_MAX};
	struct err_why why = {0};
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, &command_audit, argc, argv, ":j", options, &code)) >= 0) {
		if (opt == 'j')
			o.key.as_json = true;
		else if (opt == OPT_KEY)
			o.key.managed_key = optarg;
		else if (opt == OPT_DIR)
			o.key.audit_dir = optarg;
		else if (!parse_last(optarg, &o.last))
			return EXIT_USAGE;
	}
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_audit, argc, 2, 2))
		return EXIT_USAGE;
	if (strcmp(argv[optind], "show") == 0)
		code = show(argv[optind + 1], &o, &why);
	else if (strcmp(argv[optind], "verify") == 0)
		code = verify(c, argv[optind + 1], &o, &why);
	else
		code = cli_why(&why, EXIT_USAGE, "\"audit\" knows show and verify, not \"%s\".", argv[optind]);
	if (why.text[0])
		cli_say("%s", why.text);
	return code;
}

const struct command command_audit = {
	.name = "audit",
	.args = "show [--last N] [--json] DIR | verify [--json] DIR",
	.summary = "show or verify the audit log",
	.help = "show    prints the lines of the volume's audit log; nothing of them is checked.\n"
		"verify  checks the chain of lines, and their seals with the volume's keys; names the first line that "
		"was\n"
		"        changed, inserted, removed or cut off (exit code 4). While the volume is locked the seals "
		"can't\n"
		"        be checked (exit code 20).\n"
		"DIR is the volume's directory or its mount point.\n\n"
		"  --last N            the last N lines only\n"
		"  --json              the lines as they are; the verdict as a JSON object\n"
		"  --audit-dir DIR     where the log is, if it was mounted with -o audit_dir=\n"
		"  --managed-key SPEC  where the key is now, if not where it was; for a volume that is not mounted\n",
	.run = run,
};
