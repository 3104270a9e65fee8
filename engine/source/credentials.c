/* SPDX-License-Identifier: Apache-2.0 */
/* credentials.c - see credentials.h */
#include "credentials.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "err.h"
#include "text.h"

#define CONFIG_MAX_BYTES (1u << 20)
#define HELPER_MAX_BYTES (64u << 10)
#define HELPER_TIME_NS	 (30 * NS_PER_SEC)
#define SECRET_MAX_BYTES (32u << 10)

extern char **environ;

void secret_free(char *s)
{
	if (!s)
		return;
	explicit_bzero(s, strlen(s));
	free(s);
}

void credential_free(struct credential *c)
{
	if (!c)
		return;
	secret_free(c->user);
	secret_free(c->password);
	secret_free(c->identity_token);
	free(c);
}

/* --- base64 ------------------------------------------------------------------------------------
 */

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode64(const unsigned char *p, size_t len, char *out)
{
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < len)
			v |= p[i + 2];
		*out++ = b64[v >> 18];
		*out++ = b64[v >> 12 & 63];
		*out++ = i + 1 < len ? b64[v >> 6 & 63] : '=';
		*out++ = i + 2 < len ? b64[v & 63] : '=';
	}
	*out = '\0';
}

/* Decoded text, NULL when it is not base64 or holds a NUL. */
static char *decode64(const char *s)
{
	size_t len = strlen(s), n = 0;
	uint32_t v = 0;
	unsigned int bits = 0;
	char *out = xmalloc_zero(1, len / 4 * 3 + 4);

	while (len && s[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++) {
		const char *at = strchr(b64, s[i]);
		char c;

		if (!at || !s[i]) {
			secret_free(out);
			return NULL;
		}
		v = v << 6 | (uint32_t)(at - b64);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		c = (char)(v >> bits & 0xff);
		if (!c) {
			secret_free(out);
			return NULL;
		}
		out[n++] = c;
	}
	out[n] = '\0';
	return out;
}

char *credential_basic(const struct credential *c)
{
	char *pair = text_printf("%s:%s", c->user, c->password ? c->password : "");
	size_t len = strlen(pair);
	char *out = xmalloc_zero(1, 32 + (len + 2) / 3 * 4);
	int n = sprintf(out, "Authorization: Basic "); /* fits: 21 of 32 */

	encode64((const unsigned char *)pair, len, out + n);
	secret_free(pair);
	return out;
}

/* --- one credential ----------------------------------------------------------------------------
 */

static bool clean(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static struct credential *credential_new(const char *user, const char *password, const char *token)
{
	struct credential *c = xmalloc_zero(1, sizeof(*c));

	c->user = text_dup(user ? user : "");
	c->password = token ? NULL : text_dup(password);
	c->identity_token = text_dup(token);
	return c;
}

int credentials_from_option(const char *text, struct credential **ret, struct err *e)
{
	const char *colon = strchr(text, ':');
	char *user;

	if (!colon || colon == text)
		return err_set(e, -EINVAL, "credentials must be USER:PASSWORD");
	if (!clean(text) || strlen(text) > SECRET_MAX_BYTES)
		return err_set(e, -EINVAL, "credentials hold control characters or are too long");
	user = text_printf("%.*s", (int)(colon - text), text);
	*ret = credential_new(user, colon + 1, NULL);
	secret_free(user);
	return 0;
}

/* One entry of "auths". */
static int from_entry(const cJSON *x, const char *path, struct credential **ret, struct err *e)
{
	const cJSON *auth = cJSON_GetObjectItemCaseSensitive(x, "auth");
	const cJSON *user = cJSON_GetObjectItemCaseSensitive(x, "username");
	const cJSON *pass = cJSON_GetObjectItemCaseSensitive(x, "password");
	const cJSON *token = cJSON_GetObjectItemCaseSensitive(x, "identitytoken");
	char *pair;
	int rc;

	if (cJSON_IsString(token) && token->valuestring[0]) {
		*ret = credential_new("", NULL, token->valuestring);
		return 0;
	}
	if (cJSON_IsString(auth) && auth->valuestring[0]) {
		pair = decode64(auth->valuestring);
		rc = pair ? credentials_from_option(pair, ret, NULL) : -EINVAL;
		secret_free(pair);
		if (rc)
			return err_set(e, -EINVAL,
				       "auth file %s: an \"auth\" is not base64 of USER:PASSWORD",
				       path);
		return 0;
	}
	if (cJSON_IsString(user) && cJSON_IsString(pass) && user->valuestring[0]) {
		if (!clean(user->valuestring) || !clean(pass->valuestring))
			return err_set(e, -EINVAL, "auth file %s: control characters", path);
		*ret = credential_new(user->valuestring, pass->valuestring, NULL);
	}
	return 0; /* an empty entry: a helper may know more */
}

/* --- helpers -----------------------------------------------------------------------------------
 */

static bool helper_name_ok(const char *s)
{
	if (!*s || strlen(s) > 64 || *s == '.' || *s == '-')
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || *s == '-' || *s == '_' || *s == '.'))
			return false;
	return true;
}

static int spawn_helper(const char *program, int in, int out, pid_t *ret)
{
	char *argv[] = {(char *)program, "get", NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, dfl;
	int rc;

	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&attr);
	/* pipe ends are close-on-exec; dup2 clears that for the two it makes */
	posix_spawn_file_actions_adddup2(&fa, in, 0);
	posix_spawn_file_actions_adddup2(&fa, out, 1);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	sigemptyset(&none);
	sigemptyset(&dfl);
	sigaddset(&dfl, SIGPIPE);
	sigaddset(&dfl, SIGTERM);
	sigaddset(&dfl, SIGINT);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &dfl);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
					    POSIX_SPAWN_SETPGROUP);
	rc = posix_spawnp(ret, program, &fa, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

/* Everything @fd gives until its end; -ETIMEDOUT, -EFBIG. */
static int read_helper(int fd, char *buf, size_t cap, uint64_t deadline_ns)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_now_ns();
		ssize_t n;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
			continue;
		n = read(fd, buf + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len + 1 >= cap)
			return -EFBIG;
	}
	buf[len] = '\0';
	return 0;
}

static int reap(pid_t pid, uint64_t deadline_ns, bool kill_it)
{
	int status;

	for (;;) {
		pid_t got;

		if (kill_it || clock_now_ns() >= deadline_ns) {
			kill(-pid, SIGKILL);
			kill_it = true;
		}
		got = waitpid(pid, &status, kill_it ? 0 : WNOHANG);
		if (got == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
		if (got < 0 && errno != EINTR)
			return 255;
		if (!kill_it)
			poll(NULL, 0, 5); /* its output has ended, so it is about to exit */
	}
}

/* A dead helper must not kill us with SIGPIPE: sockets let us say so per write. */
static void say_to_helper(int fd, const char *server)
{
	size_t len = strlen(server);

	/* a helper that does not read is noticed by its answer */
	(void)!write(fd, server, len);
}

static int from_helper(const char *name, const char *server, struct credential **ret, struct err *e)
{
	_cleanup_free_ char *program = NULL;
	_cleanup_fd_ int in_r = -1, out_r = -1;
	uint64_t deadline = clock_now_ns() + HELPER_TIME_NS;
	int in[2], out[2], rc, status;
	sigset_t pipe_only, old;
	cJSON *root;
	char *buf;
	pid_t pid;

	if (!helper_name_ok(name))
		return err_set(e, -EINVAL, "auth file names an unusable credential helper");
	program = text_printf("docker-credential-%s", name);
	if (pipe2(in, O_CLOEXEC))
		return err_set(e, -errno, "cannot make a pipe");
	in_r = in[0];
	if (pipe2(out, O_CLOEXEC)) {
		rc = -errno;
		close(in[1]);
		return err_set(e, rc, "cannot make a pipe");
	}
	out_r = out[0];
	rc = spawn_helper(program, in[0], out[1], &pid);
	close(out[1]);
	if (rc) {
		close(in[1]);
		return err_set(e, rc == -ENOENT ? -ENOENT : -EIO, "cannot run %s: %s", program,
			       strerror(-rc));
	}
	close(steal_fd(&in_r));
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
	say_to_helper(in[1], server);
	if (!sigismember(&old, SIGPIPE)) {
		/* take a SIGPIPE that we caused before it is unblocked */
		const struct timespec none = {0};

		(void)sigtimedwait(&pipe_only, NULL, &none);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(in[1]);
	buf = xmalloc_zero(1, HELPER_MAX_BYTES);
	rc = read_helper(out_r, buf, HELPER_MAX_BYTES, deadline);
	status = reap(pid, deadline, rc != 0);
	if (rc) {
		rc = err_set(e, rc == -ETIMEDOUT ? -ETIMEDOUT : -EIO, "%s: %s", program,
			     rc == -ETIMEDOUT ? "no answer within 30 s" : "unreadable answer");
	} else if (status) {
		/* "not found" is an answer; its text is the protocol's, by all known helpers */
		if (!strstr(buf, "credentials not found"))
			rc = err_set(e, -EIO, "%s get failed with exit code %d", program, status);
	} else {
		const cJSON *user, *secret;

		root = cJSON_Parse(buf);
		user = cJSON_GetObjectItemCaseSensitive(root, "Username");
		secret = cJSON_GetObjectItemCaseSensitive(root, "Secret");
		if (!cJSON_IsString(user) || !cJSON_IsString(secret) || !clean(user->valuestring) ||
		    !clean(secret->valuestring))
			rc = err_set(e, -EIO, "%s: answer holds no Username and Secret", program);
		else if (!user->valuestring[0] && !secret->valuestring[0])
			rc = 0;
		else if (strcmp(user->valuestring, "<token>") == 0)
			*ret = credential_new("", NULL, secret->valuestring);
		else
			*ret = credential_new(user->valuestring, secret->valuestring, NULL);
		cJSON_Delete(root);
	}
	explicit_bzero(buf, HELPER_MAX_BYTES);
	free(buf);
	return rc;
}

/* --- files -------------------------------------------------------------------------------------
 */

/* A key of "auths" without scheme, "/v1/", "/v2/" and the like behind a bare host. */
static char *normal_key(const char *key)
{
	const char *s = key;
	char *copy, *slash;

	if (text_starts_with(s, "https://"))
		s += 8;
	else if (text_starts_with(s, "http://"))
		s += 7;
	copy = text_dup(s);
	slash = strchr(copy, '/');
	if (slash && (s != key || strcmp(slash, "/v1/") == 0 || strcmp(slash, "/v2/") == 0 ||
		      strcmp(slash, "/v1") == 0 || strcmp(slash, "/v2") == 0 || !slash[1]))
		*slash = '\0';
	if (strcmp(copy, "index.docker.io") == 0 || strcmp(copy, "registry-1.docker.io") == 0) {
		free(copy);
		copy = text_dup("docker.io");
	}
	return copy;
}

/* The entry whose key is the longest prefix of host/repo by whole components. */
static const cJSON *find_entry(const cJSON *table, const char *host, const char *repo)
{
	_cleanup_free_ char *full = text_printf("%s%s%s", host, *repo ? "/" : "", repo);
	const cJSON *best = NULL;
	size_t best_len = 0;

	for (const cJSON *x = cJSON_IsObject(table) ? table->child : NULL; x; x = x->next) {
		char *key = normal_key(x->string);
		size_t len = strlen(key);

		if (len > best_len && strncmp(full, key, len) == 0 &&
		    (full[len] == '\0' || full[len] == '/')) {
			best = x;
			best_len = len;
		}
		free(key);
	}
	return best;
}

static const char *helper_server(const char *host)
{
	return strcmp(host, "docker.io") == 0 ? "https://index.docker.io/v1/" : host;
}

static int search(const cJSON *root, const char *path, const char *host, const char *repo,
		  struct credential **ret, struct err *e)
{
	const cJSON *x;
	int rc;

	x = find_entry(cJSON_GetObjectItemCaseSensitive(root, "credHelpers"), host, repo);
	if (cJSON_IsString(x)) {
		rc = from_helper(x->valuestring, helper_server(host), ret, e);
		return rc ? err_wrap(e, rc, "auth file %s", path) : 0;
	}
	x = find_entry(cJSON_GetObjectItemCaseSensitive(root, "auths"), host, repo);
	if (cJSON_IsObject(x)) {
		rc = from_entry(x, path, ret, e);
		if (rc || *ret)
			return rc;
	}
	x = cJSON_GetObjectItemCaseSensitive(root, "credsStore");
	if (cJSON_IsString(x) && x->valuestring[0]) {
		rc = from_helper(x->valuestring, helper_server(host), ret, e);
		return rc ? err_wrap(e, rc, "auth file %s", path) : 0;
	}
	return 0;
}

static int search_file(const char *path, const char *host, const char *repo,
		       struct credential **ret, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	cJSON *root;
	int rc = text_read_file(path, CONFIG_MAX_BYTES, &text, &len, e);

	if (rc)
		return rc;
	root = cJSON_ParseWithLength(text, len);
	explicit_bzero(text, len);
	free(text);
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return err_set(e, -EINVAL, "auth file %s is not a JSON object", path);
	}
	rc = search(root, path, host, repo, ret, e);
	cJSON_Delete(root);
	return rc;
}

unsigned int credentials_files(const char *authfile, char **ret, unsigned int max)
{
	const char *home = getenv("HOME"), *dir;
	unsigned int n = 0;

	if (!authfile || !*authfile)
		authfile = getenv("REGISTRY_AUTH_FILE");
	if (authfile && *authfile) {
		if (max)
			ret[n++] = text_dup(authfile);
		return n;
	}
	dir = getenv("XDG_RUNTIME_DIR");
	if (n < max && dir && *dir)
		ret[n++] = text_printf("%s/containers/auth.json", dir);
	else if (n < max)
		ret[n++] = text_printf("/run/containers/%u/auth.json", (unsigned int)getuid());
	dir = getenv("XDG_CONFIG_HOME");
	if (n < max && dir && *dir)
		ret[n++] = text_printf("%s/containers/auth.json", dir);
	else if (n < max && home && *home)
		ret[n++] = text_printf("%s/.config/containers/auth.json", home);
	dir = getenv("DOCKER_CONFIG");
	if (n < max && dir && *dir)
		ret[n++] = text_printf("%s/config.json", dir);
	else if (n < max && home && *home)
		ret[n++] = text_printf("%s/.docker/config.json", home);
	return n;
}

int credentials_find(const char *authfile, const char *host, const char *repo,
		     struct credential **ret, struct err *e)
{
	bool named = (authfile && *authfile) ||
		     (getenv("REGISTRY_AUTH_FILE") && *getenv("REGISTRY_AUTH_FILE"));
	char *files[8];
	unsigned int count = credentials_files(authfile, files, 8);
	int rc = 0;

	*ret = NULL;
	for (unsigned int i = 0; i < count && !rc && !*ret; i++) {
		rc = search_file(files[i], host, repo ? repo : "", ret, e);
		/* a default that is not there or not ours is not meant */
		if (!named && (rc == -ENOENT || rc == -ENOTDIR || rc == -EACCES) &&
		    access(files[i], R_OK))
			rc = 0;
	}
	for (unsigned int i = 0; i < count; i++)
		free(files[i]);
	return rc;
}
