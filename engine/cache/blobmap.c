/* SPDX-License-Identifier: Apache-2.0 */
/* blobmap.c - see blobmap.h */
#include "blobmap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "text.h"

#define MAGIC	      "hscache1"
#define MAGIC_BYTES   8
#define DIGEST_BYTES  32
#define LOCK_WAIT_NS  (10 * NS_PER_SEC)
#define LOCK_PAUSE_NS (2 * NS_PER_MS)
#define MAX_ATTEMPTS  1000

/* What is known of an entry: enough to say whether its map can be believed. */
struct entry {
	int dirfd;
	const char *hex;
	uint64_t bytes;
	const uint8_t *boot_id;
	uint8_t digest[DIGEST_BYTES];
	char map_name[BLOBMAP_HEX_BYTES + 8];
	char data_name[BLOBMAP_HEX_BYTES + 8];
};

enum map_state { MAP_NEW, MAP_BAD, MAP_OLD_BOOT, MAP_GOOD };

static void entry_init(struct entry *n, int dirfd, const char *hex)
{
	memset(n, 0, sizeof(*n));
	n->dirfd = dirfd;
	n->hex = hex;
	(void)snprintf(n->map_name, sizeof(n->map_name), "%.64s.map", hex);    /* both fit: */
	(void)snprintf(n->data_name, sizeof(n->data_name), "%.64s.data", hex); /* hex is 64 */
	for (unsigned int i = 0; i < DIGEST_BYTES; i++) {
		unsigned int v = 0;

		for (unsigned int d = 0; d < 2; d++) {
			char c = hex[2 * i + d];

			v = v * 16 + (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10);
		}
		n->digest[i] = (uint8_t)v;
	}
}

int blobmap_boot_id(uint8_t ret[static BLOBMAP_BOOT_ID_BYTES], struct err *e)
{
	_cleanup_free_ char *text = NULL;
	unsigned int n = 0;
	int r = text_read_file("/proc/sys/kernel/random/boot_id", 256, &text, NULL, e);

	if (r)
		return err_wrap(e, r, "cannot tell one boot of this node from another");
	memset(ret, 0, BLOBMAP_BOOT_ID_BYTES);
	for (const char *c = text; *c && n < 2 * BLOBMAP_BOOT_ID_BYTES; c++) {
		if (*c == '-')
			continue;
		if (!strchr("0123456789abcdef", *c))
			break;
		ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | (*c <= '9' ? *c - '0' : *c - 'a' + 10));
		n++;
	}
	if (n != 2 * BLOBMAP_BOOT_ID_BYTES)
		return err_set(e, -EBADMSG, "/proc/sys/kernel/random/boot_id is not a UUID");
	return 0;
}

static int pwrite_all(int fd, const void *p, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)p + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int pread_all(int fd, void *p, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)p + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* Whether @fd is what the entry's map is called now. */
static bool is_named(const struct entry *n, int fd)
{
	struct stat by_fd, by_name;

	return fstat(fd, &by_fd) == 0 && by_fd.st_nlink > 0 &&
	       fstatat(n->dirfd, n->map_name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
	       by_fd.st_dev == by_name.st_dev && by_fd.st_ino == by_name.st_ino;
}

static uint64_t bitmap_bytes(const struct entry *n)
{
	return (uint64_t)presence_words(n->bytes) * sizeof(uint64_t);
}

static uint64_t map_bytes(const struct entry *n)
{
	return BLOBMAP_HEADER_BYTES + 2 * bitmap_bytes(n);
}

/* Compares the map with what it has to be. @why: for the log, when it is bad. */
static enum map_state map_look(const struct entry *n, int map_fd, const char **why)
{
	uint8_t h[BLOBMAP_HEADER_BYTES];
	struct stat st;
	uint32_t unsafe;

	if (fstat(map_fd, &st) || !S_ISREG(st.st_mode)) {
		*why = "not a regular file";
		return MAP_BAD;
	}
	if (st.st_size == 0)
		return MAP_NEW;
	*why = "header";
	if (st.st_size < BLOBMAP_HEADER_BYTES || pread_all(map_fd, h, sizeof(h), 0) ||
	    memcmp(h + BLOBMAP_AT_MAGIC, MAGIC, MAGIC_BYTES) != 0 ||
	    get_le32(h + BLOBMAP_AT_UNIT) != CACHE_UNIT_BYTES)
		return MAP_BAD;
	*why = "digest";
	if (memcmp(h + BLOBMAP_AT_DIGEST, n->digest, DIGEST_BYTES) != 0)
		return MAP_BAD;
	*why = "blob size";
	if (get_le64(h + BLOBMAP_AT_BYTES) != n->bytes)
		return MAP_BAD;
	*why = "map size";
	if (get_le64(h + BLOBMAP_AT_WORDS) != presence_words(n->bytes) ||
	    (uint64_t)st.st_size != map_bytes(n))
		return MAP_BAD;
	*why = "data file";
	if (fstatat(n->dirfd, n->data_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size != n->bytes)
		return MAP_BAD;
	if (memcmp(h + BLOBMAP_AT_BOOT_ID, n->boot_id, BLOBMAP_BOOT_ID_BYTES) != 0)
		return MAP_OLD_BOOT;
	*why = "data could not be synced";
	memcpy(&unsafe, h + BLOBMAP_AT_UNSAFE, sizeof(unsafe));
	return unsafe ? MAP_BAD : MAP_GOOD;
}

/* Makes the entry empty. Exclusively locked. The header comes last: without it nothing is believed.
 */
static int map_make(const struct entry *n, int map_fd, bool was_bad)
{
	_cleanup_fd_ int data_fd = -1;
	uint8_t h[BLOBMAP_HEADER_BYTES] = {0};
	int r;

	if (ftruncate(map_fd, 0))
		return -errno;
	/* The old bits must not come back after power loss, beside the new data file. */
	if (was_bad && fsync(map_fd))
		return -errno;
	if (unlinkat(n->dirfd, n->data_name, 0) && errno != ENOENT)
		return -errno;
	data_fd = openat(n->dirfd, n->data_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (data_fd < 0 || ftruncate(data_fd, (off_t)n->bytes))
		return -errno;
	/* LIVE is written through a mapping, where a full disk would be a SIGBUS. */
	r = -posix_fallocate(map_fd, 0, (off_t)map_bytes(n));
	if (r)
		return r;
	memcpy(h + BLOBMAP_AT_MAGIC, MAGIC, MAGIC_BYTES);
	put_le32(h + BLOBMAP_AT_UNIT, CACHE_UNIT_BYTES);
	put_le64(h + BLOBMAP_AT_BYTES, n->bytes);
	put_le64(h + BLOBMAP_AT_WORDS, presence_words(n->bytes));
	memcpy(h + BLOBMAP_AT_DIGEST, n->digest, DIGEST_BYTES);
	memcpy(h + BLOBMAP_AT_BOOT_ID, n->boot_id, BLOBMAP_BOOT_ID_BYTES);
	return pwrite_all(map_fd, h, sizeof(h), 0);
}

/* First open after a boot: only what was synced is there. The boot id comes last. */
static int map_recover(const struct entry *n, int map_fd)
{
	_cleanup_free_ char *bits = malloc(bitmap_bytes(n));
	uint8_t zero[BLOBMAP_HEADER_BYTES - BLOBMAP_AT_DROPS] = {0};
	int r;

	if (!bits)
		return -ENOMEM;
	r = pread_all(map_fd, bits, bitmap_bytes(n), BLOBMAP_HEADER_BYTES + bitmap_bytes(n));
	if (!r)
		r = pwrite_all(map_fd, bits, bitmap_bytes(n), BLOBMAP_HEADER_BYTES);
	if (!r)
		r = pwrite_all(map_fd, zero, sizeof(zero), BLOBMAP_AT_DROPS);
	if (!r)
		r = pwrite_all(map_fd, n->boot_id, BLOBMAP_BOOT_ID_BYTES, BLOBMAP_AT_BOOT_ID);
	return r;
}

/* Brings the entry into a state to be used. Exclusively locked and named. */
static int map_prepare(const struct entry *n, int map_fd)
{
	const char *why = "";
	enum map_state state = map_look(n, map_fd, &why);

	switch (state) {
	case MAP_BAD:
		log_warn("cache entry is not usable, starting it anew blob=%.12s bad=\"%s\"",
			 n->hex, why);
		return map_make(n, map_fd, true);
	case MAP_NEW:
		return map_make(n, map_fd, false);
	case MAP_OLD_BOOT:
		return map_recover(n, map_fd);
	case MAP_GOOD:
		break;
	}
	return 0;
}

static void pause_ns(uint64_t ns)
{
	struct timespec ts = {.tv_nsec = (long)ns};

	(void)nanosleep(&ts, NULL); /* a shorter pause is fine */
}

/* A shared lock, waiting for an exclusive one to go. */
static int lock_shared(int fd, uint64_t deadline_ns)
{
	while (flock(fd, LOCK_SH | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (clock_now_ns() > deadline_ns)
			return -EBUSY;
		pause_ns(LOCK_PAUSE_NS);
	}
	return 0;
}

/* Maps header and LIVE; the entry is locked and good. */
static int map_attach(const struct entry *n, int map_fd, struct blobmap *ret)
{
	_cleanup_fd_ int data_fd = openat(n->dirfd, n->data_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	size_t len = (size_t)(BLOBMAP_HEADER_BYTES + bitmap_bytes(n));
	struct presence *p = &ret->presence;
	char *m;

	if (data_fd < 0)
		return -errno;
	m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (m == MAP_FAILED)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	ret->mapped = m;
	ret->mapped_bytes = len;
	p->bytes = n->bytes;
	p->synced_off = len;
	p->data_fd = steal_fd(&data_fd);
	p->map_fd = map_fd;
	p->live = (_Atomic uint64_t *)(void *)(m + BLOBMAP_HEADER_BYTES);
	p->drops = (_Atomic uint64_t *)(void *)(m + BLOBMAP_AT_DROPS);
	p->unsafe = (_Atomic uint32_t *)(void *)(m + BLOBMAP_AT_UNSAFE);
	list_init(&p->waiters);
	(void)futimens(map_fd, NULL); /* only makes the order of eviction better */
	return 0;
}

/* One attempt. -EAGAIN: the entry was being changed by others, try again. Takes @fd over on
 * success. */
static int try_open(const struct entry *n, int fd, uint64_t deadline_ns, struct blobmap *ret)
{
	const char *why;
	int r;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		if (!is_named(n, fd))
			return -EAGAIN;
		r = map_prepare(n, fd);
		if (r)
			return r;
	} else if (errno != EWOULDBLOCK) {
		return -errno;
	}
	/* Going from exclusive to shared lets others in between: look again. */
	r = lock_shared(fd, deadline_ns);
	if (r)
		return r;
	if (!is_named(n, fd) || map_look(n, fd, &why) != MAP_GOOD)
		return -EAGAIN;
	return map_attach(n, fd, ret);
}

int blobmap_open(int dirfd, const char *hex, uint64_t bytes, const uint8_t *boot_id,
		 struct blobmap *ret, struct err *e)
{
	uint64_t deadline = clock_now_ns() + LOCK_WAIT_NS;
	struct entry n;
	int r = -EAGAIN;

	if (bytes > BLOBMAP_MAX_BYTES)
		return err_set(e, -EFBIG, "blob %.12s is too large for the cache", hex);
	entry_init(&n, dirfd, hex);
	n.bytes = bytes;
	n.boot_id = boot_id;
	for (unsigned int i = 0; r == -EAGAIN && i < MAX_ATTEMPTS; i++) {
		int fd = openat(dirfd, n.map_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0) {
			r = -errno;
			break;
		}
		r = try_open(&n, fd, deadline, ret);
		if (r)
			close(fd);
		if (r == -EAGAIN)
			pause_ns(LOCK_PAUSE_NS);
	}
	if (r == -EAGAIN)
		r = -EBUSY;
	if (r == -EBUSY)
		return err_set(e, r, "cache entry %.12s is in use by others as something else",
			       hex);
	if (r)
		return err_set(e, r == -EDQUOT ? -ENOSPC : r, "cache entry %.12s: %s", hex,
			       strerror(-r));
	return 0;
}

void blobmap_close(struct blobmap *m)
{
	if (!m->mapped)
		return;
	assert(!m->presence.holder);
	(void)futimens(m->presence.map_fd, NULL); /* only makes the order of eviction better */
	(void)munmap(m->mapped, m->mapped_bytes); /* cannot fail for what mmap returned */
	close(m->presence.data_fd);
	close(m->presence.map_fd); /* the lock goes with it */
	memset(m, 0, sizeof(*m));
}

int blobmap_remove(int dirfd, const char *hex, uint64_t *ret_bytes)
{
	_cleanup_fd_ int fd = -1;
	struct entry n;
	struct stat st;
	uint64_t freed = 0;

	entry_init(&n, dirfd, hex);
	/* Made when missing: a data file that is left over is removed under the same lock. */
	fd = openat(dirfd, n.map_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (!is_named(&n, fd))
		return -EBUSY;
	if (fstat(fd, &st) == 0)
		freed += (uint64_t)st.st_blocks * 512;
	if (fstatat(dirfd, n.data_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		freed += (uint64_t)st.st_blocks * 512;
	/*
	 * The data first, while the lock on the named map keeps openers out. A map that is left
	 * without data is not believed.
	 */
	if (unlinkat(dirfd, n.data_name, 0) && errno != ENOENT)
		return -errno;
	if (unlinkat(dirfd, n.map_name, 0))
		return -errno;
	*ret_bytes = freed;
	return 0;
}
