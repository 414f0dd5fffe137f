/* SPDX-License-Identifier: Apache-2.0 */
/* akv - see akv.h: the operations.  How a call is made is in akv_call.c. */
#include "crypto/volkeys.h"
#include "keyprov/akv_internal.h"
#include "keyprov/azure_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define API_VERSION "7.4"
#define DEADLINE_MS 30000u
#define ATTEMPTS    5u
#define BACKOFF_MS  1000u
#define SECRET_CAP  64u /* bytes an unwrapped key may have */
#define PAGES_MAX   400u

enum err akv_open(const struct akv_config *cfg, struct akv **out, struct err_why *why)
{
	const struct http_config http = {
		.fips = cfg->fips, .ca_file = cfg->cloud->ca_file[0] ? cfg->cloud->ca_file : NULL};
	const char *version = cfg->api_version ? cfg->api_version : API_VERSION;
	struct akv *a;
	enum err e = ERR_OK;

	*out = NULL;
	if (strlen(version) >= sizeof(a->api_version) || !akv_api_version(version))
		return err_set(why, ERR_CONFIG, 0, "the api-version has to look like 7.4 or 2025-07-01");
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(why, ERR_NOMEM, 0, "out of memory");
	a->fips = cfg->fips;
	a->cloud = *cfg->cloud;
	a->id = *cfg->id;
	a->identity = cfg->identity;
	akv_set_limits(a, cfg->attempts, cfg->deadline_ms);
	a->backoff_ms = cfg->backoff_ms ? cfg->backoff_ms : BACKOFF_MS;
	snprintf(a->api_version, sizeof(a->api_version), "%s", version);
	a->tenant_pinned = cfg->tenant && cfg->tenant[0];
	if (a->tenant_pinned && !azure_guid(cfg->tenant, strlen(cfg->tenant), a->tenant))
		e = err_set(why, ERR_CONFIG, 0, "the vault's tenant has to be a GUID");
	a->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e == ERR_OK && a->stop < 0)
		e = err_set(why, ERR_IO, errno, "can't make an eventfd: %s", strerror(errno));
	if (e == ERR_OK)
		e = http_open(&http, &a->http, why);
	if (e != ERR_OK) {
		akv_close(a);
		return e;
	}
	*out = a;
	return ERR_OK;
}

void akv_close(struct akv *a)
{
	if (!a)
		return;
	http_close(a->http);
	if (a->stop >= 0)
		close(a->stop);
	free(a);
}

void akv_set_limits(struct akv *a, unsigned attempts, unsigned deadline_ms)
{
	a->attempts = attempts ? attempts : ATTEMPTS;
	a->deadline_ms = deadline_ms ? deadline_ms : DEADLINE_MS;
}

void akv_abort(struct akv *a)
{
	const uint64_t one = 1;

	if (write(a->stop, &one, sizeof(one)) < 0) {
		/* It is full, so it can be read: all that is wanted. */
	}
	http_abort(a->http);
	if (a->identity)
		azid_abort(a->identity);
}

bool akv_api_version(const char *s)
{
	size_t len = strspn(s, "0123456789.-abcdefghijklmnopqrstuvwxyz");

	return len >= 1 && len <= 31 && s[len] == '\0' && s[0] >= '0' && s[0] <= '9';
}

const struct keyprov_detail *akv_detail(const struct akv *a)
{
	return &a->detail;
}

const char *akv_algorithm(const struct akv_key *k)
{
	if ((k->kind == AKV_RSA || k->kind == AKV_RSA_HSM) && (k->bits == 2048 || k->bits == 3072 || k->bits == 4096))
		return "RSA-OAEP-256";
	/* Not every answer tells the length of a symmetric key; the round trip does. */
	if (k->kind == AKV_OCT_HSM && (k->bits == 256 || k->bits == 0))
		return "A256KW";
	return NULL;
}

/* BASE/keys/NAME[/VERSION][/OPERATION]?api-version=... */
static void make_url(const struct akv *a, const struct azure_key_id *id, const char *operation, char *out, size_t cap)
{
	snprintf(out, cap, "%s/keys/%s%s%s%s%s?api-version=%s", id->base, id->name, id->version[0] ? "/" : "",
		id->version, operation ? "/" : "", operation ? operation : "", a->api_version);
}

static enum err nonsense(struct akv *a, enum err e, const char *what, struct err_why *why)
{
	if (e == ERR_NOMEM)
		return err_set(why, e, 0, "out of locked memory");
	snprintf(a->detail.reason, sizeof(a->detail.reason), "nonsense");
	return err_set(why, ERR_CORRUPT, 0,
		"the answer of %s makes no sense when asked to %s: it is no JSON of the expected kind, or about "
		"another key",
		a->id.host, what);
}

static enum err get(struct akv *a, const struct azure_key_id *id, struct akv_key *out, struct err_why *why)
{
	char url[AZURE_URI_MAX + 64];
	const struct akv_call c = {.method = "GET", .url = url, .what = "show the key"};
	struct http_answer reply;
	enum err e;

	make_url(a, id, NULL, url, sizeof(url));
	e = akv_do(a, &c, &reply, why);
	if (e != ERR_OK)
		return e;
	e = akv_bundle_parse(&a->cloud, id, reply.body, reply.body_len, out);
	http_answer_clear(&reply);
	if (e != ERR_OK)
		return nonsense(a, e, c.what, why);
	snprintf(a->detail.kid, sizeof(a->detail.kid), "%s", out->kid);
	return ERR_OK;
}

enum err akv_get(struct akv *a, struct akv_key *out, struct err_why *why)
{
	memset(out, 0, sizeof(*out));
	return get(a, &a->id, out, why);
}

enum err akv_get_version(struct akv *a, const char *version, struct akv_key *out, struct err_why *why)
{
	struct azure_key_id id = a->id;

	memset(out, 0, sizeof(*out));
	snprintf(id.version, sizeof(id.version), "%s", version);
	return get(a, &id, out, why);
}

/* ---- wrap and unwrap ---- */

/* {"alg":...,"value":...} in locked memory. */
static char *make_body(const char *alg, const void *value, size_t len, size_t *body_len)
{
	size_t cap = strlen(alg) + b64_len(len) + 32;
	char *body = locked_alloc(cap);
	int n;

	if (!body)
		return NULL;
	n = snprintf(body, cap, "{\"alg\":\"%s\",\"value\":\"", alg);
	b64_encode(value, len, body + n);
	*body_len = (size_t)n + b64_len(len);
	memcpy(body + *body_len, "\"}", 3);
	*body_len += 2;
	return body;
}

static enum err value_call(struct akv *a, const struct azure_key_id *id, const char *operation, const char *what,
	bool fresh, char *body, size_t body_len, struct http_answer *reply, struct err_why *why)
{
	char url[AZURE_URI_MAX + 64];
	const struct akv_call c = {
		.method = "POST", .url = url, .body = body, .body_len = body_len, .fresh = fresh, .what = what};
	enum err e;

	make_url(a, id, operation, url, sizeof(url));
	e = akv_do(a, &c, reply, why);
	locked_free(body);
	return e;
}

static bool wrapped_len_ok(const char *alg, size_t plain, size_t len)
{
	if (strcmp(alg, "A256KW") == 0)
		return len == plain + 8; /* RFC 3394 */
	return len == 256 || len == 384 || len == 512;
}

static bool algorithm_known(const char *alg)
{
	return strcmp(alg, "RSA-OAEP-256") == 0 || strcmp(alg, "A256KW") == 0;
}

enum err akv_wrap(struct akv *a, const char *alg, const struct secret *in, struct wrapped *out,
	char kid[static AZURE_URI_MAX], struct err_why *why)
{
	static const char what[] = "wrap a key";
	struct http_answer reply;
	size_t len;
	char *body;
	enum err e;

	memset(out, 0, sizeof(*out));
	kid[0] = '\0';
	if (!algorithm_known(alg) || secret_len(in) == 0 || secret_len(in) > SECRET_CAP || secret_len(in) % 8 != 0)
		return err_set(why, ERR_BUG, 0, "bad key to wrap");
	body = make_body(alg, secret_view(in), secret_len(in), &len);
	if (!body)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	e = value_call(a, &a->id, "wrapkey", what, false, body, len, &reply, why);
	if (e != ERR_OK)
		return e;
	e = akv_value_parse(
		&a->cloud, &a->id, reply.body, reply.body_len, kid, out->bytes, sizeof(out->bytes), &out->len);
	http_answer_clear(&reply);
	if (e == ERR_OK && !wrapped_len_ok(alg, secret_len(in), out->len))
		e = ERR_CORRUPT;
	if (e != ERR_OK) {
		memset(out, 0, sizeof(*out));
		kid[0] = '\0';
		return nonsense(a, e, what, why);
	}
	snprintf(a->detail.kid, sizeof(a->detail.kid), "%s", kid);
	return ERR_OK;
}

enum err akv_unwrap(struct akv *a, const char *version, const char *alg, const struct wrapped *in, bool fresh,
	struct secret **out, struct err_why *why)
{
	static const char what[] = "unwrap the key";
	struct azure_key_id id = a->id;
	char kid[AZURE_URI_MAX];
	struct secret *whole = NULL;
	struct http_answer reply;
	size_t len;
	char *body;
	enum err e;

	*out = NULL;
	if (!algorithm_known(alg) || strlen(version) != sizeof(id.version) - 1 || in->len == 0 ||
		in->len > sizeof(in->bytes))
		return err_set(why, ERR_BUG, 0, "bad key to unwrap");
	memcpy(id.version, version, sizeof(id.version));
	body = make_body(alg, in->bytes, in->len, &len);
	if (!body || secret_new(SECRET_CAP, &whole) != ERR_OK) {
		locked_free(body);
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	}
	e = value_call(a, &id, "unwrapkey", what, fresh, body, len, &reply, why);
	azure_key_id_format(&id, true, a->detail.kid);
	if (e != ERR_OK) {
		secret_free(whole);
		return e;
	}
	e = akv_value_parse(&a->cloud, &id, reply.body, reply.body_len, kid, secret_bytes(whole), SECRET_CAP, &len);
	http_answer_clear(&reply);
	if (e == ERR_OK)
		e = secret_take(secret_bytes(whole), len, out);
	secret_free(whole);
	return e == ERR_OK ? ERR_OK : nonsense(a, e, what, why);
}

/* ---- more than one key ---- */

/* Kind, length and operations of a key of the list; what may not be looked at stays as the list has it. */
static enum err complete(struct akv *a, struct akv_key *k, struct err_why *why)
{
	struct azure_key_id id;
	struct akv_key full;
	enum err e = azure_key_id_parse(&a->cloud, k->kid, &id, why);

	if (e != ERR_OK)
		return e;
	e = get(a, &id, &full, why);
	if (e == ERR_OK)
		*k = full;
	return e == ERR_KEY_REVOKED || e == ERR_CORRUPT ? ERR_OK : e;
}

enum err akv_list(struct akv *a, struct akv_key *out, size_t max, size_t *n, struct err_why *why)
{
	char url[AZURE_HOST + AKV_NEXT_MAX + 64], next[AKV_NEXT_MAX];
	const struct akv_call c = {.method = "GET", .url = url, .what = "list its keys"};
	struct http_answer reply;
	enum err e = ERR_OK;
	size_t got;

	*n = 0;
	snprintf(url, sizeof(url), "%s/keys?api-version=%s&maxresults=25", a->id.base, a->api_version);
	for (unsigned page = 0; e == ERR_OK; page++) {
		if (page == PAGES_MAX)
			return nonsense(a, ERR_CORRUPT, c.what, why);
		e = akv_do(a, &c, &reply, why);
		if (e != ERR_OK)
			return e;
		e = akv_list_parse(&a->cloud, &a->id, reply.body, reply.body_len, out + *n, max - *n, &got, next);
		http_answer_clear(&reply);
		if (e != ERR_OK && e != ERR_RANGE)
			return nonsense(a, e, c.what, why);
		*n += got;
		if (next[0] == '\0')
			break;
		snprintf(url, sizeof(url), "%s%s", a->id.base, next);
	}
	for (size_t i = 0; i < *n; i++) {
		enum err one = complete(a, &out[i], why);

		if (one != ERR_OK)
			return one;
	}
	return e == ERR_RANGE
		       ? err_set(why, e, 0, "%s has more than %zu keys; the others are not shown", a->id.host, max)
		       : ERR_OK;
}

enum err akv_create(struct akv *a, enum akv_kind kind, unsigned bits, struct akv_key *out, struct err_why *why)
{
	static const char *const kty[] = {
		[AKV_KIND_OTHER] = NULL, [AKV_RSA] = "RSA", [AKV_RSA_HSM] = "RSA-HSM", [AKV_OCT_HSM] = "oct-HSM"};
	const struct akv_key wanted = {.kind = kind, .bits = bits};
	char url[AZURE_URI_MAX + 64], body[160];
	struct akv_call c = {.method = "POST", .url = url, .body = body, .what = "make a key"};
	struct azure_key_id id = a->id;
	struct http_answer reply;
	enum err e;

	memset(out, 0, sizeof(*out));
	if (!akv_algorithm(&wanted) || bits == 0)
		return err_set(why, ERR_CONFIG, 0,
			"a key for this has to be RSA or RSA-HSM of 2048, 3072 or 4096 bits, or oct-HSM of 256");
	id.version[0] = '\0';
	make_url(a, &id, "create", url, sizeof(url));
	c.body_len = (size_t)snprintf(body, sizeof(body),
		"{\"kty\":\"%s\",\"key_size\":%u,\"key_ops\":[\"wrapKey\",\"unwrapKey\"]}", kty[kind], bits);
	e = akv_do(a, &c, &reply, why);
	if (e != ERR_OK)
		return e;
	e = akv_bundle_parse(&a->cloud, &id, reply.body, reply.body_len, out);
	http_answer_clear(&reply);
	return e == ERR_OK ? ERR_OK : nonsense(a, e, c.what, why);
}
