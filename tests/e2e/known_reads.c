/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known_reads.c - a start whose reads are known: does what its arguments say, in order
 *
 *	read FILE OFF BYTES	one pread
 *	map FILE OFF		touch one byte through a mapping
 *	child FILE OFF		the same read as one of a byte, by a child process
 *	link PATH		readlink
 *	list DIR		all its names
 *	say TEXT		a line on standard output
 *	serve PORT		answer one request after another with 200, from a child
 *	sleep SECONDS
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char buf[1 << 20];

static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void read_file(const char *path, long off, long bytes)
{
	int fd = open(path, O_RDONLY);

	need(fd >= 0, path);
	need(bytes <= (long)sizeof(buf) && pread(fd, buf, (size_t)bytes, off) >= 0, path);
	close(fd);
}

static void map_file(const char *path, long off)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	volatile char *p;

	need(fd >= 0 && !fstat(fd, &st) && off < st.st_size, path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	need(p != MAP_FAILED, path);
	(void)p[off];
	close(fd);
}

static void list_dir(const char *path)
{
	DIR *d = opendir(path);

	need(d != NULL, path);
	while (readdir(d))
		continue;
	closedir(d);
}

static void serve(int port)
{
	static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	need(!setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), "setsockopt");
	need(!bind(s, (struct sockaddr *)&a, sizeof(a)) && !listen(s, 8), "bind");
	if (fork())
		return;
	for (;;) {
		int c = accept(s, NULL, NULL);

		if (c < 0)
			_exit(1);
		if (read(c, buf, sizeof(buf)) > 0 &&
		    write(c, answer, sizeof(answer) - 1) != sizeof(answer) - 1)
			_exit(1);
		close(c);
	}
}

int main(int argc, char **argv)
{
	int i = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (i < argc) {
		const char *what = argv[i];
		char **a = argv + i + 1;
		int left = argc - i - 1;

		if (!strcmp(what, "read") && left >= 3) {
			read_file(a[0], atol(a[1]), atol(a[2]));
			i += 4;
		} else if (!strcmp(what, "map") && left >= 2) {
			map_file(a[0], atol(a[1]));
			i += 3;
		} else if (!strcmp(what, "child") && left >= 2) {
			int status;

			if (!fork()) {
				read_file(a[0], atol(a[1]), 1);
				_exit(0);
			}
			need(wait(&status) > 0 && status == 0, "child");
			i += 3;
		} else if (!strcmp(what, "link") && left >= 1) {
			need(readlink(a[0], buf, sizeof(buf)) > 0, a[0]);
			i += 2;
		} else if (!strcmp(what, "list") && left >= 1) {
			list_dir(a[0]);
			i += 2;
		} else if (!strcmp(what, "say") && left >= 1) {
			puts(a[0]);
			i += 2;
		} else if (!strcmp(what, "serve") && left >= 1) {
			serve(atoi(a[0]));
			i += 2;
		} else if (!strcmp(what, "sleep") && left >= 1) {
			sleep((unsigned int)atoi(a[0]));
			i += 2;
		} else {
			fprintf(stderr, "reader: what is '%s'?\n", what);
			return 2;
		}
	}
	return 0;
}
