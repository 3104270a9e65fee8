/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of image_config, oci, obd_trace and the header checks of gzidx. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"
#include "gzidx.h"
#include "image_config.h"
#include "obd_trace.h"
#include "oci.h"
#include "text.h"

#define D1	       "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define D2	       "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define CHAIN_OF_D1_D2 "sha256:dd8ddd90bdf3ccbd91abd3f399218c9d93e91246734fab743933f42048ac3e2c"

static int config(const char *json, struct image_config **c, struct err *e)
{
	return image_config_parse(json, strlen(json), c, e);
}

static void test_config(void **state)
{
	struct image_config *c;

	(void)state;
	assert_int_equal(
	    config("{\"repoBlobUrl\":\"https://h/v2/r/blobs\",\"lowers\":["
		   "{\"file\":\"\",\"digest\":\"" D1 "\",\"size\":77,\"dir\":\"/d\"},"
		   "{\"file\":\"f\",\"targetFile\":\"t\",\"gzipIndex\":\"g\",\"x\":[1]}],"
		   "\"upper\":{\"index\":\"i\",\"data\":\"d\",\"vsize\":64},"
		   "\"resultFile\":null,\"download\":{\"enable\":true}} \n",
		   &c, NULL),
	    0);
	assert_string_equal(c->repo_blob_url, "https://h/v2/r/blobs");
	assert_int_equal(c->lower_count, 2);
	assert_null(c->lowers[0].file);
	assert_string_equal(c->lowers[0].digest, D1);
	assert_int_equal(c->lowers[0].size, 77);
	assert_string_equal(c->lowers[1].gzip_index, "g");
	assert_string_equal(c->upper_data, "d");
	assert_null(c->result_file);
	assert_null(c->accel_dir);
	image_config_free(c);

	assert_int_equal(config("{\"lowers\":[{\"file\":\"a\"},{\"dir\":\"/x/fs\"}],"
				"\"accelerationLayer\":true}",
				&c, NULL),
			 0);
	assert_int_equal(c->lower_count, 1);
	assert_string_equal(c->accel_dir, "/x/fs");
	image_config_free(c);
	image_config_free(NULL);
}

static void test_config_refused(void **state)
{
	static const struct {
		const char *json, *says;
	} bad[] = {
	    {"", "JSON"},
	    {"{", "JSON"},
	    {"[]", "object"},
	    {"{\"lowers\":[{\"file\":\"a\"}]} x", "after the end"},
	    {"{}", "lowers"},
	    {"{\"lowers\":{}}", "lowers"},
	    {"{\"lowers\":[\"a\"]}", "lowers"},
	    {"{\"lowers\":[{\"size\":1}]}", "none of"},
	    {"{\"lowers\":[{\"file\":1}]}", "file"},
	    {"{\"lowers\":[{\"digest\":\"sha256:../../x\"}]}", "digest"},
	    {"{\"lowers\":[{\"file\":\"a\",\"size\":-1}]}", "size"},
	    {"{\"lowers\":[{\"file\":\"a\",\"size\":1.5}]}", "size"},
	    {"{\"lowers\":[{\"file\":\"a\",\"size\":1e300}]}", "size"},
	    {"{\"lowers\":[{\"file\":\"a\",\"size\":\"7\"}]}", "size"},
	    {"{\"lowers\":[{\"file\":\"a\"}],\"upper\":{\"index\":\"i\"}}", "only one"},
	    {"{\"lowers\":[{\"file\":\"a\"}],\"upper\":7}", "upper"},
	    {"{\"lowers\":[{\"file\":\"a\"}],\"accelerationLayer\":\"yes\"}", "accelerationLayer"},
	    {"{\"lowers\":[{\"file\":\"a\"}],\"accelerationLayer\":true}", "dir"},
	    {"{\"lowers\":[{\"dir\":\"a\"}],\"accelerationLayer\":true}", "lowers"},
	    {"{\"lowers\":[{\"file\":\"a\"},{\"dir\":\"d\"}],\"accelerationLayer\":true,"
	     "\"recordTracePath\":\"t\"}",
	     "exclude"},
	};

	(void)state;
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct image_config *c = NULL;
		struct err e = {0};

		assert_int_equal(config(bad[n].json, &c, &e), -EBADMSG);
		assert_null(c);
		if (!strstr(e.msg, bad[n].says))
			fail_msg("%s: %s", bad[n].json, e.msg);
	}
}

static void test_config_layers(void **state)
{
	static char json[16384];

	(void)state;
	for (int layers = 255; layers <= 257; layers++) {
		struct image_config *c;
		char *p = json;
		int r;

		p += sprintf(p, "{\"lowers\":[");
		for (int n = 0; n < layers; n++)
			p += sprintf(p, "%s{\"dir\":\"l\"}", n ? "," : "");
		(void)sprintf(p, "],\"accelerationLayer\":%s}", layers == 255 ? "false" : "true");
		r = config(json, &c, NULL);
		assert_int_equal(r, layers <= 256 ? 0 : -EBADMSG);
		if (r == 0) {
			assert_int_equal(c->lower_count, 255);
			image_config_free(c);
		}
	}
}

#define DESC(t, d) "{\"mediaType\":\"" t "\",\"digest\":\"" d "\",\"size\":5}"
#define MANIFEST                                                                                   \
	"{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":" DESC(           \
	    OCI_TYPE_CONFIG, D1) ",\"layers\":[" DESC(OCI_TYPE_LAYER_GZIP, D2) "]}"

static void test_manifest(void **state)
{
	static const char docker[] = "{\"schemaVersion\":2,\"config\":" DESC(
	    DOCKER_TYPE_CONFIG, D1) ",\"layers\":[{\"mediaType\":\"x\",\"digest\":\"" D2
				    "\",\"size\":9007199254740992,\"annotations\":{\"a\":\"b\","
				    "\"" OBD_ANNOTATION_VERSION "\":\"0.1.0\"}}]}";
	struct oci_manifest *m;
	enum oci_kind kind;

	(void)state;
	assert_int_equal(oci_kind_of(MANIFEST, strlen(MANIFEST), &kind, NULL), 0);
	assert_int_equal(kind, OCI_KIND_MANIFEST);
	assert_int_equal(oci_manifest_parse(MANIFEST, strlen(MANIFEST), &m, NULL), 0);
	assert_false(m->docker);
	assert_int_equal(m->layer_count, 1);
	assert_string_equal(m->layers[0].digest, D2);
	assert_int_equal(m->layers[0].size, 5);
	assert_null(oci_annotation(&m->layers[0], "a"));
	oci_manifest_free(m);
	assert_int_equal(oci_manifest_parse(docker, strlen(docker), &m, NULL), 0);
	assert_true(m->docker);
	assert_string_equal(oci_annotation(&m->layers[0], OBD_ANNOTATION_VERSION), "0.1.0");
	assert_int_equal(m->layers[0].size, 9007199254740992);
	oci_manifest_free(m);
	oci_manifest_free(NULL);
}

static void test_manifest_refused(void **state)
{
	static const struct {
		const char *json;
		int code;
	} bad[] = {
	    {"", -EBADMSG},
	    {"{}", -EBADMSG},
	    {"{\"schemaVersion\":1,\"fsLayers\":[]}", -EOPNOTSUPP},
	    {"{\"schemaVersion\":3,\"config\":{},\"layers\":[]}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"layers\":[]}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":{},\"layers\":[]}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":" DESC("t", D1) "}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":" DESC("t", D1) ",\"layers\":{}}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":" DESC("t", D1) ",\"layers\":[1]}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":" DESC("t", "sha256:0") ",\"layers\":[]}", -EBADMSG},
	    {"{\"schemaVersion\":2,\"config\":" DESC("t", D1) ",\"layers\":[],\"manifests\":[]}",
	     -EBADMSG},
	    {"{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX
	     "\",\"config\":" DESC("t", D1) ",\"layers\":[]}",
	     -EBADMSG},
	    {"{\"schemaVersion\":2,\"manifests\":[]}", -EBADMSG},
	};

	(void)state;
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		struct oci_manifest *m = NULL;
		struct err e = {0};

		assert_int_equal(oci_manifest_parse(bad[n].json, strlen(bad[n].json), &m, &e),
				 bad[n].code);
		assert_null(m);
		assert_true(e.msg[0] != '\0');
	}
}

#define ENTRY(d, os, arch, more)                                                                   \
	"{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"" d "\",\"size\":5,\"platform\":"   \
	"{\"os\":\"" os "\",\"architecture\":\"" arch "\"" more "}}"

static const struct oci_descriptor *pick(const struct oci_index *i, const char *platform)
{
	const struct oci_descriptor *d;
	struct oci_platform p;

	assert_int_equal(oci_platform_parse(platform, &p, NULL), 0);
	d = oci_index_pick(i, &p);
	oci_platform_done(&p);
	return d;
}

static void test_index(void **state)
{
	/* clang-format off */
	static const char json[] =
		"{\"schemaVersion\":2,\"manifests\":["
		ENTRY(D1, "unknown", "unknown", "") ","
		ENTRY(D1, "linux", "arm", ",\"variant\":\"v6\"") ","
		ENTRY(D2, "linux", "arm64", "") ","
		ENTRY(D1, "linux", "amd64", ",\"variant\":\"v3\"") ","
		ENTRY(D1, "linux", "amd64", "") "]}";
	/* clang-format on */
	static const char bare[] = "{\"schemaVersion\":2,\"manifests\":[" DESC("t", D2) "]}";
	struct oci_index *i;
	enum oci_kind kind;

	(void)state;
	assert_int_equal(oci_kind_of(json, strlen(json), &kind, NULL), 0);
	assert_int_equal(kind, OCI_KIND_INDEX);
	assert_int_equal(oci_index_parse(json, strlen(json), &i, NULL), 0);
	assert_int_equal(i->manifest_count, 5);
	assert_ptr_equal(pick(i, "linux/amd64"), &i->manifests[4]);
	assert_ptr_equal(pick(i, "linux/amd64/v3"), &i->manifests[3]);
	assert_ptr_equal(pick(i, "linux/amd64/v2"), &i->manifests[4]);
	assert_ptr_equal(pick(i, "linux/arm64/v8"), &i->manifests[2]);
	assert_ptr_equal(pick(i, "linux/arm"), &i->manifests[1]);
	assert_null(pick(i, "linux/arm/v7"));
	assert_null(pick(i, "windows/amd64"));
	assert_null(pick(i, "unknown/unknown"));
	oci_index_free(i);
	assert_int_equal(oci_index_parse(bare, strlen(bare), &i, NULL), 0);
	assert_ptr_equal(pick(i, "linux/amd64"), &i->manifests[0]);
	oci_index_free(i);
	oci_index_free(NULL);
	assert_int_equal(oci_index_parse(MANIFEST, strlen(MANIFEST), &i, NULL), -EBADMSG);
}

/* tests/corpus/oci: an artifact, and a list of referrers with one right entry of three. */
static void test_referrers(void **state)
{
	static const char dir[] = HS_SOURCE_DIR "/tests/corpus/oci/";
	struct oci_manifest *m;
	struct oci_index *i;
	char path[256], *json, *inside;
	size_t len;

	(void)state;
	(void)snprintf(path, sizeof(path), "%sreferrers", dir); /* fits or is not found */
	assert_int_equal(text_read_file(path, 65536, &json, &len, NULL), 0);
	assert_int_equal(oci_index_parse(json, len, &i, NULL), -EBADMSG);
	assert_int_equal(oci_referrers_parse(json, len, &i, NULL), 0);
	assert_int_equal(i->manifest_count, 2);
	assert_string_equal(i->manifests[0].artifact_type,
			    "application/vnd.headstart.prefetch.list.v1");
	assert_non_null(i->manifests[0].data);
	assert_null(i->manifests[1].data); /* of another digest */
	inside = text_dup(i->manifests[0].data);
	oci_index_free(i);
	free(json);

	(void)snprintf(path, sizeof(path), "%sartifact", dir); /* fits or is not found */
	assert_int_equal(text_read_file(path, 65536, &json, &len, NULL), 0);
	assert_string_equal(json, inside);
	free(inside);
	assert_int_equal(oci_manifest_parse(json, len, &m, NULL), 0);
	assert_string_equal(m->artifact_type, "application/vnd.headstart.prefetch.list.v1");
	assert_string_equal(oci_manifest_annotation(m, OCI_ANNOTATION_CREATED),
			    "2024-05-06T07:08:09.123Z");
	assert_null(oci_manifest_annotation(m, "x"));
	assert_non_null(m->subject.digest);
	assert_string_equal(m->config.data, "{}");
	assert_int_equal(m->layer_count, 2);
	assert_string_equal(m->layers[0].data, "the ranges");
	assert_null(m->layers[1].data);
	oci_manifest_free(m);
	free(json);
}

/* What an image may carry without being one that is refused. */
static void test_odd_members(void **state)
{
	static const char *const odd[] = {
	    "\"subject\":{\"mediaType\":\"t\",\"digest\":\"sha512:0\",\"size\":1}",
	    "\"subject\":null",
	    "\"annotations\":{\"a\":1,\"b\":\"c\"}",
	};
	static const char *const bad[] = {
	    "\"subject\":7",
	    "\"annotations\":[]",
	    "\"artifactType\":{}",
	    "\"config\":{\"mediaType\":\"t\",\"digest\":\"" D1 "\",\"size\":1,\"data\":[]}",
	};
	struct oci_manifest *m;
	char *json;

	(void)state;
	for (size_t n = 0; n < sizeof(odd) / sizeof(odd[0]); n++) {
		json = text_printf("{\"schemaVersion\":2,\"config\":" DESC("t", D1) ",\"layers\":"
										    "[],%s}",
				   odd[n]);
		assert_int_equal(oci_manifest_parse(json, strlen(json), &m, NULL), 0);
		assert_null(m->subject.digest);
		oci_manifest_free(m);
		free(json);
	}
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
		json = text_printf("{\"schemaVersion\":2,%s%s,\"layers\":[]}", bad[n],
				   n < 3 ? ",\"config\":" DESC("t", D1) : "");
		assert_int_equal(oci_manifest_parse(json, strlen(json), &m, NULL), -EBADMSG);
		free(json);
	}
}

static void test_platform(void **state)
{
	static const char *const bad[] = {"",	     "linux", "linux/", "/amd64",
					  "a/b/c/d", "a/b/",  "a b/c"};
	struct oci_platform p;

	(void)state;
	assert_int_equal(oci_platform_parse("linux/arm64/v8", &p, NULL), 0);
	assert_string_equal(p.os, "linux");
	assert_string_equal(p.architecture, "arm64");
	assert_string_equal(p.variant, "v8");
	oci_platform_done(&p);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		assert_int_equal(oci_platform_parse(bad[n], &p, NULL), -EINVAL);
	oci_platform_host(&p);
	assert_string_equal(p.os, "linux");
	assert_non_null(p.architecture);
	oci_platform_done(&p);
}

static void test_image_config(void **state)
{
	static const char json[] =
	    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
	    "\"diff_ids\":[\"" D1 "\",\"" D2 "\"]},\"config\":{\"Env\":[\"A=b\"],"
	    "\"Entrypoint\":null,\"Cmd\":[\"sh\",\"-c\",\"x\"],\"User\":\"1:2\",\"Volumes\":{\"/"
	    "v\":{}},"
	    "\"WorkingDir\":\"\",\"StopSignal\":\"SIGQUIT\"},\"history\":[{}]}";
	static const char bare[] = "{\"rootfs\":{\"diff_ids\":[]}}";
	static const char *const bad[] = {"{}", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
					  "{\"rootfs\":{\"diff_ids\":[5]}}",
					  "{\"rootfs\":{},\"config\":{\"Env\":\"x\"}}",
					  "{\"rootfs\":{},\"config\":{\"Cmd\":[1]}}"};
	char chain[72], second[72];
	struct oci_config *c;

	(void)state;
	assert_int_equal(oci_config_parse(json, strlen(json), &c, NULL), 0);
	assert_int_equal(c->diff_id_count, 2);
	assert_string_equal(c->env[0], "A=b");
	assert_null(c->env[1]);
	assert_null(c->entrypoint[0]);
	assert_string_equal(c->cmd[2], "x");
	assert_string_equal(c->volumes[0], "/v");
	assert_null(c->working_dir);
	assert_string_equal(c->stop_signal, "SIGQUIT");
	oci_chain_id(NULL, c->diff_ids[0], chain);
	assert_string_equal(chain, D1);
	oci_chain_id(chain, c->diff_ids[1], second);
	/* printf '%s %s' D1 D2 | sha256sum */
	assert_string_equal(second, CHAIN_OF_D1_D2);
	oci_config_free(c);
	assert_int_equal(oci_config_parse(bare, strlen(bare), &c, NULL), 0);
	assert_non_null(c->env);
	assert_null(c->env[0]);
	assert_null(c->volumes[0]);
	oci_config_free(c);
	oci_config_free(NULL);
	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		assert_int_equal(oci_config_parse(bad[n], strlen(bad[n]), &c, NULL), -EBADMSG);
}

static void trace_seal(uint8_t *f, size_t bytes)
{
	put_le64(f + 8, bytes - 24);
	put_le32(f + 16, crc32c_raw(0, f + 24, bytes - 24));
}

static void test_trace(void **state)
{
	struct obd_trace_record in[2] = {{3, {4096, 512}}, {0, {1ull << 40, OBD_TRACE_MAX_COUNT}}};
	struct obd_trace_record *out;
	size_t bytes, count;
	uint8_t *f;

	(void)state;
	assert_int_equal(obd_trace_encode(in, 2, &f, &bytes, NULL), 0);
	assert_int_equal(bytes, 24 + 48);
	assert_int_equal(get_le32(f), 3270449184u);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_int_equal(out[0].layer, 3);
	assert_int_equal(out[1].range.off, 1ull << 40);
	free(out);
	assert_int_equal(obd_trace_parse(f, bytes - 1, &out, &count, NULL), -EBADMSG);
	assert_int_equal(obd_trace_parse(f, 20, &out, &count, NULL), -EBADMSG);
	assert_int_equal(obd_trace_parse(f, 3, &out, &count, NULL), -ENOENT);
	assert_int_equal(obd_trace_parse("/bin/sh\n/etc/passwd\n/lib/\n", 25, &out, &count, NULL),
			 -ENOENT);
	f[24 + 1] = 0x77; /* padding is part of the checksum, and nothing else */
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), -EBADMSG);
	trace_seal(f, bytes);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), 0);
	free(out);
	f[24] = 'W';
	trace_seal(f, bytes);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), -EBADMSG);
	f[24] = 'R';
	put_le64(f + 24 + 8, OBD_TRACE_MAX_COUNT + 1);
	trace_seal(f, bytes);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), -EBADMSG);
	put_le64(f + 24 + 8, 1);
	put_le64(f + 24 + 16, UINT64_MAX);
	trace_seal(f, bytes);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), -EBADMSG);
	free(f);
	in[0].range.len = 0;
	assert_int_equal(obd_trace_encode(in, 2, &f, &bytes, NULL), -EINVAL);
	assert_int_equal(obd_trace_encode(in, 0, &f, &bytes, NULL), 0);
	assert_int_equal(obd_trace_parse(f, bytes, &out, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(out);
	free(f);
}

/* gzip of "hello\n", by gzip -n */
static const uint8_t HELLO[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
				0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xe7, 0x02, 0x00,
				0x20, 0x30, 0x3a, 0x36, 0x06, 0x00, 0x00, 0x00};

static int gzidx_with(int at, uint64_t v, int width)
{
	struct gzidx *g = NULL;
	struct err e = {0};
	size_t bytes;
	uint8_t *f;
	int r;

	assert_int_equal(gzidx_build(HELLO, sizeof(HELLO), 65536, &f, &bytes, &e), 0);
	for (int n = 0; n < width; n++)
		f[at + n] = (uint8_t)(v >> 8 * n);
	put_le32(f + 329, crc32c_raw(0, f, 329));
	r = gzidx_parse(f, bytes, sizeof(HELLO), &g, &e);
	if (r == 0) {
		assert_int_equal(g->count, 1);
		assert_int_equal(g->point[0].in_off, 10);
		gzidx_free(g);
	} else {
		assert_true(e.msg[0] != '\0');
	}
	free(f);
	return r;
}

static void test_gzidx_fields(void **state)
{
	uint8_t *f, cut[sizeof(HELLO)];
	size_t bytes;

	(void)state;
	assert_int_equal(gzidx_with(8, 1, 1), 0);
	assert_int_equal(gzidx_with(0, 'x', 1), -EBADMSG);
	assert_int_equal(gzidx_with(8, 2, 1), -EOPNOTSUPP);
	assert_int_equal(gzidx_with(9, 7, 1), 0);
	assert_int_equal(gzidx_with(10, 2, 1), -EOPNOTSUPP);
	assert_int_equal(gzidx_with(10, 0, 1), -EBADMSG); /* the entries are packed */
	assert_int_equal(gzidx_with(13, 0, 4), 0);
	assert_int_equal(gzidx_with(17, 0, 4), -EBADMSG);
	assert_int_equal(gzidx_with(17, 32769, 4), -EBADMSG);
	assert_int_equal(gzidx_with(21, 28, 4), -EBADMSG);
	assert_int_equal(gzidx_with(25, 0, 8), -EBADMSG);
	assert_int_equal(gzidx_with(25, 2, 8), -EBADMSG);
	assert_int_equal(gzidx_with(25, UINT64_MAX, 8), -EBADMSG);
	assert_int_equal(gzidx_with(33, 27, 8), -EBADMSG);
	assert_int_equal(gzidx_with(41, 27, 8), -EBADMSG);
	assert_int_equal(gzidx_with(49, 1ull << 50, 8), -EBADMSG); /* 16 bytes cannot become that */
	assert_int_equal(gzidx_with(313, 332, 8), -EBADMSG);
	assert_int_equal(gzidx_with(313, UINT64_MAX, 8), -EBADMSG);
	assert_int_equal(gzidx_with(321, 1, 8), -EBADMSG);
	assert_int_equal(gzidx_build(HELLO, sizeof(HELLO), 65535, &f, &bytes, NULL), -EINVAL);
	for (size_t n = 0; n < sizeof(HELLO); n++)
		assert_int_equal(gzidx_build(HELLO, n, 65536, &f, &bytes, NULL), -EBADMSG);
	memcpy(cut, HELLO, sizeof(cut));
	cut[20] ^= 1;
	assert_int_equal(gzidx_build(cut, sizeof(cut), 65536, &f, &bytes, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_config_refused),
	    cmocka_unit_test(test_config_layers),
	    cmocka_unit_test(test_manifest),
	    cmocka_unit_test(test_manifest_refused),
	    cmocka_unit_test(test_index),
	    cmocka_unit_test(test_referrers),
	    cmocka_unit_test(test_odd_members),
	    cmocka_unit_test(test_platform),
	    cmocka_unit_test(test_image_config),
	    cmocka_unit_test(test_trace),
	    cmocka_unit_test(test_gzidx_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
