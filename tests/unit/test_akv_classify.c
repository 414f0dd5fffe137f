/* SPDX-License-Identifier: Apache-2.0 */
/* akv_classify: every row of the table in PROVIDERS.md section 9, from the body as the service sends it; and the
 * parsers of what comes from a vault. */
#include "keyprov/akv_internal.h"
#include "tests/unit/testlib.h"

#define V1  "0123456789abcdef0123456789abcdef"
#define V2  "00000000000000000000000000000002"
#define KID "https://v12.vault.azure.net/keys/k/" V1

static struct azure_cloud cloud;
static struct azure_key_id key;

struct row {
	const char *what;
	int status;
	const char *body;
	enum akv_class cls, again; /* again: in answer to a new token; AKV_OK: the same */
	const char *reason;
};

#define BODY(code, inner, message)                                                                                     \
	"{\"error\":{\"code\":\"" code "\",\"message\":\"" message "\",\"innererror\":{\"code\":\"" inner "\"}}}"
#define SHORT(code, message) "{\"error\":{\"code\":\"" code "\",\"message\":\"" message "\"}}"

static const struct row rows[] = {
	{"the key or its version is disabled", 403,
		BODY("Forbidden", "KeyDisabled", "Operation unwrapKey is not allowed on a disabled key."), AKV_DENIED,
		AKV_OK, "KeyDisabled"},
	{"outside of the validity, wrap", 403, SHORT("Forbidden", "Key is not yet valid or expired."), AKV_DENIED,
		AKV_OK, "Forbidden"},
	{"outside of the validity, unwrap", 200, "{}", AKV_OK, AKV_OK, "http 200"},
	{"operation not permitted on the key", 403,
		BODY("Forbidden", "KeyOperationForbidden", "Operation decrypt is not permitted on this key."),
		AKV_DENIED, AKV_OK, "KeyOperationForbidden"},
	{"the key is unknown, deleted or purged", 404, SHORT("KeyNotFound", "A key with (name/id) k was not found"),
		AKV_DENIED, AKV_OK, "KeyNotFound"},
	{"the name is held by a deleted key", 409,
		BODY("Conflict", "ObjectIsDeletedButRecoverable", "Key k is deleted"), AKV_MISTAKE, AKV_OK,
		"ObjectIsDeletedButRecoverable"},
	{"a key of the name is being deleted", 409, BODY("Conflict", "ObjectIsBeingDeleted", "Key k is being deleted"),
		AKV_MISTAKE, AKV_OK, "ObjectIsBeingDeleted"},
	{"the access policy lacks the permission", 403,
		BODY("Forbidden", "AccessDenied", "The user, group or application does not have keys get permission"),
		AKV_DENIED, AKV_OK, "AccessDenied"},
	{"the same, by its other name", 403,
		BODY("Forbidden", "ForbiddenByPolicy", "Operation is not allowed by policy"), AKV_DENIED, AKV_OK,
		"ForbiddenByPolicy"},
	{"no role", 403,
		BODY("Forbidden", "ForbiddenByRbac", "Caller is not authorized to perform action on resource."),
		AKV_DENIED, AKV_OK, "ForbiddenByRbac"},
	{"the firewall", 403,
		BODY("Forbidden", "ForbiddenByFirewall", "Client address is not authorized and caller is not trusted"),
		AKV_DENIED_NETWORK, AKV_OK, "ForbiddenByFirewall"},
	{"no public network", 403, BODY("Forbidden", "ForbiddenByConnection", "Public network access is disabled"),
		AKV_DENIED_NETWORK, AKV_OK, "ForbiddenByConnection"},
	{"trouble with trusted services", 403,
		BODY("Forbidden", "AccessDenied", "Access denied to first party service."), AKV_DENIED, AKV_OK,
		"AccessDenied"},
	{"no token", 401, SHORT("Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."), AKV_REAUTH,
		AKV_DENIED, "Unauthorized"},
	{"a token for another audience", 401,
		SHORT("Unauthorized", "AKV10022: Invalid audience. Expected https://vault.azure.net, found: x."),
		AKV_REAUTH, AKV_MISTAKE, "AKV10022"},
	{"a token of another tenant", 401,
		SHORT("Unauthorized", "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/t/, found x."),
		AKV_REAUTH, AKV_DENIED, "AKV10032"},
	{"the vault can't fetch the signing key", 401,
		SHORT("Unauthorized", "AKV10046: Unable to resolve the key used for signature validation."),
		AKV_TRANSIENT, AKV_TRANSIENT, "AKV10046"},
	{"an expired token", 401, SHORT("Unauthorized", "[TokenExpired] Error validating token: 'S2S12086'."),
		AKV_REAUTH, AKV_DENIED, "Unauthorized"},
	{"a Managed HSM's clock", 401, SHORT("Unauthorized", "Token not yet valid (Activity ID 1)"), AKV_TRANSIENT,
		AKV_TRANSIENT, "AKV10046"},
	{"a Managed HSM's 401", 401, "OK", AKV_REAUTH, AKV_DENIED, "http 401"},
	{"throttled", 429, SHORT("Throttled", "Request was not processed because too many requests were received."),
		AKV_TRANSIENT, AKV_OK, "Throttled"},
	{"a bad request", 400, SHORT("BadParameter", "The property k is invalid"), AKV_MISTAKE, AKV_OK, "BadParameter"},
	{"the vault is gone", 404, SHORT("VaultNotFound", "The vault was not found."), AKV_DENIED, AKV_OK,
		"VaultNotFound"},
	{"the subscription is disabled", 403, SHORT("Forbidden", "The subscription is disabled."), AKV_DENIED, AKV_OK,
		"Forbidden"},
	/* what nobody has documented */
	{"an unknown 403", 403, BODY("Forbidden", "SomethingNew", "?"), AKV_DENIED, AKV_OK, "SomethingNew"},
	{"an empty 403", 403, "", AKV_DENIED, AKV_OK, "http 403"},
	{"an unknown 4xx", 418, "<html>", AKV_DENIED, AKV_OK, "http 418"},
	{"payment", 402, "{}", AKV_DENIED, AKV_OK, "http 402"},
	{"gone", 410, "{}", AKV_DENIED, AKV_OK, "http 410"},
	{"a request timeout", 408, "", AKV_TRANSIENT, AKV_OK, "http 408"},
	{"an internal error", 500, SHORT("InternalServerError", "x"), AKV_TRANSIENT, AKV_OK, "InternalServerError"},
	{"a gateway", 502, "<html>bad gateway</html>", AKV_TRANSIENT, AKV_OK, "http 502"},
	{"unavailable", 503, SHORT("ServiceUnavailable", "x"), AKV_TRANSIENT, AKV_OK, "ServiceUnavailable"},
	{"unavailable, with a code that looks like no", 503, BODY("Forbidden", "KeyDisabled", "x"), AKV_TRANSIENT,
		AKV_OK, "KeyDisabled"},
	{"beyond HTTP", 999, "", AKV_TRANSIENT, AKV_OK, "http 999"},
	{"a redirect", 302, "", AKV_TRANSIENT, AKV_OK, "http 302"},
	{"nothing new", 304, "", AKV_TRANSIENT, AKV_OK, "http 304"},
	{"created", 201, "{}", AKV_OK, AKV_OK, "http 201"},
	{"an AKV number that is not at the start", 403, SHORT("Forbidden", "see AKV10022"), AKV_DENIED, AKV_OK,
		"Forbidden"},
};

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct row *r = &rows[i];
		struct akv_answer a = {.outcome = HTTP_ANSWERED, .status = r->status};
		enum akv_class again = r->again == AKV_OK ? r->cls : r->again;
		char reason[64];

		akv_answer_parse(r->body, strlen(r->body), &a);
		akv_reason(&a, reason);
		if (akv_classify(&a) != r->cls || strcmp(reason, r->reason) != 0)
			print_error("%s: %d, %s\n", r->what, (int)akv_classify(&a), reason);
		assert_int_equal(akv_classify(&a), r->cls);
		assert_string_equal(reason, r->reason);
		a.again = true;
		if (akv_classify(&a) != again)
			print_error("%s, again: %d\n", r->what, (int)akv_classify(&a));
		assert_int_equal(akv_classify(&a), again);
	}
}

/* Every status there can be: 401 apart, what isn't known is "no" if it is the client's fault and "not now" else. */
static void every_status(void **state)
{
	(void)state;
	for (int status = 100; status <= 999; status++) {
		struct akv_answer a = {.outcome = HTTP_ANSWERED, .status = status};
		enum akv_class cls = akv_classify(&a);

		if (status >= 200 && status < 300)
			assert_int_equal(cls, AKV_OK);
		else if (status == 401)
			assert_int_equal(cls, AKV_REAUTH);
		else if (status == 400 || status == 409)
			assert_int_equal(cls, AKV_MISTAKE);
		else if (status == 408 || status == 429 || status < 400 || status >= 500)
			assert_int_equal(cls, AKV_TRANSIENT);
		else
			assert_int_equal(cls, AKV_DENIED);
	}
}

/* No answer is no denial, whatever is left in the rest of the structure. */
static void outcomes(void **state)
{
	static const struct {
		enum http_outcome outcome;
		const char *reason;
	} all[] = {{HTTP_DNS, "dns"}, {HTTP_CONNECT, "connect"}, {HTTP_TLS, "tls"}, {HTTP_TIMEOUT, "timeout"},
		{HTTP_BROKEN, "broken answer"}, {HTTP_TOO_LARGE, "answer too large"}, {HTTP_ABORTED, "called off"}};

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++) {
		struct akv_answer a = {.outcome = all[i].outcome, .status = 403, .inner = "KeyDisabled", .again = true};
		char reason[64];

		assert_int_equal(akv_classify(&a), AKV_TRANSIENT);
		akv_reason(&a, reason);
		assert_string_equal(reason, all[i].reason);
	}
}

static void error_bodies(void **state)
{
	static const struct {
		const char *body, *code, *inner;
	} cases[] = {
		{"{\"error\":{\"code\":\"Forbidden\",\"innerError\":{\"code\":\"KeyDisabled\"}}}", "Forbidden",
			"KeyDisabled"},
		{"{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":\"A\",\"innererror\":{\"code\":\"B\"}}}}",
			"Forbidden", "B"},
		{"{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":\"A\",\"innererror\":null}}}",
			"Forbidden", "A"},
		{"{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"innererror\":{\"code\":\"B\"}}}}", "Forbidden",
			"B"},
		{"{\"error\":{\"code\":\"Forbidden\",\"innererror\":null}}", "Forbidden", ""},
		{"{\"error\":{\"code\":7,\"innererror\":[1]}}", "", ""},
		{"{\"error\":{\"code\":\"a b\",\"innererror\":{\"code\":\"<script>\"}}}", "", ""},
		{"{\"error\":{\"code\":"
		 "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}}",
			"", ""},
		{"{\"error\":null}", "", ""},
		{"{\"error\":\"x\"}", "", ""},
		{"null", "", ""},
		{"[]", "", ""},
		{"OK", "", ""},
		{"{\"error\":{\"code\":\"Forb", "", ""},
		{"", "", ""},
	};
	static char deep[20000];
	struct akv_answer a = {.code = "left", .inner = "over", .audience = true};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		akv_answer_parse(cases[i].body, strlen(cases[i].body), &a);
		assert_string_equal(a.code, cases[i].code);
		assert_string_equal(a.inner, cases[i].inner);
		assert_false(a.audience || a.issuer || a.signing_key);
	}
	memset(deep, '[', sizeof(deep));
	akv_answer_parse(deep, sizeof(deep), &a);
	assert_string_equal(a.code, "");
}

/* ---- what a vault says about keys ---- */

#define N2048                                                                                                          \
	"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu" \
	"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu" \
	"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu" \
	"uuuuuuuuuuuuuug"

static enum err bundle(const char *text, struct akv_key *k)
{
	return akv_bundle_parse(&cloud, &key, text, strlen(text), k);
}

static void bundles(void **state)
{
	struct akv_key k;

	(void)state;
	assert_int_equal(strlen(N2048), 342 - 3);
	assert_ok(bundle(
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\",\"key_ops\":[\"encrypt\",\"wrapKey\",\"unwrapKey\"],"
		"\"n\":\"" N2048 "uuw\",\"e\":\"AQAB\"},\"attributes\":{\"enabled\":true,\"nbf\":1,\"exp\":4000000000,"
		"\"created\":1625421134,\"updated\":1625421134,\"recoveryLevel\":\"Recoverable\",\"recoverableDays\":"
		"90},"
		"\"tags\":{}}",
		&k));
	assert_string_equal(k.kid, KID);
	assert_int_equal(k.kind, AKV_RSA);
	assert_int_equal(k.bits, 2048);
	assert_true(k.enabled && k.can_wrap && k.can_unwrap && k.has_ops && k.soft_delete && k.purge_protection);
	assert_int_equal(k.not_before, 1);
	assert_int_equal(k.expires, 4000000000);
	assert_int_equal(k.created, 1625421134);
	assert_string_equal(akv_algorithm(&k), "RSA-OAEP-256");

	assert_ok(bundle(
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"oct-HSM\",\"key_ops\":[\"wrapKey\"],\"key_size\":256}}", &k));
	assert_int_equal(k.kind, AKV_OCT_HSM);
	assert_int_equal(k.bits, 256);
	assert_true(k.can_wrap && !k.can_unwrap && k.enabled && !k.soft_delete);
	assert_string_equal(akv_algorithm(&k), "A256KW");
	assert_ok(bundle("{\"key\":{\"kid\":\"" KID "\",\"kty\":\"oct-HSM\"}}", &k));
	assert_true(k.can_wrap && k.can_unwrap && !k.has_ops);
	assert_string_equal(akv_algorithm(&k), "A256KW");
	assert_ok(bundle("{\"key\":{\"kid\":\"" KID "\",\"kty\":\"oct-HSM\",\"key_size\":128}}", &k));
	assert_null(akv_algorithm(&k));
	assert_ok(bundle("{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"enabled\":false}}", &k));
	assert_int_equal(k.kind, AKV_KIND_OTHER);
	assert_false(k.enabled);
	assert_null(akv_algorithm(&k));
	assert_ok(bundle("{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA-HSM\",\"n\":\"AAAB\"}}", &k));
	assert_int_equal(k.bits, 1);
	assert_ok(bundle("{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\",\"n\":\"AAAA\"}}", &k));
	assert_int_equal(k.bits, 0);
	assert_null(akv_algorithm(&k));
	/* names are not case sensitive */
	assert_ok(bundle("{\"key\":{\"kid\":\"https://V12.vault.azure.net:443/keys/K/" V1 "\",\"kty\":\"EC\"}}", &k));
}

static void recovery_levels(void **state)
{
	static const struct {
		const char *level;
		bool soft_delete, purge_protection;
	} all[] = {{"Purgeable", false, false}, {"Recoverable+Purgeable", true, false},
		{"CustomizedRecoverable+Purgeable", true, false}, {"Recoverable", true, true},
		{"CustomizedRecoverable", true, true}, {"Recoverable+ProtectedSubscription", true, true},
		{"CustomizedRecoverable+ProtectedSubscription", true, true}, {"", false, false},
		{"Unknown", false, false}};

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++) {
		char text[256];
		struct akv_key k;

		snprintf(text, sizeof(text),
			"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"recoveryLevel\":\"%s\"}}",
			all[i].level);
		assert_ok(bundle(text, &k));
		assert_int_equal(k.soft_delete, all[i].soft_delete);
		assert_int_equal(k.purge_protection, all[i].purge_protection);
	}
}

static void bundles_refused(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "{}", "null", "{\"key\":{}}",
		"{\"key\":{\"kid\":\"" KID "\"}}", "{\"key\":{\"kty\":\"RSA\",\"n\":\"AQAB\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\",\"n\":\"A\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"RSA\",\"n\":\"AQ==\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":7}}", "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"a b\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\",\"key_ops\":\"wrapKey\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\",\"key_ops\":[7]}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":[]}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"enabled\":\"true\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"exp\":-1}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"exp\":\"1\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"exp\":9223372036854775807}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"},\"attributes\":{\"recoveryLevel\":\"a b\"}}",
		/* another key, vault, cloud; no version */
		"{\"key\":{\"kid\":\"https://v12.vault.azure.net/keys/other/" V1 "\",\"kty\":\"EC\"}}",
		"{\"key\":{\"kid\":\"https://v13.vault.azure.net/keys/k/" V1 "\",\"kty\":\"EC\"}}",
		"{\"key\":{\"kid\":\"https://v12.evil.example/keys/k/" V1 "\",\"kty\":\"EC\"}}",
		"{\"key\":{\"kid\":\"https://v12.vault.azure.net/keys/k\",\"kty\":\"EC\"}}",
		"{\"key\":{\"kid\":\"" KID "\",\"kid\":\"" KID "\",\"kty\":\"EC\"}}"};
	struct azure_key_id with = key;
	struct akv_key k;
	static const char good[] = "{\"key\":{\"kid\":\"" KID "\",\"kty\":\"EC\"}}";

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (bundle(bad[i], &k) != ERR_CORRUPT)
			print_error("taken: %s\n", bad[i]);
		assert_int_equal(bundle(bad[i], &k), ERR_CORRUPT);
		assert_string_equal(k.kid, "");
	}
	strcpy(with.version, V1);
	assert_ok(akv_bundle_parse(&cloud, &with, good, strlen(good), &k));
	strcpy(with.version, V2);
	assert_int_equal(akv_bundle_parse(&cloud, &with, good, strlen(good), &k), ERR_CORRUPT);
}

static enum err value(const char *text, const char *version, size_t cap, uint8_t *out, size_t *len)
{
	struct azure_key_id with = key;
	char kid[AZURE_URI_MAX];

	strcpy(with.version, version);
	return akv_value_parse(&cloud, &with, text, strlen(text), kid, out, cap, len);
}

static void values(void **state)
{
	static const char good[] = "{\"kid\":\"" KID "\",\"value\":\"AQIDBAUGBwg\",\"alg\":\"A256KW\"}";
	static const char *const bad[] = {"", "{}", "{\"kid\":\"" KID "\"}", "{\"value\":\"AQID\"}",
		"{\"kid\":\"" KID "\",\"value\":\"\"}", "{\"kid\":\"" KID "\",\"value\":\"AQ=\"}",
		"{\"kid\":\"" KID "\",\"value\":\"AQ+/\"}", "{\"kid\":\"" KID "\",\"value\":7}",
		"{\"kid\":\"" KID "\",\"value\":\"AQIDBAUGBwgJ\"}", /* longer than there is room */
		"{\"kid\":\"" KID "\",\"value\":\"AQIDBAUGBwgAQIDBAUGBwgAQIDBAUGBwgAQIDBAUGBwg\"}",
		"{\"kid\":\"https://v12.vault.azure.net/keys/k\",\"value\":\"AQID\"}",
		"{\"kid\":\"https://v12.vault.azure.net/keys/x/" V1 "\",\"value\":\"AQID\"}",
		"{\"kid\":\"https://v13.vault.azure.net/keys/k/" V1 "\",\"value\":\"AQID\"}",
		"{\"kid\":\"https://v12.vault.azure.net/keys/k/" V2 "\",\"value\":\"AQID\"}"};
	uint8_t out[8];
	size_t len;

	(void)state;
	assert_ok(value(good, "", sizeof(out), out, &len));
	assert_int_equal(len, 8);
	assert_memory_equal(out, "\1\2\3\4\5\6\7\10", 8);
	assert_ok(value(good, V1, sizeof(out), out, &len));
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (value(bad[i], V1, sizeof(out), out, &len) != ERR_CORRUPT)
			print_error("taken: %s\n", bad[i]);
		assert_int_equal(value(bad[i], V1, sizeof(out), out, &len), ERR_CORRUPT);
		assert_int_equal(len, 0);
	}
}

static enum err list(const char *text, size_t max, size_t *n, char *next)
{
	struct akv_key k[4];

	return akv_list_parse(&cloud, &key, text, strlen(text), k, max, n, next);
}

static void lists(void **state)
{
	static const char two[] =
		"{\"value\":[{\"kid\":\"https://v12.vault.azure.net/keys/a\",\"attributes\":{\"enabled\":true}},"
		"{\"kid\":\"https://v12.vault.azure.net/keys/b\"}],\"nextLink\":%s}";
	static const struct {
		const char *next, *want; /* want NULL: refused */
	} links[] = {
		{"null", ""},
		{"\"\"", ""},
		{"\"https://v12.vault.azure.net:443/keys?api-version=7.4&$skiptoken=abc\"",
			"/keys?api-version=7.4&$skiptoken=abc"},
		{"\"https://v12.vault.azure.net/keys?x\"", "/keys?x"},
		{"\"https://v13.vault.azure.net/keys?x\"", NULL},
		{"\"https://evil.example/keys?x\"", NULL},
		{"\"http://v12.vault.azure.net/keys?x\"", NULL},
		{"\"https://v12.vault.azure.net/secrets?x\"", NULL},
		{"\"https://v12.vault.azure.net/keys/../secrets?x\"", NULL},
		{"\"https://v12.vault.azure.net/keys?x y\"", NULL},
		{"\"https://v12.vault.azure.net/keys?x\\r\\nHost: y\"", NULL},
		{"\"https://v12.vault.azure.net/keys?x#y\"", NULL},
		{"\"/keys?x\"", NULL},
		{"7", NULL},
	};
	char next[AKV_NEXT_MAX], text[1024];
	size_t n;

	(void)state;
	for (size_t i = 0; i < COUNT(links); i++) {
		enum err e;

		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
			snprintf(text, sizeof(text), two, links[i].next);
		_Pragma("GCC diagnostic pop") e = list(text, 4, &n, next);
		if ((e == ERR_OK) != (links[i].want != NULL))
			print_error("%s\n", links[i].next);
		assert_int_equal(e, links[i].want ? ERR_OK : ERR_CORRUPT);
		assert_string_equal(next, links[i].want ? links[i].want : "");
		assert_int_equal(n, 2);
	}
	assert_int_equal(list(text, 1, &n, next), ERR_RANGE);
	assert_int_equal(n, 1);
	assert_ok(list("{\"value\":[]}", 4, &n, next));
	assert_int_equal(n, 0);
	assert_ok(list("{\"value\":null}", 4, &n, next));
	assert_int_equal(list("{}", 4, &n, next), ERR_CORRUPT);
	assert_int_equal(list("{\"value\":[{}]}", 4, &n, next), ERR_CORRUPT);
	assert_int_equal(list("{\"value\":[7]}", 4, &n, next), ERR_CORRUPT);
	assert_int_equal(
		list("{\"value\":[{\"kid\":\"https://v13.vault.azure.net/keys/a\"}]}", 4, &n, next), ERR_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(every_status),
		cmocka_unit_test(outcomes),
		cmocka_unit_test(error_bodies),
		cmocka_unit_test(bundles),
		cmocka_unit_test(recovery_levels),
		cmocka_unit_test(bundles_refused),
		cmocka_unit_test(values),
		cmocka_unit_test(lists),
	};

	if (azure_cloud_find(NULL, &cloud, NULL) != ERR_OK ||
		azure_key_id_parse(&cloud, "https://v12.vault.azure.net/keys/k", &key, NULL) != ERR_OK)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
