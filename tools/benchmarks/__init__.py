# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long the helpers take and how much memory, against the same work by others.

    command    run other programs, and what goes wrong with them
    interrupts leave between two measurements
    installed  a copy of the helper as tools/install would lay it down
    activated  that copy behind a listening socket, with exactly its capabilities
    client     ask it, and take the time
    yardstick  the two C programs beside this file (and yardstick.h): build them, ask them
    object     the eBPF object that the installed QEMU carries
    handover   what is measured, in which order
    figures    medians, percentiles, and what is wanted of them
    report     the table, and the same as one JSON object
    memory     what a process has
    progress   for whoever looks at a terminal
    start      all of it for the way from a description to a command line

    tap            what is measured of the helper that makes taps, in which order
    tap_host       the network namespace that it takes for the host, and the helper in it
    bridge_helper  qemu-bridge-helper, with which it is compared
    tap_figures    what is wanted of it, the table and the JSON object

Depends on: bpferry_wire, bpferry_helper (to find the object), guest (its namespaces), activation,
failure, gcc, libbpf, systemd-socket-activate, util-linux, iproute2, qemu-bridge-helper.
Never does: change the host, use its policy or its installed helper, or leave anything running.
"""
