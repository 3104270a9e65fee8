/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_convert.c - conversion speed of the installed pieces, against baselines of the same run
 *
 * usage: bench_convert HEADSTART IMAGE [ROUNDS [TARGET]]
 *
 * IMAGE is what headstart convert takes, best an OCI directory. Rounds are interleaved: one
 * conversion into a fresh OCI directory (or to TARGET, a docker:// name without tag), then the
 * baselines over the same layers: `gzip -dc | sha256sum`, and `zstd -3` of the same uncompressed
 * bytes on all cores. Reports median, least and most. It makes and removes a directory below
 * $TMPDIR or /var/tmp.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "text.h"

#define MAX_ROUNDS 50

struct sample {
	double wall_s, cpu_s;
};

struct series {
	const char *name;
	struct sample s[MAX_ROUNDS];
	unsigned int count;
};

static double tv(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* Run a shell command; wall and CPU time of it and all its children. */
static struct sample run(const char *command)
{
	struct rusage a, b;
	uint64_t start = clock_now_ns();
	struct sample s;
	int status;

	getrusage(RUSAGE_CHILDREN, &a);
	status = system(command);
	getrusage(RUSAGE_CHILDREN, &b);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "failed: %s\n", command);
		exit(1);
	}
	s.wall_s = (double)(clock_now_ns() - start) / 1e9;
	s.cpu_s = tv(b.ru_utime) + tv(b.ru_stime) - tv(a.ru_utime) - tv(a.ru_stime);
	return s;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void report(const struct series *s, double mb)
{
	double speed[MAX_ROUNDS], cpu[MAX_ROUNDS];
	unsigned int n = s->count;

	for (unsigned int i = 0; i < n; i++) {
		speed[i] = mb / s->s[i].wall_s;
		cpu[i] = s->s[i].cpu_s * 1e3 / mb;
	}
	qsort(speed, n, sizeof(double), by_value);
	qsort(cpu, n, sizeof(double), by_value);
	printf("%-28s %7.0f MB/s (%.0f..%.0f)  %6.2f CPU-ms/MB (%.2f..%.2f)\n", s->name,
	       speed[n / 2], speed[0], speed[n - 1], cpu[n / 2], cpu[0], cpu[n - 1]);
}

static double json_number(const char *path, const char *key)
{
	char *text;
	cJSON *j;
	double v;
	struct err e = {0};

	if (text_read_file(path, 16u << 20, &text, NULL, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	j = cJSON_Parse(text);
	v = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(j, key));
	cJSON_Delete(j);
	free(text);
	return v;
}

int main(int argc, char **argv)
{
	struct series convert = {.name = "headstart convert"};
	struct series gunzip = {.name = "gzip -dc | sha256sum"};
	struct series zstd = {.name = "zstd -3 -T0 of the same"};
	const char *tmp = getenv("TMPDIR");
	unsigned int rounds = argc > 3 ? (unsigned int)atoi(argv[3]) : 5;
	char *dir, *cleanup, *json;
	double mb = 0, stored = 0;

	if (argc < 3 || !rounds || rounds > MAX_ROUNDS) {
		fprintf(stderr,
			"usage: bench_convert HEADSTART IMAGE [ROUNDS [docker://HOST/REPO]]\n");
		return 2;
	}
	dir = text_printf("%s/bench_convert.XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir)) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return 1;
	}
	json = text_printf("%s/result.json", dir);
	cleanup = text_printf("rm -rf '%s'", dir);
	/* the layers as files, outside of every measurement */
	{
		char *c = text_printf(
		    "skopeo copy -q --src-tls-verify=false '%s' dir:%s/src && cd %s/src && "
		    "jq -r '.layers[].digest' manifest.json | cut -d: -f2 | while read -r l; do "
		    "gzip -t $l 2>/dev/null || { gzip -1 <$l >l.gz && mv l.gz $l; }; gzip -dc $l; "
		    "done >../plain && jq -r '.layers[].digest' manifest.json | cut -d: -f2 "
		    ">../list",
		    argv[2], dir, dir);

		(void)run(c);
		free(c);
	}
	for (unsigned int i = 0; i < rounds; i++) {
		char *target = argc > 4 ? text_printf("%s%u-%d:t", argv[4], i, (int)getpid())
					: text_printf("oci:%s/out:t", dir);
		char *c =
		    text_printf("rm -rf %s/out; '%s' convert -q --json --no-reuse '%s' '%s' >%s",
				dir, argv[1], argv[2], target, json);

		convert.s[convert.count++] = run(c);
		free(c);
		mb = json_number(json, "tar_bytes") / 1e6;
		stored = json_number(json, "stored_bytes") / 1e6;
		c = text_printf(
		    "cd %s/src; while read -r l; do gzip -dc $l | sha256sum; done <../list "
		    ">/dev/null",
		    dir);
		gunzip.s[gunzip.count++] = run(c);
		free(c);
		c = text_printf("zstd -q -3 -T0 -c %s/plain >/dev/null", dir);
		zstd.s[zstd.count++] = run(c);
		free(c);
		free(target);
	}
	printf("%s: %.0f MB of layers, %.0f MB stored, %u rounds; median (least..most)\n", argv[2],
	       mb, stored, rounds);
	report(&convert, mb);
	report(&gunzip, mb);
	report(&zstd, mb);
	(void)run(cleanup);
	free(cleanup);
	free(json);
	free(dir);
	return 0;
}
