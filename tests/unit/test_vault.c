/* SPDX-License-Identifier: Apache-2.0 */
/* vault: the provider, its configuration, and the checks of a key; against the emulator of tests/emulator. */
#include "keyprov/vault.h"
#include "tests/unit/emutest.h"

#include <pthread.h>

static struct fips *fips;
static char vault[16]; /* of the present test */
static char uri[AZURE_URI_MAX];

static void make_uri(const char *suffix, const char *key)
{
	snprintf(uri, sizeof(uri), "https://%s%s:%s/keys/%s", vault, suffix, emu.cloud.port, key);
}

static int each(void **state)
{
	static unsigned n;

	(void)state;
	snprintf(vault, sizeof(vault), "t%u", ++n);
	emu_do("fault clear");
	emu_do("vault create %s", vault);
	emu_do("key create %s k", vault);
	emu_do("grant %s vm", vault);
	make_uri(emu.cloud.vault_suffix, "k");
	return 0;
}

/* ---- the checks ---- */

struct exam {
	struct vault_check check[VAULT_CHECKS];
	struct keyprov_detail detail;
	enum err first;
	struct err_why why;
	json_t *conf;
};

static struct vault_want want(void)
{
	return (struct vault_want){.uri = uri, .cloud = "emulator", .lease_seconds = UINT32_MAX};
}

static const struct vault_check *line(const struct exam *x, const char *name)
{
	for (int i = 0; i < VAULT_CHECKS; i++)
		if (strcmp(x->check[i].name, name) == 0)
			return &x->check[i];
	fail();
	return NULL;
}

static void print(const struct exam *x)
{
	static const char *const states[] = {"ok", "FAILED", "warning", "skipped"};

	for (int i = 0; i < VAULT_CHECKS; i++)
		print_message("#  %-17s %-8s %s%s%s\n", x->check[i].name, states[x->check[i].state], x->check[i].found,
			x->check[i].remedy[0] ? " -> " : "", x->check[i].remedy);
}

/* Every line is filled, whatever it says. */
static void examine(const struct vault_want *w, struct exam *x)
{
	enum err e;
	bool failed = false;

	memset(x, 0, sizeof(*x));
	e = vault_examine(fips, w, x->check, &x->conf, &x->detail, &x->first, &x->why);
	if (e != ERR_OK)
		print_error("%s\n", x->why.text);
	assert_ok(e);
	for (int i = 0; i < VAULT_CHECKS; i++) {
		const struct vault_check *c = &x->check[i];

		if (c->found[0] == '\0' ||
			(c->remedy[0] == '\0') != (c->state == CHECK_OK || c->state == CHECK_SKIPPED))
			print(x);
		assert_true(c->found[0] != '\0');
		assert_int_equal(c->remedy[0] == '\0', c->state == CHECK_OK || c->state == CHECK_SKIPPED);
		failed = failed || c->state == CHECK_FAILED;
	}
	assert_int_equal(failed, x->first != ERR_OK);
	assert_int_equal(failed, x->conf == NULL);
	assert_int_equal(failed, x->why.text[0] != '\0');
}

/* This line fails with this error, and is the first to. */
static void expect(const struct vault_want *w, const char *name, enum err err, const char *in_remedy)
{
	struct exam x;

	examine(w, &x);
	if (line(&x, name)->state != CHECK_FAILED || x.first != err || !strstr(line(&x, name)->remedy, in_remedy) ||
		strncmp(x.why.text, name, strlen(name)) != 0) {
		print_error("%s, first %d: %s\n", name, (int)x.first, x.why.text);
		print(&x);
	}
	assert_int_equal(line(&x, name)->state, CHECK_FAILED);
	assert_int_equal(x.first, err);
	assert_non_null(strstr(line(&x, name)->remedy, in_remedy));
	assert_int_equal(strncmp(x.why.text, name, strlen(name)), 0);
	json_decref(x.conf);
}

static const char *text(const json_t *conf, const char *member)
{
	return json_string_value(json_object_get(conf, member));
}

static void all_good(void **state)
{
	struct vault_want w = want();
	struct exam x;

	(void)state;
	examine(&w, &x);
	if (x.first != ERR_OK)
		print(&x);
	assert_int_equal(x.first, ERR_OK);
	for (int i = 0; i < VAULT_CHECKS; i++)
		assert_int_equal(x.check[i].state, CHECK_OK);
	assert_ok(vault_conf_check(x.conf, NULL));
	assert_string_equal(text(x.conf, "source"), "vault");
	assert_string_equal(text(x.conf, "uri"), uri);
	assert_string_equal(text(x.conf, "region"), "westeurope");
	assert_string_equal(text(x.conf, "algorithm"), "RSA-OAEP-256");
	assert_string_equal(text(x.conf, "expired"), "revoke");
	assert_string_equal(text(json_object_get(x.conf, "identity"), "kind"), "auto");
	assert_int_equal(json_integer_value(json_object_get(x.conf, "probe_seconds")), 10);
	assert_int_equal(json_integer_value(json_object_get(x.conf, "lease_seconds")), 600);
	assert_int_equal(strlen(x.detail.oid), 36);
	assert_int_equal(x.detail.http_status, 200);
	json_decref(x.conf);
	w.lease_seconds = 0;
	w.probe_seconds = 60;
	w.expired_allowed = true;
	w.api_version = "7.5";
	w.region = "West Europe";
	examine(&w, &x);
	assert_int_equal(json_integer_value(json_object_get(x.conf, "probe_seconds")), 60);
	assert_int_equal(json_integer_value(json_object_get(x.conf, "lease_seconds")), 0);
	assert_string_equal(text(x.conf, "expired"), "allow");
	assert_string_equal(text(x.conf, "api_version"), "7.5");
	json_decref(x.conf);
}

static void all_bad_together(void **state)
{
	struct vault_want w = want();
	struct exam x;
	unsigned failed = 0;

	(void)state;
	emu_do("vault set %s purge_protection=0 region=eastus", vault);
	emu_do("key update %s k --ops sign --exp -60", vault);
	emu_do("key disable %s k", vault);
	examine(&w, &x);
	for (int i = 0; i < VAULT_CHECKS; i++)
		failed += x.check[i].state == CHECK_FAILED;
	assert_true(failed >= 6);
	assert_int_equal(line(&x, "region")->state, CHECK_FAILED);
	assert_int_equal(line(&x, "soft delete")->state, CHECK_OK);
	assert_int_equal(line(&x, "purge protection")->state, CHECK_FAILED);
	assert_int_equal(line(&x, "enabled")->state, CHECK_FAILED);
	assert_int_equal(line(&x, "validity")->state, CHECK_FAILED);
	assert_int_equal(line(&x, "operations")->state, CHECK_FAILED);
	assert_int_equal(line(&x, "kind")->state, CHECK_OK);
	assert_int_equal(line(&x, "round trip")->state, CHECK_FAILED);
	assert_int_equal(x.first, ERR_CONFIG);
}

static void each_check(void **state)
{
	struct vault_want w = want();

	(void)state;
	emu_do("vault set %s purge_protection=0", vault);
	expect(&w, "purge protection", ERR_CONFIG, "az keyvault update --vault-name t");
	emu_do("vault set %s purge_protection=1 soft_delete=0", vault);
	expect(&w, "soft delete", ERR_CONFIG, "--enable-soft-delete true");
	emu_do("vault set %s soft_delete=1", vault);
	emu_do("key disable %s k", vault);
	expect(&w, "enabled", ERR_CONFIG, "az keyvault key set-attributes --enabled true --id https://");
	emu_do("vault set %s disabled_get=403", vault);
	expect(&w, "enabled", ERR_KEY_REVOKED, "az keyvault key set-attributes --enabled true --vault-name t");
	emu_do("vault set %s disabled_get=200", vault);
	emu_do("key enable %s k", vault);
	emu_do("key update %s k --exp -60", vault);
	expect(&w, "validity", ERR_CONFIG, "az keyvault key rotate --vault-name t");
	emu_do("key update %s k --exp none --nbf +3600", vault);
	expect(&w, "validity", ERR_CONFIG, "--not-before");
	emu_do("key update %s k --nbf none --ops wrapKey", vault);
	expect(&w, "operations", ERR_CONFIG, "--ops wrapKey unwrapKey");
	emu_do("key update %s k --ops wrapKey,unwrapKey", vault);
	emu_do("key create %s e --kty EC", vault);
	make_uri(emu.cloud.vault_suffix, "e");
	expect(&w, "kind", ERR_CONFIG, "az keyvault key create");
	make_uri(emu.cloud.vault_suffix, "missing");
	expect(&w, "enabled", ERR_KEY_REVOKED, "key create");
	make_uri(emu.cloud.vault_suffix, "k");
	emu_do("revoke %s vm", vault);
	expect(&w, "authenticated", ERR_KEY_REVOKED, "az role assignment create --role");
	emu_do("grant %s vm reader", vault);
	expect(&w, "round trip", ERR_KEY_REVOKED, "az role assignment create --role");
	emu_do("grant %s vm", vault);
	emu_do("firewall %s on", vault);
	expect(&w, "reachable", ERR_KEY_REVOKED, "az keyvault network-rule add");
	emu_do("firewall %s off", vault);
	emu_do("fault add %s unwrapkey wrong-value", vault);
	expect(&w, "round trip", ERR_CORRUPT, "");
	emu_do("fault clear");
	emu_do("fault add %s contact challenge", vault);
	expect(&w, "reachable", ERR_CORRUPT, "");
	emu_do("fault clear");
	emu_do("identity disable vm");
	expect(&w, "authenticated", ERR_KEY_REVOKED, "");
	emu_do("identity enable vm");
	emu_do("vault move %s T2", vault);
	expect(&w, "tenant", ERR_CONFIG, "--identity");
	emu_do("vault move %s T1", vault);
	emu_do("port close vault");
	expect(&w, "reachable", ERR_KEY_UNAVAILABLE, "");
	emu_do("port open vault");
}

static json_t *app_identity(void)
{
	char client[64], tenant[64], path[128], spec[320];
	struct err_why why = {0};
	json_t *conf;
	int fd;

	emu_text("identity show app1", "client_id", client, sizeof(client));
	emu_text("identity show app1", "tenant", tenant, sizeof(tenant));
	snprintf(path, sizeof(path), "%s/app1", emu.dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "app1-secret", 11), 11);
	close(fd);
	snprintf(spec, sizeof(spec), "secret:%s/%s:%s", tenant, client, path);
	conf = azid_conf(spec, &why);
	if (!conf)
		print_error("%s\n", why.text);
	assert_non_null(conf);
	return conf;
}

static void regions(void **state)
{
	struct vault_want w = want();
	struct exam x;

	(void)state;
	w.region = "eastus";
	expect(&w, "region", ERR_CONFIG, "--allow-other-region");
	w.allow_other_region = true;
	examine(&w, &x);
	assert_int_equal(line(&x, "region")->state, CHECK_WARNING);
	assert_string_equal(text(x.conf, "region"), "westeurope");
	json_decref(x.conf);
	/* where nobody tells a region, somebody has to */
	w = want();
	w.identity = app_identity();
	emu_do("grant %s app1", vault);
	emu_do("port close imds");
	expect(&w, "region", ERR_CONFIG, "--region REGION");
	w.region = "westeurope";
	examine(&w, &x);
	assert_int_equal(x.first, ERR_OK);
	json_decref(x.conf);
	emu_do("port open imds");
	json_decref(w.identity);
	w = want();
	emu_do("vault set %s region=eastus", vault);
	expect(&w, "region", ERR_CONFIG, "use a vault in westeurope");
}

static void expires_soon(void **state)
{
	struct vault_want w = want();
	struct exam x;

	(void)state;
	emu_do("key update %s k --exp +86400", vault);
	examine(&w, &x);
	assert_int_equal(x.first, ERR_OK);
	assert_int_equal(line(&x, "validity")->state, CHECK_WARNING);
	json_decref(x.conf);
	emu_do("key update %s k --exp +86400000", vault);
	examine(&w, &x);
	assert_int_equal(line(&x, "validity")->state, CHECK_OK);
	json_decref(x.conf);
}

static void managed_hsm(void **state)
{
	struct vault_want w = want();
	struct exam x;

	(void)state;
	strcat(vault, "h");
	emu_do("vault create %s --hsm", vault);
	emu_do("key create %s k --kty oct-HSM --size 256", vault);
	make_uri(emu.cloud.hsm_suffix, "k");
	expect(&w, "authenticated", ERR_KEY_REVOKED, "Managed HSM Crypto Service Encryption User");
	emu_do("grant %s vm", vault);
	examine(&w, &x);
	if (x.first != ERR_OK)
		print(&x);
	assert_int_equal(x.first, ERR_OK);
	assert_string_equal(text(x.conf, "source"), "managed-hsm");
	assert_string_equal(text(x.conf, "algorithm"), "A256KW");
	json_decref(x.conf);
	emu_do("key create %s short --kty oct-HSM --size 128", vault);
	make_uri(emu.cloud.hsm_suffix, "short");
	examine(&w, &x);
	assert_int_not_equal(x.first, ERR_OK);
}

static void no_report(void **state)
{
	struct vault_want w = want();
	struct vault_check check[VAULT_CHECKS];
	struct keyprov_detail detail;
	struct err_why why = {0};
	enum err first;
	json_t *conf = NULL;

	(void)state;
	w.uri = "https://evil.example/keys/k";
	assert_int_equal(vault_examine(fips, &w, check, &conf, &detail, &first, &why), ERR_CONFIG);
	assert_null(conf);
	w = want();
	w.cloud = "public";
	assert_int_equal(vault_examine(fips, &w, check, &conf, &detail, &first, &why), ERR_CONFIG);
	w.cloud = "nowhere";
	assert_int_equal(vault_examine(fips, &w, check, &conf, &detail, &first, &why), ERR_CONFIG);
	assert_non_null(strstr(why.text, "nowhere"));
	w = want();
	w.api_version = "7.4&x";
	assert_int_equal(vault_examine(fips, &w, check, &conf, &detail, &first, &why), ERR_CONFIG);
}

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

static void fit(void **state)
{
	const struct akv_key good = {.kind = AKV_RSA,
		.kty = "RSA",
		.bits = 2048,
		.enabled = true,
		.can_wrap = true,
		.can_unwrap = true,
		.soft_delete = true,
		.purge_protection = true};
	struct akv_key k = good;
	char reason[256];
	const time_t now = 1000000;

	(void)state;
	assert_true(vault_key_fit(&k, now, reason));
	assert_string_equal(reason, "");
	k.bits = 4096;
	assert_true(vault_key_fit(&k, now, reason));
	k.expires = now + 1;
	k.not_before = now;
	assert_true(vault_key_fit(&k, now, reason));
#define UNFIT(set, part)                                                                                               \
	do {                                                                                                           \
		k = good;                                                                                              \
		set;                                                                                                   \
		assert_false(vault_key_fit(&k, now, reason));                                                          \
		assert_non_null(strstr(reason, part));                                                                 \
	} while (0)
	UNFIT(k.enabled = false, "disabled");
	UNFIT(k.expires = now, "expired");
	UNFIT(k.not_before = now + 1, "not valid yet");
	UNFIT(k.bits = 1024, "1024");
	UNFIT(k.bits = 2047, "2047");
	UNFIT(k.kty[0] = '\0', "may not look");
	UNFIT(k.can_unwrap = false, "unwrapKey");
	UNFIT(k.can_wrap = false, "wrapKey");
	UNFIT(k.purge_protection = false, "purge protection");
	UNFIT(k.soft_delete = false, "soft delete");
	UNFIT((k.kind = AKV_KIND_OTHER, strcpy(k.kty, "EC")), "EC");
	k = (struct akv_key){.kind = AKV_OCT_HSM,
		.kty = "oct-HSM",
		.bits = 256,
		.enabled = true,
		.can_wrap = true,
		.can_unwrap = true,
		.soft_delete = true,
		.purge_protection = true};
	assert_true(vault_key_fit(&k, now, reason));
	k.bits = 128;
	assert_false(vault_key_fit(&k, now, reason));
}

static void grants(void **state)
{
	struct azid_info who = {.oid = "11111111-2222-3333-4444-555555555555"};
	struct azure_cloud c;
	struct azure_key_id id;
	char out[1024];

	(void)state;
	assert_ok(azure_cloud_find("public", &c, NULL));
	assert_ok(azure_key_id_parse(&c, "https://my-vault.vault.azure.net/keys/k", &id, NULL));
	vault_grant_commands(&id, &who, out, sizeof(out));
	assert_non_null(strstr(out, "--role \"Key Vault Crypto Service Encryption User\""));
	assert_non_null(strstr(out, "--assignee-object-id 11111111-2222-3333-4444-555555555555"));
	assert_non_null(strstr(out, "az keyvault show --name my-vault "));
	assert_non_null(strstr(out, "\naz keyvault set-policy --name my-vault"));
	vault_grant_commands(&id, NULL, out, sizeof(out));
	assert_non_null(strstr(out, "OBJECT_ID"));
	assert_ok(azure_key_id_parse(&c, "https://my-hsm.managedhsm.azure.net/keys/k", &id, NULL));
	vault_grant_commands(&id, &who, out, sizeof(out));
	assert_non_null(strstr(out, "--hsm-name my-hsm "));
	assert_non_null(strstr(out, "--scope /keys/k"));
	vault_grant_commands(&id, &who, out, 10);
	assert_int_equal(strlen(out), 9);
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
		T(all_good),
		T(all_bad_together),
		T(each_check),
		T(regions),
		T(expires_soon),
		T(managed_hsm),
		T(no_report),
		T(provider),
		T(states),
		T(hostile_ref),
		T(versioned),
		T(configuration),
		T(opening),
		T(fit),
		T(grants),
		T(aborted),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
