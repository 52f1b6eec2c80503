# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where file descriptors come from.

    connection   asking a helper
    broker       eBPF sets, from the helper
    fdinfo       what a BPF fd is, by the kernel's own word
    taps         taps on bridges, from the helper
    tap          the queues of a tap that exists
    tun          what the queue of a tap is, by the kernel's own word
    vhost        the kernel's vhost-net, one fd for each queue

Depends on: errors, bpferry_wire.
Never does: use an fd that was not looked at, make a tap, or keep an fd after an error.
"""
