/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_umount - blobcryptfs umount: unmounts, and returns when the daemon has brought everything to disk. */
#include "fs/cli.h"
#include "fs/mounts.h"
#include "keyprov/volume.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SECONDS 60
#define STEP_MS	     20
#define EXIT_WAIT_MS 5000 /* from the release of the lock to the end of the process */

/* Does the daemon still hold the volume for the mount that was at target? */
static bool held(const struct volume *v, const char *target, struct lock_holder *holder)
{
	memset(holder, 0, sizeof(*holder));
	return volume_lock_holder(v, holder) == ERR_OK && strcmp(holder->mountpoint, target) == 0;
}

/* Waits until the volume is free; false: it is still held after WAIT_SECONDS. */
static bool wait_for_daemon(const struct volume *v, const char *target, int pidfd)
{
	const struct timespec step = {0, STEP_MS * 1000000L};
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool is_held = true;

	for (int left = WAIT_SECONDS * 1000 / STEP_MS; holder && left >= 0; left--) {
		is_held = held(v, target, holder);
		if (!is_held)
			break;
		nanosleep(&step, NULL);
	}
	free(holder);
	if (!is_held && pidfd >= 0 && poll(&p, 1, EXIT_WAIT_MS) < 0)
		return true; /* interrupted: the volume is free all the same */
	return !is_held;
}

/* The daemon's process, while we know which one it is; -1: not on this host, or not to be seen. */
static int daemon_process(const struct volume *v, const char *target)
{
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	char host[65] = "";
	int fd = -1;

	if (holder && gethostname(host, sizeof(host) - 1) == 0 && held(v, target, holder) && holder->pid > 0 &&
		strcmp(holder->host, host) == 0)
		fd = pidfd_open((pid_t)holder->pid, 0);
	free(holder);
	return fd;
}

static int unmount_volume(const struct mount_info *at, bool lazy, struct err_why *why)
{
	struct volume *v = NULL;
	int pidfd = -1, rc, code = EXIT_OK;

	/* Without it (another name in -o fsname=, say) there is nothing to wait for. */
	if (volume_open(at->source, &v, NULL) == ERR_OK)
		pidfd = daemon_process(v, at->target);
	rc = mounts_unmount(at->target, lazy);
	if (rc == EBUSY)
		code = cli_why(why, EXIT_BUSY,
			"%s is in use. \"fuser -vm %s\" shows by whom; umount --lazy takes it away from "
			"sight now and ends it when nobody uses it any more.",
			at->target, at->target);
	else if (rc == EPERM || rc == EACCES)
		code = cli_why(why, EXIT_PERMISSION, "%s can be unmounted by root and by the user who mounted it only.",
			at->target);
	else if (rc)
		code = cli_why(why, EXIT_MOUNT_FAILED, "%s can't be unmounted: %s.", at->target, strerror(rc));
	else if (v && !lazy && !wait_for_daemon(v, at->target, pidfd))
		code = cli_why(why, EXIT_BUSY,
			"%s is unmounted, but its daemon has not finished within %d seconds; it may still "
			"be writing to %s.",
			at->target, WAIT_SECONDS, at->source);
	if (pidfd >= 0)
		close(pidfd);
	volume_close(v);
	return code;
}

static int run(struct cli *c, int argc, char **argv)
{
	static const struct option options[] = {{"lazy", no_argument, NULL, 'l'}, CLI_OPTIONS};
	struct mount_info at = {0};
	struct err_why why = {0};
	bool lazy = false;
	int opt, code = EXIT_OK;
	char *path;

	while ((opt = cli_getopt(c, &command_umount, argc, argv, ":lz", options, &code)) >= 0)
		lazy = true;
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_umount, argc, 1, 1))
		return EXIT_USAGE;
	path = path_absolute(argv[optind]);
	if (path && mounts_at(path, &at) != ERR_OK) { /* perhaps a symlink to it */
		free(path);
		path = realpath(argv[optind], NULL);
	}
	if (path && (at.target || mounts_at(path, &at) == ERR_OK) && at.is_ours)
		code = unmount_volume(&at, lazy, &why);
	else
		code = cli_why(&why, EXIT_NOT_MOUNTED, "No volume is mounted at %s.", argv[optind]);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	mount_info_clear(&at);
	free(path);
	return code;
}

const struct command command_umount = {
	.name = "umount",
	.args = "[-l] MOUNTPOINT",
	.summary = "unmount a volume and wait until it is on disk",
	.help = "Unmounts the volume at MOUNTPOINT and waits until its daemon has brought everything to disk and is "
		"gone.\n\n"
		"  -l, --lazy  take it away from sight now, end it when nobody uses it any more; does not wait\n",
	.run = run,
};
