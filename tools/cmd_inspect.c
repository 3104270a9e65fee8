/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c - headstart inspect: what an image is made of */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "options.h"
#include "text.h"

static const struct option_def inspect_options[] = {
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print everything as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", inspect_options},   {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "inspect",
    .usage = "[OPTIONS] IMAGE",
    .purpose = "Show the layers of the accelerated image IMAGE: their formats, codecs, sizes and "
	       "indexes, and the merged map of the device. Only headers and indexes are read.",
    .groups = groups,
    .examples = "  headstart inspect docker://127.0.0.1:5000/nginx:1_accelerated\n"
		"  headstart inspect oci:./layout:nginx --json\n",
    .min_operands = 1,
    .max_operands = 1,
};

static void add_number(cJSON *j, const char *key, uint64_t v)
{
	cJSON_AddNumberToObject(j, key, (double)v);
}

static cJSON *layer_json(const struct hs_layer_info *l)
{
	cJSON *j = cJSON_CreateObject();

	if (*l->digest)
		cJSON_AddStringToObject(j, "digest", l->digest);
	if (*l->name)
		cJSON_AddStringToObject(j, "name", l->name);
	cJSON_AddStringToObject(j, "kind", l->kind);
	cJSON_AddStringToObject(j, "envelope", l->envelope);
	cJSON_AddStringToObject(j, "codec", l->codec);
	add_number(j, "block_bytes", l->block_bytes);
	cJSON_AddBoolToObject(j, "block_crc", l->block_crc);
	add_number(j, "stored_bytes", l->stored_bytes);
	add_number(j, "plain_bytes", l->plain_bytes);
	add_number(j, "virtual_bytes", l->virtual_bytes);
	add_number(j, "segments", l->segments);
	add_number(j, "blocks", l->blocks);
	add_number(j, "cached_bytes", l->cached_bytes);
	cJSON_AddStringToObject(j, "uuid", l->uuid ? l->uuid : "");
	cJSON_AddStringToObject(j, "parent_uuid", l->parent_uuid ? l->parent_uuid : "");
	return j;
}

static void print_json(const struct hs_image *img, const char *ref)
{
	cJSON *j = cJSON_CreateObject(), *layers, *map, *open;
	const char *config = hs_image_config(img);
	uint64_t mappings, data, zeroed;
	struct hs_open_cost cost;
	char *text;

	hs_image_map_totals(img, &mappings, &data, &zeroed);
	hs_image_open_cost(img, &cost);
	cJSON_AddStringToObject(j, "image", ref);
	cJSON_AddStringToObject(j, "digest", hs_image_digest(img));
	add_number(j, "bytes", hs_image_bytes(img));
	layers = cJSON_AddArrayToObject(j, "layers");
	for (size_t i = 0; i < hs_image_layer_count(img); i++) {
		struct hs_layer_info l;

		hs_image_layer(img, i, &l);
		cJSON_AddItemToArray(layers, layer_json(&l));
	}
	map = cJSON_AddObjectToObject(j, "map");
	add_number(map, "mappings", mappings);
	add_number(map, "data_bytes", data);
	add_number(map, "zeroed_bytes", zeroed);
	open = cJSON_AddObjectToObject(j, "open");
	add_number(open, "exchanges", cost.exchanges);
	add_number(open, "requests", cost.requests);
	add_number(open, "bytes", cost.bytes);
	add_number(open, "ns", cost.ns);
	if (config)
		cJSON_AddItemToObject(j, "config", cJSON_Parse(config)); /* checked at open */
	text = cJSON_Print(j);
	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

static const char *short_name(const struct hs_layer_info *l)
{
	const char *base = strrchr(l->name, '/');

	if (*l->digest)
		return text_starts_with(l->digest, "sha256:") ? l->digest + 7 : l->digest;
	return base ? base + 1 : l->name;
}

static void print_table(const struct hs_image *img, const char *ref)
{
	uint64_t mappings, data, zeroed, stored = 0, cached = 0;
	size_t n = hs_image_layer_count(img);
	char a[24], b[24];

	printf("image    %s\n", ref);
	if (*hs_image_digest(img))
		printf("digest   %s\n", hs_image_digest(img));
	printf("device   %s in %zu layers\n\n", text_size(hs_image_bytes(img), a, sizeof(a)), n);
	printf("%3s %-12s %-4s %-4s %-4s %-5s %-3s %10s %10s %8s %8s\n", "", "NAME", "KIND", "TAR",
	       "COD.", "BLOCK", "CRC", "STORED", "PLAIN", "SEGMENTS", "BLOCKS");
	for (size_t i = 0; i < n; i++) {
		struct hs_layer_info l;
		char block[24] = "-";

		hs_image_layer(img, i, &l);
		stored += l.stored_bytes;
		cached += l.cached_bytes;
		if (l.block_bytes)
			snprintf(block, sizeof(block), "%uK", l.block_bytes / 1024);
		printf("%3zu %-12.12s %-4.4s %-4s %-4.4s %-5s %-3s %10s %10s %8llu %8llu\n", i,
		       short_name(&l), l.kind, strcmp(l.envelope, "tar") ? "no" : "yes", l.codec,
		       block, l.block_crc ? "yes" : "no", text_size(l.stored_bytes, a, sizeof(a)),
		       text_size(l.plain_bytes, b, sizeof(b)), (unsigned long long)l.segments,
		       (unsigned long long)l.blocks);
	}
	hs_image_map_totals(img, &mappings, &data, &zeroed);
	printf("\nmap      %llu mappings: %s of data, %s zeroed\n", (unsigned long long)mappings,
	       text_size(data, a, sizeof(a)), text_size(zeroed, b, sizeof(b)));
	printf("stored   %s, %s of it cached\n", text_size(stored, a, sizeof(a)),
	       text_size(cached, b, sizeof(b)));
}

int cmd_inspect(int argc, char **argv)
{
	struct hs_engine *engine = NULL;
	struct hs_image *img = NULL;
	struct hs_options o;
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	common_engine(&o);
	r = hs_engine_new(&o, &engine, &e);
	if (!r)
		r = hs_image_open(engine, argv[first], &img, &e);
	if (!r && common.json)
		print_json(img, argv[first]);
	else if (!r)
		print_table(img, argv[first]);
	else
		fprintf(stderr, "headstart inspect: %s\n", e.msg);
	hs_image_close(img);
	hs_engine_free(engine);
	return r ? EXIT_FAILED : EXIT_OK;
}
