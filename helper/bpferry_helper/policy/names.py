# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the names of bridges and networks may look like: an allow-list, and the first check of all.

The kernel takes the first 15 bytes of a longer name, fills "%d" in, and invents a name for an empty
one. Where a list of permissions sees the name before that and the kernel after it, the two speak of
different bridges (CVE-2019-13164). A name that passes here is the kernel's, byte for byte.

The kernel would allow more: all but white space, "/" and ":" (dev_valid_name, net/core/dev.c). Such
a bridge cannot be used with bpferry.
"""

import re
from typing import Final

from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code
from bpferry_wire.limits import MAX_INTERFACE_BYTES, MAX_NETWORK_BYTES

BRIDGE: Final = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.-]{0,%d}" % (MAX_INTERFACE_BYTES - 1))
"""Neither "." nor ".." fits, since the first character is no dot."""

PATTERN: Final = re.compile(r"(?:[A-Za-z0-9_.*?-]|\[[A-Za-z0-9_.-]+\])+")
"""Wildcards as in fnmatch, without "[!": what is meant to be left out is better not let in."""

WILDCARDS: Final = "*?["

MAX_PATTERN_CHARS: Final = 64
"""Room for some sets of characters; each stands for one."""


def is_bridge_name(name: str) -> bool:
    """Say whether *name* can be the name of a bridge."""
    # What has no UTF-8 becomes a backslash, which is not on the list.
    return BRIDGE.fullmatch(name.encode(errors="backslashreplace")) is not None


def check_bridge_name(name: str) -> None:
    """Raise unless *name* can be the name of a bridge. To be called before anything else uses it.

    Raises:
        RequestError: no-such-bridge; the message has no byte of *name* that could be misread.
    """
    if not is_bridge_name(name):
        raise RequestError(
            Code.NO_SUCH_BRIDGE,
            f"no bridge can have the name {_shown(name)}",
            f"a name has 1 to {MAX_INTERFACE_BYTES} of the characters A-Z a-z 0-9 _ . - and begins "
            "neither with . nor with -",
        )


def is_network_name(name: str) -> bool:
    """Say whether *name* can be the name of a network: NAME or NAME/GROUP, in any language."""
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
    """Say whether *pattern* may fit more than one name."""
    return any(wildcard in pattern for wildcard in WILDCARDS)


def is_bridge_pattern(pattern: str) -> bool:
    """Say whether *pattern* is the name of a bridge, or fits some."""
    if not has_wildcards(pattern):
        return is_bridge_name(pattern)
    return len(pattern) <= MAX_PATTERN_CHARS and PATTERN.fullmatch(pattern) is not None


def _shown(name: str) -> str:
    """Return *name* in quotes and in ASCII, and not much of a long one."""
    return ascii(name[: 2 * MAX_NETWORK_BYTES])
