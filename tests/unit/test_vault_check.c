/* SPDX-License-Identifier: Apache-2.0 */
/* vault: the checks of a key; against the emulator of tests/emulator. */
#include "tests/unit/vaulttest.h"

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
	expect(&w, "purge protection", ERR_CONFIG, "az keyvault update --name t");
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
		T(fit),
		T(grants),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, emu_start, emu_stop));
}
