/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mount - blobcryptfs mount. */
#include "fs/cmd_mount.h"

#include "fs/control.h"
#include "fs/daemon.h"
#include "fs/mounts.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ASK_SECONDS 5
/* What a remount may change. */
#define REMOUNT_FLAGS                                                                                                  \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOATIME | MS_NODIRATIME |     \
		MS_NOSYMFOLLOW | MS_RELATIME | MS_LAZYTIME)

static int open_directory(const char *path, const char *what, int code, int *fd, struct err_why *why)
{
	*fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*fd >= 0)
		return EXIT_OK;
	if (errno == ENOTDIR)
		return cli_why(why, code, "The %s %s is not a directory.", what, path);
	if (errno == ENOENT)
		return cli_why(why, code, "The %s %s does not exist.", what, path);
	return cli_why(why, errno == EACCES ? EXIT_PERMISSION : code, "The %s %s can't be opened: %s.", what, path,
		strerror(errno));
}

/* One of the two would hide the other. */
static int check_nesting(int dirfd, int mountfd, const char *dir, const char *mountpoint, struct err_why *why)
{
	switch (path_nesting(mountfd, dirfd)) {
	case NESTING_SAME:
		return cli_why(why, EXIT_MOUNT_POINT, "%s is the volume's own directory; mount it on another one.",
			mountpoint);
	case NESTING_BELOW:
		return cli_why(why, EXIT_MOUNT_POINT,
			"The mount point %s is inside of the volume's own directory %s; choose "
			"one outside.",
			mountpoint, dir);
	case NESTING_NONE:
		break;
	}
	if (path_nesting(dirfd, mountfd) == NESTING_BELOW)
		return cli_why(why, EXIT_MOUNT_POINT,
			"A mount on %s would hide the volume's own directory %s; choose another "
			"mount point.",
			mountpoint, dir);
	return EXIT_OK;
}

static int check_mountpoint(const struct mount_options *o, const char *mountpoint, struct err_why *why)
{
	struct mount_info at = {0};
	struct statfs fs;
	int rc, code = EXIT_OK;

	/* statfs, since the kernel may still remember what stat asks for */
	if (statfs(mountpoint, &fs) < 0 && errno == ENOTCONN)
		return cli_why(why, EXIT_MOUNT_POINT,
			"At %s is a mount whose daemon has died. Unmount it first: umount %s", mountpoint, mountpoint);
	if (mounts_at(mountpoint, &at) == ERR_OK && at.is_ours)
		code = cli_why(why, EXIT_MOUNT_POINT, "At %s the volume %s is mounted already.", mountpoint, at.source);
	mount_info_clear(&at);
	if (code != EXIT_OK || o->nonempty)
		return code;
	rc = path_is_empty(mountpoint);
	if (rc == ENOTEMPTY)
		return cli_why(why, EXIT_MOUNT_POINT,
			"The mount point %s is not empty, and a mount would hide what is in it. "
			"Choose an empty directory, or give -o nonempty.",
			mountpoint);
	if (rc)
		return cli_why(why, rc == EACCES ? EXIT_PERMISSION : EXIT_MOUNT_POINT,
			"The mount point %s can't be read: %s.", mountpoint, strerror(rc));
	return EXIT_OK;
}

static int check(const struct mount_options *o, const char *dir, const char *mountpoint, struct err_why *why)
{
	int dirfd = -1, mountfd = -1;
	int code = open_directory(dir, "directory", EXIT_NOT_A_VOLUME, &dirfd, why);

	if (code == EXIT_OK)
		code = open_directory(mountpoint, "mount point", EXIT_MOUNT_POINT, &mountfd, why);
	if (code == EXIT_OK)
		code = check_nesting(dirfd, mountfd, dir, mountpoint, why);
	if (code == EXIT_OK)
		code = check_mountpoint(o, mountpoint, why);
	if (dirfd >= 0)
		close(dirfd);
	if (mountfd >= 0)
		close(mountfd);
	return code;
}

int mount_volume(
	const struct cli *c, const struct mount_options *o, const char *dir, const char *mountpoint, bool foreground)
{
	struct cli with = *c;
	struct err_why why = {0};
	/* A path that can't be resolved is checked, and told, as it was given. */
	char *real_dir = realpath(dir, NULL), *real_mountpoint = realpath(mountpoint, NULL);
	int code = check(o, real_dir ? real_dir : dir, real_mountpoint ? real_mountpoint : mountpoint, &why);

	if (o->fips_dir)
		with.fips_dir = o->fips_dir;
	with.allow_non_fips = c->allow_non_fips || o->allow_non_fips;
	if (code == EXIT_OK && (!real_dir || !real_mountpoint))
		code = cli_why(
			&why, EXIT_MOUNT_POINT, "The absolute path of %s can't be found.", real_dir ? mountpoint : dir);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	else
		code = daemon_run(real_dir, real_mountpoint, o, &with, foreground);
	free(real_dir);
	free(real_mountpoint);
	return code;
}

/* Was the volume opened for reading only?  Then no flag of the mount makes it writable. */
static int check_writable(const struct mount_info *at, struct err_why *why)
{
	json_t *answer = NULL;
	const json_t *read_only;
	int code = EXIT_OK;

	if (control_ask(NULL, at->target, at->user_id, "status", ASK_SECONDS, &answer, NULL) != ERR_OK)
		return cli_why(why, EXIT_MOUNT_FAILED,
			"%s can't be remounted read-write, since its daemon does not answer. "
			"Unmount it and mount it again.",
			at->target);
	read_only = json_object_get(json_object_get(answer, "session"), "read_only");
	if (!json_is_false(read_only))
		code = cli_why(why, EXIT_MOUNT_FAILED,
			"%s was mounted read-only and can't be remounted read-write. Unmount it "
			"and mount it again.",
			at->target);
	json_decref(answer);
	return code;
}

static int change(const struct mount_options *o, const struct mount_info *at, bool whole, struct err_why *why)
{
	unsigned long kept = whole ? at->flags & (MS_RELATIME | MS_LAZYTIME) : at->flags;
	unsigned long flags = ((kept | o->flags_on) & ~o->flags_off) & REMOUNT_FLAGS;
	int code;

	if (geteuid() != 0)
		return cli_why(why, EXIT_PERMISSION, "Only root can remount %s.", at->target);
	if ((at->flags & MS_RDONLY) && !(flags & MS_RDONLY)) {
		code = check_writable(at, why);
		if (code != EXIT_OK)
			return code;
	}
	if (mount("none", at->target, NULL, MS_REMOUNT | flags, NULL) == 0)
		return EXIT_OK;
	if (errno == EBUSY)
		return cli_why(why, EXIT_BUSY,
			"%s can't be remounted read-only while files in it are open for writing.", at->target);
	return cli_why(why, EXIT_MOUNT_FAILED, "%s can't be remounted: %s.", at->target, strerror(errno));
}

int mount_change(const struct mount_options *o, const char *mountpoint, bool whole)
{
	struct err_why why = {0};
	struct mount_info at = {0};
	char *path = path_absolute(mountpoint);
	int code;

	if (!path || mounts_at(path, &at) != ERR_OK || !at.is_ours)
		code = cli_why(
			&why, EXIT_NOT_MOUNTED, "No volume is mounted at %s, so it can't be remounted.", mountpoint);
	else
		code = change(o, &at, whole, &why);
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	mount_info_clear(&at);
	free(path);
	return code;
}

static int run_options(struct cli *c, struct mount_options *o, int argc, char **argv)
{
	enum { OPT_KEY = CLI_FIRST_FREE };
	static const struct option options[] = {{"foreground", no_argument, NULL, 'f'},
		{"options", required_argument, NULL, 'o'}, {"managed-key", required_argument, NULL, OPT_KEY},
		{"read-only", no_argument, NULL, 'r'}, CLI_OPTIONS};
	struct err_why why = {0};
	bool foreground = false;
	int opt, code = EXIT_OK;
	enum err e = ERR_OK;

	while ((opt = cli_getopt(c, &command_mount, argc, argv, ":o:fr", options, &code)) >= 0) {
		switch (opt) {
		case 'f':
			foreground = true;
			break;
		case 'o':
			e = options_parse(o, optarg, false, &why);
			break;
		case 'r':
			e = options_parse(o, "ro", false, &why);
			break;
		default: /* OPT_KEY */
			free(o->managed_key);
			o->managed_key = strdup(optarg);
			e = o->managed_key ? ERR_OK : ERR_NOMEM;
		}
		if (e != ERR_OK)
			return cli_fail(cli_exit_code(e, &why), e, &why);
	}
	if (opt == CLI_STOP)
		return code;
	if (o->remount) {
		if (!cli_operands(&command_mount, argc, 1, 2))
			return EXIT_USAGE;
		return mount_change(o, argv[argc - 1], false);
	}
	if (!cli_operands(&command_mount, argc, 2, 2))
		return EXIT_USAGE;
	return mount_volume(c, o, argv[optind], argv[optind + 1], foreground);
}

static int run(struct cli *c, int argc, char **argv)
{
	struct mount_options o;
	int code;

	options_init(&o);
	code = run_options(c, &o, argc, argv);
	options_clear(&o);
	return code;
}

const struct command command_mount = {
	.name = "mount",
	.args = "[-f] [-r] [-o OPTIONS] [--managed-key SPEC] DIR MOUNTPOINT",
	.summary = "mount a volume",
	.help = "Mounts the volume in DIR on the directory MOUNTPOINT and returns when the mount answers.\n\n"
		"  -f, --foreground     stay in the foreground\n"
		"  -r, --read-only      the same as -o ro\n"
		"  -o, --options LIST   mount options, separated by commas\n"
		"  --managed-key SPEC   where the key is now, if not where it was; see \"blobcryptfs help init\"\n\n"
		"Options of ours:\n"
		"  managed_key=SPEC, fips_dir=DIR, allow_non_fips   as the command line options\n"
		"  direct_io            no copy of file contents in the kernel's page cache\n"
		"  io_uring, no_io_uring  talk to the kernel through io_uring (default where the kernel has it), or "
		"not\n"
		"  max_threads=N        threads that serve requests (10, or two for each processor)\n"
		"  attr_timeout=S, entry_timeout=S, negative_timeout=S  for how long the kernel may remember (3600)\n"
		"  uid=, gid=, umask=   show these instead of the owners and modes kept below\n"
		"  nonempty             mount over a directory that is not empty\n"
		"  wait_key             come up locked, and open later, if the customer's key can't be had\n"
		"  on_state_change=PROGRAM  run PROGRAM STATE REASON VOLUME MOUNTPOINT when it is locked or opened\n"
		"  reset_state          the session state is lost or damaged: take every earlier session as unclean\n\n"
		"Generic options:\n"
		"  ro rw exec noexec dev nodev suid nosuid atime noatime nodiratime sync async dirsync nosymfollow\n"
		"  remount user users owner group auto noauto nofail defaults _netdev x-* X-* comment=\n"
		"  allow_other (default for root) noallow_other allow_root fsname= subtype=\n"
		"  context= fscontext= defcontext= rootcontext=\n",
	.run = run,
};
