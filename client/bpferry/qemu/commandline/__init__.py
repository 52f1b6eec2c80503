# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of a VM, as a pure function of the model, this QEMU, and the plan.

    build       the whole
    parts       what a command line consists of: options, devices, and what QEMU inherits
    context     what every part may know
    implicit    what a document means without saying it, such as controllers
    names       what devices are called
    applicable  refuse what means nothing where it stands
    numbers     sets of processors and nodes
    buses       which place each device gets
    system  memory  storage  network  characters  displays  extras
                the parts of each family of devices

Values that a document chose go into JSON, stand alone as an argument, or have their commas doubled
(``parts.join``); none can begin another option.

Depends on: domain.model, qemu.capabilities, steering.plan, errors.
Never does: open, ask, start or look for anything; two calls with the same values return the same.
"""
