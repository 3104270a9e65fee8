/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_threads.c - the threads of an engine leave signals to the program */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine_kit.h"

/* Of thread @tid of this process. */
static uint64_t blocked_signals(const char *tid)
{
	_cleanup_free_ char *path = text_printf("/proc/self/task/%s/status", tid);
	_cleanup_file_ FILE *f = fopen(path, "re");
	unsigned long long mask = 0;
	char line[256];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "SigBlk: %llx", &mask) == 1)
			return mask;
	fail_msg("no SigBlk in %s", path);
	return 0;
}

static void test_signals_are_blocked(void **state)
{
	struct hs_engine *eng = kit_engine(NULL);
	char self[16];
	unsigned int threads = 0;
	DIR *d = opendir("/proc/self/task");

	(void)state;
	assert_non_null(d);
	snprintf(self, sizeof(self), "%d", (int)getpid());
	for (struct dirent *t; (t = readdir(d));) {
		if (t->d_name[0] == '.' || !strcmp(t->d_name, self))
			continue;
		assert_true(blocked_signals(t->d_name) >> (SIGTERM - 1) & 1);
		threads++;
	}
	closedir(d);
	/* loop, network, cache and two workers at least */
	assert_true(threads >= 5);
	hs_engine_free(eng);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_signals_are_blocked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
