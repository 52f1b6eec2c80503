# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C programs in this folder: build them, and ask them line by line for times."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import BenchError, ending, run

FOLDER = Path(__file__).parent
HINT = "apt-get install gcc libc6-dev libbpf-dev"


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A running program that measures, and its name. Borrows *process*."""

    name: str
    process: subprocess.Popen[str]

    def ask_ns(self, number: int) -> list[int]:
        """Send *number* to the program, and return the nanoseconds that it answers with."""
        assert self.process.stdin is not None  # noqa: S101 - made with PIPE below
        assert self.process.stdout is not None  # noqa: S101 - made with PIPE below
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        answer = self.process.stdout.readline().split()
        if not answer:
            raise self._ended()
        return [int(word) for word in answer]

    def _ended(self) -> BenchError:
        if self.process.stdin is not None:
            # What it has not read is still to be written, and would fail once more.
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        # Its messages are on our standard error already.
        return BenchError(f"'{self.name}' ended with status {self.process.wait()}")


def build(name: str, folder: Path, libraries: Sequence[str] = ()) -> Path:
    """Compile *name*.c into *folder* and return the program."""
    program = folder / name
    options = ["-std=gnu17", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-pthread"]
    linked = [f"-l{library}" for library in libraries]
    run(["gcc", *options, "-o", str(program), str(FOLDER / f"{name}.c"), *linked], HINT)
    return program


@contextmanager
def started(program: Path, argument: Path) -> Iterator[Yardstick]:
    """Start *program* with *argument*, and end it afterwards."""
    with started_by([str(program), str(argument)], program.name) as yardstick:
        yield yardstick


@contextmanager
def started_by(argv: Sequence[str], name: str, pass_fds: Sequence[int] = ()) -> Iterator[Yardstick]:
    """Start *argv*, which is called *name* in errors and inherits *pass_fds*; end it afterwards."""
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, text=True, process_group=0, pass_fds=pass_fds
        ) as process,
        ending(process),
    ):
        yield Yardstick(name, process)
