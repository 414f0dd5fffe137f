/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_managed - managed identities of VMs and App Service, which of the sources "auto" means, and this machine's
 * region.  "How to use managed identities for Azure resources on an Azure VM to acquire an access token", "Use managed
 * identities for App Service and Azure Functions", "Azure Instance Metadata Service".
 */
#include "keyprov/azid_internal.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMDS	       "http://169.254.169.254"
#define ARC	       "http://127.0.0.1:40342"
#define URL_MAX	       1024
#define HEADER_MAX     2048
#define REGION_TIMEOUT 3000 /* ms: a local service answers at once or is not there */

static const struct azid_service vm_service = {
	.who = "the metadata service of this VM",
	.remedy = "assign the identity to the VM (az vm identity assign), or name another one",
};
static const struct azid_service app_service = {
	.who = "the identity endpoint of App Service",
	.remedy = "assign the identity to the app (az webapp identity assign), or name another one",
};

static const char *imds(const struct azid *a)
{
	return a->cloud.imds[0] ? a->cloud.imds : IMDS;
}

/* The service may echo whose token it is; that has to be whom we asked for. */
static enum err check_echo(const struct azid *a, struct azid_answer *out, const struct azid_want *w,
	const struct azid_service *s, struct err_why *why)
{
	if (!a->spec.client_id[0] || !out->has_client_id || strcmp(out->client_id, a->spec.client_id) == 0)
		return ERR_OK;
	secret_free(out->token);
	out->token = NULL;
	azid_reason(w->detail, 200, "identity: another client_id");
	return err_set(
		why, ERR_KEY_UNAVAILABLE, 0, "%s gave a token of another identity than %s", s->who, a->spec.client_id);
}

static enum err get(struct azid *a, const struct azid_service *s, const char *url, const char *const *headers,
	const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	struct http_request r = {.method = "GET", .url = url, .headers = headers};
	struct http_answer reply;
	enum err e = azid_exchange(a, s, a->plain, &r, &reply, w, t, why);

	if (e == ERR_OK)
		e = azid_take(a, s, &reply, w, out, t, why);
	http_answer_clear(&reply);
	return e == ERR_OK ? check_echo(a, out, w, s, why) : e;
}

enum err azid_vm(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	static const char *const headers[] = {"Metadata: true", NULL};
	char url[URL_MAX];
	struct azid_form f;

	azid_form_init(&f, url, sizeof(url));
	azid_form_text(&f, imds(a));
	azid_form_text(&f, "/metadata/identity/oauth2/token?api-version=2018-02-01");
	azid_form_add(&f, "resource", w->audience, strlen(w->audience));
	if (a->spec.client_id[0])
		azid_form_add(&f, "client_id", a->spec.client_id, strlen(a->spec.client_id));
	if (f.full)
		return err_set(why, ERR_BUG, 0, "the address of the metadata service is too long");
	return get(a, &vm_service, url, headers, w, out, t, why);
}

/* ---- App Service ---- */

/* Loopback or link-local, as a number: no name server decides where a secret goes.  end: behind the host. */
static bool host_is_local(const char *host, const char *end)
{
	struct in_addr addr;
	char text[24];
	uint32_t ip;

	if ((size_t)(end - host) >= sizeof(text))
		return false;
	memcpy(text, host, (size_t)(end - host));
	text[end - host] = '\0';
	if (strcmp(text, "localhost") == 0 || strcmp(text, "[::1]") == 0)
		return true;
	if (inet_pton(AF_INET, text, &addr) != 1)
		return false;
	ip = ntohl(addr.s_addr);
	return ip >> 24 == 127 || ip >> 16 == ((169u << 8) | 254u);
}

bool azid_local_url(const char *url, char out[static AZID_LOCAL_URL])
{
	static const char scheme[] = "http://";
	const char *host = url + sizeof(scheme) - 1, *end;
	size_t len = strlen(url), digits;

	out[0] = '\0';
	if (strncmp(url, scheme, sizeof(scheme) - 1) != 0 || len > AZID_LOCAL_URL - 8)
		return false;
	for (size_t i = 0; i < len; i++)
		if (url[i] <= ' ' || url[i] >= 0x7f || strchr("?#@\\\"<>%", url[i]))
			return false;
	end = host[0] == '[' && strchr(host, ']') ? strchr(host, ']') + 1 : host + strcspn(host, ":/");
	digits = end[0] == ':' ? strspn(end + 1, "0123456789") : 0;
	if ((end[0] == ':' && (digits == 0 || digits > 5 || end[1 + digits] != '/')) ||
		(end[0] != ':' && end[0] != '/') || !host_is_local(host, end))
		return false;
	if (strncmp(host, "localhost", 9) == 0) /* of which only the number is spoken to */
		snprintf(out, AZID_LOCAL_URL, "%s127.0.0.1%s", scheme, end);
	else
		snprintf(out, AZID_LOCAL_URL, "%s", url);
	return true;
}

enum err azid_app_service(
	struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why)
{
	const char *endpoint = secure_getenv("IDENTITY_ENDPOINT"), *secret = secure_getenv("IDENTITY_HEADER");
	const char *headers[2] = {NULL, NULL};
	char base[AZID_LOCAL_URL], url[URL_MAX], *header;
	struct azid_form f;
	enum err e;

	if (!endpoint || !secret || !secret[0])
		return err_set(why, ERR_CONFIG, 0,
			"IDENTITY_ENDPOINT and IDENTITY_HEADER are not set: this is no App Service, or its identity is"
			" off (az webapp identity assign)");
	if (!azid_local_url(endpoint, base))
		return err_set(why, ERR_CONFIG, 0,
			"IDENTITY_ENDPOINT is not http to this machine or a link-local address, as App Service sets"
			" it; its secret header is sent nowhere else");
	for (size_t i = 0; secret[i]; i++)
		if (secret[i] <= ' ' || secret[i] >= 0x7f || i >= HEADER_MAX - 64)
			return err_set(why, ERR_CONFIG, 0, "IDENTITY_HEADER is not what App Service sets it to");
	azid_form_init(&f, url, sizeof(url));
	azid_form_text(&f, base);
	azid_form_text(&f, "?api-version=2019-08-01");
	azid_form_add(&f, "resource", w->audience, strlen(w->audience));
	if (a->spec.client_id[0])
		azid_form_add(&f, "client_id", a->spec.client_id, strlen(a->spec.client_id));
	header = locked_alloc(HEADER_MAX);
	if (!header)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	snprintf(header, HEADER_MAX, "X-IDENTITY-HEADER: %s", secret);
	headers[0] = header;
	e = f.full ? err_set(why, ERR_CONFIG, 0, "IDENTITY_ENDPOINT is too long")
		   : get(a, &app_service, url, headers, w, out, t, why);
	locked_free(header);
	return e;
}

/* ---- auto ---- */

static bool is_set(const char *name)
{
	const char *v = secure_getenv(name);

	return v && v[0];
}

/* What was set up for this process goes before what the whole machine has. */
enum err azid_detect(const struct azid *a, enum azid_kind *out, struct err_why *why)
{
	bool endpoint = is_set("IDENTITY_ENDPOINT");

	if (endpoint && is_set("IDENTITY_SERVER_THUMBPRINT"))
		return err_set(why, ERR_CONFIG, 0,
			"Service Fabric's managed identity can't be used: it pins certificates by SHA-1; choose another"
			" one with --identity");
	if (endpoint && is_set("IDENTITY_HEADER"))
		*out = AZID_APP_SERVICE;
	else if (is_set("AZURE_FEDERATED_TOKEN_FILE"))
		*out = AZID_WORKLOAD;
	else if ((endpoint && is_set("IMDS_ENDPOINT")) || access(a->arc_agent, F_OK) == 0)
		*out = AZID_ARC;
	else
		*out = AZID_VM;
	return ERR_OK;
}

/* ---- region ---- */

static enum err region_ask(struct azid *a, const char *base, const char *path, struct http_answer *reply)
{
	static const char *const headers[] = {"Metadata: true", NULL};
	struct http_request r = {.method = "GET", .headers = headers, .total_ms = REGION_TIMEOUT};
	char url[URL_MAX];

	memset(reply, 0, sizeof(*reply));
	snprintf(url, sizeof(url), "%s%s", base, path);
	r.url = url;
	return http_do(a->plain, &r, reply);
}

/* Other clouds have something at this address, too. */
static bool is_busy(int status)
{
	return status == 408 || status == 410 || status == 429 || status >= 500;
}

enum err azid_region(struct azid *a, char out[static 64], struct err_why *why)
{
	enum azid_kind kind = a->kind;
	struct http_answer reply;
	bool arc;
	enum err e;

	snprintf(out, 64, "%s", a->region);
	if (a->region[0])
		return ERR_OK;
	if (kind == AZID_AUTO && azid_detect(a, &kind, why) != ERR_OK)
		return ERR_CONFIG;
	if (kind == AZID_APP_SERVICE)
		return err_set(why, ERR_NOT_FOUND, 0, "App Service does not tell its region to programs");
	if (azid_aborted(a))
		return err_set(why, ERR_KEY_UNAVAILABLE, 0, "the program is ending");
	arc = kind == AZID_ARC || (kind != AZID_VM && access(a->arc_agent, F_OK) == 0);
	e = arc ? region_ask(
			  a, a->cloud.arc[0] ? a->cloud.arc : ARC, "/metadata/instance?api-version=2020-06-01", &reply)
		: region_ask(a, imds(a), "/metadata/instance/compute?api-version=2021-02-01", &reply);
	if (e == ERR_OK && reply.outcome == HTTP_ANSWERED && reply.status == 200)
		azid_location(reply.body, reply.body_len, a->region);
	if (e != ERR_OK)
		err_set(why, e, 0, "can't ask for the region: %s", err_text(e));
	else if (a->region[0])
		snprintf(out, 64, "%s", a->region);
	else if (kind == AZID_VM || kind == AZID_ARC || (reply.outcome == HTTP_ANSWERED && is_busy(reply.status)))
		e = err_set(
			why, ERR_KEY_UNAVAILABLE, 0, "the metadata service does not tell this machine's region now");
	else
		e = err_set(why, ERR_NOT_FOUND, 0, "there is no metadata service here that would know the region");
	http_answer_clear(&reply);
	return e;
}
