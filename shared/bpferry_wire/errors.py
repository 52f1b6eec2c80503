# SPDX-License-Identifier: LGPL-2.1-or-later
"""The error codes of the wire, and what a bad packet raises.

WireError               root of this package
+-- BadMessage          the bytes are not a message of this protocol; has the code to answer with
+-- PacketTruncated     the kernel truncated the packet or its fds; nothing of it may be used
+-- PeerClosed          the other side closed the connection
"""

from enum import StrEnum


class Code(StrEnum):
    """Why a request was refused or failed. The list is closed: a new code is a new version."""

    BAD_REQUEST = "bad-request"
    """The packet is not a request of this protocol. The helper closes the connection."""

    UNSUPPORTED_VERSION = "unsupported-version"
    """The packet's ``v`` is not one that this helper knows. The helper closes the connection."""

    UNKNOWN_OP = "unknown-op"
    """This helper has no such operation. The helper closes the connection."""

    REFUSED = "refused"
    """The policy does not allow the caller to do this, or it belongs to somebody else."""

    QUOTA = "quota"
    """The caller, or all users together, already hold as much as the policy allows."""

    BUSY = "busy"
    """Too many requests at this moment, or the tap to be deleted is in use; try again later."""

    UNKNOWN_OBJECT = "unknown-object"
    """No trusted QEMU carries an object with this digest, or it lacks the shape of its id."""

    NO_SUCH_BRIDGE = "no-such-bridge"
    """There is no bridge or network of this name, or the name is not valid."""

    UNSUPPORTED = "unsupported"
    """This kernel or this libbpf certainly cannot do it."""

    FAILED = "failed"
    """It was tried and failed; the message says how."""


class WireError(Exception):
    """Root of everything that this package raises about a packet."""


class BadMessage(WireError):  # noqa: N818 - an adjective and a noun say it all
    """The bytes are not a message of this protocol.

    Attributes:
        code: what to answer with.
    """

    def __init__(self, message: str, code: Code = Code.BAD_REQUEST) -> None:
        super().__init__(message)
        self.code = code


class PacketTruncated(WireError):  # noqa: N818
    """The kernel truncated the packet (MSG_TRUNC) or its ancillary data (MSG_CTRUNC)."""


class PeerClosed(WireError):  # noqa: N818
    """The other side closed the connection before a packet came."""
