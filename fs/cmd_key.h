/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_key - shared by the parts of "blobcryptfs key".  One thread. */
#pragma once
#include "fs/cli.h"
#include "keyprov/azid.h"
#include <jansson.h>
#include <stdbool.h>

struct key_options {
	bool as_json, dry_run, managed, allow_other_region, allow_expired;
	const char *managed_key, *new_managed_key; /* SPECs; NULL: where the descriptor says */
	const char *cloud, *region, *api_version, *type;
	const char *audit_dir;	   /* NULL: the usual place */
	const char *identity_spec; /* as given; NULL: the default */
	json_t *identity;	   /* azid_conf of it, owned by run(); NULL if none was given */
	bool is_cli;		   /* it is the Azure CLI's: asked for now, by a person */
	unsigned size;		   /* 0: not given */
	unsigned probe_seconds;	   /* 0: not given */
	unsigned lease_seconds;	   /* UINT_MAX: not given */
};

/* ---- cmd_key_volume.c: a volume, mounted or not, by its directory or its mount point ---- */
/* Has request done, by the daemon that has the volume or here.  An exit code with why if there is no answer; else the
 * answer's own code is in it (keyops.h). */
int key_ask(struct cli *c, const char *dir, const char *request, const json_t *args, const struct key_options *o,
	json_t **answer, struct err_why *why);
/* The volume at its directory or mount point, as its descriptor says. */
struct volume;
int key_open(const char *dir, struct volume **v, struct err_why *why);
/* The report of the volume's key: from the daemon, or as the descriptor says. */
int key_look(const char *dir, json_t **key, struct err_why *why);
/* The "provider" object of its customer's key, as the descriptor says, or NULL if none is on; new reference. */
int key_conf(const char *dir, json_t **conf, struct err_why *why);

/* ---- cmd_key_vault.c: a vault without a volume; these print ---- */
int key_list(struct cli *c, const struct key_options *o, char **operands);
int key_create(struct cli *c, const struct key_options *o, char **operands);
int key_identity(struct cli *c, const struct key_options *o, char **operands);
/* cli_crypto and what TLS needs before its first use. */
int key_network(struct cli *c, struct fips **out, struct err_why *why);

/* ---- cmd_key_print.c ---- */
/* An answer of keyops.h; the sentence of a failure on standard error.  Returns its code. */
int key_print_answer(const json_t *answer, bool as_json);
void key_print_key(const json_t *key, bool as_json);
void key_print_identity(const json_t *who);
