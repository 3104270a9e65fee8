/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: OCI manifest, index and image config. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "digest.h"
#include "err.h"
#include "oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Inline content is there only when it is what the descriptor says. */
static void check_descriptor(const struct oci_descriptor *d)
{
	char digest[DIGEST_TEXT_BYTES];

	assert(digest_valid(d->digest) && d->media_type);
	if (!d->data)
		return;
	digest_of(d->data, (size_t)d->size, digest);
	assert(strcmp(digest, d->digest) == 0 && d->data[d->size] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	struct oci_platform want;
	struct oci_manifest *m;
	struct oci_config *c;
	struct oci_index *i;
	enum oci_kind kind;
	struct err e = {0};

	if (oci_manifest_parse(json, size, &m, &e) == 0) {
		assert(oci_kind_of(json, size, &kind, NULL) == 0 && kind == OCI_KIND_MANIFEST);
		assert(m->layer_count <= OCI_MAX_LAYERS && digest_valid(m->config.digest));
		for (size_t n = 0; n < m->layer_count; n++) {
			check_descriptor(&m->layers[n]);
			(void)oci_annotation(&m->layers[n], "x"); /* must only not crash */
		}
		check_descriptor(&m->config);
		if (m->subject.digest)
			check_descriptor(&m->subject);
		(void)oci_manifest_annotation(m, "x"); /* must only not crash */
		oci_manifest_free(m);
	} else {
		assert(e.msg[0]);
	}
	if (oci_index_parse(json, size, &i, NULL) == 0) {
		assert(oci_kind_of(json, size, &kind, NULL) == 0 && kind == OCI_KIND_INDEX);
		oci_platform_host(&want);
		(void)oci_index_pick(i, &want); /* must only not crash */
		oci_platform_done(&want);
		oci_index_free(i);
	}
	if (oci_referrers_parse(json, size, &i, NULL) == 0) {
		assert(i->manifest_count <= OCI_MAX_MANIFESTS);
		for (size_t n = 0; n < i->manifest_count; n++) {
			const struct oci_descriptor *d = &i->manifests[n];

			check_descriptor(d);
			/* an artifact inline in its list */
			if (d->data && oci_manifest_parse(d->data, (size_t)d->size, &m, NULL) == 0)
				oci_manifest_free(m);
		}
		oci_index_free(i);
	}
	if (oci_config_parse(json, size, &c, NULL) == 0) {
		for (size_t n = 0; n < c->diff_id_count; n++)
			assert(digest_valid(c->diff_ids[n]));
		assert(c->env && c->cmd && c->entrypoint && c->volumes);
		oci_config_free(c);
	}
	return 0;
}
