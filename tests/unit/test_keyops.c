/* SPDX-License-Identifier: Apache-2.0 */
/* What "key set" is told, on its way through the control socket: nothing is lost, and nothing else gets in. */
#include "fs/keyops.h"
#include "tests/unit/testlib.h"
#include <limits.h>
#include <string.h>

#define URI "https://contoso-keys.vault.azure.net/keys/volume1"

static void test_everything_comes_back(void **state)
{
	json_t *identity = azid_conf("vm", NULL), *args;
	struct vault_want back;
	const struct vault_want want = {.uri = URI,
		.cloud = "public",
		.api_version = "7.5",
		.identity = identity,
		.region = "westeurope",
		.allow_other_region = true,
		.expired_allowed = true,
		.probe_seconds = 60,
		.lease_seconds = 0};

	(void)state;
	assert_non_null(identity);
	args = keyops_set_args(&want);
	assert_non_null(args);
	assert_int_equal(keyops_set_parse(args, &back, NULL), ERR_OK);
	assert_string_equal(back.uri, want.uri);
	assert_string_equal(back.cloud, want.cloud);
	assert_string_equal(back.api_version, want.api_version);
	assert_string_equal(back.region, want.region);
	assert_true(json_equal(back.identity, identity));
	assert_true(back.allow_other_region && back.expired_allowed);
	assert_false(back.allow_cli);
	assert_int_equal(back.probe_seconds, 60);
	assert_int_equal(back.lease_seconds, 0); /* strict, and not "the default" */
	assert_int_equal(keyops_set_check(&back, NULL), ERR_OK);
	json_decref(args);
	json_decref(identity);
}

static void test_defaults_stay_defaults(void **state)
{
	const struct vault_want want = {.uri = URI, .lease_seconds = UINT_MAX};
	struct vault_want back;
	json_t *args = keyops_set_args(&want);

	(void)state;
	assert_int_equal(keyops_set_parse(args, &back, NULL), ERR_OK);
	assert_null(back.cloud);
	assert_null(back.api_version);
	assert_null(back.identity);
	assert_null(back.region);
	assert_false(back.allow_other_region || back.expired_allowed);
	assert_int_equal(back.probe_seconds, 0);
	assert_int_equal(back.lease_seconds, UINT_MAX);
	json_decref(args);
}

static void test_strange_arguments_are_refused(void **state)
{
	static const char *const bad[] = {"[]", "\"x\"", "{}", "{\"uri\":1}", "{\"uri\":null}",
		"{\"uri\":\"" URI "\",\"allow_cli\":true}", "{\"uri\":\"" URI "\",\"cloud\":7}",
		"{\"uri\":\"" URI "\",\"identity\":\"cli\"}", "{\"uri\":\"" URI "\",\"allow_other_region\":1}",
		"{\"uri\":\"" URI "\",\"probe_seconds\":-1}", "{\"uri\":\"" URI "\",\"probe_seconds\":1.5}",
		"{\"uri\":\"" URI "\",\"lease_seconds\":4294967295}",
		"{\"uri\":\"" URI "\",\"lease_seconds\":99999999999999}", "{\"uri\":\"" URI "\",\"dry_run\":\"yes\"}"};
	struct vault_want back;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err_why why = {0};
		json_t *args = json_loads(bad[i], JSON_DECODE_ANY, NULL);

		assert_non_null(args);
		assert_int_equal(keyops_set_parse(args, &back, &why), ERR_CONFIG);
		assert_true(why.text[0] != '\0');
		json_decref(args);
	}
	assert_int_equal(keyops_set_parse(NULL, &back, NULL), ERR_CONFIG);
}

static void test_mistakes_are_found_without_asking(void **state)
{
	const struct vault_want bad[] = {
		{.uri = "http://contoso-keys.vault.azure.net/keys/volume1", .lease_seconds = UINT_MAX},
		{.uri = "https://contoso-keys.vault.azure.net.evil.example/keys/volume1", .lease_seconds = UINT_MAX},
		{.uri = "https://contoso-keys.vault.azure.cn/keys/volume1", .lease_seconds = UINT_MAX},
		{.uri = "https://contoso-keys.vault.azure.net", .lease_seconds = UINT_MAX},
		{.uri = URI, .region = "West Europe", .lease_seconds = UINT_MAX},
		{.uri = URI, .region = "", .lease_seconds = UINT_MAX},
		{.uri = URI, .api_version = "7.4&x=y", .lease_seconds = UINT_MAX},
		{.uri = URI, .probe_seconds = VAULT_PROBE_MAX + 1, .lease_seconds = UINT_MAX},
		{.uri = URI, .lease_seconds = VAULT_LEASE_MAX + 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err_why why = {0};

		assert_int_equal(keyops_set_check(&bad[i], &why), ERR_CONFIG);
		assert_true(why.text[0] != '\0');
	}
}

static void test_unknown_requests_have_no_answer(void **state)
{
	const struct keyops k = {0};
	json_t *o;

	(void)state;
	assert_null(keyops_run(&k, "key_give_away", NULL));
	o = keyops_run(&k, "key_set", NULL);
	assert_int_equal(json_integer_value(json_object_get(o, "code")), 2);
	assert_true(json_string_length(json_object_get(o, "error")) > 0);
	json_decref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_comes_back),
		cmocka_unit_test(test_defaults_stay_defaults),
		cmocka_unit_test(test_strange_arguments_are_refused),
		cmocka_unit_test(test_mistakes_are_found_without_asking),
		cmocka_unit_test(test_unknown_requests_have_no_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
