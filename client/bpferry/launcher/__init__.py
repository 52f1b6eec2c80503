# SPDX-License-Identifier: LGPL-2.1-or-later
"""Another launcher's QEMU command line, whose cards get what they lack.

    words       the words of a command line, as QEMU divides them
    properties  the value of one option: key=value or JSON
    typed       key=value as JSON, where each property has its type
    guest       what a command line says about the VM as a whole
    cards       the cards of a command line, each with what is behind it
    backends    what is behind a card
    aims        what a card is to get
    giving      where the fds come from
    rewriting   the command line with other cards
    conversion  all of it, card by card
    taking      the same for any program, which may be no QEMU
    becoming    become the program

What is not understood stays as it was, to the byte.

Depends on: commandline.network.tap_card, steering, qemu, domain, network, errors, bpferry_wire.
Never does: start a second process, or keep anything of its own in the process that becomes QEMU.
"""
