# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the names of bridges and networks may look like: an allow-list, checked before all else.

The kernel truncates a longer name to 15 bytes, fills in "%d", and invents a name for an empty one.
If an access list sees the name before that and the kernel after it, the two mean different bridges
(CVE-2019-13164). A name that passes here is the kernel's name, byte for byte.

The kernel allows more: anything but white space, "/" and ":" (dev_valid_name, net/core/dev.c). A
bridge with such a name cannot be used with bpferry.
"""

import re
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code
from bpferry_wire.limits import MAX_INTERFACE_BYTES, MAX_NETWORK_BYTES

BRIDGE: Final = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.-]{0,%d}" % (MAX_INTERFACE_BYTES - 1))
"""Neither "." nor ".." matches, since the first character is not a dot."""

PATTERN: Final = re.compile(r"(?:[A-Za-z0-9_.*?-]|\[[A-Za-z0-9_.-]+\])+")
"""Wildcards as in fnmatch, but without "[!": a pattern says what is meant, not what is not."""

WILDCARDS: Final = "*?["

MAX_PATTERN_CHARS: Final = 64
"""Longer than a name, since a set such as "[0-9a-f]" matches one character."""


def is_bridge_name(name: str) -> bool:
    """Return whether *name* can be the name of a bridge."""
    # What UTF-8 cannot encode becomes a backslash, which is not allowed.
    return BRIDGE.fullmatch(name.encode(errors="backslashreplace")) is not None


def check_bridge_name(name: str) -> None:
    """Raise unless *name* can be the name of a bridge. Call it before anything else uses the name.

    Raises:
        RequestError: no-such-bridge; the message shows *name* in ASCII.
    """
    if not is_bridge_name(name):
        raise RequestError(
            Code.NO_SUCH_BRIDGE,
            f"no bridge can have the name {_shown(name)}",
            f"a name has 1 to {MAX_INTERFACE_BYTES} of the characters A-Z a-z 0-9 _ . - and begins "
            "neither with . nor with -",
        )


def is_network_name(name: str) -> bool:
    """Return whether *name* can be the name of a network: NAME or NAME/GROUP, in any language."""
    if not name.isprintable():
        return False
    return 1 <= len(name.encode()) <= MAX_NETWORK_BYTES


def check_network_name(name: str) -> None:
    """Raise unless *name* can be the name of a network.

    Raises:
        RequestError: no-such-bridge.
    """
    if not is_network_name(name):
        raise RequestError(
            Code.NO_SUCH_BRIDGE,
            f"no network can have the name {_shown(name)}",
            f"a name has 1 to {MAX_NETWORK_BYTES} bytes, all of them printable",
        )


def has_wildcards(pattern: str) -> bool:
    """Return whether *pattern* may match more than one name."""
    return any(wildcard in pattern for wildcard in WILDCARDS)


def is_bridge_pattern(pattern: str) -> bool:
    """Return whether *pattern* is a bridge's name, or a pattern that can match one."""
    if not has_wildcards(pattern):
        return is_bridge_name(pattern)
    return len(pattern) <= MAX_PATTERN_CHARS and PATTERN.fullmatch(pattern) is not None


def _shown(name: str) -> str:
    """Return *name* in quotes, in ASCII, and shortened if it is long."""
    return ascii(name[: 2 * MAX_NETWORK_BYTES])
