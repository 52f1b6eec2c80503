# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helpers' protocol as varlink, which systemd's own tools and libraries speak.

    interfaces  the interfaces, in varlink's own language
    calls       one call: what it asks of a helper, and what the answer is
    service     one connection: frames, replies, fds

It runs as the user who calls, in a process of the user's own; to the helpers it is a client like
any other. A varlink message is JSON text with a NUL at its end, on a stream socket; the fds of a
reply are sent with its first byte (https://varlink.org, and systemd's sd-varlink).

Depends on: network, errors, bpferry_wire.
Never does: hold a privilege, serve another user, or keep an fd after it was handed over.
"""
