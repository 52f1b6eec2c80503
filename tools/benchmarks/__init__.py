# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much time and memory the helpers take, compared with other programs that do the same.

    command    run other programs, and report their failures
    interrupts stop between two measurements
    installed  a copy of the helper as tools/install would install it
    activated  that copy behind a listening socket, with exactly its capabilities
    client     send requests to it, and measure the time
    yardstick  build and run the C programs in this folder (and yardstick.h, path.h)
    object     the eBPF object that the installed QEMU carries
    handover   what is measured of the helper that loads objects, in which order
    figures    medians, percentiles, and wanted values
    report     the table, and the same as one JSON object
    memory     the memory of a process
    progress   progress on a terminal
    start      everything for "from a description to a command line"

    tap            what is measured of the helper that makes taps, in which order
    tap_host       a network namespace that plays the host, and the helper in it
    bridge_helper  qemu-bridge-helper, for comparison
    tap_figures    its wanted values, the table and the JSON object

    path           what a packet to a tap with several queues costs, by who picks the queue
    path_plan      what the guest would have asked for, and the packets to it
    path_figures   its wanted values, the table and the JSON object
    path_picture   its picture

    path_guest          the same to real guests
    path_turns          what is looked at, in which order; also in the emulated host of the tests
    path_look           one look at one VM that gets packets
    path_guest_figures  its wanted values, the table and the JSON object

    fairness       how much a user notices of others who flood the helper
    flood          one process that floods

    exec           what bpferry exec adds to a start of QEMU, by both real helpers
    virsh          the same with libvirt in between
    domains        the end of a libvirt domain

    watch          what bpferry steering --watch costs a VM under traffic

    all            all of these, and one table

Depends on: bpferry_wire, bpferry_helper (to find the object, and in path to load it), bpferry,
guest (its namespaces), activation, steering_demo, failure, gcc, libbpf, pygal,
systemd-socket-activate, util-linux, iproute2, qemu-bridge-helper.
Never does: change the host, use its policy or installed helper, or leave anything running.
"""
