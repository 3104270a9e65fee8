/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_prefetch_push.c - headstart prefetch push: put a list beside the image it is for */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "list_ship.h"
#include "options.h"
#include "prefetch_list.h"
#include "text.h"

static bool dry_run, force;

static const struct option_def push_options[] = {
    {"dry-run", 'n', OPTION_FLAG, NULL, &dry_run, "check and report, push nothing", NULL},
    {"force", 'f', OPTION_FLAG, NULL, &force, "also a list that was made for another image", NULL},
    {"platform", 0, OPTION_STRING, "OS/ARCH", &common.platform,
     "which image of a multi-platform index", "this machine's"},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", push_options},
    {"Registry", registry_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "prefetch push",
    .usage = "[OPTIONS] LIST IMAGE",
    .purpose = "Put the prefetch list in the file LIST beside IMAGE, as an OCI artifact that "
	       "refers to it. 'headstart run' and 'mount' find it there. The image's digest does "
	       "not change. A list that lies there already is replaced.",
    .groups = groups,
    .examples = "  headstart prefetch push web.list docker://127.0.0.1:5000/web:1_accelerated\n"
		"  headstart prefetch push --dry-run web.list oci:./web:1_accelerated\n",
    .notes = "A list fits one conversion of one image. 'headstart prefetch port' carries it over "
	     "to another.",
    .min_operands = 2,
    .max_operands = 2,
};

/* What a list is to an image. */
struct fit {
	bool same;	  /* made for it */
	uint64_t fetched; /* bytes of the list in blobs of the image */
	uint64_t foreign; /* in others: never fetched */
};

static bool has_blob(const struct hs_image *img, const struct prefetch_blob *b)
{
	struct hs_blob_info info;

	for (size_t n = 0; n < hs_image_blob_count(img); n++) {
		hs_image_blob(img, n, &info);
		if (strcmp(info.digest, b->digest) == 0 && info.bytes == b->bytes)
			return true;
	}
	return false;
}

static void measure(const struct prefetch_list *l, const struct hs_image *img, struct fit *ret)
{
	bool *has = xmalloc_zero(l->blob_count + 1, sizeof(*has));

	*ret = (struct fit){.same = strcmp(l->image_digest, hs_image_digest(img)) == 0};
	for (size_t n = 0; n < l->blob_count; n++)
		has[n] = has_blob(img, &l->blobs[n]);
	for (size_t n = 0; n < l->range_count; n++) {
		if (has[l->ranges[n].blob])
			ret->fetched += l->ranges[n].bytes;
		else
			ret->foreign += l->ranges[n].bytes;
	}
	free(has);
}

static int check(const struct prefetch_list *l, const struct hs_image *img, const char *file,
		 const char *image, struct fit *fit, struct err *e)
{
	char foreign[24];

	if (!*hs_image_digest(img))
		return err_set(e, -EOPNOTSUPP,
			       "%s is an image description; nothing can lie beside it", image);
	measure(l, img, fit);
	if (!l->range_count)
		return err_set(e, -EINVAL,
			       "%s names no stored bytes; make it with 'headstart prefetch make'",
			       file);
	if (!fit->fetched)
		return err_set(e, -EINVAL,
			       "%s names no bytes of %s; carry it over with 'headstart prefetch "
			       "port'",
			       file, image);
	if (!fit->same && !force)
		return err_set(e, -EINVAL,
			       "%s was made for %s %.19s..., this is %.19s...: carry it over with "
			       "'headstart prefetch port', or push it as it is with --force",
			       file, l->image && *l->image ? l->image : "the image",
			       *l->image_digest ? l->image_digest : "(not known)",
			       hs_image_digest(img));
	if (fit->foreign)
		fprintf(stderr,
			"headstart prefetch push: %s of the list are in blobs that the image does "
			"not have and will not be fetched\n",
			text_size(fit->foreign, foreign, sizeof(foreign)));
	return 0;
}

static void print_json(const struct prefetch_list *l, const struct hs_image *img,
		       const struct fit *fit, const struct shipped_list *s, const char *image)
{
	cJSON *j = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(j, "image", image);
	cJSON_AddStringToObject(j, "image_digest", hs_image_digest(img));
	cJSON_AddBoolToObject(j, "pushed", !dry_run);
	if (!dry_run) {
		cJSON_AddStringToObject(j, "digest", s->digest);
		cJSON_AddNumberToObject(j, "ranges_half_bytes", (double)s->ranges_bytes);
		cJSON_AddNumberToObject(j, "files_half_bytes", (double)s->files_bytes);
	}
	cJSON_AddStringToObject(j, "origin", prefetch_origin_name(l->origin));
	cJSON_AddBoolToObject(j, "made_for_this_image", fit->same);
	cJSON_AddNumberToObject(j, "ranges", (double)l->range_count);
	cJSON_AddNumberToObject(j, "files", (double)l->file_count);
	cJSON_AddNumberToObject(j, "bytes", (double)fit->fetched);
	cJSON_AddNumberToObject(j, "foreign_bytes", (double)fit->foreign);
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

static void print_result(const struct prefetch_list *l, const struct hs_image *img,
			 const struct fit *fit, const struct shipped_list *s, const char *image)
{
	char bytes[24];

	if (common.json) {
		print_json(l, img, fit, s, image);
		return;
	}
	printf("%s list: %zu ranges, %s, %zu files\n", prefetch_origin_name(l->origin),
	       l->range_count, text_size(fit->fetched, bytes, sizeof(bytes)), l->file_count);
	if (dry_run)
		printf("would be put beside %s %s\n", image, hs_image_digest(img));
	else
		printf("pushed   %s\nbeside   %s %s, which stays as it is\n", s->digest, image,
		       hs_image_digest(img));
}

static int push(struct hs_engine *eng, const char *file, const char *image, struct err *e)
{
	struct shipped_list shipped = {0};
	struct prefetch_list *l = NULL;
	struct hs_image *img = NULL;
	struct fit fit = {0};
	int rc = prefetch_list_load(file, &l, e);

	if (!rc)
		rc = hs_image_open(eng, image, &img, e);
	if (!rc)
		rc = check(l, img, file, image, &fit, e);
	if (!rc && !dry_run)
		rc = list_push(eng, image, l, &shipped, e);
	if (!rc)
		print_result(l, img, &fit, &shipped, image);
	hs_image_close(img);
	prefetch_list_free(l);
	return rc;
}

int cmd_prefetch_push(int argc, char **argv)
{
	struct hs_engine *engine = NULL;
	struct hs_options o;
	struct err e = {0};
	int first, rc = options_parse(&command, argc, argv, &first);

	if (rc != OPTIONS_GO_ON)
		return rc;
	common_log();
	common.no_cache = true; /* a few metadata requests: nothing to keep */
	common_engine(&o);
	rc = hs_engine_new(&o, &engine, &e);
	if (!rc)
		rc = push(engine, argv[first], argv[first + 1], &e);
	if (rc)
		fprintf(stderr, "headstart prefetch push: %s\n", e.msg);
	hs_engine_free(engine);
	return rc ? EXIT_FAILED : EXIT_OK;
}
