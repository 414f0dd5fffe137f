/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_entra - tokens from the authority (Microsoft Entra ID) by the client credentials flow: RFC 6749 section 4.4 with
 * a secret, RFC 7523 with an assertion: a federated token (workload identity) or one of our own, signed with the key of
 * a certificate (PS256).  The authority is the cloud's; no environment variable changes it.
 */
#include "crypto/sign.h"
#include "crypto/volkeys.h"
#include "keyprov/azid_internal.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL_MAX	      512
#define FORM_MAX      131072u /* an assertion with eight certificates in it */
#define JWT_MAX	      90000u
#define PEM_MAX	      65536u
#define SECRET_TEXT   1024u  /* bytes of a client secret; Entra's have 40 */
#define FEDERATED_MAX 16384u /* bytes of a federated token */
#define ASSERTION     "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#define JWT_LIFE      600 /* seconds */

static const struct azid_service principal_service = {
	.who = "Microsoft Entra ID",
	.remedy = "look whether the app still exists in its tenant, is enabled, and whether its secret or certificate"
		  " is right and has not expired",
	.entra = true,
};
static const struct azid_service workload_service = {
	.who = "Microsoft Entra ID",
	.remedy = "look whether the identity still exists and its federated credential names this cluster, namespace"
		  " and service account",
	.entra = true,
};

/* ---- our own assertion ---- */

static void put_text(struct azid_form *f, const json_t *j)
{
	size_t room = f->cap - f->len, n;

	n = json_dumpb(j, f->p + f->len, room, JSON_COMPACT | JSON_ENSURE_ASCII);
	if (n == 0 || n >= room) {
		f->full = true;
		return;
	}
	f->len += n;
	f->p[f->len] = '\0';
}

/* base64url of the JSON text, appended */
static void put_json(struct azid_form *f, json_t *j, char *scratch, size_t cap)
{
	struct azid_form text;

	azid_form_init(&text, scratch, cap);
	if (j)
		put_text(&text, j);
	json_decref(j);
	if (!j || text.full || b64_len(text.len) >= f->cap - f->len) {
		f->full = true;
		return;
	}
	b64_encode(scratch, text.len, f->p + f->len);
	f->len += b64_len(text.len);
}

/* {"alg":"PS256","typ":"JWT","x5t#S256":...,"x5c":[...]}; x5c lets Entra check by subject and issuer, too */
static json_t *jwt_header(const struct sign_key *k, char *scratch, size_t cap)
{
	json_t *chain = json_array(), *j = NULL;
	const uint8_t *der;
	char thumb[48];
	size_t len = 0;

	b64_encode(sign_key_thumbprint(k), 32, thumb);
	for (size_t i = 0; chain && (der = sign_key_cert(k, i, &len)) != NULL; i++) {
		if (sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL) > cap) {
			json_decref(chain);
			return NULL;
		}
		sodium_bin2base64(scratch, cap, der, len, sodium_base64_VARIANT_ORIGINAL);
		(void)json_array_append_new(chain, json_string(scratch));
	}
	if (chain)
		j = json_pack("{s:s, s:s, s:s, s:o}", "alg", "PS256", "typ", "JWT", "x5t#S256", thumb, "x5c", chain);
	return j;
}

static json_t *jwt_claims(const struct azid *a, const char *url, long long now)
{
	char id[AZURE_GUID];

	if (azid_uuid(a->fips, id) != ERR_OK)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "aud", url, "iss", a->spec.client_id, "sub",
		a->spec.client_id, "jti", id, "nbf", (json_int_t)now, "iat", (json_int_t)now, "exp",
		(json_int_t)(now + JWT_LIFE));
}

/* jwt, scratch: JWT_MAX bytes of locked memory each */
static enum err assertion(
	const struct azid *a, const struct sign_key *k, const char *url, char *jwt, char *scratch, struct err_why *why)
{
	struct azid_form f;
	uint8_t sig[SIGN_MAX];
	size_t len = 0;
	enum err e;

	azid_form_init(&f, jwt, JWT_MAX);
	put_json(&f, jwt_header(k, scratch, JWT_MAX), scratch, JWT_MAX);
	azid_form_text(&f, ".");
	put_json(&f, jwt_claims(a, url, a->wall()), scratch, JWT_MAX);
	if (f.full || f.len + 1 + b64_len(SIGN_MAX) >= f.cap)
		return err_set(why, ERR_CONFIG, 0, "the certificates in %.200s are too large", a->spec.file);
	e = sign_ps256(k, jwt, f.len, sig, &len);
	if (e != ERR_OK)
		return err_set(why, e, 0, "the FIPS provider could not sign with the key in %.200s", a->spec.file);
	azid_form_text(&f, ".");
	b64_encode(sig, len, f.p + f.len);
	return ERR_OK;
}

/* ---- the request ---- */

static enum err post(struct azid *a, const struct azid_service *s, const char *url, const struct azid_form *form,
	const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	char id[AZURE_GUID], header[64];
	const char *const headers[] = {"Accept: application/json", header, "return-client-request-id: true", NULL};
	struct http_request r = {.method = "POST",
		.url = url,
		.headers = headers,
		.content_type = "application/x-www-form-urlencoded",
		.body = form->p,
		.body_len = form->len};
	struct http_answer reply;
	enum err e = azid_uuid(a->fips, id);

	if (e != ERR_OK)
		return err_set(why, e, 0, "the FIPS provider gave no random bytes");
	snprintf(header, sizeof(header), "client-request-id: %s", id);
	snprintf(w->detail->client_request_id, sizeof(w->detail->client_request_id), "%s", id);
	e = azid_exchange(a, s, a->tls, &r, &reply, w, t, why);
	if (e == ERR_OK)
		e = azid_take(a, s, &reply, w, out, t, why);
	http_answer_clear(&reply);
	return e;
}

static void token_url(const struct azid *a, const char *tenant, char out[static URL_MAX])
{
	snprintf(out, URL_MAX, "%s/%s/oauth2/v2.0/token", a->cloud.authority, tenant);
}

static enum err form_new(const struct azid_want *w, const char *client_id, struct azid_form *f, struct err_why *why)
{
	char scope[128], *buf = locked_alloc(FORM_MAX);

	if (!buf)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	snprintf(scope, sizeof(scope), "%s/.default", w->audience);
	azid_form_init(f, buf, FORM_MAX);
	azid_form_add(f, "grant_type", "client_credentials", 18);
	azid_form_add(f, "client_id", client_id, strlen(client_id));
	azid_form_add(f, "scope", scope, strlen(scope));
	if (w->claims)
		azid_form_add(f, "claims", w->claims, strlen(w->claims));
	return ERR_OK;
}

static enum err form_send(struct azid *a, const struct azid_service *s, const char *url, struct azid_form *f,
	const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	enum err e = f->full ? err_set(why, ERR_CONFIG, 0, "the request for a token is too long")
			     : post(a, s, url, f, w, out, t, why);

	locked_free(f->p);
	return e;
}

enum err azid_workload(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	const char *file = secure_getenv("AZURE_FEDERATED_TOKEN_FILE"), *client = secure_getenv("AZURE_CLIENT_ID"),
		   *tenant = secure_getenv("AZURE_TENANT_ID");
	char client_id[AZURE_GUID], tenant_id[AZURE_GUID], url[URL_MAX];
	struct secret *token = NULL;
	struct azid_form f;
	size_t len = 0;
	enum err e;

	if (!file || !client || !tenant || !azid_guid(client, client_id) || !azid_guid(tenant, tenant_id))
		return err_set(why, ERR_CONFIG, 0,
			"AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID and AZURE_TENANT_ID are not all set (the ids are"
			" GUIDs); label the pod azure.workload.identity/use, or choose another identity");
	/* Kubernetes replaces the file; it is read for each request. */
	e = azid_file_token(file, FEDERATED_MAX, &token, why);
	if (e != ERR_OK)
		return e;
	if (!azid_text(token, &len))
		e = err_set(why, ERR_CONFIG, 0, "the file %.200s of AZURE_FEDERATED_TOKEN_FILE holds no token", file);
	else
		e = form_new(w, client_id, &f, why);
	if (e == ERR_OK) {
		azid_form_add(&f, "client_assertion_type", ASSERTION, strlen(ASSERTION));
		azid_form_add(&f, "client_assertion", secret_view(token), len);
		token_url(a, tenant_id, url);
		e = form_send(a, &workload_service, url, &f, w, out, t, why);
	}
	secret_free(token);
	return e;
}

static enum err add_secret(const struct azid *a, struct azid_form *f, struct err_why *why)
{
	struct secret *s = NULL;
	size_t len = 0;
	enum err e = azid_file_spec(&a->spec, SECRET_TEXT, &s, why);

	if (e == ERR_OK && !azid_text(s, &len))
		e = err_set(why, ERR_CONFIG, 0,
			"%.300s holds no client secret: that is one line of text, the secret's value and not its id",
			a->spec.file);
	if (e == ERR_OK)
		azid_form_add(f, "client_secret", secret_view(s), len);
	secret_free(s);
	return e;
}

static enum err add_assertion(const struct azid *a, const char *url, struct azid_form *f, struct err_why *why)
{
	char *jwt = locked_alloc(JWT_MAX), *scratch = locked_alloc(JWT_MAX);
	struct sign_key *k = NULL;
	struct secret *pem = NULL;
	enum err e = jwt && scratch ? ERR_OK : err_set(why, ERR_NOMEM, 0, "out of locked memory");

	if (e == ERR_OK)
		e = azid_file_spec(&a->spec, PEM_MAX, &pem, why);
	if (e == ERR_OK)
		e = sign_key_new(a->fips, pem, a->spec.file, &k, why);
	secret_free(pem);
	if (e == ERR_OK)
		e = assertion(a, k, url, jwt, scratch, why);
	if (e == ERR_OK) {
		azid_form_add(f, "client_assertion_type", ASSERTION, strlen(ASSERTION));
		azid_form_add(f, "client_assertion", jwt, strlen(jwt));
	}
	sign_key_free(k);
	locked_free(jwt);
	locked_free(scratch);
	return e;
}

enum err azid_principal(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	char url[URL_MAX];
	struct azid_form f = {0};
	enum err e;

	token_url(a, a->spec.tenant, url);
	e = form_new(w, a->spec.client_id, &f, why);
	if (e != ERR_OK)
		return e;
	e = a->kind == AZID_SECRET ? add_secret(a, &f, why) : add_assertion(a, url, &f, why);
	if (e == ERR_OK)
		return form_send(a, &principal_service, url, &f, w, out, t, why);
	locked_free(f.p);
	return e;
}
