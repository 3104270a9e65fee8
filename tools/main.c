/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - finds the subcommand; exit codes 0 ok, 1 failed, 2 usage */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "options.h"

struct entry {
	const char *name; /* one word, or two: "trace record" */
	int (*run)(int argc, char **argv);
	const char *purpose;
};

static const struct entry commands[] = {
    {"convert", cmd_convert, "turn an OCI image into an accelerated one"},
    {"run", cmd_run, "run a container from an accelerated image, started lazily"},
    {"mount", cmd_mount, "mount the root filesystem of an image, read-only"},
    {"umount", cmd_umount, "end a mount, or clean up after a crash"},
    {"status", cmd_status, "show what is mounted and what it has fetched"},
    {"trace record", cmd_trace_record, "record what a start reads"},
    {"trace show", cmd_trace_show, "show what a trace has seen, also as a picture"},
    {"inspect", cmd_inspect, "show the layers of an image"},
    {"dump", cmd_dump, "write the merged device of an image to a file"},
    {"prefetch make", cmd_prefetch_make, "make a prefetch list of traces"},
    {"prefetch show", cmd_prefetch_show, "show what a prefetch list fetches"},
    {"prefetch port", cmd_prefetch_port, "carry a prefetch list over to another build"},
    {"prefetch push", cmd_prefetch_push, "put a prefetch list beside the image it is for"},
    {"prefetch pull", cmd_prefetch_pull, "write the list beside an image to a file"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *f, const char *family)
{
	size_t len = strlen(family);

	fprintf(f, "Usage: headstart %s%sCOMMAND [OPTIONS] ...\n\n", family, len ? " " : "");
	fputs("Container images served as lazily loaded block devices.\n\n"
	      "Commands:\n",
	      f);
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strncmp(commands[i].name, family, len))
			fprintf(f, "  %-14s %s\n", commands[i].name, commands[i].purpose);
	fputs("\nOptions:\n"
	      "  -h, --help  print this and exit\n"
	      "  --version   print the version and exit\n\n"
	      "Images are named as skopeo names them: docker://HOST[:PORT]/REPO[:TAG|@DIGEST],\n"
	      "oci:DIR[:TAG], docker-archive:FILE; or the path of a config.v1.json.\n"
	      "'headstart COMMAND --help' says more, and so does headstart-COMMAND(1).\n",
	      f);
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

static int run_command(const struct entry *c, int argc, char **argv)
{
	int code = c->run(argc, argv);

	/* data that did not reach its reader is a failure */
	if (fflush(stdout) || ferror(stdout)) {
		perror("headstart: standard output");
		return code ? code : EXIT_FAILED;
	}
	return code;
}

/* @argv[1] is the first word of commands of two words, and the second names none of them. */
static int complain_family(int argc, char **argv)
{
	if (argc > 2 && is_help(argv[2])) {
		print_help(stdout, argv[1]);
		return EXIT_OK;
	}
	if (argc > 2)
		fprintf(stderr, "headstart: there is no command '%s %s'.\n", argv[1], argv[2]);
	print_help(stderr, argv[1]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	bool family = false;

	if (argc < 2) {
		print_help(stderr, "");
		return EXIT_USAGE;
	}
	if (is_help(argv[1])) {
		print_help(stdout, "");
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("headstart " HS_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *name = commands[i].name, *second = strchr(name, ' ');
		size_t len = second ? (size_t)(second - name) : strlen(name);

		if (strlen(argv[1]) != len || strncmp(argv[1], name, len) != 0)
			continue;
		if (!second)
			return run_command(&commands[i], argc - 1, argv + 1);
		family = true;
		if (argc > 2 && !strcmp(argv[2], second + 1))
			return run_command(&commands[i], argc - 2, argv + 2);
	}
	if (family)
		return complain_family(argc, argv);
	fprintf(stderr, "headstart: there is no command '%s'. Try 'headstart --help'.\n", argv[1]);
	return EXIT_USAGE;
}
