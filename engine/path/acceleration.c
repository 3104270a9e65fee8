/* SPDX-License-Identifier: Apache-2.0 */
/* acceleration.c - see acceleration.h */
#include "acceleration.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "layer_tar.h"
#include "oci.h"
#include "resolve.h"
#include "resolve_local.h"
#include "store.h"
#include "text.h"

#define TAR_MORE_BYTES (1u << 20) /* headers and padding around the one member, generously */

struct taking {
	size_t max_bytes;
	uint8_t *trace;
	size_t len;
};

static int take_member(void *arg, const char *name, struct layer_tar_member *m, struct err *e)
{
	struct taking *t = arg;

	if (t->trace || strcmp(name, "trace") != 0)
		return 0;
	return layer_tar_read(m, t->max_bytes, &t->trace, &t->len, e);
}

static int take_trace(const char *layer, size_t len, size_t max_bytes, char **ret, size_t *ret_len,
		      struct err *e)
{
	struct taking t = {.max_bytes = max_bytes};
	int rc =
	    layer_tar_walk(layer, len, (uint64_t)max_bytes + TAR_MORE_BYTES, take_member, &t, e);

	if (!rc && !t.trace)
		rc = err_set(e, -EBADMSG, "no member \"trace\" in it");
	if (rc) {
		free(t.trace);
		return rc;
	}
	*ret = (char *)t.trace;
	*ret_len = t.len;
	return 0;
}

static int from_store(const struct resolve_env *env, const struct resolved *r,
		      const struct store_manifest *sm, size_t max_bytes, char **ret,
		      size_t *ret_len, struct err *e)
{
	const struct oci_descriptor *d;
	_cleanup_free_ char *layer = NULL;
	struct oci_manifest *m;
	size_t len;
	int rc = oci_manifest_parse(sm->bytes, sm->len, &m, e);

	if (rc)
		return rc;
	d = oci_acceleration(m);
	if (!d) {
		rc = err_set(e, -ENOENT, "the image has no acceleration layer");
	} else {
		rc = resolve_object(env, r, "acceleration layer", d->digest,
				    max_bytes + TAR_MORE_BYTES, &layer, &len, e);
		if (!rc)
			rc = take_trace(layer, len, max_bytes, ret, ret_len, e);
		if (rc)
			err_wrap(e, rc, "acceleration layer %s", d->digest);
	}
	oci_manifest_free(m);
	return rc;
}

int acceleration_get(const struct resolve_env *env, const char *name, size_t max_bytes, char **ret,
		     size_t *ret_len, struct err *e)
{
	struct resolved r = {.remote = text_starts_with(name, "docker://")};
	struct store_manifest sm;
	int rc = resolve_manifest(env, name, &r.store, &sm, e);

	if (rc)
		return rc;
	rc = from_store(env, &r, &sm, max_bytes, ret, ret_len, e);
	store_manifest_done(&sm);
	store_close(r.store);
	return rc ? err_wrap(e, rc, "%s", name) : 0;
}
