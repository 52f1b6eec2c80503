# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's serial console: from QEMU to any number of terminals, and back.

    hub         in the supervisor: all that look on get what the guest writes; all may type
    onlooker    one of them, with a queue that is bounded
    history     the last of what the guest wrote, for those who come later
    preamble    what QEMU itself writes there before the guest
    operation   the requests about them at the control socket
    streams     the standard streams that a console may be shown on
    relay       between a console and standard streams
    keys        the key that leaves the console, and the question after it
    terminal    the terminal's mode, and the lines that bpferry writes on it
    session     somebody at a console, until one of the two ends
    foreground  a VM that was started on a terminal, and can be detached from it

A serial port of type ``stdio`` is a socket whose other end is always at the supervisor, so that it
can be reached however the VM was started. `bpferry run` on a terminal is a session at that console,
as `bpferry console` is.

Depends on: errors, commandline, and ``machine.control``.
Never does: let the guest or an onlooker wait for another one, or leave a terminal in another mode.
"""
