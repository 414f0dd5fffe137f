/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keytest - what the unit tests of keyprov/ share: a scratch directory with a key store and a backing directory, and
 * durable steps (write, fsync, rename, link, unlink) that can be counted, made to fail, or end the process.
 *
 * The steps are the real library functions' names, defined here: the linker takes these for the whole program.
 */
#pragma once
#include "keyprov/volume.h"
#include "testlib.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KT_CRASHED 99
#define KT_VOLUME  "0123456789abcdef0123456789abcdef" /* an id for tests without a volume */

struct kt {
	char dir[64];	/* scratch */
	char back[96];	/* backing directory */
	char store[96]; /* key store */
	struct fips *f;
};

static struct kt kt;

/* ---- durable steps ---- */

static unsigned kt_step;   /* counted since kt_arm */
static unsigned kt_at;	   /* 0: never */
static int kt_no_exchange; /* errno of a filesystem that can't exchange names; 0: it can */
static int kt_errno;	   /* at that step: 0 ends the process before it, -1 behind it, else the errno it fails with */

static char kt_trace[4096]; /* the steps since kt_arm, a letter for each: w p write, f d sync of file, directory,
			     * x exchange, r rename, l link, u unlink */

static inline void kt_arm(unsigned at, int err)
{
	kt_step = 0;
	kt_trace[0] = '\0';
	kt_at = at;
	kt_errno = err;
}

static void kt_note(char letter)
{
	if (kt_step < sizeof(kt_trace)) {
		kt_trace[kt_step - 1] = letter;
		kt_trace[kt_step] = '\0';
	}
}

static long kt_do(char letter, long nr, long a, long b, long c, long d, long e)
{
	bool hit = ++kt_step == kt_at;
	long r;

	kt_note(letter);

	if (hit && kt_errno == 0)
		_exit(KT_CRASHED);
	if (hit && kt_errno > 0) {
		errno = kt_errno;
		return -1;
	}
	r = syscall(nr, a, b, c, d, e);
	if (hit)
		_exit(KT_CRASHED);
	return r;
}

ssize_t write(int fd, const void *buf, size_t len)
{
	return kt_do('w', SYS_write, fd, (long)buf, (long)len, 0, 0);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	return kt_do('p', SYS_pwrite64, fd, (long)buf, (long)len, at, 0);
}

int fdatasync(int fd)
{
	return (int)kt_do('f', SYS_fdatasync, fd, 0, 0, 0, 0);
}

int fsync(int fd)
{
	struct stat st;
	bool dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);

	return (int)kt_do(dir ? 'd' : 'f', SYS_fsync, fd, 0, 0, 0, 0);
}

int renameat(int ad, const char *a, int bd, const char *b)
{
	return (int)kt_do('r', SYS_renameat2, ad, (long)a, bd, (long)b, 0);
}

int renameat2(int ad, const char *a, int bd, const char *b, unsigned flags)
{
	if (flags != 0 && kt_no_exchange) {
		errno = kt_no_exchange;
		return -1;
	}
	return (int)kt_do(flags ? 'x' : 'r', SYS_renameat2, ad, (long)a, bd, (long)b, flags);
}

int linkat(int ad, const char *a, int bd, const char *b, int flags)
{
	return (int)kt_do('l', SYS_linkat, ad, (long)a, bd, (long)b, flags);
}

int unlinkat(int dirfd, const char *name, int flags)
{
	return (int)kt_do('u', SYS_unlinkat, dirfd, (long)name, flags, 0, 0);
}

/* ---- files ---- */

static inline void kt_write(const char *path, const void *data, size_t len, mode_t mode)
{
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static inline size_t kt_read(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, out, cap - 1);
	assert_true(n >= 0);
	out[n] = '\0';
	close(fd);
	return (size_t)n;
}

/* dir/name in one of a few static buffers */
static inline const char *kt_path(const char *dir, const char *name)
{
	static char buf[4][512];
	static unsigned i;
	char *p = buf[i++ % 4];

	snprintf(p, sizeof(buf[0]), "%s/%s", dir, name);
	return p;
}

static int kt_rm_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void kt_rm(const char *path)
{
	(void)nftw(path, kt_rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

static unsigned kt_count;

static int kt_count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)ftw;
	kt_count += type != FTW_D;
	return 0;
}

/* Files below path, temporary ones included. */
static inline unsigned kt_files(const char *path)
{
	kt_count = 0;
	(void)nftw(path, kt_count_one, 16, FTW_PHYS);
	return kt_count;
}

static inline int kt_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	kt_arm(0, 0);
	snprintf(kt.dir, sizeof(kt.dir), "%.40s/kt.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(kt.dir))
		return -1;
	snprintf(kt.back, sizeof(kt.back), "%s/back", kt.dir);
	snprintf(kt.store, sizeof(kt.store), "%s/store", kt.dir);
	return mkdir(kt.back, 0700);
}

static inline int kt_teardown(void **state)
{
	(void)state;
	kt_arm(0, 0);
	kt_rm(kt.dir);
	return 0;
}

/* ---- volumes ---- */

/* A provider object from a printf-like SPEC. */
__attribute__((format(printf, 1, 2))) static inline json_t *kt_conf(const char *fmt, ...)
{
	struct err_why why = {0};
	char spec[512];
	va_list ap;
	json_t *j;

	va_start(ap, fmt);
	vsnprintf(spec, sizeof(spec), fmt, ap);
	va_end(ap);
	j = managed_conf(spec, &why);
	if (!j)
		print_error("%s\n", why.text);
	assert_non_null(j);
	return j;
}

static inline enum err kt_create_why(enum suite suite, const char *spec, struct err_why *why)
{
	struct volume_init in = {.suite = suite, .rotate_days = 90};
	enum err e;

	memset(why, 0, sizeof(*why));
	in.provider = kt_conf("%s", spec);
	e = volume_create(kt.back, kt.f, &in, why);
	json_decref(in.provider);
	return e;
}

static inline const char *kt_store_spec(void)
{
	static char spec[128];

	snprintf(spec, sizeof(spec), "store:%s", kt.store);
	return spec;
}

static inline void kt_create(enum suite suite)
{
	struct err_why why;
	enum err e = kt_create_why(suite, kt_store_spec(), &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
}

static inline struct volume *kt_open(void)
{
	struct err_why why = {0};
	struct volume *v;
	enum err e = volume_open(kt.back, &v, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return v;
}

static inline void kt_lock(struct volume *v)
{
	struct err_why why = {0};
	struct lock_holder holder;
	enum err e = volume_lock(v, "/mnt/test", &holder, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
}

static inline struct volkeys *kt_unlock(struct volume *v)
{
	struct err_why why = {0};
	struct volkeys *vk;
	enum err e = volume_unlock(v, kt.f, NULL, &vk, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return vk;
}

/* What tells one volume key from another. */
static inline void kt_print_key(struct volkeys *vk, uint8_t out[32])
{
	assert_ok(volkeys_mac(vk, MAC_AUDIT, "fingerprint", 11, out));
}

/* Opens, locks and unlocks the volume and gives the fingerprint of its key. */
static inline void kt_fingerprint(uint8_t out[32])
{
	struct volume *v = kt_open();
	struct volkeys *vk;

	kt_lock(v);
	vk = kt_unlock(v);
	kt_print_key(vk, out);
	volkeys_free(vk);
	volume_close(v);
}

/* An opened managed provider for a volume that isn't; takes conf. */
static inline struct keyprov *kt_provider(json_t *conf, const struct keyprov *like)
{
	struct err_why why = {0};
	struct keyprov *p;
	enum err e;

	json_object_set_new(conf, "volume", json_string(KT_VOLUME));
	e = keyprov_open("managed", kt.f, conf, like, &p, &why);
	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	json_decref(conf);
	return p;
}

/* v's key directory in the store */
static inline void kt_key_dir(const struct volume *v, char out[160])
{
	char hex[33];

	for (int i = 0; i < ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", v->id[i]);
	snprintf(out, 160, "%s/%s", kt.store, hex);
}

/* e and a part of the sentence; every refusal has one. */
#define assert_refused(got, want, why, part)                                                                           \
	do {                                                                                                           \
		enum err got_ = (got);                                                                                 \
		if (got_ != (want) || !strstr((why).text, (part)))                                                     \
			print_error("got %d: %s\n", (int)got_, (why).text);                                            \
		assert_int_equal(got_, (want));                                                                        \
		assert_non_null(strstr((why).text, (part)));                                                           \
	} while (0)
