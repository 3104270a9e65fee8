/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - controls of the simulated ring; only tests include it
 *
 * Files are in memory, named by small numbers that pass as descriptors. Each op completes after
 * a seeded virtual delay, in any order; reads and writes may be short; the Nth op may fail. A write
 * is volatile until fdatasync: sim_power_cut() keeps, for every 4 KiB page written since, either
 * the old or the new content, as the seed decides. An fdatasync covers the writes that had
 * completed before it was submitted, no others. One that fails leaves its pages clean, as Linux
 * does: a later fdatasync succeeds and does not save them.
 */
#ifndef HS_LOOP_SIM_H
#define HS_LOOP_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct mail;

struct sim_options {
	uint64_t seed;
	uint64_t max_delay_ns;	    /* 0: complete at once, in order */
	unsigned int short_percent; /* chance that a transfer is cut */
	unsigned int eintr_percent; /* chance of -EINTR */
	uint64_t fail_nth;	    /* 1-based op number that fails; 0 = none */
	int fail_errno;		    /* negative */
};

/* sim_reset - new world: no files, clock at 1 s; call before ring_new() and after ring_free() */
void sim_reset(const struct sim_options *o);

int sim_file_new(const void *bytes, size_t len); /* a descriptor; content is durable; NULL: zeros */
size_t sim_file_read(int fd, uint64_t off, void *buf, size_t len); /* volatile view */
size_t sim_file_bytes(int fd);
/*
 * sim_power_cut - the machine loses power and is back: files hold what was durable, and by chance
 * more sim_kill - the process is killed: files hold what was written, ops in flight happened or not
 * Ops still busy are dropped, never completed and nobody is woken; a write among them may have been
 * applied in part. Mails and calls pending in the world are dropped too; loops are freed by the
 * test.
 */
void sim_power_cut(void);
void sim_kill(void);

uint64_t sim_op_count(void); /* ops submitted so far, for "fail the Nth" loops */

/* sim_random - next number of the world's generator, below @below */
uint64_t sim_random(uint64_t below);

/* sim_post_later - deliver @m to @l after a virtual delay; for simulated sources */
void sim_post_later(struct loop *l, struct mail *m, uint64_t delay_ns);

/*
 * sim_call_later - call @fn(@arg) from a ring_wait() after a virtual delay; for simulated machinery
 * sim_forget - take back all calls with this @arg
 * sim_delay_ns - a random delay of this world
 */
void sim_call_later(void (*fn)(void *arg), void *arg, uint64_t delay_ns);
void sim_forget(void *arg);
uint64_t sim_delay_ns(void);

/*
 * sim_idle - whether nothing is pending in the world: no busy op, no mail, no work
 * sim_run - turn @l until @done(arg) or until nothing is pending; returns done(arg)
 */
bool sim_idle(void);
bool sim_run(struct loop *l, bool (*done)(void *arg), void *arg);

#endif
