/* SPDX-License-Identifier: Apache-2.0 */
/* azure_cloud - the built-in clouds and the administrator's profiles; see azure.h. */
#include "keyprov/azure.h"
#include "keyprov/azure_internal.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROFILE_MAX 16384u
#define SYSTEM_DIR  "/etc/blobcryptfs/clouds"

static const struct azure_cloud clouds[] = {
	{
		.name = "public",
		.vault_suffix = ".vault.azure.net",
		.hsm_suffix = ".managedhsm.azure.net",
		.vault_audience = "https://vault.azure.net",
		.hsm_audience = "https://managedhsm.azure.net",
		.authority = "https://login.microsoftonline.com",
	},
	{
		.name = "china",
		.vault_suffix = ".vault.azure.cn",
		.hsm_suffix = ".managedhsm.azure.cn",
		.vault_audience = "https://vault.azure.cn",
		.hsm_audience = "https://managedhsm.azure.cn",
		.authority = "https://login.chinacloudapi.cn",
	},
	{
		.name = "usgov",
		.vault_suffix = ".vault.usgovcloudapi.net",
		.hsm_suffix = ".managedhsm.usgovcloudapi.net",
		.vault_audience = "https://vault.usgovcloudapi.net",
		.hsm_audience = "https://managedhsm.usgovcloudapi.net",
		.authority = "https://login.microsoftonline.us",
	},
};

#define N_CLOUDS (sizeof(clouds) / sizeof(clouds[0]))

/* ---- members of a profile ---- */

static bool is_suffix(const char *s)
{
	return s[0] == '.' && azure_host_is_name(s + 1, strlen(s + 1)) &&
	       s[strcspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static bool is_port(const char *s)
{
	size_t len = strspn(s, "0123456789");

	return len >= 1 && len <= 5 && s[len] == '\0' && s[0] != '0' && strtol(s, NULL, 10) <= 65535;
}

/* SCHEME://HOST[:PORT], and a path of plain segments where one may be. */
static bool is_base(const char *s, const char *scheme, bool path)
{
	size_t len = strlen(scheme), host;
	char port[8] = "";

	if (strncmp(s, scheme, len) != 0)
		return false;
	s += len;
	if (s[0] == '[') {
		host = 1 + strspn(s + 1, "0123456789abcdefABCDEF:");
		if (host < 3 || s[host++] != ']')
			return false;
	} else {
		host = strcspn(s, ":/");
		if (!azure_host_is_name(s, host))
			return false;
	}
	s += host;
	if (*s == ':') {
		len = strcspn(++s, "/");
		if (len >= sizeof(port))
			return false;
		memcpy(port, s, len);
		if (!is_port(port))
			return false;
		s += len;
	}
	for (; path && *s == '/'; s += len) {
		len = strspn(++s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
		if (len == 0)
			return false;
	}
	return *s == '\0';
}

static bool is_https(const char *s)
{
	return is_base(s, "https://", false);
}

static bool is_authority(const char *s)
{
	return is_base(s, "https://", true);
}

/* Loopback or link-local, as a number: nothing else is spoken to without TLS. */
static bool is_local_service(const char *s)
{
	static const char scheme[] = "http://";
	const char *host = s + sizeof(scheme) - 1;
	char text[INET6_ADDRSTRLEN];
	struct in6_addr six;
	struct in_addr four;
	size_t len;
	bool v6;

	if (!is_base(s, scheme, false))
		return false;
	v6 = host[0] == '[';
	len = v6 ? strcspn(++host, "]") : strcspn(host, ":");
	if (len >= sizeof(text))
		return false;
	memcpy(text, host, len);
	text[len] = '\0';
	if (v6)
		return inet_pton(AF_INET6, text, &six) == 1 &&
		       (IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_LINKLOCAL(&six));
	if (inet_pton(AF_INET, text, &four) != 1)
		return false;
	return ntohl(four.s_addr) >> 24 == 127 || ntohl(four.s_addr) >> 16 == ((169u << 8) | 254u);
}

static bool is_path(const char *s)
{
	return s[0] == '/';
}

static const struct member {
	const char *name;
	size_t offset, cap;
	bool required;
	bool (*check)(const char *s);
	const char *what;
} members[] = {
#define MEMBER(json, field, required, check, what)                                                                     \
	{                                                                                                              \
		json, offsetof(struct azure_cloud, field), sizeof(((struct azure_cloud *)0)->field), required, check,  \
			what                                                                                           \
	}
	MEMBER("vault_suffix", vault_suffix, true, is_suffix,
		"the end of host names in lower case, like .vault.azure.net"),
	MEMBER("hsm_suffix", hsm_suffix, true, is_suffix,
		"the end of host names in lower case, like .managedhsm.azure.net"),
	MEMBER("vault_audience", vault_audience, true, is_https, "https://HOST without a slash at the end"),
	MEMBER("hsm_audience", hsm_audience, true, is_https, "https://HOST without a slash at the end"),
	MEMBER("authority", authority, true, is_authority, "https://HOST[:PORT] without a slash at the end"),
	MEMBER("port", port, false, is_port, "a port number"),
	MEMBER("ca", ca_file, false, is_path, "an absolute path"),
	MEMBER("imds", imds, false, is_local_service,
		"http://ADDRESS[:PORT] of this machine or link-local, as numbers and without a slash at the end"),
	MEMBER("arc", arc, false, is_local_service,
		"http://ADDRESS[:PORT] of this machine or link-local, as numbers and without a slash at the end"),
#undef MEMBER
};

#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

static enum err parse_member(
	const json_t *j, const char *name, const struct member *m, struct azure_cloud *out, struct err_why *why)
{
	const json_t *value = json_object_get(j, m->name);
	const char *text = json_string_value(value);
	char number[24];

	if (!value && !m->required)
		return ERR_OK;
	if (json_is_integer(value) && m->check == is_port) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
		text = number;
	}
	if (!text || strlen(text) != (json_is_string(value) ? json_string_length(value) : strlen(text)) ||
		strlen(text) >= m->cap || !m->check(text))
		return err_set(why, ERR_CONFIG, 0,
			"the profile of the cloud \"%s\" has no usable \"%s\": it has to be %s", name, m->name,
			m->what);
	snprintf((char *)out + m->offset, m->cap, "%s", text);
	return ERR_OK;
}

static bool known_member(const char *key)
{
	for (size_t i = 0; i < N_MEMBERS; i++)
		if (strcmp(key, members[i].name) == 0)
			return true;
	return false;
}

static bool is_end_of(const char *suffix, const char *s)
{
	size_t n = strlen(suffix), len = strlen(s);

	return len >= n && strcmp(s + len - n, suffix) == 0;
}

static bool is_cloud_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len >= 1 && len < sizeof(clouds[0].name) && name[len] == '\0' && name[0] != '-';
}

enum err azure_cloud_parse(const json_t *j, const char *name, struct azure_cloud *out, struct err_why *why)
{
	const char *key;
	void *at;
	enum err e;

	memset(out, 0, sizeof(*out));
	if (!is_cloud_name(name))
		return err_set(why, ERR_CONFIG, 0,
			"the name of a cloud has to be of lower case letters, digits and dashes, at most 31");
	if (!json_is_object(j))
		return err_set(why, ERR_CONFIG, 0, "the profile of the cloud \"%s\" is no JSON object", name);
	/* the iterator takes a json_t that is not const, and only reads */
	for (at = json_object_iter((json_t *)(uintptr_t)j); at;
		at = json_object_iter_next((json_t *)(uintptr_t)j, at)) {
		key = json_object_iter_key(at);
		if (!known_member(key))
			return err_set(why, ERR_CONFIG, 0,
				"the profile of the cloud \"%s\" has the unknown member \"%.40s\"", name, key);
	}
	for (size_t i = 0; i < N_MEMBERS; i++) {
		e = parse_member(j, name, &members[i], out, why);
		if (e != ERR_OK)
			return e;
	}
	if (is_end_of(out->vault_suffix, out->hsm_suffix) || is_end_of(out->hsm_suffix, out->vault_suffix))
		return err_set(why, ERR_CONFIG, 0,
			"the profile of the cloud \"%s\" can't tell vaults and HSMs apart: one suffix is the end of "
			"the other",
			name);
	if (strcmp(out->port, "443") == 0)
		out->port[0] = '\0';
	snprintf(out->name, sizeof(out->name), "%s", name);
	return ERR_OK;
}

/* ---- files ---- */

static enum err check_file(int fd, const char *path, struct err_why *why)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(why, ERR_IO, errno, "%s can't be looked at: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(why, ERR_CONFIG, 0, "%s is no regular file", path);
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & 022) != 0)
		return err_set(why, ERR_CONFIG, 0,
			"%s says whom to trust, so it has to belong to root or to you and be writable by nobody else: "
			"chmod go-w",
			path);
	if (st.st_size > (off_t)PROFILE_MAX)
		return err_set(why, ERR_CONFIG, 0, "%s is larger than %u bytes", path, PROFILE_MAX);
	return ERR_OK;
}

/* ERR_NOT_FOUND if path is not there. */
static enum err read_profile(const char *path, json_t **out, struct err_why *why)
{
	char text[PROFILE_MAX + 1];
	json_error_t je;
	size_t len = 0;
	ssize_t n = 1;
	enum err e;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return ERR_NOT_FOUND;
	if (fd < 0)
		return err_set(why, ERR_CONFIG, errno, "%s can't be opened: %s", path, strerror(errno));
	e = check_file(fd, path, why);
	while (e == ERR_OK && n > 0 && len < sizeof(text)) {
		n = read(fd, text + len, sizeof(text) - len);
		if (n > 0)
			len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			e = err_set(why, ERR_IO, errno, "%s can't be read: %s", path, strerror(errno));
	}
	close(fd);
	if (e != ERR_OK)
		return e;
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!*out)
		return err_set(why, ERR_CONFIG, 0, "%s is not JSON from line %d on", path, je.line);
	return ERR_OK;
}

/* The n-th place a profile may be at; false if there is none. */
static bool place(unsigned n, const char *name, char out[static PATH_MAX])
{
	const char *config = secure_getenv("XDG_CONFIG_HOME"), *home = secure_getenv("HOME");
	int len = -1;

	if (n == 0 && config && config[0] == '/')
		len = snprintf(out, PATH_MAX, "%s/blobcryptfs/clouds/%s.json", config, name);
	else if (n == 0 && geteuid() != 0 && home && home[0] == '/')
		len = snprintf(out, PATH_MAX, "%s/.config/blobcryptfs/clouds/%s.json", home, name);
	else if (n == 1)
		len = snprintf(out, PATH_MAX, SYSTEM_DIR "/%s.json", name);
	return len > 0 && len < PATH_MAX;
}

enum err azure_cloud_find(const char *name, struct azure_cloud *out, struct err_why *why)
{
	char path[PATH_MAX], looked[sizeof(why->text)] = "";
	json_t *j = NULL;
	enum err e;

	if (!name || name[0] == '\0')
		name = "public";
	for (size_t i = 0; i < N_CLOUDS; i++)
		if (strcmp(name, clouds[i].name) == 0) {
			*out = clouds[i];
			return ERR_OK;
		}
	if (!is_cloud_name(name))
		return err_set(why, ERR_CONFIG, 0,
			"the name of a cloud has to be of lower case letters, digits and dashes, at most 31");
	for (unsigned n = 0; n < 2; n++) {
		if (!place(n, name, path))
			continue;
		e = read_profile(path, &j, why);
		if (e == ERR_OK)
			e = azure_cloud_parse(j, name, out, why);
		json_decref(j);
		if (e != ERR_NOT_FOUND)
			return e;
		snprintf(looked + strlen(looked), sizeof(looked) - strlen(looked), "%s%.180s", looked[0] ? " and " : "",
			path);
	}
	return err_set(why, ERR_NOT_FOUND, 0,
		"there is no cloud \"%s\": public, china and usgov are built in, and there is no profile at %s", name,
		looked);
}
