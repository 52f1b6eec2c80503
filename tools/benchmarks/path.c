// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A packet's way on the host: from a sender on a bridge, through a tap, to who reads its queues.
 *
 *     path BRIDGE TAP QUEUES ebpf|kernel|user PLAN [PROGRAM_FD]
 *
 * Opens QUEUES queues of TAP, which is there, each read by a thread of its own. Who picks a packet's
 * queue: "ebpf" is the program behind PROGRAM_FD, "kernel" the tap's own flow steering, and "user" the
 * kernel first and then this program, which hashes every packet again with RSS's Toeplitz hash: a
 * stand-in for what QEMU does without a program.
 *
 * PLAN is what the guest asked for, and the frames, one for each flow (struct plan, struct flow).
 *
 * Says "ready" once the queues are open. Each line of standard input is a number of packets to send.
 * The answer is one line: nanoseconds until the last was read, nanoseconds of processor time that the
 * sender took in its system calls, and that all readers took, and how many packets were taken from the
 * queue (with "user": given to the queue) that the plan names.
 */

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "path.h"

enum {
	MAX_QUEUES = 8,
	FLOW_AT = FRAME_BYTES - 8, /* Behind all headers: MARK, and the number of the flow. */
	MARK = 0x62706621,
	VNET_HEADER_BYTES = 10,
	WAIT_NS = 5000,
	GIVE_UP_NS = 2000000000,
};

struct reader {
	pthread_t thread;
	uint32_t queue;
	int fd;
	clockid_t clock;
	/* On a cache line of its own: each is written by one thread. */
	_Alignas(64) atomic_ulong received;
	atomic_ulong as_asked;
};

static struct reader readers[MAX_QUEUES];
static uint32_t queues;
static int hashes;

static uint32_t toeplitz(const uint8_t *data, size_t length)
{
	uint32_t window = (uint32_t)plan.key[0] << 24 | plan.key[1] << 16 | plan.key[2] << 8 | plan.key[3];
	uint32_t hash = 0;

	for (size_t i = 0; i < length; i++) {
		uint8_t next = plan.key[i + 4];

		for (int bit = 7; bit >= 0; bit--) {
			if (data[i] >> bit & 1)
				hash ^= window;
			window = window << 1 | (next >> bit & 1);
		}
	}
	return hash;
}

/* All frames are UDP without options or extensions. */
static uint32_t asked_queue(const uint8_t *frame)
{
	int is_ipv6 = frame[12] == 0x86;
	const uint8_t *addresses = frame + ETH_HLEN + (is_ipv6 ? 8 : 12);
	/* Addresses and ports are next to each other in either header. */
	size_t length = is_ipv6 ? 36 : 12;

	return plan.table[toeplitz(addresses, length) % TABLE_ENTRIES];
}

static void take(struct reader *reader, const uint8_t *frame)
{
	uint32_t found[2], queue;

	memcpy(found, frame + FLOW_AT, sizeof(found));
	/* Such as the bridge's own IGMP. */
	if (found[0] != MARK || found[1] >= plan.count)
		return;
	queue = hashes ? asked_queue(frame) : reader->queue;
	if (queue == plan.flows[found[1]].queue)
		atomic_fetch_add_explicit(&reader->as_asked, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&reader->received, 1, memory_order_release);
}

static void *read_queue(void *argument)
{
	struct reader *reader = argument;
	uint8_t packet[VNET_HEADER_BYTES + ETH_FRAME_LEN];

	for (;;) {
		ssize_t length = read(reader->fd, packet, sizeof(packet));

		if (length < 0)
			give_up("cannot read a queue");
		if (length == VNET_HEADER_BYTES + FRAME_BYTES)
			take(reader, packet + VNET_HEADER_BYTES);
	}
	return NULL;
}

static int open_queue(const char *tap)
{
	struct ifreq wanted = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		give_up("/dev/net/tun");
	strncpy(wanted.ifr_name, tap, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &wanted))
		give_up(tap);
	return fd;
}

static void start_readers(const char *tap, int program)
{
	/* All are open before the first packet: the kernel's own steering goes by their number. */
	for (uint32_t i = 0; i < queues; i++)
		readers[i].fd = open_queue(tap);
	if (program >= 0 && ioctl(readers[0].fd, TUNSETSTEERINGEBPF, &program))
		give_up("cannot give the program to the tap");
	for (uint32_t i = 0; i < queues; i++) {
		readers[i].queue = i;
		if (pthread_create(&readers[i].thread, NULL, read_queue, &readers[i]) ||
		    pthread_getcpuclockid(readers[i].thread, &readers[i].clock))
			give_up("cannot start a thread");
	}
}

static unsigned long received(void)
{
	unsigned long sum = 0;

	for (uint32_t i = 0; i < queues; i++)
		sum += atomic_load_explicit(&readers[i].received, memory_order_acquire);
	return sum;
}

static unsigned long as_asked(void)
{
	unsigned long sum = 0;

	for (uint32_t i = 0; i < queues; i++)
		sum += atomic_load_explicit(&readers[i].as_asked, memory_order_relaxed);
	return sum;
}

static long long readers_ns(void)
{
	long long sum = 0;

	for (uint32_t i = 0; i < queues; i++)
		sum += clock_ns(readers[i].clock);
	return sum;
}

/* Waits until at most "left" of the "sent" packets are on their way. */
static void wait_for(unsigned long sent, unsigned long left)
{
	const struct timespec pause = {.tv_nsec = WAIT_NS};
	long long last = now_ns() + GIVE_UP_NS;

	while (sent - received() > left) {
		if (now_ns() > last) {
			fprintf(stderr, "path: of %lu packets %lu never came\n", sent, sent - received());
			exit(1);
		}
		nanosleep(&pause, NULL);
	}
}

static void measure(int sock, unsigned long count)
{
	unsigned long before = received(), asked_before = as_asked(), sent = 0;
	long long sender_ns = 0, reading_ns = readers_ns(), start = now_ns(), end;

	while (sent < count) {
		unsigned int batch = count - sent < BATCH ? count - sent : BATCH;

		wait_for(before + sent, MOST_ON_THE_WAY - BATCH);
		sent += send_batch(sock, sent, batch, &sender_ns);
	}
	wait_for(before + sent, 0);
	end = now_ns();
	printf("%lld %lld %lld %lu\n", end - start, sender_ns, readers_ns() - reading_ns,
	       as_asked() - asked_before);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[32];
	int sock;

	if (argc < 6 || (queues = atoi(argv[3])) < 1 || queues > MAX_QUEUES) {
		fprintf(stderr, "usage: path BRIDGE TAP QUEUES ebpf|kernel|user PLAN [PROGRAM_FD]\n");
		return 2;
	}
	hashes = !strcmp(argv[4], "user");
	read_plan(argv[5]);
	/* Otherwise a short sleep lasts ten times as long (the default slack is 50 us). */
	prctl(PR_SET_TIMERSLACK, 1);
	start_readers(argv[2], argc > 6 ? atoi(argv[6]) : -1);
	sock = open_sender(argv[1]);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		measure(sock, atol(line));
	return 0;
}
