/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_helper - the program as mount(8) calls it: mount.blobcryptfs DIR MOUNTPOINT [-sfnv] [-N ns] [-o options] [-t
 * type].
 *
 * A user's mount of an fstab line with "user" comes here with that user's rights; fusermount3 does the rest then.
 */
#include "fs/cmd_mount.h"
#include "fs/mounts.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* mount(8), "Exit status". */
enum { MOUNT_OK = 0, MOUNT_USAGE = 1, MOUNT_SYSTEM = 2, MOUNT_FAILURE = 32 };

struct helper {
	struct mount_options options;
	struct cli cli;
	bool sloppy, fake, verbose;
	const char *namespace;
	const char *operands[2];
};

static int mount_code(int code)
{
	switch (code) {
	case EXIT_OK:
		return MOUNT_OK;
	case EXIT_USAGE:
	case EXIT_PERMISSION:
		return MOUNT_USAGE;
	case EXIT_INTERNAL:
	case EXIT_MEMORY:
		return MOUNT_SYSTEM;
	default:
		return MOUNT_FAILURE;
	}
}

/* mount -N: a process number or a file of a mount namespace. */
static int enter_namespace(const char *ns)
{
	char path[64];
	int fd;

	if (ns[0] && ns[strspn(ns, "0123456789")] == '\0') {
		snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", ns);
		ns = path;
	}
	fd = open(ns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNS) < 0) {
		cli_say("The mount namespace %s can't be entered: %s.", ns, strerror(errno));
		if (fd >= 0)
			close(fd);
		return EXIT_PERMISSION;
	}
	close(fd);
	return EXIT_OK;
}

/* The options of several -o; what they mean is looked at when all switches are known. */
static int parse(struct helper *h, int argc, char **argv, char **lists)
{
	int opt;
	char *joined;

	opterr = 0;
	while ((opt = getopt(argc, argv, ":sfnvrwN:o:t:")) != -1) {
		switch (opt) {
		case 's':
			h->sloppy = true;
			break;
		case 'f':
			h->fake = true;
			break;
		case 'n': /* there is no mtab to leave alone */
		case 't': /* there is one type only */
			break;
		case 'v':
			h->verbose = true;
			break;
		case 'N':
			h->namespace = optarg;
			break;
		case 'r':
		case 'w':
		case 'o':
			if (asprintf(&joined, "%s%s%s", *lists ? *lists : "", *lists ? "," : "",
				    opt == 'r'	 ? "ro"
				    : opt == 'w' ? "rw"
						 : optarg) < 0)
				return EXIT_MEMORY;
			free(*lists);
			*lists = joined;
			break;
		default:
			cli_say("mount.blobcryptfs has no option -%c, or it needs a value.", optopt);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		cli_say("Usage: mount.blobcryptfs DIR MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS]");
		return EXIT_USAGE;
	}
	h->operands[0] = argv[optind];
	h->operands[1] = argv[optind + 1];
	return EXIT_OK;
}

static int help_mount(struct helper *h, const char *lists)
{
	struct err_why why = {0};
	enum err e = lists ? options_parse(&h->options, lists, h->sloppy, &why) : ERR_OK;
	int code;

	if (e != ERR_OK)
		return cli_fail(cli_exit_code(e, &why), e, &why);
	if (h->namespace) {
		code = enter_namespace(h->namespace);
		if (code != EXIT_OK)
			return code;
	}
	if (h->verbose)
		printf("mount.blobcryptfs: %s on %s (%s)\n", h->operands[0], h->operands[1], lists ? lists : "");
	if (h->fake)
		return EXIT_OK;
	if (h->options.remount)
		return mount_change(&h->options, h->operands[1], true);
	return mount_volume(&h->cli, &h->options, h->operands[0], h->operands[1], false);
}

/* mount(8) clears the environment, but a user's keys are looked for at home. */
static void set_home(void)
{
	const struct passwd *pw;

	if (geteuid() == 0 || secure_getenv("HOME"))
		return;
	pw = getpwuid(geteuid());
	if (pw)
		setenv("HOME", pw->pw_dir, 1);
}

int mount_helper_main(int argc, char **argv)
{
	struct helper h = {0};
	char *lists = NULL;
	int code;

	set_home();
	options_init(&h.options);
	code = parse(&h, argc, argv, &lists);
	if (code == EXIT_OK)
		code = help_mount(&h, lists);
	options_clear(&h.options);
	free(lists);
	return mount_code(code);
}
