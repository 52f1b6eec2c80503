# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standard output and standard error.

Standard output has what was asked for: a command line, a table, one JSON object, the guest's
console. Everything else goes to standard error, so that a pipe gets only what was asked for.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from bpferry.errors import BpferryError, CompanionError, QemuError, Unsupported, harmless

if TYPE_CHECKING:
    from bpferry.commandline.parts import Endpoint
    from bpferry.steering.maps import Steering

PROGRAM: Final = "bpferry"


def _print(line: str) -> None:
    if sys.stderr is None:
        # It is closed. Standard output, to which print() would write then, is for other things.
        return
    try:
        print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - the place for it
    except (OSError, ValueError):
        # A reader that has left must not end a running VM.
        return


_SAYING: Final[list[Callable[[str], None]]] = [_print]
"""What says a line; the last of them does."""


def say(text: str) -> None:
    """Write one line on standard error, if anybody is there to read."""
    _SAYING[-1](f"{PROGRAM}: {harmless(text)}\n")


@contextlib.contextmanager
def saying_by(function: Callable[[str], None]) -> Iterator[None]:
    """Have everything that is said in the block said by *function*, a line with its end each."""
    _SAYING.append(function)
    try:
        yield
    finally:
        _SAYING.remove(function)


def fall_silent() -> None:
    """Say no more: the reader of standard error does not read it."""
    _SAYING.append(lambda _line: None)


def forget_unread() -> None:
    """Drop what nobody will read any more, on a terminal or a pipe that was closed.

    Otherwise the interpreter would try to write it at its end, and fail with a status of its own.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            setattr(sys, name, None)


def print_text(text: str) -> None:
    """Write *text* on standard output.

    Raises:
        BpferryError: there is no room for it, or it cannot be written for another reason.
    """
    if sys.stdout is None:
        raise BpferryError("cannot write to standard output: it is closed")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except UnicodeEncodeError as error:
        raise BpferryError(
            f"cannot write {error.object[error.start]!a} to standard output: your locale's "
            f"encoding, {sys.stdout.encoding}, does not have it",
            "choose a locale with UTF-8, such as LC_ALL=C.UTF-8",
        ) from error
    except OSError as error:
        # Otherwise the interpreter would try once more at its end, and fail in its own words.
        sys.stdout = None
        raise BpferryError(f"cannot write to standard output: {error.strerror}") from error


def print_json(value: dict[str, object]) -> None:
    """Write *value* as the one JSON object on standard output."""
    print_text(json.dumps(value, indent=2))


def count(number: int, thing: str) -> str:
    """Return *number* with its *thing*, in the plural unless there is one."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def bar_character() -> str:
    """Return what bars are drawn with: a full block, where standard output can show one."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return "█" if encoding.lower().startswith("utf") else "#"


def print_error(error: BpferryError, *, as_json: bool) -> None:
    """Tell the user about *error*, and the program that reads us if there is one.

    If standard output cannot be written, people are told.
    """
    if as_json and sys.stdout is not None:
        try:
            print_json({"error": error_fields(error)})
        except BrokenPipeError:
            # The program that reads us has left; Python would try once more at its end.
            sys.stdout = None
        return
    for one in (error, *error.others):
        say(f"error: {one.message}")
        if one.hint:
            say(f"hint: {one.hint}")


def error_fields(error: BpferryError) -> dict[str, object]:
    """Return what programs are told about *error*, and about what else is wrong."""
    told = fields_of(error)
    if not error.others and not isinstance(error, Unsupported):
        return told
    return {**told, "others": [fields_of(one) for one in error.others]}


def fields_of(error: BpferryError) -> dict[str, object]:
    """Return what programs are told about *error* alone."""
    said = error.evidence if isinstance(error, QemuError | CompanionError) else ""
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "element": error.element,
        **({"evidence": said} if said else {}),
    }


class StderrReporter:
    """Reports to people, on standard error; steps in progress only if a person waits."""

    def __init__(self) -> None:
        self._interactive = sys.stderr is not None and sys.stderr.isatty()

    def progress(self, text: str) -> None:
        """Say what is about to be done, if somebody is watching."""
        if self._interactive:
            say(f"{text} ...")

    def note(self, text: str) -> None:
        """Say something that the user should know."""
        say(text)

    def warn(self, text: str, hint: str = "") -> None:
        """Say in one line that something is less than the user asked for."""
        say(f"warning: {text}" + (f" (hint: {hint})" if hint else ""))

    def qemu_said(self, line: str) -> None:
        """Pass on one line from QEMU."""
        say(f"qemu: {line}")

    def steering_changed(self, card_id: str, steering: "Steering") -> None:
        """Say nothing: the sentence about it comes as a note."""

    def reachable(self, endpoint: "Endpoint") -> None:
        """Say nothing: the sentence about it comes as a note."""
