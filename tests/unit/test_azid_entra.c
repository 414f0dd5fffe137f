/* SPDX-License-Identifier: Apache-2.0 */
/* Workload identity, service principals and the Azure CLI: requests, refusals, and what stays secret. */
#include "tests/unit/azidtest.h"

#define SECRET	  "kX8Q~a+b/c=d&e%f.G-_\"'"
#define TOKEN_URL "/" TENANT "/oauth2/v2.0/token"

static int clean(void **state)
{
	(void)state;
	no_environment();
	return 0;
}

/* A specification with a file of the server's directory. */
static const char *spec(const char *kind, const char *file)
{
	static char text[512];

	snprintf(text, sizeof(text), "%s:" TENANT "/" CLIENT ":%s", kind, server_path(&server, file));
	return text;
}

static void check_request(const json_t *log)
{
	assert_int_equal(json_array_size(log), 1);
	assert_true(json_is_true(json_object_get(json_array_get(log, 0), "tls")));
	assert_string_equal(member(log, 0, NULL, "method"), "POST");
	assert_string_equal(member(log, 0, NULL, "path"), TOKEN_URL);
	assert_string_equal(member(log, 0, "headers", "content-type"), "application/x-www-form-urlencoded");
	assert_int_equal(strlen(member(log, 0, "headers", "client-request-id")), 36);
	assert_string_equal(member(log, 0, "form", "grant_type"), "client_credentials");
	assert_string_equal(member(log, 0, "form", "client_id"), CLIENT);
	assert_string_equal(member(log, 0, "form", "scope"), "https://vault.azure.net/.default");
}

/* ---- secret ---- */

static void secret(void **state)
{
	struct azid *a;
	json_t *log;

	(void)state;
	put_file("secret", SECRET "\n", 0600);
	a = identity(spec("secret", "secret"));
	play_token();
	expect_token(a, "one");
	log = requests();
	check_request(log);
	assert_string_equal(member(log, 0, "form", "client_secret"), SECRET);
	assert_int_equal(json_object_size(json_object_get(json_array_get(log, 0), "form")), 4);
	assert_null(member(log, 0, "headers", "authorization"));
	json_decref(log);

	/* the file is read each time: a new secret needs no restart */
	put_file("secret", "other", 0400);
	azid_forget(a);
	play_token();
	expect_token(a, "one");
	log = requests();
	assert_string_equal(member(log, 0, "form", "client_secret"), "other");
	json_decref(log);
	azid_close(a);
}

static void secret_credential(void **state)
{
	struct azid *a = identity("secret:" TENANT "/" CLIENT ":credential:secret");
	char dir[128];
	json_t *log;

	(void)state;
	play_token();
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_non_null(strstr(why.text, "LoadCredential=secret"));
	snprintf(dir, sizeof(dir), "%s", server.dir);
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	put_file("secret", SECRET, 0440); /* as systemd's ACL shows */
	play_token();
	expect_token(a, "one");
	log = requests();
	assert_string_equal(member(log, 0, "form", "client_secret"), SECRET);
	json_decref(log);
	azid_close(a);
}

static void files_refused(void **state)
{
	static const char *const kinds[] = {"secret", "certificate"};
	char big[70000];

	(void)state;
	play("[]");
	for (size_t i = 0; i < COUNT(kinds); i++) {
		struct azid *a = identity(spec(kinds[i], "bad"));

		(void)unlink(server_path(&server, "bad"));
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "is missing"));
		put_file("bad", "text", 0640);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "open to others"));
		put_file("bad", "", 0600);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "is empty"));
		put_file("bad", "two words", 0600);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_null(strstr(why.text, "two words"));
		memset(big, 'x', sizeof(big) - 1);
		big[sizeof(big) - 1] = '\0';
		put_file("bad", big, 0600);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "too long"));
		(void)unlink(server_path(&server, "bad"));
		assert_int_equal(symlink("sp.pem", server_path(&server, "bad")), 0);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "symbolic link"));
		azid_close(a);
	}
	assert_int_equal(requests_made(), 0);
}

#define REFUSED(status, error, code)                                                                                   \
	"[{\"status\":" #status ",\"body\":\"{\\\"error\\\":\\\"" error                                                \
	"\\\",\\\"error_description\\\":\\\"AADSTS" #code ": hidden words\\\",\\\"error_codes\\\":[" #code             \
	"],\\\"trace_id\\\":\\\"0f0f0f0f-aaaa-bbbb-cccc-000000000000\\\"}\"}]"

static void refused(void **state)
{
	static const struct {
		const char *answer;
		enum err e;
		const char *reason;
	} table[] = {
		{REFUSED(401, "invalid_client", 7000215), ERR_KEY_REVOKED, "identity: invalid_client"},
		{REFUSED(401, "invalid_client", 7000222), ERR_KEY_REVOKED, "identity: invalid_client"},
		{REFUSED(400, "unauthorized_client", 700016), ERR_KEY_REVOKED, "identity: unauthorized_client"},
		{REFUSED(400, "invalid_request", 90002), ERR_KEY_REVOKED, "identity: invalid_request"},
		{REFUSED(400, "invalid_grant", 70021), ERR_KEY_REVOKED, "identity: invalid_grant"},
		{REFUSED(400, "invalid_resource", 500011), ERR_KEY_REVOKED, "identity: invalid_resource"},
		{REFUSED(400, "interaction_required", 53003), ERR_KEY_REVOKED, "identity: interaction_required"},
		{REFUSED(400, "something_new", 1), ERR_KEY_REVOKED, "identity: something_new"},
		{REFUSED(503, "temporarily_unavailable", 90033), ERR_KEY_UNAVAILABLE,
			"identity: temporarily_unavailable"},
		{REFUSED(400, "temporarily_unavailable", 90033), ERR_KEY_UNAVAILABLE,
			"identity: temporarily_unavailable"},
		{REFUSED(429, "invalid_client", 1), ERR_KEY_UNAVAILABLE, "identity: invalid_client"},
		{REFUSED(500, "server_error", 1), ERR_KEY_UNAVAILABLE, "identity: server_error"},
		/* not the authority's words */
		{"[{\"status\":404,\"body\":\"<html>\"}]", ERR_KEY_UNAVAILABLE, "identity: http 404"},
		{"[{\"status\":403}]", ERR_KEY_UNAVAILABLE, "identity: http 403"},
		{"[{\"status\":302,\"headers\":{\"Location\":\"http://127.0.0.1/\"}}]", ERR_KEY_UNAVAILABLE,
			"identity: http 302"},
		{"[{\"fault\":\"reset\"}]", ERR_KEY_UNAVAILABLE, "identity: broken answer"},
		{"[{\"body\":\"{}\"}]", ERR_KEY_UNAVAILABLE, "identity: broken answer"},
	};
	struct azid *a;

	(void)state;
	put_file("secret", SECRET, 0600);
	a = identity(spec("secret", "secret"));
	azid_set_limits(a, 1, 0);
	for (size_t i = 0; i < COUNT(table); i++) {
		play(table[i].answer);
		if (ask(a) != table[i].e || strcmp(detail.reason, table[i].reason) != 0)
			fail_msg("%s: %s, %s", table[i].answer, detail.reason, why.text);
		assert_int_equal(requests_made(), 1);
		assert_null(strstr(why.text, "hidden"));
		assert_null(strstr(why.text, SECRET));
	}
	play(REFUSED(401, "invalid_client", 7000222));
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_non_null(strstr(why.text, "AADSTS7000222"));
	assert_string_equal(detail.request_id, "0f0f0f0f-aaaa-bbbb-cccc-000000000000");
	assert_int_equal(strlen(detail.client_request_id), 36);
	assert_int_equal(detail.http_status, 401);
	azid_close(a);
}

/* A server that is not the authority gets no secret. */
static void foreign_authority(void **state)
{
	struct azure_cloud was = cloud;
	struct azid *a;

	(void)state;
	put_file("secret", SECRET, 0600);
	cloud.ca_file[0] = '\0'; /* the system's authorities do not know ours */
	a = identity(spec("secret", "secret"));
	azid_set_limits(a, 1, 0);
	play_token();
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_string_equal(detail.reason, "identity: tls");
	azid_close(a);
	cloud = was;
	snprintf(cloud.authority, sizeof(cloud.authority), "http://127.0.0.1:%d", server_port(&server, "plain"));
	a = identity(spec("secret", "secret"));
	play_token();
	assert_int_not_equal(ask(a), ERR_OK);
	assert_int_equal(requests_made(), 0);
	azid_close(a);
	cloud = was;
}

/* ---- certificate ---- */

static void certificate(void **state)
{
	struct azid *a = identity(spec("certificate", "sp.pem"));
	char url[256], first[64];
	json_t *log, *claims, *header, *assertion;

	(void)state;
	snprintf(url, sizeof(url), "%s" TOKEN_URL, cloud.authority);
	play_token();
	expect_token(a, "one");
	log = requests();
	check_request(log);
	assert_string_equal(member(log, 0, "form", "client_assertion_type"),
		"urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
	assert_null(member(log, 0, "form", "client_secret"));
	assertion = json_object_get(json_array_get(log, 0), "assertion");
	/* signature, x5t#S256 and x5c, checked by another library */
	assert_true(json_is_array(json_object_get(assertion, "problems")));
	assert_int_equal(json_array_size(json_object_get(assertion, "problems")), 0);
	header = json_object_get(assertion, "header");
	assert_string_equal(json_string_value(json_object_get(header, "alg")), "PS256");
	assert_string_equal(json_string_value(json_object_get(header, "typ")), "JWT");
	claims = json_object_get(assertion, "claims");
	assert_string_equal(json_string_value(json_object_get(claims, "aud")), url);
	assert_string_equal(json_string_value(json_object_get(claims, "iss")), CLIENT);
	assert_string_equal(json_string_value(json_object_get(claims, "sub")), CLIENT);
	assert_int_equal(json_integer_value(json_object_get(claims, "nbf")), WALL);
	assert_int_equal(json_integer_value(json_object_get(claims, "exp")), WALL + 600);
	snprintf(first, sizeof(first), "%s", json_string_value(json_object_get(claims, "jti")));
	assert_int_equal(strlen(first), 36);
	assert_int_equal(first[14], '4');
	json_decref(log);

	/* none is used twice, not even for a second try */
	play("[{\"status\":500},{\"status\":401,\"body\":\"{\\\"error\\\":\\\"invalid_client\\\"}\"}]");
	azid_forget(a);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	log = requests();
	assert_int_equal(json_array_size(log), 2);
	assert_string_not_equal(member(log, 0, "form", "client_assertion"), member(log, 1, "form", "client_assertion"));
	json_decref(log);
	azid_close(a);
}

/* ---- workload identity ---- */

static void workload(void **state)
{
	struct azid *a = identity("workload");
	json_t *log;

	(void)state;
	/* Kubernetes: a link, readable by all in the pod */
	put_file("token.1", HEAD ".e30.c2ln", 0644);
	(void)unlink(server_path(&server, "token"));
	assert_int_equal(symlink("token.1", server_path(&server, "token")), 0);
	setenv("AZURE_FEDERATED_TOKEN_FILE", server_path(&server, "token"), 1);
	setenv("AZURE_CLIENT_ID", CLIENT, 1);
	setenv("AZURE_TENANT_ID", TENANT, 1);
	put_file("sp.token", "", 0600);
	play("[{\"status\":503},{\"status\":400,\"body\":\"{\\\"error\\\":\\\"invalid_grant\\\"}\"}]");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_non_null(strstr(why.text, "federated credential"));

	play_token();
	expect_token(a, "one");
	log = requests();
	check_request(log);
	assert_string_equal(member(log, 0, "form", "client_assertion"), HEAD ".e30.c2ln");
	assert_string_equal(member(log, 0, "form", "client_assertion_type"),
		"urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
	json_decref(log);

	put_file("token.1", HEAD ".e31.c2ln", 0644);
	azid_forget(a);
	play_token();
	expect_token(a, "one");
	log = requests();
	assert_string_equal(member(log, 0, "form", "client_assertion"), HEAD ".e31.c2ln");
	json_decref(log);
	azid_close(a);
}

static void workload_refused(void **state)
{
	static const char *const names[] = {"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"};
	static const char *const bad_files[] = {"relative", "/dev/null", "/nonexistent/token", "/"};
	struct azid *a = identity("workload");
	char file[128];

	(void)state;
	play("[]");
	put_file("token.1", HEAD ".e30.c2ln", 0644);
	snprintf(file, sizeof(file), "%s", server_path(&server, "token.1"));
	for (size_t i = 0; i < COUNT(names); i++) {
		setenv("AZURE_FEDERATED_TOKEN_FILE", file, 1);
		setenv("AZURE_CLIENT_ID", CLIENT, 1);
		setenv("AZURE_TENANT_ID", TENANT, 1);
		unsetenv(names[i]);
		assert_int_equal(ask(a), ERR_CONFIG);
		assert_non_null(strstr(why.text, "are not all set"));
	}
	setenv("AZURE_TENANT_ID", "../" TENANT, 1); /* it would go into a path */
	assert_int_equal(ask(a), ERR_CONFIG);
	setenv("AZURE_TENANT_ID", TENANT, 1);
	for (size_t i = 0; i < COUNT(bad_files); i++) {
		setenv("AZURE_FEDERATED_TOKEN_FILE", bad_files[i], 1);
		assert_int_equal(ask(a), ERR_CONFIG);
	}
	setenv("AZURE_FEDERATED_TOKEN_FILE", file, 1);
	put_file("token.1", "not a\ntoken", 0644);
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_int_equal(requests_made(), 0);
	azid_close(a);
}

/* ---- the Azure CLI ---- */

static void use_cli(struct azid *a, const char *text)
{
	static char path[128];

	put_file("az", text, 0700);
	snprintf(path, sizeof(path), "%s", server_path(&server, "az"));
	a->cli = path;
}

/* What it wrote into a file next to it. */
static void written(const char *name, char out[static 4096])
{
	FILE *f = fopen(server_path(&server, name), "re");
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, 4095, f);
	out[n] = '\0';
	fclose(f);
}

static void cli(void **state)
{
	struct azid *a = identity("cli");
	const struct secret *token = NULL;
	char script[2048], got[4096];

	(void)state;
	setenv("IDENTITY_HEADER", "s3cr3t", 1);
	setenv("AZURE_CLIENT_SECRET", "s3cr3t", 1);
	snprintf(script, sizeof(script),
		"#!/bin/sh\n{ echo \"$@\"; pwd; env; ls /proc/self/fd; cat; } >%s/seen 2>&1\n"
		"echo 'secret words' >&2\n"
		"echo '{\"accessToken\": \"a.b.c\", \"expires_on\": %lld, \"expiresOn\": \"x\","
		" \"tokenType\": \"Bearer\"}'\n",
		server.dir, WALL + 3000);
	use_cli(a, script);
	a->now = azid_boottime;
	assert_int_equal(dup2(STDERR_FILENO, 77), 77); /* would be inherited */
	assert_ok(azid_token(a, AUDIENCE, TENANT, NULL, &token, &detail, &why));
	assert_int_equal(secret_len(token), 12);
	assert_memory_equal(secret_view(token), "Bearer a.b.c", 12);
	written("seen", got);
	assert_non_null(
		strstr(got, "account get-access-token --output json --resource " AUDIENCE " --tenant " TENANT "\n/\n"));
	assert_null(strstr(got, "s3cr3t"));
	assert_non_null(strstr(got, "PATH="));
	assert_non_null(strstr(got, "\n1\n"));
	assert_null(strstr(got, "\n77\n"));
	close(77);
	/* another tenant's vault needs another token; what is no tenant is not passed on */
	assert_ok(azid_token(a, AUDIENCE, "--debug", NULL, &token, &detail, &why));
	written("seen", got);
	assert_non_null(strstr(got, "--resource " AUDIENCE "\n/\n"));
	unsetenv("AZURE_CLIENT_SECRET");
	azid_close(a);
}

/* Is the process gone, or a zombie that nobody has collected yet? */
static bool has_ended(const char *pid)
{
	char path[64], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", atoi(pid));
	f = fopen(path, "re");
	if (!f)
		return true;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	return line[0] == '\0' || strstr(line, ") Z ") != NULL;
}

static void cli_refused(void **state)
{
	char pid[4096];
	struct azid *a = NULL;
	json_t *conf = azid_conf("cli", &why);

	(void)state;
	/* never because a descriptor says so */
	assert_int_equal(azid_open(fips, &cloud, conf, false, &a, &why), ERR_CONFIG);
	assert_null(a);
	json_decref(conf);

	memset(&why, 0, sizeof(why));
	a = identity("cli");
	a->now = azid_boottime;
	a->cli = "/nonexistent/az";
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_non_null(strstr(why.text, "install it"));
	use_cli(a, "#!/bin/sh\necho 'token: s3cr3t' >&2; exit 3\n");
	assert_int_equal(ask(a), ERR_CONFIG);
	assert_non_null(strstr(why.text, "exit code 3"));
	assert_null(strstr(why.text, "s3cr3t"));
	use_cli(a, "#!/bin/sh\necho '{\"accessToken\": \"a.b.c\"}'\n");
	assert_int_equal(ask(a), ERR_CONFIG);
	use_cli(a, "#!/bin/sh\necho Please log in; kill -9 $$\n");
	assert_int_equal(ask(a), ERR_CONFIG);
	use_cli(a, "#!/bin/sh\nwhile echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done\n");
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	/* it and what it started are ended at the deadline */
	use_cli(a, "#!/bin/sh\nsleep 1000 & echo $! >\"${0%/*}/child\"; wait\n");
	azid_set_limits(a, 0, 1500);
	assert_int_equal(ask(a), ERR_KEY_UNAVAILABLE);
	assert_non_null(strstr(why.text, "in time"));
	written("child", pid);
	assert_true(atoi(pid) > 1);
	for (int i = 0; i < 1000 && !has_ended(pid); i++)
		usleep(10000);
	assert_true(has_ended(pid));
	azid_close(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(secret, clean),
		cmocka_unit_test_setup(secret_credential, clean),
		cmocka_unit_test_setup(files_refused, clean),
		cmocka_unit_test_setup(refused, clean),
		cmocka_unit_test_setup(foreign_authority, clean),
		cmocka_unit_test_setup(certificate, clean),
		cmocka_unit_test_setup(workload, clean),
		cmocka_unit_test_setup(workload_refused, clean),
		cmocka_unit_test_setup(cli, clean),
		cmocka_unit_test_setup(cli_refused, clean),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, azid_test_start, azid_test_end));
}
