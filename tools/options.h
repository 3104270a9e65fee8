/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - one table per command: it parses the arguments and prints --help
 *
 * A command declares a static struct command with tables of struct option_def, whose @to point at
 * its variables. Long options take "--name=VALUE" or "--name VALUE", short ones "-xVALUE", "-x
 * VALUE" and grouped flags "-it". A flag also takes "=true" and "=false". "--" ends the options.
 */
#ifndef HS_TOOLS_OPTIONS_H
#define HS_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct hs_options;

/* Exit codes of every command. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum option_kind {
	OPTION_FLAG,   /* bool */
	OPTION_STRING, /* const char *; points into argv */
	OPTION_SECRET, /* const char *; copied, and the text in argv is blanked: others can read it
			*/
	OPTION_SIZE,   /* uint64_t bytes: 64K, 1.5G */
	OPTION_TIME,   /* uint64_t nanoseconds: 250ms, 2s, 1m */
	OPTION_NUMBER, /* uint64_t decimal */
	OPTION_LIST,   /* struct option_list; may be given several times */
	OPTION_CHOICE, /* unsigned int: index into @arg, "always|missing|never" */
};

struct option_list {
	const char **item;
	size_t count;
};

struct option_def {
	const char *name; /* long, without dashes */
	char letter;	  /* short, or 0 */
	enum option_kind kind;
	const char *arg; /* value as shown in --help, "DIR"; choices separated by '|' */
	void *to;
	const char *help;     /* one or two short lines of text; NULL: accepted, not shown */
	const char *standard; /* default as shown, "30s"; NULL: none shown */
};

/* A table ends with an entry without a name. */
struct option_group {
	const char *title; /* "Options", "Registry" ...; "": goes on with the group before */
	const struct option_def *options;
};

struct command {
	const char *name;		   /* "mount" */
	const char *usage;		   /* what follows the name: "[OPTIONS] IMAGE DIR" */
	const char *purpose;		   /* a paragraph; wrapped when printed */
	const struct option_group *groups; /* ends with an entry without a title */
	const char *examples; /* lines as printed, each at most 78 columns; may be NULL */
	const char *notes;    /* a closing paragraph; may be NULL */
	unsigned int
	    stop_after; /* options end behind this many operands (run IMAGE ...); 0: never */
	unsigned int min_operands;
	unsigned int max_operands; /* UINT_MAX: any number */
};

#define OPTIONS_GO_ON (-1)

/*
 * options_parse - fill the variables of @c's tables
 * @argv: argv[0] is the name of the command; operands are moved to its end
 * @ret_first: index of the first operand
 * Returns OPTIONS_GO_ON, or an exit code: EXIT_OK after --help, EXIT_USAGE after a complaint.
 */
int options_parse(const struct command *c, int argc, char **argv, int *ret_first);

/* options_help - print --help of @c, at most 80 columns */
void options_help(const struct command *c, FILE *f);

/* options_usage - complain about the arguments; returns EXIT_USAGE */
int options_usage(const struct command *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Options that several commands share; one command runs per process, so their values are one
 * static object. Groups: registry access; the local cache; directories of state; logging.
 */
struct common_options {
	const char *creds, *authfile, *cacert, *cert, *key, *hosts_dir, *platform;
	bool insecure;
	unsigned int pull; /* enum hs_pull */
	const char *cache_dir;
	bool no_cache;
	uint64_t cache_bytes;
	uint64_t memory_bytes, read_timeout_ns, workers, max_conns;
	const char *state_dir, *run_dir;
	const char *prefetch; /* "auto", "off", or a file */
	uint64_t prefetch_budget, read_around;
	bool warm_pages;
	unsigned int log_level; /* enum log_level */
	bool json;
};

extern struct common_options common;
extern const struct option_def registry_options[]; /* --creds ... --hosts-dir, --insecure */
extern const struct option_def image_options[];	   /* --platform, --pull */
extern const struct option_def engine_options[];   /* --cache-dir, --cache-size, --memory ... */
extern const struct option_def prefetch_options[]; /* --prefetch ... --read-around */
extern const struct option_def state_options[];	   /* --run-dir, --state-dir */
extern const struct option_def general_options[];  /* --log-level, --help */

/*
 * --read-ahead of the loop device. AUTO: as the prefetch list asks for. Where a recorded list
 * brings just what a start reads, what the kernel reads ahead is not on the list, and the start
 * would wait for it.
 */
#define READ_AHEAD_AUTO	  UINT64_MAX
#define READ_AHEAD_NORMAL (128u << 10)

/* common_engine - options for hs_engine_new() from what was given */
void common_engine(struct hs_options *ret);

/* common_log - open the log as --log-level says, to standard error */
void common_log(void);

#endif
