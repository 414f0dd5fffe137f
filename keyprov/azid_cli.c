/* SPDX-License-Identifier: Apache-2.0 */
/*
 * azid_cli - the token of whoever is logged in with the Azure CLI; for a person at the command line only.
 *
 * The program runs in / with an environment of a few chosen variables, no descriptors of ours, no input, and its
 * messages go nowhere: they could hold a token.
 */
#include "keyprov/azid_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLI_MS	   10000
#define OUTPUT_MAX 65536u
#define ARGS	   12
#define VARS	   24

/* Whatever else is set, secrets perhaps, is none of its business. */
static const char *const kept[] = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "AZURE_CONFIG_DIR",
	"AZURE_EXTENSION_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"};
#define KEPT (sizeof(kept) / sizeof(kept[0]))
_Static_assert(KEPT < VARS, "room for the variables");

/* "NAME=value" for each that is set; the caller frees them */
static bool environment(char *out[static VARS])
{
	size_t n = 0;

	for (size_t i = 0; i < KEPT; i++) {
		const char *v = secure_getenv(kept[i]);

		if (v && asprintf(&out[n], "%s=%s", kept[i], v) < 0) {
			out[n] = NULL;
			return false;
		}
		n += v != NULL;
	}
	out[n] = NULL;
	return true;
}

static int spawn(const char *program, const char *const *args, char *const *env, int out, pid_t *pid)
{
	posix_spawn_file_actions_t act;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	if (posix_spawn_file_actions_init(&act) != 0)
		return ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&act);
		return ENOMEM;
	}
	/* A process group of its own: what it starts can be ended with it. */
	r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = r ? r : posix_spawnattr_setpgroup(&attr, 0);
	r = r ? r : posix_spawnattr_setsigmask(&attr, &none);
	r = r ? r : posix_spawnattr_setsigdefault(&attr, &all);
	r = r ? r : posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&act, out, 1);
	r = r ? r : posix_spawn_file_actions_addopen(&act, 2, "/dev/null", O_WRONLY, 0);
	r = r ? r : posix_spawn_file_actions_addclosefrom_np(&act, 3);
	r = r ? r : posix_spawn_file_actions_addchdir_np(&act, "/");
	r = r ? r : posix_spawnp(pid, program, &act, &attr, (char *const *)(uintptr_t)args, env);
	posix_spawn_file_actions_destroy(&act);
	posix_spawnattr_destroy(&attr);
	return r;
}

/* Reads to the end; false at the deadline, on abort, and if there is too much. */
static bool collect(struct azid *a, int fd, char *buf, size_t cap, size_t *len, int64_t end)
{
	*len = 0;
	for (;;) {
		struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = a->stop, .events = POLLIN}};
		int64_t left = end - a->now();
		ssize_t n;

		if (left <= 0 || *len == cap)
			return false;
		if (poll(p, 2, (int)left) < 0 && errno != EINTR)
			return false;
		if (p[1].revents)
			return false;
		if (!p[0].revents)
			continue;
		n = read(fd, buf + *len, cap - *len);
		if (n == 0)
			return true;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		*len += n > 0 ? (size_t)n : 0;
	}
}

/* Its output is complete, so it is about to end; if not, it is ended.  The exit code, or -1. */
static int reap(struct azid *a, pid_t pid, bool done, int64_t end)
{
	int status = 0;

	while (done && a->now() < end) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		if (got < 0 && errno != EINTR)
			return 0; /* somebody ignores SIGCHLD: the output has to speak for itself */
		(void)poll(&(struct pollfd){.fd = a->stop, .events = 0}, 1, 10);
	}
	(void)kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return -1;
}

/* out: OUTPUT_MAX bytes of locked memory */
static enum err run(struct azid *a, const char *const *args, char *out, size_t *len, struct err_why *why)
{
	int64_t end = a->now() + CLI_MS;
	char *env[VARS] = {NULL};
	int fd[2], r, code;
	pid_t pid = -1;
	bool done;

	if (end > a->deadline)
		end = a->deadline;
	if (pipe2(fd, O_CLOEXEC) != 0)
		return err_set(why, ERR_IO, errno, "can't make a pipe: %s", strerror(errno));
	r = environment(env) ? spawn(a->cli, args, env, fd[1], &pid) : ENOMEM;
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	close(fd[1]);
	if (r != 0) {
		close(fd[0]);
		return err_set(why, ERR_CONFIG, r,
			"the Azure CLI (az) can't be started: %s; install it, or choose another identity", strerror(r));
	}
	done = collect(a, fd[0], out, OUTPUT_MAX, len, end);
	close(fd[0]);
	code = reap(a, pid, done, end);
	if (!done)
		return err_set(why, ERR_KEY_UNAVAILABLE, 0, "no token: the Azure CLI did not answer in time");
	if (code != 0)
		return err_set(why, ERR_CONFIG, 0,
			"the Azure CLI gave no token (exit code %d); see what \"az account get-access-token\" says, and"
			" run \"az login\"",
			code);
	return ERR_OK;
}

enum err azid_cli(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct err_why *why)
{
	const char *args[ARGS] = {"az", "account", "get-access-token", "--output", "json", "--resource", w->audience};
	char *buf = locked_alloc(OUTPUT_MAX);
	struct err_why what = {0};
	size_t len = 0;
	enum err e;

	if (!buf)
		return err_set(why, ERR_NOMEM, 0, "out of locked memory");
	if (w->tenant && w->tenant[0]) {
		args[7] = "--tenant";
		args[8] = w->tenant;
	}
	e = run(a, args, buf, &len, why);
	if (e != ERR_OK) {
		azid_reason(w->detail, 0, "identity: azure cli");
	} else if (azid_answer_parse(buf, len, "accessToken", a->wall(), out, &what) != ERR_OK) {
		azid_reason(w->detail, 0, "identity: broken answer");
		e = err_set(why, ERR_CONFIG, 0, "no token from the Azure CLI: %s; version 2.54 or newer is needed",
			what.text);
	}
	locked_free(buf);
	return e;
}
