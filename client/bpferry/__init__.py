# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start QEMU VMs as an ordinary user, and report which steering each card gets.

    cli          what the user types
    machine      a VM from its first process to its last
    launcher     another launcher's QEMU, whose cards get what they lack
    varlink      the helpers, for clients of varlink
    commandline  from a VM and a plan to QEMU's words
    steering     what spreads a card's packets over its queues
    qemu         what a QEMU can do, and how to talk to one
    domain       what a VM is
    network      where file descriptors come from: the helpers, and taps that exist
    errors       what can go wrong, by exit status

Each imports only what is below it in this list; domain and network do not know each other,
nor do machine, launcher and varlink.

Depends on: bpferry_wire; qemu.qmp and msgspec, imported where they are first needed.
Never does: hold a privilege, leave a process behind, or choose a steering silently.
"""
