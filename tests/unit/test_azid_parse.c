/* SPDX-License-Identifier: Apache-2.0 */
/* Identities: the text of --identity, the object in the descriptor, and hostile answers. */
#include "tests/unit/testlib.h"

#include "keyprov/azid_internal.h"
#include <unistd.h>

#define CLIENT "11111111-2222-3333-4444-555555555555"
#define TENANT "99999999-8888-7777-6666-aaaaaaaaaaaa"
#define NOW    1800000000LL

static struct fips *fips;

static json_t *object(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	if (!j)
		fail_msg("no JSON: %s", text);
	return j;
}

/* ---- SPEC and object ---- */

static void specs(void **state)
{
	static const char *const good[][2] = {
		{"auto", "{\"kind\":\"auto\"}"},
		{"vm", "{\"kind\":\"vm\"}"},
		{"vm:" CLIENT, "{\"kind\":\"vm\",\"client_id\":\"" CLIENT "\"}"},
		{"app-service", "{\"kind\":\"app-service\"}"},
		{"app-service:" CLIENT, "{\"kind\":\"app-service\",\"client_id\":\"" CLIENT "\"}"},
		{"arc", "{\"kind\":\"arc\"}"},
		{"arc:" CLIENT, "{\"kind\":\"arc\",\"client_id\":\"" CLIENT "\"}"},
		{"workload", "{\"kind\":\"workload\"}"},
		{"cli", "{\"kind\":\"cli\"}"},
		{"secret:" TENANT "/" CLIENT ":/etc/x:y", "{\"kind\":\"secret\",\"tenant\":\"" TENANT
							  "\",\"client_id\":\"" CLIENT "\",\"file\":\"/etc/x:y\"}"},
		{"certificate:" TENANT "/" CLIENT ":/a", "{\"kind\":\"certificate\",\"tenant\":\"" TENANT
							 "\",\"client_id\":\"" CLIENT "\",\"file\":\"/a\"}"},
		{"secret:" TENANT "/" CLIENT ":credential:app",
			"{\"kind\":\"secret\",\"tenant\":\"" TENANT "\",\"client_id\":\"" CLIENT
			"\",\"credential\":\"app\"}"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		struct err_why why = {0};
		json_t *j = azid_conf(good[i][0], &why), *want = object(good[i][1]);
		char text[256];

		if (!json_equal(j, want))
			fail_msg("%s: %s", good[i][0], why.text);
		assert_ok(azid_conf_check(j, &why));
		azid_conf_text(j, text);
		assert_string_equal(text, good[i][0]);
		json_decref(j);
		json_decref(want);
	}
}

static void specs_changed(void **state)
{
	char cwd[PATH_MAX], want[PATH_MAX + 100];
	struct err_why why = {0};
	json_t *j = azid_conf("vm:ABCDEF00-2222-3333-4444-555555555555", &why);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(j, "client_id")), "abcdef00-2222-3333-4444-555555555555");
	json_decref(j);
	/* the descriptor outlives the working directory */
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	snprintf(want, sizeof(want), "%s/some file", cwd);
	j = azid_conf("secret:" TENANT "/" CLIENT ":some file", &why);
	assert_string_equal(json_string_value(json_object_get(j, "file")), want);
	json_decref(j);
}

static void specs_refused(void **state)
{
	static const char *const bad[] = {"", "VM", "vm:", "vm:x", "vm:" CLIENT "0", "vm:" CLIENT ":", "vm:/" CLIENT,
		"auto:", "auto:" CLIENT, "workload:" CLIENT, "cli:" TENANT, "secret", "secret:", "secret:/etc/x",
		"secret:" TENANT "/" CLIENT, "secret:" TENANT "/" CLIENT ":", "secret:" TENANT ":" CLIENT ":/x",
		"secret:" TENANT "/" CLIENT ":credential:", "secret:" TENANT "/" CLIENT ":credential:../x",
		"secret:" TENANT "/" CLIENT ":credential:.x", "secret:contoso.onmicrosoft.com/" CLIENT ":/x",
		"secret:" TENANT "/" CLIENT ":/x\ny", "secret:" TENANT "/" CLIENT ":/x\xff", "vm " CLIENT, "vm\n",
		"certificate:" TENANT "/" CLIENT "x/x"};
	char *long_path = malloc(PATH_MAX + 200);

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct err_why why = {0};

		if (azid_conf(bad[i], &why) != NULL)
			fail_msg("%s was taken", bad[i]);
		assert_true(strlen(why.text) > 10);
		assert_null(azid_conf(bad[i], NULL));
	}
	assert_non_null(long_path);
	snprintf(long_path, PATH_MAX + 200, "secret:" TENANT "/" CLIENT ":/%0*d", PATH_MAX, 0);
	assert_null(azid_conf(long_path, NULL));
	free(long_path);
}

#define PRINCIPAL "\"kind\":\"secret\",\"tenant\":\"" TENANT "\",\"client_id\":\"" CLIENT "\""

static void objects_refused(void **state)
{
	static const struct {
		const char *text;
		enum err e;
	} bad[] = {
		{"{}", ERR_CORRUPT},
		{"[]", ERR_CORRUPT},
		{"{\"kind\":7}", ERR_CORRUPT},
		{"{\"kind\":\"\"}", ERR_CORRUPT},
		{"{\"kind\":\"new\"}", ERR_UNSUPPORTED},
		{"{\"kind\":\"vm\",\"more\":1}", ERR_UNSUPPORTED},
		{"{\"kind\":\"auto\",\"client_id\":\"" CLIENT "\"}", ERR_UNSUPPORTED},
		{"{\"kind\":\"vm\",\"client_id\":\"x\"}", ERR_CORRUPT},
		{"{\"kind\":\"vm\",\"client_id\":null}", ERR_CORRUPT},
		{"{\"kind\":\"vm\",\"file\":\"/etc/passwd\"}", ERR_UNSUPPORTED},
		{"{\"kind\":\"secret\"}", ERR_CORRUPT},
		{"{" PRINCIPAL "}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"file\":\"relative\"}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"file\":\"/x\",\"credential\":\"y\"}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"file\":\"/x\",\"more\":1}", ERR_UNSUPPORTED},
		{"{" PRINCIPAL ",\"file\":\"/x\\u001b[2J\"}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"credential\":\"../x\"}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"credential\":\".x\"}", ERR_CORRUPT},
		{"{" PRINCIPAL ",\"file\":[]}", ERR_CORRUPT},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct err_why why = {0};
		json_t *j = object(bad[i].text);
		enum err e = azid_conf_check(j, &why);
		char text[256];

		if (e != bad[i].e)
			fail_msg("%s: %s", bad[i].text, err_text(e));
		assert_null(strchr(why.text, '\033'));
		azid_conf_text(j, text);
		assert_string_equal(text, "unknown");
		json_decref(j);
	}
	assert_int_equal(azid_conf_check(NULL, NULL), ERR_CORRUPT);
}

/* Two processes are the same to Azure only if that is equal, too. */
static void environment(void **state)
{
	static const char *const names[] = {"IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "AZURE_CLIENT_ID", "AZURE_TENANT_ID",
		"AZURE_FEDERATED_TOKEN_FILE", "CREDENTIALS_DIRECTORY", "IDENTITY_HEADER"};
	static const struct {
		const char *spec;
		size_t members;
	} table[] = {{"auto", 5}, {"workload", 5}, {"app-service", 5}, {"vm", 0}, {"arc:" CLIENT, 0},
		{"secret:" TENANT "/" CLIENT ":/x", 0}, {"secret:" TENANT "/" CLIENT ":credential:x", 1}};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		json_t *conf = azid_conf(table[i].spec, NULL), *one, *two;

		for (size_t k = 0; k < COUNT(names); k++)
			unsetenv(names[k]);
		one = azid_environment(conf);
		assert_int_equal(json_object_size(one), 0);
		json_decref(one);
		for (size_t k = 0; k < COUNT(names); k++)
			assert_int_equal(setenv(names[k], "value", 1), 0);
		one = azid_environment(conf);
		assert_int_equal(json_object_size(one), table[i].members);
		assert_null(json_object_get(one, "IDENTITY_HEADER"));
		assert_int_equal(setenv("AZURE_CLIENT_ID", "other", 1), 0);
		assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "\xff", 1), 0);
		two = azid_environment(conf);
		assert_int_equal(json_object_size(two), table[i].members);
		assert_true(json_equal(one, two) == (table[i].members == 0));
		json_decref(one);
		json_decref(two);
		json_decref(conf);
	}
}

/* ---- answers ---- */

static void answers_refused(void **state)
{
	static const char *const bad[] = {"", "{", "null", "[]", "\"x\"", "{}", "{\"access_token\":7,\"expires_in\":9}",
		"{\"access_token\":\"\",\"expires_in\":9}", "{\"access_token\":\"a b\",\"expires_in\":9}",
		"{\"access_token\":\"a\\nb\",\"expires_in\":9}", "{\"access_token\":\"a\\u0000b\",\"expires_in\":9}",
		"{\"access_token\":\"\xc3\xa4\",\"expires_in\":9}", "{\"access_token\":\"a,b\",\"expires_in\":9}",
		"{\"access_token\":\"a\\\"b\",\"expires_in\":9}", "{\"access_token\":\"a\"}",
		"{\"access_token\":\"a\",\"expires_in\":0}", "{\"access_token\":\"a\",\"expires_in\":-5}",
		"{\"access_token\":\"a\",\"expires_in\":\"-5\"}", "{\"access_token\":\"a\",\"expires_in\":\"\"}",
		"{\"access_token\":\"a\",\"expires_in\":\"9x\"}", "{\"access_token\":\"a\",\"expires_in\":\" 9\"}",
		"{\"access_token\":\"a\",\"expires_in\":\"9999999999999\"}",
		"{\"access_token\":\"a\",\"expires_in\":1e300}", "{\"access_token\":\"a\",\"expires_in\":true}",
		"{\"access_token\":\"a\",\"expires_on\":1800000000}",
		"{\"access_token\":\"a\",\"expires_in\":9,\"token_type\":\"PoP\"}",
		"{\"access_token\":\"a\",\"access_token\":\"b\",\"expires_in\":9}",
		"{\"access_token\":\"a\",\"expires_in\":9} trailing"};
	struct azid_answer a;
	char *big;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct err_why why = {0};
		enum err e = azid_answer_parse(bad[i], strlen(bad[i]), "access_token", NOW, &a, &why);

		if (e != ERR_CORRUPT)
			fail_msg("%s: %s", bad[i], err_text(e));
		assert_null(a.token);
		assert_true(why.text[0]);
	}
	/* the longest token, and one byte more */
	big = malloc(AZID_TOKEN_MAX + 64);
	assert_non_null(big);
	snprintf(big, AZID_TOKEN_MAX + 64, "{\"access_token\":\"%0*d\",\"expires_in\":9}", (int)AZID_TOKEN_MAX, 0);
	assert_ok(azid_answer_parse(big, strlen(big), "access_token", NOW, &a, NULL));
	assert_int_equal(secret_len(a.token), AZID_TOKEN_MAX + 7);
	secret_free(a.token);
	snprintf(big, AZID_TOKEN_MAX + 64, "{\"access_token\":\"%0*d\",\"expires_in\":9}", (int)AZID_TOKEN_MAX + 1, 0);
	assert_int_equal(azid_answer_parse(big, strlen(big), "access_token", NOW, &a, NULL), ERR_CORRUPT);
	/* not NUL-terminated: exactly len bytes are looked at */
	assert_int_equal(azid_answer_parse(big, 20, "access_token", NOW, &a, NULL), ERR_CORRUPT);
	free(big);
}

static void refusals(void **state)
{
	static const char all[] = "{\"error\":\"invalid_client\",\"error_codes\":[7000215,1],\"trace_id\":\"a-b\"}";
	static const char *const odd[] = {"", "x", "[]", "{\"error\":{\"code\":\"x\"}}", "{\"error\":\"two words\"}",
		"{\"error\":\"esc\\u001b[2J\"}", "{\"error\":\"\"}",
		"{\"error\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
		"{\"error_codes\":[-1],\"trace_id\":7}", "{\"error_codes\":7}", "{\"error_codes\":[1e9]}"};
	struct azid_refusal r;

	(void)state;
	azid_refusal_parse(all, strlen(all), &r);
	assert_string_equal(r.error, "invalid_client");
	assert_int_equal(r.code, 7000215);
	assert_string_equal(r.trace, "a-b");
	for (size_t i = 0; i < COUNT(odd); i++) {
		azid_refusal_parse(odd[i], strlen(odd[i]), &r);
		assert_string_equal(r.error, "");
		assert_int_equal(r.code, 0);
		assert_string_equal(r.trace, "");
	}
}

static void token_of(const char *payload, char out[static 2048])
{
	snprintf(out, 2048, "eyJ9.");
	b64_encode(payload, strlen(payload), out + 5);
	strncat(out, ".sig", 2048 - strlen(out) - 1);
}

static void payloads(void **state)
{
	static const char *const odd[] = {
		"", ".", "..", "a.b.c", "eyJ9.e30", "eyJ9.!!!!.x", "x.W10.y", "x.bnVsbA.y", "x.eyJvaWQiOjd9.y"};
	struct azid_info info;
	char token[2048], json[1400];

	(void)state;
	token_of(
		"{\"oid\":\"" CLIENT "\",\"azp\":\"" TENANT "\",\"tid\":\"" TENANT "\",\"exp\":\"1800000000\"}", token);
	azid_claims(token, strlen(token), &info);
	assert_string_equal(info.oid, CLIENT);
	assert_string_equal(info.appid, TENANT);
	assert_string_equal(info.tenant, TENANT);
	assert_int_equal(info.expires, 1800000000);
	for (size_t i = 0; i < COUNT(odd); i++) {
		memset(&info, 'x', sizeof(info));
		azid_claims(odd[i], strlen(odd[i]), &info);
		assert_string_equal(info.oid, "");
		assert_string_equal(info.appid, "");
		assert_string_equal(info.tenant, "");
		assert_string_equal(info.resource, "");
		assert_int_equal(info.expires, 0);
	}
	/* what is shown has no control characters and no surprising length */
	token_of("{\"oid\":\"" CLIENT "0\",\"appid\":\"x\",\"tid\":7,\"xms_mirid\":\"a\\u001b[2J\",\"exp\":-1}", token);
	azid_claims(token, strlen(token), &info);
	assert_string_equal(info.oid, "");
	assert_string_equal(info.resource, "");
	assert_int_equal(info.expires, 0);
	snprintf(json, sizeof(json), "{\"xms_mirid\":\"%0255d\"}", 0);
	token_of(json, token);
	azid_claims(token, strlen(token), &info);
	assert_int_equal(strlen(info.resource), 255);
	snprintf(json, sizeof(json), "{\"xms_mirid\":\"%0256d\"}", 0);
	token_of(json, token);
	azid_claims(token, strlen(token), &info);
	assert_string_equal(info.resource, "");
}

static void locations(void **state)
{
	static const char *const v[][2] = {{"{\"location\":\"westeurope\"}", "westeurope"},
		{"{\"compute\":{\"location\":\"EastUS2\"}}", "eastus2"}, {"{\"compute\":{}}", ""},
		{"{\"compute\":7}", ""}, {"{\"location\":\"\"}", ""}, {"{\"location\":\"west europe\"}", ""},
		{"{\"location\":[1]}", ""}, {"", ""}, {"[\"location\"]", ""},
		{"{\"location\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}", ""}};
	char out[64];

	(void)state;
	for (size_t i = 0; i < COUNT(v); i++) {
		azid_location(v[i][0], strlen(v[i][0]), out);
		assert_string_equal(out, v[i][1]);
	}
}

/* ---- Arc's challenge, App Service's address ---- */

static void challenges(void **state)
{
	static const char *const good[] = {
		"Basic realm=/d/t/11.key", "basic Realm=/d/t/11.key", "Basic realm=\"/d/t/11.key\""};
	static const char *const bad[] = {"", "Basic", "Basic realm=", "Basic realm=\"", "Basic realm=\"\"",
		"Bearer realm=/d/t/11.key", "Basic realm=/d/t", "Basic realm=/d/t/", "Basic realm=/d/t/.key",
		"Basic realm=/d/t/..key", "Basic realm=/d/t/x/11.key", "Basic realm=/d/t/../11.key",
		"Basic realm=/d/tt/11.key", "Basic realm=/d/tx11.key", "Basic realm=/D/t/11.key",
		"Basic realm= /d/t/11.key", "Basic realm=/d/t/11.key ", "Basic realm=/d/t/11.key, x=y",
		"Basic realm=/d/t/1\"1.key", "Basic realm=/d/t/11.KEY", "Basic realm=/d/t/1\x01.key",
		"Basic realm=d/t/11.key"};
	char name[NAME_MAX + 1], text[600];

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(azid_arc_challenge(good[i], "/d/t", name));
		assert_string_equal(name, "11.key");
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (azid_arc_challenge(bad[i], "/d/t", name))
			fail_msg("%s was taken", bad[i]);
		assert_string_equal(name, "");
	}
	snprintf(text, sizeof(text), "Basic realm=/d/t/%0251d.key", 0);
	assert_true(azid_arc_challenge(text, "/d/t", name));
	assert_int_equal(strlen(name), 255);
	snprintf(text, sizeof(text), "Basic realm=/d/t/%0252d.key", 0);
	assert_false(azid_arc_challenge(text, "/d/t", name));
}

static void local_urls(void **state)
{
	static const char *const good[][2] = {
		{"http://127.0.0.1:41234/msi/token", "http://127.0.0.1:41234/msi/token"},
		{"http://localhost:42356/msi/token", "http://127.0.0.1:42356/msi/token"},
		{"http://localhost/x", "http://127.0.0.1/x"},
		{"http://169.254.131.2:8081/msi/token/", "http://169.254.131.2:8081/msi/token/"},
		{"http://[::1]:80/x", "http://[::1]:80/x"},
	};
	static const char *const bad[] = {"", "http://", "http:///x", "https://127.0.0.1/x", "ftp://127.0.0.1/x",
		"HTTP://127.0.0.1/x", "http://127.0.0.1", "http://127.0.0.1:/x", "http://127.0.0.1:123456/x",
		"http://127.0.0.1:80x/x", "http://10.0.0.1/x", "http://169.253.0.1/x", "http://127.0.0.1.x/x",
		"http://127.1/x", "http://127.0.0.1.1/x", "http://127.0.0.256/x", "http://0177.0.0.1/x",
		"http:// 127.0.0.1/x", "http://127.0.0.+1/x", "http://127.0.0.1@evil/x", "http://evil@127.0.0.1/x",
		"http://127.0.0.1/x?y", "http://127.0.0.1/x#y", "http://127.0.0.1/x y", "http://127.0.0.1/x\r\nA: b",
		"http://127.0.0.1\\.evil/x", "http://localhost.evil/x", "http://localhostx/x", "http://[::2]/x",
		"http://[::1]evil/x", "http://[::1/x", "http://[::ffff:127.0.0.1]/x", "http://%31/x"};
	char out[AZID_LOCAL_URL], text[400];

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(azid_local_url(good[i][0], out));
		assert_string_equal(out, good[i][1]);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (azid_local_url(bad[i], out))
			fail_msg("%s was taken", bad[i]);
		assert_string_equal(out, "");
	}
	snprintf(text, sizeof(text), "http://localhost/%0239d", 0);
	assert_true(azid_local_url(text, out));
	snprintf(text, sizeof(text), "http://localhost/%0240d", 0);
	assert_false(azid_local_url(text, out));
}

static void forms(void **state)
{
	char buf[64];
	struct azid_form f;

	(void)state;
	azid_form_init(&f, buf, sizeof(buf));
	azid_form_add(&f, "a", "x y&=%\xff~-._", 11);
	azid_form_add(&f, "b", "", 0);
	assert_string_equal(buf, "a=x%20y%26%3D%25%FF~-._&b=");
	assert_false(f.full);
	/* what does not fit whole is never sent */
	azid_form_init(&f, buf, 8);
	azid_form_add(&f, "a", "12345", 5);
	assert_false(f.full);
	assert_string_equal(buf, "a=12345");
	azid_form_text(&f, "x");
	assert_true(f.full);
	azid_form_init(&f, buf, 8);
	azid_form_add(&f, "a", "1234%", 5);
	assert_true(f.full);
	assert_int_equal(strlen(buf), f.len);
}

static void uuids(void **state)
{
	char a[AZURE_GUID], b[AZURE_GUID], copy[AZURE_GUID];

	(void)state;
	assert_ok(azid_uuid(fips, a));
	assert_ok(azid_uuid(fips, b));
	assert_string_not_equal(a, b);
	assert_true(azid_guid(a, copy));
	assert_string_equal(a, copy);
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs),
		cmocka_unit_test(specs_changed),
		cmocka_unit_test(specs_refused),
		cmocka_unit_test(objects_refused),
		cmocka_unit_test(environment),
		cmocka_unit_test(answers_refused),
		cmocka_unit_test(refusals),
		cmocka_unit_test(payloads),
		cmocka_unit_test(locations),
		cmocka_unit_test(challenges),
		cmocka_unit_test(local_urls),
		cmocka_unit_test(forms),
		cmocka_unit_test(uuids),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
