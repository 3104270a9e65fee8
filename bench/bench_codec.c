/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec - what a codec and a block size cost and gain on a real input
 *
 * Usage: bench_codec FILE [ROUNDS]
 *
 * FILE (best a tar of what images hold) is cut into blocks, each encoded alone as ZFile does, and
 * decoded again, ROUNDS times. CPU time of the process, so a busy machine shows in the spread only
 * a little. Wire counts every stored block with its CRC and its table entry.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "err.h"
#include "text.h"
#include "zfile.h"

#define INPUT_MAX_BYTES (512u << 20)
#define ROUNDS_MAX	64

struct setting {
	enum codec_id codec;
	int level;
};

static const struct setting SETTINGS[] = {
    {CODEC_LZ4, 0}, {CODEC_ZSTD, 1}, {CODEC_ZSTD, 3}, {CODEC_ZSTD, 6}, {CODEC_ZSTD, 9},
};

struct input {
	const uint8_t *p;
	size_t bytes;
	int rounds;
};

/* Median, and half the distance between the quartiles. */
struct figure {
	double median, spread;
};

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static struct figure figure_of(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return (struct figure){v[n / 2], (v[n * 3 / 4] - v[n / 4]) / 2};
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_codec: %s\n", what);
	exit(1);
}

static void run(const struct input *in, struct setting s, uint32_t block)
{
	uint64_t blocks = in->bytes / block;
	size_t room = codec_bound(s.codec, block) + 4;
	uint8_t *stored = xmalloc_zero(blocks, room), *out = xmalloc_zero(1, block);
	long *len = xmalloc_zero(blocks, sizeof(*len));
	double enc[ROUNDS_MAX], dec[ROUNDS_MAX];
	struct codec *c = codec_new();
	struct zfile_info info = {.original_bytes = blocks * block,
				  .block_count = blocks,
				  .block_bytes = block,
				  .codec = s.codec,
				  .verify = true};
	struct figure e, d;
	uint64_t wire = 0;

	memset(stored, 1, blocks * room); /* page faults are no part of encoding */
	for (int r = 0; r < in->rounds; r++) {
		uint64_t t0 = clock_cpu_ns(), t1;

		for (uint64_t n = 0; n < blocks; n++) {
			len[n] = zfile_block_encode(s.codec, s.level, c, in->p + n * block, block,
						    stored + n * room, room);
			if (len[n] < 0)
				fail("a block could not be encoded");
		}
		t1 = clock_cpu_ns();
		for (uint64_t n = 0; n < blocks; n++)
			if (zfile_block_decode(&info, n, c, stored + n * room, (size_t)len[n],
					       out) < 0)
				fail("a block could not be decoded");
		enc[r] = (double)(t1 - t0) / (double)blocks;
		dec[r] = (double)(clock_cpu_ns() - t1) / (double)blocks;
	}
	for (uint64_t n = 0; n < blocks; n++)
		wire += (uint64_t)len[n] + 4;
	e = figure_of(enc, in->rounds);
	d = figure_of(dec, in->rounds);
	printf("%-4s %2d %5" PRIu32
	       "K  %5.1f %%  %5.2f  %9.0f +-%5.0f  %5.0f  %8.0f +-%5.0f  %5.0f\n",
	       codec_name(s.codec), s.level, block >> 10,
	       100.0 * (double)wire / (double)info.original_bytes,
	       (double)info.original_bytes / (double)wire, e.median, e.spread,
	       (double)block * 1e3 / e.median, d.median, d.spread, (double)block * 1e3 / d.median);
	(void)fflush(stdout); /* a slow table should be seen growing */
	codec_free(c);
	free(stored);
	free(out);
	free(len);
}

int main(int argc, char **argv)
{
	struct input in = {.rounds = argc > 2 ? atoi(argv[2]) : 5};
	struct err e = {0};
	char *data;

	if (argc < 2 || argc > 3 || in.rounds < 1 || in.rounds > ROUNDS_MAX) {
		fprintf(stderr, "Usage: bench_codec FILE [ROUNDS]\n");
		return 2;
	}
	if (text_read_file(argv[1], INPUT_MAX_BYTES, &data, &in.bytes, &e) < 0)
		fail(e.msg);
	if (in.bytes < 65536)
		fail("the input is too small to say anything");
	in.p = (const uint8_t *)data;
	printf("%zu bytes, %d rounds, CPU time per block, MB/s of plain bytes per core\n", in.bytes,
	       in.rounds);
	printf("codec lvl block    wire  ratio   encode ns (median)   MB/s  decode ns (median)   "
	       "MB/s\n");
	for (size_t s = 0; s < sizeof(SETTINGS) / sizeof(SETTINGS[0]); s++)
		for (uint32_t block = 4096; block <= 32768; block *= 2)
			run(&in, SETTINGS[s], block);
	free(data);
	return 0;
}
