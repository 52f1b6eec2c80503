# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command, its options, its exit status.

This module and what it imports load fast, so that a help text comes at once (``runners``).
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

from bpferry.cli import output
from bpferry.cli.msgspec_import import import_msgspec
from bpferry.cli.runners import RUNNERS
from bpferry.cli.stand_ins import import_pathlib
from bpferry.errors import BpferryError

if TYPE_CHECKING:
    from bpferry.cli.parser import Parser

WITHOUT_MSGSPEC: Final = ("exec", "list", "tap", "varlink")
"""Commands that do not need it, or not always, and should not take the time to import it."""

PACKAGES: Final[Mapping[str, str]] = {
    "defusedxml": "defusedxml",
    "msgpack": "msgpack",
    "msgspec": "msgspec",
    "qemu": "qemu.qmp",
    "tomli_w": "tomli-w",
}
"""What commands import that Python does not have by itself, to the package's name."""


class Interrupted(KeyboardInterrupt):
    """A signal asks us to end before a VM runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stopped(BpferryError):  # noqa: N818 - it is no fault
    """What a program is told when a signal ended us."""

    code = "interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (sys.argv) ask for, and return the exit status."""
    _fill_standard_fds()
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, command_line = _cut(given) if given[:1] == ["exec"] else (given, [])
    words = _separate_dry_run(given)
    as_json = "--json" in words or "--dry-run=json" in words
    with _signals():
        try:
            # It may have had to wait until now (__main__).
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
            options = _parser(words).parse_args(words)
            options.command_line = command_line
            return _run(options)
        except BpferryError as error:
            output.print_error(error, as_json=as_json)
            return error.status
        except KeyboardInterrupt as interrupt:
            number = getattr(interrupt, "number", signal.SIGINT)
            name = signal.Signals(number).name
            output.print_error(Stopped(f"stopped by {name}"), as_json=as_json)
            return 128 + int(number)
        except ModuleNotFoundError as error:
            failure = _missing(error)
            output.print_error(failure, as_json=as_json)
            return failure.status
        except BrokenPipeError:
            # The reader of our standard output has left; there is nobody to tell.
            sys.stdout = None
            return 1
        except OSError as error:
            # Such as too many open files. Errors with better messages are raised where they happen.
            failure = BpferryError(f"cannot continue: {error}")
            output.print_error(failure, as_json=as_json)
            return failure.status
        finally:
            output.forget_unread()


def _parser(words: Sequence[str]) -> "Parser":
    """Return what reads *words*; of a command that is to be fast, the parser of that alone."""
    from bpferry.cli.parser import parser_of  # noqa: PLC0415 - not before signals are heeded

    command = next(iter(words), "")
    if command == "exec":
        from bpferry.cli.exec_options import add_exec  # noqa: PLC0415

        return parser_of(add_exec)
    from bpferry.cli.often import OFTEN  # noqa: PLC0415

    if command in OFTEN:
        return parser_of(OFTEN[command])
    from bpferry.cli.options import build_parser  # noqa: PLC0415

    return build_parser()


def _missing(error: ModuleNotFoundError) -> BpferryError:
    """Return what to tell about a package that is not there; a module of ours is a bug."""
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        raise error
    what = f"Python's package '{PACKAGES[package]}' is not installed for {sys.executable}"
    return BpferryError(what, "install what the client needs: pip install 'bpferry[client]'")


def varlink() -> int:
    """Run ``bpferry varlink``: a varlink address cannot have words after the program."""
    return main(["varlink"])


def _fill_standard_fds() -> None:
    """Open /dev/null in place of a closed standard stream.

    Otherwise a socket of ours would get its number, and the child's own streams would replace it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one


def _cut(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what is before the first ``--``, and what is after it: another program's own words."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _separate_dry_run(words: Sequence[str]) -> list[str]:
    """Expand a bare ``--dry-run``, since argparse would take the next word for its value."""
    return ["--dry-run=text" if word == "--dry-run" else word for word in words]


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as SIGINT does, so that nothing is left behind."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace) -> int:
    import_pathlib()
    if options.command not in WITHOUT_MSGSPEC:
        import_msgspec()
    return RUNNERS[options.command](options)
