/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - finds the subcommand; exit codes 0 ok, 1 failed, 2 usage */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "options.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *purpose;
} commands[] = {
    {"convert", cmd_convert, "turn an OCI image into an accelerated one"},
    {"run", cmd_run, "run a container from an accelerated image, started lazily"},
    {"mount", cmd_mount, "mount the root filesystem of an image, read-only"},
    {"umount", cmd_umount, "end a mount, or clean up after a crash"},
    {"status", cmd_status, "show what is mounted and what it has fetched"},
    {"inspect", cmd_inspect, "show the layers of an image"},
    {"dump", cmd_dump, "write the merged device of an image to a file"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *f)
{
	fputs("Usage: headstart COMMAND [OPTIONS] ...\n\n"
	      "Container images served as lazily loaded block devices.\n\n"
	      "Commands:\n",
	      f);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].purpose);
	fputs("\nOptions:\n"
	      "  -h, --help  print this and exit\n"
	      "  --version   print the version and exit\n\n"
	      "Images are named as skopeo names them: docker://HOST[:PORT]/REPO[:TAG|@DIGEST],\n"
	      "oci:DIR[:TAG], docker-archive:FILE; or the path of a config.v1.json.\n"
	      "'headstart COMMAND --help' says more, and so does headstart-COMMAND(1).\n",
	      f);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("headstart " HS_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		int code;

		if (strcmp(argv[1], commands[i].name))
			continue;
		code = commands[i].run(argc - 1, argv + 1);
		/* data that did not reach its reader is a failure */
		if (fflush(stdout) || ferror(stdout)) {
			perror("headstart: standard output");
			return code ? code : EXIT_FAILED;
		}
		return code;
	}
	fprintf(stderr, "headstart: there is no command '%s'. Try 'headstart --help'.\n", argv[1]);
	return EXIT_USAGE;
}
