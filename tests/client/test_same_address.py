# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs with one MAC address on one bridge, with a real QEMU and the real tap helper."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.cli.main import main
from tests import requires
from tests.client.running import BASE, DISK, Run, start
from tests.support.tap_process import TapProcess, running_tap_helper

pytestmark = [pytest.mark.privileged, pytest.mark.qemu]

POLICY = """
[users.0]
bridges = ["*"]
[quota]
taps-at-once = 1000
"""
CARD = '[[cards]]\nbridge = "br0"\nqueues = 4\nrss = false\n'
MAC = 'mac = "52:54:00:01:02:03"\n'
TIMES = 5


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield the real helper, which lets root have taps."""
    requires.root()
    with running_tap_helper(POLICY) as helper:
        yield helper


@contextlib.contextmanager
def started(helper: TapProcess, folder: Path, text: str, *options: str) -> Iterator[Run]:
    """Run the VM of *text*, in a folder that is made for it, with *helper*."""
    folder.mkdir()
    (folder / "tap.sock").symlink_to(helper.path)
    with start(folder, text, *options) as run:
        yield run


def test_other_vm_with_the_same_address_is_refused(helper: TapProcess, tmp_path: Path) -> None:
    """Two descriptions of which one is a copy: the second is refused, with its place."""
    copy = BASE.replace('"t"', '"copy"') + DISK + CARD + MAC
    with started(helper, tmp_path / "1", BASE + DISK + CARD + MAC) as first:
        assert first.says("hello"), first.err()
        (tap,) = [tap.name for tap in helper.granted_taps()]
        with started(helper, tmp_path / "2", copy, "--json") as second:
            assert second.status() == 4
            error = json.loads(second.out())["error"]

    assert ("refused", "cards[0]") == (error["code"], error["element"])
    assert f"for '52:54:00:01:02:03': your own tap '{tap}' (VM 't') there" in error["message"]


def test_a_vm_that_runs_is_not_refused_by_its_own_tap(
    helper: TapProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name is taken, which is status 1; no policy denies anything, and nobody is to be asked.

    A bridge that the running VM is not on is asked about all the same.
    """
    text = BASE + DISK + CARD
    with started(helper, tmp_path / "1", text) as first:
        assert first.says("hello"), first.err()
        with started(helper, tmp_path / "2", text) as again:
            assert again.status() == 1
        with started(helper, tmp_path / "3", text + '[[cards]]\nbridge = "br7"\n') as other:
            assert other.status() == 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BPFERRY_TAP_SOCKET", str(helper.path))
            assert main(["check", str(tmp_path / "2/vm.toml")]) == 1

    for told in (again.err(), capsys.readouterr().out):
        assert "'name': you already have a VM named 't' running" in told
        assert "own tap" not in told
        assert "administrator" not in told
    assert "'br7'" in other.err()


@pytest.mark.parametrize("lock", ["true", "false"])
def test_a_vm_that_runs_is_not_refused_where_policy_names_its_one_address(
    tmp_path: Path, lock: str
) -> None:
    """Of another address, policy would say no for a reason that has nothing to do with this one.

    And a card with an address that policy does not name is refused all the same.
    """
    policy = f'addresses = ["52:54:00:01:02:03"]\naddress-lock = {lock}\n[quota]'
    text = BASE + DISK + CARD
    with (
        running_tap_helper(POLICY.replace("[quota]", policy)) as helper,
        started(helper, tmp_path / "1", text + MAC) as first,
    ):
        assert first.says("hello"), first.err()
        with started(helper, tmp_path / "2", text + MAC) as again:
            assert again.status() == 1
        with started(helper, tmp_path / "3", text + MAC.replace("03", "09")) as denied:
            assert denied.status() == 4

    assert "'name': you already have a VM named 't' running" in again.err()
    assert "helper" not in again.err()
    assert "for cards, not '52:54:00:01:02:09'" in denied.err(), denied.err()


def test_a_check_says_what_to_do_about_an_address_in_use(
    helper: TapProcess,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of another VM. It is the address that is in the way, and no administrator."""
    copy = tmp_path / "copy.toml"
    copy.write_text(BASE.replace('"t"', '"copy"') + CARD + MAC)
    with started(helper, tmp_path / "1", BASE + DISK + CARD + MAC) as first:
        assert first.says("hello"), first.err()
        monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(helper.path))
        assert main(["check", "--json", str(copy)]) == 4
    (told,) = [
        one for one in json.loads(capsys.readouterr().out)["findings"] if one["severity"] == "error"
    ]

    assert "is for a card with that address" in told["message"]
    assert told["hint"].startswith("give the card another MAC address")


def test_vms_that_name_no_address_run_side_by_side(helper: TapProcess, tmp_path: Path) -> None:
    """Each has one of its own, which the bridge's other VMs do not have."""
    with (
        started(helper, tmp_path / "1", BASE + DISK + CARD) as one,
        started(helper, tmp_path / "2", BASE.replace('"t"', '"u"') + DISK + CARD) as other,
    ):
        assert one.says("hello"), one.err()
        assert other.says("hello"), other.err()
        aliases = {tap.alias.rpartition(" mac=")[2] for tap in helper.granted_taps()}

    assert len(aliases) == 2


def test_vm_that_was_killed_starts_again(helper: TapProcess, tmp_path: Path) -> None:
    """Its own tap is not in its way: what was left of it is waited for."""
    for number in range(TIMES):
        with started(helper, tmp_path / str(number), BASE + DISK + CARD) as run:
            assert run.says("hello"), run.err()
            run.process.kill()
    with started(helper, tmp_path / "last", BASE + DISK + CARD) as run:
        assert run.says("hello"), run.err()
