/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_runtime.h - the config.json of an OCI runtime bundle, from an OCI image config
 *
 * Pure: strings in, strings out. What the image says is untrusted: it decides about the inside of
 * the container and about nothing else.
 */
#ifndef HS_TOOLS_OCI_RUNTIME_H
#define HS_TOOLS_OCI_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* What a container needs of the image config; lists end with NULL and are never NULL. */
struct run_image {
	char **env, **entrypoint, **cmd, **volumes;
	char *user, *working_dir, *stop_signal; /* NULL when absent */
};

/* run_image_parse - @json NULL: an image that says nothing; 0 or -EBADMSG */
int run_image_parse(const char *json, struct run_image *ret, struct err *e);
void run_image_done(struct run_image *i);

/* Who the process is. */
struct run_user {
	uint32_t uid, gid;
	uint32_t *groups; /* supplementary */
	size_t group_count;
	char *home; /* of /etc/passwd; NULL when it is not there */
};

/*
 * run_user_resolve - USER[:GROUP], each a name or a number, as docker understands it
 * @spec: NULL or "": root
 * @passwd, @group: text of the image's /etc/passwd and /etc/group; NULL when it has none
 * Returns 0 or -EINVAL a name that is not there; run_user_done() by the caller.
 */
int run_user_resolve(const char *spec, const char *passwd, const char *group, struct run_user *ret,
		     struct err *e);
void run_user_done(struct run_user *u);

/* run_signal_parse - "SIGTERM", "TERM", "15", "SIGRTMIN+3" as this machine's number, or -EINVAL */
int run_signal_parse(const char *s);

/* One bind mount. */
struct run_bind {
	const char *source, *target; /* absolute */
	bool read_only;
};

/*
 * run_bind_parse - SRC:DST[:ro|:rw], cut up in place; 0 or -EINVAL
 */
int run_bind_parse(char *text, struct run_bind *ret, struct err *e);

struct run_spec {
	const struct run_image *image;
	const struct run_user *user;
	const char *rootfs;	 /* absolute path */
	const char *const *args; /* NULL-terminated; the command of the command line, or NULL */
	const char *entrypoint;	 /* replaces the image's, and drops its command; "": none */
	const char *const *env;	 /* "K=V", or "K": taken from @getenv; NULL-terminated or NULL */
	const char *(*getenv)(const char *name); /* of the caller's environment */
	const char *working_dir;		 /* NULL: the image's, or "/" */
	const char *hostname;
	const char *netns; /* NULL: a new one; "": the host's; else a path */
	const char *cgroup_path;
	const struct run_bind *binds;
	size_t bind_count;
	bool tty, read_only;
};

/*
 * run_spec_json - config.json; caller frees
 * Returns 0, -EINVAL nothing to run, a bad variable, a relative working directory
 */
int run_spec_json(const struct run_spec *s, char **ret, struct err *e);

#endif
