// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The yardstick for a load: what the helper does for a client, in C and nothing else.
 *
 *     load OBJECT
 *
 * Each line of standard input is a number of loads to do at the same time, each in a thread of its
 * own. The answer is one line: the nanoseconds from the start of the first to the end of the last.
 * A load opens the object from memory, loads it, copies the fd of each program and each map, and
 * closes the object; closing the copies is not measured.
 */

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "yardstick.h"

enum { MAX_FDS = 16, MAX_AT_ONCE = 64, MIN_FD = 3 };

struct load {
	pthread_t thread;
	const char *object;
	size_t object_bytes;
	const char *failed;
	int fds[MAX_FDS];
	int fd_count;
};

static int copy_fd(struct load *load, int fd)
{
	int copy;

	if (load->fd_count == MAX_FDS)
		return -1;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, MIN_FD);
	if (copy < 0)
		return -1;
	load->fds[load->fd_count++] = copy;
	return 0;
}

static const char *copy_fds(struct load *load, struct bpf_object *object)
{
	struct bpf_program *program;
	struct bpf_map *map;

	bpf_object__for_each_program(program, object)
		if (copy_fd(load, bpf_program__fd(program)))
			return "cannot copy the fd of a program";
	bpf_object__for_each_map(map, object)
		if (copy_fd(load, bpf_map__fd(map)))
			return "cannot copy the fd of a map";
	return NULL;
}

static void *load_once(void *argument)
{
	struct load *load = argument;
	struct bpf_object *object = bpf_object__open_mem(load->object, load->object_bytes, NULL);

	if (!object) {
		load->failed = "cannot open the object";
		return NULL;
	}
	if (bpf_object__load(object))
		load->failed = "cannot load the object";
	else
		load->failed = copy_fds(load, object);
	bpf_object__close(object);
	return NULL;
}

static void finish(struct load *load)
{
	if (load->failed)
		give_up(load->failed);
	while (load->fd_count)
		close(load->fds[--load->fd_count]);
}

static long long load_ns(const char *object, size_t object_bytes, int at_once)
{
	struct load loads[MAX_AT_ONCE] = {0};
	long long start = now_ns(), end;
	int i;

	for (i = 0; i < at_once; i++) {
		loads[i].object = object;
		loads[i].object_bytes = object_bytes;
		/* The last one runs right here: a single load pays for no thread. */
		if (i == at_once - 1)
			load_once(&loads[i]);
		else if (pthread_create(&loads[i].thread, NULL, load_once, &loads[i]))
			give_up("cannot start a thread");
	}
	for (i = 0; i < at_once - 1; i++)
		pthread_join(loads[i].thread, NULL);
	end = now_ns();
	for (i = 0; i < at_once; i++)
		finish(&loads[i]);
	return end - start;
}

static char *read_object(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	char *object;
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) <= 0)
		give_up(path);
	rewind(file);
	object = malloc(size);
	if (!object || fread(object, 1, size, file) != (size_t)size)
		give_up(path);
	fclose(file);
	*bytes = size;
	return object;
}

int main(int argc, char **argv)
{
	char line[32];
	char *object;
	size_t bytes;

	if (argc != 2) {
		fprintf(stderr, "usage: load OBJECT\n");
		return 2;
	}
	object = read_object(argv[1], &bytes);
	while (fgets(line, sizeof(line), stdin)) {
		int at_once = atoi(line);

		if (at_once < 1 || at_once > MAX_AT_ONCE) {
			fprintf(stderr, "load: cannot do '%d' loads at once\n", at_once);
			return 2;
		}
		printf("%lld\n", load_ns(object, bytes, at_once));
		fflush(stdout);
	}
	free(object);
	return 0;
}
