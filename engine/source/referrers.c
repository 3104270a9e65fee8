/* SPDX-License-Identifier: Apache-2.0 */
/* referrers.c - see referrers.h: finding; attaching is in referrers_attach.c */
#include "referrers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "err.h"
#include "log.h"
#include "oci.h"
#include "store.h"
#include "text.h"

void referrer_done(struct referrer *r)
{
	free(r->created);
	free(r->bytes);
	memset(r, 0, sizeof(*r));
}

/* One search, within its time. */
struct search {
	struct store *s;
	const char *subject, *type, *media_type;
	size_t max_bytes;
	uint64_t end_ns; /* 0: none */
};

static int time_left(const struct search *f, uint64_t *ret_ns, struct err *e)
{
	uint64_t now = clock_now_ns();

	*ret_ns = 0;
	if (!f->end_ns)
		return 0;
	if (now >= f->end_ns)
		return err_set(e, -ETIMEDOUT, "no time left to look for artifacts");
	*ret_ns = f->end_ns - now;
	return 0;
}

static const char *created_of(const struct oci_descriptor *d)
{
	const char *t = oci_annotation(d, OCI_ANNOTATION_CREATED);

	return t ? t : "";
}

/* RFC 3339 in UTC: to the second, then what is behind it, where "Z" is less than ".5Z". */
static int compare_times(const char *a, const char *b)
{
	size_t to_second = strlen("2006-01-02T15:04:05"), a_len, b_len;
	int d = strncmp(a, b, to_second);

	if (d || strlen(a) < to_second) /* equal: then both are */
		return d;
	a += to_second;
	b += to_second;
	a_len = strcspn(a, "Z");
	b_len = strcspn(b, "Z");
	d = strncmp(a, b, a_len < b_len ? a_len : b_len);
	return d ? d : (a_len > b_len) - (a_len < b_len);
}

/*
 * The newest entry of the type that was not tried before; of equal ones the last. @tried is a list
 * of indexes, so that nothing in @x has to be changed.
 */
static const struct oci_descriptor *newest(const struct search *f, const struct oci_index *x,
					   const size_t *tried, size_t tried_count, size_t *ret_n)
{
	const struct oci_descriptor *best = NULL;

	for (size_t n = 0; n < x->manifest_count; n++) {
		const struct oci_descriptor *d = &x->manifests[n];
		bool seen = false;

		if (!d->artifact_type || strcmp(d->artifact_type, f->type) != 0)
			continue;
		for (size_t i = 0; i < tried_count; i++)
			seen |= tried[i] == n;
		if (!seen && (!best || compare_times(created_of(d), created_of(best)) >= 0)) {
			best = d;
			*ret_n = n;
		}
	}
	return best;
}

static int read_part(const struct search *f, const struct oci_descriptor *d, bool listed_inline,
		     struct referrer *ret, struct err *e)
{
	uint64_t left;
	int rc;

	if (d->size > f->max_bytes)
		return err_set(e, -EFBIG, "artifact has %llu bytes, at most %zu are accepted",
			       (unsigned long long)d->size, f->max_bytes);
	if (d->data) {
		ret->bytes = xmalloc_zero(1, (size_t)d->size + 1);
		memcpy(ret->bytes, d->data, (size_t)d->size);
		ret->len = (size_t)d->size;
		ret->was_inline = listed_inline;
		return 0;
	}
	rc = time_left(f, &left, e);
	return rc ? rc
		  : store_get_blob_within(f->s, d->digest, (size_t)d->size, left, &ret->bytes,
					  &ret->len, e);
}

static int read_manifest(const struct search *f, const char *json, size_t len, bool listed_inline,
			 struct referrer *ret, struct err *e)
{
	const char *created;
	struct oci_manifest *m;
	int rc = oci_manifest_parse(json, len, &m, e);

	if (rc)
		return rc;
	/* a list may say anything; the artifact itself says what it is about */
	if (!m->subject.digest || strcmp(m->subject.digest, f->subject) != 0)
		rc = err_set(e, -EBADMSG, "it refers to another image");
	else if (!m->artifact_type || strcmp(m->artifact_type, f->type) != 0)
		rc = err_set(e, -EBADMSG, "it is of another type than its list says");
	for (size_t n = 0; !rc && n < m->layer_count; n++) {
		if (strcmp(m->layers[n].media_type, f->media_type) != 0)
			continue;
		rc = read_part(f, &m->layers[n], listed_inline, ret, e);
		break;
	}
	if (!rc && !ret->bytes)
		rc = err_set(e, -EBADMSG, "it has no part of type %s", f->media_type);
	created = oci_manifest_annotation(m, OCI_ANNOTATION_CREATED);
	if (!rc)
		ret->created = text_dup(created ? created : "");
	oci_manifest_free(m);
	return rc;
}

static int read_referrer(const struct search *f, const struct oci_descriptor *d,
			 struct referrer *ret, struct err *e)
{
	struct store_manifest m = {0};
	uint64_t left;
	int rc = 0;

	strcpy(ret->digest, d->digest);
	if (d->data) {
		rc = read_manifest(f, d->data, (size_t)d->size, true, ret, e);
	} else {
		rc = time_left(f, &left, e);
		if (!rc)
			rc = store_get_manifest_within(f->s, d->digest, left, &m, e);
		if (!rc)
			rc = read_manifest(f, m.bytes, m.len, false, ret, e);
		store_manifest_done(&m);
	}
	if (rc) {
		referrer_done(ret);
		return err_wrap(e, rc, "artifact %.19s...", d->digest);
	}
	return 0;
}

static int nothing(const struct search *f, struct err *e)
{
	return err_set(e, -ENOENT, "nothing of type %s refers to %s", f->type, f->subject);
}

/* Newest first, until one can be read; if none can, what was wrong with the first is the error. */
static int search_list(const struct search *f, const char *json, size_t len, struct referrer *ret,
		       struct err *e)
{
	size_t tried[REFERRERS_MAX_TRIED], count = 0;
	const struct oci_descriptor *d;
	struct oci_index *x;
	int rc = oci_referrers_parse(json, len, &x, e);

	if (rc)
		return err_wrap(e, rc, "list of referrers");
	rc = -ENOENT;
	while (count < REFERRERS_MAX_TRIED && (d = newest(f, x, tried, count, &tried[count]))) {
		struct err why = {0};
		int r;

		count++;
		r = read_referrer(f, d, ret, &why);
		if (!r || rc == -ENOENT) {
			rc = r;
			if (e)
				*e = why;
		}
		if (!r)
			break;
		log_debug("artifact cannot be used: %s", why.msg);
		/* one that is listed and gone is damage, not absence */
		if (rc == -ENOENT)
			rc = -EBADMSG;
	}
	oci_index_free(x);
	return rc == -ENOENT ? nothing(f, e) : rc;
}

int referrers_find(struct store *s, const char *subject, const char *type, const char *media_type,
		   size_t max_bytes, uint64_t timeout_ns, struct referrer *ret, struct err *e)
{
	struct search f = {
	    .s = s,
	    .subject = subject,
	    .type = type,
	    .media_type = media_type,
	    .max_bytes = max_bytes,
	    .end_ns = timeout_ns ? clock_now_ns() + timeout_ns : 0,
	};
	struct store_referrers lists;
	struct err other = {0};
	int rc, rc2;

	memset(ret, 0, sizeof(*ret));
	rc = store_get_referrers(s, subject, type, timeout_ns, &lists, e);
	if (rc)
		return rc == -ENOENT ? nothing(&f, e) : rc;
	/* A registry that has got the API may still have a list from before. */
	rc = lists.listed ? search_list(&f, lists.listed, lists.listed_len, ret, e) : -ENOENT;
	if (rc && lists.tagged) {
		rc2 = search_list(&f, lists.tagged, lists.tagged_len, ret, &other);
		if (!rc2 || rc == -ENOENT) {
			rc = rc2;
			if (rc && e)
				*e = other;
		}
	}
	store_referrers_done(&lists);
	return rc;
}
