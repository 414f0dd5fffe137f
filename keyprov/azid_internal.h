/* SPDX-License-Identifier: Apache-2.0 */
/* azid, inside: what its files, its tests and its fuzz targets share. */
#pragma once
#include "keyprov/azid.h"
#include "keyprov/http.h"
#include <limits.h>
#include <stdatomic.h>

#define AZID_TOKEN_MAX	 32768u /* bytes of an access token */
#define AZID_LIFE_MAX	 90000	/* seconds a token may be kept, whatever the answer says: 25 h */
#define AZID_RENEW_AFTER 3600LL /* seconds: at the latest */
#define AZID_RENEW_AHEAD 300LL	/* seconds before it expires */
#define AZID_AHEAD_MS	 5000	/* to renew a token that still serves */
#define AZID_DEADLINE_MS 90000u
#define AZID_ARC_KEY_MAX 4096u

/* ---- azid_conf.c ---- */

enum azid_kind {
	AZID_AUTO,
	AZID_VM,
	AZID_APP_SERVICE,
	AZID_ARC,
	AZID_WORKLOAD,
	AZID_SECRET,
	AZID_CERTIFICATE,
	AZID_CLI,
};

struct azid_spec {
	enum azid_kind kind;
	char client_id[AZURE_GUID], tenant[AZURE_GUID]; /* lower case; empty if none */
	char file[PATH_MAX];				/* absolute, or the name of a credential */
	bool credential;
};
enum err azid_spec_parse(const json_t *conf, struct azid_spec *out, struct err_why *why) MUST_CHECK;
const char *azid_kind_text(enum azid_kind k);
/* Copies a GUID in lower case; false, and out empty, if it is none. */
bool azid_guid(const char *text, char out[static AZURE_GUID]);

/* ---- azid_answer.c: hostile input, pure ---- */

struct azid_answer {
	struct secret *token;	    /* "Bearer ...", the caller's */
	long long life, refresh;    /* seconds from now; refresh 0: not told */
	char client_id[AZURE_GUID]; /* echoed by managed identities; empty if not */
	bool has_client_id;	    /* there was a client_id, be it a GUID or not */
};
/* member: "access_token", or the CLI's "accessToken".  now: seconds since 1970.  ERR_CORRUPT: nonsense. */
enum err azid_answer_parse(const char *body, size_t len, const char *member, long long now, struct azid_answer *out,
	struct err_why *why) MUST_CHECK;

struct azid_refusal {
	char error[48]; /* "invalid_client"; empty if there is none */
	long long code; /* first of error_codes, 0 if none: AADSTSnnn */
	char trace[64]; /* trace_id */
};
void azid_refusal_parse(const char *body, size_t len, struct azid_refusal *out); /* never fails */
/* ERR_KEY_REVOKED or ERR_KEY_UNAVAILABLE for an answer that is not 200. */
enum err azid_classify(bool entra, int status, const char *error);
/* Fills what it can of a token's payload; kind is left alone. */
void azid_claims(const char *token, size_t len, struct azid_info *out);
/* "location" of IMDS's or Arc's instance document; empty if none. */
void azid_location(const char *body, size_t len, char out[static 64]);

/* ---- azid.c: the struct, time ---- */

struct azid_entry {
	char audience[96], tenant[AZURE_GUID];
	struct secret *token;	/* NULL: unused */
	int64_t expires, renew; /* milliseconds of a->now */
};

struct azid {
	const struct fips *fips;
	struct azure_cloud cloud;
	struct azid_spec spec;
	enum azid_kind kind;	  /* in use; AZID_AUTO until it is known */
	struct http *plain, *tls; /* metadata services; the authority */
	struct azid_entry entry[2];
	struct azid_info info;
	bool has_info;
	char region[64];
	unsigned attempts, deadline_ms;
	int64_t deadline; /* of the call under way */
	int stop;	  /* eventfd: readable after azid_abort */
	/* The system's; tests put their own here. */
	int64_t (*now)(void);	 /* milliseconds, suspend counts */
	long long (*wall)(void); /* seconds since 1970 */
	void (*pause)(struct azid *a, int64_t ms);
	const char *arc_tokens, *arc_agent, *arc_user; /* directory of the agent's keys, its program, its user */
	const char *cli;			       /* program */
};
bool azid_aborted(const struct azid *a);
int64_t azid_boottime(void); /* milliseconds */

/* ---- azid_ask.c: one exchange, and when to try again ---- */

struct azid_try {	  /* what a failed attempt says about the next one */
	bool unreachable; /* no answer from the address at all */
	bool gone;	  /* 410 */
	unsigned after;	  /* seconds, of Retry-After; 0 none */
};

struct azid_service {
	const char *who;    /* "the VM's metadata service" */
	const char *remedy; /* what to do when it refuses */
	bool entra;
};

struct azid_want { /* arguments of azid_token */
	const char *audience, *tenant, *claims;
	struct keyprov_detail *detail; /* never NULL */
};

/* One exchange.  ERR_OK: reply->status tells; else ERR_KEY_UNAVAILABLE with everything filled. */
enum err azid_exchange(struct azid *a, const struct azid_service *s, struct http *h, struct http_request *r,
	struct http_answer *reply, const struct azid_want *w, struct azid_try *t, struct err_why *why) MUST_CHECK;
/* The token in reply, or what the refusal means. */
enum err azid_take(struct azid *a, const struct azid_service *s, const struct http_answer *reply,
	const struct azid_want *w, struct azid_answer *out, struct azid_try *t, struct err_why *why) MUST_CHECK;
/* Asks the source in use, as often as it is worth it. */
enum err azid_ask(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct err_why *why) MUST_CHECK;
void azid_reason(struct keyprov_detail *d, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A random UUID of version 4. */
enum err azid_uuid(const struct fips *f, char out[static AZURE_GUID]) MUST_CHECK;

/* Text of bounded length in the caller's buffer; always NUL-terminated. */
struct azid_form {
	char *p;
	size_t len, cap;
	bool full; /* something did not fit */
};
void azid_form_init(struct azid_form *f, char *buf, size_t cap);
void azid_form_text(struct azid_form *f, const char *text);
/* [&]name=value, percent-encoded; & if the text does not end with a question mark and is not empty */
void azid_form_add(struct azid_form *f, const char *name, const void *value, size_t len);

/* ---- sources: one attempt each ---- */

/* azid_managed.c */
enum err azid_vm(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t,
	struct err_why *why) MUST_CHECK;
enum err azid_app_service(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t,
	struct err_why *why) MUST_CHECK;
/* Copies url if it is http to a loopback or link-local address, with nothing odd in it. */
#define AZID_LOCAL_URL 264
bool azid_local_url(const char *url, char out[static AZID_LOCAL_URL]);
/* Which source "auto" means here. */
enum err azid_detect(const struct azid *a, enum azid_kind *out, struct err_why *why) MUST_CHECK;
/* azid_arc.c */
enum err azid_arc(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t,
	struct err_why *why) MUST_CHECK;
/* The name of the key file in the challenge's realm, which has to be in dir; false if it is nothing of the kind. */
bool azid_arc_challenge(const char *header, const char *dir, char name[static NAME_MAX + 1]);
/* azid_entra.c */
enum err azid_workload(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t,
	struct err_why *why) MUST_CHECK;
enum err azid_principal(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct azid_try *t,
	struct err_why *why) MUST_CHECK;
/* azid_cli.c */
enum err azid_cli(struct azid *a, const struct azid_want *w, struct azid_answer *out, struct err_why *why) MUST_CHECK;

/* ---- azid_file.c ---- */

/* The file of a spec: ours, mode 0600, or a credential.  At most cap bytes. */
enum err azid_file_spec(const struct azid_spec *s, size_t cap, struct secret **out, struct err_why *why) MUST_CHECK;
/* A token that others write: any mode and owner, links followed. */
enum err azid_file_token(const char *path, size_t cap, struct secret **out, struct err_why *why) MUST_CHECK;
/* A key of Arc's agent. */
enum err azid_file_arc(const struct azid *a, const char *name, struct secret **out, struct err_why *why) MUST_CHECK;
/* Without white space at the end; printable ASCII without blanks all through, else false. */
bool azid_text(const struct secret *s, size_t *len);
