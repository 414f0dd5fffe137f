/* SPDX-License-Identifier: Apache-2.0 */
/* Managed identities: what is asked of whom, and what the answers mean. */
#include "tests/unit/azidtest.h"

static int clean(void **state)
{
	no_environment();
	*state = NULL;
	return 0;
}

static void vm(void **state)
{
	struct azid *a = identity("vm");
	struct azid_info info;
	json_t *log;

	(void)state;
	assert_int_equal(azid_info_get(a, &info), ERR_NOT_FOUND);
	play_token();
	expect_token(a, "one");
	log = requests();
	assert_int_equal(json_array_size(log), 1);
	assert_string_equal(member(log, 0, NULL, "method"), "GET");
	assert_string_equal(member(log, 0, NULL, "path"), IMDS_URL);
	assert_string_equal(member(log, 0, "headers", "metadata"), "true");
	assert_null(member(log, 0, "headers", "authorization"));
	json_decref(log);
	assert_ok(azid_info_get(a, &info));
	assert_string_equal(info.kind, "vm");
	assert_string_equal(info.oid, OID);
	assert_string_equal(info.appid, CLIENT);
	assert_string_equal(info.tenant, TENANT);
	assert_string_equal(info.resource, "/subscriptions/s/resourcegroups/g/x");
	assert_int_equal(info.expires, 1800003600);
	assert_string_equal(detail.oid, OID);
	assert_string_equal(detail.appid, CLIENT);
	assert_string_equal(detail.tenant, TENANT);
	assert_string_equal(detail.reason, "");
	azid_close(a);
}

static void vm_user_assigned(void **state)
{
	struct azid *a = identity("vm:" CLIENT);
	char text[5000];
	json_t *log;

	(void)state;
	play_token(); /* does not say whose it is, as old services do */
	expect_token(a, "one");
	log = requests();
	assert_string_equal(member(log, 0, NULL, "path"), IMDS_URL "&client_id=" CLIENT);
	json_decref(log);

	snprintf(text, sizeof(text), "[%s]", answer("two", HOUR ",\\\"client_id\\\":\\\"" CLIENT "\\\""));
	play(text);
	azid_forget(a);
	expect_token(a, "two");

	/* another identity's token is not taken */
	snprintf(text, sizeof(text), "[%s]", answer("three", HOUR ",\\\"client_id\\\":\\\"" TENANT "\\\""));
	play(text);
	azid_forget(a);
	azid_set_limits(a, 1, 0);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: another client_id");
	azid_close(a);
}

struct refusal {
	const char *answer; /* played for ever */
	enum err e;
	size_t tries;
	int status;
	const char *reason;
};

/* Asks a; each answer is played often enough. */
static void refusals(struct azid *a, const struct refusal *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char text[8192] = "[";
		enum err e;
		size_t made;

		for (unsigned k = 0; k < 12; k++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", k ? "," : "", r[i].answer);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "]");
		play(text);
		azid_forget(a);
		e = ask(a);
		made = requests_made();
		if (e != r[i].e || made != r[i].tries || detail.http_status != r[i].status ||
			strcmp(detail.reason, r[i].reason) != 0)
			fail_msg("%s: %s, %zu tries, status %d, reason %s, \"%s\"", r[i].answer, err_text(e), made,
				detail.http_status, detail.reason, why.text);
	}
}

#define ANSWER(status, body) "{\"status\":" #status ",\"body\":\"" body "\"}"
#define ERROR(status, error)                                                                                           \
	ANSWER(status, "{\\\"error\\\":\\\"" error "\\\",\\\"error_description\\\":\\\"hidden\\\"}")

static void vm_refused(void **state)
{
	static const struct refusal table[] = {
		{ERROR(400, "invalid_request"), ERR_KEY_REVOKED, 1, 400, "identity: invalid_request"},
		{ERROR(400, "invalid_resource"), ERR_KEY_REVOKED, 1, 400, "identity: invalid_resource"},
		{ERROR(400, "unauthorized_client"), ERR_KEY_REVOKED, 1, 400, "identity: unauthorized_client"},
		{ANSWER(400, ""), ERR_KEY_REVOKED, 1, 400, "identity: http 400"},
		{ANSWER(400, "not json"), ERR_KEY_REVOKED, 1, 400, "identity: http 400"},
		{ANSWER(401, "{}"), ERR_KEY_REVOKED, 1, 401, "identity: http 401"},
		{ANSWER(403, "{}"), ERR_KEY_REVOKED, 1, 403, "identity: http 403"},
		{ANSWER(405, "{}"), ERR_KEY_REVOKED, 1, 405, "identity: http 405"},
		{ERROR(404, "not_found"), ERR_KEY_UNAVAILABLE, 4, 404, "identity: not_found"},
		{ANSWER(408, ""), ERR_KEY_UNAVAILABLE, 4, 408, "identity: http 408"},
		{ERROR(429, "TooManyRequests"), ERR_KEY_UNAVAILABLE, 4, 429, "identity: TooManyRequests"},
		{ANSWER(500, ""), ERR_KEY_UNAVAILABLE, 4, 500, "identity: http 500"},
		{ERROR(503, "invalid_request"), ERR_KEY_UNAVAILABLE, 4, 503, "identity: invalid_request"},
		{ANSWER(410, ""), ERR_KEY_UNAVAILABLE, 8, 410, "identity: http 410"},
		{ANSWER(302, ""), ERR_KEY_UNAVAILABLE, 4, 302, "identity: http 302"},
		{ANSWER(204, ""), ERR_KEY_UNAVAILABLE, 4, 204, "identity: http 204"},
		/* nonsense with a 200 says nothing about the identity */
		{ANSWER(200, ""), ERR_KEY_UNAVAILABLE, 4, 200, "identity: broken answer"},
		{ANSWER(200, "[]"), ERR_KEY_UNAVAILABLE, 4, 200, "identity: broken answer"},
		{ANSWER(200, "{\\\"access_token\\\":\\\"a.b.c\\\"}"), ERR_KEY_UNAVAILABLE, 4, 200,
			"identity: broken answer"},
		{ANSWER(200, "{\\\"access_token\\\":\\\"a\\\\r\\\\nb\\\",\\\"expires_in\\\":60}"), ERR_KEY_UNAVAILABLE,
			4, 200, "identity: broken answer"},
		{ERROR(200, "invalid_request"), ERR_KEY_UNAVAILABLE, 4, 200, "identity: broken answer"},
		{"{\"fault\":\"reset\"}", ERR_KEY_UNAVAILABLE, 4, 0, "identity: broken answer"},
		{"{\"fault\":\"cut\",\"body\":\"{\"}", ERR_KEY_UNAVAILABLE, 4, 0, "identity: broken answer"},
		{"{\"fault\":\"garbage\"}", ERR_KEY_UNAVAILABLE, 4, 0, "identity: broken answer"},
		{"{\"fault\":\"big\"}", ERR_KEY_UNAVAILABLE, 4, 0, "identity: answer too large"},
	};
	struct azid *a = identity("vm");

	(void)state;
	refusals(a, table, COUNT(table));
	assert_null(strstr(why.text, "hidden"));
	azid_close(a);
}

/* How long is waited between the tries. */
static void retries(void **state)
{
	struct azid *a = identity("vm");
	char text[5000];

	(void)state;
	play("[" ANSWER(500, "") "," ANSWER(404, "") "," ANSWER(429, "") "," ANSWER(500, "") "]");
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(pauses, 3);
	assert_int_equal(paused[0], 1000);
	assert_int_equal(paused[1], 2000);
	assert_int_equal(paused[2], 4000);

	play("[" ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "]");
	azid_set_limits(a, 3, 0);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(requests_made(), 3);
	assert_int_equal(pauses, 2);
	assert_int_equal(paused[1], 10000);

	/* the total deadline ends it too */
	play("[" ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "," ANSWER(410, "") "]");
	azid_set_limits(a, 0, 25000);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(requests_made(), 3);

	/* Retry-After, unless it is shorter or nonsense */
	azid_set_limits(a, 0, 0);
	play("[{\"status\":429,\"headers\":{\"Retry-After\":\"17\"}},{\"status\":429,\"headers\":{\"Retry-After\":"
	     "\"1\"}},{\"status\":429,\"headers\":{\"Retry-After\":\"5x\"}},{\"status\":400}]");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_int_equal(pauses, 3);
	assert_int_equal(paused[0], 17000);
	assert_int_equal(paused[1], 2000);
	assert_int_equal(paused[2], 4000);
	play("[{\"status\":429,\"headers\":{\"Retry-After\":\"3000\"}}]"); /* beyond the deadline: at once */
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(pauses, 0);

	snprintf(text, sizeof(text), "[%s,%s]", ANSWER(503, ""), answer("late", HOUR));
	play(text);
	expect_token(a, "late");
	azid_close(a);
}

static void unreachable(void **state)
{
	struct azure_cloud was = cloud;
	struct azid *a;
	char region[64];

	(void)state;
	snprintf(cloud.imds, sizeof(cloud.imds), "http://127.0.0.1:%d", server_port(&server, "closed"));
	play("[]");
	a = identity("vm");
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: no connection");
	assert_int_equal(pauses, 1);
	assert_int_equal(azid_region(a, region, &why), ERR_KEY_UNAVAILABLE);
	azid_close(a);
	a = identity("workload");
	assert_int_equal(azid_region(a, region, &why), ERR_NOT_FOUND);
	azid_close(a);
	cloud = was;

	/* a service that says nothing at all */
	a = identity("vm");
	play("[{\"fault\":\"silent\"}]");
	azid_set_limits(a, 1, 200);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: timeout");
	azid_close(a);
}

static void aborted(void **state)
{
	struct azid *a = identity("vm");
	char region[64];

	(void)state;
	play_token();
	azid_abort(a);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(azid_region(a, region, &why), ERR_KEY_UNAVAILABLE);
	assert_int_equal(requests_made(), 0);
	azid_close(a);
}

/* ---- App Service ---- */

static void app_service(void **state)
{
	struct azid *a = identity("app-service:" CLIENT);
	char endpoint[128], region[64];
	json_t *log;

	(void)state;
	snprintf(endpoint, sizeof(endpoint), "http://localhost:%d/msi/token", server_port(&server, "plain"));
	setenv("IDENTITY_ENDPOINT", endpoint, 1);
	setenv("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a", 1);
	play_token();
	expect_token(a, "one");
	log = requests();
	assert_int_equal(json_array_size(log), 1);
	assert_string_equal(member(log, 0, NULL, "path"),
		"/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=" CLIENT);
	assert_string_equal(member(log, 0, "headers", "x-identity-header"), "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a");
	assert_null(member(log, 0, "headers", "metadata"));
	json_decref(log);
	assert_int_equal(azid_region(a, region, &why), ERR_NOT_FOUND);

	/* the times as they come there: a date in seconds, as text */
	play("[{\"body\":\"{\\\"access_token\\\":\\\"a.b.c\\\",\\\"expires_on\\\":\\\"1800003600\\\"}\"}]");
	memset(&why, 0, sizeof(why));
	azid_forget(a);
	assert_ok(ask(a));
	azid_close(a);
}

static void app_service_refused(void **state)
{
	static const struct refusal table[] = {
		{ANSWER(400, "{\\\"statusCode\\\":400,\\\"message\\\":\\\"No User Assigned or Delegated Managed"
			     " Identity found\\\"}"),
			ERR_KEY_REVOKED, 1, 400, "identity: http 400"},
		{ANSWER(401, ""), ERR_KEY_REVOKED, 1, 401, "identity: http 401"},
		{ANSWER(500, "{\\\"StatusCode\\\":500}"), ERR_KEY_UNAVAILABLE, 4, 500, "identity: http 500"},
	};
	static const char *const elsewhere[] = {"http://example.com/msi/token", "https://127.0.0.1/msi/token",
		"http://127.0.0.1@example.com/", "http://10.0.0.1/msi/token", "http://127.0.0.1.example.com/",
		"file:///etc/passwd", "http://localhost.example.com/msi", ""};
	struct azid *a = identity("app-service");
	char endpoint[128];

	(void)state;
	play("[]");
	assert_int_equal(ask(a), ERR_CONFIG);
	setenv("IDENTITY_HEADER", "s3cr3t", 1);
	assert_int_equal(ask(a), ERR_CONFIG);
	for (size_t i = 0; i < COUNT(elsewhere); i++) {
		setenv("IDENTITY_ENDPOINT", elsewhere[i], 1);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "IDENTITY_ENDPOINT"));
		assert_null(strstr(why.text, "s3cr3t"));
	}
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d/msi/token", server_port(&server, "plain"));
	setenv("IDENTITY_ENDPOINT", endpoint, 1);
	setenv("IDENTITY_HEADER", "two\r\nX-Lines: yes", 1);
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_int_equal(requests_made(), 0);
	setenv("IDENTITY_HEADER", "s3cr3t", 1);
	refusals(a, table, COUNT(table));
	azid_close(a);
}

/* ---- Azure Arc ---- */

static void challenge(char *out, size_t cap, const char *realm, const char *then)
{
	snprintf(out, cap, "[{\"status\":401,\"headers\":{\"WWW-Authenticate\":\"Basic realm=%s\"}}%s%s]", realm,
		then ? "," : "", then ? then : "");
}

static void arc(void **state)
{
	struct azid *a = identity("arc");
	char text[8192], realm[256];
	json_t *log;

	(void)state;
	put_file("tokens/11.key", "c2VjcmV0\n", 0640);
	snprintf(realm, sizeof(realm), "%s/11.key", a->arc_tokens);
	challenge(text, sizeof(text), realm, answer("arc", HOUR));
	play(text);
	expect_token(a, "arc");
	log = requests();
	assert_int_equal(json_array_size(log), 2);
	assert_string_equal(member(log, 0, NULL, "path"), ARC_URL);
	assert_string_equal(member(log, 0, "headers", "metadata"), "true");
	assert_null(member(log, 0, "headers", "authorization"));
	assert_string_equal(member(log, 1, NULL, "path"), ARC_URL);
	assert_string_equal(member(log, 1, "headers", "authorization"), "Basic c2VjcmV0");
	json_decref(log);

	/* A token without a challenge, or a challenge twice: that is not the agent. */
	azid_set_limits(a, 1, 0);
	play_token();
	azid_forget(a);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: no challenge");
	snprintf(text, sizeof(text), "[{\"headers\":{\"WWW-Authenticate\":\"Basic realm=%s\"}},%s]", realm,
		answer("no", HOUR));
	play(text);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_int_equal(requests_made(), 1);
	challenge(text, sizeof(text), realm, "{\"status\":401}");
	play(text);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: key not taken");
	play("[" ERROR(400, "invalid_request") "]");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	challenge(text, sizeof(text), realm, ERROR(403, "unauthorized"));
	play(text);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_string_equal(detail.reason, "identity: unauthorized");
	challenge(text, sizeof(text), realm, ERROR(404, "x"));
	play(text);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	azid_close(a);
}

/* User-assigned: only with the agent's word for it. */
static void arc_user_assigned(void **state)
{
	struct azid *a = identity("arc:" CLIENT);
	char text[8192], realm[256];
	json_t *log;

	(void)state;
	put_file("tokens/11.key", "c2VjcmV0", 0640);
	snprintf(realm, sizeof(realm), "%s/11.key", a->arc_tokens);
	challenge(text, sizeof(text), realm, answer("mine", HOUR ",\\\"client_id\\\":\\\"" CLIENT "\\\""));
	play(text);
	expect_token(a, "mine");
	log = requests();
	assert_string_equal(member(log, 1, NULL, "path"), ARC_URL "&client_id=" CLIENT);
	json_decref(log);
	azid_forget(a);
	challenge(text, sizeof(text), realm, answer("none", HOUR));
	play(text);
	assert_int_equal(ask(a), ERR_CONFIG);
	challenge(text, sizeof(text), realm, answer("other", HOUR ",\\\"client_id\\\":\\\"" TENANT "\\\""));
	play(text);
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_non_null(strstr(why.text, "did not confirm"));
	azid_close(a);
}

/* Each check of the key file: what is no key is not read, and nothing of it is sent. */
static void arc_files(void **state)
{
	static const char *const realms[] = {"/etc/shadow", "%s", "%s/", "%s/.key", "%s/../11.key", "%s/a/11.key",
		"%s/11.txt", "%s/11.key.bak", "%sx/11.key", "x%s/11.key", "%s//11.key", "11.key", ""};
	static const struct {
		const char *name;
		enum err e;
	} files[] = {{"link.key", ERR_CONFIG}, {"dir.key", ERR_CONFIG}, {"fifo.key", ERR_CONFIG},
		{"big.key", ERR_CONFIG}, {"empty.key", ERR_CONFIG}, {"lines.key", ERR_CONFIG},
		{"missing.key", ERR_KEY_UNAVAILABLE}};
	struct azid *a = identity("arc");
	char text[8192], realm[300], big[4200];

	(void)state;
	azid_set_limits(a, 1, 0);
	put_file("tokens/11.key", "c2VjcmV0", 0640);
	for (size_t i = 0; i < COUNT(realms); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(realm, sizeof(realm), realms[i], a->arc_tokens);
#pragma GCC diagnostic pop
		challenge(text, sizeof(text), realm, answer("stolen", HOUR));
		play(text);
		assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
		assert_string_equal(detail.reason, "identity: no challenge");
		assert_int_equal(requests_made(), 1);
	}
	memset(big, 'k', sizeof(big));
	big[4097] = '\0';
	put_file("tokens/big.key", big, 0640);
	put_file("tokens/empty.key", "", 0640);
	put_file("tokens/lines.key", "one\r\nX-Two: three", 0640);
	assert_int_equal(symlink("11.key", server_path(&server, "tokens/link.key")), 0);
	assert_int_equal(mkdir(server_path(&server, "tokens/dir.key"), 0700), 0);
	assert_int_equal(mkfifo(server_path(&server, "tokens/fifo.key"), 0600), 0);
	for (size_t i = 0; i < COUNT(files); i++) {
		snprintf(realm, sizeof(realm), "%s/%s", a->arc_tokens, files[i].name);
		challenge(text, sizeof(text), realm, answer("stolen", HOUR));
		play(text);
		if (ask(a) != files[i].e)
			fail_msg("%s: %s", files[i].name, why.text);
		assert_int_equal(requests_made(), 1);
		assert_string_equal(detail.reason, "identity: key file");
	}
	big[4096] = '\0'; /* the largest that is allowed */
	put_file("tokens/big.key", big, 0640);
	snprintf(realm, sizeof(realm), "%s/big.key", a->arc_tokens);
	challenge(text, sizeof(text), realm, answer("fits", HOUR));
	play(text);
	expect_token(a, "fits");
	azid_close(a);
}

static void arc_owner(void **state)
{
	struct azid *a = identity("arc");
	char text[8192], realm[300];

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: needs root to give files away\n");
		azid_close(a);
		skip();
	}
	put_file("tokens/owned.key", "c2VjcmV0", 0640);
	snprintf(realm, sizeof(realm), "%s/owned.key", a->arc_tokens);
	challenge(text, sizeof(text), realm, answer("owned", HOUR));
	azid_set_limits(a, 1, 0);
	a->arc_user = "daemon";
	assert_int_equal(chown(server_path(&server, "tokens/owned.key"), 2, 2), 0); /* bin's */
	play(text);
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_int_equal(requests_made(), 1);
	assert_int_equal(chown(server_path(&server, "tokens/owned.key"), 1, 1), 0); /* daemon's */
	play(text);
	expect_token(a, "owned");
	azid_close(a);
}

/* ---- auto ---- */

static void order(void **state)
{
	struct azid *a;
	enum azid_kind k = AZID_AUTO;

	(void)state;
	a = identity("auto");
	assert_ok(azid_detect(a, &k, &why));
	assert_int_equal(k, AZID_VM);
	setenv("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token", 1);
	assert_ok(azid_detect(a, &k, &why)); /* by itself it means nothing */
	assert_int_equal(k, AZID_VM);
	setenv("IMDS_ENDPOINT", "http://localhost:40342", 1);
	assert_ok(azid_detect(a, &k, &why));
	assert_int_equal(k, AZID_ARC);
	no_environment();
	put_file("himds", "", 0700);
	assert_ok(azid_detect(a, &k, &why));
	assert_int_equal(k, AZID_ARC);
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent", 1);
	assert_ok(azid_detect(a, &k, &why));
	assert_int_equal(k, AZID_WORKLOAD);
	setenv("IDENTITY_ENDPOINT", "http://127.0.0.1/", 1);
	setenv("IDENTITY_HEADER", "x", 1);
	assert_ok(azid_detect(a, &k, &why));
	assert_int_equal(k, AZID_APP_SERVICE);
	setenv("IDENTITY_SERVER_THUMBPRINT", "x", 1);
	assert_int_equal(azid_detect(a, &k, &why), ERR_CONFIG);
	no_environment();

	/* Half of an identity is not silently another one. */
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent", 1);
	play_token();
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_int_equal(requests_made(), 0);
	azid_close(a);
	no_environment();
	assert_int_equal(unlink(server_path(&server, "himds")), 0);

	a = identity("auto");
	play_token();
	expect_token(a, "one");
	assert_string_equal(a->info.kind, "vm");
	/* decided once */
	setenv("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent", 1);
	azid_forget(a);
	play_token();
	expect_token(a, "one");
	azid_close(a);
}

/* Variables that other programs take their services' addresses from have no say. */
static void overrides(void **state)
{
	struct azid *a = identity("vm");

	(void)state;
	setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1", 1);
	setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1", 1);
	setenv("IMDS_ENDPOINT", "http://127.0.0.1:1", 1);
	setenv("MSI_ENDPOINT", "http://127.0.0.1:1", 1);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	play_token();
	expect_token(a, "one");
	unsetenv("http_proxy");
	azid_close(a);
}

/* ---- region ---- */

static void region(void **state)
{
	struct azid *a = identity("vm");
	char out[64];
	json_t *log;

	(void)state;
	play("[" ANSWER(200, "{\\\"location\\\":\\\"WestEurope\\\",\\\"zone\\\":\\\"1\\\"}") "]");
	assert_ok(azid_region(a, out, &why));
	assert_string_equal(out, "westeurope");
	assert_ok(azid_region(a, out, &why)); /* from memory */
	assert_string_equal(out, "westeurope");
	log = requests();
	assert_int_equal(json_array_size(log), 1);
	assert_string_equal(member(log, 0, NULL, "path"), "/metadata/instance/compute?api-version=2021-02-01");
	assert_string_equal(member(log, 0, "headers", "metadata"), "true");
	json_decref(log);
	azid_close(a);

	a = identity("arc");
	play("[" ANSWER(200, "{\\\"compute\\\":{\\\"location\\\":\\\"uksouth\\\"}}") "]");
	assert_ok(azid_region(a, out, &why));
	assert_string_equal(out, "uksouth");
	log = requests();
	assert_string_equal(member(log, 0, NULL, "path"), "/metadata/instance?api-version=2020-06-01");
	json_decref(log);
	azid_close(a);

	/* A service principal may run on such a machine, or on one of another cloud's. */
	a = identity("workload");
	play("[" ANSWER(404, "") "," ANSWER(503, "") "," ANSWER(200, "{\\\"location\\\":7}") "," ANSWER(
		200, "{\\\"location\\\":\\\"north\\\"}") "]");
	assert_int_equal(azid_region(a, out, &why), ERR_NOT_FOUND);
	assert_string_equal(out, "");
	assert_int_equal(azid_region(a, out, &why), ERR_KEY_UNAVAILABLE);
	assert_int_equal(azid_region(a, out, &why), ERR_NOT_FOUND);
	assert_ok(azid_region(a, out, &why));
	assert_string_equal(out, "north");
	azid_close(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(vm, clean),
		cmocka_unit_test_setup(vm_user_assigned, clean),
		cmocka_unit_test_setup(vm_refused, clean),
		cmocka_unit_test_setup(retries, clean),
		cmocka_unit_test_setup(unreachable, clean),
		cmocka_unit_test_setup(aborted, clean),
		cmocka_unit_test_setup(app_service, clean),
		cmocka_unit_test_setup(app_service_refused, clean),
		cmocka_unit_test_setup(arc, clean),
		cmocka_unit_test_setup(arc_user_assigned, clean),
		cmocka_unit_test_setup(arc_files, clean),
		cmocka_unit_test_setup(arc_owner, clean),
		cmocka_unit_test_setup(order, clean),
		cmocka_unit_test_setup(overrides, clean),
		cmocka_unit_test_setup(region, clean),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, azid_test_start, azid_test_end));
}
