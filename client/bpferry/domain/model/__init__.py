# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM as a frozen value, which both kinds of document become.

    base         addresses, and what all devices have
    machine      the whole
    cpu  numa  memory  iothreads  clock  features  firmware  system
                 what is around the devices
    disks  controllers  cards  characters  display  extras
                 the devices, by what they are for

Nothing in it depends on the machine that it will run on, so that a description means the same
everywhere; what follows from it is worked out by ``qemu.commandline``.

Depends on: domain.binding; msgspec.
Never does: hold what was not in the document, or a place on the host that nobody named.
"""
