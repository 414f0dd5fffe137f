/* SPDX-License-Identifier: Apache-2.0 */
/* serve - see serve.h.  Attaching to the kernel is in serve_mount.c. */
#include "fs/serve.h"

#include "crypto/secret.h"
#include "fs/audit.h"
#include "fs/log.h"
#include "fs/mounts.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMER_DAEMON_SECONDS 15 /* what a daemon may need to finish after its unmount */
#define FORMER_DAEMON_STEP_MS 50

/* A volume just unmounted is locked until its daemon has synced: wait for that, but not for a real mount. */
static enum err lock_volume(struct mounted *m, struct err_why *why)
{
	const struct timespec step = {0, FORMER_DAEMON_STEP_MS * 1000000L};
	struct lock_holder *holder = calloc(1, sizeof(*holder));
	enum err e = ERR_NOMEM;

	if (!holder)
		return err_set(why, ERR_NOMEM, ENOMEM, "There is not enough memory to lock the volume.");
	for (int left = FORMER_DAEMON_SECONDS * 1000 / FORMER_DAEMON_STEP_MS; left >= 0; left--) {
		struct mount_info at = {0};

		memset(holder, 0, sizeof(*holder));
		e = volume_lock(m->volume, m->cfg->mountpoint, holder, why);
		if (e != ERR_EXISTS)
			break;
		/* No mount point: "key rotate", which does not take long. */
		if (holder->mountpoint[0] == '/' && mounts_at(holder->mountpoint, &at) != ERR_NOT_FOUND) {
			mount_info_clear(&at);
			break;
		}
		nanosleep(&step, NULL);
	}
	free(holder);
	return e;
}

/* Comes up locked if the user wants that, and the customer's key is the reason. */
static int wait_for_key(struct mounted *m, enum err e, struct err_why *why)
{
	if (!m->cfg->opt->wait_key || !volume_has_customer(m->volume) ||
		(e != ERR_KEY_REVOKED && e != ERR_KEY_UNAVAILABLE))
		return cli_exit_code_key(e, why);
	if (volkeys_new_empty(m->fips, m->volume->suite, m->volume->id, &m->vk) != ERR_OK)
		return cli_why(why, EXIT_MEMORY, "There is not enough memory to wait for the customer's key.");
	m->closed = e == ERR_KEY_REVOKED ? GATE_REVOKED : GATE_WAITING;
	cli_say("%s", why->text);
	cli_say("%s is mounted locked, and opens when its key can be had (wait_key).", m->cfg->mountpoint);
	return EXIT_OK;
}

static int unlock_volume(struct mounted *m, struct err_why *why)
{
	enum err e;

	if (m->cfg->opt->managed_key) {
		m->key_override = managed_conf(m->cfg->opt->managed_key, why);
		if (!m->key_override)
			return EXIT_USAGE;
	}
	m->unwrapped = boottime_ns();
	e = volume_unlock(m->volume, m->fips, m->key_override, &m->vk, why);
	if (e != ERR_OK) {
		m->unwrapped = 0;
		return wait_for_key(m, e, why);
	}
	audit_keyed(m->vk);
	if (!m->read_only && volume_rotation_due(m->volume, time(NULL))) {
		struct err_why failed = {0};

		e = volume_rekey(m->volume, m->fips, m->key_override, NULL, &failed);
		if (e == ERR_OK)
			audit_key_event("key_rotated", "by age, at mount", NULL);
		else
			cli_say("The managed key is due for rotation, which failed (%s); going on with the old one.",
				failed.text[0] ? failed.text : err_text(e));
	}
	return EXIT_OK;
}

int serve_begin(struct mounted *m, struct err_why *why)
{
	struct session *session = NULL;
	enum err e;

	audit_keyed(m->vk);
	if (m->cfg->opt->reset_state && !m->read_only) {
		e = session_reset(m->volume, m->vk, why);
		if (e != ERR_OK)
			return cli_exit_code(e, why);
		audit_key_event("state_reset", "session state made anew on the user's word (-o reset_state)", NULL);
	}
	e = session_begin(m->volume, m->vk, m->read_only, &session, why);
	if (e != ERR_OK)
		return cli_exit_code(e, why);
	pthread_mutex_lock(&m->shown_lock);
	m->session = session;
	pthread_mutex_unlock(&m->shown_lock);
	return EXIT_OK;
}

/* From the descriptor to a begun session. */
static int open_volume(struct mounted *m, struct err_why *why)
{
	int code = cli_crypto(&m->cfg->cli, &m->fips, why);
	enum err e;

	if (code != EXIT_OK)
		return code;
	e = volume_open(m->cfg->dir, &m->volume, why);
	if (e != ERR_OK)
		return cli_exit_code(e, why);
	cli_hex(m->volume->id, ID_BYTES, m->volume_hex);
	e = lock_volume(m, why);
	if (e != ERR_OK)
		return cli_exit_code(e, why);
	audit_open(m->fips, m->volume->id, m->cfg->opt->audit_dir);
	code = unlock_volume(m, why);
	if (code != EXIT_OK) {
		audit_key_event("mount_refused",
			code == EXIT_KEY_REVOKED       ? "revoked"
			: code == EXIT_KEY_UNAVAILABLE ? "unavailable"
			: code == EXIT_KEY_DENIED      ? "denied"
						       : "the volume can't be unlocked",
			volume_detail(m->volume));
		return code;
	}
	return m->unwrapped ? serve_begin(m, why) : EXIT_OK;
}

static void ready(void *arg)
{
	struct mounted *m = arg;

	sem_post(&m->ready);
}

static int make_fsys(struct mounted *m, struct err_why *why)
{
	const struct mount_options *o = m->cfg->opt;
	const struct fsys_params p = {
		.volume = m->volume,
		.vk = m->vk,
		.session = m->session,
		.opt =
			{
				.read_only = m->read_only,
				.direct_io = o->direct_io,
				.kernel_checks = options_checked_by_kernel(o, geteuid() == 0),
				.has_uid = o->has_uid,
				.has_gid = o->has_gid,
				.has_umask = o->has_umask,
				.uid = o->uid,
				.gid = o->gid,
				.umask = o->umask,
				.attr_timeout = o->attr_timeout,
				.entry_timeout = o->entry_timeout,
				.negative_timeout = o->negative_timeout,
			},
		.ready = ready,
		.ready_arg = m,
	};
	enum err e = fsys_new(&p, &m->fs, why);

	if (e != ERR_OK)
		return cli_exit_code(e, why);
	if (m->closed != GATE_NONE)
		gate_start_locked(m->fs, m->closed);
	return EXIT_OK;
}

/*
 * Syncs and ends the session; was_up: data may have been written.  Unmounted while locked, there is no key to end the
 * session with: everything acknowledged is on disk, and the next mount looks at the files as after a crash.
 */
static int end_session(struct mounted *m, bool was_up, struct err_why *why)
{
	int failed = was_up && !m->read_only ? fsys_sync(m->fs) : 0;
	enum gate_reason reason;
	bool locked = gate_state(m->fs, &reason, NULL) == GATE_LOCKED, sound = fsys_free(m->fs);
	enum err e = ERR_OK;

	m->fs = NULL;
	if (m->read_only || !m->session)
		return EXIT_OK;
	if (failed || (!sound && !locked)) {
		audit_key_event("session_left_open", "not everything could be brought to disk", NULL);
		return cli_why(why, EXIT_BACKING,
			"Not everything could be brought to disk below %s%s%s; the next mount "
			"takes this session as unclean.",
			m->cfg->dir, failed ? ": " : "", failed ? strerror(failed) : "");
	}
	if (locked) {
		audit_key_event("session_left_open", "unmounted while locked", NULL);
		return EXIT_OK;
	}
	e = session_end(m->volume, m->vk, m->session, why);
	return e == ERR_OK ? EXIT_OK : cli_exit_code(e, why);
}

/* On the recovery thread.  The key worker writes the descriptor, never the state. */
static bool recovered(void *arg)
{
	struct mounted *m = arg;
	struct err_why why = {0};

	if (session_resolve(m->volume, m->vk, m->session, &why) == ERR_OK)
		return true;
	log_line(LOG_WARN, "event=recovery_not_recorded why=\"%s\"", why.text);
	return false;
}

void serve_recover(struct mounted *m)
{
	fsys_recover_stop(m->fs); /* the last one may have met a lock */
	if (fsys_recover_start(m->fs, recovered, m) != 0)
		log_line(LOG_WARN, "event=recovery_not_started");
}

static int mount_and_loop(struct mounted *m, struct err_why *why)
{
	int code = make_fsys(m, why), ended;
	struct err_why at_end = {0};

	if (code == EXIT_OK) {
		code = serve_attach(m, why);
		if (code == EXIT_OK)
			code = serve_key_start(m, why);
		if (code == EXIT_OK) {
			if (m->session && fsys_recover_start(m->fs, recovered, m) != 0)
				log_line(LOG_WARN, "event=recovery_not_started");
			code = serve_loop(m, why);
			serve_key_stop(m); /* before the other, which it may start */
			fsys_recover_stop(m->fs);
		}
		serve_detach(m);
		if (atomic_load(&m->is_up))
			audit_key_event("unmount", m->read_only ? "read-only" : "read-write", NULL);
	}
	if (m->fs) {
		ended = end_session(m, atomic_load(&m->is_up), &at_end);
		if (code != EXIT_OK || ended == EXIT_OK)
			return code;
		*why = at_end;
		return ended;
	}
	if (!m->read_only && m->session && session_end(m->volume, m->vk, m->session, NULL) != ERR_OK)
		log_line(LOG_WARN, "event=session_left_open");
	return code;
}

/* What holds for the whole process from here on. */
static void prepare_process(void)
{
	struct rlimit files;
	sigset_t handled;

	umask(0); /* the kernel has applied the caller's */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max; /* directories are kept open */
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	/* Taken by the signal thread of serve_mount.c; until it runs they wait. */
	sigemptyset(&handled);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &handled, NULL);
}

int serve(const struct serve_config *cfg, struct err_why *why)
{
	struct mounted *m = calloc(1, sizeof(*m));
	int code;

	if (!m)
		return cli_why(why, EXIT_MEMORY, "There is not enough memory to mount.");
	m->cfg = cfg;
	m->read_only = cfg->opt->flags_on & MS_RDONLY;
	m->uring_asked = uring_wanted(cfg->opt->uring, &m->uring_reason);
	m->started = time(NULL);
	m->max_threads = serve_threads(cfg->opt);
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	sem_init(&m->ready, 0, 0);
	pthread_mutex_init(&m->shown_lock, NULL);
	code = m->stop_fd < 0 ? cli_why(why, EXIT_INTERNAL, "No event descriptor: %s.", strerror(errno)) : EXIT_OK;
	if (code == EXIT_OK)
		code = open_volume(m, why);
	if (code == EXIT_OK) {
		prepare_process();
		audit_start();
		code = mount_and_loop(m, why);
	}
	session_free(m->session);
	volkeys_free(m->vk);
	volume_close(m->volume);
	json_decref(m->key_override);
	audit_close();
	fips_close(m->fips);
	json_decref(m->shown);
	pthread_mutex_destroy(&m->shown_lock);
	sem_destroy(&m->ready);
	if (m->stop_fd >= 0)
		close(m->stop_fd);
	free(m);
	return code;
}
