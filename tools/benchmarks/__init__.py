# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long the helper takes and how much memory, against the same work in C.

    command    run other programs, and what goes wrong with them
    interrupts leave between two measurements
    installed  a copy of the helper as tools/install would lay it down
    activated  that copy behind a listening socket, with exactly its capabilities
    client     ask it, and take the time
    yardstick  the two C programs beside this file: build them, ask them
    object     the eBPF object that the installed QEMU carries
    handover   what is measured, in which order
    figures    medians, percentiles, and what is wanted of them
    start      the same for the way from a description to a command line
    report     the table, and the same as one JSON object

Depends on: bpferry_wire, bpferry_helper (to find the object), gcc, libbpf, systemd-socket-activate,
util-linux.
Never does: change the host, use its policy or its installed helper, or leave anything running.
"""
