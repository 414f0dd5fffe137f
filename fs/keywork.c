/* SPDX-License-Identifier: Apache-2.0 */
/* keywork - see keywork.h. */
#include "fs/keywork.h"

#include "fs/cli.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#define WAITING_MAX  16u
#define TICK_SECONDS 3600

struct job {
	struct job *next;
	char *name;
	json_t *args;
	struct control *control; /* NULL: nobody waits for an answer */
	uint64_t ticket;
};

struct keywork {
	struct keywork_handler handler;
	pthread_t thread;
	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t cond;
	struct job *jobs; /* in order of arrival */
	unsigned waiting;
	bool stop;
};

static void job_free(struct job *j)
{
	free(j->name);
	json_decref(j->args);
	free(j);
}

/* The next one, NULL for the tick or the end; the lock is held. */
static struct job *next_job(struct keywork *w, const struct timespec *tick)
{
	struct job *j;

	while (!w->jobs && !w->stop)
		if (pthread_cond_timedwait(&w->cond, &w->lock, tick) == ETIMEDOUT)
			break;
	j = w->stop ? NULL : w->jobs;
	if (j) {
		LL_DELETE(w->jobs, j);
		w->waiting--;
	}
	return j;
}

static void run(struct keywork *w, struct job *j)
{
	json_t *answer = w->handler.run(w->handler.arg, j->name, j->args);

	if (j->control)
		control_reply(j->control, j->ticket, answer);
	else
		json_decref(answer);
	job_free(j);
}

static void tick_at(struct timespec *out)
{
	clock_gettime(CLOCK_MONOTONIC, out);
	out->tv_sec += TICK_SECONDS;
}

static void *worker(void *arg)
{
	struct keywork *w = arg;
	struct timespec tick;
	struct job *j;
	bool stop;

	tick_at(&tick);
	for (;;) {
		pthread_mutex_lock(&w->lock);
		j = next_job(w, &tick);
		stop = w->stop;
		pthread_mutex_unlock(&w->lock);
		if (stop)
			return NULL;
		if (j) {
			run(w, j);
			continue;
		}
		w->handler.tick(w->handler.arg);
		tick_at(&tick);
	}
}

static void append(struct keywork *w, struct job *j)
{
	LL_APPEND(w->jobs, j);
	w->waiting++;
	pthread_cond_signal(&w->cond);
}

bool keywork_post(struct keywork *w, const struct control_request *r)
{
	struct job *j = calloc(1, sizeof(*j));
	bool room;

	if (!j)
		return false;
	j->name = strdup(r->name);
	j->args = json_deep_copy(r->args);
	j->control = r->control;
	j->ticket = r->ticket;
	pthread_mutex_lock(&w->lock);
	room = j->name && j->args && w->waiting < WAITING_MAX && !w->stop;
	if (room)
		append(w, j);
	pthread_mutex_unlock(&w->lock);
	if (!room)
		job_free(j);
	return room;
}

void keywork_kick(struct keywork *w, const char *name)
{
	struct job *j = calloc(1, sizeof(*j)), *k = NULL;

	if (j)
		j->name = strdup(name);
	if (!j || !j->name) {
		free(j);
		return; /* whoever needs it asks again */
	}
	pthread_mutex_lock(&w->lock);
	LL_FOREACH(w->jobs, k)
	{
		if (!k->control && strcmp(k->name, name) == 0)
			break;
	}
	if (!k && !w->stop) {
		append(w, j);
		j = NULL;
	}
	pthread_mutex_unlock(&w->lock);
	if (j)
		job_free(j);
}

enum err keywork_start(const struct keywork_handler *h, struct keywork **out, struct err_why *why)
{
	struct keywork *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;

	if (!w)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory for the key worker.");
	w->handler = *h;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->cond, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&w->thread, NULL, worker, w) != 0) {
		pthread_cond_destroy(&w->cond);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return err_set(why, ERR_NOMEM, EAGAIN, "No thread could be started.");
	}
	*out = w;
	return ERR_OK;
}

void keywork_stop(struct keywork *w)
{
	struct job *j = NULL, *next;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	/* keywork_post refuses from here on, so nothing is added */
	LL_FOREACH_SAFE(w->jobs, j, next)
	{
		if (j->control)
			control_reply(j->control, j->ticket,
				json_pack("{s:i, s:s}", "code", EXIT_NOT_MOUNTED, "error",
					"The volume is being unmounted."));
		job_free(j);
	}
	w->jobs = NULL;
}

void keywork_free(struct keywork *w)
{
	if (!w)
		return;
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
