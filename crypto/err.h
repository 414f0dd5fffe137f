/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err - the one result type of crypto/ and keyprov/, and the sentence that goes with a failure.
 *
 * Every fallible call returns enum err and must be checked.  Where a person has to act, the call also takes a
 * struct err_why and fills it with one sentence that names the thing and the remedy; never with secrets.
 */
#pragma once
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))

enum err {
	ERR_OK = 0,
	ERR_NOMEM, /* heap or locked memory exhausted */
	ERR_IO,	   /* the system refused; errno is in err_why.sys_errno where one is given */
	ERR_NOT_FOUND,
	ERR_EXISTS,
	ERR_RANGE,	     /* an argument is too long or too large */
	ERR_CORRUPT,	     /* authentication failed or an impossible value: damage or attack */
	ERR_UNSUPPORTED,     /* a newer version, unknown suite or flag */
	ERR_CONFIG,	     /* the user has to change something */
	ERR_FIPS,	     /* no FIPS provider, or it failed its self-test */
	ERR_KEY_UNAVAILABLE, /* the key's keeper can't be reached or the key file is missing: may come back */
	ERR_KEY_DENIED,	     /* wrong passphrase, or the keeper says no */
	ERR_KEY_REVOKED,     /* the customer withdrew the key */
	ERR_BUG,	     /* a call that can't fail failed */
};

struct err_why {
	int sys_errno;	/* 0 if none */
	char text[512]; /* one sentence, NUL-terminated; empty if none */
};

/* A short English text for e; never NULL. */
const char *err_text(enum err e);

/* Fills why (NULL is fine; control characters become '?') and returns e, so that "return err_set(why, ERR_CONFIG, 0,
 * ...)" reads well. */
enum err err_set(struct err_why *why, enum err e, int sys_errno, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
