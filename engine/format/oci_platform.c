/* SPDX-License-Identifier: Apache-2.0 */
/* oci_platform.c - which entry of an index is for which machine */
#include "oci.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "err.h"
#include "text.h"

#define ATTESTATION_ANNOTATION "vnd.docker.reference.type"

/* The kernel's machine names and Go's. */
static const struct {
	const char *machine, *architecture, *variant;
} MACHINES[] = {
    {"x86_64", "amd64", NULL},	      {"i686", "386", NULL},	    {"i386", "386", NULL},
    {"aarch64", "arm64", "v8"},	      {"armv7l", "arm", "v7"},	    {"armv6l", "arm", "v6"},
    {"riscv64", "riscv64", NULL},     {"ppc64le", "ppc64le", NULL}, {"s390x", "s390x", NULL},
    {"loongarch64", "loong64", NULL},
};

static bool part_valid(const char *s, size_t len)
{
	return len > 0 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789._-") >= len;
}

int oci_platform_parse(const char *text, struct oci_platform *ret, struct err *e)
{
	const char *part[3] = {text};
	size_t len[3] = {0};
	int n = 0;

	for (const char *p = text;; p++) {
		if (*p != '/' && *p != '\0') {
			len[n]++;
			continue;
		}
		if (!part_valid(part[n], len[n]))
			return err_set(e, -EINVAL, "platform is not OS/ARCH or OS/ARCH/VARIANT");
		n++;
		if (*p == '\0')
			break;
		if (n == 3)
			return err_set(e, -EINVAL, "platform has more than three parts");
		part[n] = p + 1;
	}
	if (n < 2)
		return err_set(e, -EINVAL, "platform names no architecture");
	*ret = (struct oci_platform){
	    .os = text_printf("%.*s", (int)len[0], part[0]),
	    .architecture = text_printf("%.*s", (int)len[1], part[1]),
	    .variant = n == 3 ? text_printf("%.*s", (int)len[2], part[2]) : NULL,
	};
	return 0;
}

void oci_platform_host(struct oci_platform *ret)
{
	const char *architecture, *variant = NULL;
	struct utsname u;
	int r = uname(&u);

	assert(r == 0); /* fails only for a bad pointer */
	architecture = u.machine;
	for (size_t n = 0; n < sizeof(MACHINES) / sizeof(MACHINES[0]); n++) {
		if (strcmp(u.machine, MACHINES[n].machine) != 0)
			continue;
		architecture = MACHINES[n].architecture;
		variant = MACHINES[n].variant;
	}
	*ret = (struct oci_platform){
	    .os = text_dup("linux"),
	    .architecture = text_dup(architecture),
	    .variant = text_dup(variant),
	};
}

void oci_platform_done(struct oci_platform *p)
{
	free(p->os);
	free(p->architecture);
	free(p->variant);
	*p = (struct oci_platform){0};
}

static bool is_attestation(const struct oci_descriptor *d)
{
	return oci_annotation(d, ATTESTATION_ANNOTATION) ||
	       (d->platform.os && strcmp(d->platform.os, "unknown") == 0);
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/*
 * An exact variant, none included, is better than one that merely does not contradict: linux/amd64
 * must not pick amd64/v3, and arm64 is arm64/v8.
 */
static int fit(const struct oci_platform *have, const struct oci_platform *want)
{
	if (!same(have->os, want->os) || !same(have->architecture, want->architecture))
		return 0;
	if (same(have->variant, want->variant) || (!have->variant && !want->variant))
		return 2;
	return !have->variant || !want->variant;
}

const struct oci_descriptor *oci_index_pick(const struct oci_index *i,
					    const struct oci_platform *want)
{
	const struct oci_descriptor *only = NULL, *best = NULL;
	size_t candidates = 0;
	int best_fit = 0;

	for (size_t n = 0; n < i->manifest_count; n++) {
		const struct oci_descriptor *d = &i->manifests[n];
		int f;

		if (is_attestation(d))
			continue;
		f = fit(&d->platform, want);
		if (f > best_fit) {
			best_fit = f;
			best = d;
		}
		candidates++;
		only = d;
	}
	if (best)
		return best;
	/* an image directory's index.json often says nothing about its one image */
	if (candidates == 1 && !only->platform.os && !only->platform.architecture)
		return only;
	return NULL;
}
