/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_open_image.c - a layer of arbitrary bytes through the whole engine: open, read, close
 *
 * The first byte says what the rest is: a layer file alone or above a good one, or TurboOCI
 * metadata over a gzip file with its index (bytes 1 and 2: where the metadata ends and the index
 * begins). One engine lives through all iterations.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "bytes.h"
#include "err.h"
#include "gzidx.h"
#include "headstart.h"
#include "log.h"
#include "lsmt.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	FORM_ALONE,
	FORM_ABOVE,
	FORM_BELOW,
	FORM_WARP_GZIP,
	FORM_WARP_INDEX,
	FORM_WARP_RAW,
	FORM_UPPER,
	FORM_COUNT
};

#define READ_MAX (256u << 10)

static struct hs_engine *eng;
static char dir[64];
static uint8_t *buf;

static void put(const char *name, const void *p, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	assert(fd >= 0 && write(fd, p, len) == (ssize_t)len);
	close(fd);
}

static void cleanup(void)
{
	static const char *const names[] = {"good", "target", "index", "fuzz", "more", "config"};
	char path[128];

	hs_engine_free(eng);
	free(buf);
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[n]);
		(void)unlink(path); /* a form that never came up has left none */
	}
	(void)rmdir(dir); /* best effort */
}

/* A raw layer with two ranges of data. */
static void put_good(void)
{
	struct lsmt_segment seg[2] = {{.off = 0, .len = 8192, .moff = 4096},
				      {.off = 65536, .len = 512, .moff = 4096 + 8192}};
	struct lsmt_header h = {.flags = LSMT_FLAG_HEADER | LSMT_FLAG_DATA | LSMT_FLAG_SEALED,
				.virtual_bytes = 1u << 20,
				.index_offset = 4096 + 8192 + 512};
	uint8_t *records, *file = xmalloc_zero(1, 1u << 16);
	size_t bytes = h.index_offset;

	assert(lsmt_index_encode(seg, 2, h.index_offset, &records, &h.index_count, NULL) == 0);
	memset(file + 4096, 'p', 8192 + 512);
	lsmt_encode_header(&h, file);
	memcpy(file + bytes, records, h.index_count * LSMT_RECORD_BYTES);
	bytes += h.index_count * LSMT_RECORD_BYTES;
	h.flags &= ~LSMT_FLAG_HEADER;
	lsmt_encode_header(&h, file + bytes);
	put("good", file, bytes + LSMT_HEADER_BYTES);
	free(records);
	free(file);
}

/* A gzip file of several spans, with its index. */
static void put_target(void)
{
	size_t plain_bytes = 300000, index_bytes;
	uint8_t *plain = xmalloc_zero(1, plain_bytes), *gzip = xmalloc_zero(1, plain_bytes), *index;
	uint32_t x = 1;
	z_stream z = {0};

	for (size_t n = 0; n < plain_bytes; n++) {
		x = x * 1103515245 + 12345;
		plain[n] = (uint8_t)(x >> 28 | 'a');
	}
	assert(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = plain;
	z.avail_in = (uInt)plain_bytes;
	z.next_out = gzip;
	z.avail_out = (uInt)plain_bytes;
	assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
	put("target", gzip, z.total_out);
	assert(gzidx_build(gzip, z.total_out, 65536, &index, &index_bytes, NULL) == 0);
	put("index", index, index_bytes);
	deflateEnd(&z);
	free(index);
	free(plain);
	free(gzip);
}

static void start(void)
{
	struct hs_options o = {.workers = 1, .hosts_dir = "/nonexistent"};
	struct err e = {0};

	strcpy(dir, "/tmp/hs-fuzz-XXXXXX");
	assert(mkdtemp(dir));
	log_open(LOG_LEVEL_ERROR, open("/dev/null", O_WRONLY | O_CLOEXEC));
	put_good();
	put_target();
	put("more", "", 0);
	assert(hs_engine_new(&o, &eng, &e) == 0);
	buf = malloc(READ_MAX);
	assert(buf);
	atexit(cleanup);
}

static char *config_of(unsigned int form)
{
	switch (form) {
	case FORM_ABOVE:
		return text_printf("{\"lowers\":[{\"file\":\"%s/good\"},{\"file\":\"%s/fuzz\"}]}",
				   dir, dir);
	case FORM_BELOW:
		return text_printf("{\"lowers\":[{\"file\":\"%s/fuzz\"},{\"file\":\"%s/good\"}]}",
				   dir, dir);
	case FORM_WARP_GZIP:
		return text_printf(
		    "{\"lowers\":[{\"file\":\"%s/fuzz\",\"targetFile\":\"%s/target\","
		    "\"gzipIndex\":\"%s/index\"}]}",
		    dir, dir, dir);
	case FORM_WARP_INDEX:
		return text_printf(
		    "{\"lowers\":[{\"file\":\"%s/fuzz\",\"targetFile\":\"%s/target\","
		    "\"gzipIndex\":\"%s/more\"}]}",
		    dir, dir, dir);
	case FORM_WARP_RAW:
		return text_printf(
		    "{\"lowers\":[{\"file\":\"%s/fuzz\",\"targetFile\":\"%s/target\"}]}", dir, dir);
	case FORM_UPPER:
		return text_printf("{\"lowers\":[{\"file\":\"%s/good\"}],\"upper\":{\"data\":"
				   "\"%s/fuzz\",\"index\":\"%s/more\"}}",
				   dir, dir, dir);
	default:
		return text_printf("{\"lowers\":[{\"file\":\"%s/fuzz\"}]}", dir);
	}
}

static void read_some(struct hs_image *img)
{
	uint64_t size = hs_image_bytes(img), at = 0, off, bytes;
	uint64_t places[] = {0, size / 2, size - 512, size > READ_MAX ? size - READ_MAX : 0};
	struct hs_layer_info info;
	bool zeroed;

	assert(size && size % 512 == 0);
	for (size_t n = 0; n < sizeof(places) / sizeof(places[0]); n++) {
		uint64_t n_bytes = size - places[n] < READ_MAX ? size - places[n] : READ_MAX;
		struct err e = {0};

		if (hs_image_read(img, buf, n_bytes, places[n], &e))
			assert(e.msg[0]);
	}
	for (int n = 0; n < 16 && hs_image_next_data(img, at, &off, &bytes); n++) {
		assert(off >= at && bytes && off + bytes <= size);
		(void)hs_image_read(img, buf, bytes < 70000 ? bytes : 70000, off, NULL);
		at = off + bytes;
	}
	for (size_t n = 0; n < 64 && hs_image_mapping(img, n, &off, &bytes, &zeroed); n++)
		assert(bytes && off + bytes <= size);
	for (size_t n = 0; n < hs_image_layer_count(img); n++)
		hs_image_layer(img, n, &info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char config[128], *json;
	struct hs_image *img;
	struct err e = {0};
	unsigned int form;

	if (len < 3)
		return 0;
	if (!eng)
		start();
	form = data[0] % FORM_COUNT;
	if (form == FORM_WARP_INDEX || form == FORM_UPPER) {
		size_t cut = get_le16(data + 1);

		cut = cut < len - 3 ? cut : len - 3;
		put("fuzz", data + 3, cut);
		put("more", data + 3 + cut, len - 3 - cut);
	} else {
		put("fuzz", data + 3, len - 3);
	}
	json = config_of(form);
	put("config", json, strlen(json));
	free(json);
	snprintf(config, sizeof(config), "%s/config", dir);
	if (hs_image_open(eng, config, &img, &e)) {
		assert(e.msg[0] && e.code < 0);
		return 0;
	}
	read_some(img);
	hs_image_close(img);
	return 0;
}
