/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_dump.c - headstart dump: the merged device as a sparse file
 *
 * Several threads take pieces of the stored runs in order, so that their fetches overlap. The file
 * appears under its name when it is complete; until then it is a temporary one beside it.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "err.h"
#include "headstart.h"
#include "interrupt.h"
#include "options.h"
#include "text.h"

#define PIECE_BYTES (1u << 20)
#define HOLE_BYTES  4096u
#define MAX_THREADS 64u

static uint64_t threads = 4;
static bool quiet;

static const struct option_def dump_options[] = {
    {"threads", 0, OPTION_NUMBER, "N", &threads, "reads at the same time", "4"},
    {"quiet", 'q', OPTION_FLAG, NULL, &quiet, "no progress on a terminal", NULL},
    {"json", 0, OPTION_FLAG, NULL, &common.json, "print the result as JSON", NULL},
    {0},
};

static const struct option_group groups[] = {
    {"Options", dump_options},	    {"Image", image_options},
    {"Registry", registry_options}, {"Cache and reads", engine_options},
    {"General", general_options},   {0},
};

static const struct command command = {
    .name = "dump",
    .usage = "[OPTIONS] IMAGE OUT",
    .purpose = "Write the merged device of the accelerated image IMAGE to the file OUT, which "
	       "is then a file system image. Runs of zeros become holes.",
    .groups = groups,
    .examples = "  headstart dump ./config.v1.json out.img\n"
		"  headstart dump docker://127.0.0.1:5000/nginx:1_accelerated nginx.ext4\n",
    .min_operands = 2,
    .max_operands = 2,
};

struct dump {
	struct hs_image *image;
	int fd;
	uint64_t total; /* stored bytes to read */

	/* under @lock */
	pthread_mutex_t lock;
	uint64_t run_off, run_left; /* the run that pieces are taken from */
	bool ended;
	uint64_t read, written;
	unsigned int busy;
	int error;
	struct err e;
};

/* The next piece to copy. Returns false when there is none, or after a failure. */
static bool take_piece(struct dump *d, uint64_t *ret_off, size_t *ret_bytes)
{
	bool got = false;

	pthread_mutex_lock(&d->lock);
	if (!d->run_left && !d->ended)
		d->ended = !hs_image_next_data(d->image, d->run_off, &d->run_off, &d->run_left);
	if (d->run_left && !d->error) {
		/* pieces end at their multiples, so that holes are found in whole blocks */
		uint64_t n = PIECE_BYTES - d->run_off % PIECE_BYTES;

		if (n > d->run_left)
			n = d->run_left;
		*ret_off = d->run_off;
		*ret_bytes = (size_t)n;
		d->run_off += n;
		d->run_left -= n;
		got = true;
	}
	pthread_mutex_unlock(&d->lock);
	return got;
}

static int write_all(int fd, const char *p, size_t bytes, uint64_t off)
{
	while (bytes) {
		ssize_t n = pwrite(fd, p, bytes, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		off += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Write what is not zero; runs of non-zero blocks go out in one call. */
static int write_sparse(int fd, const char *p, size_t bytes, uint64_t off, uint64_t *ret_written)
{
	size_t at = 0;

	*ret_written = 0;
	while (at < bytes) {
		size_t end = at, block;
		int r;

		for (; end < bytes; end += block) {
			block = bytes - end < HOLE_BYTES ? bytes - end : HOLE_BYTES;
			if (bytes_zero(p + end, block))
				break;
		}
		if (end > at) {
			r = write_all(fd, p + at, end - at, off + at);
			if (r)
				return r;
			*ret_written += end - at;
		}
		at =
		    end < bytes ? end + (bytes - end < HOLE_BYTES ? bytes - end : HOLE_BYTES) : end;
	}
	return 0;
}

static void *copy_thread(void *arg)
{
	struct dump *d = arg;
	_cleanup_free_ char *buf = xmalloc_zero(1, PIECE_BYTES);
	uint64_t off, written;
	size_t bytes;

	while (take_piece(d, &off, &bytes)) {
		struct err e = {0};
		int r = hs_image_read(d->image, buf, bytes, off, &e);

		written = 0;
		if (!r) {
			r = write_sparse(d->fd, buf, bytes, off, &written);
			if (r)
				err_set(&e, r, "write: %s", strerror(-r));
		}
		pthread_mutex_lock(&d->lock);
		d->read += bytes;
		d->written += written;
		if (r && !d->error) {
			d->error = r;
			d->e = e;
		}
		pthread_mutex_unlock(&d->lock);
	}
	pthread_mutex_lock(&d->lock);
	d->busy--;
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

static void show_progress(uint64_t done, uint64_t total, uint64_t ns, bool last)
{
	double rate = ns ? (double)done / ((double)ns / 1e9) : 0;
	char a[24], b[24], c[24];

	fprintf(stderr, "\r%3.0f %%  %s of %s  %s/s  %.0f s left   %s",
		total ? 100.0 * (double)done / (double)total : 100.0, text_size(done, a, sizeof(a)),
		text_size(total, b, sizeof(b)), text_size((uint64_t)rate, c, sizeof(c)),
		rate > 0 ? (double)(total - done) / rate : 0.0, last ? "\n" : "");
}

/* Look after the threads until the last one has ended. */
static void watch(struct dump *d, uint64_t start_ns)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	bool show = !quiet && isatty(STDERR_FILENO);
	unsigned int busy;

	do {
		uint64_t done;

		pthread_mutex_lock(&d->lock);
		if (interrupt_pending() && !d->error)
			d->error = interrupt_check(&d->e);
		busy = d->busy;
		done = d->read;
		pthread_mutex_unlock(&d->lock);
		if (show)
			show_progress(done, d->total, clock_now_ns() - start_ns, !busy);
		if (busy)
			nanosleep(&pause, NULL);
	} while (busy);
}

static int copy(struct dump *d, struct err *e)
{
	unsigned int want = threads < 1		    ? 1
			    : threads < MAX_THREADS ? (unsigned int)threads
						    : MAX_THREADS,
		     n;
	pthread_t thread[MAX_THREADS];
	uint64_t off = 0, bytes, start = clock_now_ns();

	while (hs_image_next_data(d->image, off, &off, &bytes)) {
		d->total += bytes;
		off += bytes;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->busy = want;
	for (n = 0; n < want; n++)
		if (pthread_create(&thread[n], NULL, copy_thread, d))
			break;
	pthread_mutex_lock(&d->lock);
	d->busy -= want - n;
	if (!n)
		d->error = err_set(&d->e, -EAGAIN, "cannot start a thread");
	pthread_mutex_unlock(&d->lock);
	watch(d, start);
	while (n)
		pthread_join(thread[--n], NULL);
	pthread_mutex_destroy(&d->lock);
	if (d->error && e)
		*e = d->e;
	return d->error;
}

static void print_result(struct hs_engine *engine, const struct dump *d, const char *out,
			 uint64_t ns)
{
	char a[24], b[24], c[24];
	struct hs_stats s;

	hs_stats_get(engine, &s);
	if (!common.json) {
		printf("%s: %s, %s of data, %s fetched in %llu requests, %.1f s\n", out,
		       text_size(hs_image_bytes(d->image), a, sizeof(a)),
		       text_size(d->written, b, sizeof(b)),
		       text_size(s.fetched_bytes, c, sizeof(c)), (unsigned long long)s.requests,
		       (double)ns / 1e9);
		return;
	}
	cJSON *j = cJSON_CreateObject();

	cJSON_AddStringToObject(j, "file", out);
	cJSON_AddStringToObject(j, "digest", hs_image_digest(d->image));
	cJSON_AddNumberToObject(j, "bytes", (double)hs_image_bytes(d->image));
	cJSON_AddNumberToObject(j, "stored_bytes", (double)d->total);
	cJSON_AddNumberToObject(j, "written_bytes", (double)d->written);
	cJSON_AddNumberToObject(j, "fetched_bytes", (double)s.fetched_bytes);
	cJSON_AddNumberToObject(j, "requests", (double)s.requests);
	cJSON_AddNumberToObject(j, "ns", (double)ns);
	char *text = cJSON_Print(j);

	puts(text ? text : "{}");
	free(text);
	cJSON_Delete(j);
}

/* Fill @temporary and give it its name. */
static int write_file(struct dump *d, const char *temporary, const char *out, struct err *e)
{
	int r = ftruncate(d->fd, (off_t)hs_image_bytes(d->image))
		    ? err_set(e, -errno, "%s: %s", out, strerror(errno))
		    : copy(d, e);

	if (!r && fsync(d->fd))
		r = err_set(e, -errno, "%s: %s", out, strerror(errno));
	if (!r && rename(temporary, out))
		r = err_set(e, -errno, "%s: %s", out, strerror(errno));
	return r;
}

static int dump(struct hs_engine *engine, const char *ref, const char *out, struct err *e)
{
	_cleanup_free_ char *temporary = text_printf("%s.headstart-XXXXXX", out);
	struct dump d = {.fd = -1};
	uint64_t start = clock_now_ns();
	mode_t mask = umask(0);
	struct stat st;
	int r;

	umask(mask);
	if (!stat(out, &st) && !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is there and is not a regular file", out);
	r = hs_image_open(engine, ref, &d.image, e);
	if (r)
		return r;
	d.fd = mkostemp(temporary, O_CLOEXEC);
	if (d.fd < 0) {
		r = err_set(e, -errno, "%s: %s", out, strerror(errno));
	} else {
		(void)fchmod(d.fd, 0666 & ~mask); /* at worst only its owner can read it */
		r = write_file(&d, temporary, out, e);
		close(d.fd);
		if (r)
			(void)unlink(temporary); /* nothing more can be done about it */
	}
	if (!r)
		print_result(engine, &d, out, clock_now_ns() - start);
	hs_image_close(d.image);
	return r;
}

int cmd_dump(int argc, char **argv)
{
	struct hs_engine *engine = NULL;
	struct hs_options o;
	struct err e = {0};
	int first, r = options_parse(&command, argc, argv, &first);

	if (r != OPTIONS_GO_ON)
		return r;
	common_log();
	interrupt_catch();
	common_engine(&o);
	r = hs_engine_new(&o, &engine, &e);
	if (!r)
		r = dump(engine, argv[first], argv[first + 1], &e);
	if (r)
		fprintf(stderr, "headstart dump: %s\n", e.msg);
	hs_engine_free(engine);
	return r ? EXIT_FAILED : EXIT_OK;
}
