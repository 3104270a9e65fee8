/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - see options.h */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "headstart.h"
#include "log.h"
#include "text.h"

#define HELP_COLUMNS  80
#define HELP_LEFT_MAX 30

struct common_options common = {
    .memory_bytes = 128ull << 20,
    .read_timeout_ns = 60ull * 1000000000ull,
    .max_conns = 32,
    .state_dir = "/var/lib/headstart/run",
    .run_dir = "/run/headstart",
    .log_level = LOG_LEVEL_WARN,
    .prefetch = "auto",
    .read_around = 1ull << 20,
    .warm_pages = true,
};

static bool help_wanted; /* target of --help */

const struct option_def registry_options[] = {
    {"creds", 0, OPTION_SECRET, "USER:PASS", &common.creds,
     "credentials for the registry; @FILE reads them from FILE", NULL},
    {"authfile", 0, OPTION_STRING, "FILE", &common.authfile, "docker or podman credentials file",
     "found as podman and docker do"},
    {"cacert", 0, OPTION_STRING, "FILE", &common.cacert,
     "trust the certificates in FILE, and no others", NULL},
    {"cert", 0, OPTION_STRING, "FILE", &common.cert, "client certificate", NULL},
    {"key", 0, OPTION_STRING, "FILE", &common.key, "private key of --cert", NULL},
    {"insecure", 0, OPTION_FLAG, NULL, &common.insecure,
     "plain HTTP for the named registry, and for nothing else", NULL},
    {"hosts-dir", 0, OPTION_STRING, "DIR", &common.hosts_dir,
     "HOST/hosts.toml mirrors, as containerd has them", "/etc/containerd/certs.d"},
    {"max-conns", 0, OPTION_NUMBER, "N", &common.max_conns, "connections per host", "32"},
    {0},
};

const struct option_def image_options[] = {
    {"platform", 0, OPTION_STRING, "OS/ARCH", &common.platform,
     "which image of a multi-platform index", "this machine's"},
    {"pull", 0, OPTION_CHOICE, "always|missing|never", &common.pull,
     "when to ask the registry although the cache knows the answer", "always"},
    {0},
};

const struct option_def engine_options[] = {
    {"cache-dir", 0, OPTION_STRING, "DIR", &common.cache_dir, "keep fetched bytes in DIR",
     "/var/cache/headstart; without root: $XDG_CACHE_HOME/headstart"},
    {"cache-size", 0, OPTION_SIZE, "SIZE", &common.cache_bytes, "limit of the cache",
     "most of the free space"},
    {"no-cache", 0, OPTION_FLAG, NULL, &common.no_cache, "keep nothing on disk", NULL},
    {"memory", 0, OPTION_SIZE, "SIZE", &common.memory_bytes, "buffers of the read path", "128M"},
    {"read-timeout", 0, OPTION_TIME, "TIME", &common.read_timeout_ns,
     "a read that takes longer fails", "60s"},
    {"workers", 0, OPTION_NUMBER, "N", &common.workers, "decoding threads", "number of CPUs"},
    {0},
};

const struct option_def prefetch_options[] = {
    {"prefetch", 0, OPTION_STRING, "auto|off|FILE", &common.prefetch,
     "replay the list found beside the image, none, or the one in FILE", "auto"},
    {"prefetch-budget", 0, OPTION_SIZE, "SIZE", &common.prefetch_budget,
     "prefetch at most SIZE of stored bytes", "no limit"},
    {"read-around", 0, OPTION_SIZE, "SIZE", &common.read_around,
     "fetch SIZE behind what a read misses, too; not with a recorded list", "1M"},
    {0},
};

const struct option_def state_options[] = {
    {"run-dir", 0, OPTION_STRING, "DIR", &common.run_dir,
     "where records of mounts and their sockets live", "/run/headstart"},
    {"state-dir", 0, OPTION_STRING, "DIR", &common.state_dir,
     "where containers of 'run' write; not on overlay or NFS", "/var/lib/headstart/run"},
    {0},
};

const struct option_def general_options[] = {
    {"log-level", 0, OPTION_CHOICE, "error|warn|info|debug", &common.log_level, "what to log",
     "warn"},
    {"help", 'h', OPTION_FLAG, NULL, &help_wanted, "print this and exit", NULL},
    {0},
};

int options_usage(const struct command *c, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "headstart %s: ", c->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'headstart %s --help'.\n", c->name);
	return EXIT_USAGE;
}

static const struct option_def *find_option(const struct command *c, const char *name, size_t len,
					    char letter)
{
	for (const struct option_group *g = c->groups; g && g->title; g++)
		for (const struct option_def *o = g->options; o->name; o++) {
			if (letter && o->letter == letter)
				return o;
			if (!letter && strlen(o->name) == len && !memcmp(o->name, name, len))
				return o;
		}
	return NULL;
}

static int parse_flag(const char *v, bool *ret)
{
	if (!v || !strcmp(v, "true") || !strcmp(v, "1"))
		*ret = true;
	else if (!strcmp(v, "false") || !strcmp(v, "0"))
		*ret = false;
	else
		return -EINVAL;
	return 0;
}

static int parse_number(const char *v, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)*v))
		return -EINVAL;
	errno = 0;
	n = strtoull(v, &end, 10);
	if (errno || *end)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int parse_choice(const char *v, const char *choices, unsigned int *ret)
{
	size_t len = strlen(v);
	unsigned int i = 0;

	for (const char *p = choices; p; i++) {
		const char *bar = strchr(p, '|');
		size_t n = bar ? (size_t)(bar - p) : strlen(p);

		if (n == len && !memcmp(p, v, n)) {
			*ret = i;
			return 0;
		}
		p = bar ? bar + 1 : NULL;
	}
	return -EINVAL;
}

static void list_append(struct option_list *l, const char *v)
{
	const char **item = reallocarray(l->item, l->count + 2, sizeof(*item));

	if (!item)
		abort();
	item[l->count++] = v;
	item[l->count] = NULL;
	l->item = item;
}

/* A copy lives as long as the process; what ps(1) shows becomes asterisks. */
static int take_secret(char *v, const char **ret, struct err *e)
{
	free((char *)*ret); /* given twice */
	*ret = NULL;
	if (v[0] == '@') {
		char *text;
		int r = text_read_file(v + 1, 65536, &text, NULL, e);

		if (r)
			return r;
		text[strcspn(text, "\r\n")] = '\0';
		*ret = text;
		return 0;
	}
	*ret = text_dup(v);
	memset(v, '*', strlen(v));
	return 0;
}

/* @v: NULL when the option was given without a value, which only flags allow */
static int set_option(const struct command *c, const struct option_def *o, char *v)
{
	struct err e = {0};
	int r = 0;

	switch (o->kind) {
	case OPTION_FLAG:
		r = parse_flag(v, o->to);
		break;
	case OPTION_STRING:
		*(const char **)o->to = v;
		break;
	case OPTION_SECRET:
		if (take_secret(v, o->to, &e))
			return options_usage(c, "--%s: %s", o->name, e.msg);
		break;
	case OPTION_SIZE:
		r = text_parse_size(v, o->to);
		break;
	case OPTION_TIME:
		r = text_parse_time(v, o->to);
		break;
	case OPTION_NUMBER:
		r = parse_number(v, o->to);
		break;
	case OPTION_LIST:
		list_append(o->to, v);
		break;
	case OPTION_CHOICE:
		r = parse_choice(v, o->arg, o->to);
		break;
	}
	if (r)
		return options_usage(c, "--%s: not %s: '%s'", o->name,
				     o->kind == OPTION_FLAG	? "true or false"
				     : o->kind == OPTION_CHOICE ? o->arg
				     : o->kind == OPTION_SIZE	? "a size like 64K or 1.5G"
				     : o->kind == OPTION_TIME	? "a time like 250ms or 2s"
								: "a number",
				     v);
	return OPTIONS_GO_ON;
}

static int parse_long(const struct command *c, int argc, char **argv, int *i)
{
	char *name = argv[*i] + 2;
	char *equal = strchr(name, '=');
	size_t len = equal ? (size_t)(equal - name) : strlen(name);
	const struct option_def *o = find_option(c, name, len, 0);
	char *v = equal ? equal + 1 : NULL;

	if (!o)
		return options_usage(c, "there is no option --%.*s", (int)len, name);
	if (!v && o->kind != OPTION_FLAG) {
		if (*i + 1 >= argc)
			return options_usage(c, "--%s needs a value", o->name);
		v = argv[++*i];
	}
	return set_option(c, o, v);
}

static int parse_short(const struct command *c, int argc, char **argv, int *i)
{
	for (char *p = argv[*i] + 1; *p; p++) {
		const struct option_def *o = find_option(c, NULL, 0, *p);
		int r;

		if (!o)
			return options_usage(c, "there is no option -%c", *p);
		if (o->kind == OPTION_FLAG) {
			r = set_option(c, o, NULL);
			if (r != OPTIONS_GO_ON)
				return r;
			continue;
		}
		if (p[1])
			return set_option(c, o, p + 1);
		if (*i + 1 >= argc)
			return options_usage(c, "-%c needs a value", *p);
		return set_option(c, o, argv[++*i]);
	}
	return OPTIONS_GO_ON;
}

int options_parse(const struct command *c, int argc, char **argv, int *ret_first)
{
	_cleanup_free_ char **operand = xmalloc_zero((size_t)argc + 1, sizeof(*operand));
	unsigned int n = 0;
	bool ended = false;
	int r;

	help_wanted = false;
	for (int i = 1; i < argc; i++) {
		char *a = argv[i];

		if (!ended && !strcmp(a, "--")) {
			ended = true;
			continue;
		}
		if (ended || a[0] != '-' || !a[1]) {
			operand[n++] = a;
			if (c->stop_after && n >= c->stop_after)
				ended = true;
			continue;
		}
		r = a[1] == '-' ? parse_long(c, argc, argv, &i) : parse_short(c, argc, argv, &i);
		if (r != OPTIONS_GO_ON)
			return r;
		if (help_wanted) {
			options_help(c, stdout);
			return EXIT_OK;
		}
	}
	if (n < c->min_operands)
		return options_usage(c, "%s", n ? "an operand is missing" : "operands are missing");
	if (n > c->max_operands)
		return options_usage(c, "too many operands: '%s'", operand[c->max_operands]);
	*ret_first = argc - (int)n;
	memcpy(argv + *ret_first, operand, n * sizeof(*operand));
	return OPTIONS_GO_ON;
}

/* Print @text from column @col on, its further lines indented to @indent. */
static void print_wrapped(FILE *f, const char *text, unsigned int col, unsigned int indent)
{
	bool first = true;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (!first && col + 1 + len > HELP_COLUMNS) {
			fprintf(f, "\n%*s", (int)indent, "");
			col = indent;
			first = true;
		}
		if (!first) {
			fputc(' ', f);
			col++;
		}
		fprintf(f, "%.*s", (int)len, text);
		col += (unsigned int)len;
		text += len;
		text += strspn(text, " ");
		first = false;
	}
	fputc('\n', f);
}

static char *option_left(const struct option_def *o)
{
	char letter[8] = "    ";

	if (o->letter)
		snprintf(letter, sizeof(letter), "-%c, ", o->letter);
	if (o->kind == OPTION_FLAG)
		return text_printf("  %s--%s", letter, o->name);
	return text_printf("  %s--%s=%s", letter, o->name, o->arg);
}

static unsigned int left_columns(const struct command *c)
{
	unsigned int widest = 0;

	for (const struct option_group *g = c->groups; g && g->title; g++)
		for (const struct option_def *o = g->options; o->name; o++) {
			_cleanup_free_ char *left = option_left(o);
			size_t len = strlen(left);

			if (o->help && len <= HELP_LEFT_MAX && len > widest)
				widest = (unsigned int)len;
		}
	return widest + 2;
}

void options_help(const struct command *c, FILE *f)
{
	unsigned int column = left_columns(c);

	fprintf(f, "Usage: headstart %s %s\n\n", c->name, c->usage);
	print_wrapped(f, c->purpose, 0, 0);
	for (const struct option_group *g = c->groups; g && g->title; g++) {
		if (*g->title)
			fprintf(f, "\n%s:\n", g->title);
		for (const struct option_def *o = g->options; o->name; o++) {
			_cleanup_free_ char *left = option_left(o);
			_cleanup_free_ char *text = NULL;
			unsigned int len = (unsigned int)strlen(left);

			if (!o->help)
				continue;
			text = o->standard ? text_printf("%s [%s]", o->help, o->standard)
					   : text_dup(o->help);
			fputs(left, f);
			if (len + 2 > column)
				fprintf(f, "\n%*s", (int)column, "");
			else
				fprintf(f, "%*s", (int)(column - len), "");
			print_wrapped(f, text, column, column);
		}
	}
	if (c->examples)
		fprintf(f, "\nExamples:\n%s", c->examples);
	if (c->notes) {
		fputc('\n', f);
		print_wrapped(f, c->notes, 0, 0);
	}
}

/* Where fetched bytes are kept unless the user says where; NULL: nowhere to be found. */
static const char *default_cache_dir(void)
{
	static char dir[PATH_MAX];
	const char *base = getenv("XDG_CACHE_HOME");
	const char *tail = "headstart";

	if (geteuid() == 0)
		return "/var/cache/headstart";
	if (!base || *base != '/') {
		base = getenv("HOME");
		tail = ".cache/headstart";
	}
	if (!base || snprintf(dir, sizeof(dir), "%s/%s", base, tail) >= (int)sizeof(dir))
		return NULL;
	return dir;
}

void common_engine(struct hs_options *ret)
{
	if (!common.cache_dir)
		common.cache_dir = default_cache_dir();
	*ret = (struct hs_options){
	    .cache_dir = common.no_cache ? NULL : common.cache_dir,
	    .cache_bytes = common.cache_bytes,
	    .creds = common.creds,
	    .authfile = common.authfile,
	    .cacert = common.cacert,
	    .client_cert = common.cert,
	    .client_key = common.key,
	    .hosts_dir = common.hosts_dir,
	    .insecure = common.insecure,
	    .max_conns = (unsigned int)(common.max_conns < 1024 ? common.max_conns : 1024),
	    .workers = (unsigned int)(common.workers < 1024 ? common.workers : 1024),
	    .read_timeout_ns = common.read_timeout_ns,
	    .memory_bytes = common.memory_bytes,
	    .pull = (enum hs_pull)common.pull,
	    .platform = common.platform,
	};
}

void common_log(void)
{
	log_open((enum log_level)common.log_level, STDERR_FILENO);
}
