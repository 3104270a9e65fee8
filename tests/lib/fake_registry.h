/* SPDX-License-Identifier: Apache-2.0 */
/* fake_registry.h - start lib/fake_registry.py and talk to it; see there for faults and counters */
#ifndef HS_TESTS_FAKE_REGISTRY_H
#define HS_TESTS_FAKE_REGISTRY_H

#include <stddef.h>
#include <sys/types.h>

struct fake {
	pid_t pid;
	int in; /* it lives until this is closed */
	int port, storage;
};

/* fake_start - NULL-terminated options; returns 0, or -1 when python3 cannot be run */
int fake_start(struct fake *f, const char *const *options);
void fake_stop(struct fake *f);

/* fake_post - to /_fault, /_config or /_reset; asserts success */
void fake_post(const struct fake *f, const char *path, const char *json);

/* fake_blob - store a blob, get its digest */
void fake_blob(const struct fake *f, const void *p, size_t len, char ret_digest[static 72]);

/* fake_manifest - store @json under a tag or digest of a repository, whatever it is */
void fake_manifest(const struct fake *f, const char *repo, const char *ref, const char *json);

/* fake_stats - the JSON of /_stats; caller frees */
char *fake_stats(const struct fake *f);

/* fake_stat - one counter, 0 when it was never counted */
long fake_stat(const struct fake *f, const char *name);

#endif
