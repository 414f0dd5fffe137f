/* SPDX-License-Identifier: Apache-2.0 */
/* log - see log.h.  The only module but main.c with state of its own: where lines go. */
#include "fs/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_CAP 1024

static atomic_bool to_syslog;
static atomic_int level_max = LOG_INFO_;

void log_to_syslog(void)
{
	openlog("blobcryptfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	atomic_store(&to_syslog, true);
}

void log_set_level(enum log_level max)
{
	atomic_store(&level_max, (int)max);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = {
		[LOG_ERROR] = LOG_ERR,
		[LOG_WARN] = LOG_WARNING,
		[LOG_INFO_] = LOG_INFO,
		[LOG_DEBUG_] = LOG_DEBUG,
	};
	static const char prefix[] = "blobcryptfs: ";
	char line[LINE_CAP];
	const size_t start = sizeof(prefix) - 1;
	size_t len;
	va_list ap;

	if ((int)level > atomic_load(&level_max))
		return;
	memcpy(line, prefix, start);
	va_start(ap, fmt);
	if (vsnprintf(line + start, sizeof(line) - start - 1, fmt, ap) < 0)
		line[start] = '\0';
	va_end(ap);
	/* One event is one line, whatever a library put into its message. */
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	len = strlen(line);
	while (len > start && line[len - 1] == ' ')
		len--;
	line[len] = '\0';
	if (atomic_load(&to_syslog)) {
		syslog(priority[level], "%s", line + start);
		return;
	}
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nobody left to tell */
}
