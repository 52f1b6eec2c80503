# SPDX-License-Identifier: LGPL-2.1-or-later
"""/etc/qemu/bridge.conf, in which qemu-bridge-helper looks up the bridges that everybody may use.

    # a comment, or an empty line
    allow NAME                      or: allow all
    deny NAME                       or: deny all
    include /path/of/another/file

Grammar and precedence are QEMU's (qemu-bridge-helper.c, QEMU 10.0): white space before the verb and
after the argument is ignored; the verb ends at the line's first space, or at its first tab if there
is no space; a name has at most 15 bytes; there are no wildcards. A deny anywhere overrides any
allow, in any order; a bridge that no line allows is not allowed.

Stricter than QEMU, so that nothing is granted by accident:

 *  If there is an error, nobody is granted anything. That includes errors in included files, which
    QEMU skips. A missing file is not an error: it has no lines.
 *  Include paths are absolute, limited in depth and number, and must not form a loop.
 *  All these files must belong to root and be writable by nobody else.
 *  A name that no interface can have is an error. QEMU reads "deny br0 # why" as a name of 11 bytes
    and denies nothing.
 *  A line that is so long that QEMU would read it as two lines is an error.
"""

import os
import time
from typing import Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy.current import RETRY_S
from bpferry_helper.policy.file import Identity, file_identity, read_roots_file
from bpferry_helper.policy.rules import Decision
from bpferry_wire.limits import MAX_INTERFACE_BYTES

BRIDGE_CONF_PATH: Final = "/etc/qemu/bridge.conf"

SPACE: Final = b" \t\n\f\r"
"""As in g_ascii_isspace of GLib: without the vertical tab."""

IN_NO_NAME: Final = b" \t\n\v\f\r/:\0"
"""dev_valid_name (net/core/dev.c); NUL ends a name."""

MAX_LINE_BYTES: Final = 4095
"""With its newline: char line[4096] and fgets()."""

MAX_DEPTH: Final = 8
"""Includes within includes."""

MAX_FILES: Final = 32
"""In total. All are checked for changes before each decision."""

ALL: Final = "all"


class Entry(NamedTuple):
    """One line that allows or denies."""

    name: str
    """Of a bridge, or ALL."""
    where: str
    """File and line."""

    def is_about(self, bridge: str) -> bool:
        """Return whether it is about *bridge*."""
        return self.name in (ALL, bridge)


class BridgeConf(NamedTuple):
    """The content of the file and its includes, or the mistake in one of them."""

    path: str
    allows: tuple[Entry, ...] = ()
    denies: tuple[Entry, ...] = ()
    mistake: PolicyError | None = None
    seen: tuple[tuple[str, Identity], ...] = ()
    """Each file that was read, and its identity just before."""

    def decide(self, bridge: str) -> Decision | None:
        """Return whether *bridge* is open to everybody, by which line; None if no line decides."""
        if self.mistake is not None:
            return Decision(
                allowed=False,
                because=f"nothing is granted while there is a mistake: {self.mistake}",
            )
        for entries, allowed, verb in (
            (self.denies, False, "denies"),
            (self.allows, True, "allows"),
        ):
            entry = next((entry for entry in entries if entry.is_about(bridge)), None)
            if entry is not None:
                name = entry.name if entry.name == ALL else f"'{bridge}'"
                return Decision(allowed, f"{entry.where} {verb} {name}")
        return None


class BridgeConfFile:
    """The current content of the files: read again whenever one of them has changed."""

    def __init__(self, path: str = BRIDGE_CONF_PATH) -> None:
        """Watch *path* and its includes."""
        self._path = path
        self._read_at = 0.0
        self._answer: BridgeConf | None = None

    def current(self) -> BridgeConf:
        """Return what they say; a mistake is returned, not raised."""
        if self._answer is None or self._is_old(self._answer):
            self._read_at = time.monotonic()
            self._answer = read_bridge_conf(self._path)
        return self._answer

    def _is_old(self, answer: BridgeConf) -> bool:
        # A mistake may be gone by now: an fd is free again.
        if answer.mistake is not None and time.monotonic() - self._read_at >= RETRY_S:
            return True
        return any(file_identity(path) != seen for path, seen in answer.seen)


def read_bridge_conf(path: str) -> BridgeConf:
    """Read *path* and everything that it includes."""
    reader = _Reader()
    try:
        reader.read(path, ())
    except PolicyError as mistake:
        return BridgeConf(path, mistake=mistake, seen=tuple(reader.seen))
    return BridgeConf(path, tuple(reader.allows), tuple(reader.denies), seen=tuple(reader.seen))


class _Reader:
    """Collects the entries of one file and its includes."""

    def __init__(self) -> None:
        self.allows: list[Entry] = []
        self.denies: list[Entry] = []
        self.seen: list[tuple[str, Identity]] = []

    def read(self, path: str, above: tuple[str, ...]) -> None:
        """Read *path*, which the files *above* include, outermost first.

        Raises:
            PolicyError: with the line of the first mistake.
        """
        self.seen.append((path, file_identity(path)))
        try:
            raw = read_roots_file(path)
        except FileNotFoundError:
            if above:
                raise
            return
        except OSError as error:
            if above:
                raise
            raise PolicyError(path, 0, f"cannot be read: {error.strerror}") from error
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if len(line) >= MAX_LINE_BYTES:
                raise PolicyError(path, number, f"is longer than {MAX_LINE_BYTES} bytes")
            text = line.lstrip(SPACE)
            if text and not text.startswith(b"#"):
                self._take(path, number, text, above)

    def _take(self, path: str, number: int, text: bytes, above: tuple[str, ...]) -> None:
        verb, _, rest = text.partition(b" " if b" " in text else b"\t")
        argument = rest.strip(SPACE)
        if verb.rstrip(SPACE) in (b"allow", b"deny", b"include") and not argument:
            raise PolicyError(path, number, f"'{verb.decode().rstrip()}' lacks a name")
        match verb:
            case b"allow":
                self.allows.append(_entry(path, number, argument))
            case b"deny":
                self.denies.append(_entry(path, number, argument))
            case b"include":
                self._include(path, number, argument, above)
            case _:
                message = f"unknown {_shown(verb)}; there are 'allow', 'deny' and 'include'"
                raise PolicyError(path, number, message)

    def _include(self, path: str, number: int, argument: bytes, above: tuple[str, ...]) -> None:
        included = os.fsdecode(argument)
        chain = (*above, path)
        if not argument.startswith(b"/") or b"\0" in argument:
            problem = "it is not an absolute path"
        elif included in chain:
            problem = "it includes itself"
        elif len(chain) > MAX_DEPTH or len(self.seen) >= MAX_FILES:
            problem = f"at most {MAX_DEPTH} levels and {MAX_FILES} files are read"
        else:
            try:
                return self.read(included, chain)
            except OSError as error:
                problem = str(error.strerror)
        raise PolicyError(path, number, f"cannot include {_shown(argument)}: {problem}")


def _entry(path: str, number: int, name: bytes) -> Entry:
    if len(name) > MAX_INTERFACE_BYTES:
        message = f"{_shown(name)} is longer than {MAX_INTERFACE_BYTES} bytes"
        raise PolicyError(path, number, message)
    if name in (b".", b"..") or any(byte in IN_NO_NAME for byte in name):
        raise PolicyError(path, number, f"no interface can have the name {_shown(name)}")
    # Bytes outside ASCII become a backslash, which is in no name that we compare with.
    return Entry(name.decode("ascii", "backslashreplace"), f"{path}:{number}")


def _shown(raw: bytes) -> str:
    return ascii(raw.decode("ascii", "backslashreplace"))
