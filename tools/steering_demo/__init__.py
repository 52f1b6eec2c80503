# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration: an ordinary user's VMs on a bridge, one steered in the kernel, flow by flow.

    workplace  a temporary folder for the demonstration
    helpers    both privileged helpers behind activated sockets, each in its own sandbox
    units      the same with systemd
    stations   the host and the guests on the bridge
    vm         ``bpferry run`` as the user, and the guests' consoles
    witness    the live key and table, read through the fds that QEMU itself holds
    rounds     send flows, predict the queue of each, ask the guest where it arrived
    counts     packets by queue: as bpferry steering counts them, and as the guest does
    exchanges  datagrams there and back
    play       the whole sequence
    picture    the tables, the bars and the JSON

Depends on: guest, activation, bpferry, bpferry_wire, the capabilities in bpferry_helper; util-linux
and, where it runs, systemd.
Never does: change anything on the host that it does not undo, or trust its own predictions.
"""
