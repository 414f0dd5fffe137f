/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_init - blobcryptfs init: makes an empty directory a volume. */
#include "fs/cli.h"
#include "fs/mounts.h"
#include "keyprov/keystore.h"
#include "keyprov/volume.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROTATE_DAYS_DEFAULT 90u
#define ROTATE_DAYS_MAX	    36500ul
#define DEPTH_MAX	    4096

struct init {
	struct cli *cli;
	const char *dir;
	const char *managed_key;
	enum suite suite;
	unsigned rotate_days;
};

/* Is there a descriptor in the directory (levels 0) or above it? */
static int volume_at_or_above(int dirfd, const char *dir, struct err_why *why)
{
	int fd = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), code = EXIT_OK;
	struct stat st, last = {0};

	for (int depth = 0; fd >= 0 && depth < DEPTH_MAX; depth++) {
		int up;

		if (faccessat(fd, VOLUME_DESCRIPTOR, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
			code = cli_why(why, EXIT_DIRECTORY,
				depth ? "%s is inside of a volume; choose a directory elsewhere."
				      : "%s is already a volume; \"blobcryptfs mount\" mounts it.",
				dir);
			break;
		}
		if (fstat(fd, &st) < 0 || (depth && st.st_dev == last.st_dev && st.st_ino == last.st_ino))
			break;
		last = st;
		up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = up;
	}
	if (fd >= 0)
		close(fd);
	return code;
}

static int check_directory(const char *dir, struct err_why *why)
{
	struct mount_info around = {0};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code, rc;

	if (fd < 0 && errno == ENOTDIR)
		return cli_why(why, EXIT_DIRECTORY, "%s is not a directory.", dir);
	if (fd < 0)
		return cli_why(why, errno == EACCES ? EXIT_PERMISSION : EXIT_DIRECTORY, "%s can't be opened: %s.", dir,
			strerror(errno));
	code = volume_at_or_above(fd, dir, why);
	close(fd);
	if (code != EXIT_OK)
		return code;
	if (mounts_around(dir, &around) == ERR_OK && around.is_ours)
		code = cli_why(why, EXIT_DIRECTORY,
			"%s is inside of the mounted volume at %s; choose a directory elsewhere.", dir, around.target);
	mount_info_clear(&around);
	if (code != EXIT_OK)
		return code;
	rc = path_is_empty(dir);
	if (rc == ENOTEMPTY)
		return cli_why(why, EXIT_DIRECTORY,
			"%s is not empty. Make a volume in an empty directory, mount it, and copy "
			"the files into the mount.",
			dir);
	if (rc)
		return cli_why(
			why, rc == EACCES ? EXIT_PERMISSION : EXIT_BACKING, "%s can't be read: %s.", dir, strerror(rc));
	return EXIT_OK;
}

/* Where the key is, as far as the descriptor tells. */
static const char *key_place(const struct volume *v, const char *hex, struct keystore *store)
{
	static const char *const members[] = {"path", "file", "name"};
	const json_t *provider = json_object_get(json_object_get(v->descriptor, "envelope"), "provider");
	const char *place = json_string_value(json_object_get(provider, "dir"));

	if (strcmp(v->source, "store") == 0)
		return keystore_init(store, place, hex, NULL) == ERR_OK ? store->path : place;
	place = NULL;
	for (size_t i = 0; !place && i < sizeof(members) / sizeof(members[0]); i++)
		place = json_string_value(json_object_get(provider, members[i]));
	return place;
}

static void tell(const struct volume *v, const char *dir)
{
	struct keystore *store = calloc(1, sizeof(*store));
	char hex[2 * ID_BYTES + 1];
	const char *place;

	cli_hex(v->id, ID_BYTES, hex);
	place = store ? key_place(v, hex, store) : NULL;
	printf("volume:       %s\n", hex);
	printf("directory:    %s\n", dir);
	printf("managed key:  %s%s%s\n", v->source, place ? " " : "", place ? place : "");
	if (strcmp(v->source, "passphrase") == 0 && !place)
		puts("Keep the passphrase safe: without it nobody can read the data.");
	else
		puts("Keep a copy of the key in a safe place, apart from the data: without it nobody can read them.");
	free(store);
}

static int create(const struct init *in, struct err_why *why)
{
	struct volume_init params = {.suite = in->suite, .rotate_days = in->rotate_days};
	struct fips *fips = NULL;
	struct volume *v = NULL;
	enum err e = ERR_OK;
	int code;

	params.provider = managed_conf(in->managed_key, why);
	if (!params.provider)
		return EXIT_USAGE;
	code = cli_crypto(in->cli, &fips, why);
	if (code == EXIT_OK) {
		e = volume_create(in->dir, fips, &params, why);
		if (e == ERR_EXISTS)
			code = EXIT_DIRECTORY;
		else if (e == ERR_CONFIG)
			code = EXIT_KEY_UNAVAILABLE;
		else
			code = cli_exit_code(e, why);
	}
	if (code == EXIT_OK) {
		e = volume_open(in->dir, &v, why);
		code = cli_exit_code(e, why);
	}
	if (code == EXIT_OK)
		tell(v, in->dir);
	else if (!why->text[0])
		cli_why(why, code, "%s can't be made a volume: %s.", in->dir, err_text(e));
	volume_close(v);
	fips_close(fips);
	json_decref(params.provider);
	return code;
}

static int init(struct init *in, const char *path)
{
	struct err_why why = {0};
	bool made = false;
	char *dir = NULL;
	int code = EXIT_OK;

	/* 0700: the names below are ciphertext, but sizes and times are nobody's business either. */
	if (mkdir(path, 0700) == 0)
		made = true;
	else if (errno != EEXIST)
		code = cli_why(&why,
			errno == EACCES || errno == EPERM     ? EXIT_PERMISSION
			: errno == ENOENT || errno == ENOTDIR ? EXIT_DIRECTORY
							      : EXIT_BACKING,
			"The directory %s can't be made: %s.", path, strerror(errno));
	if (code == EXIT_OK) {
		dir = realpath(path, NULL);
		if (!dir)
			code = cli_why(&why, EXIT_DIRECTORY, "%s can't be found: %s.", path, strerror(errno));
	}
	if (dir)
		code = check_directory(dir, &why);
	if (dir && code == EXIT_OK) {
		in->dir = dir;
		code = create(in, &why);
	}
	if (code != EXIT_OK)
		cli_say("%s", why.text);
	if (code != EXIT_OK && made)
		rmdir(path);
	free(dir);
	return code;
}

static int no_customer_key(void)
{
	cli_say("A volume can't be created with a customer's key: it starts with a managed key. Make it with "
		"\"blobcryptfs init DIR\", then turn the key on with \"blobcryptfs key set URI DIR\".");
	return EXIT_USAGE;
}

static int run(struct cli *c, int argc, char **argv)
{
	enum { OPT_INFRA = CLI_FIRST_FREE, OPT_KEY, OPT_DAYS, OPT_CUSTOMER };
	static const struct option options[] = {{"infrastructure-encryption", no_argument, NULL, OPT_INFRA},
		{"managed-key", required_argument, NULL, OPT_KEY}, {"rotate-days", required_argument, NULL, OPT_DAYS},
		/* not there, on purpose; whoever looks for it is told what to do instead */
		{"customer-key", optional_argument, NULL, OPT_CUSTOMER}, CLI_OPTIONS};
	struct init in = {.cli = c, .managed_key = "store", .suite = SUITE_GCM, .rotate_days = ROTATE_DAYS_DEFAULT};
	unsigned long days;
	int opt, code = EXIT_OK;
	char *end;

	while ((opt = cli_getopt(c, &command_init, argc, argv, ":", options, &code)) >= 0) {
		switch (opt) {
		case OPT_INFRA:
			in.suite = SUITE_XTS_GCM;
			break;
		case OPT_KEY:
			in.managed_key = optarg;
			if (strncmp(optarg, "https://", strlen("https://")) == 0)
				return no_customer_key();
			break;
		case OPT_CUSTOMER:
			return no_customer_key();
		default: /* OPT_DAYS */
			errno = 0;
			days = strtoul(optarg, &end, 10);
			if (errno || *end || end == optarg || optarg[0] == '-' || days > ROTATE_DAYS_MAX) {
				cli_say("--rotate-days must be a number of days, 0 for never, not \"%s\".", optarg);
				return EXIT_USAGE;
			}
			in.rotate_days = (unsigned)days;
		}
	}
	if (opt == CLI_STOP)
		return code;
	if (!cli_operands(&command_init, argc, 1, 1))
		return EXIT_USAGE;
	return init(&in, argv[optind]);
}

const struct command command_init = {
	.name = "init",
	.args = "[--infrastructure-encryption] [--managed-key SPEC] [--rotate-days N] DIR",
	.summary = "make an empty directory a volume",
	.help = "Makes DIR, which must be empty or not there, a volume. Everything in it will be ciphertext.\n\n"
		"  --infrastructure-encryption  encrypt everything twice, under independent keys; can't be changed "
		"later\n"
		"  --managed-key SPEC           where the key that wraps the volume key is kept:\n"
		"      store            the key store of this host (default): /var/lib/blobcryptfs/keys for root,\n"
		"                       $XDG_DATA_HOME/blobcryptfs/keys for others\n"
		"      store:DIR        a key store elsewhere\n"
		"      file:PATH        a key file, mode 0600: 32 bytes, or 64 hexadecimal digits\n"
		"      credential:NAME  a systemd credential, as a key file\n"
		"      passphrase       asked on the terminal, or the first line of standard input\n"
		"      passphrase:FILE  the first line of a file, mode 0600\n"
		"  --rotate-days N              make a new version of that key after N days (90; 0: never)\n",
	.run = run,
};
