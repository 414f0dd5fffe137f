/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_speed - blobcryptfs speed: what the ciphers and this machine can do. */
#include "crypto/speed.h"
#include "fs/cli.h"
#include "fs/serve.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct output {
	json_t *results; /* NULL: print as it comes */
};

static void emit(void *arg, const char *what, double value, const char *unit)
{
	const struct output *o = arg;

	if (o->results) {
		json_array_append_new(
			o->results, json_pack("{s:s, s:f, s:s}", "what", what, "value", value, "unit", unit));
		return;
	}
	printf("%-44s %10.2f %s\n", what, value, unit);
	fflush(stdout);
}

static int measure(const struct fips *fips, bool as_json, struct err_why *why)
{
	struct output o = {.results = as_json ? json_array() : NULL};
	const char *reason;
	bool uring = uring_wanted(URING_AUTO, &reason);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	json_t *all;
	enum err e;

	if (!as_json) {
		printf("provider:    %s %s%s\n", fips->name, fips->version, fips->is_fips ? "" : " (NOT FIPS)");
		printf("processors:  %ld\n", cores);
		printf("io_uring:    %s: %s\n\n", uring ? "yes" : "no", reason);
		fflush(stdout);
	}
	e = speed_run(fips, emit, &o);
	if (e == ERR_OK && as_json) {
		all = json_pack("{s:{s:s, s:s, s:b}, s:I, s:{s:b, s:s}, s:O}", "fips", "provider", fips->name,
			"version", fips->version, "approved", fips->is_fips, "processors", (json_int_t)cores,
			"io_uring", "available", uring, "reason", reason, "results", o.results);
		if (all) {
			json_dumpf(all, stdout, JSON_INDENT(2));
			putchar('\n');
		}
		json_decref(all);
	}
	json_decref(o.results);
	if (e != ERR_OK)
		return cli_why(why, cli_exit_code(e, why), "The measurement failed: %s.", err_text(e));
	return EXIT_OK;
}

static int run(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct err_why why = {0};
	struct fips *fips = NULL;
	bool as_json = false;
	int opt, code = EXIT_OK;

	while ((opt = cli_getopt(c, &command_speed, argc, argv, ":j", options, &code)) >= 0)
		as_json = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_speed, argc, 0, 0))
		return EXIT_USAGE;
	code = cli_crypto(c, &fips, &why);
	if (code == EXIT_OK)
		code = measure(fips, as_json, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	fips_close(fips);
	return code;
}

const struct command command_speed = {
	.name = "speed",
	.args = "[--json]",
	.summary = "measure the ciphers on this machine",
	.help = "Measures, on one processor, what volumes are made of.\n\n"
		"  --json  as a JSON object\n",
	.run = run,
};
