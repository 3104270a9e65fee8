/* SPDX-License-Identifier: Apache-2.0 */
/* predict.c - see predict.h: the list, the look-ups, metadata, and what the config names */
#include "predict_impl.h"

#include "cleanup.h"
#include "err.h"
#include "headstart.h"
#include "oci.h"
#include "prefetch_list.h"
#include "range.h"
#include "ranges.h"
#include "tables.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS		  65536u
#define BYTES_PER_MS	  40000u
#define DIRECTORY_FILES	  200u /* that look like configuration, of one directory */
#define DIRECTORY_ENTRIES 2000u

void predict_options_default(struct predict_options *o)
{
	*o = (struct predict_options){.metadata_bytes = 64u << 20,
				      .file_bytes = 256u << 20,
				      .text_bytes = 16u << 20,
				      .library_text_bytes = 1u << 20};
}

/* --- what is there --- */

static struct known **bucket_of(struct predict *p, const char *path)
{
	return &p->bucket[hash_path(path) % BUCKETS];
}

static struct known *remember(struct predict *p, const char *path)
{
	struct known **bucket = bucket_of(p, path), *k;

	for (k = *bucket; k; k = k->next) {
		if (strcmp(k->path, path) == 0)
			return k;
	}
	k = xmalloc_zero(1, sizeof(*k));
	k->path = text_dup(path);
	k->file = UINT32_MAX;
	k->next = *bucket;
	*bucket = k;
	p->lookups++;
	return k;
}

bool predict_over(struct predict *p)
{
	p->spent = p->spent || p->lookups > PREDICT_LOOKUPS || p->questions > PREDICT_QUESTIONS ||
		   imagefs_listed_bytes(p->fs) - p->listed_before > PREDICT_LISTED;
	return p->rc < 0 || p->spent;
}

struct known *predict_find(struct predict *p, const char *path)
{
	_cleanup_free_ char *real = NULL;
	struct known *k, *r;
	struct imagefs_node node;
	size_t before = p->lookups;
	struct err e = {0};
	int rc;

	p->questions++;
	if (predict_over(p))
		return NULL;
	k = remember(p, path);
	if (p->lookups == before)
		return k->real;
	rc = imagefs_lookup(p->fs, path, true, &node, &real, &e);
	if (rc < 0) {
		if (!imagefs_is_absence(rc))
			p->rc = err_set(p->e, rc, "%s", e.msg);
		return NULL;
	}
	r = remember(p, real);
	if (!r->real) {
		r->real = r;
		r->node = node;
	}
	k->real = r;
	return r;
}

struct known *predict_find_file(struct predict *p, const char *path)
{
	struct known *k = predict_find(p, path);

	return k && k->node.type == IMAGEFS_FILE ? k : NULL;
}

char *predict_load(struct predict *p, const struct known *k, size_t max, size_t *ret_bytes)
{
	_cleanup_free_ char *data = NULL;
	long got;

	if (p->rc < 0 || k->node.bytes > max || p->loaded > PREDICT_LOAD_BYTES)
		return NULL;
	p->loaded += k->node.bytes;
	data = xmalloc_zero(1, k->node.bytes + 1);
	got = imagefs_read(p->fs, k->node.ino, 0, data, k->node.bytes, p->e);
	if (got == -EOPNOTSUPP)
		return NULL; /* compressed by the file system */
	if (got < 0) {
		p->rc = (int)got;
		return NULL;
	}
	if (ret_bytes)
		*ret_bytes = (size_t)got;
	return steal_ptr(data);
}

/* --- the list --- */

static bool add_touch(struct predict *p, uint32_t file, uint64_t off, uint64_t bytes)
{
	struct prefetch_list *l = p->l;

	if (l->touch_count >= PREFETCH_LIST_MAX_TOUCHES)
		return false;
	l->touches = room_for_one(l->touches, l->touch_count, &p->touch_room, sizeof(*l->touches));
	l->touches[l->touch_count++] = (struct prefetch_touch){
	    .file = file, .off = off, .bytes = bytes, .at_ms = (uint32_t)(p->bytes / BYTES_PER_MS)};
	p->bytes += bytes;
	return true;
}

void predict_part(struct predict *p, struct known *k, uint64_t off, uint64_t bytes)
{
	struct prefetch_list *l = p->l;

	if (k->whole || p->rc < 0 || off >= k->node.bytes)
		return;
	bytes = min_u64(bytes, k->node.bytes - off);
	if (bytes == 0 || bytes > p->o->file_bytes - min_u64(p->bytes, p->o->file_bytes))
		return;
	if (k->file == UINT32_MAX) {
		if (l->file_count >= PREFETCH_LIST_MAX_FILES)
			return;
		l->files = room_for_one(l->files, l->file_count, &p->file_room, sizeof(*l->files));
		l->files[l->file_count] = (struct prefetch_file){text_dup(k->path), k->node.bytes};
		k->file = (uint32_t)l->file_count++;
	}
	add_touch(p, k->file, off, bytes);
}

void predict_whole(struct predict *p, struct known *k)
{
	predict_part(p, k, 0, min_u64(k->node.bytes, PREDICT_WHOLE_BYTES));
	k->whole = true;
}

const char *predict_env(const struct predict *p, const char *name)
{
	size_t len = strlen(name);

	for (char **v = p->config->env; *v; v++) {
		if (strncmp(*v, name, len) == 0 && (*v)[len] == '=')
			return *v + len + 1;
	}
	return NULL;
}

/* --- directories of configuration --- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void predict_small_files(struct predict *p, const char *dir, const char *name, unsigned int depth)
{
	struct known *k = predict_find(p, dir);
	struct imagefs_names names;
	size_t files = 0;
	int rc;

	if (!k || k->node.type != IMAGEFS_DIR || k->module)
		return;
	k->module = true; /* been here */
	rc = imagefs_names(p->fs, k->node.ino, DIRECTORY_ENTRIES, &names, p->e);
	if (rc == -EFBIG)
		return; /* nobody configures with thousands of files */
	if (rc < 0) {
		p->rc = rc;
		return;
	}
	if (names.count)
		qsort(names.name, names.count, sizeof(*names.name), by_name);
	for (size_t n = 0; n < names.count && !predict_over(p); n++) {
		_cleanup_free_ char *path = text_printf("%s/%s", k->path, names.name[n]);
		struct known *f = predict_find(p, path);

		if (f && f->node.type == IMAGEFS_FILE && f->node.bytes <= PREDICT_SMALL_BYTES &&
		    files++ < DIRECTORY_FILES) {
			predict_whole(p, f);
			if (name)
				predict_config_words(p, f, name);
		} else if (f && f->node.type == IMAGEFS_DIR && depth > 1)
			predict_small_files(p, path, name, depth - 1);
	}
	imagefs_names_done(&names);
}

/* --- what the config names --- */

/* A word that names something: a file as it is, a program, a directory of configuration. */
static void named(struct predict *p, const char *word)
{
	_cleanup_free_ char *path = NULL;
	const char *at = strchr(word, '='), *dir = p->config->working_dir;
	struct known *k;

	if (word[0] == '-' && at)
		word = at + 1;
	if (!word[0] || word[0] == '-' || strlen(word) > 1024)
		return;
	path = word[0] == '/' ? text_dup(word) : text_printf("%s/%s", dir ? dir : "", word);
	if (path[0] != '/')
		return;
	k = predict_find(p, path);
	if (!k || strcmp(k->path, "/") == 0)
		return;
	if (k->node.type == IMAGEFS_FILE && k->node.mode & 0111)
		predict_program(p, k, NULL, PREDICT_DEPTH - 1);
	else if (k->node.type == IMAGEFS_FILE)
		predict_whole(p, k);
	else if (k->node.type == IMAGEFS_DIR && word[0] == '/')
		predict_small_files(p, path, NULL, 1);
}

/* Variables whose value is a path, but no search path and no home. */
static void environment(struct predict *p)
{
	static const char *const no[] = {"PATH=", "HOME=", "PWD=", "SHELL=", "TMPDIR=", "LD_"};

	for (char **v = p->config->env; *v; v++) {
		const char *value = strchr(*v, '=');
		bool skip = !value || value[1] != '/' || strchr(value, ':');

		for (size_t n = 0; n < sizeof(no) / sizeof(no[0]); n++)
			skip = skip || text_starts_with(*v, no[n]);
		if (!skip)
			named(p, value + 1);
	}
}

/* Locale files, when the environment asks for a locale. */
static void locale(struct predict *p)
{
	const char *value = predict_env(p, "LC_ALL");
	struct known *k;

	value = value && *value ? value : predict_env(p, "LANG");
	if (!value || !*value || strcmp(value, "C") == 0 || strcmp(value, "POSIX") == 0)
		return;
	if (text_starts_with(value, "C.")) {
		predict_small_files(p, "/usr/lib/locale/C.utf8", NULL, 2);
		k = predict_find_file(p, "/usr/lib/locale/C.utf8/LC_CTYPE");
		if (k)
			predict_part(p, k, 0, 16384);
	} else {
		k = predict_find_file(p, "/usr/lib/locale/locale-archive");
		if (k)
			predict_part(p, k, 0, 65536);
	}
	k = predict_find_file(p, "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache");
	if (k)
		predict_whole(p, k);
}

static void start(struct predict *p)
{
	static const char *const always[] = {"/etc/passwd",	   "/etc/group",
					     "/etc/nsswitch.conf", "/etc/localtime",
					     "/etc/hosts",	   "/etc/ssl/openssl.cnf"};
	char **entry = p->config->entrypoint, **cmd = p->config->cmd, **argv;
	size_t n = 0, m = 0;
	struct known *k;

	/* the runtime looks the user up before anything runs */
	for (size_t i = 0; i < 2; i++) {
		k = predict_find_file(p, always[i]);
		if (k && k->node.bytes <= PREDICT_SMALL_BYTES)
			predict_whole(p, k);
	}
	while (entry[n])
		n++;
	while (cmd[m])
		m++;
	argv = xmalloc_zero(n + m + 1, sizeof(*argv));
	memcpy(argv, entry, n * sizeof(*argv));
	memcpy(argv + n, cmd, m * sizeof(*argv));
	k = n + m ? predict_in_path(p, argv[0]) : NULL;
	if (k) {
		const char *slash = strrchr(argv[0], '/');

		predict_program(p, k, argv + 1, 0);
		predict_configuration(p, slash ? slash + 1 : argv[0]);
	}
	for (size_t i = 1; i < n + m; i++)
		named(p, argv[i]);
	environment(p);
	locale(p);
	for (size_t i = 2; i < sizeof(always) / sizeof(always[0]); i++) {
		k = predict_find_file(p, always[i]);
		if (k && k->node.bytes <= PREDICT_SMALL_BYTES)
			predict_whole(p, k);
	}
	free(argv);
}

/* --- metadata --- */

struct metadata {
	struct predict *p;
	uint64_t bytes;
	uint64_t limit;
};

static int add_metadata(void *arg, uint64_t off, uint64_t bytes)
{
	struct metadata *m = arg;

	m->bytes += bytes;
	if (m->limit && m->bytes > m->limit)
		return 1;
	return add_touch(m->p, PREFETCH_NO_FILE, off, bytes) ? 0 : 1;
}

/* All of it, or when that is too much what the files of the list take. */
static void metadata(struct predict *p, const struct prefetch_list *files)
{
	struct metadata m = {.p = p, .limit = p->o->metadata_bytes};
	int rc = imagefs_metadata(p->fs, add_metadata, &m, p->e);

	if (rc == 1) {
		p->l->touch_count = 0;
		p->bytes = 0;
		m.limit = 0;
		rc = imagefs_path_metadata(p->fs, "/", add_metadata, &m, p->e);
		for (size_t n = 0; rc == 0 && n < files->file_count; n++)
			rc = imagefs_path_metadata(p->fs, files->files[n].path, add_metadata, &m,
						   p->e);
	}
	if (rc < 0)
		p->rc = rc;
}

/* Metadata goes first, although it is known last. */
static void put_metadata_first(struct predict *p)
{
	struct prefetch_touch *files = p->l->touches;
	size_t count = p->l->touch_count;

	p->l->touches = NULL;
	p->l->touch_count = p->touch_room = 0;
	p->bytes = 0;
	metadata(p, p->l);
	for (size_t n = 0; n < count && p->rc == 0; n++) {
		if (!add_touch(p, files[n].file, files[n].off, files[n].bytes))
			break;
	}
	free(files);
}

static void forget(struct predict *p)
{
	for (size_t n = 0; n < BUCKETS; n++) {
		while (p->bucket[n]) {
			struct known *k = p->bucket[n];

			p->bucket[n] = k->next;
			free(k->path);
			free(k);
		}
	}
	free(p->bucket);
	free(p->cache);
	free(p->interp_dirs);
}

int predict_touches(struct imagefs *fs, const char *json, const struct predict_options *o,
		    struct prefetch_list **ret, struct err *e)
{
	struct oci_config *config = NULL;
	struct predict p = {.fs = fs, .o = o, .listed_before = imagefs_listed_bytes(fs)};
	struct err none = {0};
	int rc = json ? oci_config_parse(json, strlen(json), &config, e) : 0;

	if (rc < 0)
		return rc;
	p.e = e ? e : &none;
	p.config = config;
	p.bucket = xmalloc_zero(BUCKETS, sizeof(struct known *));
	p.l = xmalloc_zero(1, sizeof(*p.l));
	p.l->origin = PREFETCH_PREDICTED;
	p.l->image = text_dup("");
	if (config)
		start(&p);
	if (p.rc == 0)
		put_metadata_first(&p);
	forget(&p);
	oci_config_free(config);
	if (p.rc < 0) {
		prefetch_list_free(p.l);
		return p.rc;
	}
	*ret = p.l;
	return 0;
}

int predict_list(struct hs_image *img, struct prefetch_list **ret, struct err *e)
{
	struct plan_options o;

	plan_options_default(&o);
	return predict_list_planned(img, &o, ret, e);
}

int predict_list_planned(struct hs_image *img, const struct plan_options *o,
			 struct prefetch_list **ret, struct err *e)
{
	struct prefetch_list *l = NULL;
	struct predict_options mine;
	struct imagefs *fs;
	int rc = imagefs_open_image(img, &fs, e);

	if (rc < 0)
		return rc;
	predict_options_default(&mine);
	rc = predict_touches(fs, hs_image_config(img), &mine, &l, e);
	if (rc == 0)
		rc = prefetch_list_plan(l, img, fs, false, o, NULL, e);
	imagefs_close(fs);
	if (rc < 0) {
		prefetch_list_free(l);
		return rc;
	}
	strncpy(l->image_digest, hs_image_digest(img), sizeof(l->image_digest) - 1);
	*ret = l;
	return 0;
}
