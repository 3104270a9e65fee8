/* SPDX-License-Identifier: Apache-2.0 */
/* test_options.c - the option parser of the commands, and the small parsers beside it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* the commands are no library; what they share is tested as it is */
#include "../../tools/mountinfo.c"
#include "../../tools/options.c"

static bool flag, other;
static const char *text, *secret;
static uint64_t size, duration, count;
static struct option_list list;
static unsigned int choice;

static const struct option_def table[] = {
    {"flag", 'f', OPTION_FLAG, NULL, &flag, "a flag", NULL},
    {"other", 'o', OPTION_FLAG, NULL, &other, "another", NULL},
    {"text", 't', OPTION_STRING, "TEXT", &text, "some text", "none"},
    {"secret", 0, OPTION_SECRET, "USER:PASS", &secret, "a secret", NULL},
    {"size", 0, OPTION_SIZE, "SIZE", &size, "a size", "4K"},
    {"time", 0, OPTION_TIME, "TIME", &duration, "a time", NULL},
    {"count", 'c', OPTION_NUMBER, "N", &count, "a number", NULL},
    {"item", 'i', OPTION_LIST, "ITEM", &list, "an item", NULL},
    {"when", 0, OPTION_CHOICE, "now|later|never", &choice, "when", "now"},
    {"old", 0, OPTION_FLAG, NULL, &other, NULL, NULL},
    {0},
};

static const struct option_group groups[] = {{"Options", table}, {"General", general_options}, {0}};

static const struct command plain = {
    .name = "test",
    .usage = "[OPTIONS] A [B]",
    .purpose = "A purpose that is long enough to be wrapped, because it goes on and on and on "
	       "until it does not fit on one line any more.",
    .groups = groups,
    .min_operands = 1,
    .max_operands = 2,
};

static char argument[16][64];
static char *vector[17];

static int parse(const struct command *c, int *first, int *argc, const char *const *args)
{
	flag = other = false;
	text = NULL;
	free((char *)secret);
	secret = NULL;
	size = duration = count = 0;
	choice = 99;
	free(list.item);
	list = (struct option_list){0};
	strcpy(argument[0], "test");
	*argc = 1;
	for (; *args; args++)
		strcpy(argument[(*argc)++], *args);
	for (int i = 0; i < *argc; i++)
		vector[i] = argument[i];
	vector[*argc] = NULL;
	return options_parse(c, *argc, vector, first);
}

#define PARSE(c, ...) parse(c, &first, &argc, (const char *const[]){__VA_ARGS__, NULL})

static void values_of_every_kind(void **state)
{
	int first, argc;

	(void)state;
	assert_int_equal(PARSE(&plain, "-f", "--text=x=y", "--size", "64K", "--time=250ms", "-c7",
			       "a", "--item=1", "-i", "2", "-i3", "--when=never"),
			 OPTIONS_GO_ON);
	assert_true(flag);
	assert_string_equal(text, "x=y");
	assert_int_equal(size, 65536);
	assert_int_equal(duration, 250000000);
	assert_int_equal(count, 7);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.item[2], "3");
	assert_null(list.item[3]);
	assert_int_equal(choice, 2);
	assert_int_equal(argc - first, 1);
	assert_string_equal(vector[first], "a");
}

static void flags(void **state)
{
	int first, argc;

	(void)state;
	assert_int_equal(PARSE(&plain, "-fo", "a"), OPTIONS_GO_ON);
	assert_true(flag && other);
	assert_int_equal(PARSE(&plain, "-ftx", "a"), OPTIONS_GO_ON);
	assert_true(flag);
	assert_string_equal(text, "x");
	assert_int_equal(PARSE(&plain, "--flag=true", "--other=false", "a"), OPTIONS_GO_ON);
	assert_true(flag && !other);
	assert_int_equal(PARSE(&plain, "--flag=maybe", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--old", "a"), OPTIONS_GO_ON); /* accepted, not shown */
	assert_true(other);
}

static void operands(void **state)
{
	struct command run = plain;
	int first, argc;

	(void)state;
	assert_int_equal(PARSE(&plain, "--", "--flag", "-x"), OPTIONS_GO_ON);
	assert_string_equal(vector[first], "--flag");
	assert_string_equal(vector[first + 1], "-x");
	assert_false(flag);
	assert_int_equal(PARSE(&plain, "-"), OPTIONS_GO_ON);
	assert_string_equal(vector[first], "-");
	assert_int_equal(PARSE(&plain, "-f"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "a", "b", "c"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "a", "-f", "b"), OPTIONS_GO_ON);
	assert_true(flag);
	assert_int_equal(argc - first, 2);
	assert_string_equal(vector[first + 1], "b");
	/* what follows the image of a run belongs to the container */
	run.stop_after = 1;
	run.max_operands = UINT_MAX;
	assert_int_equal(PARSE(&run, "-o", "img", "sh", "-f", "--text"), OPTIONS_GO_ON);
	assert_true(other && !flag);
	assert_int_equal(argc - first, 4);
	assert_string_equal(vector[first + 2], "-f");
}

static void misuse(void **state)
{
	int first, argc;

	(void)state;
	assert_int_equal(PARSE(&plain, "--nothing", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--fla", "a"), EXIT_USAGE); /* no abbreviations */
	assert_int_equal(PARSE(&plain, "--flags", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "-z", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "a", "--text"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "a", "-t"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--size=big", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--size=-1", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--time=1x", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "-c", "7x", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "-c", "99999999999999999999", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--when=no", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--when=", "a"), EXIT_USAGE);
	assert_int_equal(PARSE(&plain, "--when=now|later", "a"), EXIT_USAGE);
}

static void a_secret_leaves_the_argument_list(void **state)
{
	int first, argc;

	(void)state;
	assert_int_equal(PARSE(&plain, "--secret=me:pass", "--secret", "you:word", "a"),
			 OPTIONS_GO_ON);
	assert_string_equal(secret, "you:word");
	assert_string_equal(argument[1], "--secret=*******");
	assert_string_equal(argument[3], "********");
	assert_int_equal(PARSE(&plain, "--secret=@/nonexistent/file", "a"), EXIT_USAGE);
}

static void a_secret_from_a_file(void **state)
{
	char path[] = "/tmp/test_options.XXXXXX", arg[64];
	int first, argc, fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "me:pass\n", 8), 8);
	close(fd);
	snprintf(arg, sizeof(arg), "--secret=@%s", path);
	assert_int_equal(PARSE(&plain, arg, "a"), OPTIONS_GO_ON);
	unlink(path);
	assert_string_equal(secret, "me:pass");
	free((char *)secret);
	secret = NULL;
}

static void help_fits_and_shows_all(void **state)
{
	char *out = NULL, *save = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	(void)state;
	assert_non_null(f);
	options_help(&plain, f);
	assert_int_equal(fclose(f), 0);
	for (const struct option_def *o = table; o->name; o++) {
		_cleanup_free_ char *name = text_printf("--%s", o->name);

		assert_true((strstr(out, name) != NULL) == (o->help != NULL));
	}
	assert_non_null(strstr(out, "-c, --count=N"));
	assert_non_null(strstr(out, "a size [4K]"));
	for (char *l = strtok_r(out, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		assert_true(strlen(l) <= 80);
	free(out);
}

static void mountinfo_lines(void **state)
{
	static const char lines[] =
	    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
	    "30 22 7:3 / /mnt/with\\040space\\134 ro,nosuid master:2 shared:9 - ext4 /dev/loop3 "
	    "ro\n"
	    "nonsense\n"
	    "31 22 0:40 / /mnt/x rw - fuse.headstart headstart rw\n"
	    "32 22 0:41 / /mnt/x rw - tmpfs  rw\n"
	    "33 22 - - -\n";
	struct mountinfo *m;
	size_t n;

	(void)state;
	mountinfo_parse(lines, &m, &n);
	assert_int_equal(n, 4);
	assert_string_equal(m[1].dir, "/mnt/with space\\");
	assert_string_equal(m[1].source, "/dev/loop3");
	assert_int_equal(m[1].major, 7);
	assert_int_equal(m[1].minor, 3);
	assert_ptr_equal(mountinfo_at(m, n, "/mnt/x"), &m[3]); /* the one on top */
	assert_string_equal(m[3].source, "");
	assert_null(mountinfo_at(m, n, "/mnt"));
	mountinfo_free(m, n);
}

static void mountinfo_paths(void **state)
{
	_cleanup_free_ char *a = mountinfo_path("/proc/self/../absent//");
	_cleanup_free_ char *b = mountinfo_path("/");
	_cleanup_free_ char *c = mountinfo_path("/usr/.");

	(void)state;
	assert_string_equal(a, "/proc/absent");
	assert_string_equal(b, "/");
	assert_string_equal(c, "/usr");
	assert_null(mountinfo_path("/nonexistent/below"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values_of_every_kind),
	    cmocka_unit_test(flags),
	    cmocka_unit_test(operands),
	    cmocka_unit_test(misuse),
	    cmocka_unit_test(a_secret_leaves_the_argument_list),
	    cmocka_unit_test(a_secret_from_a_file),
	    cmocka_unit_test(help_fits_and_shows_all),
	    cmocka_unit_test(mountinfo_lines),
	    cmocka_unit_test(mountinfo_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
