# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry run of a VM whose name a running VM of the same user has."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bpferry.cli.main import main
from tests.client import fake_helper as fake
from tests.client.running import BASE, DISK, start, type_in
from tests.client.support import is_gone, wait_until

if TYPE_CHECKING:
    from bpferry_wire.messages import Request

pytestmark = pytest.mark.qemu

CARD = '[[cards]]\nbridge = "br0"\n'
TEN = 10
WITHOUT_SETPRIV = (
    "unshare", "--mount", "sh", "-c",
    'mount --bind /dev/null "$(readlink -f /usr/bin/setpriv)" && exec "$@"', "sh",
)  # fmt: skip
"""A host where nothing ends QEMU when its parent is killed."""


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def own(folder: Path, name: str) -> Path:
    """Make a folder for one of several runs."""
    (folder / name).mkdir()
    return folder / name


def test_second_vm_of_a_name_is_refused(tmp_path: Path) -> None:
    """It is status 1, names the first one and the place, and no tap is made."""
    made: list[Request] = []
    with start(own(tmp_path, "1"), BASE + DISK) as first:
        assert first.says("hello")
        second_folder = own(tmp_path, "2")
        with (
            fake.helper(second_folder / "tap.sock", fake.permits(fake.keeps(made, fake.hangs_up))),
            start(second_folder, BASE + DISK + CARD, "--json") as second,
        ):
            assert second.status() == 1
            error = json.loads(second.out())["error"]
        type_in(first, b"q")

        assert first.status() == 0

    assert error["code"] == "name-taken"
    assert error["element"] == "name"
    assert error["message"].startswith(f"'{second_folder}/vm.toml':1: 'name': you already have")
    assert f"VM named 't' running: process {first.process.pid}, since" in error["message"]
    assert error["message"].endswith(f", from '{first.folder}/vm.toml'")
    assert not made


def test_a_taken_name_does_not_hide_a_missing_helper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run tells both and ends with 5, as a check does."""
    with start(own(tmp_path, "1"), BASE + DISK) as first:
        assert first.says("hello")
        folder = own(tmp_path, "2")
        with start(folder, BASE + DISK + CARD) as second:
            assert second.status() == 5
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BPFERRY_TAP_SOCKET", str(folder / "tap.sock"))
            assert main(["check", str(folder / "vm.toml")]) == 5
        type_in(first, b"q")
        assert first.status() == 0

    for told in (second.err(), capsys.readouterr().out):
        assert "vm.toml':1: 'name': you already have a VM named 't' running" in told
        assert "cards[0]" in told


def test_ten_at_once(tmp_path: Path) -> None:
    """Of ten that are started at the same time exactly one runs, and the others say which."""
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(start(own(tmp_path, str(number)), BASE + DISK))
            for number in range(TEN)
        ]
        assert wait_until(lambda: sum(run.process.poll() is None for run in runs) == 1, 60)
        (winner,) = [run for run in runs if run.process.poll() is None]
        assert winner.says("hello")
        type_in(winner, b"q")

        assert winner.status() == 0
        losers = [run for run in runs if run is not winner]
        assert [1] * (TEN - 1) == [run.status() for run in losers]
        assert all(f"running: process {winner.process.pid}, since" in run.err() for run in losers)


def test_next_start_after_a_kill(tmp_path: Path) -> None:
    """When bpferry is killed, the next one starts the VM at once, after the end of its QEMU."""
    for number in range(3):
        with start(own(tmp_path, str(number)), BASE + DISK) as run:
            assert run.says("hello"), run.err()
            qemu = run.qemu()
            run.process.kill()
        with start(own(tmp_path, f"next-{number}"), BASE + DISK) as following:
            assert following.says("hello"), following.err()
            assert is_gone(qemu)
            type_in(following, b"q")
            assert following.status() == 0


@pytest.mark.privileged
def test_name_is_taken_until_qemu_has_ended(tmp_path: Path) -> None:
    """A QEMU that outlives bpferry has the name; the next start goes on when it is gone."""
    with start(own(tmp_path, "1"), BASE + DISK, prefix=WITHOUT_SETPRIV) as run:
        assert run.says("hello"), run.err()
        qemu = run.qemu()
        run.process.kill()
        run.status()
    try:
        with start(own(tmp_path, "2"), BASE + DISK) as following:
            time.sleep(2)
            assert following.process.poll() is None
            assert "starts with" not in following.err()
            assert not is_gone(qemu)
            os.kill(qemu, signal.SIGKILL)

            assert following.says("hello"), following.err()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(qemu, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_next_start_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """A signal while a helper is awaited leaves nothing that is in the way of the next start."""
    came = tmp_path / "came"
    folder = own(tmp_path, "1")
    with (
        fake.helper(folder / "tap.sock", lambda _conn, _request: came.touch()),
        start(folder, BASE + DISK + CARD) as run,
    ):
        assert wait_until(came.exists)
        time.sleep(0.2)
        run.signal(number)
        assert run.status() == 128 + number

    assert [] == [*(tmp_path / "run").rglob("*.lock"), *(tmp_path / "state").rglob("*.lock")]
    _runs(own(tmp_path, "2"))


def _runs(folder: Path) -> None:
    with start(folder, BASE + DISK) as run:
        assert run.says("hello"), run.err()
        type_in(run, b"q")
        assert run.status() == 0


def test_vm_that_does_not_start_frees_its_name(tmp_path: Path) -> None:
    """A start that fails later leaves no lock behind."""
    with start(own(tmp_path, "1"), BASE + DISK + CARD) as run:
        assert run.status() == 5

    assert [] == [*(tmp_path / "run").rglob("*.lock"), *(tmp_path / "state").rglob("*.lock")]
    _runs(own(tmp_path, "2"))


def test_other_names_run_side_by_side(tmp_path: Path) -> None:
    """Two VMs with two names are in nobody's way."""
    with (
        start(own(tmp_path, "1"), BASE + DISK) as one,
        start(own(tmp_path, "2"), BASE.replace('"t"', '"u"') + DISK) as other,
    ):
        assert one.says("hello")
        assert other.says("hello"), other.err()


def test_check_and_dry_run_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both tell of the VM that runs, as a start would, and change nothing for it."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        path = str(tmp_path / "vm.toml")
        assert main(["check", "--json", path]) == 1
        faults = json.loads(capsys.readouterr().out)["findings"]
        assert main(["run", "--dry-run=json", path]) == 0
        (told,) = json.loads(capsys.readouterr().out)["errors"]
        type_in(run, b"q")
        assert run.status() == 0

    words = f"you already have a VM named 't' running: process {run.process.pid}, since"
    (fault,) = [fault for fault in faults if fault["place"] == "name"]
    assert fault["severity"] == "error"
    assert words in fault["message"]
    assert "bpferry stop t" in fault["hint"]
    assert told["message"] == fault["message"]
    assert main(["check", "--json", path]) == 0
    assert "you already have a VM" not in capsys.readouterr().out
