# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands to a VM that runs: from any process of its user to its supervisor.

    packets     requests and replies, in the wire's form
    server      who may ask there, and how requests are answered
    operations  what a running VM can be asked
    snapshots   keep the content of its disks
    saving      save the VM to a file, and end it
    save_file   the file that it is saved to, under its first name until it is complete
    moving      what the VM can be asked about its move to another host
    move        one such move
    queues      one card's steering and rings, asked from its maps and from QEMU
    card_rings  how far that card's rings are
    guest_memory the memory of the guest, in which they are
    life        what is known of a running VM: its state and what it was started with
    states      the states it can be in
    inventory   its cards and disks, as its user is shown them
    links       the links of its cards, which its user takes down and up
    hot_plug    a package: cards and disks that are plugged in and taken out
    screen      a picture of its screen
    events      what happens in the guest, and what follows
    watching    the steering of its cards, for as long as it runs
    record      what its user was told, for those who ask later
    client      the connection of a command
    running     the VMs of this user that run

The socket is ``control.sock`` in the VM's runtime folder (``machine.folders``), which only its user
may enter. It is a SOCK_SEQPACKET socket with packets like those of the helpers: one request, one
reply, and fds with a reply. A request waits for nothing but QEMU's own answer.

Depends on: errors, domain, network, qemu, steering, commandline, and the modules of ``machine``.
Never does: serve another user, take in an fd, or wait for a client that does not read.
"""
