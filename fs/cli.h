/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli - what the subcommands share: exit codes, global options, the sentence on standard error.
 *
 * One thread.  Sentences go out as "blobcryptfs: ..."; they name the thing and the remedy.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

/* Documented in blobcryptfs(1), "Exit status"; never renumbered. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_INTERNAL = 1, /* a mistake of ours, or the daemon died */
	EXIT_USAGE = 2,	   /* wrong command line or mount option */
	EXIT_NOT_A_VOLUME = 3,
	EXIT_DAMAGED = 4, /* descriptor or state is damaged or was tampered with */
	EXIT_NEWER = 5,	  /* made by a newer version, or an unknown suite */
	EXIT_KEY_UNAVAILABLE = 6,
	EXIT_KEY_DENIED = 7, /* wrong passphrase, or the keeper of the key says no */
	EXIT_KEY_REVOKED = 8,
	EXIT_NO_FIPS = 9,
	EXIT_MOUNT_POINT = 10, /* can't be used */
	EXIT_ALREADY_MOUNTED = 11,
	EXIT_BACKING = 12, /* the filesystem below: full, read-only, I/O error */
	EXIT_PERMISSION = 13,
	EXIT_MEMORY = 14,	/* can't be had, or can't be locked */
	EXIT_MOUNT_FAILED = 15, /* the kernel or fusermount3 refused */
	EXIT_DIRECTORY = 16,	/* init: not empty, a volume already, inside of one */
	EXIT_NOT_MOUNTED = 17,
	EXIT_BUSY = 18,	      /* still in use */
	EXIT_KEY_UNFIT = 19,  /* key set: the vault or the key does not pass a check */
	EXIT_NOT_SEALED = 20, /* audit verify: chained, but the seals can't be checked without the keys */
	EXIT_NO_AUDIT_LOG = 21,
};

struct cli {
	const char *fips_dir; /* NULL: the usual places */
	bool allow_non_fips;
};

struct command {
	const char *name, *args, *summary;
	const char *help; /* its options, one a line; ends with a newline */
	int (*run)(struct cli *c, int argc, char **argv);
};

extern const struct command command_init, command_mount, command_umount, command_status, command_speed, command_key,
	command_lock, command_unlock, command_metrics, command_revocation_report, command_audit;

/* For each getopt_long table: what every command understands. */
enum { CLI_FIPS_DIR = 0x1000, CLI_NON_FIPS, CLI_HELP, CLI_FIRST_FREE };
#define CLI_OPTIONS                                                                                                    \
	{"fips-dir", required_argument, NULL, CLI_FIPS_DIR}, {"allow-non-fips", no_argument, NULL, CLI_NON_FIPS},      \
		{"help", no_argument, NULL, CLI_HELP},                                                                 \
	{                                                                                                              \
		NULL, 0, NULL, 0                                                                                       \
	}

#define CLI_DONE (-1) /* no more options */
#define CLI_STOP (-2) /* help was printed or a mistake told: the command ends with *code */
/* The next option of a command; those of CLI_OPTIONS are dealt with.  short_options must start with ':' or "+:". */
int cli_getopt(struct cli *c, const struct command *cmd, int argc, char **argv, const char *short_options,
	const struct option *long_options, int *code);
/* Are there from min to max arguments left?  Else says so. */
bool cli_operands(const struct command *cmd, int argc, int min, int max);

void cli_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints why (or err_text) and returns code. */
int cli_fail(int code, enum err e, const struct err_why *why);
/* The exit code for an error that has no better one where it happened. */
int cli_exit_code(enum err e, const struct err_why *why);
/* The same for a failure to get at the volume key. */
int cli_exit_code_key(enum err e, const struct err_why *why);
/* Fills why from code and text for results that are not of enum err. */
int cli_why(struct err_why *why, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* secret_hook_openssl, secret_setup and fips_open; loud if it is not FIPS.  0 or an exit code, with why. */
int cli_crypto(const struct cli *c, struct fips **out, struct err_why *why);

void cli_help(const struct command *cmd, FILE *out);
void cli_hex(const uint8_t *bytes, size_t len, char *out); /* out: 2 * len + 1 */

/* mount.blobcryptfs and mount.fuse.blobcryptfs: what mount(8) calls.  Returns codes of mount(8). */
int mount_helper_main(int argc, char **argv);
