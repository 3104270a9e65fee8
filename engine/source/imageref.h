/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imageref.h - image names as skopeo writes them
 *
 * docker://HOST[:PORT]/REPO[:TAG|@DIGEST], oci:DIR[:TAG], docker-archive:FILE[:REF], or a path
 * to a config.v1.json. docker://name without a host means docker.io, and docker.io's registry is
 * registry-1.docker.io; a name without a slash there gets "library/".
 */
#ifndef HS_SOURCE_IMAGEREF_H
#define HS_SOURCE_IMAGEREF_H

#include <stdbool.h>

struct err;

enum imageref_kind { IMAGEREF_DOCKER, IMAGEREF_OCI, IMAGEREF_ARCHIVE, IMAGEREF_CONFIG };

struct imageref {
	enum imageref_kind kind;
	char *host;   /* docker: HOST[:PORT] as credentials name it */
	char *repo;   /* docker: repository */
	char *path;   /* oci directory, archive or config file */
	char *tag;    /* NULL when none was given; docker without tag or digest: "latest" */
	char *digest; /* NULL or valid sha256 text */
};

/* imageref_parse - 0 or -EINVAL with what is wrong and an example; imageref_done() afterwards */
int imageref_parse(const char *text, struct imageref *ret, struct err *e);
void imageref_done(struct imageref *r);

/* imageref_loopback - whether host (port ignored) is localhost, 127.0.0.0/8 or [::1] */
bool imageref_loopback(const char *host);

/* imageref_text - canonical text; caller frees */
char *imageref_text(const struct imageref *r);

#endif
