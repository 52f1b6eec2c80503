# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole host in a VM: Debian 13 with systemd, KVM, vhost-net and two releases of QEMU.

The machine that runs the tests needs neither KVM nor vhost-net. The host is emulated (TCG), and
QEMU emulates AMD's virtualization too: inside there is a /dev/kvm that works, so that a guest there
costs seconds in place of minutes, and vhost is used as on a real host. The Debian packages have a
host of each release to themselves, which does not know bpferry before.

    image         the disk, made once
    initrd        what the kernel starts first, made for each boot
    built_kernel  a kernel without BTF for it, built once
    freight       what a run brings along: this clone, and the small guest
    host          boot it, run commands in it, take it down
    documents     the domain documents of its users
    user          a user whose systemd runs without a session
    plans         what a dry run says
    rounds        flows to a guest in there, and where they came in
    kinds         what bpferry does on a host whose kernel is or allows something else: a row
    kind_steps    how a host becomes one of these kinds
    inside/       what runs in there: courier, prepare, and the scripts of the tests
"""
