/* SPDX-License-Identifier: Apache-2.0 */
/* headstart_artifact.c - the public interface: artifacts beside an image */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "headstart_impl.h"
#include "referrers.h"
#include "store.h"

void hs_artifact_done(struct hs_artifact *a)
{
	free(a->created);
	free(a->bytes);
	memset(a, 0, sizeof(*a));
}

static struct resolve_env env_of(struct hs_engine *eng)
{
	return (struct resolve_env){
	    .net = eng->net,
	    .cache = eng->cache,
	    .pull = eng->pull,
	    .platform = eng->platform,
	};
}

int hs_artifact_put(struct hs_engine *eng, const char *ref, const char *type,
		    const struct hs_artifact_part *parts, size_t count, bool keep,
		    char ret_digest[72], struct err *e)
{
	struct resolve_env env = env_of(eng);
	struct referrer_part list[REFERRERS_MAX_PARTS];
	struct store_manifest subject;
	struct store *s;
	int rc;

	if (count > REFERRERS_MAX_PARTS)
		return err_set(e, -EINVAL, "an artifact has 1 to %d parts", REFERRERS_MAX_PARTS);
	rc = resolve_manifest(&env, ref, &s, &subject, e);
	if (rc)
		return rc;
	for (size_t n = 0; n < count; n++)
		list[n] = (struct referrer_part){
		    .media_type = parts[n].media_type,
		    .bytes = parts[n].bytes,
		    .len = parts[n].len,
		};
	rc = referrers_attach(s, &subject, type, list, count, keep, ret_digest, e);
	if (rc)
		err_wrap(e, rc, "%s", ref);
	store_manifest_done(&subject);
	store_close(s);
	return rc;
}

int hs_artifact_get(struct hs_engine *eng, const char *ref, const char *type,
		    const char *media_type, size_t max_bytes, struct hs_artifact *ret,
		    struct err *e)
{
	struct resolve_env env = env_of(eng);
	struct store_manifest subject;
	struct referrer found;
	struct store *s;
	int rc = resolve_manifest(&env, ref, &s, &subject, e);

	if (rc)
		return rc;
	/* artifacts are not kept in the cache */
	if (eng->pull == PULL_NEVER && strncmp(ref, "docker://", strlen("docker://")) == 0)
		rc = err_set(e, -ENOENT, "artifacts are not in the cache, and --pull=never");
	else
		rc = referrers_find(s, subject.digest, type, media_type, max_bytes, 0, &found, e);
	store_manifest_done(&subject);
	store_close(s);
	if (rc)
		return err_wrap(e, rc, "%s", ref);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->digest, found.digest, sizeof(found.digest));
	ret->created = found.created;
	ret->bytes = found.bytes;
	ret->len = found.len;
	ret->was_inline = found.was_inline;
	return 0;
}
