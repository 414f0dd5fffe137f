/* SPDX-License-Identifier: Apache-2.0 */
/* main - finds out which command is meant, by argv[0] or argv[1]. */
#include "crypto/secret.h"
#include "fs/cli.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct command *const commands[] = {
	&command_init,
	&command_mount,
	&command_umount,
	&command_status,
	&command_speed,
	&command_key,
	&command_lock,
	&command_unlock,
	&command_metrics,
	&command_revocation_report,
	&command_audit,
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static void usage(FILE *out)
{
	fputs("Usage: blobcryptfs [--fips-dir DIR] [--allow-non-fips] COMMAND ...\n"
	      "Keeps a directory encrypted; what is in it is seen through a mount.\n\n",
		out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(out, "  %-17s %s\n", commands[i]->name, commands[i]->summary);
	fputs("  help              tell more about a command: blobcryptfs help mount\n\n"
	      "  --fips-dir DIR    directory of the FIPS provider (fips.so, fipsmodule.cnf)\n"
	      "  --allow-non-fips  go on without a FIPS provider; loud\n"
	      "  --version         print the version\n"
	      "  --help            print this\n",
		out);
}

static int help(int argc, char **argv)
{
	const struct command *cmd;

	if (argc < 2) {
		usage(stdout);
		return EXIT_OK;
	}
	cmd = find(argv[1]);
	if (!cmd) {
		cli_say("There is no command \"%s\". \"blobcryptfs help\" lists them.", argv[1]);
		return EXIT_USAGE;
	}
	cli_help(cmd, stdout);
	return EXIT_OK;
}

static int dispatch(int argc, char **argv)
{
	enum { OPT_VERSION = CLI_FIRST_FREE };
	static const struct option options[] = {{"version", no_argument, NULL, OPT_VERSION}, CLI_OPTIONS};
	struct cli c = {0};
	const struct command *cmd;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+:hV", options, NULL)) != -1) {
		switch (opt) {
		case CLI_FIPS_DIR:
			c.fips_dir = optarg;
			break;
		case CLI_NON_FIPS:
			c.allow_non_fips = true;
			break;
		case OPT_VERSION:
		case 'V':
			puts("blobcryptfs " BLOBCRYPTFS_VERSION);
			return EXIT_OK;
		case CLI_HELP:
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case ':':
			cli_say("The option %s needs a value.", argv[optind - 1]);
			return EXIT_USAGE;
		default:
			cli_say("There is no option %s. \"blobcryptfs --help\" lists them.", argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (optind >= argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	argc -= optind;
	argv += optind;
	if (strcmp(argv[0], "help") == 0)
		return help(argc, argv);
	cmd = find(argv[0]);
	if (!cmd) {
		cli_say("There is no command \"%s\". \"blobcryptfs --help\" lists them.", argv[0]);
		return EXIT_USAGE;
	}
	optind = 0; /* getopt starts again, with the command as its argv[0] */
	return cmd->run(&c, argc, argv);
}

int main(int argc, char **argv)
{
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
	int fd, code;

	if (argc < 1)
		return EXIT_USAGE;
	name = name ? name + 1 : argv[0];
	/* A file opened as descriptor 0, 1 or 2 by accident would get our messages. */
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= 2);
	if (fd >= 0)
		close(fd);
	if (strcmp(name, "mount.blobcryptfs") == 0 || strcmp(name, "mount.fuse.blobcryptfs") == 0)
		return mount_helper_main(argc, argv);
	code = dispatch(argc, argv);
	if (code == EXIT_OK && (fflush(stdout) != 0 || ferror(stdout))) {
		cli_say("The output could not be written.");
		code = EXIT_INTERNAL;
	}
	secret_teardown();
	return code;
}
