/* SPDX-License-Identifier: Apache-2.0 */
/* serve_key - what a running mount is asked, and what its key worker does; see serve.h. */
#include "fs/audit.h"
#include "fs/keyops.h"
#include "fs/log.h"
#include "fs/report.h"
#include "fs/serve.h"
#include <string.h>

void serve_show(struct mounted *m)
{
	json_t *now = report_volume(m->volume, m->cfg->dir), *old;

	if (!now)
		return; /* without memory the last one has to do */
	pthread_mutex_lock(&m->shown_lock);
	old = m->shown;
	m->shown = now;
	pthread_mutex_unlock(&m->shown_lock);
	json_decref(old);
}

static json_t *run(void *arg, const char *name, const json_t *args)
{
	struct mounted *m = arg;
	const struct keyops k = {
		.v = m->volume, .fips = m->fips, .now = m->key_override, .read_only = m->read_only, .mounted = true};
	json_t *answer = keyops_run(&k, name, args);

	serve_show(m);
	return answer;
}

/* A mount may last longer than a key. */
static void tick(void *arg)
{
	struct mounted *m = arg;
	struct err_why why = {0};

	if (m->read_only || !volume_rotation_due(m->volume, time(NULL)))
		return;
	if (volume_rekey(m->volume, m->fips, m->key_override, NULL, &why) == ERR_OK)
		audit_event("key_rotated", "by age", 0, UINT64_MAX);
	else
		log_line(LOG_WARN, "event=rotation_failed why=\"%s\"", why.text);
	serve_show(m);
}

/* What can be told from memory is told at once, also while the key worker waits for a network. */
static json_t *answer(void *arg, const struct control_request *r, bool *later)
{
	struct mounted *m = arg;

	if (strcmp(r->name, "status") == 0)
		return report_mount(m);
	if (!keyops_knows(r->name))
		return NULL;
	*later = keywork_post(m->work, r);
	if (*later)
		return NULL;
	return json_pack("{s:i, s:s}", "code", EXIT_BUSY, "error",
		"Too many requests wait for the daemon already; try again later.");
}

int serve_key_start(struct mounted *m, struct err_why *why)
{
	const struct keywork_handler work = {.run = run, .tick = tick, .arg = m};
	const struct control_handler control = {.answer = answer, .arg = m};
	struct err_why no_socket = {0};

	serve_show(m);
	if (keywork_start(&work, &m->work, why) != ERR_OK)
		return EXIT_MEMORY;
	if (control_start(m->volume_hex, &control, &m->control, &no_socket) != ERR_OK)
		cli_say("%s", no_socket.text);
	return EXIT_OK;
}

void serve_key_stop(struct mounted *m)
{
	keywork_stop(m->work);
	control_stop(m->control);
	keywork_free(m->work);
	m->work = NULL;
	m->control = NULL;
}
