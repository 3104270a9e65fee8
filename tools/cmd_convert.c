/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_convert.c - headstart convert: an OCI image becomes an accelerated one */
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach_list.h"
#include "commands.h"
#include "convert.h"
#include "err.h"
#include "ext4.h"
#include "headstart.h"
#include "imageref.h"
#include "hot_order.h"
#include "log.h"
#include "net.h"
#include "options.h"
#include "prefetch_list.h"
#include "progress.h"
#include "text.h"

#define GIB (1ull << 30)

static bool all_platforms, oci, quiet, no_reuse, no_list;
static const char *layout_by;
static unsigned int codec_choice;
static uint64_t block_bytes = 16384, level = 3, max_bytes, threads, spool_memory = 512ull << 20;
static const char *vsize = "64G", *tmp_dir;

/* the existing convertor's */
static const char *repository, *user, *input_tag, *input_digest, *output_tag, *obd_tag, *work_dir;
static const char *fs_type, *fastoci, *turbo, *db_str, *db_type, *cert_dir, *root_ca, *client_cert;
static bool plain, verbose, mkfs = true, disable_sparse, referrer, reserve, no_upload, dump;
static uint64_t concurrency = 4;

static const struct option_def convert_options[] = {
    {"platform", 0, OPTION_STRING, "OS/ARCH", &common.platform,
     "which image of a multi-platform index", "this machine's"},
    {"all-platforms", 0, OPTION_FLAG, NULL, &all_platforms,
     "convert every image of an index, and the index", NULL},
    {"codec", 0, OPTION_CHOICE, "zstd|lz4", &codec_choice, "compression of the blocks", "zstd"},
    {"block-size", 0, OPTION_SIZE, "SIZE", &block_bytes, "compressed block: 4K, 8K, 16K or 32K",
     "16K"},
    {"level", 0, OPTION_NUMBER, "N", &level, "zstd level, 1 to 19", "3"},
    {"vsize", 0, OPTION_STRING, "SIZE", &vsize, "size of the device; a plain number counts GiB",
     "64G"},
    {"max-size", 0, OPTION_SIZE, "SIZE", &max_bytes, "refuse an image whose layers unpack to more",
     "--vsize"},
    {"oci", 0, OPTION_FLAG, NULL, &oci, "OCI media types; always so in an OCI directory", NULL},
    {"referrer", 0, OPTION_FLAG, NULL, &referrer,
     "let the new image refer to its source (subject); implies --oci", NULL},
    {"no-reuse", 0, OPTION_FLAG, NULL, &no_reuse,
     "convert every layer, also those converted before", NULL},
    {"layout-by", 0, OPTION_STRING, "LIST", &layout_by,
     "store what this prefetch list names last in each layer, in its order", NULL},
    {"no-list", 0, OPTION_FLAG, NULL, &no_list, "put no prefetch list beside the new image", NULL},
    {"no-upload", 0, OPTION_FLAG, NULL, &no_upload, "convert and report, write nothing to TARGET",
     NULL},
    {"dump-manifest", 0, OPTION_FLAG, NULL, &dump,
     "write config.json, manifest.json and index.json to --dir", NULL},
    {"dir", 'd', OPTION_STRING, "DIR", &work_dir, "directory of --dump-manifest", "tmp_conv"},
    {"threads", 0, OPTION_NUMBER, "N", &threads, "compressing threads", "number of CPUs"},
    {"spool-memory", 0, OPTION_SIZE, "SIZE", &spool_memory,
     "compressed layers wait in this much memory, then in --tmp-dir", "512M"},
    {"tmp-dir", 0, OPTION_STRING, "DIR", &tmp_dir, "for unnamed temporary files",
     "$TMPDIR or /var/tmp"},
    {"quiet", 'q', OPTION_FLAG, NULL, &quiet, "no progress", NULL},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_def upstream_options[] = {
    {"repository", 'r', OPTION_STRING, "REPO", &repository,
     "HOST/REPO of source and target, instead of SOURCE and TARGET", NULL},
    {"username", 'u', OPTION_SECRET, "USER:PASS", &user, "as --creds; without a colon: anonymous",
     NULL},
    {"input-tag", 'i', OPTION_STRING, "TAG", &input_tag, "source tag", NULL},
    {"input-digest", 'g', OPTION_STRING, "DIGEST", &input_digest, "source digest", NULL},
    {"output-tag", 'o', OPTION_STRING, "TAG", &output_tag, "target tag", NULL},
    {"overlaybd", 0, OPTION_STRING, "TAG", &obd_tag, "target tag; overrides -o", NULL},
    {"plain", 0, OPTION_FLAG, NULL, &plain, "as --insecure", NULL},
    {"verbose", 0, OPTION_FLAG, NULL, &verbose, "as --log-level debug", NULL},
    {"root-ca", 0, OPTION_STRING, "FILE", &root_ca, "as --cacert", NULL},
    {"client-cert", 0, OPTION_STRING, "CERT:KEY", &client_cert, "as --cert and --key", NULL},
    {"fstype", 0, OPTION_STRING, "TYPE", &fs_type, "only ext4", "ext4"},
    {"mkfs", 0, OPTION_FLAG, NULL, &mkfs, "only true: the file system is made in the first layer",
     "true"},
    {"concurrency-limit", 0, OPTION_NUMBER, "N", &concurrency,
     "accepted; images are converted one after the other", NULL},
    {"disable-sparse", 0, OPTION_FLAG, NULL, &disable_sparse, "accepted; nothing to disable", NULL},
    {"reserve", 0, OPTION_FLAG, NULL, &reserve, "accepted; no working files exist", NULL},
    {"fastoci", 0, OPTION_STRING, "TAG", &fastoci, "not supported", NULL},
    {"turboOCI", 0, OPTION_STRING, "TAG", &turbo, "not supported", NULL},
    {"db-str", 0, OPTION_STRING, "STR", &db_str,
     "not supported: the registry is asked what it holds", NULL},
    {"db-type", 0, OPTION_STRING, "TYPE", &db_type, "not supported", NULL},
    {"cert-dir", 0, OPTION_STRING, "DIR", &cert_dir, "not supported: use --cacert, --cert, --key",
     NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", convert_options},
    {"Registry", registry_options},
    {"Options of the overlaybd convertor", upstream_options},
    {"General", general_options},
    {0},
};

static const struct command command = {
    .name = "convert",
    .usage = "[OPTIONS] SOURCE TARGET",
    .purpose = "Convert the image SOURCE into the overlaybd format, which 'headstart run' and "
	       "overlaybd start before it has arrived, and store it as TARGET. SOURCE is "
	       "docker://HOST/REPO[:TAG|@DIGEST], oci:DIR[:TAG] or docker-archive:FILE; TARGET is "
	       "docker://HOST/REPO:TAG or oci:DIR:TAG. Layers that the target repository holds "
	       "converted already are not converted again. The tag is written last.",
    .groups = groups,
    .examples =
	"  headstart convert docker://127.0.0.1:5000/nginx:1 \\\n"
	"      docker://127.0.0.1:5000/nginx:1_accelerated\n"
	"  headstart convert --all-platforms --codec lz4 oci:./in:1 oci:./out:1\n"
	"  headstart convert --layout-by web.list oci:./in:1 oci:./out:1\n"
	"  headstart convert -u me:secret -r registry.example/nginx -i 1 -o 1_accelerated\n",
    .notes = "Needs no root. Exit status: 0 converted, 1 failed, 2 wrong arguments.",
    .max_operands = 2,
};

/* Both ways of naming source and target end in two image references. */
static int parse_names(int argc, char **argv, int first, struct imageref *source,
		       struct imageref *target, struct err *e)
{
	const char *tag = obd_tag ? obd_tag : output_tag;
	char *from, *to;
	int rc;

	if (!repository) {
		if (input_tag || input_digest || tag)
			return err_set(e, -EINVAL, "-i, -g and -o need -r REPOSITORY");
		if (argc - first != 2)
			return err_set(e, -EINVAL, "SOURCE and TARGET are needed");
		rc = imageref_parse(argv[first], source, e);
		return rc < 0 ? rc : imageref_parse(argv[first + 1], target, e);
	}
	if (argc != first)
		return err_set(e, -EINVAL, "either -r or SOURCE and TARGET");
	if (!(input_tag || input_digest) || !tag)
		return err_set(e, -EINVAL, "-r needs -i TAG or -g DIGEST, and -o TAG");
	from = text_printf("docker://%s%s%s", repository, input_tag ? ":" : "@",
			   input_tag ? input_tag : input_digest);
	to = text_printf("docker://%s:%s", repository, tag);
	rc = imageref_parse(from, source, e);
	if (rc == 0)
		rc = imageref_parse(to, target, e);
	free(from);
	free(to);
	return rc;
}

static int check_names(const struct imageref *source, const struct imageref *target, struct err *e)
{
	if (source->kind == IMAGEREF_CONFIG)
		return err_set(e, -EINVAL,
			       "SOURCE must be docker://, oci: or docker-archive:, not \"%s\"",
			       source->path);
	if (target->kind != IMAGEREF_DOCKER && target->kind != IMAGEREF_OCI)
		return err_set(e, -EINVAL, "TARGET must be docker://HOST/REPO:TAG or oci:DIR:TAG");
	if (target->digest || !target->tag)
		return err_set(e, -EINVAL, "TARGET needs a tag");
	if (source->kind == target->kind && source->tag && !strcmp(source->tag, target->tag) &&
	    (source->kind == IMAGEREF_OCI
		 ? !strcmp(source->path, target->path)
		 : !strcmp(source->host, target->host) && !strcmp(source->repo, target->repo)))
		return err_set(e, -EINVAL, "SOURCE and TARGET are the same name");
	return 0;
}

/* Options of the other convertor that ask for something else than what is done here. */
static int check_unsupported(struct err *e)
{
	if (fastoci || turbo)
		return err_set(
		    e, -EINVAL,
		    "--fastoci and --turboOCI are not supported: only native layers are made");
	if (db_str || db_type)
		return err_set(e, -EINVAL,
			       "--db-str and --db-type are not supported: reuse needs no database");
	if (cert_dir)
		return err_set(e, -EINVAL,
			       "--cert-dir is not supported: use --cacert, --cert and --key");
	if (!mkfs)
		return err_set(e, -EINVAL, "--mkfs=false is not supported: there is no base layer");
	if (fs_type && strcmp(fs_type, "ext4") != 0)
		return err_set(e, -EINVAL, "--fstype %s is not supported: only ext4 is made",
			       fs_type);
	return 0;
}

/* "64G", or as the other convertor has it, "64". */
static int parse_vsize(uint64_t *ret, struct err *e)
{
	size_t digits = strspn(vsize, "0123456789");
	uint64_t v;

	if (text_parse_size(vsize, &v) < 0)
		return err_set(e, -EINVAL, "--vsize %s is not a size", vsize);
	if (!vsize[digits])
		v = v > EXT4_BYTES_MAX / GIB ? EXT4_BYTES_MAX + 1 : v * GIB;
	if (v < EXT4_BYTES_MIN || v > EXT4_BYTES_MAX || v % BLOCK_BYTES)
		return err_set(e, -EINVAL, "--vsize must be a multiple of 4K from 16M to 15T");
	*ret = v;
	return 0;
}

static int fill_options(struct convert_options *o, struct err *e)
{
	int rc = check_unsupported(e);

	if (rc == 0)
		rc = parse_vsize(&o->device_bytes, e);
	if (rc < 0)
		return rc;
	if (block_bytes < 4096 || block_bytes > 32768 || (block_bytes & (block_bytes - 1)))
		return err_set(e, -EINVAL, "--block-size must be 4K, 8K, 16K or 32K");
	if (level < 1 || level > 19)
		return err_set(e, -EINVAL, "--level must be 1 to 19");
	if (threads > 256)
		return err_set(e, -EINVAL, "--threads must be 1 to 256");
	if (all_platforms && common.platform)
		return err_set(e, -EINVAL, "either --platform or --all-platforms");
	o->platform = common.platform;
	o->all_platforms = all_platforms;
	o->format.codec = codec_choice ? CODEC_LZ4 : CODEC_ZSTD;
	o->format.level = codec_choice ? 0 : (int)level;
	o->format.block_bytes = (uint32_t)block_bytes;
	o->max_bytes = max_bytes ? max_bytes : o->device_bytes;
	o->oci = oci || referrer || o->target->kind == IMAGEREF_OCI;
	o->referrer = referrer;
	o->reuse = !no_reuse;
	o->upload = !no_upload;
	o->dump_dir = dump ? (work_dir ? work_dir : "tmp_conv") : NULL;
	o->threads = threads ? (unsigned int)threads : (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	o->memory_bytes = spool_memory;
	o->spool_dir = tmp_dir;
	o->creds = common.creds;
	o->authfile = common.authfile;
	o->cacert = common.cacert;
	o->cert = common.cert;
	o->key = common.key;
	o->hosts_dir = common.hosts_dir;
	o->insecure = common.insecure;
	return 0;
}

/* Give the other convertor's names for registry options their meaning. */
static void merge_common(void)
{
	if (user && strchr(user, ':'))
		common.creds = user;
	common.insecure |= plain;
	if (root_ca)
		common.cacert = root_ca;
	if (client_cert) {
		char *cert = text_dup(client_cert), *colon = strchr(cert, ':');

		if (colon) {
			*colon = 0;
			common.key = colon + 1;
		}
		common.cert = cert; /* lives as long as the process */
	}
	if (verbose)
		common.log_level = LOG_LEVEL_DEBUG;
}

/* --- the list beside the new image --- */

static char *name_by_digest(const struct imageref *target, const char *digest)
{
	struct imageref r = *target;

	r.tag = NULL;
	r.digest = (char *)digest;
	return imageref_text(&r);
}

static int attach_one(struct hs_engine *engine, const struct convert_options *o, const char *digest,
		      const struct prefetch_list *by, struct attached_list *ret, struct err *e)
{
	char *image = name_by_digest(o->target, digest), *name = imageref_text(o->target);
	char *by_image =
	    by && *by->image_digest ? name_by_digest(o->target, by->image_digest) : NULL;
	struct list_source source = {.by = by, .by_image = by_image};
	int rc = attach_list(engine, image, name, &source, ret, e);

	free(by_image);
	free(image);
	free(name);
	return rc;
}

/* A list is a help, not a part of the image: that it fails is worth a warning. */
static void attach(const struct convert_options *o, const struct convert_result *r,
		   const struct prefetch_list *by, struct attached_list *ret)
{
	struct hs_engine *engine = NULL;
	struct hs_options ho;
	struct err e = {0};
	int rc;

	common.no_cache = true; /* a few blocks of metadata */
	common_engine(&ho);
	ho.platform = NULL; /* a digest names one image */
	rc = hs_engine_new(&ho, &engine, &e);
	for (size_t i = 0; i < r->image_count; i++) {
		if (!rc)
			rc = attach_one(engine, o, r->images[i].digest, by, &ret[i], &e);
		if (rc)
			log_write(rc == -EEXIST ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
				  "no prefetch list was put beside the new image digest=%s "
				  "error=\"%s\"",
				  r->images[i].digest, e.msg);
		rc = engine ? 0 : rc;
	}
	hs_engine_free(engine);
}

static void add_attached(cJSON *j, const struct attached_list *a)
{
	cJSON *l;

	if (!a->shipped.digest[0])
		return;
	l = cJSON_AddObjectToObject(j, "list");
	cJSON_AddStringToObject(l, "digest", a->shipped.digest);
	cJSON_AddStringToObject(l, "origin", prefetch_origin_name(a->origin));
	cJSON_AddNumberToObject(l, "ranges", (double)a->ranges);
	cJSON_AddNumberToObject(l, "bytes", (double)a->bytes);
	cJSON_AddNumberToObject(l, "files", (double)a->files);
	cJSON_AddNumberToObject(l, "missing_files", (double)a->missing_files);
}

static void print_attached(const struct attached_list *a)
{
	char bytes[24];

	if (a->shipped.digest[0])
		fprintf(stderr, "%s prefetch list: %zu ranges, %s, %s\n",
			prefetch_origin_name(a->origin), a->ranges,
			text_size(a->bytes, bytes, sizeof(bytes)), a->shipped.digest);
}

/* --- results --- */

static cJSON *image_json(const struct convert_image *im, const struct attached_list *attached)
{
	cJSON *j = cJSON_CreateObject(), *layers;

	cJSON_AddStringToObject(j, "platform", im->platform ? im->platform : "");
	cJSON_AddStringToObject(j, "source_digest", im->source_digest);
	cJSON_AddStringToObject(j, "digest", im->digest);
	layers = cJSON_AddArrayToObject(j, "layers");
	for (size_t i = 0; i < im->layer_count; i++) {
		const struct convert_layer *l = &im->layers[i];
		cJSON *k = cJSON_CreateObject();

		cJSON_AddStringToObject(k, "source_digest", l->source_digest);
		cJSON_AddStringToObject(k, "digest", l->digest);
		cJSON_AddStringToObject(k, "chain_id", l->chain_id);
		cJSON_AddNumberToObject(k, "source_bytes", (double)l->source_bytes);
		cJSON_AddNumberToObject(k, "tar_bytes", (double)l->tar_bytes);
		cJSON_AddNumberToObject(k, "bytes", (double)l->bytes);
		cJSON_AddNumberToObject(k, "hot_bytes", (double)l->hot_bytes);
		cJSON_AddBoolToObject(k, "ordered", l->ordered);
		cJSON_AddBoolToObject(k, "reused", l->reused);
		cJSON_AddBoolToObject(k, "sent", l->sent);
		cJSON_AddItemToArray(layers, k);
	}
	add_attached(j, attached);
	return j;
}

static double cpu_ms_per_mb(const struct convert_result *r)
{
	return r->tar_bytes ? (double)r->cpu_ns / (double)r->tar_bytes : 0; /* ns/B = ms/MB */
}

static void print_json_result(const struct convert_result *r, const struct attached_list *attached,
			      const char *target)
{
	cJSON *j = cJSON_CreateObject(), *images;
	char *text;

	cJSON_AddStringToObject(j, "target", target);
	cJSON_AddStringToObject(j, "digest", r->digest);
	cJSON_AddStringToObject(j, "media_type", r->media_type);
	cJSON_AddNumberToObject(j, "tar_bytes", (double)r->tar_bytes);
	cJSON_AddNumberToObject(j, "source_bytes", (double)r->source_bytes);
	cJSON_AddNumberToObject(j, "stored_bytes", (double)r->stored_bytes);
	cJSON_AddNumberToObject(j, "sent_bytes", (double)r->sent_bytes);
	cJSON_AddNumberToObject(j, "seconds", (double)r->wall_ns / 1e9);
	cJSON_AddNumberToObject(j, "cpu_seconds", (double)r->cpu_ns / 1e9);
	cJSON_AddNumberToObject(j, "mb_per_second",
				r->wall_ns ? (double)r->tar_bytes * 1e3 / (double)r->wall_ns : 0);
	cJSON_AddNumberToObject(j, "cpu_ms_per_mb", cpu_ms_per_mb(r));
	images = cJSON_AddArrayToObject(j, "images");
	for (size_t i = 0; i < r->image_count; i++)
		cJSON_AddItemToArray(images, image_json(&r->images[i], &attached[i]));
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

static void print_result(const struct convert_result *r, const struct attached_list *attached,
			 const char *target)
{
	char tar[24], stored[24], sent[24];

	if (common.json) {
		print_json_result(r, attached, target);
		return;
	}
	printf("%s %s\n", target, r->digest);
	if (!quiet)
		fprintf(stderr,
			"%s unpacked, image is %s, %s sent; %.1f s, %.0f MB/s, %.1f CPU-ms/MB\n",
			text_size(r->tar_bytes, tar, sizeof(tar)),
			text_size(r->stored_bytes, stored, sizeof(stored)),
			text_size(r->sent_bytes, sent, sizeof(sent)), (double)r->wall_ns / 1e9,
			r->wall_ns ? (double)r->tar_bytes * 1e3 / (double)r->wall_ns : 0.0,
			cpu_ms_per_mb(r));
	for (size_t i = 0; !quiet && i < r->image_count; i++)
		print_attached(&attached[i]);
}

static int load_layout(struct prefetch_list **ret_list, struct hot_order **ret, struct err *e)
{
	int rc = layout_by ? prefetch_list_load(layout_by, ret_list, e) : 0;

	if (rc || !layout_by)
		return rc;
	if (!(*ret_list)->touch_count)
		return err_set(e, -EINVAL,
			       "%s says which stored bytes are read, not which files: it is only "
			       "half of a list",
			       layout_by);
	*ret = hot_order_new(*ret_list);
	return 0;
}

static int convert(struct convert_options *o, struct err *e)
{
	struct net_options no = {
	    .creds = common.creds,
	    .authfile = common.authfile,
	    .cacert = common.cacert,
	    .client_cert = common.cert,
	    .client_key = common.key,
	    .hosts_dir = common.hosts_dir,
	    .insecure = common.insecure,
	    .max_conns = (unsigned int)(common.max_conns < 1024 ? common.max_conns : 1024),
	};
	struct convert_result result = {0};
	struct attached_list *attached = NULL;
	struct prefetch_list *by = NULL;
	struct hot_order *order = NULL;
	char *name = imageref_text(o->target);
	int rc = load_layout(&by, &order, e);

	o->order = order;
	if (rc == 0)
		rc = net_new(&no, &o->net, e);
	if (rc == 0) {
		o->progress = progress_new(quiet);
		rc = convert_run(o, &result, e);
		progress_free(o->progress);
	}
	if (rc == 0) {
		attached = xmalloc_zero(result.image_count + 1, sizeof(*attached));
		if (!no_list && o->upload)
			attach(o, &result, by, attached);
		print_result(&result, attached, name);
	}
	free(attached);
	hot_order_free(order);
	prefetch_list_free(by);
	convert_result_done(&result);
	net_free(o->net);
	free(name);
	return rc;
}

int cmd_convert(int argc, char **argv)
{
	struct imageref source = {0}, target = {0};
	struct convert_options o = {.source = &source, .target = &target};
	struct err e = {0};
	int first, rc, code = options_parse(&command, argc, argv, &first);

	if (code != OPTIONS_GO_ON)
		return code;
	merge_common();
	common_log();
	rc = parse_names(argc, argv, first, &source, &target, &e);
	if (rc == 0)
		rc = check_names(&source, &target, &e);
	if (rc == 0)
		rc = fill_options(&o, &e);
	if (rc < 0) {
		code = options_usage(&command, "%s", e.msg);
	} else {
		rc = convert(&o, &e);
		code = rc < 0 ? EXIT_FAILED : EXIT_OK;
		if (rc < 0)
			fprintf(stderr, "headstart convert: %s\n", e.msg);
	}
	imageref_done(&source);
	imageref_done(&target);
	return code;
}
