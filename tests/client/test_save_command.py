# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bpferry save says of a VM that ends while it is saved."""

from pathlib import Path
from typing import Self

import pytest

from bpferry.cli import save
from bpferry.errors import BpferryError, NotRunning


class Ending:
    """A connection to a VM that takes the request and ends."""

    vm_name = "t"

    def __init__(self, written: Path | None = None) -> None:
        self._written = written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, _op: str, **_fields: object) -> dict[str, object]:
        """Answer yes."""
        return {}

    def wait_for_end(self, _seconds: float) -> bool:
        """End, with the file or without it."""
        if self._written is not None:
            part = self._written.with_name("part")
            part.write_text("new")
            part.rename(self._written)
        return True


def test_the_file_that_was_to_be_replaced_is_not_taken_for_the_saved_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU may crash, or be ended by another command, while --force replaces an older file."""
    file = tmp_path / "saved"
    file.write_text("old")
    monkeypatch.setattr(save, "connect_patiently", lambda _name: Ending())
    with pytest.raises(BpferryError, match="was not saved"):
        save.save("t", str(file), replace=True, as_json=False)


def test_a_file_that_was_replaced_is_the_saved_vm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the same name, and is another file."""
    file = tmp_path / "saved"
    file.write_text("old")
    monkeypatch.setattr(save, "connect_patiently", lambda _name: Ending(file))
    assert save.save("t", str(file), replace=True, as_json=False) == 0
    assert capsys.readouterr().out == f"'t' is saved in '{file}'\n"


class Failing(Ending):
    """A connection to a VM whose file could not be completed at the very end."""

    def ask(self, _op: str, **_fields: object) -> dict[str, object]:
        """Say so to who asks how far it is."""
        return {"end": "the VM is saved, but", "hint": "rename it"} if _op == "saving" else {}

    def wait_for_end(self, _seconds: float) -> bool:
        """Wait until it was told."""
        return False


def test_what_fails_at_the_very_end_is_an_error_for_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the VM's own words, and what to do."""
    monkeypatch.setattr(save, "connect_patiently", lambda _name: Failing())
    with pytest.raises(BpferryError, match=r"^the VM is saved, but$") as caught:
        save.save("t", str(tmp_path / "saved"), replace=False, as_json=False)
    assert caught.value.hint == "rename it"


class Interrupted(Ending):
    """A connection to a VM whose user presses Ctrl-C at once."""

    def ask(self, _op: str, **_fields: object) -> dict[str, object]:
        """Be interrupted."""
        raise KeyboardInterrupt


def test_a_cancellation_that_comes_too_late_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is still an interruption."""

    def find_none(_name: str) -> None:
        raise NotRunning("no VM 't' of yours is running")

    monkeypatch.setattr(save, "connect_patiently", lambda _name: Interrupted())
    monkeypatch.setattr(save, "connect", find_none)
    with pytest.raises(KeyboardInterrupt):
        save.save("t", str(tmp_path / "saved"), replace=False, as_json=False)
    told = "that may be too late: no VM 't' of yours is running; see whether the file is there"
    assert told in capsys.readouterr().err
