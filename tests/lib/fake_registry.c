/* SPDX-License-Identifier: Apache-2.0 */
/* fake_registry.c - see fake_registry.h */
#include "fake_registry.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define SCRIPT	    HS_SOURCE_DIR "/tests/lib/fake_registry.py"
#define MAX_OPTIONS 32

int fake_start(struct fake *f, const char *const *options)
{
	/* a wrapper in $PATH may be slow: the system's own first; -I: no site of the user */
	const char *python = access("/usr/bin/python3", X_OK) ? "python3" : "/usr/bin/python3";
	const char *argv[MAX_OPTIONS + 4] = {python, "-I", SCRIPT};
	posix_spawn_file_actions_t fa;
	int in[2], out[2], n = 3, rc;
	char line[256];
	FILE *r;

	for (; options && *options; options++) {
		assert(n < MAX_OPTIONS + 3);
		argv[n++] = *options;
	}
	assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	rc = posix_spawnp(&f->pid, python, &fa, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(in[0]);
	close(out[1]);
	f->in = in[1];
	r = fdopen(out[0], "r");
	if (rc || !r || !fgets(line, sizeof(line), r) ||
	    sscanf(line, "{\"port\": %d, \"storage\": %d", &f->port, &f->storage) != 2) {
		if (r)
			fclose(r);
		if (!rc)
			fake_stop(f);
		return -1;
	}
	fclose(r);
	return 0;
}

void fake_stop(struct fake *f)
{
	if (f->pid <= 0)
		return;
	close(f->in);
	while (waitpid(f->pid, NULL, 0) < 0)
		;
	f->pid = 0;
}

struct text {
	char *p;
	size_t len;
};

static size_t collect(char *p, size_t one, size_t len, void *arg)
{
	struct text *t = arg;

	(void)one;
	t->p = realloc(t->p, t->len + len + 1);
	assert(t->p);
	memcpy(t->p + t->len, p, len);
	t->len += len;
	t->p[t->len] = '\0';
	return len;
}

static char *ask(const struct fake *f, const char *path, const char *method, const void *body,
		 size_t len)
{
	struct text t = {0};
	CURL *c = curl_easy_init();
	char url[128];
	long status = 0;

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", f->port, path);
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, 20L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
	if (method) {
		struct curl_slist *h = curl_slist_append(NULL, "Expect:");

		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
		curl_easy_setopt(c, CURLOPT_HTTPHEADER, h);
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
		assert(curl_easy_perform(c) == CURLE_OK);
		curl_slist_free_all(h);
	} else {
		assert(curl_easy_perform(c) == CURLE_OK);
	}
	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	assert(status == 200);
	curl_easy_cleanup(c);
	return t.p ? t.p : strdup("");
}

void fake_post(const struct fake *f, const char *path, const char *json)
{
	free(ask(f, path, "POST", json, strlen(json)));
}

void fake_blob(const struct fake *f, const void *p, size_t len, char ret_digest[static 72])
{
	char *d = ask(f, "/_blob", "PUT", p, len);

	assert(strlen(d) == 71);
	memcpy(ret_digest, d, 72);
	free(d);
}

void fake_manifest(const struct fake *f, const char *repo, const char *ref, const char *json)
{
	char path[256];

	snprintf(path, sizeof(path), "/_manifest?repo=%s&ref=%s", repo, ref);
	free(ask(f, path, "PUT", json, strlen(json)));
}

char *fake_stats(const struct fake *f)
{
	return ask(f, "/_stats", NULL, NULL, 0);
}

long fake_stat(const struct fake *f, const char *name)
{
	char *text = fake_stats(f);
	cJSON *root = cJSON_Parse(text);
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, name);
	long n = cJSON_IsNumber(v) ? (long)v->valuedouble : 0;

	cJSON_Delete(root);
	free(text);
	return n;
}
