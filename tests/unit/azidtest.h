/* SPDX-License-Identifier: Apache-2.0 */
/* azidtest - an identity whose services are played by tests/lib/fakeid.py, and whose clock stands still. */
#pragma once
#include "tests/unit/servertest.h"

#include "keyprov/azid_internal.h"
#include <errno.h>
#include <sys/stat.h>

#define AUDIENCE "https://vault.azure.net"
#define CLIENT	 "11111111-2222-3333-4444-555555555555"
#define TENANT	 "99999999-8888-7777-6666-555555555555"
#define OID	 "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
#define WALL	 1800000000LL
#define HEAD	 "eyJhbGciOiJSUzI1NiJ9"
#define IMDS_URL "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
#define ARC_URL	 "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fvault.azure.net"

static struct fips *fips;
static struct server server;
static struct azure_cloud cloud;
static int64_t clock_ms;   /* what identities take for the time since boot */
static int64_t paused[32]; /* what they waited */
static unsigned pauses;
static struct err_why why;
static struct keyprov_detail detail;

static inline int64_t test_now(void)
{
	return clock_ms;
}

static inline long long test_wall(void)
{
	return WALL;
}

static inline void test_pause(struct azid *a, int64_t ms)
{
	(void)a;
	assert_true(pauses < COUNT(paused));
	paused[pauses++] = ms;
	clock_ms += ms;
}

/* ---- the services ---- */

static inline json_t *command(json_t *j)
{
	char *text = json_dumps(j, JSON_COMPACT);
	json_t *answer;

	assert_non_null(text);
	fprintf(server.to, "%s\n", text);
	fflush(server.to);
	locked_free_any(text);
	json_decref(j);
	answer = server_line(&server);
	assert_non_null(answer);
	return answer;
}

/* answers: JSON text of a list */
static inline void play(const char *answers)
{
	json_t *list = json_loads(answers, 0, NULL);

	if (!json_is_array(list))
		fail_msg("not a list: %s", answers);
	json_decref(command(json_pack("{s:o}", "play", list)));
	pauses = 0;
	memset(&why, 0, sizeof(why));
	memset(&detail, 0, sizeof(detail));
}

/* The requests since; the caller's. */
static inline json_t *requests(void)
{
	return command(json_pack("{s:b}", "log", 1));
}

static inline size_t requests_made(void)
{
	json_t *log = requests();
	size_t n = json_array_size(log);

	json_decref(log);
	return n;
}

static inline const char *member(const json_t *log, size_t i, const char *group, const char *name)
{
	const json_t *entry = json_array_get(log, i);

	return json_string_value(json_object_get(group ? json_object_get(entry, group) : entry, name));
}

/* An access token with these claims, and no real signature. */
static inline void jwt(const char *claims, char out[static 1024])
{
	assert_true(strlen(claims) < 700);
	snprintf(out, 1024, "%s.", HEAD);
	b64_encode(claims, strlen(claims), out + strlen(out));
	snprintf(out + strlen(out), 1024 - strlen(out), ".c2lnbmF0dXJl");
}

#define CLAIMS                                                                                                         \
	"{\"aud\":\"" AUDIENCE "\",\"oid\":\"" OID "\",\"appid\":\"" CLIENT "\",\"tid\":\"" TENANT                     \
	"\",\"exp\":1800003600,\"xms_mirid\":\"/subscriptions/s/resourcegroups/g/x\"}"

/* One answer with a token that has mark in it, and these further members. */
static inline char *answer(const char *mark, const char *more)
{
	static char buf[4][4096];
	static unsigned i;
	char *p = buf[i++ % 4], claims[700], token[1024];

	snprintf(claims, sizeof(claims), "%.*s,\"uti\":\"%s\"}", (int)strlen(CLAIMS) - 1, CLAIMS, mark);
	jwt(claims, token);
	snprintf(p, sizeof(buf[0]), "{\"body\":\"{\\\"access_token\\\":\\\"%s\\\"%s}\"}", token, more);
	return p;
}

#define HOUR ",\\\"expires_in\\\":3599"

static inline void play_token(void)
{
	char text[5000];

	snprintf(text, sizeof(text), "[%s]", answer("one", HOUR));
	play(text);
}

/* ---- the environment ---- */

static inline void no_environment(void)
{
	static const char *const names[] = {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT",
		"IDENTITY_SERVER_THUMBPRINT", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE",
		"AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "MSI_ENDPOINT", "CREDENTIALS_DIRECTORY"};

	for (size_t i = 0; i < COUNT(names); i++)
		unsetenv(names[i]);
}

static inline void put_file(const char *name, const char *text, mode_t mode)
{
	const char *path = server_path(&server, name);
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* ---- the identity ---- */

static inline struct azid *identity(const char *spec)
{
	json_t *conf = azid_conf(spec, &why);
	struct azid *a = NULL;
	static char tokens[256], agent[256];

	if (!conf)
		fail_msg("%s: %s", spec, why.text);
	assert_ok(azid_open(fips, &cloud, conf, true, &a, &why));
	json_decref(conf);
	snprintf(tokens, sizeof(tokens), "%s", server_path(&server, "tokens"));
	snprintf(agent, sizeof(agent), "%s", server_path(&server, "himds"));
	a->now = test_now;
	a->wall = test_wall;
	a->pause = test_pause;
	a->arc_tokens = tokens;
	a->arc_agent = agent;
	return a;
}

static inline enum err ask(struct azid *a)
{
	const struct secret *token = NULL;
	enum err e = azid_token(a, AUDIENCE, NULL, NULL, &token, &detail, &why);

	assert_true((e == ERR_OK) == (token != NULL));
	assert_true((e == ERR_OK) == (why.text[0] == '\0'));
	return e;
}

/* Asks, and looks for mark in the token's payload. */
static inline void expect_token(struct azid *a, const char *mark)
{
	const struct secret *token = NULL;
	enum err e = azid_token(a, AUDIENCE, NULL, NULL, &token, &detail, &why);
	char want[1024], claims[700];

	if (e != ERR_OK)
		fail_msg("%d: %s", e, why.text);
	snprintf(claims, sizeof(claims), "%.*s,\"uti\":\"%s\"}", (int)strlen(CLAIMS) - 1, CLAIMS, mark);
	jwt(claims, want);
	assert_int_equal(secret_len(token), strlen(want) + 7);
	assert_memory_equal(secret_view(token), "Bearer ", 7);
	assert_memory_equal(secret_view(token) + 7, want, strlen(want));
}

static inline int azid_test_start(void **state)
{
	(void)state;
	no_environment();
	if (http_setup(&why) != ERR_OK || server_start(&server, "fakeid.py") != 0)
		return -1;
	clock_ms = 1000000;
	snprintf(cloud.name, sizeof(cloud.name), "test");
	snprintf(cloud.authority, sizeof(cloud.authority), "https://127.0.0.1:%d", server_port(&server, "tls"));
	snprintf(cloud.imds, sizeof(cloud.imds), "http://127.0.0.1:%d", server_port(&server, "plain"));
	snprintf(cloud.arc, sizeof(cloud.arc), "%s", cloud.imds);
	snprintf(cloud.ca_file, sizeof(cloud.ca_file), "%s", server_path(&server, "ca.pem"));
	return mkdir(server_path(&server, "tokens"), 0755);
}

static inline int azid_test_end(void **state)
{
	(void)state;
	return server_stop(&server);
}
