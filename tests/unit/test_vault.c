/* SPDX-License-Identifier: Apache-2.0 */
/* vault: the provider and its configuration; against the emulator of tests/emulator. */
#include "tests/unit/vaulttest.h"

#include <pthread.h>

/* ---- the provider ---- */

static json_t *good_conf(void)
{
	struct vault_want w = want();
	struct exam x;

	examine(&w, &x);
	assert_non_null(x.conf);
	json_object_set_new(x.conf, "volume", json_string("0123456789abcdef0123456789abcdef"));
	return x.conf;
}

static struct keyprov *open_provider(const json_t *conf, const struct keyprov *like)
{
	struct err_why why = {0};
	struct keyprov *p = NULL;
	enum err e = keyprov_open(VAULT_PROVIDER, fips, conf, like, &p, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return p;
}

static enum err unwrap(struct keyprov *p, const struct wrapped *w, const struct key_ref *ref, const struct secret *key)
{
	struct secret *back = NULL;
	struct err_why why = {0};
	enum err e = keyprov_unwrap(p, w, ref, &back, &why);

	if (e == ERR_OK)
		assert_memory_equal(secret_view(back), secret_view(key), 32);
	else
		assert_null(back);
	secret_free(back);
	return e;
}

static void provider(void **state)
{
	json_t *conf = good_conf(), *again;
	struct secret *key = test_secret(3, 32);
	struct keyprov *p = open_provider(conf, NULL), *like = open_provider(conf, p);
	struct key_ref ref, newest, next;
	struct wrapped w, w2;
	enum key_state s;
	long tokens;

	(void)state;
	assert_ok(keyprov_wrap(p, key, &w, &ref, NULL));
	assert_int_equal(ref.version, 1);
	assert_int_equal(strncmp(ref.id, uri, strlen(uri)), 0);
	assert_ok(unwrap(p, &w, &ref, key));
	tokens = emu_number("count --op token");
	assert_ok(unwrap(like, &w, &ref, key)); /* with the same token */
	assert_int_equal(emu_number("count --op token"), tokens);
	keyprov_close(like);
	assert_ok(unwrap(p, &w, &ref, key));
	keyprov_fresh(p);
	assert_ok(unwrap(p, &w, &ref, key));
	assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
	assert_int_equal(s, KEY_USABLE);
	assert_string_equal(newest.id, ref.id);
	/* a new version, and the old one disabled */
	emu_do("key rotate %s k", vault);
	assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
	assert_int_equal(s, KEY_USABLE);
	assert_string_not_equal(newest.id, ref.id);
	assert_ok(keyprov_wrap(p, key, &w2, &next, NULL));
	assert_string_equal(next.id, newest.id);
	emu_do("key disable %s k --version %s", vault, strrchr(ref.id, '/') + 1);
	assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
	assert_int_equal(s, KEY_DISABLED);
	assert_string_equal(newest.id, next.id);
	assert_int_equal(unwrap(p, &w, &ref, key), ERR_KEY_REVOKED);
	assert_string_equal(keyprov_detail_get(p)->reason, "KeyDisabled");
	assert_ok(unwrap(p, &w2, &next, key));
	assert_int_equal(keyprov_rotate(p, &newest, NULL), ERR_UNSUPPORTED);
	assert_ok(keyprov_remove(p, &ref, NULL));
	assert_ok(keyprov_prune(p, &ref, NULL));
	again = vault_ops.conf(p);
	assert_null(json_object_get(again, "volume"));
	json_object_del(conf, "volume");
	assert_true(json_equal(again, conf));
	json_decref(again);
	json_decref(conf);
	keyprov_close(p);
	secret_free(key);
}

static void states(void **state)
{
	static const struct {
		const char *words, *undo;
		enum key_state s;
	} all[] = {
		{"key disable %s k", "key enable %s k", KEY_DISABLED},
		{"key update %s k --exp -60", "key update %s k --exp none", KEY_EXPIRED},
		{"key update %s k --nbf +3600", "key update %s k --nbf none", KEY_EXPIRED},
		{"key delete %s k", "key recover %s k", KEY_MISSING},
		{"fault add %s get status", "fault clear %s", KEY_UNREACHABLE},
		{"vault delete %s", "vault recover %s", KEY_MISSING},
	};
	json_t *conf = good_conf();
	struct keyprov *p = open_provider(conf, NULL);
	struct secret *key = test_secret(3, 32);
	struct key_ref ref, newest;
	struct wrapped w;
	enum key_state s;

	(void)state;
	vault_set_limits(p, 1, 60000);
	assert_ok(keyprov_wrap(p, key, &w, &ref, NULL));
	for (size_t i = 0; i < COUNT(all); i++) {
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
			emu_do(all[i].words, vault);
		assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
		if (s != all[i].s)
			print_error("%s: %d\n", all[i].words, (int)s);
		assert_int_equal(s, all[i].s);
		emu_do(all[i].undo, vault);
		_Pragma("GCC diagnostic pop") assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
		assert_int_equal(s, KEY_USABLE);
	}
	emu_do("vault set %s disabled_get=403", vault);
	emu_do("key disable %s k", vault);
	assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
	assert_int_equal(s, KEY_DISABLED);
	emu_do("revoke %s vm", vault);
	assert_int_equal(keyprov_state(p, &ref, &s, &newest, NULL), ERR_KEY_REVOKED);
	json_decref(conf);
	keyprov_close(p);
	secret_free(key);
}

/* The descriptor is hostile before it is authenticated. */
static void hostile_ref(void **state)
{
	static const char *const bad[] = {"", "k", "https://evil.example/keys/k/0123456789abcdef0123456789abcdef",
		"https://v1.vault.localhost:%s/keys/k/0123456789abcdef0123456789abcdef",
		"https://t%s.vault.localhost/keys/k/0123456789abcdef0123456789abcdef"};
	json_t *conf = good_conf();
	struct keyprov *p = open_provider(conf, NULL);
	struct secret *key = test_secret(3, 32);
	struct key_ref ref, good, newest;
	struct wrapped w, odd;
	enum key_state s;
	long before;

	(void)state;
	assert_ok(keyprov_wrap(p, key, &w, &good, NULL));
	before = emu_number("count");
	ref = good;
	for (size_t i = 0; i < COUNT(bad); i++) {
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
			snprintf(ref.id, sizeof(ref.id), bad[i], emu.cloud.port);
		_Pragma("GCC diagnostic pop") assert_int_equal(unwrap(p, &w, &ref, key), ERR_CORRUPT);
		assert_int_equal(keyprov_state(p, &ref, &s, &newest, NULL), ERR_CORRUPT);
	}
	snprintf(ref.id, sizeof(ref.id), "%s", uri); /* no version */
	assert_int_equal(unwrap(p, &w, &ref, key), ERR_CORRUPT);
	strcpy(strstr(ref.id, "/keys/"), "/keys/other/0123456789abcdef0123456789abcdef");
	assert_int_equal(unwrap(p, &w, &ref, key), ERR_CORRUPT);
	assert_int_equal(emu_number("count"), before); /* nobody was asked */
	odd = w;
	odd.len = 0;
	assert_int_equal(unwrap(p, &odd, &good, key), ERR_CORRUPT);
	odd.len = 100;
	assert_int_equal(unwrap(p, &odd, &good, key), ERR_CONFIG); /* the vault: a bad request */
	emu_do("fault add %s unwrapkey short-value --count 1", vault);
	assert_int_equal(unwrap(p, &w, &good, key), ERR_CORRUPT);
	json_decref(conf);
	keyprov_close(p);
	secret_free(key);
}

/* A version in the configuration stays. */
static void versioned(void **state)
{
	struct secret *key = test_secret(3, 32);
	struct key_ref first, ref, newest;
	struct wrapped w;
	enum key_state s;
	json_t *conf = good_conf();
	struct keyprov *p = open_provider(conf, NULL);

	(void)state;
	assert_ok(keyprov_wrap(p, key, &w, &first, NULL));
	keyprov_close(p);
	json_decref(conf);
	snprintf(uri, sizeof(uri), "%s", first.id);
	conf = good_conf();
	assert_string_equal(text(conf, "uri"), first.id);
	p = open_provider(conf, NULL);
	emu_do("key rotate %s k", vault);
	assert_ok(keyprov_wrap(p, key, &w, &ref, NULL));
	assert_string_equal(ref.id, first.id);
	assert_ok(keyprov_state(p, &ref, &s, &newest, NULL));
	assert_string_equal(newest.id, first.id);
	emu_text("key show v1 k1", "kid", ref.id, sizeof(ref.id));
	assert_int_equal(unwrap(p, &w, &ref, key), ERR_CORRUPT);
	keyprov_close(p);
	json_decref(conf);
	secret_free(key);
}

/* ---- configuration ---- */

static const char conf_text[] =
	"{\"source\":\"vault\",\"cloud\":\"public\",\"uri\":\"https://v12.vault.azure.net/keys/k\","
	"\"tenant\":\"11111111-2222-3333-4444-555555555555\",\"region\":\"westeurope\",\"identity\":{\"kind\":\"auto\"}"
	","
	"\"algorithm\":\"RSA-OAEP-256\",\"api_version\":\"7.4\",\"expired\":\"revoke\",\"probe_seconds\":10,"
	"\"lease_seconds\":600}";

static void configuration(void **state)
{
	static const struct {
		const char *member, *value; /* NULL: taken out */
		enum err want;
	} all[] = {
		{"region", "\"\"", ERR_OK},
		{"lease_seconds", "0", ERR_OK},
		{"volume", "\"0123456789abcdef0123456789abcdef\"", ERR_OK},
		{"source", NULL, ERR_CORRUPT},
		{"cloud", NULL, ERR_CORRUPT},
		{"uri", NULL, ERR_CORRUPT},
		{"tenant", NULL, ERR_CORRUPT},
		{"region", NULL, ERR_CORRUPT},
		{"algorithm", NULL, ERR_CORRUPT},
		{"api_version", NULL, ERR_CORRUPT},
		{"expired", NULL, ERR_CORRUPT},
		{"probe_seconds", NULL, ERR_CORRUPT},
		{"lease_seconds", NULL, ERR_CORRUPT},
		{"source", "\"store\"", ERR_CORRUPT},
		{"cloud", "\"../x\"", ERR_CORRUPT},
		{"cloud", "\"\"", ERR_CORRUPT},
		{"uri", "\"http://v12.vault.azure.net/keys/k\"", ERR_CORRUPT},
		{"uri", "\"https://user@v12.vault.azure.net/keys/k\"", ERR_CORRUPT},
		{"uri", "7", ERR_CORRUPT},
		{"tenant", "\"\"", ERR_CORRUPT},
		{"tenant", "\"common\"", ERR_CORRUPT},
		{"region", "\"West Europe\"", ERR_CORRUPT},
		{"algorithm", "\"RSA1_5\"", ERR_CORRUPT},
		{"algorithm", "\"RSA-OAEP\"", ERR_CORRUPT},
		{"api_version", "\"7.4&a=b\"", ERR_CORRUPT},
		{"expired", "true", ERR_CORRUPT},
		{"probe_seconds", "0", ERR_CORRUPT},
		{"probe_seconds", "3601", ERR_CORRUPT},
		{"probe_seconds", "\"10\"", ERR_CORRUPT},
		{"probe_seconds", "1.5", ERR_CORRUPT},
		{"lease_seconds", "-1", ERR_CORRUPT},
		{"lease_seconds", "86401", ERR_CORRUPT},
		{"lease_seconds", "9223372036854775807", ERR_CORRUPT},
		{"volume", "\"x\"", ERR_CORRUPT},
		{"secret", "\"x\"", ERR_UNSUPPORTED},
	};
	json_t *j, *other;

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++) {
		struct err_why why = {0};
		enum err e;

		j = json_loads(conf_text, 0, NULL);
		assert_ok(vault_conf_check(j, NULL));
		if (all[i].value)
			json_object_set_new(j, all[i].member, json_loads(all[i].value, JSON_DECODE_ANY, NULL));
		else
			json_object_del(j, all[i].member);
		e = vault_conf_check(j, &why);
		if (e != all[i].want)
			print_error("%s %s: %d\n", all[i].member, all[i].value ? all[i].value : "missing", (int)e);
		assert_int_equal(e, all[i].want);
		assert_int_equal(why.text[0] == '\0', e == ERR_OK);
		json_decref(j);
	}
	j = json_loads(conf_text, 0, NULL);
	json_object_del(j, "identity");
	assert_int_not_equal(vault_conf_check(j, NULL), ERR_OK);
	json_object_set_new(j, "identity", json_string("auto"));
	assert_int_not_equal(vault_conf_check(j, NULL), ERR_OK);
	json_decref(j);
	other = json_array();
	assert_int_equal(vault_conf_check(other, NULL), ERR_CORRUPT);
	assert_int_equal(vault_conf_check(NULL, NULL), ERR_CORRUPT);
	json_decref(other);
}

/* What the pure check can't know. */
static void opening(void **state)
{
	static const struct {
		const char *member, *value;
		enum err want;
	} all[] = {
		{"uri", "\"https://v12.vault.azure.cn/keys/k\"", ERR_CONFIG},
		{"uri", "\"https://v12.vault.azure.net/secrets/k\"", ERR_CONFIG},
		{"cloud", "\"nowhere\"", ERR_CONFIG},
		{"source", "\"managed-hsm\"", ERR_CORRUPT},
		{"identity", "{\"kind\":\"cli\"}", ERR_CONFIG},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++) {
		json_t *j = json_loads(conf_text, 0, NULL);
		struct err_why why = {0};
		struct keyprov *p = NULL;

		assert_ok(keyprov_open(VAULT_PROVIDER, fips, j, NULL, &p, NULL)); /* nobody is asked */
		keyprov_close(p);
		json_object_set_new(j, all[i].member,
			json_loads(all[i].value, 0, NULL) ?: json_loads(all[i].value, JSON_DECODE_ANY, NULL));
		assert_int_equal(keyprov_open(VAULT_PROVIDER, fips, j, NULL, &p, &why), all[i].want);
		assert_null(p);
		assert_true(why.text[0] != '\0');
		json_decref(j);
	}
}

struct job {
	struct keyprov *p;
	struct key_ref ref;
	struct wrapped w;
	enum err e;
};

static void *hang(void *arg)
{
	struct job *j = arg;
	struct secret *key = NULL;

	j->e = keyprov_unwrap(j->p, &j->w, &j->ref, &key, NULL);
	secret_free(key);
	return NULL;
}

static void aborted(void **state)
{
	json_t *conf = good_conf();
	struct secret *key = test_secret(3, 32);
	struct job j = {.p = open_provider(conf, NULL)};
	pthread_t thread;

	(void)state;
	assert_ok(keyprov_wrap(j.p, key, &j.w, &j.ref, NULL));
	emu_do("fault add %s unwrapkey hang", vault);
	assert_int_equal(pthread_create(&thread, NULL, hang, &j), 0);
	keyprov_abort(j.p); /* before or during the call */
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(j.e, ERR_KEY_UNAVAILABLE);
	emu_do("fault clear");
	json_decref(conf);
	keyprov_close(j.p);
	secret_free(key);
}

#define T(f) cmocka_unit_test_setup(f, each)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(provider),
		T(states),
		T(hostile_ref),
		T(versioned),
		T(configuration),
		T(opening),
		T(aborted),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
