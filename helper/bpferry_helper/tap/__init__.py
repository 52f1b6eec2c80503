# SPDX-License-Identifier: LGPL-2.1-or-later
"""The role tap: make taps on the host's bridges, and hand their queues over.

This process has a network namespace of its own, in which there is nothing. A tap is born there,
where no stranger can join it (CVE-2026-99281), gets its owner and all its queues, and only then
moves to the host, with one message that also puts it on its bridge and switches it on.

The host's namespace is reached through one netlink socket that systemd opened in it and passed in.
There is no list of grants on disk: the kernel keeps it. Each tap carries in its alias who asked for
it, which nobody without CAP_NET_ADMIN can change; so a count is right after any crash.

    permission  who may have a tap on which bridge, by policy and by /etc/qemu/bridge.conf
    bridge_conf reads the latter
    tun         the ioctls of /dev/net/tun
    netlink     one rtnetlink socket, with pyroute2's codecs
    links       the few things that are asked of the kernel about links, each with its message
    bridges     whether a tap can be on a bridge, and whether it could do harm to it
    nursery     where taps are born, and where spare ones wait
    maker       from a decision to a tap on its bridge, or to nothing at all
    marks       what marks a tap as ours: its whole name and its alias
    census      which taps are alive, whose they are, and what has to be swept away
    service     what each request does, and why it is safe to do for anybody

Depends on: policy/, role and the smaller modules of bpferry_helper, bpferry_wire, and the message
codecs of pyroute2.
Never does: take a name or a flag of an interface from a client, run ``ip``, load a program, or
change a link that is neither its own tap nor a bridge without an address of its own.
"""
