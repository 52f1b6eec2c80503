# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that is not installed is found before QEMU starts, with its package."""

from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Companion, Step
from bpferry.machine import companions
from bpferry.machine.companions import start_companions
from bpferry.machine.programs import find_dispensable_programs, find_missing_programs
from tests.client.support import Record


def swtpm(*steps: Step, program: str = "sh") -> Built:
    """Return a command line with a TPM."""
    argv = (program, "socket")
    return Built((), (Companion("swtpm", argv, "/s", "tpms[0]", "swtpm", steps=steps),), ())


def missing(built: Built) -> list[tuple[str | None, str, str]]:
    """Return element, message and hint of each program that the VM cannot do without."""
    return [(one.element, one.message, one.hint) for one in find_missing_programs(built)]


def test_program_that_is_not_installed() -> None:
    """Its package is named, and its place."""
    assert missing(swtpm(program="no-such-swtpm")) == [
        (
            "tpms[0]",
            "cannot start 'no-such-swtpm': it is not installed",
            "install it; Debian's package is 'swtpm'",
        )
    ]


def test_program_that_is_installed() -> None:
    """Nothing is said."""
    assert [] == missing(swtpm(Step(("sh", "x"))))


@pytest.mark.parametrize("without", ["", "the new TPM has no certificates"])
def test_program_of_a_step(without: str, tmp_path: Path) -> None:
    """What a step needs is told once; it is a warning where the VM can do without."""
    steps = [Step(("no-such", word), str(tmp_path), without, "swtpm-tools") for word in "ab"]
    built = swtpm(*steps)

    hints = [hint for _, _, hint in missing(built)]
    doubts = [
        (one.key, one.message, one.cause, one.fix) for one in find_dispensable_programs(built)
    ]

    package = "install it; Debian's package is 'swtpm-tools'"
    assert hints == ([] if without else [package])
    assert doubts == (
        [("tpms[0]", without, "'no-such' is not installed", package)] if without else []
    )


def test_step_that_a_former_run_has_done(tmp_path: Path) -> None:
    """What is made once needs its program once."""
    (tmp_path / "state").touch()
    (tmp_path / ".lock").touch()

    assert [] == missing(swtpm(Step(("no-such",), str(tmp_path))))


def test_places_of_such_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Virtiofsd is in libexec, where no PATH leads."""
    (tmp_path / "virtiofsd").write_text("#!/bin/sh\n", encoding="ascii")
    (tmp_path / "virtiofsd").chmod(0o755)
    monkeypatch.setattr(companions, "LIBEXEC", (str(tmp_path),))

    assert [] == missing(swtpm(program="virtiofsd"))


def test_missing_optional_program_is_not_told_again_at_the_start(
    tmp_path: Path, record: Record
) -> None:
    """The finding with its place is enough; the companion starts without the step."""
    step = Step(("no-such", "x"), str(tmp_path), "no certificates", "swtpm-tools")
    sleeper = Companion("sleep", ("sleep", "60"), "", "tpms[0]", "x", steps=(step, step))

    assert [*find_dispensable_programs(Built((), (sleeper,), ()))]
    with start_companions((sleeper,), record):
        pass

    assert [] == [text for kind, text in record.all if kind == "warning"]
