# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is this host ready? Every fact that decides whether a VM gets its card, its queues, vhost, eBPF.

    examination  all of it, in order, and what follows from it
    finding      one fact: its state, for what it matters, what mends it
    kernel       the kernel's version, its types, who may use bpf(2)
    modules      whether the kernel has a module
    tun          the tun driver, and whether strangers can join taps without an owner
    tun_trial    an attempt to join one, in a namespace of our own
    bridges      the bridges of this host, and what is in the way of their frames
    devices      KVM and vhost-net, tried
    helpers      the helpers' sockets, and what the policy allows
    learning     whether VMs can make a bridge learn addresses without end
    emulator     what this QEMU can do
    firmware     the firmware that guests can boot with
    session      the user's session: its folder, lingering, limits
    security     AppArmor and SELinux, as far as this user can see
    description  what there is to say about one VM
    proof        an eBPF set from the helper, tried with published vectors

Each fact is a function of the host's files, so that a test can show it another host. What has a
check elsewhere is asked there: this package only says what it means for a host.

Depends on: errors, domain, network, qemu, steering, and the rest of machine.
Never does: change the host, or ask for a tap. Only a proof asks for an eBPF set, and gives it back.
"""
