/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_random.h - reproducible random numbers for property tests
 *
 * The seed is HEADSTART_TEST_SEED, under CI a fixed one, else the clock's; it is printed at the
 * start.
 */
#ifndef HS_LIB_TEST_RANDOM_H
#define HS_LIB_TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct test_random {
	uint64_t state;
};

/* test_random_start - seed as above, and say it */
struct test_random test_random_start(const char *what);

uint64_t test_random_u64(struct test_random *r);

/* test_random_below - 0 <= result < @limit, @limit > 0 */
uint64_t test_random_below(struct test_random *r, uint64_t limit);

/* test_random_fill - bytes that compress somewhat: runs, repeats and noise */
void test_random_fill(struct test_random *r, void *p, size_t len);

#endif
