/* SPDX-License-Identifier: Apache-2.0 */
/* keyops_audit - the answer of "audit verify", by the command or by the key worker; see keyops.h. */
#include "fs/audit.h"
#include "fs/cli.h"
#include "fs/keyops.h"
#include "fs/report.h"

static int code_of(const struct auditlog_verdict *v)
{
	if (!v->sound)
		return EXIT_DAMAGED;
	return v->seals_checked ? EXIT_OK : EXIT_NOT_SEALED;
}

json_t *keyops_audit(struct volkeys *vk)
{
	struct auditlog_verdict v;
	struct err_why why = {0};
	enum err e = audit_verify_open(vk, &v, &why);
	json_t *o;

	if (e == ERR_NOT_FOUND)
		return keyops_refuse(EXIT_NO_AUDIT_LOG, why.text);
	if (e != ERR_OK)
		return keyops_refuse(cli_exit_code(e, &why), why.text);
	o = json_pack("{s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "code", code_of(&v), "sound", v.sound,
		"seals_checked", v.seals_checked, "lines", (json_int_t)v.lines, "unsealed_end",
		(json_int_t)v.unsealed_end, "torn_end", (json_int_t)v.torn_end, "first_seq", (json_int_t)v.first_seq,
		"last_seq", (json_int_t)v.last_seq);
	if (o && !v.sound) {
		json_object_set_new(o, "file", report_text(v.file));
		json_object_set_new(o, "line", json_integer((json_int_t)v.line));
		json_object_set_new(o, "what", report_text(v.what));
	}
	return o;
}

json_t *keyops_audit_here(const struct keyops *k)
{
	struct err_why why = {0};
	struct volkeys *vk = NULL;
	enum err e = volume_unlock(k->v, k->fips, k->now, &vk, &why);
	json_t *o = keyops_audit(vk);

	volkeys_free(vk);
	if (o && e != ERR_OK)
		json_object_set_new(o, "no_keys", report_text(why.text[0] ? why.text : err_text(e)));
	return o;
}
