/* SPDX-License-Identifier: Apache-2.0 */
/* http: over real TLS on loopback, against a server with bad manners (tests/lib/badhttp.py). */
#include "keyprov/http.h"
#include "tests/unit/servertest.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

static struct fips *fips;
static struct server server;

static struct http *open_as(const char *ca, bool plain, unsigned total_ms)
{
	const struct http_config cfg = {.fips = fips, .ca_file = ca, .plain = plain, .total_ms = total_ms};
	struct err_why why = {0};
	struct http *h = NULL;
	enum err e = http_open(&cfg, &h, &why);

	if (e != ERR_OK)
		print_error("%s\n", why.text);
	assert_ok(e);
	return h;
}

static struct http *open_good(void)
{
	return open_as(server_path(&server, "ca.pem"), false, 60000);
}

static const char *url_of(const char *scheme, const char *host, const char *port, const char *path)
{
	static char url[256];

	snprintf(url, sizeof(url), "%s://%s:%d%s", scheme, host, server_port(&server, port), path);
	return url;
}

/* One GET; the outcome. */
static enum http_outcome get(struct http *h, const char *url, struct http_answer *a)
{
	const struct http_request r = {.method = "GET", .url = url};

	assert_ok(http_do(h, &r, a));
	if (a->outcome != HTTP_ANSWERED) {
		assert_null(a->body);
		assert_int_equal(a->status, 0);
		assert_true(a->text[0] != '\0');
	}
	return a->outcome;
}

static void expect(struct http *h, const char *port, const char *path, enum http_outcome want)
{
	struct http_answer a;

	assert_int_equal(get(h, url_of("https", "127.0.0.1", port, path), &a), want);
	http_answer_clear(&a);
}

static void answered(void **state)
{
	static const char *const headers[] = {"X-Ours: one", "Accept: application/json", NULL};
	struct secret *token = NULL;
	const struct http_request r = {.method = "POST",
		.url = url_of("https", "localhost", "good", "/echo?a=b"),
		.headers = headers,
		.content_type = "application/json",
		.body = "{\"x\":1}",
		.body_len = 7};
	struct http_request with = r;
	struct http *h = open_good();
	struct http_answer a;
	char bearer[] = "Bearer abc.def";

	(void)state;
	assert_ok(secret_take(bearer, strlen(bearer), &token));
	with.authorization = token;
	assert_ok(http_do(h, &with, &a));
	assert_int_equal(a.outcome, HTTP_ANSWERED);
	assert_int_equal(a.status, 200);
	assert_int_equal(strlen(a.body), a.body_len);
	assert_non_null(strstr(a.body, "POST /echo?a=b HTTP/1.1\r\n"));
	assert_non_null(strstr(a.body, "\r\nAuthorization: Bearer abc.def\r\n"));
	assert_non_null(strstr(a.body, "\r\nX-Ours: one\r\n"));
	assert_non_null(strstr(a.body, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(a.body, "\r\nUser-Agent: blobcryptfs/"));
	assert_non_null(strstr(a.body, "\r\n\r\n{\"x\":1}"));
	assert_null(strstr(a.body, "Accept-Encoding"));
	assert_null(strstr(a.body, "Expect"));
	assert_null(strstr(a.body, "Cookie"));
	assert_string_equal(http_header(&a, "x-kind", 0), "echo");
	assert_string_equal(http_header(&a, "X-KIND", 1), "second");
	assert_null(http_header(&a, "x-kind", 2));
	assert_null(http_header(&a, "x-kin", 0));
	http_answer_clear(&a);
	assert_null(a.body);
	/* and without it */
	assert_ok(http_do(h, &r, &a));
	assert_null(strstr(a.body, "Authorization"));
	http_answer_clear(&a);
	secret_free(token);
	http_close(h);
}

/* Every kind of server key and protocol that is approved, by name and by address. */
static void tls(void **state)
{
	struct http *h = open_good();
	struct http_answer a;

	(void)state;
	expect(h, "good", "/echo", HTTP_ANSWERED);
	expect(h, "rsa", "/echo", HTTP_ANSWERED);
	expect(h, "tls12", "/echo", HTTP_ANSWERED);
	assert_int_equal(get(h, url_of("https", "localhost", "rsa", "/echo"), &a), HTTP_ANSWERED);
	http_answer_clear(&a);
	/* the default context of the thread is as it was */
	assert_ptr_equal(OSSL_LIB_CTX_set0_default(NULL), OSSL_LIB_CTX_get0_global_default());
	assert_int_equal(EVP_default_properties_is_fips_enabled(NULL), 0);
	http_close(h);
}

static void tls_refused(void **state)
{
	struct http *h = open_good(), *system = open_as(NULL, false, 60000),
		    *other = open_as(server_path(&server, "other.pem"), false, 60000),
		    *none = open_as("/nonexistent", false, 60000);

	(void)state;
	expect(h, "stranger", "/echo", HTTP_TLS);
	expect(h, "expired", "/echo", HTTP_TLS);
	expect(h, "misnamed", "/echo", HTTP_TLS);
	expect(h, "plain", "/echo", HTTP_TLS);
	expect(system, "good", "/echo", HTTP_TLS);
	expect(other, "good", "/echo", HTTP_TLS);
	expect(other, "stranger", "/echo", HTTP_ANSWERED);
	expect(none, "good", "/echo", HTTP_TLS);
	http_close(h);
	http_close(system);
	http_close(other);
	http_close(none);
}

/* The context that TLS gets is looked at, not taken for granted. */
static void tls_fails_closed(void **state)
{
	struct fips odd = *fips;
	const struct http_config cfg = {.fips = &odd, .ca_file = server_path(&server, "ca.pem")};
	struct http *h = NULL;

	(void)state;
	odd.libctx = NULL; /* the process's default context: no FIPS provider in it */
	assert_ok(http_open(&cfg, &h, NULL));
	expect(h, "good", "/echo", HTTP_TLS);
	http_close(h);
}

static void redirect(void **state)
{
	struct http *h = open_good();
	struct http_answer a;

	(void)state;
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/redirect"), &a), HTTP_ANSWERED);
	assert_int_equal(a.status, 302);
	assert_string_equal(http_header(&a, "Location", 0), "/stolen");
	http_answer_clear(&a);
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/stolen"), &a), HTTP_ANSWERED);
	assert_string_equal(a.body, "1"); /* the first to come there */
	http_answer_clear(&a);
	http_close(h);
}

static void statuses(void **state)
{
	static const int codes[] = {200, 201, 204, 304, 400, 401, 403, 404, 407, 429, 500, 503, 599};
	struct http *h = open_good();

	(void)state;
	for (size_t i = 0; i < COUNT(codes); i++) {
		char text[8];
		const struct http_request r = {.method = "PUT",
			.url = url_of("https", "127.0.0.1", "good", "/status"),
			.body = text,
			.body_len = (size_t)snprintf(text, sizeof(text), "%d", codes[i])};
		struct http_answer a;

		assert_ok(http_do(h, &r, &a));
		assert_int_equal(a.outcome, HTTP_ANSWERED);
		assert_int_equal(a.status, codes[i]);
		assert_non_null(a.body);
		http_answer_clear(&a);
		if (codes[i] == 204 || codes[i] == 304) { /* have no body, but this server sends one */
			http_close(h);
			h = open_good();
		}
	}
	http_close(h);
}

static void bounded(void **state)
{
	struct http *h = open_good();
	struct http_answer a;

	(void)state;
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/fits"), &a), HTTP_ANSWERED);
	assert_int_equal(a.body_len, HTTP_BODY_MAX);
	http_answer_clear(&a);
	expect(h, "good", "/big", HTTP_TOO_LARGE);
	expect(h, "good", "/endless", HTTP_TOO_LARGE);
	expect(h, "good", "/headers", HTTP_TOO_LARGE);
	expect(h, "good", "/longline", HTTP_TOO_LARGE);
	expect(h, "good", "/interims", HTTP_TOO_LARGE);
	http_close(h);
}

static void odd_answers(void **state)
{
	struct http *h = open_good();
	struct http_answer a;

	(void)state;
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/interim"), &a), HTTP_ANSWERED);
	assert_int_equal(a.status, 200);
	assert_null(http_header(&a, "X-Kind", 0));
	assert_string_equal(a.body, "late");
	http_answer_clear(&a);
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/trailer"), &a), HTTP_ANSWERED);
	assert_null(http_header(&a, "X-Kind", 0));
	assert_string_equal(a.body, "ok");
	http_answer_clear(&a);
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/gzip"), &a), HTTP_ANSWERED);
	assert_string_equal(a.body, "not gzip");
	http_answer_clear(&a);
	assert_int_equal(get(h, url_of("https", "127.0.0.1", "good", "/control"), &a), HTTP_ANSWERED);
	assert_string_equal(http_header(&a, "X-Kind", 0), "a b ");
	assert_int_equal(a.body_len, 3);
	http_answer_clear(&a);
	http_close(h);
}

static void broken(void **state)
{
	static const char *const paths[] = {"/truncated", "/cutchunk", "/garbage", "/nothing", "/reset"};
	struct http *h = open_good();

	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++)
		expect(h, "good", paths[i], HTTP_BROKEN);
	expect(h, "good", "/echo", HTTP_ANSWERED); /* the pool is none the worse */
	http_close(h);
}

static void unreachable(void **state)
{
	struct http *h = open_good();
	struct http_answer a;
	char url[128] = "https://";

	(void)state;
	expect(h, "closed", "/echo", HTTP_CONNECT);
	/* no label is that long, so nobody has to be asked */
	memset(url + strlen(url), 'a', 64);
	strcat(url, ".invalid/");
	assert_int_equal(get(h, url, &a), HTTP_DNS);
	http_answer_clear(&a);
	http_close(h);
}

static void deadline(void **state)
{
	struct http *h = open_as(server_path(&server, "ca.pem"), false, 200);
	struct http_request r = {.method = "GET", .total_ms = 300};
	struct http_answer a;

	(void)state;
	expect(h, "good", "/slow", HTTP_TIMEOUT);
	expect(h, "good", "/drip", HTTP_TIMEOUT);
	expect(h, "silent", "/", HTTP_TIMEOUT);
	http_close(h);
	h = open_good();
	r.url = url_of("https", "127.0.0.1", "good", "/drip");
	assert_ok(http_do(h, &r, &a));
	assert_int_equal(a.outcome, HTTP_TIMEOUT);
	http_answer_clear(&a);
	http_close(h);
}

static int connection(struct http *h, bool fresh)
{
	const struct http_request r = {
		.method = "GET", .url = url_of("https", "127.0.0.1", "good", "/connection"), .fresh = fresh};
	struct http_answer a;
	int n;

	assert_ok(http_do(h, &r, &a));
	assert_int_equal(a.outcome, HTTP_ANSWERED);
	n = atoi(a.body);
	assert_true(n > 0);
	http_answer_clear(&a);
	return n;
}

static void reuse(void **state)
{
	struct http *h = open_good();
	int first = connection(h, false), third;

	(void)state;
	assert_int_equal(connection(h, false), first);
	third = connection(h, true);
	assert_int_not_equal(third, first);
	assert_int_not_equal(connection(h, true), third);
	http_close(h);
}

static void plain_http(void **state)
{
	static const char *const refused[] = {"http://localhost:%d/echo", "http://192.0.2.1:%d/echo",
		"http://127.0.0.1.example:%d/echo", "ftp://127.0.0.1:%d/echo", "file:///etc/passwd?%d",
		"https://user@127.0.0.1:%d/echo", "https://user:pass@127.0.0.1:%d/echo", "127.0.0.1:%d/echo",
		"http://[2001:db8::1]:%d/echo", "http://[::ffff:192.0.2.1]:%d/echo", "http://169.255.1.1:%d/echo",
		"http://126.0.0.1:%d/echo", ""};
	struct http *h = open_as(NULL, true, 60000), *strict = open_good();
	struct locked_stats before, after;
	struct http_answer a;

	(void)state;
	locked_stats_get(&before);
	assert_int_equal(get(h, url_of("http", "127.0.0.1", "plain", "/echo"), &a), HTTP_ANSWERED);
	locked_stats_get(&after);
	assert_true(after.allocations > before.allocations + 40); /* libcurl's own: there was no TLS */
	http_answer_clear(&a);
	for (size_t i = 0; i < COUNT(refused); i++) {
		char url[128];
		const struct http_request r = {.method = "GET", .url = url};

		/* the formats are the ones above */
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
			snprintf(url, sizeof(url), refused[i], server_port(&server, "plain"));
		_Pragma("GCC diagnostic pop") assert_int_equal(http_do(h, &r, &a), ERR_BUG);
		http_answer_clear(&a);
	}
	{
		const struct http_request r = {.method = "GET", .url = url_of("http", "127.0.0.1", "plain", "/echo")};

		assert_int_equal(http_do(strict, &r, &a), ERR_BUG);
		http_answer_clear(&a);
	}
	http_close(h);
	http_close(strict);
}

/* Nobody's text makes a second header or request line. */
static void injection(void **state)
{
	static const char *const bad[] = {"X-Ours: one\r\nX-Theirs: two", NULL};
	char text[] = "Bearer a\r\nX-Theirs: two", nul[] = "Bearer a\0b";
	const struct http_request r = {.method = "GET", .url = url_of("https", "127.0.0.1", "good", "/echo")};
	struct http_request with = r;
	struct http *h = open_good();
	struct secret *s = NULL;
	struct http_answer a;

	(void)state;
	with.headers = bad;
	assert_int_equal(http_do(h, &with, &a), ERR_BUG);
	with = r;
	with.content_type = "text/plain\nX: y";
	assert_int_equal(http_do(h, &with, &a), ERR_BUG);
	with = r;
	with.method = "GET / HTTP/1.1\r\nX: y";
	assert_int_equal(http_do(h, &with, &a), ERR_BUG);
	with = r;
	assert_ok(secret_take(text, strlen(text), &s));
	with.authorization = s;
	assert_int_equal(http_do(h, &with, &a), ERR_BUG);
	secret_free(s);
	assert_ok(secret_take(nul, sizeof(nul) - 1, &s));
	with.authorization = s;
	assert_int_equal(http_do(h, &with, &a), ERR_BUG);
	secret_free(s);
	http_close(h);
}

struct abort_job {
	struct http *h;
	_Atomic bool done;
	enum http_outcome outcome;
};

static void *wait_forever(void *arg)
{
	struct abort_job *j = arg;
	const struct http_request r = {.method = "GET", .url = url_of("https", "127.0.0.1", "good", "/slow")};
	struct http_answer a;

	if (http_do(j->h, &r, &a) == ERR_OK)
		j->outcome = a.outcome;
	http_answer_clear(&a);
	atomic_store(&j->done, true);
	return NULL;
}

static void aborted(void **state)
{
	struct abort_job j = {.h = open_as(server_path(&server, "ca.pem"), false, 600000)};
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, wait_forever, &j), 0);
	http_abort(j.h); /* before or within the transfer: both have to do */
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(j.outcome, HTTP_ABORTED);
	expect(j.h, "good", "/echo", HTTP_ABORTED);
	http_close(j.h);
}

#ifndef __SANITIZE_THREAD__
/* What went through is gone when the answer is cleared, though the connection stays open. */
static void leaves_nothing(void **state)
{
	static const char needle[] = "t0ken-in-the-header-0123456789"; /* kept masked below */
	uint8_t masked[sizeof(needle) - 1];
	char text[64];
	struct http_request r = {.method = "POST", .url = url_of("https", "127.0.0.1", "good", "/echo")};
	struct http *h = open_good();
	struct secret *s = NULL, *body = NULL;
	struct http_answer a;
	size_t before;

	(void)state;
	for (size_t i = 0; i < sizeof(masked); i++)
		masked[i] = (uint8_t)needle[i] ^ 0x5a;
	before = test_scan(masked, 0x5a, sizeof(masked)); /* the constant itself, if it is in writable memory */
	memcpy(text, "Bearer ", 7);
	memcpy(text + 7, needle, sizeof(needle));
	assert_ok(secret_take(text, 7 + sizeof(needle) - 1, &s));
	assert_ok(secret_new(sizeof(needle) - 1, &body));
	memcpy(secret_bytes(body), needle, sizeof(needle) - 1);
	r.authorization = s;
	r.body = secret_view(body);
	r.body_len = secret_len(body);
	assert_ok(http_do(h, &r, &a));
	assert_int_equal(a.outcome, HTTP_ANSWERED);
	assert_true(test_scan(masked, 0x5a, sizeof(masked)) >= before + 4);
	http_answer_clear(&a);
	secret_free(s);
	secret_free(body);
	assert_int_equal(test_scan(masked, 0x5a, sizeof(masked)), before);
	http_close(h);
}

#endif

/* All of libcurl's memory is locked memory, and all of it comes back. */
static void no_leaks(void **state)
{
	struct locked_stats before, between, after;
	struct http *h = open_good();

	(void)state;
	expect(h, "good", "/echo", HTTP_ANSWERED);
	http_close(h);
	locked_stats_get(&before);
	h = open_good();
	for (int i = 0; i < 20; i++) {
		expect(h, "good", "/echo", HTTP_ANSWERED);
		expect(h, "good", "/truncated", HTTP_BROKEN);
		expect(h, "good", "/big", HTTP_TOO_LARGE);
		if (i == 10)
			locked_stats_get(&between);
	}
	locked_stats_get(&after);
	assert_int_equal(between.in_use_bytes, after.in_use_bytes);
	assert_true(after.allocations > before.allocations + 100);
	http_close(h);
	locked_stats_get(&after);
	assert_int_equal(before.in_use_bytes, after.in_use_bytes);
	h = open_as(NULL, false, 60000);
	locked_stats_get(&before);
	expect(h, "good", "/echo", HTTP_TLS);
	locked_stats_get(&after);
	print_message("# the system's authorities cost %zu bytes\n", after.in_use_bytes - before.in_use_bytes);
	http_close(h);
}

/* The environment and what lies about have no say. */
static void environment(void **state)
{
	struct http *h = open_good();
	struct stat st;

	(void)state;
	expect(h, "good", "/echo", HTTP_ANSWERED);
	http_close(h);
	assert_int_equal(stat(server_path(&server, "keylog"), &st), -1);
}

static int start(void **state)
{
	(void)state;
	if (server_start(&server, "badhttp.py") != 0)
		return -1;
	setenv("https_proxy", "http://127.0.0.1:1", 1);
	setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("SSL_CERT_FILE", server_path(&server, "ca.pem"), 1);
	setenv("CURL_CA_BUNDLE", server_path(&server, "ca.pem"), 1);
	setenv("SSLKEYLOGFILE", server_path(&server, "keylog"), 1);
	setenv("HOME", server.dir, 1);
	return http_setup(NULL) == ERR_OK && http_setup(NULL) == ERR_OK ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	return server_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answered),
		cmocka_unit_test(tls),
		cmocka_unit_test(tls_refused),
		cmocka_unit_test(tls_fails_closed),
		cmocka_unit_test(redirect),
		cmocka_unit_test(statuses),
		cmocka_unit_test(bounded),
		cmocka_unit_test(odd_answers),
		cmocka_unit_test(broken),
		cmocka_unit_test(unreachable),
		cmocka_unit_test(deadline),
		cmocka_unit_test(reuse),
		cmocka_unit_test(plain_http),
		cmocka_unit_test(injection),
		cmocka_unit_test(aborted),
#ifndef __SANITIZE_THREAD__ /* the scan takes a minute there */
		cmocka_unit_test(leaves_nothing),
#endif
		cmocka_unit_test(no_leaks),
		cmocka_unit_test(environment),
	};

	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, start, stop));
}
