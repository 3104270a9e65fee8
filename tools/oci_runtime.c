/* SPDX-License-Identifier: Apache-2.0 */
/* oci_runtime.c - see oci_runtime.h */
#include "oci_runtime.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "err.h"
#include "text.h"

#define MAX_STRINGS  4096u
#define MAX_GROUPS   65536u
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What docker gives a container by default. */
static const char *const capabilities[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",	       "CAP_FOWNER",
    "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",	       "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL",	   "CAP_AUDIT_WRITE",
};

static const char *const masked_paths[] = {
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
};

static const char *const readonly_paths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static const struct {
	const char *target, *type, *source;
	const char *options[8];
} system_mounts[] = {
    {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
    {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
    {"/dev/pts",
     "devpts",
     "devpts",
     {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
    {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
    {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
    {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
    {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

static void free_strings(char **s)
{
	for (size_t i = 0; s && s[i]; i++)
		free(s[i]);
	free(s);
}

static const cJSON *member(const cJSON *j, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(j, key);
}

/* An array of strings (or the keys of an object); absent and null are empty. */
static int take_strings(const cJSON *config, const char *key, bool keys, char ***ret, struct err *e)
{
	const cJSON *list = member(config, key), *item;
	size_t n = 0;

	*ret = xmalloc_zero(1, sizeof(char *));
	if (!list || cJSON_IsNull(list))
		return 0;
	if (keys ? !cJSON_IsObject(list) : !cJSON_IsArray(list))
		return err_set(e, -EBADMSG, "image config: %s has the wrong type", key);
	cJSON_ArrayForEach(item, list)
	{
		const char *v = keys ? item->string : cJSON_GetStringValue(item);

		if (!v)
			return err_set(e, -EBADMSG, "image config: %s[%zu] is not a string", key,
				       n);
		if (n >= MAX_STRINGS)
			return err_set(e, -EBADMSG, "image config: %s has more than %u entries",
				       key, MAX_STRINGS);
		*ret = reallocarray(*ret, n + 2, sizeof(char *));
		if (!*ret)
			abort();
		(*ret)[n++] = text_dup(v);
		(*ret)[n] = NULL;
	}
	return 0;
}

static int take_string(const cJSON *config, const char *key, char **ret, struct err *e)
{
	const cJSON *v = member(config, key);

	if (!v || cJSON_IsNull(v))
		return 0;
	if (!cJSON_IsString(v))
		return err_set(e, -EBADMSG, "image config: %s is not a string", key);
	if (*v->valuestring)
		*ret = text_dup(v->valuestring);
	return 0;
}

int run_image_parse(const char *json, struct run_image *ret, struct err *e)
{
	_cleanup_(free_json) cJSON *root = json ? cJSON_Parse(json) : cJSON_CreateObject();
	const cJSON *config = member(root, "config");
	struct run_image i = {0};
	int r = 0;

	if (!cJSON_IsObject(root))
		return err_set(e, -EBADMSG, "the image config is not a JSON object");
	if (config && !cJSON_IsObject(config) && !cJSON_IsNull(config))
		r = err_set(e, -EBADMSG, "image config: config is not an object");
	r = r ? r : take_strings(config, "Env", false, &i.env, e);
	r = r ? r : take_strings(config, "Entrypoint", false, &i.entrypoint, e);
	r = r ? r : take_strings(config, "Cmd", false, &i.cmd, e);
	r = r ? r : take_strings(config, "Volumes", true, &i.volumes, e);
	r = r ? r : take_string(config, "User", &i.user, e);
	r = r ? r : take_string(config, "WorkingDir", &i.working_dir, e);
	r = r ? r : take_string(config, "StopSignal", &i.stop_signal, e);
	if (r) {
		run_image_done(&i);
		return r;
	}
	*ret = i;
	return 0;
}

void run_image_done(struct run_image *i)
{
	free_strings(i->env);
	free_strings(i->entrypoint);
	free_strings(i->cmd);
	free_strings(i->volumes);
	free(i->user);
	free(i->working_dir);
	free(i->stop_signal);
	*i = (struct run_image){0};
}

/* ---- users ---- */

static bool parse_id(const char *s, uint32_t *ret)
{
	unsigned long long v;
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end || v > 0xfffffffeu) /* the last one means "no change" to the kernel */
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* Field @n of a line "a:b:c", NULL when it has fewer; @line ends at '\n' or NUL. Caller frees. */
static char *field(const char *line, unsigned int n)
{
	while (n--) {
		line += strcspn(line, ":\n");
		if (*line != ':')
			return NULL;
		line++;
	}
	return strndup(line, strcspn(line, ":\n"));
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return *line ? line + 1 : NULL;
}

/* The first line whose name is @name or whose id (field 2) is @id; NULL when there is none. */
static const char *find_line(const char *text, const char *name, const uint32_t *id)
{
	for (const char *l = text; l && *l; l = next_line(l)) {
		_cleanup_free_ char *got = field(l, name ? 0 : 2);
		uint32_t v;

		if (got && (name ? !strcmp(got, name) : parse_id(got, &v) && v == *id))
			return l;
	}
	return NULL;
}

static void add_group(struct run_user *u, uint32_t gid)
{
	for (size_t i = 0; i < u->group_count; i++)
		if (u->groups[i] == gid)
			return;
	if (u->group_count >= MAX_GROUPS)
		return;
	u->groups = reallocarray(u->groups, u->group_count + 1, sizeof(*u->groups));
	if (!u->groups)
		abort();
	u->groups[u->group_count++] = gid;
}

/* Groups that list @name as a member. */
static void add_memberships(struct run_user *u, const char *group, const char *name)
{
	for (const char *l = group; l && *l; l = next_line(l)) {
		_cleanup_free_ char *id = field(l, 2);
		_cleanup_free_ char *members = field(l, 3);
		char *save = NULL;
		uint32_t gid;

		if (!id || !members || !parse_id(id, &gid))
			continue;
		for (char *m = strtok_r(members, ",", &save); m; m = strtok_r(NULL, ",", &save))
			if (!strcmp(m, name))
				add_group(u, gid);
	}
}

/* A name wins over a number: a user may be called "1000". */
static const char *find_entry(const char *text, const char *spec, uint32_t *id, bool *ret_number)
{
	const char *l = find_line(text, spec, NULL);

	*ret_number = false;
	if (l)
		return l;
	*ret_number = parse_id(spec, id);
	return *ret_number ? find_line(text, NULL, id) : NULL;
}

static int resolve_user(const char *spec, const char *passwd, const char *group, struct run_user *u,
			bool with_groups, struct err *e)
{
	bool number;
	const char *l = find_entry(passwd, spec, &u->uid, &number);
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ char *uid = NULL;
	_cleanup_free_ char *gid = NULL;

	if (!l)
		return number ? 0 : err_set(e, -EINVAL, "the image has no user '%s'", spec);
	name = field(l, 0);
	uid = field(l, 2);
	gid = field(l, 3);
	u->home = field(l, 5);
	if (!uid || !gid || !parse_id(uid, &u->uid) || !parse_id(gid, &u->gid))
		return err_set(e, -EINVAL, "the image's /etc/passwd makes no sense at '%s'", spec);
	if (with_groups && name)
		add_memberships(u, group, name);
	return 0;
}

static int resolve_group(const char *spec, const char *group, struct run_user *u, struct err *e)
{
	bool number;
	const char *l = find_entry(group, spec, &u->gid, &number);
	_cleanup_free_ char *gid = NULL;

	if (!l)
		return number ? 0 : err_set(e, -EINVAL, "the image has no group '%s'", spec);
	gid = field(l, 2);
	if (!gid || !parse_id(gid, &u->gid))
		return err_set(e, -EINVAL, "the image's /etc/group makes no sense at '%s'", spec);
	return 0;
}

int run_user_resolve(const char *spec, const char *passwd, const char *group, struct run_user *ret,
		     struct err *e)
{
	_cleanup_free_ char *user = text_dup(spec ? spec : "");
	char *colon = strchr(user, ':');
	struct run_user u = {0};
	int r;

	if (colon)
		*colon++ = '\0';
	r = resolve_user(*user ? user : "0", passwd, group, &u, !colon || !*colon, e);
	if (!r && colon && *colon)
		r = resolve_group(colon, group, &u, e);
	if (r) {
		run_user_done(&u);
		return r;
	}
	*ret = u;
	return 0;
}

void run_user_done(struct run_user *u)
{
	free(u->groups);
	free(u->home);
	*u = (struct run_user){0};
}

/* ---- signals and binds ---- */

static int parse_realtime(const char *s)
{
	uint32_t n = 0;

	if (text_starts_with(s, "RTMIN") && (!s[5] || (s[5] == '+' && parse_id(s + 6, &n))) &&
	    n <= (uint32_t)(SIGRTMAX - SIGRTMIN))
		return SIGRTMIN + (int)n;
	n = 0;
	if (text_starts_with(s, "RTMAX") && (!s[5] || (s[5] == '-' && parse_id(s + 6, &n))) &&
	    n <= (uint32_t)(SIGRTMAX - SIGRTMIN))
		return SIGRTMAX - (int)n;
	return -EINVAL;
}

int run_signal_parse(const char *s)
{
	uint32_t n;

	if (parse_id(s, &n))
		return n > 0 && n <= (uint32_t)SIGRTMAX ? (int)n : -EINVAL;
	if (text_starts_with(s, "SIG"))
		s += 3;
	for (int i = 1; i < 32; i++) {
		const char *name = sigabbrev_np(i);

		if (name && !strcmp(name, s))
			return i;
	}
	return parse_realtime(s);
}

int run_bind_parse(char *text, struct run_bind *ret, struct err *e)
{
	char *target = strchr(text, ':'), *mode = target ? strchr(target + 1, ':') : NULL;
	bool read_only = false;

	if (target)
		*target++ = '\0';
	if (mode)
		*mode++ = '\0';
	if (!target || *text != '/' || *target != '/')
		return err_set(e, -EINVAL, "a volume is SRC:DST[:ro], both absolute paths");
	if (mode && !strcmp(mode, "ro"))
		read_only = true;
	else if (mode && strcmp(mode, "rw"))
		return err_set(e, -EINVAL, "a volume is 'ro' or 'rw', not '%s'", mode);
	*ret = (struct run_bind){.source = text, .target = target, .read_only = read_only};
	return 0;
}

/* ---- config.json ---- */

static cJSON *add_string_array(cJSON *to, const char *key, const char *const *v, size_t count)
{
	cJSON *a = cJSON_AddArrayToObject(to, key);

	for (size_t i = 0; i < count; i++)
		cJSON_AddItemToArray(a, cJSON_CreateString(v[i]));
	return a;
}

static void append_strings(cJSON *array, const char *const *v)
{
	for (; v && *v; v++)
		cJSON_AddItemToArray(array, cJSON_CreateString(*v));
}

static int add_args(cJSON *process, const struct run_spec *s, struct err *e)
{
	cJSON *args = cJSON_AddArrayToObject(process, "args");

	if (!s->entrypoint)
		append_strings(args, (const char *const *)s->image->entrypoint);
	else if (*s->entrypoint)
		cJSON_AddItemToArray(args, cJSON_CreateString(s->entrypoint));
	if (s->args && *s->args)
		append_strings(args, s->args);
	else if (!s->entrypoint)
		append_strings(args, (const char *const *)s->image->cmd);
	if (cJSON_GetArraySize(args) == 0)
		return err_set(e, -EINVAL, "the image names no command: give one behind its name");
	return 0;
}

/* Set "K=V" in @env, in the place of an earlier K. */
static void set_env(cJSON *env, const char *kv)
{
	size_t len = strcspn(kv, "=") + 1;
	int n = cJSON_GetArraySize(env);

	for (int i = 0; i < n; i++) {
		const char *have = cJSON_GetStringValue(cJSON_GetArrayItem(env, i));

		if (!strncmp(have, kv, len)) {
			cJSON_ReplaceItemInArray(env, i, cJSON_CreateString(kv));
			return;
		}
	}
	cJSON_AddItemToArray(env, cJSON_CreateString(kv));
}

static int add_env(cJSON *process, const struct run_spec *s, struct err *e)
{
	cJSON *env = cJSON_AddArrayToObject(process, "env");
	_cleanup_free_ char *host = text_printf("HOSTNAME=%s", s->hostname);
	_cleanup_free_ char *home =
	    text_printf("HOME=%s", s->user->home && *s->user->home ? s->user->home : "/");

	set_env(env, DEFAULT_PATH);
	set_env(env, host);
	set_env(env, home);
	if (s->tty)
		set_env(env, "TERM=xterm");
	for (char **v = s->image->env; *v; v++)
		if (strchr(*v, '=') && **v != '=')
			set_env(env, *v); /* others are no variables; docker drops them as well */
	for (const char *const *v = s->env; v && *v; v++) {
		_cleanup_free_ char *kv = NULL;
		const char *value;

		if (!**v || **v == '=')
			return err_set(e, -EINVAL, "not a variable: '%s'", *v);
		if (strchr(*v, '=')) {
			set_env(env, *v);
			continue;
		}
		value = s->getenv ? s->getenv(*v) : NULL;
		if (!value)
			continue;
		kv = text_printf("%s=%s", *v, value);
		set_env(env, kv);
	}
	return 0;
}

static void add_user(cJSON *process, const struct run_user *u)
{
	cJSON *user = cJSON_AddObjectToObject(process, "user"), *groups;

	cJSON_AddNumberToObject(user, "uid", u->uid);
	cJSON_AddNumberToObject(user, "gid", u->gid);
	cJSON_AddNumberToObject(user, "umask", 022);
	if (!u->group_count)
		return;
	groups = cJSON_AddArrayToObject(user, "additionalGids");
	for (size_t i = 0; i < u->group_count; i++)
		cJSON_AddItemToArray(groups, cJSON_CreateNumber(u->groups[i]));
}

/* Somebody else than root has them only through files that grant them. */
static void add_capabilities(cJSON *process, bool root)
{
	cJSON *c = cJSON_AddObjectToObject(process, "capabilities");

	add_string_array(c, "bounding", capabilities, COUNT(capabilities));
	add_string_array(c, "permitted", capabilities, root ? COUNT(capabilities) : 0);
	add_string_array(c, "effective", capabilities, root ? COUNT(capabilities) : 0);
}

static int add_process(cJSON *root, const struct run_spec *s, struct err *e)
{
	cJSON *p = cJSON_AddObjectToObject(root, "process");
	const char *cwd = s->working_dir	  ? s->working_dir
			  : s->image->working_dir ? s->image->working_dir
						  : "/";
	int r;

	if (*cwd != '/')
		return err_set(e, -EINVAL, "the working directory '%s' is not absolute", cwd);
	cJSON_AddBoolToObject(p, "terminal", s->tty);
	cJSON_AddStringToObject(p, "cwd", cwd);
	cJSON_AddBoolToObject(p, "noNewPrivileges", false);
	add_user(p, s->user);
	add_capabilities(p, s->user->uid == 0);
	r = add_args(p, s, e);
	return r ? r : add_env(p, s, e);
}

static void add_mounts(cJSON *root, const struct run_spec *s)
{
	cJSON *mounts = cJSON_AddArrayToObject(root, "mounts"), *m, *o;

	for (size_t i = 0; i < COUNT(system_mounts); i++) {
		m = cJSON_CreateObject();
		cJSON_AddStringToObject(m, "destination", system_mounts[i].target);
		cJSON_AddStringToObject(m, "type", system_mounts[i].type);
		cJSON_AddStringToObject(m, "source", system_mounts[i].source);
		o = cJSON_AddArrayToObject(m, "options");
		append_strings(o, system_mounts[i].options);
		cJSON_AddItemToArray(mounts, m);
	}
	for (size_t i = 0; i < s->bind_count; i++) {
		m = cJSON_CreateObject();
		cJSON_AddStringToObject(m, "destination", s->binds[i].target);
		cJSON_AddStringToObject(m, "type", "bind");
		cJSON_AddStringToObject(m, "source", s->binds[i].source);
		o = cJSON_AddArrayToObject(m, "options");
		cJSON_AddItemToArray(o, cJSON_CreateString("rbind"));
		cJSON_AddItemToArray(o, cJSON_CreateString("rprivate"));
		cJSON_AddItemToArray(o, cJSON_CreateString(s->binds[i].read_only ? "ro" : "rw"));
		cJSON_AddItemToArray(mounts, m);
	}
}

static void add_linux(cJSON *root, const struct run_spec *s)
{
	static const char *const spaces[] = {"pid", "ipc", "uts", "mount", "cgroup"};
	cJSON *l = cJSON_AddObjectToObject(root, "linux"), *list, *item;

	list = cJSON_AddArrayToObject(l, "namespaces");
	for (size_t i = 0; i < COUNT(spaces); i++) {
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "type", spaces[i]);
		cJSON_AddItemToArray(list, item);
	}
	if (!s->netns || *s->netns) {
		item = cJSON_CreateObject();
		cJSON_AddStringToObject(item, "type", "network");
		if (s->netns)
			cJSON_AddStringToObject(item, "path", s->netns);
		cJSON_AddItemToArray(list, item);
	}
	item = cJSON_CreateObject();
	cJSON_AddFalseToObject(item, "allow");
	cJSON_AddStringToObject(item, "access", "rwm");
	list = cJSON_AddArrayToObject(cJSON_AddObjectToObject(l, "resources"), "devices");
	cJSON_AddItemToArray(list, item); /* the runtime adds the usual harmless ones */
	cJSON_AddStringToObject(l, "cgroupsPath", s->cgroup_path);
	add_string_array(l, "maskedPaths", masked_paths, COUNT(masked_paths));
	add_string_array(l, "readonlyPaths", readonly_paths, COUNT(readonly_paths));
}

int run_spec_json(const struct run_spec *s, char **ret, struct err *e)
{
	_cleanup_(free_json) cJSON *root = cJSON_CreateObject();
	cJSON *r;
	int err;

	cJSON_AddStringToObject(root, "ociVersion", "1.0.2");
	r = cJSON_AddObjectToObject(root, "root");
	cJSON_AddStringToObject(r, "path", s->rootfs);
	cJSON_AddBoolToObject(r, "readonly", s->read_only);
	cJSON_AddStringToObject(root, "hostname", s->hostname);
	err = add_process(root, s, e);
	if (err)
		return err;
	add_mounts(root, s);
	add_linux(root, s);
	*ret = cJSON_Print(root);
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}
