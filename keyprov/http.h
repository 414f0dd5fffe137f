/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http - HTTPS as a key client needs it, on libcurl: TLS by our FIPS provider, no redirects, no proxies, no cookies,
 * everything bounded, nothing logged.
 *
 * TLS 1.2 or newer with the server's name checked (RFC 9525), HTTP/1.1.  Plain http only where the configuration says
 * so: metadata services on link-local and loopback addresses.  Answers, request bodies and everything libcurl allocates
 * live in locked, wiped memory.
 *
 * Threads: one struct http belongs to one thread at a time; different ones may run at once.  The calling thread's
 * default OSSL_LIB_CTX is ours during a call and what it was before afterwards.
 */
#pragma once
#include "crypto/err.h"
#include "crypto/fips.h"
#include "crypto/secret.h"
#include <stdbool.h>
#include <stddef.h>

#define HTTP_BODY_MAX	 262144u /* bytes of an answer; more is HTTP_TOO_LARGE */
#define HTTP_HEADERS_MAX 65536u	 /* bytes of all header lines of an answer */

struct http; /* a pool of connections that are used again */

struct http_config {
	const struct fips *fips; /* outlives the pool */
	const char *ca_file;	 /* PEM: trust these instead of the system's; NULL */
	bool plain;		 /* http:// is allowed too, to loopback and link-local addresses only */
	unsigned connect_ms;	 /* 0: 5000 */
	unsigned total_ms;	 /* the whole exchange; 0: 10000 */
};

/* Once per process, before the first http_open and before other threads; idempotent.  Routes libcurl's and jansson's
 * allocations into locked memory (locked_alloc). */
enum err http_setup(struct err_why *why) MUST_CHECK;
enum err http_open(const struct http_config *cfg, struct http **out, struct err_why *why) MUST_CHECK;
void http_close(struct http *h); /* NULL is fine */
/* Makes transfers of h end soon with HTTP_ABORTED; from any thread, for the end of the process. */
void http_abort(struct http *h);

enum http_outcome {
	HTTP_ANSWERED, /* status, headers and body are there */
	HTTP_DNS,      /* the name is not known, or nobody answers about it */
	HTTP_CONNECT,  /* refused, no route, reset while connecting */
	HTTP_TLS,      /* handshake or certificate */
	HTTP_TIMEOUT,
	HTTP_BROKEN, /* reset, cut short, not HTTP */
	HTTP_TOO_LARGE,
	HTTP_ABORTED,
};

struct http_request {
	const char *method; /* "GET", "POST", ... */
	const char *url;
	const char *const *headers; /* "Name: value", ended by NULL; or NULL */
	const struct secret
		*authorization; /* the whole value of the Authorization header, e.g. "Bearer ..."; or NULL */
	const char *content_type;
	const void *body; /* borrowed; locked memory if it is secret */
	size_t body_len;
	bool fresh;	   /* on a new connection, not on one that is open already */
	unsigned total_ms; /* 0: as configured */
};

struct http_answer {
	enum http_outcome outcome;
	int status; /* 0 unless HTTP_ANSWERED */
	char *body; /* locked memory, NUL-terminated behind body_len bytes; never NULL if HTTP_ANSWERED */
	size_t body_len;
	char *headers;	/* locked memory; use http_header */
	char text[256]; /* what went wrong, in a few words without secrets; empty if HTTP_ANSWERED */
};

/* One exchange, no retries.  Returns ERR_OK whenever out is filled, whatever the outcome; ERR_NOMEM, ERR_BUG else.
 * http_answer_clear in any case. */
enum err http_do(struct http *h, const struct http_request *r, struct http_answer *out) MUST_CHECK;
void http_answer_clear(struct http_answer *a);
/* The value of the first header called name (any case), or NULL; lives as long as the answer.  n: the n-th such header,
 * from 0. */
const char *http_header(const struct http_answer *a, const char *name, unsigned n);
