/* SPDX-License-Identifier: Apache-2.0 */
/* test_cache.c - the cache on real files: several processes, kill -9, corrupt files, eviction */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "blobmap.h"
#include "bytes.h"
#include "cache.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define UNIT	    CACHE_UNIT_BYTES
#define BLOB_BYTES  (300 * UNIT + 234)
#define MIB	    (1u << 20)
#define WRITERS	    3
#define KILL_ROUNDS 50

static char *dir; /* of the running test */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	dir = text_printf("%s/test_cache-XXXXXX", base ? base : P_tmpdir);
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	int r = nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);

	(void)state;
	free(dir);
	return r;
}

/* What blob @id holds at @off. */
static uint8_t byte_at(unsigned int id, uint64_t off)
{
	uint64_t z = (off / 8 + 1) * 0x9e3779b97f4a7c15ull + id * 0xbf58476d1ce4e5b9ull;

	z ^= z >> 29;
	z *= 0x94d049bb133111ebull;
	return (uint8_t)(z >> (off % 8 * 8)) | 1; /* never 0: a hole is seen */
}

static void fill(unsigned int id, struct range r, uint8_t *buf)
{
	for (uint64_t i = 0; i < r.len; i++)
		buf[i] = byte_at(id, r.off + i);
}

static void digest_for(unsigned int id, char out[static DIGEST_TEXT_BYTES])
{
	digest_of(&id, sizeof(id), out);
}

static struct cache *open_cache(uint64_t limit)
{
	struct cache *c = NULL;
	struct err e = {0};
	int r = cache_open(dir, limit, &c, &e);

	if (r == -ENOSYS) {
		print_message("skipped: %s\n", e.msg);
		exit(77);
	}
	if (r)
		fail_msg("cache_open: %s", e.msg);
	return c;
}

static struct cache_blob *open_blob(struct cache *c, unsigned int id, uint64_t bytes)
{
	char digest[DIGEST_TEXT_BYTES];
	struct cache_blob *b = NULL;
	struct err e = {0};

	digest_for(id, digest);
	if (cache_blob_open(c, digest, bytes, &b, &e))
		fail_msg("cache_blob_open: %s", e.msg);
	return b;
}

static int put(struct cache_blob *b, unsigned int id, struct range r)
{
	uint8_t *buf = malloc(r.len);
	int res;

	fill(id, r, buf);
	res = cache_store_now(b, r, buf);
	free(buf);
	return res;
}

/* The rule: whose bit is set, its bytes are there. Returns the units that are present, -1: broken.
 */
static int check_blob(struct cache_blob *b, unsigned int id)
{
	uint64_t bytes = cache_blob_bytes(b);
	uint8_t want[UNIT], got[UNIT];
	int n = 0;

	for (uint64_t off = 0; off < bytes; off += UNIT) {
		struct range r = range_clip(range_of(off, UNIT), range_of(0, bytes));

		if (!cache_has(b, r))
			continue;
		fill(id, r, want);
		if (pread(cache_blob_fd(b), got, r.len, (off_t)off) != (ssize_t)r.len ||
		    memcmp(got, want, r.len) != 0)
			return -1;
		n++;
	}
	return n;
}

static char *map_path(unsigned int id, const char *suffix)
{
	char digest[DIGEST_TEXT_BYTES];

	digest_for(id, digest);
	return text_printf("%s/blobs/%s.%s", dir, digest + 7, suffix);
}

/* Makes the next open believe that the node was booted since. */
static void forget_boot(unsigned int id)
{
	char *path = map_path(id, "map");
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "another boot id.", 16, BLOBMAP_AT_BOOT_ID), 16);
	close(fd);
	free(path);
}

/* Its runtime cannot start threads in a forked process. */
static void skip_under_tsan(void)
{
#if defined(__SANITIZE_THREAD__)
	skip();
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
	skip();
#endif
#endif
}

/* Runs @fn in a process of its own; returns its wait status. */
static int in_child(void (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(200);
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Log lines of what runs between the two calls. */
static int log_pipe[2];

static void log_catch(void)
{
	assert_int_equal(pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	log_open(LOG_LEVEL_WARN, log_pipe[1]);
}

static int log_lines(void)
{
	char text[8192];
	ssize_t n;
	int lines = 0;

	log_open(LOG_LEVEL_WARN, STDERR_FILENO);
	n = read(log_pipe[0], text, sizeof(text));
	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	close(log_pipe[0]);
	close(log_pipe[1]);
	return lines;
}

/* ---- bits ---- */

static void test_bits(void **state)
{
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, 1, BLOB_BYTES), *same;
	struct range r;

	(void)state;
	assert_int_equal(cache_blob_bytes(b), BLOB_BYTES);
	assert_int_equal(cache_present_bytes(b), 0);
	assert_false(cache_has(b, range_of(0, 1)));
	assert_true(cache_has(b, range_of(5, 0)));
	assert_false(cache_has(b, range_of(BLOB_BYTES, 1)));
	assert_false(cache_has(b, range_of(UINT64_MAX, 2)));
	r = cache_missing(b, range_of(10, 10));
	assert_true(r.off == 0 && r.len == UNIT);
	r = cache_missing(b, range_of(0, UINT64_MAX));
	assert_true(r.off == 0 && r.len == BLOB_BYTES);

	assert_int_equal(put(b, 1, range_of(60 * UNIT, 80 * UNIT)), 0); /* crosses words */
	assert_true(cache_has(b, range_of(60 * UNIT, 80 * UNIT)));
	assert_true(cache_has(b, range_of(61 * UNIT + 7, 100)));
	assert_false(cache_has(b, range_of(60 * UNIT - 1, 2)));
	assert_false(cache_has(b, range_of(140 * UNIT - 1, 2)));
	r = cache_missing(b, range_of(60 * UNIT, 80 * UNIT));
	assert_int_equal(r.len, 0);
	r = cache_missing(b, range_of(58 * UNIT + 5, 100 * UNIT));
	assert_true(r.off == 58 * UNIT && r.len == 2 * UNIT);
	r = cache_missing(b, range_of(100 * UNIT, 60 * UNIT + 1));
	assert_true(r.off == 140 * UNIT && r.len == 21 * UNIT);
	assert_int_equal(cache_present_bytes(b), 80 * UNIT);

	assert_int_equal(put(b, 1, range_of(300 * UNIT, 234)), 0); /* the short last unit */
	assert_int_equal(cache_present_bytes(b), 80 * UNIT + 234);
	r = cache_missing(b, range_of(299 * UNIT, UNIT + 234));
	assert_true(r.off == 299 * UNIT && r.len == UNIT);
	assert_int_equal(check_blob(b, 1), 81);

	same = open_blob(c, 1, BLOB_BYTES);
	assert_ptr_equal(same, b);
	cache_blob_close(same);
	cache_blob_close(b);
	b = open_blob(c, 1, BLOB_BYTES);
	assert_int_equal(check_blob(b, 1), 81);
	cache_blob_close(b);
	b = open_blob(c, 2, 0); /* an empty blob is one, too */
	assert_true(cache_has(b, range_of(0, 0)));
	assert_int_equal(cache_present_bytes(b), 0);
	cache_blob_close(b);
	cache_close(c);
}

struct waiter {
	struct task task;
	int runs;
};

static void waiter_step(struct task *t)
{
	container_of(t, struct waiter, task)->runs++;
}

static void test_store(void **state)
{
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, 1, BLOB_BYTES);
	struct cache_store s = {.blob = b, .range = range_of(UNIT, 100 * UNIT)};
	uint8_t *buf = malloc(100 * UNIT);
	struct cache_stats stats;
	struct waiter w = {0};
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(8, &l, NULL), 0);
	task_init(&w.task, l, waiter_step);
	fill(1, s.range, buf);
	s.buf = buf;
	s.owner = &w.task;
	cache_store(l, &s);
	assert_true(s.busy);
	assert_false(cache_has(b, range_of(UNIT, 1)));
	while (!w.runs)
		loop_turn(l, true);
	assert_false(s.busy);
	assert_int_equal(s.res, 0);
	assert_int_equal(w.runs, 1);
	assert_int_equal(check_blob(b, 1), 100);
	cache_stats_get(c, &stats);
	assert_int_equal(stats.stored_bytes, 100 * UNIT);
	free(buf);
	loop_free(l);
	cache_blob_close(b);
	cache_close(c);
}

/* ---- kill -9 and power loss ---- */

struct plan {
	struct range synced, live, dropped;
	unsigned int id;
	int seed;
	int report_fd; /* gets a byte per store */
};

static void store_and_die(void *arg)
{
	struct plan *p = arg;
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, p->id, BLOB_BYTES);

	if (p->synced.len && (put(b, p->id, p->synced) || cache_sync(b)))
		_exit(1);
	if (p->live.len && put(b, p->id, p->live))
		_exit(1);
	if (p->dropped.len)
		cache_drop(b, p->dropped);
	(void)raise(SIGKILL);
}

static void test_live_and_synced(void **state)
{
	struct plan p = {.synced = range_of(0, 10 * UNIT), .live = range_of(20 * UNIT, 10 * UNIT)};
	struct cache_blob *b;
	struct cache *c;
	int status;

	(void)state;
	skip_under_tsan();
	p.id = 1;
	status = in_child(store_and_die, &p);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	c = open_cache(0);
	b = open_blob(c, 1, BLOB_BYTES);
	assert_int_equal(check_blob(b, 1), 20); /* killed: all is here */
	cache_blob_close(b);			/* syncs what the killed one did not */
	forget_boot(1);
	b = open_blob(c, 1, BLOB_BYTES);
	assert_int_equal(check_blob(b, 1), 20);
	cache_blob_close(b);

	p.id = 2;
	in_child(store_and_die, &p);
	forget_boot(2);
	b = open_blob(c, 2, BLOB_BYTES);
	assert_int_equal(check_blob(b, 2), 10); /* booted: only what was synced */
	assert_true(cache_has(b, p.synced));
	cache_blob_close(b);

	/* dropped bytes are gone from both */
	p.id = 3;
	p.dropped = range_of(5 * UNIT, 16 * UNIT);
	in_child(store_and_die, &p);
	b = open_blob(c, 3, BLOB_BYTES);
	assert_int_equal(check_blob(b, 3), 14);
	cache_drop(b, range_of(0, 1));
	assert_false(cache_has(b, range_of(0, 1)));
	assert_true(cache_has(b, range_of(UNIT, 4 * UNIT)));
	cache_blob_close(b);
	in_child(store_and_die, &(struct plan){.id = 4, .synced = p.synced, .dropped = p.dropped});
	forget_boot(4);
	b = open_blob(c, 4, BLOB_BYTES);
	assert_int_equal(check_blob(b, 4), 5);
	cache_blob_close(b);
	cache_close(c);
}

/* Stores random pieces for ever, by the ring; somebody kills it. */
static void store_for_ever(void *arg)
{
	struct plan *p = arg;
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, p->id, BLOB_BYTES);
	static uint8_t buf[64 * UNIT];
	struct waiter w = {0};
	struct loop *l;

	srand((unsigned int)p->seed);
	if (loop_new(8, &l, NULL))
		_exit(1);
	task_init(&w.task, l, waiter_step);
	for (;;) {
		struct cache_store s = {.blob = b, .owner = &w.task, .buf = buf};
		uint64_t first = (uint64_t)rand() % 301, n = 1 + (uint64_t)rand() % 64;
		int before = w.runs;

		s.range = range_clip(range_of(first * UNIT, n * UNIT), range_of(0, BLOB_BYTES));
		fill(p->id, s.range, buf);
		cache_store(l, &s);
		while (w.runs == before)
			loop_turn(l, true);
		if (write(p->report_fd, "", 1) != 1)
			_exit(1);
		if (rand() % 8 == 0)
			(void)cache_sync(b);
		if (rand() % 16 == 0)
			cache_drop(b, s.range);
	}
}

static void test_kill_a_writer(void **state)
{
	int most = 0;

	(void)state;
	skip_under_tsan();
	for (int round = 0; round < KILL_ROUNDS; round++) {
		struct plan p = {.id = (unsigned int)round / 10, .seed = round};
		int stores = 1 + round % 23, report[2];
		struct cache_blob *b;
		struct cache *c;
		pid_t pid;
		int n;

		assert_int_equal(pipe2(report, O_CLOEXEC), 0);
		p.report_fd = report[1];
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			alarm(200);
			store_for_ever(&p);
		}
		close(report[1]);
		/* after some stores, at a moment that nobody chose */
		for (int i = 0; i < stores; i++)
			assert_int_equal(read(report[0], &(char){0}, 1), 1);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(report[0]);
		if (round % 3 == 0)
			forget_boot(p.id);
		c = open_cache(0);
		b = open_blob(c, p.id, BLOB_BYTES);
		n = check_blob(b, p.id);
		if (n < 0)
			fail_msg("round %d: a bit is set for bytes that are not there", round);
		most = n > most ? n : most;
		cache_blob_close(b);
		cache_close(c);
	}
	assert_true(most > 0);
}

/* The check above must be able to fail. */
static void test_check_can_fail(void **state)
{
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, 1, BLOB_BYTES);

	(void)state;
	assert_int_equal(put(b, 1, range_of(0, 4 * UNIT)), 0);
	assert_int_equal(pwrite(cache_blob_fd(b), "", 1, 2 * UNIT), 1);
	assert_int_equal(check_blob(b, 1), -1);
	cache_blob_close(b);
	cache_close(c);
}

/* ---- files that cannot be believed ---- */

static void damage(unsigned int id, int how)
{
	char *map = map_path(id, "map"), *data = map_path(id, "data");
	int fd = open(map, O_RDWR | O_CLOEXEC);
	struct stat st;
	uint8_t b[8];

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	switch (how) {
	case 0:
		assert_int_equal(pwrite(fd, "X", 1, BLOBMAP_AT_MAGIC), 1);
		break;
	case 1:
		assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
		break;
	case 2:
		assert_int_equal(ftruncate(fd, 100), 0);
		break;
	case 3:
		assert_int_equal(ftruncate(fd, st.st_size + 4096), 0);
		break;
	case 4:
		put_le64(b, BLOB_BYTES + 1);
		assert_int_equal(pwrite(fd, b, 8, BLOBMAP_AT_BYTES), 8);
		break;
	case 5:
		assert_int_equal(pwrite(fd, "another digest", 14, BLOBMAP_AT_DIGEST), 14);
		break;
	case 6:
		assert_int_equal(unlink(data), 0);
		break;
	case 7:
		assert_int_equal(truncate(data, BLOB_BYTES - 1), 0);
		break;
	case 8:
		assert_int_equal(pwrite(fd, "\1\1\1\1", 4, BLOBMAP_AT_UNSAFE), 4);
		break;
	default:
		put_le64(b, 1ull << 40);
		assert_int_equal(pwrite(fd, b, 8, BLOBMAP_AT_WORDS), 8);
		break;
	}
	close(fd);
	free(map);
	free(data);
}

static void test_bad_files(void **state)
{
	struct cache *c = open_cache(0);

	(void)state;
	for (int how = 0; how < 10; how++) {
		struct cache_blob *b = open_blob(c, 1, BLOB_BYTES);

		assert_int_equal(put(b, 1, range_of(0, 8 * UNIT)), 0);
		cache_blob_close(b);
		damage(1, how);
		log_catch();
		b = open_blob(c, 1, BLOB_BYTES);
		assert_int_equal(log_lines(), 1);
		assert_int_equal(cache_present_bytes(b), 0);
		assert_int_equal(put(b, 1, range_of(0, BLOB_BYTES)), 0);
		assert_int_equal(check_blob(b, 1), 301);
		cache_blob_close(b);
	}
	cache_close(c);
}

static void test_other_size(void **state)
{
	struct cache *c = open_cache(0), *other;
	struct cache_blob *b = open_blob(c, 1, BLOB_BYTES), *b2 = NULL;
	char digest[DIGEST_TEXT_BYTES];
	struct err e = {0};

	(void)state;
	digest_for(1, digest);
	assert_int_equal(put(b, 1, range_of(0, 8 * UNIT)), 0);
	assert_int_equal(cache_blob_open(c, digest, BLOB_BYTES + 1, &b2, &e), -EINVAL);
	/* as another process would: in use, so it is not replaced */
	other = open_cache(0);
	assert_int_equal(cache_blob_open(other, digest, BLOB_BYTES + 1, &b2, &e), -EBUSY);
	assert_int_equal(check_blob(b, 1), 8);
	cache_blob_close(b);
	log_catch();
	b2 = open_blob(other, 1, BLOB_BYTES + 1);
	assert_int_equal(log_lines(), 1);
	assert_int_equal(cache_present_bytes(b2), 0);
	cache_blob_close(b2);
	assert_int_equal(cache_blob_open(c, "sha256:nonsense", 1, &b2, &e), -EINVAL);
	cache_close(other);
	cache_close(c);
}

/* ---- several processes ---- */

static void store_everything(void *arg)
{
	struct plan *p = arg;
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, p->id, BLOB_BYTES);

	srand((unsigned int)p->seed);
	for (int i = 0; i < 200; i++) {
		uint64_t first = (uint64_t)rand() % 301;
		struct range r =
		    range_clip(range_of(first * UNIT, 16 * UNIT), range_of(0, BLOB_BYTES));

		if (put(b, p->id, r) || check_blob(b, p->id) < 0)
			_exit(1);
		if (i % 50 == 49 && cache_sync(b))
			_exit(2);
	}
	cache_blob_close(b);
	cache_close(c);
}

static void test_many_writers(void **state)
{
	struct cache_blob *b;
	pid_t pid[WRITERS];
	struct cache *c;
	int status;

	(void)state;
	skip_under_tsan();
	for (int i = 0; i < WRITERS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0) {
			alarm(200);
			store_everything(&(struct plan){.id = 1, .seed = i});
			_exit(0);
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	forget_boot(1); /* all was synced by the closes */
	c = open_cache(0);
	b = open_blob(c, 1, BLOB_BYTES);
	assert_true(check_blob(b, 1) > 290);
	cache_blob_close(b);
	cache_close(c);
}

static void evict_for_ever(void *arg)
{
	struct cache *c = open_cache(UNIT); /* nothing may stay */

	(void)arg;
	for (;;)
		if (cache_evict(c) < 0)
			_exit(1);
}

static void test_evict_under_a_reader(void **state)
{
	struct cache_stats stats;
	struct cache *c;
	int emptied = 0, kept = 0;
	pid_t pid;

	(void)state;
	skip_under_tsan();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(200);
		log_open(LOG_LEVEL_ERROR, STDERR_FILENO);
		evict_for_ever(NULL);
	}
	c = open_cache(0);
	for (int i = 0; i < 300 || (emptied < 4 && i < 100000); i++) {
		struct cache_blob *b = open_blob(c, 1, BLOB_BYTES);
		int n = check_blob(b, 1);

		assert_true(n == 0 || n == 64);
		if (n)
			kept++;
		else
			emptied++;
		if (!n)
			assert_int_equal(put(b, 1, range_of(0, 64 * UNIT)), 0);
		/* while it is open it stays */
		for (int k = 0; k < 3; k++)
			assert_int_equal(check_blob(b, 1), 64);
		cache_blob_close(b);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	cache_stats_get(c, &stats);
	print_message("evicted %d times, found %d times\n", emptied, kept);
	assert_true(emptied > 1);
	cache_close(c);
}

/* ---- limit ---- */

static void set_use(unsigned int id, time_t when)
{
	struct timespec ts[2] = {{.tv_sec = when}, {.tv_sec = when}};
	char *path = map_path(id, "map");

	assert_int_equal(utimensat(AT_FDCWD, path, ts, 0), 0);
	free(path);
}

static bool has_entry(unsigned int id)
{
	char *map = map_path(id, "map"), *data = map_path(id, "data");
	bool there = access(map, F_OK) == 0;

	assert_int_equal(access(data, F_OK) == 0, there);
	free(map);
	free(data);
	return there;
}

static void test_oldest_use_goes_first(void **state)
{
	struct cache *c = open_cache(0), *small;
	struct cache_stats stats;
	struct cache_blob *b;
	char *orphan = map_path(77, "data");
	int fd;

	(void)state;
	for (unsigned int id = 1; id <= 4; id++) {
		b = open_blob(c, id, MIB);
		assert_int_equal(put(b, id, range_of(0, MIB)), 0);
		cache_blob_close(b);
		set_use(id, 1000 + (id * 7) % 5); /* order of use: 3 (1), 1 (2), 4 (3), 2 (4) */
	}
	fd = open(orphan, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* a crash between two unlinks */
	assert_true(fd >= 0);
	close(fd);
	b = open_blob(c, 3, MIB); /* the oldest, in use now */
	set_use(3, 1001);
	small = open_cache(5 * MIB / 2);
	assert_true(cache_evict(small) > 2 * (int64_t)MIB - 1);
	cache_stats_get(small, &stats);
	assert_int_equal(stats.evicted_blobs, 3); /* the orphan counts */
	assert_true(stats.used_bytes <= 5 * MIB / 2);
	cache_close(small);
	assert_int_equal(access(orphan, F_OK), -1);
	assert_true(has_entry(3));
	assert_false(has_entry(1));
	assert_false(has_entry(4));
	assert_true(has_entry(2));
	assert_int_equal(check_blob(b, 3), MIB / UNIT);
	cache_blob_close(b);
	cache_close(c);
	free(orphan);
}

static bool evicted_some(struct cache *c)
{
	struct cache_stats stats;

	cache_stats_get(c, &stats);
	return stats.evicted_blobs > 0;
}

static void test_full(void **state)
{
	struct cache *c = open_cache(2 * MIB);
	struct cache_blob *old = open_blob(c, 1, MIB), *b;
	struct cache_stats stats;
	uint64_t stored = 0;
	int r = 0;

	(void)state;
	assert_int_equal(put(old, 1, range_of(0, MIB)), 0);
	cache_blob_close(old);

	/* room is made by evicting, by itself */
	b = open_blob(c, 2, 16 * MIB);
	for (int tries = 0; !evicted_some(c) && tries < 100000; tries++)
		if (stored < 2 * MIB && put(b, 2, range_of(stored, MIB / 4)) == 0)
			stored += MIB / 4;
	assert_false(has_entry(1));

	/* and when only what is open is left, stores are refused and counted, with one warning */
	log_catch();
	for (int i = 0; i < 40 || !r; i++) {
		r = put(b, 2, range_of(stored, MIB / 4));
		if (r == 0)
			stored += MIB / 4;
		assert_true(i < 1000);
	}
	assert_int_equal(r, -ENOSPC);
	assert_true(cache_evict(c) >= 0);
	assert_true(cache_evict(c) >= 0);
	assert_int_equal(log_lines(), 1);
	cache_stats_get(c, &stats);
	assert_true(stats.refused_bytes > 0);
	assert_true(stats.used_bytes <= 2 * MIB);
	assert_true(stats.stored_bytes >= stored);
	assert_int_equal(check_blob(b, 2), stored / UNIT);
	cache_blob_close(b);
	cache_close(c);
}

/* The file system refuses: reported as such, counted, nothing is marked, no process dies. */
static void store_into_full_fs(void *arg)
{
	struct rlimit rl = {.rlim_cur = 1 * MIB, .rlim_max = 1 * MIB};
	struct cache *c = open_cache(0);
	struct cache_blob *b = open_blob(c, 1, MIB);
	static uint8_t buf[8 * UNIT];
	struct cache_stats stats;
	struct waiter w = {0};
	struct loop *l;
	struct cache_store s = {.blob = b, .range = range_of(MIB / 2 - 4 * UNIT, 8 * UNIT)};

	(void)arg;
	log_open(LOG_LEVEL_ERROR, STDERR_FILENO);
	if (loop_new(8, &l, NULL))
		_exit(1);
	task_init(&w.task, l, waiter_step);
	(void)signal(SIGXFSZ, SIG_IGN);
	rl.rlim_cur = MIB / 2;
	if (setrlimit(RLIMIT_FSIZE, &rl))
		_exit(2);
	fill(1, s.range, buf);
	s.buf = buf;
	s.owner = &w.task;
	cache_store(l, &s);
	while (!w.runs)
		loop_turn(l, true);
	cache_stats_get(c, &stats);
	if (s.res != -ENOSPC || stats.refused_bytes != 8 * UNIT || cache_present_bytes(b))
		_exit(3);
	if (put(b, 1, range_of(MIB / 2, UNIT)) != -ENOSPC || cache_present_bytes(b))
		_exit(4);
	loop_free(l);
	cache_blob_close(b);
	cache_close(c);
}

static void test_full_fs(void **state)
{
	(void)state;
	skip_under_tsan();
	assert_int_equal(in_child(store_into_full_fs, NULL), 0);
}

/* ---- objects ---- */

static void test_objects(void **state)
{
	struct cache *c = open_cache(0);
	char digest[DIGEST_TEXT_BYTES], got[72], *data = NULL, *path;
	size_t len = 0;
	int fd;

	(void)state;
	digest_of("manifest", 8, digest);
	assert_int_equal(cache_get_object(c, digest, 100, &data, &len), -ENOENT);
	assert_int_equal(cache_put_object(c, digest, "something else", 14), -EBADMSG);
	assert_int_equal(cache_put_object(c, digest, "manifest", 8), 0);
	assert_int_equal(cache_put_object(c, digest, "manifest", 8), 0);
	assert_int_equal(cache_get_object(c, digest, 100, &data, &len), 0);
	assert_int_equal(len, 8);
	assert_string_equal(data, "manifest");
	free(data);
	assert_int_equal(cache_get_object(c, digest, 7, &data, &len), -EBADMSG);
	path = text_printf("%s/objects/%s", dir, digest + 7);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "M", 1, 0), 1);
	close(fd);
	log_catch();
	assert_int_equal(cache_get_object(c, digest, 100, &data, &len), -EBADMSG);
	assert_int_equal(log_lines(), 1);
	assert_int_equal(cache_get_object(c, digest, 100, &data, &len), -ENOENT);
	free(path);

	assert_int_equal(cache_get_name(c, "reg/app:1", got), -ENOENT);
	assert_int_equal(cache_put_name(c, "reg/app:1", "nonsense"), -EINVAL);
	assert_int_equal(cache_put_name(c, "reg/app:1", digest), 0);
	assert_int_equal(cache_get_name(c, "reg/app:1", got), 0);
	assert_string_equal(got, digest);
	assert_int_equal(cache_get_name(c, "reg/app:2", got), -ENOENT);
	cache_close(c);
}

static void test_open_errors(void **state)
{
	struct cache *c = NULL;
	struct err e = {0};
	char *path = text_printf("%s/file", dir), *sub = text_printf("%s/sub", path);

	(void)state;
	assert_int_equal(close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	assert_true(cache_open(sub, 0, &c, &e) < 0);
	assert_true(e.msg[0] != '\0');
	assert_null(c);
	free(sub);
	free(path);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_bits),
	    T(test_store),
	    T(test_live_and_synced),
	    T(test_kill_a_writer),
	    T(test_check_can_fail),
	    T(test_bad_files),
	    T(test_other_size),
	    T(test_many_writers),
	    T(test_evict_under_a_reader),
	    T(test_oldest_use_goes_first),
	    T(test_full),
	    T(test_full_fs),
	    T(test_objects),
	    T(test_open_errors),
	};

	alarm(230); /* ctest has a limit of its own; this one names no test but ends children */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
