/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_key - blobcryptfs key: the managed key and the customer's key, their whole life.  No data is touched by any of
 * it.  Which volume and who does it: cmd_key_volume.c; vaults without a volume: cmd_key_vault.c; the work: keyops.c.
 */
#include "fs/cmd_key.h"
#include "fs/keyops.h"
#include "fs/log.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_KEY = CLI_FIRST_FREE,
	OPT_NEW_KEY,
	OPT_IDENTITY,
	OPT_CLOUD,
	OPT_TYPE,
	OPT_SIZE,
	OPT_REGION,
	OPT_OTHER_REGION,
	OPT_API_VERSION,
	OPT_PROBE,
	OPT_LEASE,
	OPT_EXPIRED,
	OPT_DRY_RUN,
	OPT_MANAGED,
	OPT_END,
	OPT_JSON = OPT_END,
};
#define BIT(opt) (1u << ((opt)-CLI_FIRST_FREE))

static const struct option options[] = {{"json", no_argument, NULL, OPT_JSON},
	{"managed-key", required_argument, NULL, OPT_KEY}, {"new-managed-key", required_argument, NULL, OPT_NEW_KEY},
	{"identity", required_argument, NULL, OPT_IDENTITY}, {"cloud", required_argument, NULL, OPT_CLOUD},
	{"type", required_argument, NULL, OPT_TYPE}, {"size", required_argument, NULL, OPT_SIZE},
	{"region", required_argument, NULL, OPT_REGION}, {"allow-other-region", no_argument, NULL, OPT_OTHER_REGION},
	{"api-version", required_argument, NULL, OPT_API_VERSION},
	{"probe-interval", required_argument, NULL, OPT_PROBE}, {"lease", required_argument, NULL, OPT_LEASE},
	{"allow-expired", no_argument, NULL, OPT_EXPIRED}, {"dry-run", no_argument, NULL, OPT_DRY_RUN},
	{"managed", no_argument, NULL, OPT_MANAGED}, CLI_OPTIONS};

/* ---- the commands ---- */

static int finish(int code, json_t *answer, const struct key_options *o, const struct err_why *why)
{
	if (code != EXIT_OK)
		cli_say("%s", why->text);
	else
		code = key_print_answer(answer, o->as_json);
	json_decref(answer);
	return code;
}

static int key_set(struct cli *c, const struct key_options *o, char **operands)
{
	const struct vault_want want = {.uri = operands[0],
		.cloud = o->cloud,
		.api_version = o->api_version,
		.identity = o->identity,
		.region = o->region,
		.allow_other_region = o->allow_other_region,
		.expired_allowed = o->allow_expired,
		.probe_seconds = o->probe_seconds,
		.lease_seconds = o->lease_seconds};
	struct err_why why = {0};
	json_t *args = NULL, *answer = NULL;
	int code = EXIT_OK;
	enum err e;

	/* What nobody has to be asked about comes first. */
	if (o->is_cli)
		code = cli_why(&why, EXIT_USAGE,
			"A volume is opened again with nobody at the command line, so the Azure CLI's identity can't "
			"be "
			"the one it opens with. Name another with --identity.");
	if (code == EXIT_OK) {
		e = keyops_set_check(&want, &why);
		code = e == ERR_NOT_FOUND ? EXIT_USAGE : cli_exit_code(e, &why);
	}
	if (code == EXIT_OK) {
		args = keyops_set_args(&want);
		if (!args || json_object_set_new(args, "dry_run", json_boolean(o->dry_run)) != 0)
			code = cli_why(&why, EXIT_MEMORY, "There is not enough memory.");
	}
	if (code == EXIT_OK)
		code = key_ask(c, operands[1], "key_set", args, o, &answer, &why);
	json_decref(args);
	return finish(code, answer, o, &why);
}

static int key_rotate(struct cli *c, const struct key_options *o, char **operands)
{
	struct err_why why = {0};
	json_t *answer = NULL;
	json_t *args = json_pack("{s:b, s:b}", "dry_run", o->dry_run, "managed", o->managed);
	int code = args ? key_ask(c, operands[0], "key_rotate", args, o, &answer, &why)
			: cli_why(&why, EXIT_MEMORY, "There is not enough memory.");

	json_decref(args);
	/* The key's own members have always been the object that --json prints. */
	if (answer && json_object_get(answer, "key"))
		json_object_update_missing(answer, json_object_get(answer, "key"));
	return finish(code, answer, o, &why);
}

static int key_off(struct cli *c, const struct key_options *o, char **operands)
{
	struct err_why why = {0};
	json_t *answer = NULL;
	json_t *args = json_pack("{s:b}", "dry_run", o->dry_run);
	int code = args ? key_ask(c, operands[0], "key_off", args, o, &answer, &why)
			: cli_why(&why, EXIT_MEMORY, "There is not enough memory.");

	json_decref(args);
	return finish(code, answer, o, &why);
}

static int key_verify(struct cli *c, const struct key_options *o, char **operands)
{
	struct err_why why = {0};
	json_t *answer = NULL;
	int code = key_ask(c, operands[0], "key_verify", NULL, o, &answer, &why);

	return finish(code, answer, o, &why);
}

static int key_show(struct cli *c, const struct key_options *o, char **operands)
{
	struct err_why why = {0};
	json_t *key = NULL;
	int code = key_look(operands[0], &key, &why);

	(void)c;
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else
		key_print_key(key, o->as_json);
	json_decref(key);
	return code;
}

static const struct sub {
	const char *name, *args;
	int n_operands;
	unsigned allowed; /* BIT of each of its options */
	int (*run)(struct cli *c, const struct key_options *o, char **operands);
} subs[] = {
	{"list", "[--identity SPEC] [--cloud NAME] [--json] VAULT", 1,
		BIT(OPT_IDENTITY) | BIT(OPT_CLOUD) | BIT(OPT_API_VERSION) | BIT(OPT_JSON), key_list},
	{"create",
		"[--identity SPEC] [--cloud NAME] [--type RSA|RSA-HSM|oct-HSM] [--size N] [--dry-run] [--json] VAULT "
		"NAME",
		2,
		BIT(OPT_IDENTITY) | BIT(OPT_CLOUD) | BIT(OPT_API_VERSION) | BIT(OPT_TYPE) | BIT(OPT_SIZE) |
			BIT(OPT_DRY_RUN) | BIT(OPT_JSON),
		key_create},
	{"set",
		"[--identity SPEC] [--cloud NAME] [--region R] [--allow-other-region] [--api-version V] "
		"[--probe-interval S] [--lease S] [--allow-expired] [--managed-key SPEC] [--dry-run] [--json] URI DIR",
		2,
		BIT(OPT_IDENTITY) | BIT(OPT_CLOUD) | BIT(OPT_REGION) | BIT(OPT_OTHER_REGION) | BIT(OPT_API_VERSION) |
			BIT(OPT_PROBE) | BIT(OPT_LEASE) | BIT(OPT_EXPIRED) | BIT(OPT_KEY) | BIT(OPT_DRY_RUN) |
			BIT(OPT_JSON),
		key_set},
	{"rotate", "[--managed] [--managed-key SPEC] [--new-managed-key SPEC] [--dry-run] [--json] DIR", 1,
		BIT(OPT_MANAGED) | BIT(OPT_KEY) | BIT(OPT_NEW_KEY) | BIT(OPT_DRY_RUN) | BIT(OPT_JSON), key_rotate},
	{"off", "[--managed-key SPEC] [--dry-run] [--json] DIR", 1, BIT(OPT_KEY) | BIT(OPT_DRY_RUN) | BIT(OPT_JSON),
		key_off},
	{"show", "[--json] DIR", 1, BIT(OPT_JSON), key_show},
	{"verify", "[--managed-key SPEC] [--json] DIR", 1, BIT(OPT_KEY) | BIT(OPT_JSON), key_verify},
	{"identity", "[--identity SPEC] [--cloud NAME] [--json] VAULT|DIR", 1,
		BIT(OPT_IDENTITY) | BIT(OPT_CLOUD) | BIT(OPT_JSON), key_identity},
};
#define N_SUBS (sizeof(subs) / sizeof(subs[0]))

/* ---- the command line ---- */

static bool number(const char *name, const char *text, unsigned min, unsigned max, unsigned *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < min || n > max) {
		cli_say("--%s has to be a number from %u to %u, not \"%s\".", name, min, max, text);
		return false;
	}
	*out = (unsigned)n;
	return true;
}

/* One option into o; false: it is said what is wrong. */
static bool take(struct key_options *o, int opt)
{
	switch (opt) {
	case OPT_JSON:
		o->as_json = true;
		return true;
	case OPT_KEY:
		o->managed_key = optarg;
		return true;
	case OPT_NEW_KEY:
		o->new_managed_key = optarg;
		return true;
	case OPT_IDENTITY:
		o->identity_spec = optarg;
		return true;
	case OPT_CLOUD:
		o->cloud = optarg;
		return true;
	case OPT_TYPE:
		o->type = optarg;
		return true;
	case OPT_SIZE:
		return number("size", optarg, 1, 65536, &o->size);
	case OPT_REGION:
		o->region = optarg;
		return true;
	case OPT_OTHER_REGION:
		o->allow_other_region = true;
		return true;
	case OPT_API_VERSION:
		o->api_version = optarg;
		return true;
	case OPT_PROBE:
		return number("probe-interval", optarg, 1, VAULT_PROBE_MAX, &o->probe_seconds);
	case OPT_LEASE:
		return number("lease", optarg, 0, VAULT_LEASE_MAX, &o->lease_seconds);
	case OPT_EXPIRED:
		o->allow_expired = true;
		return true;
	case OPT_DRY_RUN:
		o->dry_run = true;
		return true;
	case OPT_MANAGED:
		o->managed = true;
		return true;
	default:
		return false;
	}
}

static const struct sub *find_sub(const char *name)
{
	for (size_t i = 0; i < N_SUBS; i++)
		if (strcmp(subs[i].name, name) == 0)
			return &subs[i];
	cli_say("\"key\" knows list, create, set, rotate, off, show, verify and identity, not \"%s\".", name);
	return NULL;
}

static bool fits(const struct sub *s, unsigned given, int n_operands)
{
	for (size_t i = 0; options[i].name; i++) {
		int opt = options[i].val;

		if (opt < CLI_FIRST_FREE || !(given & BIT(opt)) || (s->allowed & BIT(opt)))
			continue;
		cli_say("\"key %s\" has no option --%s. Usage: blobcryptfs key %s %s", s->name, options[i].name,
			s->name, s->args);
		return false;
	}
	if (n_operands == s->n_operands)
		return true;
	cli_say("\"key %s\" %s. Usage: blobcryptfs key %s %s", s->name,
		n_operands < s->n_operands ? "needs more arguments" : "has too many arguments", s->name, s->args);
	return false;
}

static bool parse_identity(struct key_options *o)
{
	struct err_why why = {0};

	if (!o->identity_spec)
		return true;
	o->identity = azid_conf(o->identity_spec, &why);
	if (!o->identity) {
		cli_say("%s", why.text);
		return false;
	}
	o->is_cli = strcmp(o->identity_spec, "cli") == 0;
	return true;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct key_options o = {.lease_seconds = UINT_MAX};
	const struct sub *s = NULL;
	unsigned given = 0;
	int opt, code = EXIT_USAGE;

	while ((opt = cli_getopt(c, &command_key, argc, argv, ":", options, &code)) >= 0) {
		if (!take(&o, opt))
			return EXIT_USAGE;
		given |= BIT(opt);
	}
	if (opt == CLI_STOP)
		return code;
	code = EXIT_USAGE;
	if (cli_operands(&command_key, argc, 1, 3))
		s = find_sub(argv[optind]);
	if (!s || !fits(s, given, argc - optind - 1))
		return EXIT_USAGE;
	log_set_level(LOG_WARN);
	if (parse_identity(&o))
		code = s->run(c, &o, argv + optind + 1);
	json_decref(o.identity);
	return code;
}

const struct command command_key = {
	.name = "key",
	.args = "list|create|set|rotate|off|show|verify|identity [OPTIONS] ...",
	.summary = "the managed key and the customer's key of a volume",
	.help = "A volume is under a managed key, which this host keeps, and, if turned on, under a customer's key in\n"
		"Azure Key Vault or Managed HSM as well: then both are needed to open it. DIR is the volume's\n"
		"directory or its mount point; a mounted volume stays mounted. No data is touched.\n\n"
		"  key list VAULT         the vault's keys, and which of them are fit, or why not\n"
		"  key create VAULT NAME  a new key, or a new version of it: --type RSA (default), RSA-HSM, oct-HSM,\n"
		"                         --size 2048, 3072 (default), 4096\n"
		"  key set URI DIR        put the volume under that key: turn on, new version, or another key. URI is\n"
		"                         https://VAULT.vault.azure.net/keys/NAME; with /VERSION behind it newer\n"
		"                         versions are not followed. Everything is checked first, and said\n"
		"  key rotate DIR         managed: make a new version; customer's: look for a newer version now.\n"
		"                         --managed rotates the managed key below a customer's key\n"
		"  key off DIR            back to the managed key alone; not while access is revoked\n"
		"  key show DIR           which keys the volume is under, as its descriptor says\n"
		"  key verify DIR         proves now that they open it\n"
		"  key identity VAULT|DIR who we are to the vault, and how that one is given access\n\n"
		"  --identity SPEC         auto (default), vm[:CLIENT_ID], app-service[:CLIENT_ID], arc, workload,\n"
		"                          secret:TENANT/CLIENT_ID:FILE, certificate:TENANT/CLIENT_ID:FILE; for list,\n"
		"                          create and identity also cli. FILE: mode 0600, or credential:NAME\n"
		"  --cloud NAME            public (default), china, usgov, or a profile in /etc/blobcryptfs/clouds\n"
		"  --region R              set: where this machine is, if Azure does not tell, as in westeurope\n"
		"  --allow-other-region    set: the vault may be elsewhere\n"
		"  --probe-interval S      set: ask the vault every S seconds (10; 1 to 3600)\n"
		"  --lease S               set: stay open for S seconds if it can't be reached (600; 0 to 86400)\n"
		"  --allow-expired         set: a key that has expired goes on opening the volume\n"
		"  --api-version V         of Key Vault (7.4)\n"
		"  --managed-key SPEC      where the managed key is now, if not where it was; see \"help init\"\n"
		"  --new-managed-key SPEC  rotate: where the new one is to be (another key file, a new passphrase)\n"
		"  --dry-run               check, say what would be done, and change nothing\n"
		"  --json                  as a JSON object\n",
	.run = run,
};
