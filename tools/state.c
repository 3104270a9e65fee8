/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - see state.h */
#include "state.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "cleanup.h"
#include "err.h"
#include "mountinfo.h"
#include "text.h"

#define RECORD_MAX_BYTES (1u << 20)
#define RECORD_VERSION	 1
#define NAMELESS_SECONDS 10
#define TREE_MAX_DEPTH	 64 /* descriptors held; deeper directories are moved up */

static const struct {
	const char *key;
	size_t at;
} record_strings[] = {
    {"kind", offsetof(struct record, kind)},
    {"name", offsetof(struct record, name)},
    {"image", offsetof(struct record, image)},
    {"digest", offsetof(struct record, digest)},
    {"dir", offsetof(struct record, dir)},
    {"fstype", offsetof(struct record, fstype)},
    {"loop", offsetof(struct record, loop)},
    {"state_path", offsetof(struct record, state_path)},
    {"runtime", offsetof(struct record, runtime)},
};

#define RECORD_STRINGS (sizeof(record_strings) / sizeof(record_strings[0]))

static char **string_at(const struct record *r, size_t i)
{
	return (char **)((char *)r + record_strings[i].at);
}

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

void record_free(struct record *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < RECORD_STRINGS; i++)
		free(*string_at(r, i));
	free(r->path);
	free(r);
}

char *record_file(const struct record *r, const char *name)
{
	return text_printf("%s/%s", r->path, name);
}

int record_create(const char *run_dir, const char *kind, struct record **ret, struct err *e)
{
	struct record *r;
	uint8_t random[RECORD_ID_CHARS / 2];
	int err = text_mkdirs(run_dir, 0755, e);

	if (err)
		return err;
	r = xmalloc_zero(1, sizeof(*r));
	/* also an id that is in use only costs another turn */
	for (int tries = 0; tries < 16; tries++) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
			err = err_set(e, -EIO, "getrandom: %s", strerror(errno));
			break;
		}
		bytes_hex(random, sizeof(random), r->id);
		free(r->path);
		r->path = text_printf("%s/%s", run_dir, r->id);
		if (!mkdir(r->path, 0700)) {
			r->kind = text_dup(kind);
			r->created_s = (uint64_t)time(NULL);
			*ret = r;
			return 0;
		}
		err = err_set(e, -errno, "cannot create %s: %s", r->path, strerror(errno));
		if (err != -EEXIST)
			break;
	}
	record_free(r);
	return err;
}

int record_save(const struct record *r, struct err *e)
{
	_cleanup_(free_json) cJSON *j = cJSON_CreateObject();
	_cleanup_free_ char *path = record_file(r, "record.json");
	_cleanup_free_ char *text = NULL;

	cJSON_AddNumberToObject(j, "version", RECORD_VERSION);
	cJSON_AddStringToObject(j, "id", r->id);
	for (size_t i = 0; i < RECORD_STRINGS; i++)
		if (*string_at(r, i))
			cJSON_AddStringToObject(j, record_strings[i].key, *string_at(r, i));
	cJSON_AddNumberToObject(j, "created", (double)r->created_s);
	cJSON_AddNumberToObject(j, "bytes", (double)r->bytes);
	text = cJSON_Print(j);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	return text_write_file(path, text, strlen(text), 0600, e);
}

static uint64_t number_of(const cJSON *j, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);

	return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 9e15
		   ? (uint64_t)v->valuedouble
		   : 0;
}

static bool is_id(const char *s)
{
	return strlen(s) == RECORD_ID_CHARS && strspn(s, "0123456789abcdef") == RECORD_ID_CHARS;
}

int record_load(const char *run_dir, const char *id, struct record **ret, struct err *e)
{
	_cleanup_free_ char *path = text_printf("%s/%s/record.json", run_dir, id);
	_cleanup_free_ char *text = NULL;
	_cleanup_(free_json) cJSON *j = NULL;
	struct record *r;
	int err;

	if (!is_id(id))
		return err_set(e, -ENOENT, "not an id: '%s'", id);
	err = text_read_file(path, RECORD_MAX_BYTES, &text, NULL, e);
	if (err)
		return err;
	j = cJSON_Parse(text);
	if (!cJSON_IsObject(j))
		return err_set(e, -EBADMSG, "%s: not a record", path);
	if (number_of(j, "version") != RECORD_VERSION)
		return err_set(e, -EBADMSG, "%s: written by another version of headstart", path);
	r = xmalloc_zero(1, sizeof(*r));
	memcpy(r->id, id, sizeof(r->id));
	r->path = text_printf("%s/%s", run_dir, id);
	for (size_t i = 0; i < RECORD_STRINGS; i++) {
		const char *v = cJSON_GetStringValue(
		    cJSON_GetObjectItemCaseSensitive(j, record_strings[i].key));

		*string_at(r, i) = text_dup(v);
	}
	r->created_s = number_of(j, "created");
	r->bytes = number_of(j, "bytes");
	if (!r->kind || !r->image) {
		record_free(r);
		return err_set(e, -EBADMSG, "%s: kind or image is missing", path);
	}
	*ret = r;
	return 0;
}

int record_lock(const struct record *r, const char *name, int *ret_fd, struct err *e)
{
	_cleanup_free_ char *path = record_file(r, name);
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB))
		return err_set(e, errno == EWOULDBLOCK ? -EBUSY : -errno, "%s: %s", path,
			       errno == EWOULDBLOCK ? "in use by another process"
						    : strerror(errno));
	record_write_pid(fd);
	*ret_fd = steal_fd(&fd);
	return 0;
}

void record_write_pid(int lock_fd)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	/* for people and for umount --force; the lock itself says who lives */
	if (ftruncate(lock_fd, 0) == 0)
		(void)!pwrite(lock_fd, text, (size_t)n, 0);
}

bool record_holder(const struct record *r, const char *name, pid_t *ret_pid)
{
	_cleanup_free_ char *path = record_file(r, name);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[16] = "";
	ssize_t n;

	if (ret_pid)
		*ret_pid = 0;
	if (fd < 0)
		return false;
	/* a shared lock: two commands that ask at once do not see each other as the holder */
	if (!flock(fd, LOCK_SH | LOCK_NB))
		return false;
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (ret_pid && n > 0)
		*ret_pid = (pid_t)strtol(text, NULL, 10);
	return true;
}

bool record_is_dead(const struct record *r)
{
	/* the server of a run outlives a killed `headstart run`, but nothing cleans up after it */
	if (record_holder(r, "client.lock", NULL))
		return false;
	return !strcmp(r->kind, "run") || !record_holder(r, "server.lock", NULL);
}

/*
 * A directory that was left without a record by somebody who was killed in the microseconds between
 * making the one and the other. @dir_fd: of the run directory.
 */
static struct record *load_nameless(int dir_fd, const char *run_dir, const char *id)
{
	struct record *r;
	struct stat st;

	if (fstatat(dir_fd, id, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode) ||
	    st.st_mtime + NAMELESS_SECONDS > time(NULL))
		return NULL;
	r = xmalloc_zero(1, sizeof(*r));
	memcpy(r->id, id, sizeof(r->id));
	r->path = text_printf("%s/%s", run_dir, id);
	r->kind = text_dup("mount");
	r->image = text_dup("(not known)");
	r->created_s = (uint64_t)st.st_mtime;
	return r;
}

static int by_age(const void *a, const void *b)
{
	const struct record *const *x = a, *const *y = b;

	if ((*x)->created_s != (*y)->created_s)
		return (*x)->created_s < (*y)->created_s ? -1 : 1;
	return strcmp((*x)->id, (*y)->id);
}

int record_list(const char *run_dir, struct record ***ret, size_t *ret_count, struct err *e)
{
	struct record **list = NULL;
	struct dirent *d;
	size_t count = 0;
	DIR *dir = opendir(run_dir);

	*ret = NULL;
	*ret_count = 0;
	if (!dir)
		return errno == ENOENT ? 0 : err_set(e, -errno, "%s: %s", run_dir, strerror(errno));
	while ((d = readdir(dir))) {
		struct record *r = NULL;
		int err = is_id(d->d_name) ? record_load(run_dir, d->d_name, &r, NULL) : -EINVAL;

		if (err == -ENOENT)
			r = load_nameless(dirfd(dir), run_dir, d->d_name);
		if (!r)
			continue; /* not ours, being made or being removed */
		list = reallocarray(list, count + 1, sizeof(struct record *));
		if (!list)
			abort();
		list[count++] = r;
	}
	closedir(dir);
	if (count)
		qsort(list, count, sizeof(struct record *), by_age);
	*ret = list;
	*ret_count = count;
	return 0;
}

void record_list_free(struct record **list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		record_free(list[i]);
	free(list);
}

/* Mounts on one directory hide each other: the one on top, the last, is meant. */
static struct record *find_dir(struct record **list, size_t count, const char *dir)
{
	while (count--)
		if (list[count]->dir && !strcmp(list[count]->dir, dir))
			return list[count];
	return NULL;
}

int record_find(const char *run_dir, const char *key, struct record **ret, struct err *e)
{
	_cleanup_free_ char *dir = NULL;
	struct record **list, *found = NULL;
	size_t count, starts = 0;
	int r = record_list(run_dir, &list, &count, e);

	if (r)
		return r;
	for (size_t i = 0; i < count && !found; i++)
		if (!strcmp(list[i]->id, key) || (list[i]->name && !strcmp(list[i]->name, key)))
			found = list[i];
	if (!found)
		found = find_dir(list, count, key);
	if (!found && (dir = mountinfo_path(key)))
		found = find_dir(list, count, dir);
	for (size_t i = 0; !found && strlen(key) >= 3 && i < count; i++)
		starts += text_starts_with(list[i]->id, key);
	for (size_t i = 0; starts == 1 && i < count; i++)
		if (text_starts_with(list[i]->id, key))
			found = list[i];
	if (found) {
		for (size_t i = 0; i < count; i++)
			if (list[i] == found)
				list[i] = NULL;
		*ret = found;
	} else if (starts > 1)
		r = err_set(e, -EINVAL, "'%s' is the start of %zu ids", key, starts);
	else
		r = err_set(e, -ENOENT, "nothing of headstart is mounted or runs as '%s'", key);
	record_list_free(list, count);
	return r;
}

int record_remove(const struct record *r, struct err *e)
{
	return tree_remove(r->path, e);
}

struct tree {
	int root; /* descriptor of the top directory */
	dev_t dev;
	uint64_t moved; /* directories moved up so far */
	char *path;
	struct err *e;
};

static int remove_entries(struct tree *t, int dir_fd, unsigned int depth);

static int remove_entry(struct tree *t, int dir_fd, const char *name, unsigned int depth)
{
	struct stat st;
	int fd, r;

	if (!unlinkat(dir_fd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_set(t->e, -errno, "cannot remove %s/.../%s: %s", t->path, name,
			       strerror(errno));
	if (!unlinkat(dir_fd, name, AT_REMOVEDIR))
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_set(t->e, -errno, "cannot remove %s/.../%s: %s", t->path, name,
			       strerror(errno));
	if (depth >= TREE_MAX_DEPTH) {
		char up[48];

		snprintf(up, sizeof(up), ".headstart-moved-%llu", (unsigned long long)t->moved++);
		/* the top directory is read again until it is empty */
		if (renameat(dir_fd, name, t->root, up))
			return err_set(t->e, -errno, "cannot move %s/.../%s: %s", t->path, name,
				       strerror(errno));
		return 0;
	}
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0
				       : err_set(t->e, -errno, "cannot open %s/.../%s: %s", t->path,
						 name, strerror(errno));
	if (fstat(fd, &st) || st.st_dev != t->dev) {
		close(fd);
		return err_set(t->e, -EBUSY, "%s/.../%s: something is mounted there", t->path,
			       name);
	}
	r = remove_entries(t, fd, depth + 1);
	if (!r && unlinkat(dir_fd, name, AT_REMOVEDIR) && errno != ENOENT)
		r = err_set(t->e, -errno, "cannot remove %s/.../%s: %s", t->path, name,
			    strerror(errno));
	return r;
}

/* Takes @dir_fd over. */
static int remove_entries(struct tree *t, int dir_fd, unsigned int depth)
{
	DIR *dir = fdopendir(dir_fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = err_set(t->e, -errno, "%s: %s", t->path, strerror(errno));
		close(dir_fd);
		return r;
	}
	while (!r && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			r = remove_entry(t, dirfd(dir), d->d_name, depth);
	closedir(dir);
	return r;
}

int tree_remove(const char *path, struct err *e)
{
	struct tree t = {.path = (char *)path, .e = e};
	uint64_t moved;
	struct stat st;
	int r = 0;

	t.root = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (t.root < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (fstat(t.root, &st)) {
		close(t.root);
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	}
	t.dev = st.st_dev;
	do {
		int fd = openat(t.root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		moved = t.moved;
		r = fd < 0 ? err_set(e, -errno, "%s: %s", path, strerror(errno))
			   : remove_entries(&t, fd, 0);
	} while (!r && t.moved != moved);
	close(t.root);
	if (!r && rmdir(path) && errno != ENOENT)
		r = err_set(e, -errno, "cannot remove %s: %s", path, strerror(errno));
	return r;
}
