/* SPDX-License-Identifier: Apache-2.0 */
/* azure - see azure.h.  The profiles' files are read in azure_cloud.c. */
#include "keyprov/azure.h"
#include "keyprov/azure_internal.h"
#include <stdio.h>
#include <string.h>

#define VAULT_NAME_MAX 24u /* the shortest is of 3, but that makes no vault of a stranger's host */
#define VERSION_LEN    32u

static char lower(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c - 'A' + 'a');
	return c;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

bool azure_guid(const char *s, size_t len, char out[static AZURE_GUID])
{
	if (len != AZURE_GUID - 1)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = lower(s[i]);
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		out[i] = c;
	}
	out[len] = '\0';
	return true;
}

/* Letters, digits and single dashes, none at the ends. */
static bool is_label(const char *s, size_t len, size_t min, size_t max, bool single_dashes)
{
	if (len < min || len > max || s[0] == '-' || s[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && (s[i] != '-' || (single_dashes && s[i + 1] == '-')))
			return false;
	return true;
}

bool azure_host_is_name(const char *s, size_t len)
{
	size_t start = 0;

	for (size_t i = 0; i <= len; i++)
		if (i == len || s[i] == '.') {
			if (!is_label(s + start, i - start, 1, 63, false))
				return false;
			start = i + 1;
		}
	return len > 0;
}

static bool ends_with(const char *s, const char *suffix, size_t *before)
{
	size_t len = strlen(s), n = strlen(suffix);

	if (n == 0 || len <= n || strcmp(s + len - n, suffix) != 0)
		return false;
	*before = len - n;
	return true;
}

/* Which kind of vault is at id->host?  Nothing but names directly below the cloud's suffixes; a Managed HSM's may be of
 * several labels. */
static bool host_is_known(const struct azure_cloud *c, struct azure_key_id *id)
{
	size_t n = 0;

	if (ends_with(id->host, c->vault_suffix, &n)) {
		id->hsm = false;
		return is_label(id->host, n, 1, VAULT_NAME_MAX, true);
	}
	id->hsm = true;
	return ends_with(id->host, c->hsm_suffix, &n) && azure_host_is_name(id->host, n);
}

static enum err bad(struct err_why *why, const char *uri, const char *what)
{
	char shown[128];
	size_t i = 0;

	for (; i < sizeof(shown) - 1 && uri[i]; i++) {
		shown[i] = uri[i];
		if (uri[i] < 0x20 || uri[i] > 0x7e)
			shown[i] = '?';
	}
	shown[i] = '\0';
	return err_set(why, ERR_CONFIG, 0, "\"%s\" is no key identifier that can be used: %s", shown, what);
}

enum err azure_base_parse(
	const struct azure_cloud *c, const char *uri, struct azure_key_id *out, const char **rest, struct err_why *why)
{
	static const char scheme[] = "https://";
	const char *p = uri;
	size_t len;
	char port[8] = "";

	memset(out, 0, sizeof(*out));
	*rest = uri;
	for (size_t i = 0; scheme[i]; i++)
		if (lower(*p++) != scheme[i])
			return bad(why, uri, "it has to start with https://");
	len = strcspn(p, ":/");
	if (len == 0 || len >= sizeof(out->host))
		return bad(why, uri, "the host name is missing or too long");
	for (size_t i = 0; i < len; i++)
		out->host[i] = lower(p[i]);
	p += len;
	if (*p == ':') {
		len = strspn(++p, "0123456789");
		if (len == 0 || len >= sizeof(port))
			return bad(why, uri, "the part behind the host name is no port number");
		memcpy(port, p, len);
		p += len;
	}
	if (*p != '\0' && *p != '/')
		return bad(why, uri, "the host name has something behind it that does not belong there");
	if (!host_is_known(c, out)) {
		err_set(why, ERR_CONFIG, 0,
			"%.100s is no vault of the cloud \"%s\": its names end with %s or %s; another cloud is named "
			"by --cloud",
			azure_host_is_name(out->host, strlen(out->host)) ? out->host : "the host", c->name,
			c->vault_suffix, c->hsm_suffix);
		return ERR_CONFIG;
	}
	/* Some tools write the default port down. */
	if (strcmp(port, c->port) != 0 && (c->port[0] || strcmp(port, "443") != 0))
		return bad(why, uri, c->port[0] ? "the port is not the one of this cloud" : "it has a port");
	snprintf(out->base, sizeof(out->base), "https://%s%s%s", out->host, c->port[0] ? ":" : "", c->port);
	*rest = p;
	return ERR_OK;
}

bool azure_key_name(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && s[i] != '-')
			return false;
	return len >= 1 && len <= 127;
}

enum err azure_key_id_parse(const struct azure_cloud *c, const char *uri, struct azure_key_id *out, struct err_why *why)
{
	static const char keys[] = "/keys/";
	const char *p = NULL;
	size_t len;
	enum err e;

	if (strnlen(uri, AZURE_URI_MAX) >= AZURE_URI_MAX)
		return bad(why, uri, "it is too long");
	e = azure_base_parse(c, uri, out, &p, why);
	if (e != ERR_OK)
		return e;
	if (strncmp(p, keys, sizeof(keys) - 1) != 0)
		return bad(why, uri,
			"it has to be of the form https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION");
	p += sizeof(keys) - 1;
	len = strcspn(p, "/");
	if (!azure_key_name(p, len))
		return bad(why, uri, "the key's name has to be of 1 to 127 letters, digits and dashes");
	memcpy(out->name, p, len);
	p += len;
	if (*p == '\0')
		return ERR_OK;
	p++;
	for (len = 0; is_alnum(p[len]); len++)
		;
	if (len != VERSION_LEN || p[len] != '\0')
		return bad(why, uri, "what follows the key's name is no version (32 letters and digits)");
	memcpy(out->version, p, len);
	return ERR_OK;
}

enum err azure_vault_parse(
	const struct azure_cloud *c, const char *vault, struct azure_key_id *out, struct err_why *why)
{
	char uri[AZURE_HOST + 32];
	const char *rest = NULL;
	size_t len = strnlen(vault, AZURE_HOST);
	enum err e;

	if (is_label(vault, len, 1, VAULT_NAME_MAX, true)) {
		snprintf(uri, sizeof(uri), "https://%.*s%s%s%s", (int)len, vault, c->vault_suffix,
			c->port[0] ? ":" : "", c->port);
		vault = uri;
	}
	e = azure_base_parse(c, vault, out, &rest, why);
	if (e != ERR_OK)
		return e;
	if (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0)
		return bad(why, vault, "only the vault is to be named here, as https://VAULT or by its name alone");
	return ERR_OK;
}

void azure_key_id_format(const struct azure_key_id *id, bool with_version, char out[static AZURE_URI_MAX])
{
	bool version = with_version && id->version[0];

	snprintf(out, AZURE_URI_MAX, "%s/keys/%s%s%s", id->base, id->name, version ? "/" : "",
		version ? id->version : "");
}
