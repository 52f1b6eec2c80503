# SPDX-License-Identifier: LGPL-2.1-or-later
"""The role bpf: load the eBPF objects that QEMU carries, and hand their programs and maps over.

    binary    opens a file if root alone could have changed it
    embedded  finds the eBPF objects inside a binary
    digest    SHA-256, without OpenSSL
    trust     finds an object by its digest in a QEMU that root installed
    libbpf    the functions of libbpf.so.1 that are used, with their C types
    loader    from the bytes of a trusted object to owned, described fds
    census    which maps are alive, as a BPF iterator tells
    ledger    to whom each set was given, and which of them are alive
    state     the folder where ledger and trust keep what outlives the process
    service   what each request does, and why it is safe to do for anybody

Depends on: policy/, role and the smaller modules of bpferry_helper, bpferry_wire, and
libbpf.so.1 of the operating system.
Never does: give libbpf a byte that root did not install, hand one set out twice, or pin anything.
"""
