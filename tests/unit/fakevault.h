/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fakevault - a provider "azure-key-vault" whose answers the test decides.
 *
 * The linker puts it in the real one's place: UNIT_LDFLAGS_test_NAME has --wrap=vault_ops.  A key version's KEK is the
 * SHA-256 of its identifier.
 */
#pragma once
#include "keyprov/vault.h"
#include "keytest.h"

#define FAKE_A "https://a.vault.azure.net/keys/k"
#define FAKE_B "https://b.vault.azure.net/keys/k"

static struct {
	unsigned newest;    /* version of every key */
	unsigned calls;	    /* wrap, unwrap and state, since the test began */
	unsigned fail_at;   /* this call fails with fail; 0: none */
	enum err fail;	    /* also what every call answers, if fail_all */
	bool fail_all;	    /* the vault says no to everything */
	const char *denied; /* the vault says no to this key, or NULL */
	enum key_state state;
	bool state_fails; /* state answers with fail, the others don't */
	bool other_key;	  /* unwrap gives another key of the right length */
	bool short_key;	  /* unwrap gives too short a key */
	unsigned fresh;	  /* calls of fresh */
} fake;

struct fake_provider {
	struct keyprov base;
	const struct fips *f;
	json_t *conf;
	struct keyprov_detail detail;
};

static inline void fake_reset(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.newest = 1;
}

static inline json_t *fake_conf(const char *uri)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s}, s:s, s:s, s:s, s:i, s:i}", "source", "vault", "cloud",
		"public", "uri", uri, "tenant", "01234567-89ab-cdef-0123-456789abcdef", "region", "westeurope",
		"identity", "kind", "auto", "algorithm", "A256KW", "api_version", "7.4", "expired", "revoke",
		"probe_seconds", 10, "lease_seconds", 600);

	assert_non_null(j);
	return j;
}

static enum err fake_open(
	const struct fips *f, const json_t *conf, const struct keyprov *like, struct keyprov **out, struct err_why *why)
{
	struct fake_provider *p = calloc(1, sizeof(*p));

	(void)like;
	(void)why;
	p->f = f;
	p->conf = json_deep_copy(conf);
	if (!json_is_string(json_object_get(conf, "uri")) || !json_is_string(json_object_get(conf, "volume"))) {
		json_decref(p->conf);
		free(p);
		return err_set(why, ERR_CORRUPT, 0, "the fake vault has no such key");
	}
	*out = &p->base;
	return ERR_OK;
}

static void fake_close(struct keyprov *kp)
{
	struct fake_provider *p = (struct fake_provider *)kp;

	json_decref(p->conf);
	free(p);
}

static enum err fake_call(struct fake_provider *p, const char *kid, struct err_why *why)
{
	memset(&p->detail, 0, sizeof(p->detail));
	snprintf(p->detail.kid, sizeof(p->detail.kid), "%s", kid);
	snprintf(p->detail.request_id, sizeof(p->detail.request_id), "request %u", ++fake.calls);
	p->detail.http_status = 200;
	if (fake.fail_all || fake.calls == fake.fail_at) {
		p->detail.http_status = fake.fail == ERR_KEY_REVOKED ? 403 : 503;
		snprintf(p->detail.reason, sizeof(p->detail.reason), "%s",
			fake.fail == ERR_KEY_REVOKED ? "ForbiddenByRbac" : "http 503");
		return err_set(why, fake.fail, 0, "the fake vault fails");
	}
	if (fake.denied && strncmp(kid, fake.denied, strlen(fake.denied)) == 0) {
		p->detail.http_status = 403;
		snprintf(p->detail.reason, sizeof(p->detail.reason), "ForbiddenByRbac");
		return err_set(why, ERR_KEY_REVOKED, 0, "the fake vault says no to %.100s", kid);
	}
	return ERR_OK;
}

static void fake_kid(const struct fake_provider *p, unsigned version, char out[KEY_ID_MAX])
{
	snprintf(out, KEY_ID_MAX, "%s/%032u", json_string_value(json_object_get(p->conf, "uri")), version);
}

static struct secret *fake_kek(const struct fake_provider *p, const char *kid)
{
	struct secret *s = NULL;

	assert_ok(secret_new(32, &s));
	assert_ok(fips_sha256(p->f, kid, strlen(kid), secret_bytes(s)));
	return s;
}

static enum err fake_wrap(
	struct keyprov *kp, const struct secret *key, struct wrapped *out, struct key_ref *ref, struct err_why *why)
{
	struct fake_provider *p = (struct fake_provider *)kp;
	struct secret *kek;
	enum err e;

	fake_kid(p, fake.newest, ref->id);
	e = fake_call(p, ref->id, why);
	if (e != ERR_OK)
		return e;
	kek = fake_kek(p, ref->id);
	assert_ok(fips_wrap(p->f, kek, key, out->bytes, sizeof(out->bytes), &out->len));
	secret_free(kek);
	return ERR_OK;
}

static enum err fake_unwrap(struct keyprov *kp, const struct wrapped *in, const struct key_ref *ref,
	struct secret **key, struct err_why *why)
{
	struct fake_provider *p = (struct fake_provider *)kp;
	enum err e = fake_call(p, ref->id, why);
	struct secret *kek;

	if (e != ERR_OK)
		return e;
	if (fake.other_key || fake.short_key) {
		*key = test_secret(7, fake.short_key ? 16 : 32);
		return ERR_OK;
	}
	kek = fake_kek(p, ref->id);
	e = fips_unwrap(p->f, kek, in->bytes, in->len, key);
	secret_free(kek);
	/* as a vault: 400 BadParameter */
	return e == ERR_CORRUPT ? err_set(why, ERR_CONFIG, 0, "the fake vault can't make sense of it") : e;
}

static enum err fake_state(
	struct keyprov *kp, const struct key_ref *ref, enum key_state *out, struct key_ref *newest, struct err_why *why)
{
	struct fake_provider *p = (struct fake_provider *)kp;
	enum err e = fake_call(p, ref->id, why);

	if (e == ERR_OK && fake.state_fails)
		e = err_set(why, fake.fail, 0, "the fake vault tells no state");
	if (e != ERR_OK)
		return e;
	*out = fake.state;
	fake_kid(p, fake.newest, newest->id);
	newest->version = fake.newest;
	return ERR_OK;
}

static enum err fake_rotate(struct keyprov *p, struct key_ref *newest, struct err_why *why)
{
	(void)p;
	(void)newest;
	return err_set(why, ERR_UNSUPPORTED, 0, "a vault's key is rotated in the vault");
}

static enum err fake_forget(struct keyprov *p, const struct key_ref *ref, struct err_why *why)
{
	(void)p;
	(void)ref;
	(void)why;
	return ERR_OK;
}

static json_t *fake_describe(const struct keyprov *kp)
{
	json_t *j = json_deep_copy(((const struct fake_provider *)kp)->conf);

	(void)json_object_del(j, "volume");
	return j;
}

static const struct keyprov_detail *fake_detail(const struct keyprov *kp)
{
	return &((const struct fake_provider *)kp)->detail;
}

static void fake_fresh(struct keyprov *kp)
{
	(void)kp;
	fake.fresh++;
}

extern const struct keyprov_ops __wrap_vault_ops; /* the linker's name for the real one's place */
const struct keyprov_ops __wrap_vault_ops = {
	.name = VAULT_PROVIDER,
	.open = fake_open,
	.wrap = fake_wrap,
	.unwrap = fake_unwrap,
	.state = fake_state,
	.rotate = fake_rotate,
	.remove = fake_forget,
	.prune = fake_forget,
	.conf = fake_describe,
	.close = fake_close,
	.detail = fake_detail,
	.fresh = fake_fresh,
};
