# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of a VM, as a pure function of the model, this QEMU, and the plan.

    composition  the VM as a whole: plans, what is implied, and what is refused
    build        the whole command line
    families     those of which a VM may have none, imported when it has some
    parts        what a command line consists of: options, devices, and what QEMU inherits
    secrets      passwords and keys on their way to QEMU
    context      what every part may know
    attempt      build a part as far as it can be
    implicit     what a document means without saying it, such as controllers
    applicable   refuse what means nothing where it is
    unused       say what is set and has no effect where it is
    acpi_index   numbers by which the guest may name devices
    overrides    properties that the user sets past bpferry
    addresses    which addresses others can reach
    numbers      sets of processors and nodes
    threads      which I/O thread works for which disk or controller
    system       the machine around the devices
    memory       the guest's memory
    buses        what devices are attached to, and which place each gets
    storage      disks
    network      network cards
    characters   character devices, and what uses them
    displays     what a person sees, hears and touches
    host_devices  devices of the host
    extras       the other devices

The last nine are the families. Each is entered by the function ``parts`` of its module ``build``.

Values that a document chose go into JSON, are an argument of their own, or have their commas
doubled (``parts.join``); none can begin another option.

Depends on: domain, qemu.capabilities, qemu.defaults, steering.plan, errors.
Never does: open, ask, start or look for anything; two calls with the same values return the same.
"""
