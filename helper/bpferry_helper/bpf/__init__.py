# SPDX-License-Identifier: LGPL-2.1-or-later
"""The role bpf: load the eBPF objects that QEMU carries, and hand over their programs and maps.

    binary    opens a file if only root could have changed it
    embedded  finds the eBPF objects inside a binary
    digest    SHA-256, without OpenSSL
    trust     finds an object by its digest in a QEMU that root installed
    libbpf    the functions of libbpf.so.1 that are used, with their C types
    maps     creates the arrays of an object so that the kernel masks each index
    loader    turns the bytes of a trusted object into owned, described fds
    census    which maps are alive, according to a BPF iterator
    pool      sets that are loaded ahead
    ledger    who was given which set, and which sets are still alive
    state     the folder for what ledger and trust keep across restarts
    service   what each request does, and why it is safe to do for anybody

Depends on: policy/, role and the smaller modules of bpferry_helper, bpferry_wire, and
libbpf.so.1 of the operating system.
Never does: give libbpf a byte that root did not install, hand out a set twice, or pin anything.
"""
