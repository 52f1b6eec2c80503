# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start QEMU VMs as an ordinary user, and say which steering each card gets.

    errors      what can go wrong, by exit status
    domain      what a VM is
    qemu        what a QEMU can do, its command line, its monitor
    steering    who spreads a card's packets over its queues
    network     where file descriptors come from: the helpers, and taps that exist
    machine     a VM from its first process to its last
    cli         what the user types

Depends on: bpferry_wire; qemu.qmp and msgspec, imported where they are first needed.
Never does: hold a privilege, keep a process behind, or choose a steering in silence.
"""
