/* SPDX-License-Identifier: Apache-2.0 */
/*
 * servertest - a server in a scratch directory for the length of a test program.
 *
 * The server is a script of tests/lib; it gets the directory as its argument, prints one line of JSON when it is ready,
 * and ends when its standard input does: it can't outlive us.
 */
#pragma once
#include "testlib.h"
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
	char dir[64];
	pid_t pid;
	FILE *to, *from;
	json_t *ready;
};

static inline int server_rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* A file of dir in one of a few static buffers. */
static inline const char *server_path(const struct server *s, const char *name)
{
	static char buf[4][128];
	static unsigned i;
	char *p = buf[i++ % 4];

	snprintf(p, sizeof(buf[0]), "%s/%s", s->dir, name);
	return p;
}

static inline json_t *server_line(struct server *s)
{
	char *line = NULL;
	size_t cap = 0;
	json_t *j = NULL;

	if (getline(&line, &cap, s->from) > 0)
		j = json_loads(line, 0, NULL);
	free(line);
	return j;
}

static inline int server_start(struct server *s, const char *script)
{
	const char *tmp = getenv("TMPDIR"), *src = getenv("SRC");
	char path[512];
	int in[2], out[2];

	memset(s, 0, sizeof(*s));
	snprintf(s->dir, sizeof(s->dir), "%.40s/server.XXXXXX", tmp ? tmp : "/tmp");
	snprintf(path, sizeof(path), "%.400s/tests/lib/%s", src ? src : ".", script);
	if (!mkdtemp(s->dir) || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return -1;
	s->pid = fork();
	if (s->pid < 0)
		return -1;
	if (s->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl(path, path, s->dir, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s->to = fdopen(in[1], "w");
	s->from = fdopen(out[0], "r");
	s->ready = server_line(s);
	if (!s->ready)
		print_error("%s did not start\n", path);
	return s->ready ? 0 : -1;
}

static inline int server_stop(struct server *s)
{
	int status = 0;

	if (s->to)
		fclose(s->to);
	if (s->from)
		fclose(s->from);
	if (s->pid > 0)
		(void)waitpid(s->pid, &status, 0);
	json_decref(s->ready);
	s->ready = NULL;
	(void)nftw(s->dir, server_rm, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static inline int server_port(const struct server *s, const char *name)
{
	int port = (int)json_integer_value(json_object_get(s->ready, name));

	assert_true(port > 0);
	return port;
}
