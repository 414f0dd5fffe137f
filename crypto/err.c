/* SPDX-License-Identifier: Apache-2.0 */
/* err - texts of the result type. */
#include "crypto/err.h"

#include <stdarg.h>
#include <stdio.h>

const char *err_text(enum err e)
{
	switch (e) {
	case ERR_OK:
		return "success";
	case ERR_NOMEM:
		return "out of memory";
	case ERR_IO:
		return "input/output failed";
	case ERR_NOT_FOUND:
		return "not found";
	case ERR_EXISTS:
		return "exists already";
	case ERR_RANGE:
		return "too long or too large";
	case ERR_CORRUPT:
		return "damaged or tampered with";
	case ERR_UNSUPPORTED:
		return "made by a newer version";
	case ERR_CONFIG:
		return "wrong configuration";
	case ERR_FIPS:
		return "no working FIPS provider";
	case ERR_KEY_UNAVAILABLE:
		return "key unavailable";
	case ERR_KEY_DENIED:
		return "key denied";
	case ERR_KEY_REVOKED:
		return "key revoked";
	case ERR_BUG:
		return "internal error";
	}
	return "unknown error";
}

/* Names, and what a hostile file holds, are quoted in sentences: no terminal shall obey them.  C0, DEL, and C1 in
 * UTF-8. */
static void without_controls(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c; c++) {
		if (*c < ' ' || *c == 0x7f) {
			*c = '?';
		} else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
			*c++ = '?';
			*c = '?';
		}
	}
}

enum err err_set(struct err_why *why, enum err e, int sys_errno, const char *fmt, ...)
{
	va_list ap;

	if (!why)
		return e;
	why->sys_errno = sys_errno;
	va_start(ap, fmt);
	if (vsnprintf(why->text, sizeof(why->text), fmt, ap) < 0)
		why->text[0] = '\0';
	va_end(ap);
	without_controls(why->text);
	return e;
}
