/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * Lists the id of every BPF map that is alive: one __u32 each, in the kernel's order.
 *
 * A BPF iterator (include/linux/bpf.h, DEFINE_BPF_ITER_FUNC(bpf_map, ...)) is the one way to learn
 * this without CAP_SYS_ADMIN. Only the fields that are read are declared here: the kernel's BTF
 * tells libbpf where they are, so that no vmlinux.h is needed.
 *
 * Build:  clang -O2 -g -target bpf -c map_ids.bpf.c -o map_ids.bpf.o && llvm-strip -g map_ids.bpf.o
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define kernel_type __attribute__((preserve_access_index))

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} kernel_type;

struct bpf_map {
	__u32 id;
} kernel_type;

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
} kernel_type;

SEC("iter/bpf_map")
int list_map_ids(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	__u32 id;

	/* The last call of an iteration has no map. */
	if (!map)
		return 0;
	id = map->id;
	bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}

/* bpf_seq_write is GPL only. */
char LICENSE[] SEC("license") = "GPL";
