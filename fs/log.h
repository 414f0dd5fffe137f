/* SPDX-License-Identifier: Apache-2.0 */
/* log - the only place that prints diagnostics.  Threads: any.  Lines are event=... key=value; never plaintext names,
 * never secrets. */
#pragma once

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO_, LOG_DEBUG_ };

/* To syslog (daemon) or to standard error (foreground). */
void log_to_syslog(void);
void log_set_level(enum log_level max);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
