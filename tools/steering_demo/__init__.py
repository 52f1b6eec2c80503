# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration: an ordinary user's VMs on a bridge, one steered in the kernel, flow by flow.

    workplace  a folder for the time of the demonstration
    helpers    both privileged helpers behind real activated sockets, in sandboxes of their own
    units      how systemd does that
    stations   who is on the bridge
    vm         ``bpferry run`` as the user, and the guests' consoles
    witness    the live key and table, read through the fds that QEMU itself holds
    rounds     have flows sent, predict each one's queue, ask the guest where it came in
    exchanges  datagrams there and back
    play       all of it, one after the other
    picture    the tables, the bars and the JSON

Depends on: guest, activation, bpferry, bpferry_wire, the capabilities in bpferry_helper; util-linux
and, where it runs, systemd.
Never does: change anything on the host that it does not undo, or believe a prediction of its own.
"""
