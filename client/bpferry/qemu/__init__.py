# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a QEMU can do, and how to talk to one.

    process        start a program that cannot outlive us, and end it
    signals        what it means if a signal ends it
    monitor        QMP over a socket pair
    capabilities   what one QEMU can do, as a value
    probe          start a QEMU and ask it
    questions      what it is asked
    asker          how it is asked
    schema         what its QAPI schema says
    cache          its answers, kept from run to run
    store          the files of the cache
    accelerator    choose KVM if it works
    trial          find out whether KVM works, by trying
    quiet          keep qemu.qmp from logging
    defaults       what a document leaves to QEMU: binary, machine type, card model
    firmware       the firmware that this host has
    vhost_user     the programs that implement devices outside QEMU
    package_files  the files by which packages describe those two

Depends on: errors, domain; qemu.qmp and msgspec, for QMP.
Never does: parse text that QEMU prints for people, or trust that a device which opens works.
"""
