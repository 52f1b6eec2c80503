# SPDX-License-Identifier: LGPL-2.1-or-later
"""What spreads a card's packets over its queues, and how.

    plan      which rung each card gets, and why, before the VM starts
    quirks    what the versions of QEMU cannot do, as the table that the plan uses
    vhost     whether a card gets vhost if RSS permits it
    rungs     the words that these use
    requests  what the helpers will be asked
    maps      what QEMU wrote into a card's maps
    toeplitz  which queue a flow goes to
    trial_run a loaded program, run once on a frame
    flow_text a flow as a user writes it, and where it arrives
    rings     packets through the rings of a card, counted from their indices
    observed  one card of a running VM at one moment, for a packet
    remarks   what is worth a warning about the queues of a card that runs
    view      what is in force, in a sentence, and compared with the plan
    settling  a look at the maps of a card until nothing changes any more

Depends on: errors, domain, bpferry_wire; qemu.capabilities and qemu.defaults, for what a QEMU can
do and which card a document means.
Never does: write into the maps of a card, or call a plan a fact.
"""
