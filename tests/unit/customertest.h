/* SPDX-License-Identifier: Apache-2.0 */
/* customertest - volumes with a customer's key, and what is left of them on disk, for the tests of that. */
#pragma once
#include "fakevault.h"
#include "keyprov/descriptor.h"
#include "keyprov/sealed_json.h"

enum op { ON, VERSION, OTHER, MANAGED, OFF };

#define PASS "correct horse battery"

static inline int setup(void **state)
{
	fake_reset();
	kt_no_exchange = 0;
	if (access("/dev/shm", W_OK) == 0) /* thousands of syncs */
		setenv("TMPDIR", "/dev/shm", 1);
	return kt_setup(state);
}

static inline int teardown(void **state)
{
	kt_no_exchange = 0;
	return kt_teardown(state);
}

static inline void say_why(enum err e, const struct err_why *why)
{
	if (e != ERR_OK)
		print_error("%d: %s\n", (int)e, why->text);
}

/* ---- what is on disk ---- */

static inline bool copies_equal(void)
{
	char a[16384], b[16384];
	size_t n = kt_read(kt_path(kt.back, VOLUME_DESCRIPTOR), a, sizeof(a));

	return kt_read(kt_path(kt.back, DESCRIPTOR_BACKUP), b, sizeof(b)) == n && memcmp(a, b, n) == 0;
}

static unsigned holding;
static const char *needle;

static inline int look_into(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char *text = calloc(1, 65536);

	(void)st;
	(void)ftw;
	if (type == FTW_F && memmem(text, kt_read(path, text, 65536), needle, strlen(needle)))
		holding++;
	free(text);
	return 0;
}

/* Files of the backing directory that hold text, temporary ones included. */
static inline unsigned files_with(const char *text)
{
	holding = 0;
	needle = text;
	assert_int_equal(nftw(kt.back, look_into, 16, FTW_PHYS), 0);
	return holding;
}

#define BARE "\"volume_key\"" /* of a managed envelope that lies open */

/* ---- volumes ---- */

static inline json_t *key_file(char digit)
{
	char hex[64], path[128];

	snprintf(path, sizeof(path), "%s/%c.key", kt.dir, digit);
	memset(hex, digit, sizeof(hex));
	kt_write(path, hex, sizeof(hex), 0600);
	return kt_conf("file:%s", path);
}

static inline void create_with(enum suite suite, const char *source)
{
	char spec[160];
	struct err_why why;

	kt_rm(kt.back);
	kt_rm(kt.store);
	assert_int_equal(mkdir(kt.back, 0700), 0);
	fake_reset();
	snprintf(spec, sizeof(spec), "%s", kt_store_spec());
	if (strcmp(source, "file") == 0) {
		json_decref(key_file('a'));
		snprintf(spec, sizeof(spec), "file:%s/a.key", kt.dir);
	} else if (strcmp(source, "credential") == 0) {
		json_decref(key_file('a'));
		setenv("CREDENTIALS_DIRECTORY", kt.dir, 1);
		snprintf(spec, sizeof(spec), "credential:a.key");
	} else if (strcmp(source, "passphrase") == 0) {
		kt_write(kt_path(kt.dir, "pass"), PASS, strlen(PASS), 0600);
		snprintf(spec, sizeof(spec), "passphrase:%s/pass", kt.dir);
	}
	assert_ok(kt_create_why(suite, spec, &why));
}

static inline enum err set_key(struct volume *v, const char *uri, struct err_why *why)
{
	json_t *conf = fake_conf(uri);
	enum err e = volume_customer_set(v, kt.f, NULL, conf, why);

	json_decref(conf);
	return e;
}

/* What the next step needs outside of the volume. */
static inline void ready_for(enum op op)
{
	if (op == VERSION)
		fake.newest = 2;
}

static inline enum err run(struct volume *v, enum op op, struct err_why *why)
{
	json_t *next;
	bool changed;
	enum err e;

	switch (op) {
	case ON:
		return set_key(v, FAKE_A, why);
	case VERSION:
		e = volume_customer_rotate(v, kt.f, NULL, &changed, why);
		assert_true(e != ERR_OK || changed);
		return e;
	case OTHER:
		return set_key(v, FAKE_B, why);
	case MANAGED:
		next = strcmp(v->inner_source, "store") == 0 ? NULL : key_file('b');
		e = volume_rekey(v, kt.f, NULL, next, why);
		json_decref(next);
		return e;
	case OFF:
		break;
	}
	return volume_customer_off(v, kt.f, NULL, why);
}

static inline enum err run_once(enum op op, struct err_why *why)
{
	struct volume *v = kt_open();
	enum err e;

	memset(why, 0, sizeof(*why));
	if (op == MANAGED) /* so that it is known which one */
		volkeys_free(kt_unlock(v));
	e = run(v, op, why);
	assert_int_equal(v->lock_fd, -1);
	volume_close(v);
	return e;
}

static inline void run_ok(enum op op)
{
	struct err_why why;
	enum err e = run_once(op, &why);

	say_why(e, &why);
	assert_ok(e);
}

/* A volume that is ready for op. */
static inline void fresh(enum op op, enum suite suite, const char *source, uint8_t print[32])
{
	create_with(suite, source);
	if (op != ON)
		run_ok(ON);
	ready_for(op);
	kt_fingerprint(print);
}

static inline enum err unlock_quietly(struct volume *v, struct err_why *why)
{
	struct volkeys *vk;
	enum err e = volume_unlock(v, kt.f, NULL, &vk, why);

	volkeys_free(vk);
	return e;
}

/* Open, unlock under the lock, without looking at the result. */
static inline enum err try_unlock(struct err_why *why)
{
	struct volume *v = kt_open();
	enum err e;

	memset(why, 0, sizeof(*why));
	kt_lock(v);
	e = unlock_quietly(v, why);
	volume_close(v);
	return e;
}

static inline size_t keep(const char *name, char out[16384])
{
	return kt_read(kt_path(kt.back, name), out, 16384);
}

static inline void put(const char *name, const void *data, size_t len)
{
	kt_write(kt_path(kt.back, name), data, len, 0600);
}
