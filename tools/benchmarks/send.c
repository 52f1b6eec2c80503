// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sends packets to a VM on a bridge until standard input is closed.
 *
 *     send BRIDGE TAKEN PLAN RATE PAUSE
 *
 * TAKEN is the file in which the kernel counts the packets that were read from the VM's tap
 * (/sys/class/net/TAP/statistics/tx_packets), by QEMU or by vhost. PLAN is as for path.c, and RATE is
 * packets a second; 0 means as many as the VM takes: then there are always some on their way, but never
 * so many that the tap has to drop one. PAUSE is how many microseconds it sleeps when it has nothing to
 * send: to look more often costs a slow processor more than the packets.
 *
 * The answer to each line of standard input, and to its end, is one line: packets sent and packets
 * taken so far, and nanoseconds of processor time in the system calls that sent them. That line comes
 * by itself, before it ends with status 1, when the VM takes no more.
 */

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "path.h"

enum {
	/* An emulated guest on a busy host. */
	GIVE_UP_NS = 2000000000,
};

static int counter;
static long pause_ns;
static unsigned long rate, sent, before;
static long long sending_ns;

static unsigned long count(void)
{
	char text[32];
	ssize_t length = pread(counter, text, sizeof(text) - 1, 0);

	if (length <= 0)
		give_up("cannot read how many packets were taken");
	text[length] = 0;
	return strtoul(text, NULL, 10);
}

/* Returns whether there is anything to read on standard input, after at most "wait_ns". */
static int is_asked(long wait_ns)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	const struct timespec wait = {.tv_nsec = wait_ns};

	return ppoll(&input, 1, &wait, NULL) > 0;
}

static void say(void)
{
	printf("%lu %lu %lld\n", sent, count() - before, sending_ns);
	fflush(stdout);
}

/* Answers, and returns whether standard input is still open. */
static int answer(void)
{
	char line[32];

	int is_open = read(STDIN_FILENO, line, sizeof(line)) > 0;

	say();
	return is_open;
}

/* Returns how many packets to send next, when "taken" of those before are not on their way. */
static unsigned int allowed(unsigned long taken, long long since_ns)
{
	unsigned long room = taken + MOST_ON_THE_WAY > sent ? taken + MOST_ON_THE_WAY - sent : 0;
	unsigned long due = rate ? rate * since_ns / 1000000000 : sent + BATCH;

	/* Without a rate, whole batches: they cost less. */
	if (due <= sent || (!rate && room < BATCH))
		return 0;
	if (room > due - sent)
		room = due - sent;
	return room < BATCH ? room : BATCH;
}

static void send_on(int sock)
{
	long long start = now_ns(), moved = start;
	unsigned long last = 0;
	unsigned int next = 0;

	while (!is_asked(next ? 0 : pause_ns) || answer()) {
		unsigned long taken = count() - before;

		if (taken != last || taken >= sent)
			moved = now_ns();
		last = taken;
		next = allowed(taken, now_ns() - start);
		if (next)
			sent += send_batch(sock, sent, next, &sending_ns);
		if (now_ns() - moved > GIVE_UP_NS) {
			say();
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: send BRIDGE TAKEN PLAN RATE PAUSE\n");
		return 2;
	}
	counter = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (counter < 0)
		give_up(argv[2]);
	read_plan(argv[3]);
	rate = strtoul(argv[4], NULL, 10);
	pause_ns = strtol(argv[5], NULL, 10) * 1000;
	before = count();
	/* Otherwise a short sleep lasts twice as long (the default slack is 50 us). */
	prctl(PR_SET_TIMERSLACK, 1);
	send_on(open_sender(argv[1]));
	return 0;
}
