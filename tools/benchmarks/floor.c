// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The least that a hand-over takes: connect, ask, receive four fds, in C on both sides, no load.
 *
 *     floor SOCKET [REQUEST]
 *
 * Listens on the path SOCKET in a child process, which hands the same four fds to every client. With
 * the file REQUEST, whose bytes are a request, somebody else listens and is asked that.
 * Each line of standard input is a number of hand-overs to do, one after the other. The answer is
 * one line with the nanoseconds of each, from before connect(2) until the fds have arrived.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "yardstick.h"

/* The sizes of the packets that a real load exchanges, to the nearest power of two. */
enum { FDS = 4, REQUEST_BYTES = 64, REPLY_BYTES = 1024, BACKLOG = 16 };

static int new_socket(void)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0)
		give_up("cannot make a socket");
	return sock;
}

static void answer(int client, const int *fds)
{
	char packet[REPLY_BYTES] = {0};
	union {
		char room[CMSG_SPACE(FDS * sizeof(int))];
		struct cmsghdr header;
	} control = {{0}};
	struct iovec part = {packet, sizeof(packet)};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (recv(client, packet, sizeof(packet), 0) <= 0)
		give_up("cannot receive a request");
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(FDS * sizeof(int));
	memcpy(CMSG_DATA(header), fds, FDS * sizeof(int));
	if (sendmsg(client, &message, MSG_NOSIGNAL) < 0)
		give_up("cannot send a reply");
}

static void serve(int listener)
{
	int fds[FDS];
	int i;

	for (i = 0; i < FDS; i++) {
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			give_up("cannot open '/dev/null'");
	}
	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client < 0)
			give_up("cannot accept a client");
		answer(client, fds);
		close(client);
	}
}

static void receive_fds(int sock, int *fds)
{
	char packet[REPLY_BYTES];
	union {
		char room[CMSG_SPACE(FDS * sizeof(int))];
		struct cmsghdr header;
	} control;
	struct iovec part = {packet, sizeof(packet)};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header;

	if (recvmsg(sock, &message, MSG_CMSG_CLOEXEC) <= 0)
		give_up("cannot receive a reply");
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_len != CMSG_LEN(FDS * sizeof(int)))
		give_up("the fds did not come");
	memcpy(fds, CMSG_DATA(header), FDS * sizeof(int));
}

struct request {
	char bytes[REQUEST_BYTES];
	size_t length;
};

static struct request read_request(const char *path)
{
	struct request request;
	FILE *file = fopen(path, "rb");

	if (!file)
		give_up(path);
	request.length = fread(request.bytes, 1, sizeof(request.bytes), file);
	if (!request.length || fgetc(file) != EOF)
		give_up("the request is empty or too long");
	fclose(file);
	return request;
}

static long long handover_ns(const struct sockaddr_un *address, const struct request *request)
{
	int fds[FDS];
	long long start = now_ns(), end;
	int sock = new_socket(), i;

	if (connect(sock, (const struct sockaddr *)address, sizeof(*address)))
		give_up("cannot connect");
	if (send(sock, request->bytes, request->length, MSG_NOSIGNAL) < 0)
		give_up("cannot send a request");
	receive_fds(sock, fds);
	end = now_ns();
	for (i = 0; i < FDS; i++)
		close(fds[i]);
	close(sock);
	return end - start;
}

static pid_t start_server(const struct sockaddr_un *address)
{
	int listener = new_socket();
	pid_t child;

	if (bind(listener, (const struct sockaddr *)address, sizeof(*address)))
		give_up(address->sun_path);
	if (listen(listener, BACKLOG))
		give_up("cannot listen");
	child = fork();
	if (child < 0)
		give_up("cannot fork");
	if (child == 0) {
		/* However the parent ends, the server ends with it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	close(listener);
	return child;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct request request = {.length = REQUEST_BYTES};
	char line[32];
	pid_t server = 0;

	if (argc < 2 || argc > 3 || strlen(argv[1]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: floor SOCKET [REQUEST]\n");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	if (argc == 3)
		request = read_request(argv[2]);
	else
		server = start_server(&address);
	while (fgets(line, sizeof(line), stdin)) {
		int left = atoi(line);

		for (; left > 0; left--)
			printf("%lld%c", handover_ns(&address, &request), left == 1 ? '\n' : ' ');
		fflush(stdout);
	}
	if (server) {
		kill(server, SIGKILL);
		unlink(address.sun_path);
	}
	return 0;
}
