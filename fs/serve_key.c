/* SPDX-License-Identifier: Apache-2.0 */
/* serve_key - what a running mount is asked, and the threads that look after its keys; see serve.h. */
#include "fs/keyops.h"
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

static json_t *busy(void)
{
	return json_pack("{s:i, s:s}", "code", EXIT_BUSY, "error",
		"Too many requests wait for the daemon already; try again later.");
}

/* For the key worker, which may take as long as a network does. */
static bool takes_long(const char *name)
{
	return strcmp(name, "unlock") == 0 || keyops_knows(name);
}

/* What can be told from memory is told at once, also while the key worker waits for a network. */
static json_t *answer(void *arg, const struct control_request *r, bool *later)
{
	struct mounted *m = arg;

	if (strcmp(r->name, "status") == 0)
		return report_mount(m);
	if (strcmp(r->name, "metrics") == 0)
		return report_metrics(m);
	if (strcmp(r->name, "revocation_report") == 0)
		return report_revocation(m);
	if (strcmp(r->name, "lock") == 0) {
		*later = warden_lock(m->warden, r);
		return *later ? NULL : busy();
	}
	if (!takes_long(r->name))
		return NULL;
	*later = keywork_post(m->work, r);
	return *later ? NULL : busy();
}

static void heard(void *arg, const struct probe_news *news)
{
	struct mounted *m = arg;

	warden_heard(m->warden, news);
}

static enum err start_threads(struct mounted *m, struct err_why *why)
{
	const struct keywork_handler work = {.run = serve_work, .tick = serve_tick, .arg = m};
	const struct prober_config prober = {.fips = m->fips, .heard = heard, .arg = m};
	enum err e = ERR_OK;

	if (m->cfg->opt->on_state_change)
		e = hook_start(m->cfg->opt->on_state_change, m->volume_hex, m->cfg->mountpoint, &m->hook, why);
	if (e == ERR_OK)
		e = keywork_start(&work, &m->work, why);
	if (e == ERR_OK)
		e = warden_start(m, &m->warden, why);
	if (e == ERR_OK)
		e = prober_start(&prober, &m->prober, why);
	return e;
}

int serve_key_start(struct mounted *m, struct err_why *why)
{
	const struct control_handler control = {.answer = answer, .arg = m};
	struct err_why no_socket = {0};
	enum err e = start_threads(m, why);

	if (e != ERR_OK) {
		serve_key_stop(m);
		return cli_exit_code(e, why);
	}
	serve_show(m);
	prober_set_locked(m->prober, m->closed != GATE_NONE);
	serve_follow_key(m, m->unwrapped);
	if (m->closed != GATE_NONE)
		warden_came_up_locked(m->warden);
	if (control_start(m->volume_hex, &control, &m->control, &no_socket) != ERR_OK)
		cli_say("%s", no_socket.text);
	return EXIT_OK;
}

/* Nobody is freed while another may still call him. */
void serve_key_stop(struct mounted *m)
{
	prober_stop(m->prober);
	keywork_stop(m->work);
	warden_stop(m->warden);
	control_stop(m->control);
	prober_free(m->prober);
	keywork_free(m->work);
	warden_free(m->warden);
	hook_stop(m->hook);
	m->prober = NULL;
	m->work = NULL;
	m->warden = NULL;
	m->control = NULL;
	m->hook = NULL;
}
