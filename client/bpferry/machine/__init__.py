# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM from its first process to its last.

    reporter      who is told what happens
    preparation   what a description becomes on this host: plan and command line, nothing opened
    host          what the plan has to know of this host
    folders       where the VM's own files are; files, the ones that have to be there
    absent_media  CDs that need not be there
    card_fds      what stands behind the cards: taps, eBPF sets, vhost
    inheritance   what QEMU inherits, opened: all of that, and what these have
    listening  own_sockets  output_files  device_nodes
    companions    the processes beside QEMU, such as swtpm
    supervisor    QEMU's parent, for as long as it runs
    console       the guest's serial console on our standard streams

Depends on: errors, domain, qemu, steering, network.
Never does: leave a process, a socket, an fd, or a terminal in another mode behind.
"""
