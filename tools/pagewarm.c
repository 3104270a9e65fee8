/* SPDX-License-Identifier: Apache-2.0 */
/* pagewarm.c - see pagewarm.h */
#include "pagewarm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "control.h"
#include "options.h"
#include "prefetch_list.h"
#include "state.h"

#define LOOK_MS		4
#define LASTS_NS	(60 * NS_PER_SEC) /* a start that takes longer does not need it */
#define CHUNK_BYTES	(1u << 20)
#define MEMORY_PERMILLE 125 /* of the free memory at most */

/* The server's word on how far the list has come. */
struct progress {
	bool wanted;	    /* go on */
	bool final;	    /* nothing more will land */
	uint64_t landed_ms; /* what is touched before is here */
	char *file;	    /* the list's touches; NULL: not here yet */
};

static void free_json(cJSON **j)
{
	cJSON_Delete(*j);
}

static bool ask(const struct record *rec, struct progress *p)
{
	_cleanup_(free_json) cJSON *j = NULL;
	const cJSON *ms;
	const char *file;

	if (control_ask(rec->path, "pages", CONTROL_TIMEOUT_MS, &j, NULL))
		return false;
	ms = cJSON_GetObjectItemCaseSensitive(j, "landed_ms");
	file = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "file"));
	p->wanted = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "wanted"));
	p->final = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "final"));
	p->landed_ms = cJSON_IsNumber(ms) && ms->valuedouble > 0 ? (uint64_t)ms->valuedouble : 0;
	if (file && !p->file)
		p->file = record_file(rec, file);
	return true;
}

/* A file of the image, whatever links and mounts its path meets; -1: not there. */
static int open_inside(int root, const char *path)
{
	struct open_how how = {
	    .flags = O_RDONLY | O_CLOEXEC | O_NOATIME | O_NONBLOCK,
	    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	struct stat st;
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
		cleanup_fd(&fd);
	return fd;
}

/* Files are opened once, and mostly touched many times in a row. */
struct opened {
	int root, fd;
	uint32_t file;
};

static void read_touch(struct opened *o, const struct prefetch_list *l,
		       const struct prefetch_touch *t)
{
	if (o->file != t->file) {
		cleanup_fd(&o->fd);
		o->fd = open_inside(o->root, l->files[t->file].path);
		o->file = t->file;
	}
	for (uint64_t done = 0; o->fd >= 0 && done < t->bytes; done += CHUNK_BYTES) {
		uint64_t left = t->bytes - done;

		if (readahead(o->fd, (off64_t)(t->off + done),
			      left < CHUNK_BYTES ? left : CHUNK_BYTES))
			return;
	}
}

static uint64_t most_bytes(void)
{
	struct sysinfo si;

	return sysinfo(&si) ? 0 : (uint64_t)si.freeram * si.mem_unit / 1000 * MEMORY_PERMILLE;
}

static void warm(const struct record *rec, int root)
{
	uint64_t end = clock_now_ns() + LASTS_NS, left = most_bytes();
	const struct timespec pause = {.tv_nsec = LOOK_MS * (long)NS_PER_MS};
	struct opened o = {.root = root, .fd = -1, .file = PREFETCH_NO_FILE};
	struct prefetch_list *list = NULL;
	struct progress p = {0};
	size_t next = 0;

	while (clock_now_ns() < end && ask(rec, &p) && p.wanted) {
		bool all = p.final; /* before what follows is done: it is up to date */

		if (!list && p.file && prefetch_list_load(p.file, &list, NULL))
			return;
		while (list && next < list->touch_count &&
		       (all || list->touches[next].at_ms < p.landed_ms)) {
			const struct prefetch_touch *t = &list->touches[next++];

			if (t->file == PREFETCH_NO_FILE)
				continue;
			if (t->bytes > left)
				return;
			left -= t->bytes;
			read_touch(&o, list, t);
		}
		if (list && next == list->touch_count)
			return;
		nanosleep(&pause, NULL);
	}
}

pid_t pagewarm_start(const struct record *rec, const char *root)
{
	pid_t parent = getpid(), pid;
	int fd;

	if (!common.warm_pages)
		return 0;
	pid = fork();
	if (pid)
		return pid > 0 ? pid : 0;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* it holds nothing that has to be given back */
	(void)prctl(PR_SET_NAME, "headstart-pages");
	if (getppid() != parent)
		_exit(1);
	fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)close_range(3, (unsigned int)(fd > 3 ? fd - 1 : 2), 0);
	if (fd >= 0)
		warm(rec, fd);
	_exit(0);
}

void pagewarm_end(pid_t pid)
{
	if (pid <= 0)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
