# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards and disks of a VM that runs: plugged in, taken out, linked up and down.

    operations  what a running VM can be asked about them
    cards       a card: taps and sets from the helpers, then QEMU
    card_draft  what a card that is plugged in becomes: its plan, requests and commands
    disks       a disk: block nodes, then the device
    disk_draft  what a disk that is plugged in becomes: its target and commands
    places      which place on PCI is free
    steps       commands to QEMU that are undone if one of them fails
    threads     work that may take seconds, and that the VM's end does not wait for
    holdings    what each device holds besides itself, and when that is given back

Whatever happens, all of it happens or none: what was made before a step that fails is given back,
in QEMU and outside. A name in QEMU is never used twice, since QEMU may keep what failed.

Depends on: errors, domain, network, qemu, steering, commandline, and the modules of ``machine``.
Never does: let the supervisor's loop wait for a helper, or take in an fd of a client.
"""
