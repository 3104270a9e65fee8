/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict_elf.c - programs, their loader and libraries
 *
 * Libraries are searched for as the loader does: paths of the file, LD_LIBRARY_PATH, the image's
 * own ld.so.cache, the usual directories; with musl its own list of directories. Breadth first,
 * each file once.
 */
#include "predict_impl.h"

#include "cleanup.h"
#include "elf_parts.h"
#include "err.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARIES   1000u
#define SEARCH_DIRS 64u /* of one path */
/* reading part of a file costs as much as so many questions */
#define PART_QUESTIONS 16u

/* A file that is to be looked at. */
struct loading {
	struct known *k;
	bool text;
};

struct closure {
	struct loading todo[LIBRARIES];
	size_t count, done;
	char *program_rpath; /* of the program: for libraries too; NULL: none */
	const char *program; /* its path, for $ORIGIN */
	uint16_t machine;
};

/* Part of a file; NULL when it is not there as a whole. */
static uint8_t *load_part(struct predict *p, const struct known *k, struct range r)
{
	_cleanup_free_ uint8_t *data = NULL;
	long got;

	p->questions += PART_QUESTIONS;
	if (predict_over(p))
		return NULL;
	data = xmalloc_zero(1, r.len + 1);
	got = imagefs_read(p->fs, k->node.ino, r.off, data, r.len, p->e);
	if (got < 0 && got != -EOPNOTSUPP)
		p->rc = (int)got;
	return got == (long)r.len ? steal_ptr(data) : NULL;
}

static bool load_head(struct predict *p, const struct known *k, struct elf_head *ret)
{
	size_t bytes = (size_t)min_u64(k->node.bytes, ELF_HEAD_BYTES);
	_cleanup_free_ uint8_t *head = load_part(p, k, range_of(0, bytes));

	return head && elf_head_parse(head, bytes, k->node.bytes, ret, NULL) == 0;
}

/* The dynamic section and its strings; false: none, or damaged. */
static bool load_dynamic(struct predict *p, const struct known *k, const struct elf_head *h,
			 struct elf_dynamic *ret, char **ret_strings)
{
	struct range r = h->dynamic;
	_cleanup_free_ uint8_t *dynamic = NULL;

	r.len = min_u64(r.len, ELF_DYNAMIC_BYTES);
	dynamic = r.len ? load_part(p, k, r) : NULL;
	if (!dynamic || elf_dynamic_parse(dynamic, r.len, h, ret, NULL) < 0 ||
	    ret->strings.len > ELF_STRING_BYTES)
		return false;
	*ret_strings = (char *)load_part(p, k, ret->strings);
	return *ret_strings;
}

/* --- searching --- */

static struct known *fitting(struct predict *p, const struct closure *c, const char *path)
{
	struct known *k = predict_find_file(p, path);
	struct elf_head h;

	return k && load_head(p, k, &h) && h.machine == c->machine ? k : NULL;
}

/* $ORIGIN (and ${ORIGIN}) at the beginning of a directory; other variables are not expanded. */
static char *expand(const char *dir, size_t len, const char *origin)
{
	static const char *const names[] = {"$ORIGIN", "${ORIGIN}"};

	for (size_t n = 0; n < 2; n++) {
		size_t skip = strlen(names[n]);

		if (len >= skip && strncmp(dir, names[n], skip) == 0)
			return text_printf("%.*s%.*s", (int)(strrchr(origin, '/') - origin), origin,
					   (int)(len - skip), dir + skip);
	}
	return text_printf("%.*s", (int)len, dir);
}

static struct known *in_dirs(struct predict *p, const struct closure *c, const char *dirs,
			     const char *origin, const char *name)
{
	for (unsigned int n = 0; n < SEARCH_DIRS && dirs && *dirs; n++) {
		size_t len = strcspn(dirs, ":;\n");
		_cleanup_free_ char *dir = expand(dirs, len, origin);
		_cleanup_free_ char *path = text_printf("%s/%s", dir, name);
		struct known *k = path[0] == '/' ? fitting(p, c, path) : NULL;

		if (k)
			return k;
		dirs += len;
		dirs += *dirs != 0;
	}
	return NULL;
}

static const char *usual_dirs(const struct closure *c)
{
	if (c->machine == 183)
		return "/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu:/lib64:/usr/lib64:/lib:"
		       "/usr/lib:/usr/local/lib";
	return "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib:"
	       "/usr/local/lib";
}

static struct known *search(struct predict *p, const struct closure *c, const char *name,
			    const char *rpath, const char *runpath, const char *origin)
{
	const char *path;
	struct known *k = NULL;

	if (strlen(name) > 1024 || !name[0])
		return NULL;
	if (strchr(name, '/'))
		return name[0] == '/' ? fitting(p, c, name) : NULL;
	if (!runpath)
		k = in_dirs(p, c, rpath, origin, name);
	if (!k && !runpath)
		k = in_dirs(p, c, c->program_rpath, c->program, name);
	if (!k)
		k = in_dirs(p, c, predict_env(p, "LD_LIBRARY_PATH"), origin, name);
	if (!k)
		k = in_dirs(p, c, runpath, origin, name);
	if (p->interp_dirs)
		return k ? k : in_dirs(p, c, p->interp_dirs, origin, name);
	for (unsigned int n = 0; !k && n < 8; n++) {
		path = ldcache_find(&p->ldcache, name, n);
		if (!path)
			break;
		k = fitting(p, c, path);
	}
	return k ? k : in_dirs(p, c, usual_dirs(c), origin, name);
}

/* --- loaders --- */

/* What the loader itself reads, once. */
static void loader_files(struct predict *p, const char *interp)
{
	_cleanup_free_ char *text = NULL;
	struct known *k;
	size_t bytes;

	if (p->cache || p->interp_dirs)
		return;
	if (strstr(interp, "/ld-musl-")) {
		_cleanup_free_ char *conf = NULL;
		const char *arch = strstr(interp, "/ld-musl-") + strlen("/ld-musl-");

		conf = text_printf("/etc/ld-musl-%.*s.path", (int)strcspn(arch, "."), arch);
		k = predict_find_file(p, conf);
		text = k ? predict_load(p, k, PREDICT_SMALL_BYTES, NULL) : NULL;
		if (text)
			predict_whole(p, k);
		p->interp_dirs = text ? steal_ptr(text) : text_dup("/lib:/usr/local/lib:/usr/lib");
		return;
	}
	k = predict_find_file(p, "/etc/ld.so.cache");
	p->cache = k ? predict_load(p, k, LDCACHE_MAX_BYTES, &bytes) : NULL;
	if (!p->cache) {
		p->cache = text_dup("");
		return;
	}
	predict_whole(p, k);
	/* a damaged one is a start without, as for the loader */
	if (ldcache_parse(p->cache, bytes, &p->ldcache, NULL) < 0)
		p->ldcache.count = 0;
}

/*
 * Libraries of which every start runs a good part: the C library and its loader, allocators,
 * interpreters, and OpenSSL, which initialises itself all over its code.
 */
static bool is_core(const char *name)
{
	static const char *const names[] = {"libc.so",	   "ld-linux",	   "ld-musl",
					    "libc.musl",   "libcrypto.so", "libjemalloc.so",
					    "libtcmalloc", "libmimalloc",  "libpython3",
					    "libnode.so",  "libperl.so",   "libruby"};

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		if (text_starts_with(name, names[n]))
			return true;
	}
	return false;
}

static void enqueue(struct closure *c, struct known *k, bool text)
{
	const char *name = strrchr(k->path, '/') + 1;

	if (k->elf || c->count == LIBRARIES)
		return;
	k->elf = true;
	c->todo[c->count++] = (struct loading){k, text || is_core(name)};
}

static void interpreter(struct predict *p, struct closure *c, const struct known *k,
			const struct elf_head *h)
{
	_cleanup_free_ char *name = NULL;
	struct known *i;

	if (h->interp.len == 0 || h->interp.len > 1024)
		return;
	name = (char *)load_part(p, k, h->interp);
	i = name && name[0] == '/' ? predict_find_file(p, name) : NULL;
	if (!i)
		return;
	enqueue(c, i, true);
	loader_files(p, name);
}

static uint64_t bytes_of(const struct range *part, size_t count)
{
	uint64_t sum = 0;

	for (size_t n = 0; n < count; n++)
		sum += part[n].len;
	return sum;
}

/* One file of the closure; what it needs comes behind all that is waiting. */
static void one_file(struct predict *p, struct closure *c, const struct loading *w)
{
	_cleanup_free_ char *strings = NULL;
	struct range part[ELF_PARTS], with_text[ELF_PARTS];
	struct elf_dynamic d;
	struct elf_head h;
	const char *rpath, *runpath;
	size_t count, more;
	bool dynamic;

	if (!load_head(p, w->k, &h)) {
		predict_part(p, w->k, 0, PREDICT_SMALL_BYTES);
		return;
	}
	if (c->machine == 0)
		c->machine = h.machine;
	interpreter(p, c, w->k, &h);
	dynamic = load_dynamic(p, w->k, &h, &d, &strings);
	count = elf_start_parts(&h, dynamic ? &d : NULL, false, part);
	more = elf_start_parts(&h, dynamic ? &d : NULL, true, with_text);
	if (bytes_of(with_text, more) - bytes_of(part, count) <=
	    (w->text ? p->o->text_bytes : p->o->library_text_bytes)) {
		memcpy(part, with_text, sizeof(part));
		count = more;
	}
	for (size_t n = 0; n < count; n++)
		predict_part(p, w->k, part[n].off, part[n].len);
	if (!dynamic)
		return;
	rpath = elf_string(strings, d.strings.len, d.rpath);
	runpath = elf_string(strings, d.strings.len, d.runpath);
	if (!c->program) {
		c->program = w->k->path;
		c->program_rpath = runpath ? NULL : text_dup(rpath);
	}
	for (size_t n = 0; n < d.needed_count; n++) {
		const char *name = elf_string(strings, d.strings.len, d.needed[n]);
		struct known *k = NULL;

		if (name)
			k = search(p, c, name, rpath, runpath, w->k->path);
		if (k)
			enqueue(c, k, false);
	}
}

void predict_elf(struct predict *p, struct known *k, bool text)
{
	struct closure *c = xmalloc_zero(1, sizeof(*c));

	enqueue(c, k, text);
	while (c->done < c->count && !predict_over(p))
		one_file(p, c, &c->todo[c->done++]);
	free(c->program_rpath);
	free(c);
}
