/* SPDX-License-Identifier: Apache-2.0 */
/* How long tokens are kept, when they are renewed, and that nothing is left of them. */
#include "tests/unit/azidtest.h"

#define SEC INT64_C(1000)

static int clean(void **state)
{
	(void)state;
	no_environment();
	return 0;
}

/* One answer, with these members, and a token that has mark in it. */
static void play_one(const char *mark, const char *more)
{
	char text[5000];

	snprintf(text, sizeof(text), "[%s]", answer(mark, more));
	play(text);
}

/* After the token "old" with these members was got: when is a new one asked for? */
static void expect_renewal(const char *more, int64_t seconds)
{
	struct azid *a = identity("vm");
	int64_t start = clock_ms;

	play_one("old", more);
	expect_token(a, "old");
	play_one("new", HOUR);
	clock_ms = start + seconds * SEC - 1;
	expect_token(a, "old");
	assert_int_equal(requests_made(), 0);
	clock_ms = start + seconds * SEC;
	expect_token(a, "new");
	assert_int_equal(requests_made(), 1);
	azid_close(a);
}

static void renewal(void **state)
{
	(void)state;
	/* five minutes ahead of expiry, as numbers and as text */
	expect_renewal(",\\\"expires_in\\\":3599", 3299);
	expect_renewal(",\\\"expires_in\\\":\\\"3599\\\"", 3299);
	expect_renewal(",\\\"expires_in\\\":3599.5", 3299);
	expect_renewal(",\\\"expires_on\\\":1800003000", 2700);
	expect_renewal(",\\\"expires_on\\\":\\\"1800003000\\\"", 2700);
	/* relative goes first: this machine's clock may be wrong */
	expect_renewal(",\\\"expires_in\\\":\\\"2000\\\",\\\"expires_on\\\":\\\"1\\\"", 1700);
	/* when the service wants it, if that is earlier */
	expect_renewal(",\\\"expires_in\\\":3000,\\\"refresh_in\\\":\\\"1000\\\"", 1000);
	expect_renewal(",\\\"expires_in\\\":3000,\\\"refresh_in\\\":2900", 2700);
	expect_renewal(",\\\"expires_in\\\":3000,\\\"refresh_in\\\":0", 2700);
	/* at the latest an hour after, however long it lives */
	expect_renewal(",\\\"expires_in\\\":\\\"86399\\\"", 3600);
	expect_renewal(",\\\"expires_in\\\":86399,\\\"refresh_in\\\":43200", 3600);
	expect_renewal(",\\\"expires_in\\\":99999999999", 3600);
	/* short lives */
	expect_renewal(",\\\"expires_in\\\":600", 300);
	expect_renewal(",\\\"expires_in\\\":100", 50);
}

/* While nobody can tell, the old token serves until it expires; and not every call waits for that. */
static void renewal_fails(void **state)
{
	struct azid *a = identity("vm");
	int64_t start = clock_ms;

	(void)state;
	play_one("old", ",\\\"expires_in\\\":3600");
	expect_token(a, "old");
	clock_ms = start + 3300 * SEC;
	play("[{\"status\":503},{\"status\":503}]");
	expect_token(a, "old");
	assert_int_equal(requests_made(), 1); /* once, and without a wait */
	assert_int_equal(pauses, 0);
	assert_string_equal(detail.reason, "");
	clock_ms += 29 * SEC;
	expect_token(a, "old");
	assert_int_equal(requests_made(), 1);
	clock_ms += 1 * SEC;
	expect_token(a, "old");
	assert_int_equal(requests_made(), 2);
	/* its last seconds are not used */
	clock_ms = start + 3570 * SEC - 1;
	play("[{\"status\":503}]");
	expect_token(a, "old");
	azid_set_limits(a, 1, 0);
	clock_ms = start + 3570 * SEC;
	play("[{\"status\":503}]");
	clock_ms += 60 * SEC;
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	/* then it is gone */
	clock_ms = start;
	play("[{\"status\":503}]");
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	play_one("new", HOUR);
	expect_token(a, "new");
	azid_close(a);
}

/* A renewal that nobody answers leaves time for the call that wanted the token. */
static void renewal_is_short(void **state)
{
	struct azid *a = identity("vm");

	(void)state;
	play_one("old", ",\\\"expires_in\\\":3600");
	expect_token(a, "old");
	assert_int_equal(a->deadline - clock_ms, 90000);
	clock_ms += 3300 * SEC;
	play("[{\"status\":503},{\"status\":503}]");
	expect_token(a, "old");
	assert_int_equal(a->deadline - clock_ms, 5000);
	clock_ms += 30 * SEC;
	play("[{\"fault\":\"silent\"}]");
	azid_set_limits(a, 1, 400);
	expect_token(a, "old");
	assert_int_equal(a->deadline - clock_ms, 200);
	azid_close(a);
}

/* A refusal for good drops the token at once, though it had not expired. */
static void renewal_refused(void **state)
{
	struct azid *a = identity("vm");
	int64_t start = clock_ms;
	const struct secret *token = NULL;

	(void)state;
	play_one("old", ",\\\"expires_in\\\":86400");
	expect_token(a, "old");
	clock_ms = start + 3600 * SEC;
	play("[{\"status\":400,\"body\":\"{\\\"error\\\":\\\"invalid_request\\\"}\"},{\"status\":503}]");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_string_equal(detail.reason, "identity: invalid_request");
	azid_set_limits(a, 1, 0);
	assert_int_equal(azid_token(a, AUDIENCE, NULL, NULL, &token, NULL, NULL), ERR_KEY_UNAVAILABLE);
	assert_null(token);
	azid_close(a);
}

static void file_gone(void **state)
{
	char spec[256];
	struct azid *a;

	(void)state;
	put_file("secret", "x", 0600);
	snprintf(spec, sizeof(spec), "secret:" TENANT "/" CLIENT ":%s", server_path(&server, "secret"));
	a = identity(spec);
	play_one("old", ",\\\"expires_in\\\":86400");
	expect_token(a, "old");
	assert_int_equal(unlink(server_path(&server, "secret")), 0);
	expect_token(a, "old");
	clock_ms += 3600 * SEC;
	assert_int_equal(ask(a), ERR_CONFIG);
	azid_close(a);
}

static void forgotten(void **state)
{
	struct azid *a = identity("vm");
	struct azid_info info;

	(void)state;
	play_one("one", HOUR);
	expect_token(a, "one");
	play_one("two", HOUR);
	expect_token(a, "one");
	azid_forget(a);
	assert_ok(azid_info_get(a, &info)); /* who we were is no secret */
	expect_token(a, "two");
	azid_close(a);
}

/* One for each audience. */
static void audiences(void **state)
{
	static const char *const audience[] = {AUDIENCE, "https://managedhsm.azure.net", "https://third.example"};
	struct azid *a = identity("vm");
	const struct secret *token = NULL;
	char text[10000], long_name[200];
	json_t *log;

	(void)state;
	snprintf(text, sizeof(text), "[%s,%s,%s,%s]", answer("one", HOUR), answer("two", ",\\\"expires_in\\\":900"),
		answer("three", HOUR), answer("four", HOUR));
	play(text);
	for (size_t i = 0; i < 6; i++)
		assert_ok(azid_token(a, audience[i % 2], NULL, NULL, &token, NULL, &why));
	log = requests();
	assert_int_equal(json_array_size(log), 2);
	assert_non_null(strstr(member(log, 1, NULL, "path"), "resource=https%3A%2F%2Fmanagedhsm.azure.net"));
	json_decref(log);
	/* a third one takes the place of the one that expires first */
	assert_ok(azid_token(a, audience[2], NULL, NULL, &token, NULL, &why));
	assert_ok(azid_token(a, audience[0], NULL, NULL, &token, NULL, &why));
	assert_int_equal(requests_made(), 3);
	assert_ok(azid_token(a, audience[1], NULL, NULL, &token, NULL, &why));
	assert_int_equal(requests_made(), 4);
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(azid_token(a, long_name, NULL, NULL, &token, NULL, &why), ERR_BUG);
	azid_close(a);
}

#define CLAIM "{\"access_token\":{\"nbf\":{\"essential\":true,\"value\":\"1502185177\"}}}"

static void claims(void **state)
{
	const struct secret *token = NULL;
	struct azid *a = identity("vm");
	char spec[256];
	json_t *log;

	(void)state;
	/* managed identities take none, but a new token is asked for */
	play_one("one", HOUR);
	expect_token(a, "one");
	play_one("two", HOUR);
	assert_ok(azid_token(a, AUDIENCE, NULL, CLAIM, &token, NULL, &why));
	assert_int_equal(requests_made(), 1);
	expect_token(a, "two");
	azid_close(a);

	put_file("secret", "x", 0600);
	snprintf(spec, sizeof(spec), "secret:" TENANT "/" CLIENT ":%s", server_path(&server, "secret"));
	a = identity(spec);
	play_one("one", HOUR);
	expect_token(a, "one");
	log = requests();
	assert_null(member(log, 0, "form", "claims"));
	json_decref(log);
	play_one("two", HOUR);
	assert_ok(azid_token(a, AUDIENCE, NULL, CLAIM, &token, NULL, &why));
	log = requests();
	assert_string_equal(member(log, 0, "form", "claims"), CLAIM);
	json_decref(log);
	expect_token(a, "two");
	/* the old one is no good any more, so it does not stand in */
	play("[{\"status\":503},{\"status\":503}]");
	azid_set_limits(a, 1, 0);
	assert_int_equal(azid_token(a, AUDIENCE, NULL, CLAIM, &token, NULL, &why), ERR_KEY_UNAVAILABLE);
	assert_int_equal(azid_token(a, AUDIENCE, NULL, NULL, &token, NULL, &why), ERR_KEY_UNAVAILABLE);
	azid_close(a);
}

/* ---- memory ---- */

/* Tokens of the length Entra's have, random, so that nothing else in memory looks like them. */
static void random_token(char *masked, size_t len)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint8_t *b = (uint8_t *)masked;

	assert_ok(fips_random(fips, b, len));
	for (size_t i = 0; i < len; i++)
		masked[i] = (char)(digits[b[i] & 31] ^ 0x55);
}

/* Plays an answer with the token; a copy of it stays in the stream's buffer for now. */
static void play_masked(const char *masked, size_t len)
{
	FILE *f = server.to;

	fputs("{\"play\":[{\"body\":\"{\\\"access_token\\\":\\\"", f);
	for (size_t i = 0; i < len; i++)
		fputc(masked[i] ^ 0x55, f);
	fputs("\\\",\\\"expires_in\\\":3599}\"}]}\n", f);
	fflush(f);
	json_decref(server_line(&server));
}

static void overwrite_stream(void)
{
	char filler[4200];

	memset(filler, ' ', sizeof(filler) - 2);
	filler[sizeof(filler) - 2] = '\0';
	for (int i = 0; i < 3; i++) {
		fprintf(server.to, "{%s}\n", filler);
		fflush(server.to);
		json_decref(server_line(&server));
	}
}

static size_t found(const char *masked, size_t at)
{
	return test_scan((const uint8_t *)masked + at, 0x55, 24);
}

/* A search through the address space takes seconds under AddressSanitizer. */
#ifdef __SANITIZE_ADDRESS__
#define FIRST_ROUND 1
#else
#define FIRST_ROUND 0
#endif

/* After azid_forget and after azid_close no part of the token is anywhere in the process, by TLS or without. */
static void nothing_left(void **state)
{
	char masked[1500], principal[256];
	struct azid *a;

	(void)state;
	put_file("secret", "x", 0600);
	snprintf(principal, sizeof(principal), "secret:" TENANT "/" CLIENT ":%s", server_path(&server, "secret"));
	for (unsigned round = FIRST_ROUND; round < 4 - FIRST_ROUND; round++) {
		a = identity(round & 1 ? principal : "vm");
		random_token(masked, sizeof(masked));
		play_masked(masked, sizeof(masked));
		overwrite_stream();
		assert_int_equal(found(masked, 700), 0);
		assert_ok(ask(a));
		assert_int_equal(found(masked, 700), 1); /* one copy, and this search finds it */
		if (round & 2)
			azid_close(a);
		else
			azid_forget(a);
		assert_int_equal(found(masked, 0), 0);
		assert_int_equal(found(masked, 700), 0);
		assert_int_equal(found(masked, sizeof(masked) - 24), 0);
		if (!(round & 2))
			azid_close(a);
	}
}

/* The same for what proves who we are: nothing of it outlives the request. */
static void no_secret_left(void **state)
{
	char masked[40], spec[256], text[41];
	struct azid *a;

	(void)state;
	random_token(masked, sizeof(masked));
	for (size_t i = 0; i < sizeof(masked); i++)
		text[i] = (char)(masked[i] ^ 0x55);
	text[40] = '\0';
	put_file("secret", text, 0600);
	secret_wipe(text, sizeof(text));
	snprintf(spec, sizeof(spec), "secret:" TENANT "/" CLIENT ":%s", server_path(&server, "secret"));
	a = identity(spec);
	play_one("one", HOUR);
	expect_token(a, "one");
	assert_int_equal(found(masked, 0), 0);
	assert_int_equal(found(masked, 16), 0);
	play("[{\"status\":401,\"body\":\"{\\\"error\\\":\\\"invalid_client\\\"}\"}]");
	azid_forget(a);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_int_equal(found(masked, 0), 0);
	azid_close(a);
}

/* Locked memory is short: what one request took is given back, whatever came of it. */
static void no_leak(void **state)
{
	static const char *const answers[] = {
		"[{\"body\":\"{\\\"access_token\\\":\\\"a.b.c\\\",\\\"expires_in\\\":600}\"}]", "[{\"status\":400}]",
		"[{\"body\":\"{}\"}]", "[{\"fault\":\"cut\"}]",
		"[{\"status\":401,\"body\":\"{\\\"error\\\":\\\"invalid_client\\\"}\"}]"};
	static const char *const kinds[] = {
		"vm", "secret:" TENANT "/" CLIENT ":%s", "certificate:" TENANT "/" CLIENT ":%s"};
	static const char *const files[] = {"", "secret", "sp.pem"};
	struct locked_stats before, after;
	char spec[256];

	(void)state;
	put_file("secret", "x", 0600);
	for (size_t k = 0; k < COUNT(kinds); k++) {
		for (size_t i = 0; i < COUNT(answers); i++) {
			for (int round = 0; round < 2; round++) {
				struct azid *a;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
				snprintf(spec, sizeof(spec), kinds[k], server_path(&server, files[k]));
#pragma GCC diagnostic pop
				locked_stats_get(round == 1 ? &before : &after);
				a = identity(spec);
				azid_set_limits(a, 1, 0);
				play(answers[i]);
				(void)ask(a);
				azid_close(a);
			}
			locked_stats_get(&after);
			assert_int_equal(after.in_use_bytes, before.in_use_bytes);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(renewal, clean),
		cmocka_unit_test_setup(renewal_fails, clean),
		cmocka_unit_test_setup(renewal_is_short, clean),
		cmocka_unit_test_setup(renewal_refused, clean),
		cmocka_unit_test_setup(file_gone, clean),
		cmocka_unit_test_setup(forgotten, clean),
		cmocka_unit_test_setup(audiences, clean),
		cmocka_unit_test_setup(claims, clean),
		cmocka_unit_test_setup(nothing_left, clean),
		cmocka_unit_test_setup(no_secret_left, clean),
		cmocka_unit_test_setup(no_leak, clean),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, azid_test_start, azid_test_end));
}
