/* SPDX-License-Identifier: Apache-2.0 */
/* akv: calls to the emulator of tests/emulator, good and bad ones. */
#include "tests/unit/emutest.h"

#include <pthread.h>

static struct fips *fips;
static char vault[16]; /* of the present test */
static struct azure_key_id id;
static struct azid *vm;

/* ---- set-up ---- */

static void parse_id(const char *key)
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
static int each(void **state)
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

static int each_end(void **state)
{
	(void)state;
	azid_close(vm);
	return 0;
}

static struct akv *open_with(unsigned attempts, unsigned deadline_ms, const char *tenant)
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

static struct akv *open_akv(void)
{
	return open_with(0, 0, NULL);
}

struct trip { /* a wrapped key and what it was */
	struct secret *key;
	struct wrapped wrapped;
	struct azure_key_id used;
};

static void wrap(struct akv *a, const char *alg, struct trip *t)
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

static enum err unwrap(struct akv *a, const struct trip *t, struct err_why *why)
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
static void expect(struct akv *a, const struct trip *t, enum err want, const char *reason)
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

static long requests(const char *op)
{
	return emu_number("count --target %s --op %s", vault, op);
}

static void done(struct akv *a, struct trip *t)
{
	akv_close(a);
	if (t)
		secret_free(t->key);
}

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
	emu_do("fault add %s unwrapkey no-challenge --count 1", vault);
	expect(a, &t, ERR_OK, "");
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

/* ---- not now ---- */

static void patience(void **state)
{
	static const char *const faults[] = {"throttle", "throttle --retry-after 0", "status", "status --status 503",
		"status --status 408", "akv10046", "not-yet-valid", "reset", "close", "reset-headers", "reset-body",
		"truncated"};
	static const char *const reasons[] = {"Throttled", "Throttled", "InternalServerError", "InternalServerError",
		"InternalServerError", "AKV10046", "AKV10046", "broken answer", "broken answer", "broken answer",
		"broken answer", "broken answer"};
	struct akv *a = open_akv(), *once = open_with(1, 0, NULL);
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	expect(once, &t, ERR_OK, "");
	for (size_t i = 0; i < COUNT(faults); i++) {
		emu_do("fault add %s unwrapkey %s --count 4", vault, faults[i]);
		expect(a, &t, ERR_OK, ""); /* the fifth goes through */
	}
	emu_do("fault clear");
	for (size_t i = 0; i < COUNT(faults); i++) {
		long before;

		emu_do("fault add %s unwrapkey %s", vault, faults[i]);
		expect(a, &t, ERR_KEY_UNAVAILABLE, reasons[i]);
		before = requests("unwrapkey");
		expect(once, &t, ERR_KEY_UNAVAILABLE, reasons[i]);
		/* libcurl repeats by itself what died on a connection that was open already */
		assert_in_range(requests("unwrapkey") - before, 1, 2);
		emu_do("fault clear");
		expect(once, &t, ERR_OK, "");
	}
	akv_close(once);
	done(a, &t);
}

static void deadlines(void **state)
{
	struct akv *a = open_akv(), *hasty = open_with(0, 400, NULL);
	struct trip t;
	long before;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	/* a wait that would outlast the deadline is not begun */
	emu_do("fault add %s unwrapkey throttle --retry-after 3600", vault);
	akv_set_limits(a, 0, 20000);
	before = requests("unwrapkey");
	expect(a, &t, ERR_KEY_UNAVAILABLE, "Throttled");
	assert_int_equal(requests("unwrapkey"), before + 1);
	emu_do("fault clear");
	emu_do("fault add %s unwrapkey,contact hang", vault);
	expect(hasty, &t, ERR_KEY_UNAVAILABLE, "timeout");
	emu_do("fault clear");
	emu_do("fault add %s unwrapkey,contact slow --value 600", vault);
	expect(hasty, &t, ERR_KEY_UNAVAILABLE, "timeout");
	emu_do("fault clear");
	akv_close(hasty);
	done(a, &t);
}

static void unreachable(void **state)
{
	static const char *const tls[] = {"tls-name", "tls-expired", "tls-foreign"};
	struct akv *a = open_akv(), *b;
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	for (size_t i = 0; i < COUNT(tls); i++) {
		emu_do("fault add * handshake %s", tls[i]);
		b = open_akv();
		expect(b, &t, ERR_KEY_UNAVAILABLE, "tls");
		akv_close(b);
		emu_do("fault clear");
	}
	emu_do("port close vault");
	b = open_akv();
	expect(b, &t, ERR_KEY_UNAVAILABLE, "connect");
	akv_close(b);
	emu_do("port open vault");
	b = open_akv();
	expect(b, &t, ERR_OK, "");
	akv_close(b);
	done(a, &t);
}

/* ---- nonsense ---- */

static void nonsense(void **state)
{
	static const struct {
		const char *fault, *reason;
		enum err want;
	} all[] = {{"not-json", "nonsense", ERR_CORRUPT}, {"empty", "nonsense", ERR_CORRUPT},
		{"deep-json", "nonsense", ERR_CORRUPT}, {"wrong-kid", "nonsense", ERR_CORRUPT},
		{"no-kid", "nonsense", ERR_CORRUPT}, {"not-json --status 403", "http 403", ERR_KEY_REVOKED},
		{"empty --status 403", "http 403", ERR_KEY_REVOKED},
		{"deep-json --status 503", "http 503", ERR_KEY_UNAVAILABLE},
		{"garbage", "broken answer", ERR_KEY_UNAVAILABLE},
		{"oversize-body", "answer too large", ERR_KEY_UNAVAILABLE},
		{"oversize-headers", "answer too large", ERR_KEY_UNAVAILABLE}};
	struct akv *a = open_with(1, 0, NULL);
	struct secret *back = NULL;
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	for (size_t i = 0; i < COUNT(all); i++) {
		emu_do("fault add %s unwrapkey %s --count 1", vault, all[i].fault);
		expect(a, &t, all[i].want, all[i].reason);
		expect(a, &t, ERR_OK, "");
	}
	emu_do("fault add %s unwrapkey short-value --count 1 --value 5", vault);
	assert_ok(akv_unwrap(a, t.used.version, "RSA-OAEP-256", &t.wrapped, false, &back, NULL));
	assert_int_equal(secret_len(back), 5); /* keyprov_unwrap refuses it */
	secret_free(back);
	emu_do("fault add %s wrapkey short-value --count 1", vault);
	{
		char kid[AZURE_URI_MAX];
		struct wrapped w;

		assert_int_equal(akv_wrap(a, "RSA-OAEP-256", t.key, &w, kid, NULL), ERR_CORRUPT);
		assert_int_equal(w.len, 0);
		assert_string_equal(kid, "");
	}
	done(a, &t);
}

/* ---- lists and new keys ---- */

static void lists(void **state)
{
	struct akv_key keys[16];
	struct err_why why = {0};
	struct akv *a;
	size_t n;

	(void)state;
	id.name[0] = '\0';
	a = open_akv();
	assert_int_equal(akv_list(a, keys, COUNT(keys), &n, &why), ERR_KEY_REVOKED);
	emu_do("grant %s vm officer", vault);
	emu_do("vault set %s page=2", vault);
	emu_do("key create %s ka --kty EC", vault);
	emu_do("key create %s kb --disabled", vault);
	emu_do("key create %s kc --size 3072 --ops sign,verify", vault);
	assert_ok(akv_list(a, keys, COUNT(keys), &n, &why));
	assert_int_equal(n, 4);
	for (size_t i = 0; i < n; i++) {
		assert_true(strlen(strrchr(keys[i].kid, '/')) == 33); /* a version */
		assert_true(keys[i].enabled == (strstr(keys[i].kid, "/kb/") == NULL));
		assert_true((akv_algorithm(&keys[i]) == NULL) == (strstr(keys[i].kid, "/ka/") != NULL));
		assert_true(keys[i].can_wrap ==
			    (strstr(keys[i].kid, "/kc/") == NULL && strstr(keys[i].kid, "/ka/") == NULL));
	}
	assert_int_equal(akv_list(a, keys, 3, &n, &why), ERR_RANGE);
	assert_int_equal(n, 3);
	/* a disabled key that may not be looked at */
	emu_do("vault set %s disabled_get=403", vault);
	assert_ok(akv_list(a, keys, COUNT(keys), &n, &why));
	for (size_t i = 0; i < n; i++)
		if (strstr(keys[i].kid, "/keys/kb"))
			assert_true(!keys[i].enabled && keys[i].kty[0] == '\0');
	emu_do("fault add %s list not-json --count 1", vault);
	assert_int_equal(akv_list(a, keys, COUNT(keys), &n, &why), ERR_CORRUPT);
	done(a, NULL);
}

static void creates(void **state)
{
	struct akv_key k, got;
	struct err_why why = {0};
	struct akv *a;

	(void)state;
	parse_id("new");
	a = open_akv();
	assert_int_equal(akv_create(a, AKV_RSA, 3072, &k, &why), ERR_KEY_REVOKED);
	emu_do("grant %s vm officer", vault);
	assert_ok(akv_create(a, AKV_RSA, 3072, &k, &why));
	assert_int_equal(k.bits, 3072);
	assert_true(k.can_wrap && k.can_unwrap && k.has_ops);
	assert_ok(akv_get(a, &got, NULL));
	assert_string_equal(got.kid, k.kid);
	assert_int_equal(akv_create(a, AKV_RSA, 1024, &k, &why), ERR_CONFIG);
	assert_int_equal(akv_create(a, AKV_KIND_OTHER, 0, &k, &why), ERR_CONFIG);
	emu_do("key delete %s new", vault);
	assert_int_equal(akv_create(a, AKV_RSA, 2048, &k, &why), ERR_CONFIG);
	assert_string_equal(akv_detail(a)->reason, "ObjectIsDeletedButRecoverable");
	assert_non_null(strstr(why.text, "recover"));
	done(a, NULL);
}

/* ---- the rest ---- */

static void *hang(void *arg)
{
	struct akv *a = arg;
	struct akv_key k;
	static enum err e;

	e = akv_get(a, &k, NULL);
	return &e;
}

/* Has the one fault there is hit? */
static bool hit(void)
{
	json_t *list = emu_ask("fault list");
	bool was = json_integer_value(json_object_get(json_array_get(list, 0), "hits")) > 0;

	json_decref(list);
	return was;
}

static void aborted(void **state)
{
	struct akv *a = open_with(0, 600000, NULL);
	pthread_t thread;
	void *e;

	(void)state;
	emu_do("fault add %s contact hang", vault);
	assert_int_equal(pthread_create(&thread, NULL, hang, a), 0);
	while (!hit()) {
		const struct timespec nap = {0, 5000000};

		nanosleep(&nap, NULL);
	}
	akv_abort(a);
	assert_int_equal(pthread_join(thread, &e), 0);
	assert_int_equal(*(enum err *)e, ERR_KEY_UNAVAILABLE);
	emu_do("fault clear");
	done(a, NULL);
}

static void refused_configurations(void **state)
{
	static const char *const versions_[] = {"", "7.4&x=y", "7.4 ", "x7.4", "01234567890123456789012345678901"};
	struct akv_config cfg = {.fips = fips, .cloud = &emu.cloud, .id = &id, .identity = vm};
	struct akv *a;

	(void)state;
	for (size_t i = 0; i < COUNT(versions_); i++) {
		cfg.api_version = versions_[i];
		assert_int_equal(akv_open(&cfg, &a, NULL), ERR_CONFIG);
		assert_null(a);
	}
	cfg.api_version = "2025-07-01";
	cfg.tenant = "not-a-guid";
	assert_int_equal(akv_open(&cfg, &a, NULL), ERR_CONFIG);
	cfg.tenant = NULL;
	assert_ok(akv_open(&cfg, &a, NULL));
	{
		struct akv_key k;

		assert_ok(akv_get(a, &k, NULL));
	}
	akv_close(a);
	cfg.api_version = "1.0";
	assert_ok(akv_open(&cfg, &a, NULL));
	{
		struct akv_key k;

		assert_int_equal(akv_get(a, &k, NULL), ERR_CONFIG);
	}
	akv_close(a);
}

/* Neither the key nor anything of it is left once the secret is freed, with the connection open. */
static void leaves_nothing(void **state)
{
	struct akv *a = open_akv();
	struct locked_stats before, after;
	uint8_t masked[32];
	char text[64];
	struct trip t;

	(void)state;
	wrap(a, "RSA-OAEP-256", &t);
	secret_free(t.key);
	assert_ok(secret_new(32, &t.key)); /* one that is nowhere else */
	assert_ok(fips_random(fips, secret_bytes(t.key), 32));
	{
		char kid[AZURE_URI_MAX];

		assert_ok(akv_wrap(a, "RSA-OAEP-256", t.key, &t.wrapped, kid, NULL));
	}
	expect(a, &t, ERR_OK, "");
	locked_stats_get(&before);
	for (int i = 0; i < 5; i++)
		expect(a, &t, ERR_OK, "");
	locked_stats_get(&after);
	assert_int_equal(before.in_use_bytes, after.in_use_bytes);
#ifndef __SANITIZE_THREAD__ /* takes a minute there */
	for (size_t i = 0; i < 32; i++)
		masked[i] = secret_view(t.key)[i] ^ 0x5a;
	b64_encode(secret_view(t.key), 32, text);
	for (size_t i = 0; i < 40; i++)
		text[i] ^= 0x5a;
	assert_true(test_scan(masked, 0x5a, 32) > 0);
	secret_free(t.key);
	t.key = NULL;
	assert_int_equal(test_scan(masked, 0x5a, 32), 0);
	assert_int_equal(test_scan((const uint8_t *)text, 0x5a, 40), 0);
#else
	(void)masked;
	(void)text;
#endif
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
		T(patience),
		T(deadlines),
		T(unreachable),
		T(nonsense),
		T(lists),
		T(creates),
		T(aborted),
		T(refused_configurations),
		T(leaves_nothing),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
