# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a QEMU can do, how it is called, and how one talks to it.

    process       start a program that cannot outlive us, and end it
    monitor       QMP over a socket pair
    capabilities  what one QEMU can do, as a value
    probe         start a QEMU and ask it; questions, asker and schema have what and how
    cache         the same, kept from run to run; store has the files
    accelerator   choose KVM where it works; trial finds that out
    firmware      what this host has, by the descriptors that its packages install
    commandline   the command line of a VM, as a pure function

Depends on: errors, domain; steering.plan, for what a plan is; qemu.qmp and msgspec, for QMP.
Never does: parse words that QEMU prints for people, or trust that a device which opens works.
"""
