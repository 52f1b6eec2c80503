# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong, by the exit status that it leads to.

BpferryError            1  root of this package: tried and failed
+-- BadInput            2  the command line or the description is wrong, or cannot be read
+-- Unsupported         3  asks for what this bpferry or this QEMU certainly cannot do
|   +-- Mistaken          2  no VM can be like this: values that contradict each other or the format
+-- Refused             4  policy does not allow it
|   +-- NotMember       4  only members of a group may ask the helper
+-- NoHelper            5  no helper answers at its socket
+-- NotReady            1  something on this host is in the way of the VM
+-- NameTaken           1  a VM of this name and user runs already
+-- NotRunning          1  no VM of this name runs, or it does not answer
+-- NoManager           1  no systemd of the user's that could start a VM
+-- HelperError         1  the helper answered, and the answer is a failure or invalid
+-- QemuError           1  QEMU did not do what it was started for; carries its own words
|   +-- NoProgram         1  what should be started as QEMU is not there, or is no program
+-- TapError            1  the tap's queues could not be opened
+-- CompanionError      1  a process beside QEMU did not serve; carries its own words

A message is lower case: what was tried, the object in single quotes, a colon, the cause. What the
reader can do about it is in the hint.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, TypeVar

from bpferry_wire.errors import Code

E = TypeVar("E", bound="BpferryError")


class BpferryError(Exception):
    """Root of everything that this package raises on purpose.

    Attributes:
        message: one line.
        hint: what the user or the administrator can do; may be empty.
        element: which part of the description it is about, such as ``cards[0].tap``; None if it
            is not about one.
        code: one word for programs.
        others: what else is wrong, so that a user learns of everything at once.
    """

    status: ClassVar[int] = 1
    code: str = "failed"
    others: "tuple[BpferryError, ...]" = ()

    def __init__(self, message: str, hint: str = "", element: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.element = element


class BadInput(BpferryError):  # noqa: N818 - as in the wire: the words say it
    """The command line or the description is wrong."""

    status = 2
    code = "bad-input"


class Unsupported(BpferryError):  # noqa: N818
    """Something is asked for that certainly cannot be done here.

    Attributes:
        whole: what cannot exist without it, and is left out together with it; may be empty.
        line: of the description; 0 if it is not known.
        instead: what is used if it is left out, if that is not plain; may be empty.
    """

    status = 3
    code = "unsupported"
    others: "tuple[Unsupported, ...]" = ()

    def __init__(
        self,
        message: str,
        hint: str = "",
        element: str | None = None,
        others: "tuple[Unsupported, ...]" = (),
        *,
        whole: str = "",
        line: int = 0,
    ) -> None:
        super().__init__(message, hint, element)
        self.others = others
        self.whole = whole
        self.line = line
        self.instead = ""

    def taking(self, whole: str) -> "Unsupported":
        """Return the same error with what is left out together with it."""
        import copy  # noqa: PLC0415 - for descriptions alone, and slow to import

        told = copy.copy(self)
        told.whole, told.others = whole, ()
        return told

    def when_left_out(self) -> str:
        """Return what the user is told if it is left out, as the user allowed."""
        instead = f"; '{self.instead}' is used in its place" if self.instead else ""
        goes = f"; all of '{self.whole}' is left out with it" if self.whole else ""
        return f"left out: {self.message}{goes}{instead}"


class Mistaken(Unsupported):
    """The description contradicts itself, or has a value that is not possible with the others.

    Like what is not supported, it is found while the VM is built, and can be left out.
    """

    status = 2
    code = "bad-input"


WEIGHTS: Final = (3, 2, 5, 4, 1)
"""Exit statuses: of several errors, the one whose status comes first here decides."""


def by_weight(errors: Iterable[E]) -> tuple[E, ...]:
    """Return *errors* with those first that decide the exit status; equals keep their order."""
    return tuple(sorted(errors, key=lambda error: WEIGHTS.index(error.status)))


def in_order(errors: Iterable[Unsupported]) -> tuple[Unsupported, ...]:
    """Return *errors* about one description in the order of its lines."""
    return tuple(sorted(errors, key=lambda error: error.line))


def all_in_one(errors: Sequence[E]) -> E:
    """Return the first of *errors* with the rest of them as its others."""
    import copy  # noqa: PLC0415 - as above

    first, *others = errors
    told = copy.copy(first)
    told.others = tuple(others)
    return told


class Refused(BpferryError):  # noqa: N818
    """The helper's policy says no."""

    status = 4
    code = "refused"


class NotMember(Refused):
    """The helper's socket is for a group that this process is not in."""

    code = "not-in-group"


class NoHelper(BpferryError):  # noqa: N818
    """Nobody answers at the helper's socket."""

    status = 5
    code = "no-helper"


class NotReady(BpferryError):  # noqa: N818
    """Something on this host is in the way of the VM: a lock, a port, a limit."""

    code = "not-ready"


class NoManager(BpferryError):  # noqa: N818 - as above
    """There is no systemd of this user that could start a VM."""

    code = "no-service-manager"


class NameTaken(BpferryError):  # noqa: N818
    """A VM of this name and user runs already."""

    code = "name-taken"


class NotRunning(BpferryError):  # noqa: N818
    """No VM of this name and user runs, or it does not answer."""

    code = "not-running"


class HelperError(BpferryError):
    """The helper failed, or what it sent is not what it should be."""

    code = "helper"


class QemuError(BpferryError):
    """QEMU failed.

    Attributes:
        evidence: the end of what QEMU wrote on its standard error; may be empty.
    """

    code = "qemu"

    def __init__(self, message: str, hint: str = "", evidence: str = "") -> None:
        super().__init__(message, hint)
        self.evidence = evidence


class NoProgram(QemuError):  # noqa: N818
    """What should be started as QEMU is not there, or cannot be started at all."""


class TapError(BpferryError):
    """A queue of the tap could not be opened."""

    code = "tap"


class CompanionError(BpferryError):
    """A process that has to run beside QEMU, such as swtpm, did not do what it was started for.

    Attributes:
        evidence: the end of what it wrote; may be empty.
    """

    code = "companion"

    def __init__(self, message: str, hint: str = "", element: str = "", evidence: str = "") -> None:
        super().__init__(message, hint, element or None)
        self.evidence = evidence


def harmless(text: str, kept: str = "\n\t") -> str:
    """Return *text* with codes for all that a terminal would not show, but for what is *kept*.

    QEMU, a guest or another host may have chosen it.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in kept else one.encode("unicode_escape").decode()
        for one in text
    )


OF_HELPERS: Final[dict[str, type[BpferryError]]] = {
    Code.REFUSED: Refused,
    Code.QUOTA: Refused,
    Code.UNKNOWN_OBJECT: Refused,
    Code.NO_SUCH_BRIDGE: NotReady,
    Code.UNSUPPORTED: Unsupported,
}
"""These codes of a helper are decisions of the policy. A missing bridge is not a refusal, and every
other code is a failure."""
