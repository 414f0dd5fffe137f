/* SPDX-License-Identifier: Apache-2.0 */
/* azure: clouds and their profiles, key identifiers, challenges. */
#include "keyprov/azure.h"
#include "tests/unit/testlib.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define V32    "0123456789abcdef0123456789abcdef"
#define TENANT "11111111-2222-3333-4444-55555555abcd"

static struct azure_cloud cloud(const char *name)
{
	struct azure_cloud c;
	struct err_why why = {0};
	enum err e = azure_cloud_find(name, &c, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return c;
}

static const char emulator[] =
	"{\"vault_suffix\": \".vault.localhost\", \"hsm_suffix\": \".managedhsm.localhost\","
	" \"vault_audience\": \"https://vault.localhost\", \"hsm_audience\": \"https://managedhsm.localhost\","
	" \"authority\": \"https://login.localhost:8443\", \"port\": \"8444\", \"ca\": \"/tmp/ca.pem\","
	" \"imds\": \"http://127.0.0.1:8445\", \"arc\": \"http://[::1]:8446\"}";

static enum err parse(const char *text, struct azure_cloud *out, struct err_why *why)
{
	json_t *j = json_loads(text, 0, NULL);
	enum err e;

	assert_non_null(j);
	e = azure_cloud_parse(j, "test", out, why);
	json_decref(j);
	return e;
}

/* ---- identifiers ---- */

static void built_in(void **state)
{
	struct azure_cloud c = cloud(NULL);

	(void)state;
	assert_string_equal(c.name, "public");
	assert_string_equal(c.vault_audience, "https://vault.azure.net");
	assert_string_equal(cloud("").name, "public");
	assert_string_equal(cloud("china").hsm_suffix, ".managedhsm.azure.cn");
	assert_string_equal(cloud("usgov").authority, "https://login.microsoftonline.us");
}

static void identifiers(void **state)
{
	static const struct {
		const char *cloud, *uri, *host, *name, *version;
		bool hsm;
	} good[] = {
		{"public", "https://my-vault.vault.azure.net/keys/k", "my-vault.vault.azure.net", "k", "", false},
		{"public", "HTTPS://My-Vault.Vault.Azure.Net/keys/Key-1/" V32, "my-vault.vault.azure.net", "Key-1", V32,
			false},
		{"public", "https://v12.vault.azure.net:443/keys/k", "v12.vault.azure.net", "k", "", false},
		{"public", "https://hsm.managedhsm.azure.net/keys/k/" V32, "hsm.managedhsm.azure.net", "k", V32, true},
		{"public", "https://hsm.westeurope.managedhsm.azure.net/keys/k", "hsm.westeurope.managedhsm.azure.net",
			"k", "", true},
		{"china", "https://v12.vault.azure.cn/keys/k", "v12.vault.azure.cn", "k", "", false},
		{"usgov", "https://v12.vault.usgovcloudapi.net/keys/k", "v12.vault.usgovcloudapi.net", "k", "", false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct azure_cloud c = cloud(good[i].cloud);
		struct err_why why = {0};
		struct azure_key_id id, again;
		char text[AZURE_URI_MAX];
		enum err e = azure_key_id_parse(&c, good[i].uri, &id, &why);

		if (e != ERR_OK)
			print_error("%s: %s\n", good[i].uri, why.text);
		assert_ok(e);
		assert_string_equal(id.host, good[i].host);
		assert_string_equal(id.name, good[i].name);
		assert_string_equal(id.version, good[i].version);
		assert_int_equal(id.hsm, good[i].hsm);
		azure_key_id_format(&id, true, text);
		assert_ok(azure_key_id_parse(&c, text, &again, NULL));
		assert_memory_equal(&id, &again, sizeof(id));
		azure_key_id_format(&id, false, text);
		assert_null(strstr(text, V32));
	}
}

static void identifiers_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"k",
		"https://",
		"https:///keys/k",
		"http://v12.vault.azure.net/keys/k",
		"//v12.vault.azure.net/keys/k",
		" https://v12.vault.azure.net/keys/k",
		"https://v12.vault.azure.net",
		"https://v12.vault.azure.net/",
		"https://v12.vault.azure.net/keys",
		"https://v12.vault.azure.net/keys/",
		"https://v12.vault.azure.net/keys/k/",
		"https://v12.vault.azure.net/keys//" V32,
		"https://v12.vault.azure.net//keys/k",
		"https://v12.vault.azure.net/secrets/k",
		"https://v12.vault.azure.net/keys/k/" V32 "/",
		"https://v12.vault.azure.net/keys/k/" V32 "0",
		"https://v12.vault.azure.net/keys/k/0123",
		"https://v12.vault.azure.net/keys/k/" V32 "/wrapkey",
		"https://v12.vault.azure.net/keys/k?api-version=7.4",
		"https://v12.vault.azure.net/keys/k#x",
		"https://v12.vault.azure.net/keys/k%41",
		"https://v12.vault.azure.net/keys/k_1",
		"https://v12.vault.azure.net/keys/../k",
		"https://v12.vault.azure.net/keys/k\n",
		"https://v12.vault.azure.net/keys/\xc3\xa4",
		"https://v12.vault.azure.net:8443/keys/k",
		"https://v12.vault.azure.net:/keys/k",
		"https://v12.vault.azure.net:4434434434/keys/k",
		"https://v12.vault.azure.net:443x/keys/k",
		"https://user@v12.vault.azure.net/keys/k",
		"https://user:pass@v12.vault.azure.net/keys/k",
		"https://evil.example#.vault.azure.net/keys/k",
		"https://evil.example?.vault.azure.net/keys/k",
		"https://evil.example\\.vault.azure.net/keys/k",
		"https://evil.example%00.vault.azure.net/keys/k",
		"https://evil.example/.vault.azure.net/keys/k",
		"https://v12.vault.azure.net.evil.example/keys/k",
		"https://v12.vault.azure.net./keys/k",
		"https://vault.azure.net/keys/k",
		"https://.vault.azure.net/keys/k",
		"https://a.b.vault.azure.net/keys/k",
		"https://-v1.vault.azure.net/keys/k",
		"https://v1-.vault.azure.net/keys/k",
		"https://v1--2.vault.azure.net/keys/k",
		"https://v1_2.vault.azure.net/keys/k",
		"https://evilvault.azure.net/keys/k",
		"https://a234567890123456789012345.vault.azure.net/keys/k",
		"https://a..managedhsm.azure.net/keys/k",
		"https://v12.vault.azure.cn/keys/k",
		"https://login.microsoftonline.com/keys/k",
		"https://127.0.0.1/keys/k",
		"https://[::1]/keys/k",
	};
	struct azure_cloud c = cloud("public");
	char longest[AZURE_URI_MAX + 64] = "https://v12.vault.azure.net/keys/";
	struct azure_key_id id;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct err_why why = {0};
		enum err e = azure_key_id_parse(&c, bad[i], &id, &why);

		if (e != ERR_CONFIG)
			print_error("taken: %s\n", bad[i]);
		assert_int_equal(e, ERR_CONFIG);
		assert_true(strlen(why.text) > 20);
	}
	for (size_t i = strlen(longest), end = i + 127; i < end; i++)
		longest[i] = 'k';
	assert_ok(azure_key_id_parse(&c, longest, &id, NULL));
	strcat(longest, "k");
	assert_int_equal(azure_key_id_parse(&c, longest, &id, NULL), ERR_CONFIG);
	memset(longest + 33, 'k', sizeof(longest) - 34);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(azure_key_id_parse(&c, longest, &id, NULL), ERR_CONFIG);
}

static void vaults(void **state)
{
	static const char *const bad[] = {"", "a--b", "x_y", "https://v12.vault.azure.net/keys/k",
		"v12.vault.azure.net", "https://v12.vault.azure.net//", "https://v12.vault.azure.net?x",
		"a234567890123456789012345"};
	struct azure_cloud c = cloud("public"), e;
	struct azure_key_id id;

	(void)state;
	assert_ok(azure_vault_parse(&c, "My-Vault", &id, NULL));
	assert_string_equal(id.base, "https://my-vault.vault.azure.net");
	assert_string_equal(id.name, "");
	assert_false(id.hsm);
	assert_ok(azure_vault_parse(&c, "https://my-hsm.managedhsm.azure.net/", &id, NULL));
	assert_true(id.hsm);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(azure_vault_parse(&c, bad[i], &id, NULL), ERR_CONFIG);
	assert_ok(parse(emulator, &e, NULL));
	assert_ok(azure_vault_parse(&e, "v1", &id, NULL));
	assert_string_equal(id.base, "https://v1.vault.localhost:8444");
}

/* ---- profiles ---- */

static void profile(void **state)
{
	struct azure_cloud c;
	struct azure_key_id id;

	(void)state;
	assert_ok(parse(emulator, &c, NULL));
	assert_string_equal(c.name, "test");
	assert_string_equal(c.authority, "https://login.localhost:8443");
	assert_string_equal(c.port, "8444");
	assert_string_equal(c.ca_file, "/tmp/ca.pem");
	assert_string_equal(c.arc, "http://[::1]:8446");
	assert_ok(azure_key_id_parse(&c, "https://v1.vault.localhost:8444/keys/k", &id, NULL));
	assert_int_equal(azure_key_id_parse(&c, "https://v1.vault.localhost/keys/k", &id, NULL), ERR_CONFIG);
	assert_int_equal(azure_key_id_parse(&c, "https://v1.vault.localhost:443/keys/k", &id, NULL), ERR_CONFIG);
}

/* A profile with one member set to value, or taken out. */
static enum err altered(const char *member, const char *value)
{
	json_t *j = json_loads(emulator, 0, NULL), *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
	struct azure_cloud c;
	struct err_why why = {0};
	enum err e;

	assert_true(j && (v || !value));
	if (value)
		assert_int_equal(json_object_set_new(j, member, v), 0);
	else
		assert_int_equal(json_object_del(j, member), 0);
	e = azure_cloud_parse(j, "test", &c, &why);
	if (e != ERR_OK)
		assert_non_null(strstr(why.text, "profile"));
	json_decref(j);
	return e;
}

static void profiles_refused(void **state)
{
	static const struct {
		const char *member, *value;
		enum err want;
	} cases[] = {
		{"port", NULL, ERR_OK},
		{"ca", NULL, ERR_OK},
		{"imds", NULL, ERR_OK},
		{"arc", NULL, ERR_OK},
		{"port", "8444", ERR_OK},
		{"authority", "\"https://login.corp/adfs\"", ERR_OK},
		{"vault_suffix", NULL, ERR_CONFIG},
		{"hsm_suffix", NULL, ERR_CONFIG},
		{"vault_audience", NULL, ERR_CONFIG},
		{"hsm_audience", NULL, ERR_CONFIG},
		{"authority", NULL, ERR_CONFIG},
		{"vault_suffix", "\"vault.localhost\"", ERR_CONFIG},
		{"vault_suffix", "\".\"", ERR_CONFIG},
		{"vault_suffix", "\"\"", ERR_CONFIG},
		{"vault_suffix", "\".Vault.localhost\"", ERR_CONFIG},
		{"vault_suffix", "\".vault..localhost\"", ERR_CONFIG},
		{"vault_suffix", "\".managedhsm.localhost\"", ERR_CONFIG},
		{"vault_suffix", "\".localhost\"", ERR_CONFIG},
		{"vault_suffix", "7", ERR_CONFIG},
		{"vault_suffix", "null", ERR_CONFIG},
		{"vault_audience", "\"https://vault.localhost/\"", ERR_CONFIG},
		{"vault_audience", "\"http://vault.localhost\"", ERR_CONFIG},
		{"authority", "\"http://login.localhost\"", ERR_CONFIG},
		{"authority", "\"https://login.localhost/\"", ERR_CONFIG},
		{"authority", "\"https://login.localhost/a//b\"", ERR_CONFIG},
		{"authority", "\"https://login.localhost/?x\"", ERR_CONFIG},
		{"authority", "\"https://u@login.localhost\"", ERR_CONFIG},
		{"authority", "\"https://login.localhost:0\"", ERR_CONFIG},
		{"authority", "\"https://login.localhost:99999\"", ERR_CONFIG},
		{"port", "0", ERR_CONFIG},
		{"port", "-1", ERR_CONFIG},
		{"port", "65536", ERR_CONFIG},
		{"port", "\"84x\"", ERR_CONFIG},
		{"port", "true", ERR_CONFIG},
		{"ca", "\"ca.pem\"", ERR_CONFIG},
		{"imds", "\"https://127.0.0.1\"", ERR_CONFIG},
		{"imds", "\"http://127.0.0.1/metadata\"", ERR_CONFIG},
		{"imds", "\"http://[::1\"", ERR_CONFIG},
		{"imds", "\"http://[]\"", ERR_CONFIG},
		{"imds", "\"http://localhost:80\"", ERR_CONFIG},
		{"imds", "\"http://metadata.example\"", ERR_CONFIG},
		{"imds", "\"http://10.0.0.1\"", ERR_CONFIG},
		{"imds", "\"http://169.253.169.254\"", ERR_CONFIG},
		{"imds", "\"http://127.1\"", ERR_CONFIG},
		{"imds", "\"http://[2001:db8::1]\"", ERR_CONFIG},
		{"imds", "\"http://169.254.169.254\"", ERR_OK},
		{"imds", "\"http://[fe80::a9fe:a9fe]:80\"", ERR_OK},
		{"extra", "1", ERR_CONFIG},
	};
	json_t *array = json_array();
	struct azure_cloud c;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (altered(cases[i].member, cases[i].value) != cases[i].want)
			print_error("%s: %s\n", cases[i].member, cases[i].value ? cases[i].value : "missing");
		assert_int_equal(altered(cases[i].member, cases[i].value), cases[i].want);
	}
	assert_int_equal(azure_cloud_parse(array, "test", &c, NULL), ERR_CONFIG);
	json_decref(array);
	assert_int_equal(parse("{}", &c, NULL), ERR_CONFIG);
}

static void put(const char *path, const char *text, mode_t mode)
{
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void files(void **state)
{
	char dir[] = "/tmp/bcfs-azure-XXXXXX", sub[64], clouds[80], path[128];
	struct err_why why = {0};
	struct azure_cloud c;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(sub, sizeof(sub), "%s/blobcryptfs", dir);
	snprintf(clouds, sizeof(clouds), "%s/clouds", sub);
	snprintf(path, sizeof(path), "%s/corp.json", clouds);
	assert_int_equal(mkdir(sub, 0755), 0);
	assert_int_equal(mkdir(clouds, 0755), 0);
	setenv("XDG_CONFIG_HOME", dir, 1);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, path));
	assert_non_null(strstr(why.text, "/etc/blobcryptfs/clouds/corp.json"));
	put(path, emulator, 0644);
	assert_ok(azure_cloud_find("corp", &c, &why));
	assert_string_equal(c.name, "corp");
	put(path, emulator, 0664);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	assert_non_null(strstr(why.text, "chmod go-w"));
	put(path, emulator, 0646);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	put(path, "{\"vault_suffix\":", 0644);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	assert_non_null(strstr(why.text, "JSON"));
	put(path, "", 0644);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	if (geteuid() == 0) {
		put(path, emulator, 0644);
		assert_int_equal(chown(path, 12345, 0), 0);
		assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	assert_int_equal(rmdir(path), 0);
	put(path, emulator, 0644);
	assert_int_equal(truncate(path, 20000), 0);
	assert_int_equal(azure_cloud_find("corp", &c, &why), ERR_CONFIG);
	assert_int_equal(azure_cloud_find("../clouds/corp", &c, &why), ERR_CONFIG);
	assert_int_equal(azure_cloud_find("a/b", &c, &why), ERR_CONFIG);
	assert_int_equal(azure_cloud_find("Corp", &c, &why), ERR_CONFIG);
	assert_int_equal(azure_cloud_find("0123456789012345678901234567890123", &c, &why), ERR_CONFIG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(clouds), 0);
	assert_int_equal(rmdir(sub), 0);
	assert_int_equal(rmdir(dir), 0);
	unsetenv("XDG_CONFIG_HOME");
}

/* ---- challenges ---- */

static void challenges(void **state)
{
	static const struct {
		const char *header, *tenant, *resource, *claims;
	} good[] = {
		{"Bearer authorization=\"https://login.windows.net/" TENANT "\", resource=\"https://vault.azure.net\"",
			TENANT, "https://vault.azure.net", ""},
		{"Bearer authorization=\"https://login.windows.net/" TENANT "\" resource=\"https://vault.azure.net\"",
			TENANT, "https://vault.azure.net", ""},
		{"bearer\tAUTHORIZATION = \"https://l/" TENANT "\" ,Resource\t=\thttps://vault.azure.net", TENANT,
			"https://vault.azure.net", ""},
		{"Bearer authorization=https://l/11111111-2222-3333-4444-55555555ABCD/oauth2 "
		 "scope=https://vault.azure.net/.default",
			TENANT, "https://vault.azure.net", ""},
		{"Bearer authorization_uri=\"https://l/dstsv2/" TENANT "\",resource=\"https://managedhsm.azure.net/\"",
			TENANT, "https://managedhsm.azure.net", ""},
		{"Basic realm=\"a, Bearer b\", Bearer authorization=\"https://l/" TENANT "\", resource=\"r\"", TENANT,
			"r", ""},
		{"Negotiate YWJj==, Bearer resource=\"r\"", "", "r", ""},
		{"Negotiate YWJj, Bearer resource=\"r\"", "", "r", ""},
		{", ,Bearer resource=\"r\", PoP resource=\"other\", nonce=\"x\"", "", "r", ""},
		{"Bearer", "", "", ""},
		{"Bearer resource=\"a\\\"b\\\\c\"", "", "a\"b\\c", ""},
		{"Bearer authorization=\"https://l/common\", resource=\"r\"", "", "r", ""},
		{"Bearer authorization=\"https://l\", resource=\"r\"", "", "r", ""},
		{"Bearer authorization=\"https://l/" TENANT "0\", resource=\"r\"", "", "r", ""},
		{"Bearer resource=\"a b\x01\"", "", "a?b?", ""},
		/* claims: only with the error that goes with them, and only a JSON object */
		{"Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/" TENANT
		 "/oauth2/authorize\", error=\"insufficient_claims\", claims=\"eyJhIjoxfQ==\"",
			TENANT, "", "{\"a\":1}"},
		{"Bearer error=\"insufficient_claims\", claims=\"eyJhIjoxfQ\"", "", "", "{\"a\":1}"},
		{"Bearer error=\"insufficient_claims\", claims=\"eyJhIjoiPz8_In0\"", "", "", "{\"a\":\"???\"}"},
		{"Bearer error=\"insufficient_claims\", claims=\"eyJhIjoiPz8/In0=\"", "", "", "{\"a\":\"???\"}"},
		{"Bearer error=\"invalid_token\", claims=\"eyJhIjoxfQ==\"", "", "", ""},
		{"Bearer error=\"insufficient_claims\", claims=\"e y\"", "", "", ""},
		{"Bearer error=\"insufficient_claims\", claims=\"WzFd\"", "", "", ""},
		{"Bearer error=\"insufficient_claims\", claims=\"\"", "", "", ""},
		{"Bearer error=\"insufficient_claims\"", "", "", ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct azure_challenge ch;

		if (azure_challenge_parse(good[i].header, &ch) != ERR_OK)
			print_error("%s\n", good[i].header);
		assert_ok(azure_challenge_parse(good[i].header, &ch));
		assert_string_equal(ch.tenant, good[i].tenant);
		assert_string_equal(ch.resource, good[i].resource);
		assert_string_equal(ch.claims, good[i].claims);
	}
}

static void challenges_refused(void **state)
{
	static const char *const bad[] = {"", " ", ",", "Basic realm=\"x\"", "Basic realm=\"Bearer x\"",
		"BearerX a=\"b\"", "Bearer resource=\"r", "Bearer resource=\"r\\",
		"Bearer resource=\"a\", resource=\"b\"", "Bearer authorization=\"a\", authorization_uri=\"b\"",
		"Bearer =\"x\"", "Bearer \"x\"", "\x01", "(", "Bearer resource=\"r\" ; x", "=", "\"",
		"Bearer error=\"a\", error=\"insufficient_claims\""};
	static char longest[20000] = "Bearer resource=\"";
	struct azure_challenge ch;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (azure_challenge_parse(bad[i], &ch) != ERR_CORRUPT)
			print_error("taken: %s\n", bad[i]);
		assert_int_equal(azure_challenge_parse(bad[i], &ch), ERR_CORRUPT);
	}
	for (size_t n = 90; n < 18000; n += n / 3) {
		memset(longest + 17, 'r', n);
		strcpy(longest + 17 + n, "\"");
		assert_int_equal(azure_challenge_parse(longest, &ch), n < sizeof(ch.resource) ? ERR_OK : ERR_CORRUPT);
		strcpy(longest + 17 + n, "");
		assert_int_equal(azure_challenge_parse(longest, &ch), ERR_CORRUPT);
	}
}

static void resource_is_checked(void **state)
{
	static const char *const bad[] = {"https://vault.azure.cn", "https://management.azure.com",
		"https://vault.azure.ne", "https://vault.azure.net.evil.example",
		"https://evil.example/https://vault.azure.net", "https://managedhsm.azure.net", "vault.azure.net", ""};
	struct azure_cloud c = cloud("public");
	struct azure_key_id id;
	struct azure_challenge ch = {.tenant = TENANT};
	struct err_why why = {0};

	(void)state;
	assert_ok(azure_key_id_parse(&c, "https://v12.vault.azure.net/keys/k", &id, NULL));
	strcpy(ch.resource, "https://vault.azure.net");
	assert_ok(azure_challenge_check(&ch, &c, &id, &why));
	strcpy(ch.resource, "https://Vault.azure.NET");
	assert_ok(azure_challenge_check(&ch, &c, &id, &why));
	for (size_t i = 0; i < COUNT(bad); i++) {
		strcpy(ch.resource, bad[i]);
		assert_int_equal(azure_challenge_check(&ch, &c, &id, &why), ERR_CORRUPT);
		assert_non_null(strstr(why.text, bad[i]));
		assert_non_null(strstr(why.text, "https://vault.azure.net"));
	}
	strcpy(ch.claims, "{}");
	assert_ok(azure_challenge_check(&ch, &c, &id, &why));
	strcpy(ch.resource, "https://management.azure.com");
	assert_int_equal(azure_challenge_check(&ch, &c, &id, &why), ERR_CORRUPT);
	assert_ok(azure_key_id_parse(&c, "https://h12.managedhsm.azure.net/keys/k", &id, NULL));
	strcpy(ch.resource, "https://managedhsm.azure.net");
	assert_ok(azure_challenge_check(&ch, &c, &id, &why));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(built_in),
		cmocka_unit_test(identifiers),
		cmocka_unit_test(identifiers_refused),
		cmocka_unit_test(vaults),
		cmocka_unit_test(profile),
		cmocka_unit_test(profiles_refused),
		cmocka_unit_test(files),
		cmocka_unit_test(challenges),
		cmocka_unit_test(challenges_refused),
		cmocka_unit_test(resource_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
