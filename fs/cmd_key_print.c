/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key_print - what the key commands say; see cmd_key.h. */
#include "fs/cmd_key.h"
#include "fs/report.h"
#include <string.h>

#define COLUMN 18

/* Text of a vault, a token or a descriptor must not move the terminal's cursor. */
static void put(const char *s)
{
	for (; *s; s++)
		putchar(((unsigned char)*s < ' ' && *s != '\n') || *s == 0x7f ? '?' : *s);
}

/* Later lines go below the first. */
static void put_indented(const char *s, int indent)
{
	for (; *s; s++) {
		const char one[] = {*s, '\0'};

		put(one);
		if (*s == '\n')
			printf("%*s", indent, "");
	}
}

static const char *member(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

void key_print_key(const json_t *key, bool as_json)
{
	json_t *o;

	if (as_json) {
		report_dump(key, stdout);
		return;
	}
	o = json_pack("{s:O}", "key", key);
	if (o)
		report_print(o, stdout);
	json_decref(o);
}

static void print_check(const json_t *c)
{
	const char *state = member(c, "state"), *remedy = member(c, "remedy");
	bool failed = strcmp(state, "failed") == 0;

	printf("%-9s", failed ? "FAILED" : state);
	put(member(c, "name"));
	printf("%*s", COLUMN - (int)strlen(member(c, "name")), "");
	put_indented(member(c, "found"), 9 + COLUMN);
	putchar('\n');
	if (*remedy) {
		printf("%*sremedy: ", 9 + COLUMN, "");
		put_indented(remedy, 9 + COLUMN + 2);
		putchar('\n');
	}
}

static void print_field(const char *label, const char *value)
{
	if (!*value)
		return;
	printf("%s:%*s", label, (int)(COLUMN - strlen(label)), "");
	put_indented(value, COLUMN + 1);
	putchar('\n');
}

void key_print_identity(const json_t *who)
{
	print_field("identity", member(who, "kind"));
	print_field("object id", member(who, "oid"));
	print_field("application id", member(who, "appid"));
	print_field("tenant", member(who, "tenant"));
	print_field("resource", member(who, "resource"));
	print_field("vault", member(who, "vault"));
	print_field("vault tenant", member(who, "vault_tenant"));
	print_field("vault region", member(who, "vault_region"));
	print_field("vault trouble", member(who, "vault_trouble"));
	puts("\nThe role it needs, and no other, is granted by:\n");
	put(member(who, "grant"));
	putchar('\n');
}

/* What the vault said last: what to look for in its own logs. */
static void print_detail(const json_t *d)
{
	const json_t *status = json_object_get(d, "http_status");

	if (json_integer_value(status) / 100 == 2)
		return; /* the vault has nothing to do with it */
	if (json_is_integer(status))
		printf("vault's answer:    %" JSON_INTEGER_FORMAT " %s\n", json_integer_value(status),
			member(d, "reason"));
	else
		print_field("vault's answer", member(d, "reason"));
	print_field("request id", member(d, "request_id"));
	print_field("our request id", member(d, "client_request_id"));
}

int key_print_answer(const json_t *answer, bool as_json)
{
	const json_t *told = json_object_get(answer, "code");
	int code = json_is_integer(told) ? (int)json_integer_value(told) : EXIT_INTERNAL; /* an older daemon's "no" */
	const json_t *did = json_object_get(answer, "did"), *checks = json_object_get(answer, "checks");
	const char *error = member(answer, "error");

	if (as_json) {
		report_dump(answer, stdout);
	} else {
		for (size_t i = 0; i < json_array_size(checks); i++)
			print_check(json_array_get(checks, i));
		if (code != EXIT_OK)
			print_detail(json_object_get(answer, "detail"));
		if (json_is_true(json_object_get(answer, "dry_run")) && code == EXIT_OK)
			puts("Dry run: nothing is changed.");
		for (size_t i = 0; i < json_array_size(did); i++) {
			put(json_string_value(json_array_get(did, i)));
			putchar('\n');
		}
		if (code == EXIT_OK && json_object_get(answer, "key"))
			key_print_key(json_object_get(answer, "key"), false);
		if (code == EXIT_OK && json_object_get(answer, "identity"))
			key_print_identity(json_object_get(answer, "identity"));
	}
	if (code != EXIT_OK)
		cli_say("%s", *error ? error : "The daemon gave no answer that makes sense.");
	return code;
}
