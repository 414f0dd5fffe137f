/* SPDX-License-Identifier: Apache-2.0 */
/* answer_json: answers of the largest size, made to take as much locked memory as they can. */
#include "tests/unit/testlib.h"

#include "keyprov/akv_internal.h"
#include "keyprov/answer_json.h"
#include "keyprov/azid_internal.h"

static struct fips *fips;

static void kinds(void **state)
{
	static const char *const bad[] = {"", "x", "[]", "null", "\"x\"", "{", "{}{}", "{\"a\":1,\"a\":2}"};
	json_t *j;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(answer_json(bad[i], strlen(bad[i]), JSON_REJECT_DUPLICATES, &j), ERR_CORRUPT);
		assert_null(j);
	}
	assert_ok(answer_json("{\"a\":1} and more", 7, 0, &j)); /* no more than len is looked at */
	assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
	json_decref(j);
}

/* {"a":[UNIT,UNIT,...1]}, n of them */
static size_t fill(char *out, size_t cap, const char *unit, size_t n)
{
	size_t len = (size_t)snprintf(out, cap, "{\"a\":[");

	while (n-- > 0 && len + strlen(unit) + 4 < cap)
		len += (size_t)snprintf(out + len, cap - len, "%s", unit);
	return len + (size_t)snprintf(out + len, cap - len, "1]}");
}

static void bounded(void **state)
{
	static const char *const units[] = {"{},", "[],", "1,", "\"\",", "{\"a\":1},", "[{\"a\":{}}],"};
	const struct azure_cloud cloud = {.name = "x", .vault_suffix = ".vault.x", .hsm_suffix = ".hsm.x"};
	const struct azure_key_id id = {.host = "v.vault.x", .base = "https://v.vault.x", .name = "k"};
	char *body = malloc(HTTP_BODY_MAX);
	struct locked_stats before, after;

	(void)state;
	assert_non_null(body);
	for (size_t i = 0; i < COUNT(units); i++) {
		size_t len = fill(body, HTTP_BODY_MAX, units[i], HTTP_BODY_MAX);
		struct azid_refusal refusal;
		struct azid_answer answer;
		struct akv_answer classified = {0};
		struct akv_key key;
		json_t *j;

		assert_true(len > HTTP_BODY_MAX - 32);
		locked_stats_get(&before);
		assert_int_equal(answer_json(body, len, 0, &j), ERR_CORRUPT);
		assert_int_equal(azid_answer_parse(body, len, "access_token", 0, &answer, NULL), ERR_CORRUPT);
		azid_refusal_parse(body, len, &refusal);
		akv_answer_parse(body, len, &classified);
		assert_int_equal(akv_bundle_parse(&cloud, &id, body, len, &key), ERR_CORRUPT);
		locked_stats_get(&after);
		assert_int_equal(after.arena_bytes, before.arena_bytes);
		/* what is let through stays small */
		len = fill(body, HTTP_BODY_MAX, units[i], 1000);
		assert_ok(answer_json(body, len, 0, &j));
		locked_stats_get(&after);
		assert_true(after.in_use_bytes - before.in_use_bytes < 1024 * 1024);
		json_decref(j);
	}
	free(body);
}

static void limit(void **state)
{
	char *body = malloc(HTTP_BODY_MAX);
	size_t len;
	json_t *j;

	(void)state;
	assert_non_null(body);
	len = fill(body, HTTP_BODY_MAX, "1,", ANSWER_VALUES_MAX - 3);
	assert_ok(answer_json(body, len, 0, &j));
	json_decref(j);
	len = fill(body, HTTP_BODY_MAX, "1,", ANSWER_VALUES_MAX - 2);
	assert_int_equal(answer_json(body, len, 0, &j), ERR_CORRUPT);
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(bounded),
		cmocka_unit_test(limit),
	};

	fips = test_start();
	if (http_setup(NULL) != ERR_OK)
		return 1;
	return test_end(fips, cmocka_run_group_tests(tests, NULL, NULL));
}
