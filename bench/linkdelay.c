/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linkdelay.c - a link between two network namespaces on which every packet takes its time
 *
 * Makes two network namespaces with a tun device in each and carries packets from one to the
 * other, each DELAY after it was read. TCP so meets the round trip in its handshakes and in slow
 * start, which a delaying proxy would hide. The rate is not ours: `tc tbf` on the two devices.
 *
 * Prints the paths of the two namespaces, "near far", one line; the namespaces live as long as this
 * process, which ends when its standard input is closed or ends: so nothing stays when whoever
 * started it dies. Then it prints one line of JSON about what it carried.
 *
 * Packets of up to 64K with their offload header are carried as they are (as network cards do), so
 * that a gigabit costs some thousand system calls a second and not a hundred thousand. A
 * direction's queue is a ring of bytes; a packet that does not fit is dropped and counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define DEVICE	     "link0"
#define QUEUE_BYTES  (32u << 20)
#define PACKET_BYTES (65536u + 64u) /* the largest, with its offload header */
#define BATCH	     64u	    /* packets read before due ones are written */

/* What precedes a packet in the ring; bytes 0: go on at the ring's start. */
struct slot {
	uint64_t due_ns;
	uint32_t bytes;
	uint32_t pad;
};

/* Packets on their way. [tail, head) is used; head == tail is empty. */
struct direction {
	int from, to;
	char *ring;
	size_t head, tail;
	uint64_t packets, bytes, dropped, refused, late_ns, late_max_ns, deepest;
	size_t queued;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "linkdelay: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A tun device in a network namespace of its own; *ret_ns is the namespace. */
static int make_end(int *ret_ns)
{
	struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	int fd;

	if (unshare(CLONE_NEWNET))
		die("unshare");
	*ret_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*ret_ns < 0 || fd < 0)
		die("/dev/net/tun");
	memcpy(r.ifr_name, DEVICE, sizeof(DEVICE));
	if (ioctl(fd, TUNSETIFF, &r))
		die("TUNSETIFF");
	if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		die("TUNSETOFFLOAD");
	return fd;
}

static size_t slot_size(size_t bytes)
{
	return (sizeof(struct slot) + bytes + 15) & ~(size_t)15;
}

/* Room for the largest packet; NULL when there is none. */
static char *place(struct direction *d)
{
	const size_t need = slot_size(PACKET_BYTES);

	if (d->head < d->tail)
		return d->tail - d->head > need ? d->ring + d->head : NULL;
	/* what follows the end needs room for its marker as well */
	if (QUEUE_BYTES - d->head >= need + sizeof(struct slot))
		return d->ring + d->head;
	if (d->tail <= need)
		return NULL;
	*(struct slot *)(d->ring + d->head) = (struct slot){0};
	d->head = 0;
	return d->ring;
}

static void take_in(struct direction *d, uint64_t delay_ns)
{
	static char scrap[PACKET_BYTES];

	for (unsigned int i = 0; i < BATCH; i++) {
		char *at = place(d);
		ssize_t n = read(d->from, at ? at + sizeof(struct slot) : scrap, PACKET_BYTES);

		if (n <= 0)
			return; /* nothing there, or the device is down */
		if (!at) {
			d->dropped++;
			continue;
		}
		*(struct slot *)at =
		    (struct slot){.due_ns = now_ns() + delay_ns, .bytes = (uint32_t)n};
		d->head += slot_size((size_t)n);
		d->queued += (size_t)n;
		if (d->queued > d->deepest)
			d->deepest = d->queued;
	}
}

/* The packet that is due first; NULL: none is on its way. */
static struct slot *first(struct direction *d)
{
	struct slot *s;

	if (d->head == d->tail)
		return NULL;
	s = (struct slot *)(d->ring + d->tail);
	if (!s->bytes) {
		d->tail = 0;
		if (d->head == d->tail)
			return NULL;
		s = (struct slot *)d->ring;
	}
	return s;
}

static void give_out(struct direction *d)
{
	struct slot *s;

	while ((s = first(d))) {
		uint64_t now = now_ns();

		if (s->due_ns > now)
			return;
		if (write(d->to, s + 1, s->bytes) != (ssize_t)s->bytes)
			d->refused++;
		d->packets++;
		d->bytes += s->bytes;
		d->late_ns += now - s->due_ns;
		if (now - s->due_ns > d->late_max_ns)
			d->late_max_ns = now - s->due_ns;
		d->queued -= s->bytes;
		d->tail += slot_size(s->bytes);
	}
}

static void carry(struct direction *d, uint64_t delay_ns)
{
	struct pollfd p[3] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = d[0].from, .events = POLLIN},
			      {.fd = d[1].from, .events = POLLIN}};
	char byte;

	for (;;) {
		struct timespec wait, *until = NULL;
		uint64_t due = UINT64_MAX, now;

		for (unsigned int i = 0; i < 2; i++) {
			const struct slot *s = first(&d[i]);

			if (s && s->due_ns < due)
				due = s->due_ns;
		}
		if (due != UINT64_MAX) {
			now = now_ns();
			now = due > now ? due - now : 0;
			wait.tv_sec = (time_t)(now / 1000000000u);
			wait.tv_nsec = (long)(now % 1000000000u);
			until = &wait;
		}
		if (ppoll(p, 3, until, NULL) < 0 && errno != EINTR)
			die("ppoll");
		if (p[0].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			return;
		for (unsigned int i = 0; i < 2; i++) {
			take_in(&d[i], delay_ns);
			give_out(&d[i]);
		}
	}
}

static void tell(const char *name, const struct direction *d, const char *after)
{
	printf("\"%s\": {\"packets\": %llu, \"bytes\": %llu, \"dropped\": %llu, \"refused\": %llu, "
	       "\"late_mean_us\": %.1f, \"late_max_us\": %.1f, \"deepest_bytes\": %llu}%s",
	       name, (unsigned long long)d->packets, (unsigned long long)d->bytes,
	       (unsigned long long)d->dropped, (unsigned long long)d->refused,
	       d->packets ? (double)d->late_ns / 1e3 / (double)d->packets : 0.0,
	       (double)d->late_max_ns / 1e3, (unsigned long long)d->deepest, after);
}

int main(int argc, char **argv)
{
	const struct sched_param p = {.sched_priority = 1};
	struct direction d[2] = {0};
	int near, far;
	char *end;
	double ms;

	if (argc != 2) {
		fprintf(stderr, "Usage: bench_linkdelay DELAY_MS   (one way: half of the RTT)\n");
		return 2;
	}
	ms = strtod(argv[1], &end);
	if (*end || end == argv[1] || !(ms >= 0 && ms <= 10000)) {
		fprintf(stderr, "linkdelay: DELAY_MS is 0 to 10000, not '%s'\n", argv[1]);
		return 2;
	}
	d[0].from = d[1].to = make_end(&near);
	d[1].from = d[0].to = make_end(&far);
	for (unsigned int i = 0; i < 2; i++) {
		d[i].ring = calloc(1, QUEUE_BYTES);
		if (!d[i].ring)
			die("memory");
	}
	/* a packet that waits for a processor is late; where that is refused, it is told */
	if (sched_setscheduler(0, SCHED_FIFO, &p))
		fprintf(stderr, "linkdelay: no real-time priority: %s\n", strerror(errno));
	(void)prctl(PR_SET_TIMERSLACK, 1); /* only for the case above */
	signal(SIGPIPE, SIG_IGN);
	printf("/proc/%d/fd/%d /proc/%d/fd/%d\n", (int)getpid(), near, (int)getpid(), far);
	fflush(stdout);
	carry(d, (uint64_t)(ms * 1e6));
	printf("{");
	tell("near_to_far", &d[0], ", ");
	tell("far_to_near", &d[1], "}\n");
	return 0;
}
