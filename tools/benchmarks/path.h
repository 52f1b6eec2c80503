/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What path.c and send.c share: the plan, and a sender of its frames. Each has one plan. */

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "yardstick.h"

enum {
	MAX_FLOWS = 1024,
	KEY_BYTES = 40,
	TABLE_ENTRIES = 128,
	FRAME_BYTES = 128,
	/* A tap's queue has 500 places (TUN_READQ_SIZE, drivers/net/tun.c): no packet is ever lost. */
	MOST_ON_THE_WAY = 256,
	BATCH = 32,
};

/* In the machine's byte order; written by benchmarks/path_plan.py. */
struct flow {
	uint32_t queue;
	uint8_t frame[FRAME_BYTES];
};

struct plan {
	uint8_t key[KEY_BYTES];
	uint16_t table[TABLE_ENTRIES];
	uint32_t count;
	struct flow flows[MAX_FLOWS];
};

static struct plan plan;

static long long clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		give_up("cannot read a clock");
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void read_plan(const char *path)
{
	FILE *file = fopen(path, "rb");

	/* There may be fewer flows than there is room for. */
	if (!file || !fread(&plan, 1, sizeof(plan), file) || !plan.count || plan.count > MAX_FLOWS)
		give_up(path);
	fclose(file);
}

static int open_sender(const char *bridge)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = if_nametoindex(bridge),
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof(address)))
		give_up(bridge);
	return sock;
}

/* Returns how many were sent, and adds the processor time that it took. */
static unsigned int send_batch(int sock, unsigned long number, unsigned int count, long long *taken_ns)
{
	struct mmsghdr messages[BATCH] = {0};
	struct iovec parts[BATCH];
	long long start;
	int sent;

	for (unsigned int i = 0; i < count; i++) {
		parts[i].iov_base = plan.flows[(number + i) % plan.count].frame;
		parts[i].iov_len = FRAME_BYTES;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	sent = sendmmsg(sock, messages, count, 0);
	*taken_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	if (sent < 0)
		give_up("cannot send");
	return sent;
}
