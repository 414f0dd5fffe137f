/* SPDX-License-Identifier: Apache-2.0 */
/* akvtest - what the tests of akv share: a vault of the emulator's for each test, a wrapped key. */
#pragma once
#include "tests/unit/emutest.h"

static struct fips *fips;
static char vault[16]; /* of the present test */
static struct azure_key_id id;
static struct azid *vm;

/* ---- set-up ---- */

static inline void parse_id(const char *key)
{
	char uri[AZURE_URI_MAX];

	snprintf(uri, sizeof(uri), "https://%s%s:%s/keys/%s", vault, emu.cloud.vault_suffix, emu.cloud.port, key);
	assert_ok(azure_key_id_parse(&emu.cloud, uri, &id, NULL));
}

static struct azid *identity(const char *spec)
{
	struct err_why why = {0};
	struct azid *a = NULL;
	json_t *conf = azid_conf(spec, &why);

	assert_non_null(conf);
	assert_ok(azid_open(fips, &emu.cloud, conf, false, &a, &why));
	json_decref(conf);
	return a;
}

/* Every test has a vault of its own, with a key k and the VM's identity let in. */
static inline int each(void **state)
{
	static unsigned n;

	(void)state;
	snprintf(vault, sizeof(vault), "t%u", ++n);
	emu_do("fault clear");
	emu_do("vault create %s", vault);
	emu_do("key create %s k", vault);
	emu_do("grant %s vm", vault);
	parse_id("k");
	vm = identity("vm");
	return 0;
}

static inline int each_end(void **state)
{
	(void)state;
	azid_close(vm);
	return 0;
}

static inline struct akv *open_with(unsigned attempts, unsigned deadline_ms, const char *tenant)
{
	const struct akv_config cfg = {.fips = fips,
		.cloud = &emu.cloud,
		.id = &id,
		.identity = vm,
		.tenant = tenant,
		.deadline_ms = deadline_ms ? deadline_ms : 120000,
		.attempts = attempts,
		.backoff_ms = 1};
	struct err_why why = {0};
	struct akv *a = NULL;
	enum err e = akv_open(&cfg, &a, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return a;
}

static inline struct akv *open_akv(void)
{
	return open_with(0, 0, NULL);
}

struct trip { /* a wrapped key and what it was */
	struct secret *key;
	struct wrapped wrapped;
	struct azure_key_id used;
};

static inline void wrap(struct akv *a, const char *alg, struct trip *t)
{
	struct err_why why = {0};
	char kid[AZURE_URI_MAX];
	enum err e;

	t->key = test_secret(7, 32);
	e = akv_wrap(a, alg, t->key, &t->wrapped, kid, &why);
	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	assert_ok(azure_key_id_parse(&emu.cloud, kid, &t->used, NULL));
	assert_int_equal(strlen(t->used.version), 32);
}

static inline enum err unwrap(struct akv *a, const struct trip *t, struct err_why *why)
{
	struct secret *back = NULL;
	enum err e = akv_unwrap(a, t->used.version, id.hsm ? "A256KW" : "RSA-OAEP-256", &t->wrapped, false, &back, why);

	if (e == ERR_OK) {
		assert_int_equal(secret_len(back), 32);
		assert_memory_equal(secret_view(back), secret_view(t->key), 32);
	} else {
		assert_null(back);
		assert_true(why->text[0] != '\0');
		assert_null(strstr(why->text, "Bearer"));
		assert_null(strstr(why->text, "eyJ"));
	}
	secret_free(back);
	return e;
}

/* An unwrap that has to end with e and this reason. */
static inline void expect(struct akv *a, const struct trip *t, enum err want, const char *reason)
{
	struct err_why why = {0};
	enum err e = unwrap(a, t, &why);

	if (e != want || strcmp(akv_detail(a)->reason, reason) != 0)
		print_error(
			"wanted %d %s, got %d %s: %s\n", (int)want, reason, (int)e, akv_detail(a)->reason, why.text);
	assert_int_equal(e, want);
	assert_string_equal(akv_detail(a)->reason, reason);
	if (want != ERR_OK)
		assert_non_null(strstr(why.text, id.host));
}

static inline long requests(const char *op)
{
	return emu_number("count --target %s --op %s", vault, op);
}

static inline void done(struct akv *a, struct trip *t)
{
	akv_close(a);
	if (t)
		secret_free(t->key);
}
