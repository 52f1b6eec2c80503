# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that moves to another host while it runs.

    messages     what the two supervisors say to each other, over one connection
    destination  the other host, and the ssh that reaches it
    obstacles    what keeps a VM from moving at all
    offer        what the source says of the VM, before anything is made for it
    comparison   what has to be the same at both hosts, and how it differs
    same_files   whether a disk is the same file there
    devices      what two QEMUs offer their guests, asked from them
    receiving    the VM as it arrives
    keeping      what keeps the VM when the connection that brought it is closed

All of it goes through the standard input and output of one ``bpferry receive`` there, which ssh
starts:

      there   a line that says that it is bpferry
      here    Offer      the description and what depends on the host
      there   Ready      taps and sets are made and QEMU waits; what that QEMU offers its guest
      here    Stream     and behind it QEMU's own migration stream
      there   Loaded     all of it is read; the guest does not run
      here    Run        from now on, the guest does not run here any more
      there   Runs       it runs there

Until Run, either side may give up: it closes the connection, and the guest goes on here. A Problem
in place of any answer says why, when nothing is left there. If the connection breaks between Run
and Runs, nobody here can know whether the guest runs there, and it stays stopped here.

Depends on: errors, domain, network, qemu, steering, commandline, and the modules of ``machine``.
Never does: open a port, copy a disk, or let a guest run at two hosts.
"""
