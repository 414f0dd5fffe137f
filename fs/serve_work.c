/* SPDX-License-Identifier: Apache-2.0 */
/* serve_work - what the key worker does for a running mount: the only one who touches the volume's keys; see serve.h.
 */
#include "fs/audit.h"
#include "fs/keyops.h"
#include "fs/log.h"
#include "fs/report.h"
#include "fs/serve.h"
#include <string.h>

void serve_follow_key(struct mounted *m, uint64_t began)
{
	struct keeper k;
	struct err_why why = {0};
	enum err e = volume_keeper_open(m->volume, m->fips, &k, &why);

	if (e == ERR_OK) {
		prober_set(m->prober, &k, began);
		warden_key_changed(m->warden, began ? prober_confirmed(m->prober, began) : 0);
		return;
	}
	if (e != ERR_NOT_FOUND)
		log_line(LOG_ERROR, "event=no_prober why=\"%s\"", why.text);
	prober_set(m->prober, NULL, 0);
	warden_key_changed(m->warden, 0);
}

static json_t *answer_error(int code, const char *text)
{
	return json_pack("{s:i, s:o}", "code", code, "error", report_text(text));
}

/* ---- opening ---- */

/* Keys are loaded; what has to be there before the first request is let in. */
static int begin_if_first(struct mounted *m, struct err_why *why)
{
	int code;

	if (m->session)
		return EXIT_OK;
	code = serve_begin(m, why);
	if (code == EXIT_OK)
		fsys_begin(m->fs, m->session);
	return code;
}

/* The keys from their keepers, then the gate.  EXIT_OK, or a code with why; *e is the error of the keepers. */
static int open_gate(struct mounted *m, uint64_t ticket, enum err *e, struct err_why *why)
{
	uint64_t began = boottime_ns();
	int code;

	*e = volume_reload(m->volume, m->fips, m->key_override, m->vk, why);
	if (*e != ERR_OK)
		return cli_exit_code_key(*e, why);
	code = begin_if_first(m, why);
	if (code == EXIT_OK && !warden_open(m->warden, ticket, began))
		code = cli_why(why, EXIT_KEY_UNAVAILABLE, "The volume was locked once more while it was being opened.");
	if (code != EXIT_OK) {
		volkeys_wipe(m->vk);
		return code;
	}
	serve_recover(m);
	return EXIT_OK;
}

/* The keeper says yes again. */
static void reopen(struct mounted *m)
{
	struct err_why why = {0};
	enum gate_reason reason;
	uint64_t ticket = warden_ticket(m->warden, false);
	enum err e;
	int code;

	if (warden_is_open(m->warden, &reason) || !ticket)
		return;
	code = open_gate(m, ticket, &e, &why);
	if (code == EXIT_OK)
		return;
	log_line(LOG_WARN, "event=not_opened code=%d why=\"%s\"", code, why.text[0] ? why.text : err_text(e));
	prober_stumbled(m->prober);
}

static json_t *unlock(struct mounted *m)
{
	struct err_why why = {0};
	enum gate_reason reason;
	uint64_t ticket = warden_ticket(m->warden, true);
	enum err e = ERR_OK;
	int code;

	code = warden_is_open(m->warden, &reason) ? EXIT_OK : open_gate(m, ticket, &e, &why);
	if (code == EXIT_OK)
		return json_pack("{s:i, s:s, s:o}", "code", EXIT_OK, "mountpoint", m->cfg->mountpoint, "access",
			warden_report(m->warden));
	if (!why.text[0])
		cli_why(&why, code, "The volume can't be opened: %s.", err_text(e));
	if (e == ERR_KEY_REVOKED || (e == ERR_KEY_UNAVAILABLE && volume_has_customer(m->volume)))
		warden_not_opened(m->warden, e, volume_detail(m->volume), why.text);
	return json_pack(
		"{s:i, s:o, s:s}", "code", code, "error", report_text(why.text), "mountpoint", m->cfg->mountpoint);
}

/* ---- keys ---- */

static struct keyops ops_of(struct mounted *m, const char *cause)
{
	return (struct keyops){
		.v = m->volume,
		.fips = m->fips,
		.now = m->key_override,
		.cause = cause,
		.read_only = m->read_only,
		.mounted = true,
	};
}

static bool changes_keys(const char *name)
{
	return strcmp(name, "key_set") == 0 || strcmp(name, "key_rotate") == 0 || strcmp(name, "key_off") == 0;
}

static json_t *refuse_locked(enum gate_reason reason)
{
	return answer_error(reason == GATE_REVOKED ? EXIT_KEY_REVOKED : EXIT_KEY_UNAVAILABLE,
		reason == GATE_REVOKED
			? "The customer's key is revoked, so the volume is locked and its key can't be changed."
		: reason == GATE_MANUAL
			? "The volume is locked by hand, so its key can't be changed; \"blobcryptfs unlock\" opens it."
			: "The customer's key can't be had, so the volume is locked and its key can't be changed.");
}

static json_t *key_request(struct mounted *m, const char *name, const json_t *args)
{
	const struct keyops k = ops_of(m, NULL);
	uint64_t began = boottime_ns();
	enum gate_reason reason;
	json_t *answer;

	if (changes_keys(name) && !warden_is_open(m->warden, &reason))
		return refuse_locked(reason);
	answer = keyops_run(&k, name, args);
	if (json_is_true(json_object_get(answer, "changed")))
		serve_follow_key(m, began);
	else if (strcmp(name, "key_verify") == 0)
		prober_now(m->prober); /* so that the state follows what was just found */
	return answer;
}

static json_t *verify_audit(struct mounted *m)
{
	enum gate_reason reason;

	return keyops_audit(warden_is_open(m->warden, &reason) ? m->vk : NULL);
}

json_t *serve_work(void *arg, const char *name, const json_t *args)
{
	struct mounted *m = arg;
	json_t *answer = NULL;

	if (strcmp(name, "reopen") == 0)
		reopen(m);
	else if (strcmp(name, "unlock") == 0)
		answer = unlock(m);
	else if (strcmp(name, "audit_verify") == 0)
		answer = verify_audit(m);
	else
		answer = key_request(m, name, args);
	serve_show(m);
	return answer;
}

/* ---- once an hour ---- */

static void rotate_by_itself(struct mounted *m, bool managed, const char *cause)
{
	const struct keyops k = ops_of(m, cause);
	uint64_t began = boottime_ns();
	json_t *answer = keyops_rotate(&k, managed, false);

	if (json_is_true(json_object_get(answer, "changed")))
		serve_follow_key(m, began);
	else if (json_integer_value(json_object_get(answer, "code")) != EXIT_OK)
		log_line(LOG_WARN, "event=rotation_failed cause=\"%s\" why=\"%s\"", cause,
			json_string_value(json_object_get(answer, "error")));
	json_decref(answer);
}

/* A mount may last longer than a key. */
void serve_tick(void *arg)
{
	struct mounted *m = arg;
	enum gate_reason reason;

	if (m->read_only || !warden_is_open(m->warden, &reason))
		return;
	if (volume_rotation_due(m->volume, time(NULL)))
		rotate_by_itself(m, true, "by age");
	if (volume_has_customer(m->volume) && report_follows_versions(volume_customer_conf(m->volume)))
		rotate_by_itself(m, false, "newer version found");
	serve_show(m);
}
