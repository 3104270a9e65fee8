/* SPDX-License-Identifier: Apache-2.0 */
/* test_random.c - splitmix64 */
#include "test_random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What lands must not hang on luck; people's own runs explore. This one once found a bug. */
#define CI_SEED "0x18eace6f8420f771"

struct test_random test_random_start(const char *what)
{
	const char *text = getenv("HEADSTART_TEST_SEED");
	struct timespec now;
	struct test_random r;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* any number will do */
	if (!text && getenv("CI"))
		text = CI_SEED;
	r.state = text ? strtoull(text, NULL, 0) : (uint64_t)now.tv_sec * 1000000007u + now.tv_nsec;
	printf("%s: HEADSTART_TEST_SEED=0x%llx\n", what, (unsigned long long)r.state);
	(void)fflush(stdout); /* so that it is there when the test dies */
	return r;
}

uint64_t test_random_u64(struct test_random *r)
{
	uint64_t z = r->state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

uint64_t test_random_below(struct test_random *r, uint64_t limit)
{
	return test_random_u64(r) % limit;
}

void test_random_fill(struct test_random *r, void *p, size_t len)
{
	uint8_t *b = p;
	size_t at = 0;

	while (at < len) {
		size_t n = 1 + test_random_below(r, 700);
		uint64_t kind = test_random_below(r, 4);

		if (n > len - at)
			n = len - at;
		if (kind == 0) {
			memset(b + at, (int)test_random_below(r, 256), n);
		} else if (kind == 1 && at > 0) {
			size_t back = 1 + test_random_below(r, at < 30000 ? at : 30000);

			for (size_t i = 0; i < n; i++)
				b[at + i] = b[at + i - back];
		} else {
			uint64_t alphabet = kind == 2 ? 256 : 24;

			for (size_t i = 0; i < n; i++)
				b[at + i] = (uint8_t)('A' + test_random_below(r, alphabet));
		}
		at += n;
	}
}
