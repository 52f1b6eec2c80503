# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol between helper and client: one packet each way, fds in the reply.

    limits    every bound of the wire, with its unit and origin
    errors    the closed list of error codes, and what a bad packet raises
    fds       who owns a file descriptor
    codec     msgpack to and from plain values, strictly
    frozen    values with named fields, whose classes take little time to make
    messages  the requests and replies as such values
    requests  the keys of each request
    replies   the keys of each reply
    packets   their bytes; use this instead of the two before
    channel   one packet with its fds, over SOCK_SEQPACKET
    vm_names  what a VM may be called on the wire
    rates     rates for people, such as 100 Mbit/s
    objects   the programs and maps of the known eBPF objects

docs/protocol.md describes the protocol for writers of other clients.

Depends on: the standard library and msgpack.
Never does: open a path, decide who may do what, or keep an fd that nobody asked for.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""The version of bpferry, as both programs print it."""
