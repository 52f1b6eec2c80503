# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a frozen value, which both kinds of document are read into.

    machine      the whole
    base         addresses, and what all devices have
    accelerator  KVM or TCG
    cpu          processors
    numa         nodes of the guest and of the host
    memory       memory, what is behind it, and its modules
    iothreads    threads for the work of disks
    tuning       where threads run, and how they are scheduled
    clock        the guest's clock and its timers
    features     features of the machine and of the hypervisor
    firmware     BIOS, UEFI, and what the firmware says
    system       what belongs to the VM as a whole
    security     the TPM
    secrets      passwords and keys, and which file has each
    controllers  what other devices are attached to
    disks        disks, CD drives and floppies
    images       what is behind a disk
    cards        network cards
    characters   serial ports, consoles, channels, TPMs
    graphics     ways to see the screen
    videos       graphics cards
    inputs       mice, tablets, keyboards
    sounds       sound cards, and where their sound goes
    filesystems  shared folders
    host_devices  devices of the host
    rngs         sources of random numbers
    balloon      the memory balloon
    extras       the other devices

Nothing in it depends on the machine that it will run on, so that a description means the same
everywhere; what follows from it is worked out by ``commandline``.

Depends on: domain.binding; msgspec.
Never does: hold anything that was not in the document.
"""
