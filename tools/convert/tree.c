/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.c - name tables over ext4 directory blocks
 *
 * A slot of the table is (hash of the name, place of the entry): places do not change while the
 * entry lives. Blocks may come from a registry by way of reused layers, so loading checks every
 * entry.
 */
#include "tree.h"

#include "err.h"
#include "ext4.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_HEAD   8u
#define NEED(len)    ((ENTRY_HEAD + (uint32_t)(len) + 3) & ~3u)
#define MAX_BLOCKS   (1u << 21)
#define SCAN_BLOCKS  8u /* blocks with too little room that an addition looks at */
#define SLOT_EMPTY   UINT32_MAX
#define SLOT_DELETED (UINT32_MAX - 1)

struct slot {
	uint32_t hash;
	uint32_t place; /* block << 11 | offset / 4 << 1 | touched; or SLOT_* */
};

struct dir {
	struct dir *next; /* chain of the tree's table */
	uint32_t ino, parent;
	uint8_t **block;
	uint64_t *pblk;	 /* 0: has no place on the device yet */
	uint16_t *slack; /* largest room in a block */
	uint32_t blocks, room;
	uint32_t hint; /* no block before this one has room for a short name */
	struct slot *slot;
	uint32_t slots;	 /* power of two */
	uint32_t filled; /* not SLOT_EMPTY */
	uint32_t count;
	bool dirty;
};

struct tree {
	struct ext4 *x;
	struct dir **bucket;
	size_t buckets, count;
};

/* --- raw entries --- */

static uint32_t entry_ino(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return le32toh(v);
}

static uint32_t entry_rec(const uint8_t *p)
{
	return p[4] | (uint32_t)p[5] << 8;
}

static void set_entry(uint8_t *p, uint32_t ino, uint32_t rec, const char *name, size_t len,
		      uint8_t type)
{
	uint32_t le = htole32(ino);

	memcpy(p, &le, 4);
	p[4] = (uint8_t)rec;
	p[5] = (uint8_t)(rec >> 8);
	p[6] = (uint8_t)len;
	p[7] = type;
	memcpy(p + ENTRY_HEAD, name, len);
	memset(p + ENTRY_HEAD + len, 0, NEED(len) - ENTRY_HEAD - len);
}

static void set_rec(uint8_t *p, uint32_t rec)
{
	p[4] = (uint8_t)rec;
	p[5] = (uint8_t)(rec >> 8);
}

static uint32_t entry_room(const uint8_t *p)
{
	return entry_ino(p) ? entry_rec(p) - NEED(p[6]) : entry_rec(p);
}

static uint16_t block_slack(const uint8_t *b)
{
	uint32_t most = 0;

	for (uint32_t at = 0; at < BLOCK_BYTES; at += entry_rec(b + at))
		if (entry_room(b + at) > most)
			most = entry_room(b + at);
	return (uint16_t)most;
}

/* --- the name table --- */

static uint32_t hash_name(const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ull ^ len;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

static uint8_t *place_entry(const struct dir *d, uint32_t place)
{
	return d->block[place >> 11] + ((place >> 1 & 1023) * 4);
}

static struct slot *find_slot(const struct dir *d, const char *name, size_t len)
{
	uint32_t h = hash_name(name, len);

	for (uint32_t i = h & (d->slots - 1);; i = (i + 1) & (d->slots - 1)) {
		struct slot *s = &d->slot[i];
		const uint8_t *p;

		if (s->place == SLOT_EMPTY)
			return NULL;
		if (s->place == SLOT_DELETED || s->hash != h)
			continue;
		p = place_entry(d, s->place);
		if (p[6] == len && !memcmp(p + ENTRY_HEAD, name, len))
			return s;
	}
}

static void put_slot(struct dir *d, uint32_t hash, uint32_t place)
{
	uint32_t i = hash & (d->slots - 1);

	while (d->slot[i].place < SLOT_DELETED)
		i = (i + 1) & (d->slots - 1);
	if (d->slot[i].place == SLOT_EMPTY)
		d->filled++;
	d->slot[i] = (struct slot){.hash = hash, .place = place};
}

static void grow_slots(struct dir *d)
{
	struct slot *old = d->slot;
	uint32_t n = d->slots;

	if (d->slots && (d->filled + 1) * 4 < d->slots * 3)
		return;
	d->slots = 16;
	while (d->slots < (d->count + 1) * 2)
		d->slots *= 2;
	d->slot = xmalloc_zero(d->slots, sizeof(*d->slot));
	memset(d->slot, 0xff, d->slots * sizeof(*d->slot));
	d->filled = 0;
	for (uint32_t i = 0; i < n; i++)
		if (old[i].place < SLOT_DELETED)
			put_slot(d, old[i].hash, old[i].place);
	free(old);
}

static void enter(struct dir *d, const char *name, size_t len, uint32_t block, uint32_t at,
		  bool touched)
{
	grow_slots(d);
	put_slot(d, hash_name(name, len), block << 11 | at / 4 << 1 | touched);
	d->count++;
}

/* --- directories --- */

static uint32_t add_block(struct dir *d, uint64_t pblk)
{
	if (d->blocks == d->room) {
		d->room = d->room ? d->room * 2 : 1;
		d->block = realloc(d->block, d->room * sizeof(*d->block));
		d->pblk = realloc(d->pblk, d->room * sizeof(*d->pblk));
		d->slack = realloc(d->slack, d->room * sizeof(*d->slack));
		if (!d->block || !d->pblk || !d->slack)
			abort();
	}
	d->block[d->blocks] = xmalloc_zero(1, BLOCK_BYTES);
	set_rec(d->block[d->blocks], BLOCK_BYTES);
	d->pblk[d->blocks] = pblk;
	d->slack[d->blocks] = BLOCK_BYTES;
	return d->blocks++;
}

static void free_dir(struct dir *d)
{
	for (uint32_t i = 0; i < d->blocks; i++)
		free(d->block[i]);
	free(d->block);
	free(d->pblk);
	free(d->slack);
	free(d->slot);
	free(d);
}

struct tree *tree_new(struct ext4 *x)
{
	struct tree *t = xmalloc_zero(1, sizeof(*t));

	t->x = x;
	t->buckets = 1024;
	t->bucket = xmalloc_zero(t->buckets, sizeof(*t->bucket));
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->buckets; i++) {
		while (t->bucket[i]) {
			struct dir *d = t->bucket[i];

			t->bucket[i] = d->next;
			free_dir(d);
		}
	}
	free(t->bucket);
	free(t);
}

static void insert_dir(struct tree *t, struct dir *d)
{
	if (t->count++ > t->buckets) {
		size_t n = t->buckets * 4;
		struct dir **b = xmalloc_zero(n, sizeof(*b));

		for (size_t i = 0; i < t->buckets; i++) {
			while (t->bucket[i]) {
				struct dir *m = t->bucket[i];

				t->bucket[i] = m->next;
				m->next = b[m->ino % n];
				b[m->ino % n] = m;
			}
		}
		free(t->bucket);
		t->bucket = b;
		t->buckets = n;
	}
	d->next = t->bucket[d->ino % t->buckets];
	t->bucket[d->ino % t->buckets] = d;
}

/* Take in one block of a stored directory. */
static int load_block(struct tree *t, struct dir *d, uint32_t n, struct err *e)
{
	const uint8_t *b = d->block[n];

	for (uint32_t at = 0, rec; at < BLOCK_BYTES; at += rec) {
		const uint8_t *p = b + at;
		const char *name = (const char *)p + ENTRY_HEAD;
		uint32_t ino = entry_ino(p);
		size_t len = p[6];

		rec = entry_rec(p);
		if (rec < 12 || rec % 4 || rec > BLOCK_BYTES - at ||
		    (ino && (NEED(len) > rec || !len || ino > ext4_inode_count(t->x))))
			return err_set(e, -EBADMSG, "directory inode %u is corrupt", d->ino);
		if (!ino)
			continue;
		if (n == 0 && at == 0) {
			if (len != 1 || name[0] != '.' || ino != d->ino)
				return err_set(e, -EBADMSG, "directory inode %u has no \".\"",
					       d->ino);
		} else if (n == 0 && at == entry_rec(b) && len == 2 && !memcmp(name, "..", 2)) {
			d->parent = ino;
		} else if (memchr(name, 0, len) || memchr(name, '/', len) ||
			   (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'))) ||
			   (d->count && find_slot(d, name, len))) {
			return err_set(e, -EBADMSG, "directory inode %u has a bad name", d->ino);
		} else {
			enter(d, name, len, n, at, false);
		}
	}
	d->slack[n] = block_slack(b);
	return 0;
}

static int load_dir(struct tree *t, struct dir *d, struct err *e)
{
	struct ext2_inode_large in;
	struct extents runs;
	int rc = ext4_inode_read(t->x, d->ino, &in, e);

	if (rc < 0)
		return rc;
	if (!LINUX_S_ISDIR(in.i_mode) || !in.i_links_count)
		return err_set(e, -EBADMSG, "inode %u is not a directory in use", d->ino);
	rc = ext4_extents_get(t->x, &in, &runs, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < runs.count; i++) {
		if (runs.e[i].lblk != d->blocks || runs.e[i].len > MAX_BLOCKS - d->blocks)
			rc = err_set(e, -EBADMSG, "directory inode %u has holes", d->ino);
		for (uint32_t k = 0; rc == 0 && k < runs.e[i].len; k++) {
			uint32_t n = add_block(d, runs.e[i].pblk + k);

			rc = blockmap_read(ext4_map(t->x), d->pblk[n], d->block[n], e);
			if (rc == 0)
				rc = load_block(t, d, n, e);
		}
	}
	extents_done(&runs);
	if (rc == 0 && !d->parent)
		rc = err_set(e, -EBADMSG, "directory inode %u has no \"..\"", d->ino);
	return rc;
}

int tree_dir(struct tree *t, uint32_t ino, struct dir **ret, struct err *e)
{
	struct dir *d;
	int rc;

	for (d = t->bucket[ino % t->buckets]; d; d = d->next) {
		if (d->ino == ino) {
			*ret = d;
			return 0;
		}
	}
	d = xmalloc_zero(1, sizeof(*d));
	d->ino = ino;
	grow_slots(d);
	rc = load_dir(t, d, e);
	if (rc < 0) {
		free_dir(d);
		return rc;
	}
	insert_dir(t, d);
	*ret = d;
	return 0;
}

struct dir *tree_make_dir(struct tree *t, uint32_t ino, uint32_t parent_ino)
{
	struct dir *d = xmalloc_zero(1, sizeof(*d));

	d->ino = ino;
	d->parent = parent_ino;
	d->dirty = true;
	grow_slots(d);
	add_block(d, 0);
	set_entry(d->block[0], ino, 12, ".", 1, EXT2_FT_DIR);
	set_entry(d->block[0] + 12, parent_ino, BLOCK_BYTES - 12, "..", 2, EXT2_FT_DIR);
	d->slack[0] = block_slack(d->block[0]);
	insert_dir(t, d);
	return d;
}

void tree_forget(struct tree *t, uint32_t ino)
{
	for (struct dir **p = &t->bucket[ino % t->buckets]; *p; p = &(*p)->next) {
		if ((*p)->ino == ino) {
			struct dir *d = *p;

			*p = d->next;
			t->count--;
			free_dir(d);
			return;
		}
	}
}

uint32_t dir_ino(const struct dir *d)
{
	return d->ino;
}

uint32_t dir_parent(const struct dir *d)
{
	return d->parent;
}

uint32_t dir_count(const struct dir *d)
{
	return d->count;
}

static void read_entry(const struct dir *d, const struct slot *s, struct tree_entry *ret)
{
	const uint8_t *p = place_entry(d, s->place);

	ret->ino = entry_ino(p);
	ret->type = p[7];
	ret->touched = s->place & 1;
}

bool dir_find(const struct dir *d, const char *name, size_t len, struct tree_entry *ret)
{
	const struct slot *s = find_slot(d, name, len);

	if (s)
		read_entry(d, s, ret);
	return s != NULL;
}

/* A block with room for @need bytes: the first one near the hint, else the last, else a new one. */
static int find_room(struct dir *d, uint32_t need, uint32_t *ret, struct err *e)
{
	uint32_t seen = 0;

	while (d->hint < d->blocks && d->slack[d->hint] < NEED(8))
		d->hint++;
	for (uint32_t n = d->hint; n < d->blocks && seen < SCAN_BLOCKS; n++, seen++) {
		if (d->slack[n] >= need) {
			*ret = n;
			return 0;
		}
	}
	*ret = d->blocks - 1;
	if (d->slack[*ret] >= need)
		return 0;
	if (d->blocks == MAX_BLOCKS)
		return err_set(e, -ENOSPC, "directory is too large");
	*ret = add_block(d, 0);
	return 0;
}

int dir_add(struct dir *d, const char *name, size_t len, uint32_t ino, uint8_t type, struct err *e)
{
	uint32_t need = NEED(len), n, at = 0;
	uint8_t *b;
	int rc = find_room(d, need, &n, e);

	if (rc < 0)
		return rc;
	b = d->block[n];
	while (entry_room(b + at) < need)
		at += entry_rec(b + at);
	if (entry_ino(b + at)) {
		uint32_t used = NEED(b[at + 6]), rec = entry_rec(b + at);

		set_rec(b + at, used);
		set_entry(b + at + used, ino, rec - used, name, len, type);
		at += used;
	} else {
		set_entry(b + at, ino, entry_rec(b + at), name, len, type);
	}
	d->slack[n] = block_slack(b);
	enter(d, name, len, n, at, true);
	d->dirty = true;
	return 0;
}

void dir_replace(struct dir *d, const char *name, size_t len, uint32_t ino, uint8_t type)
{
	struct slot *s = find_slot(d, name, len);
	uint8_t *p = place_entry(d, s->place);
	uint32_t le = htole32(ino);

	memcpy(p, &le, 4);
	p[7] = type;
	s->place |= 1;
	d->dirty = true;
}

void dir_touch(struct dir *d, const char *name, size_t len)
{
	find_slot(d, name, len)->place |= 1;
}

void dir_remove(struct dir *d, const char *name, size_t len)
{
	struct slot *s = find_slot(d, name, len);
	uint32_t n = s->place >> 11, at = 0, prev = 0;
	uint8_t *b = d->block[n], *p = place_entry(d, s->place);

	while (b + at != p) {
		prev = at;
		at += entry_rec(b + at);
	}
	if (at) {
		set_rec(b + prev, entry_rec(b + prev) + entry_rec(p));
		memset(p, 0, ENTRY_HEAD); /* the name stays as garbage, as in any ext4 */
	} else {
		memset(p, 0, 4);
	}
	s->place = SLOT_DELETED;
	d->count--;
	d->slack[n] = block_slack(b);
	if (n < d->hint)
		d->hint = n;
	d->dirty = true;
}

bool dir_next(const struct dir *d, uint32_t *pos, const char **ret_name, size_t *ret_len,
	      struct tree_entry *ret)
{
	for (; *pos < d->slots; (*pos)++) {
		const struct slot *s = &d->slot[*pos];
		const uint8_t *p;

		if (s->place >= SLOT_DELETED)
			continue;
		p = place_entry(d, s->place);
		*ret_name = (const char *)p + ENTRY_HEAD;
		*ret_len = p[6];
		read_entry(d, s, ret);
		(*pos)++;
		return true;
	}
	return false;
}

/* --- writing back --- */

static int write_dir(struct tree *t, struct dir *d, struct err *e)
{
	struct ext2_inode_large in;
	struct extents runs = {0};
	uint32_t subdirs = 0, fresh = 0, pos = 0;
	struct tree_entry te;
	const char *name;
	size_t len;
	int rc = ext4_inode_read(t->x, d->ino, &in, e);

	for (uint32_t n = 0; rc == 0 && n < d->blocks; n++) {
		if (!d->pblk[n]) {
			uint32_t got;

			rc = ext4_alloc(t->x, 1, &d->pblk[n], &got, e);
			fresh++;
		}
		if (rc == 0) {
			blockmap_write(ext4_map(t->x), d->pblk[n], d->block[n]);
			extents_add(&runs, n, d->pblk[n], 1);
		}
	}
	if (rc == 0 && fresh) {
		if (in.i_flags & EXT4_EXTENTS_FL)
			rc = ext4_extents_free_tree(t->x, &in, e);
		if (rc == 0)
			rc = ext4_extents_set(t->x, &in, &runs, e);
		if (rc == 0 && in.i_file_acl) /* i_blocks was just set without it */
			in.i_blocks += BLOCK_BYTES / 512;
	}
	extents_done(&runs);
	if (rc < 0)
		return rc;
	while (dir_next(d, &pos, &name, &len, &te))
		subdirs += te.type == EXT2_FT_DIR;
	in.i_size = d->blocks * BLOCK_BYTES;
	in.i_size_high = (uint32_t)((uint64_t)d->blocks * BLOCK_BYTES >> 32);
	/* dir_nlink: a count that does not fit is written as 1 */
	in.i_links_count = subdirs + 2 < EXT4_MAX_LINKS ? (uint16_t)(subdirs + 2) : 1;
	d->dirty = false;
	return ext4_inode_write(t->x, d->ino, &in, e);
}

static int by_ino(const void *a, const void *b)
{
	const struct dir *const *x = a, *const *y = b;

	return (*x)->ino < (*y)->ino ? -1 : (*x)->ino > (*y)->ino;
}

int tree_flush(struct tree *t, struct err *e)
{
	struct dir **all = xmalloc_zero(t->count + 1, sizeof(*all));
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < t->buckets; i++)
		for (struct dir *d = t->bucket[i]; d; d = d->next)
			if (d->dirty)
				all[n++] = d;
	qsort(all, n, sizeof(*all), by_ino);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = write_dir(t, all[i], e);
	free(all);
	return rc;
}
