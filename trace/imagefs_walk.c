/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imagefs_walk.c - every name of an image
 *
 * Goes down a stack of listings, not of calls. A directory that is met twice is a loop, or has two
 * names, which no sane file system has: an error.
 */
#include "imagefs_impl.h"

#include "cleanup.h"
#include "err.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	uint64_t ino;
	size_t name; /* in @names */
};

/* One open directory. */
struct level {
	struct entry *entries;
	size_t count, room, next;
	char *names;
	size_t names_bytes, names_room;
	size_t path_bytes; /* of the directory's own path */
};

struct walk {
	struct imagefs *fs;
	int (*fn)(void *arg, const char *path, const struct imagefs_node *n);
	void *arg;
	struct err *e;
	char path[PATH_BYTES];
	struct level *levels;
	size_t depth;
	uint64_t *seen; /* hash table of directories, 0 free */
	size_t seen_count, seen_room;
	uint64_t names;
};

static size_t slot_of(const uint64_t *seen, size_t room, uint64_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);

	while (seen[at] && seen[at] != ino + 1)
		at = (at + 1) & (room - 1);
	return at;
}

/* Whether the directory was met before; it is from now on. */
static bool seen_before(struct walk *w, uint64_t ino)
{
	size_t at;

	if (w->seen_count * 2 >= w->seen_room) {
		size_t room = w->seen_room ? w->seen_room * 2 : 1024;
		uint64_t *seen = xmalloc_zero(room, sizeof(*seen));

		for (size_t n = 0; n < w->seen_room; n++) {
			if (w->seen[n])
				seen[slot_of(seen, room, w->seen[n] - 1)] = w->seen[n];
		}
		free(w->seen);
		w->seen = seen;
		w->seen_room = room;
	}
	at = slot_of(w->seen, w->seen_room, ino);
	if (w->seen[at])
		return true;
	w->seen[at] = ino + 1;
	w->seen_count++;
	return false;
}

static void *grown(void *p, size_t used, size_t *room, size_t need, size_t unit)
{
	void *q;

	if (need <= *room)
		return p;
	*room = need > *room * 2 ? need : *room * 2;
	*room = *room < 16 ? 16 : *room;
	q = xmalloc_zero(*room, unit);
	if (used)
		memcpy(q, p, used * unit);
	free(p);
	return q;
}

static int add_entry(void *arg, const char *name, size_t len, uint64_t ino)
{
	struct walk *w = arg;
	struct level *l = &w->levels[w->depth - 1];

	if (l->count >= IMAGEFS_DIR_NAMES || ++w->names > IMAGEFS_NAMES)
		return err_set(w->e, -EFBIG, "%s: too many names", w->path);
	l->entries = grown(l->entries, l->count, &l->room, l->count + 1, sizeof(*l->entries));
	l->names = grown(l->names, l->names_bytes, &l->names_room, l->names_bytes + len + 1, 1);
	l->entries[l->count++] = (struct entry){.ino = ino, .name = l->names_bytes};
	memcpy(l->names + l->names_bytes, name, len);
	l->names[l->names_bytes + len] = 0;
	l->names_bytes += len + 1;
	return 0;
}

static void pop(struct walk *w)
{
	struct level *l = &w->levels[--w->depth];

	free(l->entries);
	free(l->names);
}

static int push(struct walk *w, uint64_t ino)
{
	size_t len = strlen(w->path);

	if (seen_before(w, ino))
		return err_set(w->e, -EBADMSG, "%s: the directory has another name or is a loop",
			       w->path);
	w->levels[w->depth++] = (struct level){.path_bytes = len == 1 ? 0 : len};
	return w->fs->ops->list(w->fs, ino, add_entry, w, w->e);
}

static int visit(struct walk *w, struct level *l, const struct entry *x)
{
	const char *name = l->names + x->name;
	struct imagefs_node node;
	int rc;

	if (l->path_bytes + strlen(name) + 2 > PATH_BYTES)
		return 0;
	w->path[l->path_bytes] = '/';
	strcpy(w->path + l->path_bytes + 1, name);
	rc = w->fs->ops->node(w->fs, x->ino, &node, w->e);
	if (rc < 0)
		return err_wrap(w->e, rc == -ENOENT ? -EBADMSG : rc, "%s", w->path);
	rc = w->fn(w->arg, w->path, &node);
	if (rc == 0 && node.type == IMAGEFS_DIR)
		rc = push(w, node.ino);
	return rc;
}

static int walk_all(struct walk *w)
{
	struct imagefs_node node;
	int rc = w->fs->ops->node(w->fs, w->fs->root, &node, w->e);

	if (rc == 0 && node.type != IMAGEFS_DIR)
		rc = err_set(w->e, -EBADMSG, "the root is no directory");
	if (rc < 0)
		return rc;
	strcpy(w->path, "/");
	rc = w->fn(w->arg, "/", &node);
	if (rc == 0)
		rc = push(w, node.ino);
	while (rc == 0 && w->depth) {
		struct level *l = &w->levels[w->depth - 1];

		if (l->next == l->count)
			pop(w);
		else
			rc = visit(w, l, &l->entries[l->next++]);
	}
	return rc;
}

int imagefs_walk(struct imagefs *fs,
		 int (*fn)(void *arg, const char *path, const struct imagefs_node *n), void *arg,
		 struct err *e)
{
	struct walk *w = xmalloc_zero(1, sizeof(*w));
	struct err none;
	int rc;

	w->fs = fs;
	w->fn = fn;
	w->arg = arg;
	w->e = e ? e : &none;
	/* a level takes two bytes of the path at least */
	w->levels = xmalloc_zero(PATH_BYTES / 2 + 2, sizeof(*w->levels));
	rc = walk_all(w);
	while (w->depth)
		pop(w);
	free(w->levels);
	free(w->seen);
	free(w);
	return rc;
}

/* --- one directory --- */

struct listing {
	struct imagefs_names names;
	size_t room, max;
	struct err *e;
};

static int add_name(void *arg, const char *name, size_t len, uint64_t ino)
{
	struct listing *w = arg;
	struct imagefs_names *n = &w->names;

	(void)ino;
	if (n->count >= w->max)
		return err_set(w->e, -EFBIG, "the directory has more than %zu names", w->max);
	n->name = grown(n->name, n->count, &w->room, n->count + 1, sizeof(*n->name));
	n->name[n->count++] = text_printf("%.*s", (int)len, name);
	return 0;
}

int imagefs_names(struct imagefs *fs, uint64_t ino, size_t max, struct imagefs_names *ret,
		  struct err *e)
{
	struct listing w = {.max = max, .e = e};
	struct err none;
	int rc;

	w.e = e ? e : &none;
	rc = fs->ops->list(fs, ino, add_name, &w, w.e);
	if (rc < 0) {
		imagefs_names_done(&w.names);
		return rc;
	}
	*ret = w.names;
	return 0;
}

void imagefs_names_done(struct imagefs_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->name[i]);
	free(n->name);
	*n = (struct imagefs_names){0};
}
