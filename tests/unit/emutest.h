/* SPDX-License-Identifier: Apache-2.0 */
/* emutest - the Key Vault emulator of tests/emulator for the length of a test program, and its controls. */
#pragma once
#include "keyprov/akv.h"
#include "keyprov/azid.h"
#include "keyprov/http.h"
#include "servertest.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

struct emu {
	char dir[64];
	pid_t pid;
	FILE *to, *from; /* its control socket */
	struct azure_cloud cloud;
};

static struct emu emu;

static inline bool emu_is_ready(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/ready", emu.dir);
	return access(path, F_OK) == 0;
}

static inline int emu_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control.sock", emu.dir);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0)
		return -1;
	emu.to = fdopen(fd, "w");
	emu.from = fdopen(dup(fd), "r");
	return emu.to && emu.from ? 0 : -1;
}

static inline int emu_load_cloud(void)
{
	struct err_why why = {0};
	char path[128];
	json_t *j;
	enum err e;

	snprintf(path, sizeof(path), "%s/cloud.json", emu.dir);
	j = json_load_file(path, 0, NULL);
	e = azure_cloud_parse(j, "emulator", &emu.cloud, &why);
	json_decref(j);
	if (e != ERR_OK)
		print_error("%s\n", why.text);
	return e == ERR_OK ? 0 : -1;
}

/* Also puts the cloud "emulator" where azure_cloud_find looks. */
static inline int emu_start(void **state)
{
	const char *tmp = getenv("TMPDIR"), *src = getenv("SRC");
	const struct timespec nap = {0, 20000000};
	char program[512], config[128], from[128];
	int status;

	(void)state;
	if (http_setup(NULL) != ERR_OK)
		return -1;
	snprintf(emu.dir, sizeof(emu.dir), "%.40s/emu.XXXXXX", tmp ? tmp : "/tmp");
	snprintf(program, sizeof(program), "%.400s/tests/emulator/emulator", src ? src : ".");
	if (!mkdtemp(emu.dir))
		return -1;
	emu.pid = fork();
	if (emu.pid == 0) {
		execl(program, program, "--dir", emu.dir, (char *)NULL);
		_exit(127);
	}
	while (!emu_is_ready()) { /* the program's time limit is the tests' */
		if (emu.pid < 0 || waitpid(emu.pid, &status, WNOHANG) == emu.pid) {
			print_error("%s does not start\n", program);
			return -1;
		}
		nanosleep(&nap, NULL);
	}
	snprintf(config, sizeof(config), "%s/blobcryptfs", emu.dir);
	snprintf(from, sizeof(from), "%s/cloud.json", emu.dir);
	if (mkdir(config, 0755) != 0)
		return -1;
	strcat(config, "/clouds");
	if (mkdir(config, 0755) != 0)
		return -1;
	strcat(config, "/emulator.json");
	setenv("XDG_CONFIG_HOME", emu.dir, 1);
	return link(from, config) != 0 || emu_connect() != 0 || emu_load_cloud() != 0 ? -1 : 0;
}

static inline int emu_stop(void **state)
{
	int status;

	(void)state;
	if (emu.to)
		fclose(emu.to);
	if (emu.from)
		fclose(emu.from);
	if (emu.pid > 0) {
		(void)kill(emu.pid, SIGTERM);
		(void)waitpid(emu.pid, &status, 0);
	}
	(void)nftw(emu.dir, server_rm, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

/* "key disable v1 k1"; words are parted by spaces.  A new reference. */
static inline json_t *emu_ask(const char *words)
{
	json_t *argv = json_array(), *answer, *ok;
	char copy[512], *word, *save = NULL, *line = NULL;
	size_t cap = 0;

	snprintf(copy, sizeof(copy), "%s", words);
	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		json_array_append_new(argv, json_string(word));
	assert_int_equal(json_dumpf(argv, emu.to, JSON_COMPACT), 0);
	json_decref(argv);
	fputc('\n', emu.to);
	fflush(emu.to);
	assert_true(getline(&line, &cap, emu.from) > 0);
	answer = json_loads(line, 0, NULL);
	ok = json_object_get(answer, "ok");
	if (!ok)
		print_error("%s: %s", words, line);
	assert_non_null(ok);
	free(line);
	json_incref(ok);
	json_decref(answer);
	return ok;
}

__attribute__((format(printf, 1, 2))) static inline void emu_do(const char *fmt, ...)
{
	char words[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	json_decref(emu_ask(words));
}

/* A number the emulator tells: "count --target v1". */
__attribute__((format(printf, 1, 2))) static inline long emu_number(const char *fmt, ...)
{
	char words[512];
	va_list ap;
	json_t *j;
	long n;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	j = emu_ask(words);
	assert_true(json_is_integer(j));
	n = (long)json_integer_value(j);
	json_decref(j);
	return n;
}

/* A text member of what the emulator tells. */
static inline void emu_text(const char *words, const char *member, char *out, size_t cap)
{
	json_t *j = emu_ask(words);
	const char *text = json_string_value(json_object_get(j, member));

	assert_non_null(text);
	snprintf(out, cap, "%s", text);
	json_decref(j);
}
