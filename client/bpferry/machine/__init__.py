# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM from its first process to its last.

    reporter     who is told what happens
    preparation  what a description becomes on this host: plan, fds, command line
    supervisor   QEMU's parent, for as long as it runs
    console      the guest's serial console on our standard streams

Depends on: errors, domain, qemu, steering, network.
Never does: leave a process, a socket, an fd, or a terminal in another mode behind.
"""
