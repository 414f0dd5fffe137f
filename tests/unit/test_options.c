/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of -o, and what of it reaches libfuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <cmocka.h>

#include "fs/options.h"

static enum err parse(struct mount_options *o, const char *text, struct err_why *why)
{
	memset(why, 0, sizeof(*why));
	options_init(o);
	return options_parse(o, text, false, why);
}

static void assert_good(struct mount_options *o, const char *text)
{
	struct err_why why;

	if (parse(o, text, &why) != ERR_OK)
		fail_msg("\"%s\" was refused: %s", text, why.text);
}

/* Refused, with word in the sentence. */
static void assert_bad(const char *text, const char *word)
{
	struct mount_options o;
	struct err_why why;

	assert_int_equal(parse(&o, text, &why), ERR_CONFIG);
	if (!strstr(why.text, word))
		fail_msg("\"%s\": no \"%s\" in: %s", text, word, why.text);
	options_clear(&o);
}

static void test_defaults(void **state)
{
	struct mount_options o;

	(void)state;
	assert_good(&o, "");
	assert_true(o.attr_timeout == 3600.0 && o.entry_timeout == 3600.0 && o.negative_timeout == 3600.0);
	assert_int_equal(o.flags_on | o.flags_off, 0);
	assert_int_equal(o.uring, URING_AUTO);
	assert_int_equal(o.max_threads, 0);
	assert_null(o.managed_key);
	options_clear(&o);
}

static void test_ours(void **state)
{
	struct mount_options o;

	(void)state;
	assert_good(&o, "managed_key=file:/k,fips_dir=/f,allow_non_fips,direct_io,reset_state,nonempty,no_io_uring,"
			"max_threads=7,attr_timeout=0.5,entry_timeout=2,negative_timeout=0,uid=1000,gid=0,umask=027");
	assert_string_equal(o.managed_key, "file:/k");
	assert_string_equal(o.fips_dir, "/f");
	assert_true(o.allow_non_fips && o.direct_io && o.reset_state && o.nonempty);
	assert_int_equal(o.uring, URING_OFF);
	assert_int_equal(o.max_threads, 7);
	assert_true(o.attr_timeout == 0.5 && o.entry_timeout == 2.0);
	assert_true(o.has_uid && o.uid == 1000 && o.has_gid && o.gid == 0);
	assert_true(o.has_umask && o.umask == 027);
	options_clear(&o);
	assert_good(&o, "io_uring,uid=root,gid=root");
	assert_int_equal(o.uring, URING_ON);
	assert_true(o.has_uid && o.uid == 0);
	options_clear(&o);
}

static void test_flags_later_wins(void **state)
{
	struct mount_options o;

	(void)state;
	assert_good(&o, "ro,noexec,rw,sync,dirsync,noatime,exec,nodev");
	assert_int_equal(o.flags_on, MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOATIME | MS_NODEV);
	assert_int_equal(o.flags_off, MS_RDONLY | MS_NOEXEC);
	options_clear(&o);
	/* mount(8): "user" means noexec,nosuid,nodev unless taken back behind it */
	assert_good(&o, "user=alice,exec");
	assert_int_equal(o.flags_on, MS_NOSUID | MS_NODEV);
	options_clear(&o);
}

static void test_generic_accepted(void **state)
{
	struct mount_options o;

	(void)state;
	assert_good(&o, "defaults,default_permissions,relatime,norelatime,strictatime,lazytime,iversion,nouser,users,"
			"owner,group,"
			"auto,noauto,nofail,comment=a b,atime,diratime,async,dev,suid,,X-mount.mkdir=0755,uhelper=x,"
			"user_id=0,group_id=0,max_read=131072");
	assert_null(o.userspace);
	options_clear(&o);
	assert_good(&o, "x-systemd.requires=a.mount,_netdev,x-gvfs-hide");
	assert_string_equal(o.userspace, "x-systemd.requires=a.mount,_netdev,x-gvfs-hide");
	options_clear(&o);
	assert_good(&o, "remount,ro");
	assert_true(o.remount);
	assert_int_equal(o.flags_on, MS_RDONLY);
	options_clear(&o);
}

static void test_escapes_and_quotes(void **state)
{
	struct mount_options o;

	(void)state;
	assert_good(&o, "managed_key=file:/a\\,b\\\\c,ro");
	assert_string_equal(o.managed_key, "file:/a,b\\c");
	assert_int_equal(o.flags_on, MS_RDONLY);
	options_clear(&o);
	assert_good(&o, "context=\"system_u:object_r:tmp_t:s0:c1,c2\",noexec");
	assert_string_equal(o.context, "context=\"system_u:object_r:tmp_t:s0:c1,c2\"");
	assert_int_equal(o.flags_on, MS_NOEXEC);
	options_clear(&o);
	/* a quote in the middle of a value is just a character */
	assert_good(&o, "fsname=a\"b,ro");
	assert_string_equal(o.fsname, "a\"b");
	assert_int_equal(o.flags_on, MS_RDONLY);
	options_clear(&o);
}

static void test_unknown(void **state)
{
	struct mount_options o;
	struct err_why why = {0};

	(void)state;
	assert_bad("bogus", "\"bogus\"");
	assert_bad("noexce", "Did you mean \"noexec\"?");
	assert_bad("direct-io", "Did you mean \"direct_io\"?");
	assert_bad("rw,alow_other", "\"allow_other\"");
	assert_bad("=", "\"\"");
	assert_bad("ROOT,", "\"ROOT\"");
	options_init(&o);
	assert_int_equal(options_parse(&o, "bogus,ro,frob=1", true, &why), ERR_OK);
	assert_int_equal(o.flags_on, MS_RDONLY);
	/* sloppy is about unknown options, not about wrong values */
	assert_int_equal(options_parse(&o, "max_threads=x", true, &why), ERR_CONFIG);
	options_clear(&o);
}

static void test_bad_values(void **state)
{
	static const char *const bad[] = {
		"max_threads=0",
		"max_threads=1025",
		"max_threads=-1",
		"max_threads=+1",
		"max_threads=1x",
		"max_threads=",
		"max_threads",
		"max_threads=99999999999999999999",
		"attr_timeout=nan",
		"attr_timeout=inf",
		"attr_timeout=-1",
		"attr_timeout=x",
		"attr_timeout=86401",
		"entry_timeout=",
		"umask=8",
		"umask=1000",
		"uid=4294967295",
		"uid=4294967296",
		"uid=no such user",
		"gid=no such group",
		"uid=1x",
		"managed_key",
		"managed_key=",
		"fsname=",
		"direct_io=1",
		"io_uring=yes",
		"allow_non_fips=",
		"_netdev=1",
		"context=",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(bad[i], "="), bad[i]);
		assert_bad(bad[i], name);
	}
}

static void test_long_names(void **state)
{
	char text[5000];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_bad(text, "aaaa");
	/* exactly as long as the table for distances, and one less */
	text[64] = '\0';
	assert_bad(text, "aaaa");
	text[63] = '\0';
	assert_bad(text, "aaaa");
}

static void assert_fuse(const char *text, bool as_root, const char *wanted)
{
	struct mount_options o;
	char *list;

	assert_good(&o, text);
	list = options_for_fuse(&o, "/b", false, as_root);
	assert_non_null(list);
	assert_string_equal(list, wanted);
	free(list);
	options_clear(&o);
}

static void test_for_fuse(void **state)
{
	struct mount_options o;
	char *list;

	(void)state;
	assert_fuse("", true, "default_permissions,suid,dev,allow_other,fsname=/b,subtype=blobcryptfs");
	assert_fuse("noallow_other,nosuid,nodev", true, "nosuid,nodev,fsname=/b,subtype=blobcryptfs");
	assert_fuse("", false, "default_permissions,fsname=/b,subtype=blobcryptfs");
	/* a user gets nosuid,nodev whatever was asked for: fusermount3 refuses the rest */
	assert_fuse("suid,dev,allow_other,ro,noexec,x-y,_netdev,relatime", false,
		"default_permissions,ro,noexec,allow_other,fsname=/b,subtype=blobcryptfs");
	assert_fuse("allow_root", true, "default_permissions,suid,dev,allow_root,fsname=/b,subtype=blobcryptfs");
	assert_fuse("fsname=a\\,b,context=\"u:c1,c2\"", false,
		"default_permissions,fsname=a\\,b,subtype=blobcryptfs,context=\"u:c1\\,c2\"");
	assert_good(&o, "");
	list = options_for_fuse(&o, "/a,b\\c", true, false);
	assert_string_equal(list, "default_permissions,io_uring,fsname=/a\\,b\\\\c,subtype=blobcryptfs");
	free(list);
	options_clear(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_ours),
		cmocka_unit_test(test_flags_later_wins),
		cmocka_unit_test(test_generic_accepted),
		cmocka_unit_test(test_escapes_and_quotes),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_for_fuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
