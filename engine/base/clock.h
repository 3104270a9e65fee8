/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - monotonic and CPU time in nanoseconds; the engine's loops use loop_now_ns() instead */
#ifndef HS_BASE_CLOCK_H
#define HS_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS  1000000ull
#define NS_PER_SEC 1000000000ull

uint64_t clock_now_ns(void);
uint64_t clock_cpu_ns(void); /* CPU time of the whole process */

#endif
