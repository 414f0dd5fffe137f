/* SPDX-License-Identifier: Apache-2.0 */
/* cli - see cli.h. */
#include "fs/cli.h"

#include "crypto/secret.h"
#include "keyprov/http.h"
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

void cli_say(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("blobcryptfs: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_why(struct err_why *why, int code, const char *fmt, ...)
{
	va_list ap;

	why->sys_errno = 0;
	va_start(ap, fmt);
	if (vsnprintf(why->text, sizeof(why->text), fmt, ap) < 0)
		why->text[0] = '\0';
	va_end(ap);
	return code;
}

int cli_fail(int code, enum err e, const struct err_why *why)
{
	if (why && why->text[0])
		cli_say("%s", why->text);
	else if (why && why->sys_errno)
		cli_say("%s (%s)", err_text(e), strerror(why->sys_errno));
	else
		cli_say("%s", err_text(e));
	return code;
}

int cli_exit_code(enum err e, const struct err_why *why)
{
	switch (e) {
	case ERR_OK:
		return EXIT_OK;
	case ERR_NOMEM:
		return EXIT_MEMORY;
	case ERR_IO:
		if (why && (why->sys_errno == EACCES || why->sys_errno == EPERM))
			return EXIT_PERMISSION;
		return EXIT_BACKING;
	case ERR_NOT_FOUND:
		return EXIT_NOT_A_VOLUME;
	case ERR_EXISTS:
		return EXIT_ALREADY_MOUNTED;
	case ERR_RANGE:
	case ERR_CONFIG:
		return EXIT_USAGE;
	case ERR_CORRUPT:
		return EXIT_DAMAGED;
	case ERR_UNSUPPORTED:
		return EXIT_NEWER;
	case ERR_FIPS:
		return EXIT_NO_FIPS;
	case ERR_KEY_UNAVAILABLE:
		return EXIT_KEY_UNAVAILABLE;
	case ERR_KEY_DENIED:
		return EXIT_KEY_DENIED;
	case ERR_KEY_REVOKED:
		return EXIT_KEY_REVOKED;
	case ERR_BUG:
		break;
	}
	return EXIT_INTERNAL;
}

int cli_exit_code_key(enum err e, const struct err_why *why)
{
	/* Wrong mode of a key file, key not there: whatever it is, the key can't be had. */
	if (e == ERR_CONFIG || e == ERR_NOT_FOUND || e == ERR_IO)
		return EXIT_KEY_UNAVAILABLE;
	return cli_exit_code(e, why);
}

void cli_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

int cli_crypto(const struct cli *c, struct fips **out, struct err_why *why)
{
	const struct fips_config cfg = {.dir = c->fips_dir, .allow_non_fips = c->allow_non_fips};
	enum err e = secret_hook_openssl();

	if (e != ERR_OK)
		return cli_why(why, EXIT_INTERNAL, "OpenSSL's memory can't be routed into locked memory.");
	e = secret_setup(why);
	if (e != ERR_OK)
		return EXIT_MEMORY;
	e = http_setup(why);
	if (e != ERR_OK)
		return e == ERR_NOMEM ? EXIT_MEMORY : EXIT_NO_FIPS;
	e = fips_open(&cfg, out, why);
	if (e != ERR_OK)
		return e == ERR_NOMEM ? EXIT_MEMORY : EXIT_NO_FIPS;
	if (!(*out)->is_fips)
		cli_say("WARNING: the cryptography in use (%s %s) is NOT a FIPS provider, because allow_non_fips was "
			"given.",
			(*out)->name, (*out)->version);
	return EXIT_OK;
}

void cli_help(const struct command *cmd, FILE *out)
{
	fprintf(out, "Usage: blobcryptfs %s %s\n\n%s\n", cmd->name, cmd->args, cmd->help);
}

int cli_getopt(struct cli *c, const struct command *cmd, int argc, char **argv, const char *short_options,
	const struct option *long_options, int *code)
{
	for (;;) {
		int opt = getopt_long(argc, argv, short_options, long_options, NULL);
		const char *what = optind > 0 && optind <= argc ? argv[optind - 1] : "";

		switch (opt) {
		case CLI_FIPS_DIR:
			c->fips_dir = optarg;
			continue;
		case CLI_NON_FIPS:
			c->allow_non_fips = true;
			continue;
		case CLI_HELP:
			cli_help(cmd, stdout);
			*code = EXIT_OK;
			return CLI_STOP;
		case ':':
			cli_say("The option %s of \"%s\" needs a value. \"blobcryptfs help %s\" tells more.", what,
				cmd->name, cmd->name);
			*code = EXIT_USAGE;
			return CLI_STOP;
		case '?':
			cli_say("\"%s\" has no option %s. \"blobcryptfs help %s\" lists them.", cmd->name, what,
				cmd->name);
			*code = EXIT_USAGE;
			return CLI_STOP;
		default:
			return opt;
		}
	}
}

bool cli_operands(const struct command *cmd, int argc, int min, int max)
{
	int have = argc - optind;

	if (have >= min && have <= max)
		return true;
	cli_say("\"%s\" %s. Usage: blobcryptfs %s %s", cmd->name,
		have < min ? "needs more arguments" : "has too many arguments", cmd->name, cmd->args);
	return false;
}
