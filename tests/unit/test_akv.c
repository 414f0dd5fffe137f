/* SPDX-License-Identifier: Apache-2.0 */
/* akv: good calls, denials, tokens and challenges; against the emulator of tests/emulator. */
#include "tests/unit/akvtest.h"

/* ---- good calls ---- */

static void round_trip(void **state)
{
	struct akv *a = open_akv();
	const struct keyprov_detail *d = akv_detail(a);
	struct trip t;
	struct akv_key k;
	char oid[64], first[40];

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	assert_int_equal(t.wrapped.len, 256);
	assert_int_equal(requests("contact"), 1); /* the tenant is asked for once */
	expect(a, &t, ERR_OK, "");
	assert_int_equal(requests("contact"), 1);
	assert_int_equal(d->http_status, 200);
	assert_int_equal(strlen(d->client_request_id), 36);
	assert_int_equal(strlen(d->request_id), 36);
	assert_string_equal(d->region, "westeurope");
	emu_text("identity show vm", "oid", oid, sizeof(oid));
	assert_string_equal(d->oid, oid);
	assert_int_equal(strlen(d->appid), 36);
	assert_int_equal(strlen(d->tenant), 36);
	assert_non_null(strstr(d->kid, t.used.version));
	strcpy(first, d->client_request_id);
	assert_ok(akv_get(a, &k, NULL));
	assert_string_not_equal(first, d->client_request_id);
	assert_int_equal(k.kind, AKV_RSA);
	assert_int_equal(k.bits, 2048);
	assert_true(k.enabled && k.soft_delete && k.purge_protection && k.can_wrap && k.can_unwrap);
	assert_string_equal(akv_algorithm(&k), "RSA-OAEP-256");
	/* the emulator saw the id we tell */
	{
		json_t *log = emu_ask("log --op get");
		const json_t *last = json_array_get(log, json_array_size(log) - 1);

		assert_string_equal(
			json_string_value(json_object_get(last, "client_request_id")), d->client_request_id);
		assert_string_equal(json_string_value(json_object_get(last, "request_id")), d->request_id);
		json_decref(log);
	}
	done(a, &t);
}

static void contact(void **state)
{
	char tenant[AZURE_GUID], region[64], want[64], words[64];
	struct akv *a = open_akv();

	(void)state;
	assert_ok(akv_contact(a, tenant, region, NULL));
	snprintf(words, sizeof(words), "vault show %s", vault);
	emu_text(words, "tenant", want, sizeof(want));
	assert_string_equal(tenant, want);
	assert_string_equal(region, "westeurope");
	assert_int_equal(requests("*") + requests("contact"), 1);
	done(a, NULL);
}

/* With the tenant known, nothing is asked that need not be. */
static void pinned(void **state)
{
	char tenant[64], words[64];
	struct akv_key k;
	struct akv *a;

	(void)state;
	snprintf(words, sizeof(words), "vault show %s", vault);
	emu_text(words, "tenant", tenant, sizeof(tenant));
	a = open_with(0, 0, tenant);
	assert_ok(akv_get(a, &k, NULL));
	assert_int_equal(requests("contact"), 0);
	done(a, NULL);
}

static void versions(void **state)
{
	struct akv *a = open_akv();
	struct trip old, new;
	struct akv_key k;

	(void)state;
	wrap(a, "RSA-OAEP-256", &old);
	emu_do("key rotate %s k", vault);
	wrap(a, "RSA-OAEP-256", &new);
	assert_string_not_equal(old.used.version, new.used.version);
	expect(a, &old, ERR_OK, "");
	expect(a, &new, ERR_OK, "");
	assert_ok(akv_get_version(a, old.used.version, &k, NULL));
	assert_non_null(strstr(k.kid, old.used.version));
	emu_do("key disable %s k --version %s", vault, old.used.version);
	expect(a, &old, ERR_KEY_REVOKED, "KeyDisabled");
	expect(a, &new, ERR_OK, "");
	secret_free(old.key);
	done(a, &new);
}

static void kinds(void **state)
{
	static const struct {
		const char *kty;
		int bits, wrapped;
	} rsa[] = {{"RSA", 3072, 384}, {"RSA", 4096, 512}, {"RSA-HSM", 2048, 256}};
	struct trip t;
	struct akv_key k;
	struct akv *a;

	(void)state;
	for (size_t i = 0; i < COUNT(rsa); i++) {
		char name[16];

		if (rsa[i].bits == 4096 && !(getenv("LONG") && getenv("LONG")[0]))
			continue; /* takes the emulator seconds to make */
		snprintf(name, sizeof(name), "k%zu", i);
		emu_do("key create %s %s --kty %s --size %d", vault, name, rsa[i].kty, rsa[i].bits);
		parse_id(name);
		a = open_akv();
		assert_ok(akv_get(a, &k, NULL));
		assert_int_equal(k.bits, rsa[i].bits);
		assert_string_equal(k.kty, rsa[i].kty);
		wrap(a, akv_algorithm(&k), &t);
		assert_int_equal(t.wrapped.len, rsa[i].wrapped);
		expect(a, &t, ERR_OK, "");
		done(a, &t);
	}
	emu_do("key create %s e --kty EC", vault);
	parse_id("e");
	a = open_akv();
	assert_ok(akv_get(a, &k, NULL));
	assert_null(akv_algorithm(&k));
	done(a, NULL);
}

static void managed_hsm(void **state)
{
	char uri[AZURE_URI_MAX];
	struct akv_key k;
	struct trip t;
	struct akv *a;

	(void)state;
	emu_do("vault create h%s --hsm", vault);
	emu_do("key create h%s k --kty oct-HSM --size 256", vault);
	emu_do("grant h%s vm", vault);
	snprintf(uri, sizeof(uri), "https://h%s%s:%s/keys/k", vault, emu.cloud.hsm_suffix, emu.cloud.port);
	assert_ok(azure_key_id_parse(&emu.cloud, uri, &id, NULL));
	a = open_akv();
	assert_ok(akv_get(a, &k, NULL));
	assert_int_equal(k.kind, AKV_OCT_HSM);
	assert_string_equal(akv_algorithm(&k), "A256KW");
	wrap(a, "A256KW", &t);
	assert_int_equal(t.wrapped.len, 40);
	expect(a, &t, ERR_OK, "");
	t.wrapped.bytes[3] ^= 1; /* the HSM says it is no good */
	expect(a, &t, ERR_CONFIG, akv_detail(a)->reason[0] ? akv_detail(a)->reason : "BadParameter");
	done(a, &t);
}

static void fresh(void **state)
{
	struct secret *back = NULL;
	struct akv *a = open_akv();
	struct trip t;
	json_t *log;
	json_int_t conn[3];
	char words[64];

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	for (int i = 0; i < 3; i++) {
		assert_ok(akv_unwrap(a, t.used.version, "RSA-OAEP-256", &t.wrapped, i == 1, &back, NULL));
		secret_free(back);
	}
	snprintf(words, sizeof(words), "log --target %s --op unwrapkey", vault);
	log = emu_ask(words);
	for (size_t i = 0; i < 3; i++)
		conn[i] = json_integer_value(json_object_get(json_array_get(log, i), "conn"));
	assert_true(conn[0] != conn[1]);
	json_decref(log);
	done(a, &t);
}

/* ---- no ---- */

static void denials(void **state)
{
	struct akv *a = open_akv();
	struct trip t;
	long before;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	expect(a, &t, ERR_OK, "");
	before = requests("unwrapkey");
	emu_do("key disable %s k", vault);
	expect(a, &t, ERR_KEY_REVOKED, "KeyDisabled");
	assert_false(akv_detail(a)->network);
	assert_int_equal(akv_detail(a)->http_status, 403);
	assert_int_equal(requests("unwrapkey"), before + 1); /* "no" is not asked about twice */
	emu_do("key enable %s k", vault);
	expect(a, &t, ERR_OK, "");
	emu_do("revoke %s vm", vault);
	expect(a, &t, ERR_KEY_REVOKED, "ForbiddenByRbac");
	emu_do("vault set %s rbac=0", vault);
	expect(a, &t, ERR_KEY_REVOKED, "AccessDenied");
	emu_do("vault set %s rbac=1", vault);
	emu_do("grant %s vm", vault);
	emu_do("firewall %s on", vault);
	expect(a, &t, ERR_KEY_REVOKED, "ForbiddenByFirewall");
	assert_true(akv_detail(a)->network);
	emu_do("firewall %s private", vault);
	expect(a, &t, ERR_KEY_REVOKED, "ForbiddenByConnection");
	assert_true(akv_detail(a)->network);
	emu_do("firewall %s off", vault);
	expect(a, &t, ERR_OK, "");
	assert_false(akv_detail(a)->network);
	emu_do("key update %s k --ops wrapKey", vault);
	expect(a, &t, ERR_KEY_REVOKED, "KeyOperationForbidden");
	emu_do("key update %s k --ops wrapKey,unwrapKey", vault);
	emu_do("key update %s k --exp -60", vault);
	expect(a, &t, ERR_OK, ""); /* as the service: what is wrapped can be unwrapped */
	emu_do("key update %s k --exp none", vault);
	emu_do("key delete %s k", vault);
	expect(a, &t, ERR_KEY_REVOKED, "KeyNotFound");
	emu_do("key recover %s k", vault);
	expect(a, &t, ERR_OK, "");
	emu_do("vault delete %s", vault);
	expect(a, &t, ERR_KEY_REVOKED, "VaultNotFound");
	emu_do("vault recover %s", vault);
	expect(a, &t, ERR_OK, "");
	emu_do("fault add %s unwrapkey status --status 418", vault);
	expect(a, &t, ERR_KEY_REVOKED, "InternalServerError");
	emu_do("fault clear");
	done(a, &t);
}

static void wrap_outside_of_validity(void **state)
{
	struct akv *a = open_akv();
	struct secret *key = test_secret(1, 32);
	struct err_why why = {0};
	char kid[AZURE_URI_MAX];
	struct wrapped w;

	(void)state;
	emu_do("key update %s k --exp -60", vault);
	assert_int_equal(akv_wrap(a, "RSA-OAEP-256", key, &w, kid, &why), ERR_KEY_REVOKED);
	assert_int_equal(w.len, 0);
	secret_free(key);
	done(a, NULL);
}

static void identity_gone(void **state)
{
	struct akv *a = open_akv();
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	emu_do("identity disable vm");
	expect(a, &t, ERR_OK, ""); /* a token lives on */
	azid_forget(vm);
	{
		struct err_why why = {0};

		assert_int_equal(unwrap(a, &t, &why), ERR_KEY_REVOKED);
	}
	emu_do("identity enable vm");
	expect(a, &t, ERR_OK, "");
	done(a, &t);
}

/* ---- tokens and challenges ---- */

static void another_token(void **state)
{
	struct akv *a = open_akv();
	struct trip t;
	long tokens;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	tokens = emu_number("count --op token");
	emu_do("fault add %s unwrapkey insufficient-claims --count 1", vault);
	expect(a, &t, ERR_OK, "");
	assert_true(emu_number("count --op token") > tokens);
	tokens = emu_number("count --op token");
	emu_do("fault add %s unwrapkey no-challenge --count 1", vault);
	expect(a, &t, ERR_OK, "");
	assert_true(emu_number("count --op token") > tokens); /* the old one was dropped */
	/* not for ever */
	emu_do("fault add %s unwrapkey no-challenge", vault);
	tokens = requests("unwrapkey");
	expect(a, &t, ERR_KEY_REVOKED, "Unauthorized");
	assert_int_equal(requests("unwrapkey"), tokens + 2);
	emu_do("fault clear");
	expect(a, &t, ERR_OK, "");
	done(a, &t);
}

static void bad_tokens(void **state)
{
	struct akv *a = open_akv();
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	azid_forget(vm);
	emu_do("fault add imds token expired-token --count 1");
	expect(a, &t, ERR_OK, ""); /* the second one is good */
	azid_forget(vm);
	emu_do("fault add imds token wrong-audience");
	expect(a, &t, ERR_CONFIG, "AKV10022");
	emu_do("fault clear");
	azid_forget(vm);
	emu_do("fault add imds token foreign-token");
	expect(a, &t, ERR_KEY_REVOKED, "AKV10032");
	emu_do("fault clear");
	azid_forget(vm);
	emu_do("fault add imds token unknown-signer");
	expect(a, &t, ERR_KEY_UNAVAILABLE, "AKV10046");
	emu_do("fault clear");
	azid_forget(vm);
	expect(a, &t, ERR_OK, "");
	done(a, &t);
}

/* A token goes to nobody who asks for one for something else. */
static void foreign_challenge(void **state)
{
	struct akv *a = open_akv();
	struct akv_key k;
	struct err_why why = {0};
	json_t *log;
	char words[64];
	const json_t *entry;
	size_t i;

	(void)state;
	emu_do("fault add %s contact challenge", vault);
	assert_int_equal(akv_get(a, &k, &why), ERR_CORRUPT);
	assert_string_equal(akv_detail(a)->reason, "ForeignChallenge");
	assert_non_null(strstr(why.text, "https://management.localhost"));
	assert_int_equal(requests("get"), 0);
	snprintf(words, sizeof(words), "log --target %s", vault);
	log = emu_ask(words);
	assert_true(json_array_size(log) > 0);
	json_array_foreach(log, i, entry) assert_false(
		json_is_string(json_object_get(entry, "oid")) && json_string_length(json_object_get(entry, "oid")) > 0);
	json_decref(log);
	emu_do("fault clear");
	assert_ok(akv_get(a, &k, NULL));
	/* the same later */
	emu_do("fault add %s get challenge --count 1", vault);
	assert_int_equal(akv_get(a, &k, &why), ERR_CORRUPT);
	assert_ok(akv_get(a, &k, NULL));
	done(a, NULL);
}

static void tenant_moved(void **state)
{
	char tenant[64], words[64];
	struct akv *a = open_akv(), *p;
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	snprintf(words, sizeof(words), "vault show %s", vault);
	emu_text(words, "tenant", tenant, sizeof(tenant));
	p = open_with(0, 0, tenant);
	expect(p, &t, ERR_OK, "");
	emu_do("vault move %s T2", vault);
	expect(p, &t, ERR_KEY_REVOKED, "TenantChanged");
	expect(a, &t, ERR_KEY_REVOKED, "AKV10032");
	emu_do("vault move %s T1", vault);
	expect(p, &t, ERR_OK, "");
	akv_close(p);
	done(a, &t);
}

static void redirected(void **state)
{
	struct akv *a = open_with(1, 0, NULL);
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	emu_do("fault add %s unwrapkey redirect --count 1 --value https://127.0.0.1:1/", vault);
	expect(a, &t, ERR_KEY_UNAVAILABLE, "http 307");
	expect(a, &t, ERR_OK, "");
	done(a, &t);
}

#define T(f) cmocka_unit_test_setup_teardown(f, each, each_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(round_trip),
		T(contact),
		T(pinned),
		T(versions),
		T(kinds),
		T(managed_hsm),
		T(fresh),
		T(denials),
		T(wrap_outside_of_validity),
		T(identity_gone),
		T(another_token),
		T(bad_tokens),
		T(foreign_challenge),
		T(tenant_moved),
		T(redirected),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
