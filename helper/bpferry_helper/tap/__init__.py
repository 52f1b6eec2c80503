# SPDX-License-Identifier: LGPL-2.1-or-later
"""The role tap: make taps on the host's bridges, and hand over their queues.

This process has its own, empty network namespace. A tap is created there, where no stranger can
attach to it (CVE-2026-99281), and gets its owner and all its queues. Only then is it moved to the
host, with one message that also puts it on its bridge and sets it up.

The helper reaches the host's namespace through netlink sockets that systemd opened there and
passed in. No list of grants is kept on disk: the kernel has it. The alias of each tap says who
asked for it, and nobody without CAP_NET_ADMIN can change an alias. So the count is right even after
a crash.

    permission  who may have a tap on which bridge, by policy and by /etc/qemu/bridge.conf
    bridge_conf reads /etc/qemu/bridge.conf
    tun         the ioctls of /dev/net/tun
    netlink     one rtnetlink socket, with pyroute2's codecs
    links       the few requests about links that are sent to the kernel
    link_codec  the form of those messages, and one link as the kernel describes it
    bandwidth   the limits of a tap, and the messages that set them
    bridges     whether a bridge can take a tap, and how it is protected from the tap
    nursery     where taps are created, and where spare ones wait
    maker       turns a decision into a tap on its bridge, or cleans up
    marks       what marks a tap as ours: its whole name and its alias
    claims      the one address behind a port with address-lock
    watch       sees when a holder gives a tap another's address, and deletes that tap
    penalties   how long a user waits for another tap after misusing one
    census      which taps are alive, whose they are, and which have to be deleted
    closing     closes taps that stay and that policy no longer allows
    held        the taps that somebody holds: list them, and delete one
    service     what each request does, and why it is safe to do for anybody

Depends on: policy/, role and the smaller modules of bpferry_helper, bpferry_wire, and the message
codecs of pyroute2.
Never does: let a client choose the name or flags of an interface, run ``ip``, load a program, or
change a link, except its own taps and bridges without an address of their own.
"""
