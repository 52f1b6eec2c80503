# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who spreads a card's packets over its queues, and how.

    plan       which rung each card gets, and why, before the VM starts
    maps       what QEMU wrote into a card's maps
    toeplitz   which queue a flow goes to
    view       what is in force, in a sentence

Depends on: errors, domain, bpferry_wire; qemu.capabilities, for what a QEMU can do.
Never does: write into a map, or call a plan a fact.
"""
