/* SPDX-License-Identifier: Apache-2.0 */
/* Every identity against tests/emulator, which was made from the services' documentation and not from our code. */
#include "tests/unit/testlib.h"

#include "keyprov/azid_internal.h"
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fips *fips;
static char dir[64];
static pid_t emulator;
static struct azure_cloud cloud;
static struct err_why why;
static struct keyprov_detail detail;

/* Sends words, split at blanks, as tests/emulator/ctl does; the answer is the caller's. */
static json_t *send_words(const char *words)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char copy[512], line[16384], *rest = copy, *word, *text;
	json_t *list = json_array(), *answer, *ok;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *f;

	snprintf(copy, sizeof(copy), "%s", words);
	while ((word = strsep(&rest, " ")) != NULL)
		json_array_append_new(list, json_string(word));
	text = json_dumps(list, JSON_COMPACT);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control.sock", dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	f = fdopen(fd, "r+");
	assert_non_null(f);
	fprintf(f, "%s\n", text);
	fflush(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	locked_free_any(text);
	json_decref(list);
	answer = json_loads(line, 0, NULL);
	ok = json_incref(json_object_get(answer, "ok"));
	if (!ok)
		fail_msg("%s: %s", words, line);
	json_decref(answer);
	return ok;
}

static void ctl(const char *words)
{
	json_decref(send_words(words));
}

/* A text in the answer, by its path ("tenants.T1"; empty: the answer itself), in a static buffer. */
static const char *ask_ctl(const char *words, const char *path)
{
	static char out[2048];
	json_t *answer = send_words(words);
	const json_t *j = answer;
	char copy[64], *rest = copy, *part;

	snprintf(copy, sizeof(copy), "%s", path);
	while (copy[0] && (part = strsep(&rest, ".")) != NULL)
		j = json_object_get(j, part);
	assert_true(json_is_string(j));
	snprintf(out, sizeof(out), "%s", json_string_value(j));
	json_decref(answer);
	return out;
}

static const char *client_id(const char *name)
{
	char words[64];

	snprintf(words, sizeof(words), "identity show %s", name);
	return ask_ctl(words, "client_id");
}

static void put_file(const char *name, const char *text, mode_t mode, char path[static 128])
{
	FILE *f;

	snprintf(path, 128, "%s/%s", dir, name);
	(void)unlink(path);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static struct azid *identity(const char *spec)
{
	static char tokens[128];
	json_t *conf = azid_conf(spec, &why);
	struct azid *a = NULL;

	if (!conf)
		fail_msg("%s: %s", spec, why.text);
	assert_ok(azid_open(fips, &cloud, conf, false, &a, &why));
	json_decref(conf);
	snprintf(tokens, sizeof(tokens), "%s/arc", dir);
	a->arc_tokens = tokens;
	a->arc_agent = "/nonexistent";
	azid_set_limits(a, 1, 0);
	return a;
}

static enum err ask(struct azid *a)
{
	const struct secret *token = NULL;

	memset(&detail, 0, sizeof(detail));
	memset(&why, 0, sizeof(why));
	azid_forget(a);
	return azid_token(a, cloud.vault_audience, NULL, NULL, &token, &detail, &why);
}

/* A token for the emulator's identity name; then none, with that reason, when the identity is gone. */
static void expect(const char *spec, const char *name, const char *reason)
{
	struct azid *a = identity(spec);
	char words[64], oid[AZURE_GUID], region[64];
	struct azid_info info;

	if (ask(a) != ERR_OK)
		fail_msg("%s: %s", spec, why.text);
	assert_ok(azid_info_get(a, &info));
	snprintf(words, sizeof(words), "identity show %s", name);
	snprintf(oid, sizeof(oid), "%s", ask_ctl(words, "oid"));
	assert_string_equal(info.oid, oid);
	assert_string_equal(detail.oid, oid);
	assert_string_equal(info.appid, client_id(name));
	if (strncmp(spec, "app-service", 11) != 0) {
		assert_ok(azid_region(a, region, &why));
		assert_string_equal(region, "westeurope");
	}
	snprintf(words, sizeof(words), "identity disable %s", name);
	ctl(words);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_string_equal(detail.reason, reason);
	snprintf(words, sizeof(words), "identity enable %s", name);
	ctl(words);
	assert_ok(ask(a));
	snprintf(words, sizeof(words), "identity remove %s", name);
	ctl(words);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	snprintf(words, sizeof(words), "identity restore %s", name);
	ctl(words);
	assert_ok(ask(a));
	azid_close(a);
}

static void managed(void **state)
{
	char spec[128];
	int refused;

	(void)state;
	/* Without a system-assigned identity IMDS would give out the token of the only user-assigned one. */
	ctl("identity unassign user1");
	expect("vm", "vm", "identity: unauthorized_client");
	ctl("identity assign user1");
	snprintf(spec, sizeof(spec), "vm:%s", client_id("user1"));
	expect(spec, "user1", "identity: unauthorized_client");
	ctl("identity unassign user1");
	expect("arc", "vm", "identity: unauthorized_client");
	refused = setenv("IDENTITY_ENDPOINT", ask_ctl("info", "app_service.IDENTITY_ENDPOINT"), 1);
	refused |= setenv("IDENTITY_HEADER", ask_ctl("info", "app_service.IDENTITY_HEADER"), 1);
	assert_int_equal(refused, 0);
	expect("app-service", "vm", "identity: unauthorized_client");
	unsetenv("IDENTITY_ENDPOINT");
	unsetenv("IDENTITY_HEADER");
	ctl("identity assign user1");
}

static void principals(void **state)
{
	char file[128], spec[300], tenant[AZURE_GUID], words[256];
	struct azid *a;

	(void)state;
	snprintf(tenant, sizeof(tenant), "%s", ask_ctl("info", "tenants.T1"));
	put_file("secret", "app1-secret\n", 0600, file);
	snprintf(spec, sizeof(spec), "secret:%s/%s:%s", tenant, client_id("app1"), file);
	expect(spec, "app1", "identity: unauthorized_client");

	snprintf(words, sizeof(words),
		"cd %s && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=app -days 2 -keyout k -out app.crt"
		" 2>/dev/null && (umask 077; cat k app.crt >app.pem)",
		dir);
	assert_int_equal(system(words), 0);
	snprintf(words, sizeof(words), "identity certificate app1 %s/app.crt", dir);
	ctl(words);
	snprintf(spec, sizeof(spec), "certificate:%s/%s:%s/app.pem", tenant, client_id("app1"), dir);
	expect(spec, "app1", "identity: unauthorized_client");

	put_file("federated", ask_ctl("token service-account system:serviceaccount:default:user1", ""), 0644, file);
	setenv("AZURE_FEDERATED_TOKEN_FILE", file, 1);
	setenv("AZURE_TENANT_ID", tenant, 1);
	setenv("AZURE_CLIENT_ID", client_id("user1"), 1);
	expect("workload", "user1", "identity: unauthorized_client");
	/* somebody else's service account */
	put_file("federated", ask_ctl("token service-account system:serviceaccount:default:other", ""), 0644, file);
	a = identity("workload");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_string_equal(detail.reason, "identity: invalid_client");
	azid_close(a);
}

static void wrong_secret(void **state)
{
	char file[128], spec[300];
	struct azid *a;

	(void)state;
	put_file("secret", "wrong", 0600, file);
	snprintf(spec, sizeof(spec), "secret:%s/", ask_ctl("info", "tenants.T1"));
	snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec), "%s:%s", client_id("app1"), file);
	a = identity(spec);
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_string_equal(detail.reason, "identity: invalid_client");
	assert_non_null(strstr(why.text, "AADSTS7000215"));
	ctl("identity secret app1 wrong --expires -1");
	assert_int_equal(ask(a), ERR_KEY_REVOKED);
	assert_non_null(strstr(why.text, "AADSTS7000222"));
	azid_close(a);
}

/* What the emulator can do to a token service. */
static void faults(void **state)
{
	static const struct {
		const char *kind, *reason;
	} table[] = {{"status --status 503", "identity: "}, {"throttle", "identity: "}, {"not-json", "identity: "},
		{"empty", "identity: "}, {"deep-json", "identity: "}, {"garbage", "identity: "},
		{"oversize-body", "identity: answer too large"}, {"oversize-headers", "identity: "},
		{"reset", "identity: "}, {"close", "identity: "}, {"hang", "identity: timeout"},
		{"reset-body", "identity: "}, {"truncated", "identity: "},
		{"redirect --value https://127.0.0.1:1/", "id"}};
	static const char *const targets[] = {"imds", "entra"};

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		char file[128], spec[300] = "vm";
		struct azid *a;

		if (k == 1) {
			put_file("secret", "app1-secret", 0600, file);
			snprintf(spec, sizeof(spec), "secret:%s/", ask_ctl("info", "tenants.T1"));
			snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec), "%s:%s", client_id("app1"), file);
		}
		a = identity(spec);
		for (size_t i = 0; i < COUNT(table); i++) {
			char words[128];
			enum err e;

			snprintf(words, sizeof(words), "fault add %s token %s", targets[k], table[i].kind);
			ctl(words);
			azid_set_limits(a, 1, strcmp(table[i].kind, "hang") == 0 ? 300 : 0);
			e = ask(a);
			if (e != ERR_KEY_UNAVAILABLE ||
				strncmp(detail.reason, table[i].reason, strlen(table[i].reason)) != 0)
				fail_msg("%s %s: %s, %s", targets[k], table[i].kind, err_text(e), detail.reason);
			ctl("fault clear");
		}
		azid_set_limits(a, 1, 0);
		assert_ok(ask(a));
		azid_close(a);
	}
}

static int start(void **state)
{
	const char *tmp = getenv("TMPDIR"), *src = getenv("SRC");
	char path[256], arc[128];
	json_t *j;

	(void)state;
	snprintf(dir, sizeof(dir), "%.40s/azid.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || http_setup(&why) != ERR_OK)
		return -1;
	snprintf(path, sizeof(path), "%.200s/tests/emulator/emulator", src ? src : ".");
	snprintf(arc, sizeof(arc), "%s/arc", dir);
	emulator = fork();
	if (emulator < 0)
		return -1;
	if (emulator == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(path, path, "--dir", dir, "--arc-dir", arc, (char *)NULL);
		_exit(127);
	}
	snprintf(path, sizeof(path), "%s/ready", dir);
	for (int i = 0; i < 6000 && access(path, F_OK) != 0; i++) {
		if (waitpid(emulator, NULL, WNOHANG) != 0)
			return -1;
		usleep(10000);
	}
	snprintf(path, sizeof(path), "%s/cloud.json", dir);
	j = json_load_file(path, 0, NULL);
	if (azure_cloud_parse(j, "emulator", &cloud, &why) != ERR_OK)
		print_error("%s\n", why.text);
	json_decref(j);
	return cloud.authority[0] ? 0 : -1;
}

static int stop(void **state)
{
	char command[128];

	(void)state;
	(void)kill(emulator, SIGTERM);
	while (waitpid(emulator, NULL, 0) < 0 && errno == EINTR)
		;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	static const char *const names[] = {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT",
		"IDENTITY_SERVER_THUMBPRINT", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(managed),
		cmocka_unit_test(principals),
		cmocka_unit_test(faults),
		cmocka_unit_test(wrong_secret),
	};

	for (size_t i = 0; i < COUNT(names); i++)
		unsetenv(names[i]);
	fips = test_start();
	return test_end(fips, cmocka_run_group_tests(tests, start, stop));
}
