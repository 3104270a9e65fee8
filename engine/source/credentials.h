/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credentials.h - where user names and passwords come from
 *
 * Blocking, any thread. Secrets never appear in error texts.
 */
#ifndef HS_SOURCE_CREDENTIALS_H
#define HS_SOURCE_CREDENTIALS_H

struct err;

struct credential {
	char *user;	      /* "" together with identity_token */
	char *password;	      /* NULL when identity_token is set */
	char *identity_token; /* an OAuth2 refresh token */
};

void credential_free(struct credential *c); /* wipes; NULL is fine */

/*
 * credentials_files - the files that would be searched, first to last
 * @authfile: NULL for the defaults; $REGISTRY_AUTH_FILE stands for it
 * @ret: array of @max, each to be freed. Returns how many.
 */
unsigned int credentials_files(const char *authfile, char **ret, unsigned int max);

/*
 * credentials_find - look one registry up in files and credential helpers
 * @host: HOST[:PORT] as imageref has it, "docker.io" for Docker Hub
 * @repo: for podman's HOST/REPO keys
 * @ret: caller frees; NULL when there are no credentials, which is not an error
 *
 * A helper runs for at most 30 s. Returns 0, -EINVAL malformed file, -EACCES unreadable file,
 * -ETIMEDOUT or -EIO helper failed.
 */
int credentials_find(const char *authfile, const char *host, const char *repo,
		     struct credential **ret, struct err *e);

/* credentials_from_option - "USER:PASS"; -EINVAL without a colon or user */
int credentials_from_option(const char *text, struct credential **ret, struct err *e);

/* credential_basic - "Authorization: Basic ..."; caller wipes and frees */
char *credential_basic(const struct credential *c);

/* secret_free - overwrite, then free; NULL is fine */
void secret_free(char *s);

#endif
