# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where file descriptors come from.

    connection    asking a helper
    readable      waiting for an answer without reading it
    bpf_helper    eBPF sets, from the helper that loads them
    tap_helper    taps on bridges, from the helper that makes them
    existing_tap  the queues of a tap that exists
    macvtap       those of a macvtap that exists
    tap_bridge    which bridge an interface is a port of
    learning      how many addresses a bridge may learn
    links         one network interface, as rtnetlink describes it
    sysfs         how many queues of a tap are switched on
    tap_users     which processes of this user have a tap open
    tun           what the queue of a tap is, as the kernel says
    vhost         the kernel's vhost-net, one fd for each queue
    fdinfo        what a BPF fd is, as the kernel says
    neighbours    which addresses this host has talked to, and whose they are
    groups        why a device or socket of a group is closed to this process

Depends on: errors, bpferry_wire.
Never does: use an fd that was not looked at, make a tap, or keep an fd after an error.
"""
