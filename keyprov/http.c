/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http - see http.h.
 *
 * Connections live in a multi handle; every exchange has an easy handle of its own, because that one keeps copies of
 * what went through it until it is freed (and thereby wiped).
 *
 * OpenSSL resolves a library context of NULL, which is what libcurl passes, at each use: so everything that may touch a
 * connection, closing included, runs between enter() and leave().
 */
#include "keyprov/http_internal.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CONNECT_MS  5000u
#define TOTAL_MS    10000u
#define CONNECTIONS 4L
#define WAKE_MS	    1000 /* http_abort wakes at once; this is for what it can't */
#define USER_AGENT  "blobcryptfs/" BLOBCRYPTFS_VERSION

struct http {
	const struct fips *fips;
	CURLM *multi;
	char *ca_file;	    /* owned; NULL: the system's */
	const char *ca_dir; /* libcurl's own; NULL unless the system has one with a file per certificate */
	bool plain;
	unsigned connect_ms, total_ms;
	_Atomic bool aborted;
};

struct buf { /* locked memory */
	char *p;
	size_t len, cap;
};

struct transfer {
	struct http *h;
	const struct http_request *r;
	CURL *easy;
	CURLU *url;
	struct curl_slist *lines;
	struct buf body, headers; /* headers: NUL-terminated lines */
	size_t header_bytes;	  /* of all answers, interim ones and trailers too */
	bool in_body, too_large, no_memory;
	char text[CURL_ERROR_SIZE];
};

/* ---- the thread's state during a call ---- */

struct guard {
	OSSL_LIB_CTX *ctx;
	sigset_t mask;
	bool had_pipe;
};

/* A connection that the peer has closed raises SIGPIPE when written to. */
static void enter(const struct http *h, struct guard *g)
{
	sigset_t pipe, pending;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigemptyset(&pending);
	(void)sigpending(&pending);
	g->had_pipe = sigismember(&pending, SIGPIPE) == 1;
	(void)pthread_sigmask(SIG_BLOCK, &pipe, &g->mask);
	g->ctx = OSSL_LIB_CTX_set0_default(h->fips->libctx);
}

static void leave(const struct guard *g)
{
	const struct timespec now = {0, 0};
	sigset_t pipe;

	ERR_clear_error();
	(void)OSSL_LIB_CTX_set0_default(g->ctx);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	while (!g->had_pipe && sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
		;
	(void)pthread_sigmask(SIG_SETMASK, &g->mask, NULL);
}

/* ---- the pool ---- */

/* A directory with one file per certificate ("3513523f.0") costs the memory of those that are looked up; the bundle, a
 * megabyte and more of locked memory. */
static bool is_hashed(const char *dir)
{
	DIR *d = dir ? opendir(dir) : NULL;
	const struct dirent *entry;
	bool found = false;

	while (d && !found && (entry = readdir(d)))
		found = strspn(entry->d_name, "0123456789abcdef") == 8 && strcmp(entry->d_name + 8, ".0") == 0;
	if (d)
		closedir(d);
	return found;
}

enum err http_open(const struct http_config *cfg, struct http **out, struct err_why *why)
{
	const curl_version_info_data *info;
	struct http *h;
	enum err e = http_setup(why);

	if (e != ERR_OK)
		return e;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	h->fips = cfg->fips;
	h->plain = cfg->plain;
	h->connect_ms = cfg->connect_ms ? cfg->connect_ms : CONNECT_MS;
	h->total_ms = cfg->total_ms ? cfg->total_ms : TOTAL_MS;
	h->multi = curl_multi_init();
	h->ca_file = cfg->ca_file ? strdup(cfg->ca_file) : NULL;
	info = curl_version_info(CURLVERSION_NOW);
	if (info->age >= CURLVERSION_SEVENTH && is_hashed(info->capath))
		h->ca_dir = info->capath;
	if (!h->multi || (cfg->ca_file && !h->ca_file) ||
		curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS) != CURLM_OK) {
		http_close(h);
		return err_set(why, ERR_NOMEM, 0, "out of (locked) memory");
	}
	*out = h;
	return ERR_OK;
}

void http_close(struct http *h)
{
	struct guard g;

	if (!h)
		return;
	enter(h, &g);
	curl_multi_cleanup(h->multi);
	leave(&g);
	free(h->ca_file);
	free(h);
}

void http_abort(struct http *h)
{
	atomic_store(&h->aborted, true);
	(void)curl_multi_wakeup(h->multi);
}

/* ---- what comes in ---- */

/* One byte more than len is always there, and zero. */
static bool buf_add(struct buf *b, const void *data, size_t len)
{
	size_t cap = b->cap ? b->cap : 2048;
	char *p;

	while (cap <= b->len + len)
		cap *= 2;
	if (cap != b->cap) {
		p = locked_realloc(b->p, cap);
		if (!p)
			return false;
		b->p = p;
		b->cap = cap;
	}
	if (len > 0)
		memcpy(b->p + b->len, data, len);
	b->len += len;
	b->p[b->len] = '\0';
	return true;
}

static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
	struct transfer *t = arg;

	(void)one;
	t->in_body = true;
	if (len > HTTP_BODY_MAX - t->body.len) {
		t->too_large = true;
		return 0;
	}
	if (!buf_add(&t->body, data, len)) {
		t->no_memory = true;
		return 0;
	}
	return len;
}

/* Control characters in a line are made harmless; its end becomes a NUL. */
static bool keep_line(struct buf *b, const char *data, size_t len)
{
	size_t start = b->len;

	while (len > 0 && strchr("\r\n \t", data[len - 1]))
		len--;
	if (!buf_add(b, data, len) || !buf_add(b, "", 1))
		return false;
	for (size_t i = start; i + 1 < b->len; i++)
		if ((unsigned char)b->p[i] < 0x20 || b->p[i] == 0x7f)
			b->p[i] = ' ';
	return true;
}

static size_t on_header(char *data, size_t one, size_t len, void *arg)
{
	struct transfer *t = arg;

	(void)one;
	if (len > HTTP_HEADERS_MAX - t->header_bytes) {
		t->too_large = true;
		return 0;
	}
	t->header_bytes += len;
	if (t->in_body)
		return len; /* trailers say nothing we want to hear */
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
		t->headers.len = 0; /* an interim answer came before */
	if (!keep_line(&t->headers, data, len)) {
		t->no_memory = true;
		return 0;
	}
	return len;
}

const char *http_header(const struct http_answer *a, const char *name, unsigned n)
{
	size_t len = strlen(name);

	for (const char *line = a->headers; line && *line; line += strlen(line) + 1)
		if (strncasecmp(line, name, len) == 0 && line[len] == ':' && n-- == 0)
			return line + len + 1 + strspn(line + len + 1, " \t");
	return NULL;
}

void http_answer_clear(struct http_answer *a)
{
	locked_free(a->body);
	locked_free(a->headers);
	memset(a, 0, sizeof(*a));
}

/* ---- what goes out ---- */

/* Loopback and link-local, as numbers: nobody's name server or router decides where it goes. */
static bool is_local_address(const char *host)
{
	char bare[INET6_ADDRSTRLEN + 2];
	struct in6_addr six;
	struct in_addr four;
	size_t len = strlen(host);

	if (inet_pton(AF_INET, host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127 || ntohl(four.s_addr) >> 16 == ((169u << 8) | 254u);
	if (len < 3 || len >= sizeof(bare) || host[0] != '[' || host[len - 1] != ']')
		return false;
	memcpy(bare, host + 1, len - 2);
	bare[len - 2] = '\0';
	return inet_pton(AF_INET6, bare, &six) == 1 && (IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_LINKLOCAL(&six));
}

static bool has_scheme(CURLU *url, const char *scheme)
{
	char *text = NULL;
	bool ok = curl_url_get(url, CURLUPART_SCHEME, &text, 0) == CURLUE_OK && text && strcmp(text, scheme) == 0;

	curl_free(text);
	return ok;
}

static bool is_local(CURLU *url)
{
	char *text = NULL;
	bool ok = curl_url_get(url, CURLUPART_HOST, &text, 0) == CURLUE_OK && text && is_local_address(text);

	curl_free(text);
	return ok;
}

/* libcurl gets the very URL that was checked here. */
static enum err set_url(struct transfer *t)
{
	t->url = curl_url();
	if (!t->url)
		return ERR_NOMEM;
	if (curl_url_set(t->url, CURLUPART_URL, t->r->url, CURLU_DISALLOW_USER | CURLU_PATH_AS_IS) != CURLUE_OK)
		return ERR_BUG;
	if (!has_scheme(t->url, "https") && !(t->h->plain && has_scheme(t->url, "http") && is_local(t->url)))
		return ERR_BUG;
	return curl_easy_setopt(t->easy, CURLOPT_CURLU, t->url) == CURLE_OK ? ERR_OK : ERR_NOMEM;
}

static bool is_one_line(const char *s)
{
	return s[strcspn(s, "\r\n")] == '\0';
}

static enum err add_line(struct transfer *t, const char *line)
{
	struct curl_slist *more;

	if (!is_one_line(line))
		return ERR_BUG;
	more = curl_slist_append(t->lines, line);
	if (!more)
		return ERR_NOMEM;
	t->lines = more;
	return ERR_OK;
}

/* Name and value in locked memory of our own, for value may be a secret without a NUL. */
static enum err add_header(struct transfer *t, const char *name, const void *value, size_t len)
{
	size_t at = strlen(name);
	char *line = locked_alloc_packed(at + len + 1);
	enum err e;

	if (!line)
		return ERR_NOMEM;
	memcpy(line, name, at);
	memcpy(line + at, value, len);
	line[at + len] = '\0';
	e = strlen(line) == at + len ? add_line(t, line) : ERR_BUG;
	locked_free(line);
	return e;
}

static enum err set_headers(struct transfer *t)
{
	const struct http_request *r = t->r;
	enum err e = ERR_OK;

	for (size_t i = 0; r->headers && r->headers[i] && e == ERR_OK; i++)
		e = add_line(t, r->headers[i]);
	if (e == ERR_OK && r->authorization)
		e = add_header(t, "Authorization: ", secret_view(r->authorization), secret_len(r->authorization));
	if (e == ERR_OK)
		e = r->content_type ? add_header(t, "Content-Type: ", r->content_type, strlen(r->content_type))
				    : add_line(t, "Content-Type:");
	if (e == ERR_OK)
		e = add_line(t, "Expect:"); /* no "100-continue" */
	if (e == ERR_OK && curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->lines) != CURLE_OK)
		e = ERR_NOMEM;
	return e;
}

static enum err set_method(struct transfer *t)
{
	const struct http_request *r = t->r;
	bool ok;

	if (strcmp(r->method, "GET") == 0 && !r->body)
		ok = curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;
	else if (r->method[strspn(r->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] != '\0' || strcmp(r->method, "HEAD") == 0)
		return ERR_BUG;
	else
		ok = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long)r->body_len) == CURLE_OK &&
		     curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, r->body ? r->body : "") == CURLE_OK &&
		     curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, r->method) == CURLE_OK;
	return ok ? ERR_OK : ERR_NOMEM;
}

/* Fails closed if the context of this thread is not the one it has to be. */
static CURLcode on_ssl_ctx(CURL *easy, void *ssl_ctx, void *arg)
{
	const struct http *h = arg;

	(void)easy;
	if ((EVP_default_properties_is_fips_enabled(NULL) == 1) != h->fips->is_fips)
		return CURLE_SSL_CONNECT_ERROR;
	/* No keys of past connections are kept. */
	SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ssl_ctx, SSL_MODE_RELEASE_BUFFERS);
	return CURLE_OK;
}

/* NIST SP 800-52 rev. 2: TLS 1.2 with forward secrecy and AEAD, TLS 1.3; NIST curves. */
static bool set_tls(struct transfer *t)
{
	CURL *c = t->easy;
	struct http *h = t->h;
	bool ok = curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_CIPHER_LIST, "ECDHE+AESGCM:@SECLEVEL=2") == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_TLS13_CIPHERS, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256") ==
			  CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_EC_CURVES, "P-256:P-384:P-521") == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L) == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx) == CURLE_OK &&
		  curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, h) == CURLE_OK;

	if (!h->ca_file && !h->ca_dir)
		return ok;
	/* A changed file counts from the next connection on. */
	return ok && curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_CAPATH, h->ca_file ? NULL : h->ca_dir) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_CA_CACHE_TIMEOUT, 0L) == CURLE_OK;
}

static bool set_limits(struct transfer *t)
{
	CURL *c = t->easy;
	const struct http *h = t->h;
	unsigned total = t->r->total_ms ? t->r->total_ms : h->total_ms;

	return curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, h->plain ? "https,http" : "https") == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_NOPROXY, "*") == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
	       /* an answer about the name that never comes must not hold us up */
	       curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_HTTP_CONTENT_DECODING, 0L) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_USERAGENT, USER_AGENT) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, t->r->fresh ? 1L : 0L) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(h->connect_ms < total ? h->connect_ms : total)) ==
		       CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)total) == CURLE_OK;
}

static bool set_callbacks(struct transfer *t)
{
	CURL *c = t->easy;

	return curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_WRITEDATA, t) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_HEADERDATA, t) == CURLE_OK &&
	       curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->text) == CURLE_OK;
}

static enum err prepare(struct transfer *t)
{
	enum err e;

	t->easy = curl_easy_init();
	if (!t->easy || !buf_add(&t->body, NULL, 0) || !buf_add(&t->headers, NULL, 0))
		return ERR_NOMEM;
	if (!set_limits(t) || !set_tls(t) || !set_callbacks(t))
		return ERR_BUG; /* a libcurl without something of this is not one we know */
	e = set_url(t);
	if (e == ERR_OK)
		e = set_method(t);
	if (e == ERR_OK)
		e = set_headers(t);
	return e;
}

/* ---- the exchange ---- */

static enum http_outcome outcome_of(CURLcode code)
{
	/* A part of a long list; the others mean a broken exchange. */
	switch ((int)code) {
	case CURLE_OK:
		return HTTP_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
		return HTTP_DNS;
	case CURLE_COULDNT_CONNECT:
		return HTTP_CONNECT;
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_TIMEOUT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_CRL_BADFILE:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return HTTP_TLS;
	default:
		return HTTP_BROKEN;
	}
}

static CURLMcode perform(struct transfer *t, CURLcode *result)
{
	CURLM *multi = t->h->multi;
	CURLMcode code = curl_multi_add_handle(multi, t->easy);
	int running = 1, left;

	if (code != CURLM_OK)
		return code;
	while (code == CURLM_OK && running > 0 && !atomic_load(&t->h->aborted)) {
		code = curl_multi_perform(multi, &running);
		if (code == CURLM_OK && running > 0)
			code = curl_multi_poll(multi, NULL, 0, WAKE_MS, NULL);
	}
	*result = CURLE_ABORTED_BY_CALLBACK;
	for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));)
		if (m->msg == CURLMSG_DONE)
			*result = m->data.result;
	(void)curl_multi_remove_handle(multi, t->easy);
	return code;
}

static void tell(const struct transfer *t, CURLcode code, struct http_answer *out)
{
	const char *text = t->text[0] ? t->text : curl_easy_strerror(code);

	if (out->outcome == HTTP_TOO_LARGE)
		text = "the answer is too large";
	else if (out->outcome == HTTP_ABORTED)
		text = "called off";
	snprintf(out->text, sizeof(out->text), "%s", text);
	/* Bits of it may be the server's. */
	for (char *c = out->text; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
}

static enum err exchange(struct transfer *t, struct http_answer *out)
{
	CURLcode code = CURLE_OK;
	long status = 0;
	bool starved;

	(void)http_starved();
	if (perform(t, &code) != CURLM_OK)
		return ERR_NOMEM;
	starved = http_starved();
	if (t->no_memory || (starved && code != CURLE_OK))
		return ERR_NOMEM;
	out->outcome = outcome_of(code);
	/* libcurl's own limit of a line's length shows as a lack of memory */
	if (t->too_large || code == CURLE_OUT_OF_MEMORY)
		out->outcome = HTTP_TOO_LARGE;
	if (code == CURLE_ABORTED_BY_CALLBACK)
		out->outcome = HTTP_ABORTED;
	if (out->outcome != HTTP_ANSWERED) {
		tell(t, code, out);
		return ERR_OK;
	}
	if (curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status < 100 || status > 999) {
		out->outcome = HTTP_BROKEN;
		tell(t, CURLE_WEIRD_SERVER_REPLY, out);
		return ERR_OK;
	}
	out->status = (int)status;
	out->body = t->body.p;
	out->body_len = t->body.len;
	out->headers = t->headers.p;
	t->body.p = NULL;
	t->headers.p = NULL;
	return ERR_OK;
}

enum err http_do(struct http *h, const struct http_request *r, struct http_answer *out)
{
	struct transfer t = {.h = h, .r = r};
	struct guard g;
	enum err e;

	memset(out, 0, sizeof(*out));
	enter(h, &g);
	e = prepare(&t);
	if (e == ERR_OK)
		e = exchange(&t, out);
	curl_easy_cleanup(t.easy);
	curl_slist_free_all(t.lines);
	curl_url_cleanup(t.url);
	leave(&g);
	locked_free(t.body.p);
	locked_free(t.headers.p);
	return e;
}
