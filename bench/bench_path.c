/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_path.c - what the read path costs on top of the bytes
 *
 * usage: bench_path IMAGE [ROUNDS]
 *
 * Reads the image's stored ranges through the engine (map, cache or file, CRC, decode) and, as
 * baseline, the same ranges with pread(2) from a file that holds the decoded device, both warm.
 * Variants alternate inside one run; what is printed is process CPU time per byte, median and
 * spread over the rounds, and the ratio of the medians.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "headstart.h"
#include "range.h"

#define MAX_ROUNDS   31
#define MAX_EXTENTS  4096
#define SEQ_BYTES    (1u << 20)
#define RANDOM_BYTES 4096u
#define RANDOM_READS 4000
#define SEQ_LIMIT    (256u << 20)

struct extent {
	uint64_t off, len;
};

static struct extent extents[MAX_EXTENTS];
static size_t extent_count;
static uint64_t data_bytes;

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "bench_path: %s: %s\n", what, e->msg);
	exit(1);
}

static void read_engine(void *img, void *buf, uint64_t off, size_t len)
{
	struct err e = {0};

	if (hs_image_read(img, buf, len, off, &e))
		die("read", &e);
}

static void read_file(void *fd, void *buf, uint64_t off, size_t len)
{
	if (pread(*(int *)fd, buf, len, (off_t)off) != (ssize_t)len) {
		perror("bench_path: pread");
		exit(1);
	}
}

typedef void read_fn(void *from, void *buf, uint64_t off, size_t len);

/* All data in order, in large pieces; returns bytes read. */
static uint64_t sequential(read_fn *fn, void *from, char *buf)
{
	uint64_t total = 0;

	for (size_t i = 0; i < extent_count && total < SEQ_LIMIT; i++) {
		for (uint64_t at = 0; at < extents[i].len; at += SEQ_BYTES) {
			size_t n = min_u64(SEQ_BYTES, extents[i].len - at);

			fn(from, buf, extents[i].off + at, n);
			total += n;
		}
	}
	return total;
}

static uint64_t random_small(read_fn *fn, void *from, char *buf)
{
	unsigned int seed = 1;

	for (int i = 0; i < RANDOM_READS; i++) {
		struct extent *x = &extents[(size_t)rand_r(&seed) % extent_count];
		uint64_t pages = max_u64(x->len / RANDOM_BYTES, 1);
		uint64_t at = ((uint64_t)rand_r(&seed) % pages) * RANDOM_BYTES;

		fn(from, buf, x->off + at, min_u64(RANDOM_BYTES, x->len - at));
	}
	return (uint64_t)RANDOM_READS * RANDOM_BYTES;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct samples {
	double v[MAX_ROUNDS];
	int n;
};

static double median(struct samples *s)
{
	qsort(s->v, (size_t)s->n, sizeof(double), by_value);
	return s->v[s->n / 2];
}

static void report(const char *name, struct samples *engine, struct samples *base)
{
	double m = median(engine), b = median(base);

	printf("%-16s engine %8.3f ns/B [%.3f..%.3f]  pread %8.3f ns/B [%.3f..%.3f]  ratio %.1f\n",
	       name, m, engine->v[0], engine->v[engine->n - 1], b, base->v[0], base->v[base->n - 1],
	       m / b);
}

typedef uint64_t pattern_fn(read_fn *fn, void *from, char *buf);

static double cpu_per_byte(pattern_fn *pattern, read_fn *fn, void *from, char *buf)
{
	uint64_t start = clock_cpu_ns();
	uint64_t bytes = pattern(fn, from, buf);

	return (double)(clock_cpu_ns() - start) / (double)bytes;
}

static void collect_extents(struct hs_image *img)
{
	uint64_t off = 0, len;

	while (extent_count < MAX_EXTENTS && hs_image_next_data(img, off, &off, &len)) {
		extents[extent_count++] = (struct extent){off, len};
		data_bytes += len;
		off += len;
	}
}

/* The decoded device as an unlinked sparse file. */
static int make_twin(struct hs_image *img, char *buf)
{
	char name[] = "/var/tmp/bench-path-XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0 || unlink(name) || ftruncate(fd, (off_t)hs_image_bytes(img))) {
		perror("bench_path: twin file");
		exit(1);
	}
	for (size_t i = 0; i < extent_count; i++) {
		for (uint64_t at = 0; at < extents[i].len; at += SEQ_BYTES) {
			size_t n = min_u64(SEQ_BYTES, extents[i].len - at);

			read_engine(img, buf, extents[i].off + at, n);
			if (pwrite(fd, buf, n, (off_t)(extents[i].off + at)) != (ssize_t)n) {
				perror("bench_path: pwrite");
				exit(1);
			}
		}
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct hs_options o = {0};
	struct hs_engine *eng;
	struct hs_image *img;
	struct samples seq[2] = {0}, rnd[2] = {0};
	struct err e = {0};
	int rounds = argc > 2 ? atoi(argv[2]) : 7;
	char *buf = malloc(SEQ_BYTES);
	int fd;

	if (argc < 2 || rounds < 1 || rounds > MAX_ROUNDS || !buf) {
		fprintf(stderr, "usage: bench_path IMAGE [ROUNDS, 1..%d]\n", MAX_ROUNDS);
		return 2;
	}
	if (hs_engine_new(&o, &eng, &e))
		die("engine", &e);
	if (hs_image_open(eng, argv[1], &img, &e))
		die("open", &e);
	collect_extents(img);
	if (!extent_count) {
		fprintf(stderr, "bench_path: the image holds no data\n");
		return 1;
	}
	fd = make_twin(img, buf);
	for (int i = 0; i < rounds; i++) {
		seq[0].v[seq[0].n++] = cpu_per_byte(sequential, read_engine, img, buf);
		seq[1].v[seq[1].n++] = cpu_per_byte(sequential, read_file, &fd, buf);
		rnd[0].v[rnd[0].n++] = cpu_per_byte(random_small, read_engine, img, buf);
		rnd[1].v[rnd[1].n++] = cpu_per_byte(random_small, read_file, &fd, buf);
	}
	printf("%zu extents, %.1f MB of data, %d rounds, process CPU time\n", extent_count,
	       (double)data_bytes / 1e6, rounds);
	report("sequential 1M", &seq[0], &seq[1]);
	report("random 4K", &rnd[0], &rnd[1]);
	close(fd);
	hs_image_close(img);
	hs_engine_free(eng);
	free(buf);
	return 0;
}
