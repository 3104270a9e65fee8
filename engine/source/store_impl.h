/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_impl.h - what each kind of store provides; store.c checks arguments and dispatches
 *
 * Digests given to an operation are valid text. An operation that is NULL is -EOPNOTSUPP.
 */
#ifndef HS_SOURCE_STORE_IMPL_H
#define HS_SOURCE_STORE_IMPL_H

#include "store.h"

#define STORE_SMALL_BLOB_BYTES (64u << 20)

/* How something is asked for; only registries care. */
struct store_ask {
	uint64_t timeout_ns; /* 0: the usual; else with few tries as well */
	bool fresh;	     /* of the registry itself, not of a mirror */
};

struct store_ops {
	void (*close)(struct store *s);
	void (*cancel)(struct store *s); /* NULL: nothing takes long */
	int (*get_manifest)(struct store *s, const char *ref, const struct store_ask *ask,
			    struct store_manifest *ret, struct err *e);
	int (*resolve)(struct store *s, const char *ref, char ret_digest[static 72],
		       struct err *e); /* NULL: by get_manifest */
	int (*get_blob)(struct store *s, const char *digest, size_t max_bytes,
			const struct store_ask *ask, char **ret, size_t *ret_len,
			struct err *e); /* not verified yet; NULL: by place */
	int (*stream)(struct store *s, const char *digest, uint64_t bytes,
		      int (*sink)(void *arg, const void *p, size_t len), void *arg,
		      struct err *e); /* not verified yet; NULL: by place */
	int (*place)(struct store *s, const char *digest, uint64_t bytes, struct blob_place *ret,
		     struct err *e);
	int (*has)(struct store *s, const char *digest, struct err *e);
	int (*blob_bytes)(struct store *s, const char *digest, uint64_t *ret_bytes,
			  struct err *e); /* NULL: by place */
	int (*mount)(struct store *s, const char *digest, const char *from, struct err *e);
	int (*put_blob)(struct store *s, const char *digest, uint64_t bytes,
			int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
			struct err *e);
	int (*put_manifest)(struct store *s, const char *media_type, const void *bytes, size_t len,
			    const char *digest, const char *tag, bool *ret_listed,
			    struct err *e); /* @ret_listed: see store_put_referrer() */
	int (*get_referrers)(struct store *s, const char *subject, const char *type,
			     uint64_t timeout_ns, struct store_referrers *ret,
			     struct err *e); /* NULL: by the fallback tag */
	int (*list_tags)(struct store *s, size_t max, char ***ret, struct err *e);
};

struct store {
	const struct store_ops *ops;
	char *name; /* for messages */
};

int registry_open(struct net *net, const struct imageref *r, struct store **ret, struct err *e);
int oci_layout_open(const struct imageref *r, bool create, struct store **ret, struct err *e);
int docker_archive_open(const struct imageref *r, struct store **ret, struct err *e);

/* registry_push.c */
struct http_job;
struct origin;

struct registry {
	struct store s;
	struct net *net;
	struct origin *origin;
};

/* registry.c */
struct http_job *registry_manifest_job(struct registry *g, int method, const char *ref,
				       const struct store_ask *ask);
struct http_job *registry_job(struct registry *g, int method, unsigned int need, char *path);
int registry_error(struct http_job *j, struct err *e); /* frees the job */
int registry_mount(struct store *s, const char *digest, const char *from, struct err *e);
int registry_put_blob(struct store *s, const char *digest, uint64_t bytes,
		      int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
		      struct err *e);
int registry_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
			  const char *digest, const char *tag, bool *ret_listed, struct err *e);
int registry_list_tags(struct store *s, size_t max, char ***ret, struct err *e);

/* registry_referrers.c */
int registry_get_referrers(struct store *s, const char *subject, const char *type,
			   uint64_t timeout_ns, struct store_referrers *ret, struct err *e);
/* registry_know_referrers - what an answer to a push told about the referrers API */
void registry_know_referrers(struct registry *g, bool has_api);

/* oci_layout_write.c */
struct oci_layout {
	struct store s;
	char *dir;
	char *digest; /* of the name; NULL */
	char *tag;
};

int oci_layout_create(const char *dir, struct err *e);
int oci_layout_put_blob(struct store *s, const char *digest, uint64_t bytes,
			int (*source)(void *arg, uint64_t off, void *buf, size_t len), void *arg,
			struct err *e);
int oci_layout_put_manifest(struct store *s, const char *media_type, const void *bytes, size_t len,
			    const char *digest, const char *tag, bool *ret_listed, struct err *e);

/* store_take_tags - turn a growing list into what store_list_tags() returns */
char **store_tags_new(size_t max);

#endif
