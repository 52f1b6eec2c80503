# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards on a bridge that are plugged into a real QEMU, with taps and sets of helpers of the tests'.

What QEMU and the supervisor hold is counted: whatever happens, nothing of a card may be left.
"""

import hashlib
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpferry.cli.main import main
from bpferry.qemu.probe import probe
from bpferry_wire.errors import Code
from bpferry_wire.messages import Load, Request, TapReply
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.hot_plug.vm import NATIVE, answer, cards, qmp, running
from tests.client.running import Run
from tests.client.support import QEMU, wait_until
from tests.client.test_bridge_state import HOST_OF_ITS_OWN
from tests.support.census import fd_targets

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

ATTACH = ("attach-nic", "t", "--bridge", "br0", "--queues", "4", "--rss")
REPLY = TapReply(taps.NAME, "br0", 1500)


@pytest.fixture
def gives(namespace: str) -> fake.Behaviour:
    """Return what gives a tap with four queues on a real bridge."""
    bridge = ["ip", "-netns", namespace, "link", "add", "br0", "type", "bridge"]
    subprocess.run(bridge, check=True)
    return fake.gives_tap(taps.made(namespace, 4, bridge="br0"), REPLY)


@pytest.fixture
def tap_helper(tmp_path: Path, gives: fake.Behaviour) -> Iterator[str]:
    """Serve taps where the VM asks for them."""
    with fake.helper(tmp_path / "tap.sock", gives) as path:
        yield path


def held(pid: int) -> Counter[str]:
    """Return what the fds of *pid* are, once the connection of the last command is closed."""
    last = Counter[str]()

    def is_quiet() -> bool:
        nonlocal last
        before, last = last, _targets(pid)
        return before == last

    assert wait_until(is_quiet)
    return last


def _targets(pid: int) -> Counter[str]:
    links = fd_targets(pid).elements()
    return Counter(re.sub(r":\[\d+\]$", "", link) for link in links)


def inside(folder: Path) -> tuple[object, ...]:
    """Return the devices, netdevs and other objects that QEMU has."""
    listed = (
        qmp(folder, "qom-list", path=f"/machine/{name}") for name in ("peripheral", "unattached")
    )
    objects = tuple(sorted(one["name"] for found in listed for one in found))
    return (*objects, qmp(folder, "", human="info network"))


def bare(folder: Path) -> Any:  # noqa: ANN401 - a context manager
    """Run a VM whose ports let go of cards at once."""
    return running(folder, arguments=NATIVE, disk=False)


def test_a_card_gets_its_tap_and_its_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tap_helper: str, namespace: str
) -> None:
    """QEMU alone holds them, and they are gone with the card."""
    assert tap_helper
    with fake.helper(tmp_path / "bpf.sock", fake.grants()), bare(tmp_path) as run:
        before = held(run.qemu()), held(run.process.pid), inside(tmp_path)
        told = answer(capsys, *ATTACH, "--require-ebpf")
        assert (told["steering"], told["tap"], told["bridge"]) == ("ebpf", taps.NAME, "br0")
        assert (told["queues"], told["mtu"]) == (4, 1500)
        (card,) = cards(capsys)
        assert (card["steering"], card["plugged"]) == ("ebpf", True)
        there = held(run.qemu())
        assert there["/dev/net/tun"] == 4
        assert (there["anon_inode:bpf-map"], there["anon_inode:bpf-prog"]) == (3, 1)
        ours = held(run.process.pid)
        assert (ours["anon_inode:bpf-map"], ours["anon_inode:bpf-prog"]) == (3, 0)
        assert ours["/dev/net/tun"] == 0
        assert [taps.NAME] == taps.in_namespace(namespace)
        assert answer(capsys, "detach-nic", "t", "net0")["id"] == "net0"
        assert (held(run.qemu()), held(run.process.pid), inside(tmp_path)) == before
        assert wait_until(lambda: not taps.in_namespace(namespace))


def test_a_card_with_more_queues_than_processors_is_told_of_as_at_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tap_helper: str
) -> None:
    """Once, in the answer and in the log of the VM."""
    assert tap_helper
    with fake.helper(tmp_path / "bpf.sock", fake.grants()), bare(tmp_path):
        (warning,) = answer(capsys, *ATTACH)["warnings"]
        assert warning == {
            "message": "net0: 4 queues for 1 processor: a guest uses as many queues as it has "
            "processors",
            "hint": "set 'queues' to 1, or give the guest more processors",
        }
        assert warning["message"] in answer(capsys, "status", "t")["warnings"]


@pytest.mark.parametrize("is_down", [True, False], ids=["down", "up"])
def test_a_bridge_that_is_down_is_told_of_as_at_a_start(
    is_down: bool,  # noqa: FBT001 - a case
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tap_helper: str,
) -> None:
    """It is looked at where the VM runs, and the card is plugged in all the same."""
    assert tap_helper
    host = (*HOST_OF_ITS_OWN, "true" if is_down else "ip link set br0 up")
    with (
        fake.helper(tmp_path / "bpf.sock", fake.grants()),
        running(tmp_path, arguments=NATIVE, disk=False, prefix=host),
    ):
        told = answer(capsys, *ATTACH)
        assert told["id"] == "net0"
        warnings = [one["message"] for one in told["warnings"]]
        expected = "net0: the bridge 'br0' is down, so it carries no frame"
        assert (expected in warnings) == is_down, warnings


BROKEN = """\
[[cards]]
bridge = "br0"
queues = 4
rss = true
rom-file = "{rom}"
"""
"""A ROM that is there, and that QEMU refuses: it is empty."""


def test_a_step_that_fails_undoes_those_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tap_helper: str, namespace: str
) -> None:
    """QEMU's own words are told; the next card gets other names, since QEMU may keep these."""
    assert tap_helper
    rom = tmp_path / "empty.rom"
    rom.touch()
    (tmp_path / "card.toml").write_text(BROKEN.format(rom=rom), encoding="utf-8")
    words = ("attach-nic", "t", "--file", str(tmp_path / "card.toml"))
    with fake.helper(tmp_path / "bpf.sock", fake.grants()), bare(tmp_path) as run:
        before = held(run.qemu()), held(run.process.pid), inside(tmp_path)
        told = answer(capsys, *words, status=1)["error"]
        assert told["code"] == "qemu"
        assert "refused 'device_add'" in told["message"]
        assert str(rom) in told["message"]
        assert cards(capsys) == []
        assert (held(run.qemu()), held(run.process.pid), inside(tmp_path)) == before
        assert wait_until(lambda: not taps.in_namespace(namespace))
        assert answer(capsys, *ATTACH)["id"] == "net1"


def test_what_a_helper_refuses_gives_back_what_the_other_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tap_helper: str, namespace: str
) -> None:
    """With the status that a start would have."""
    assert tap_helper
    refuses = fake.refuses(Code.REFUSED, "not for you")
    with fake.helper(tmp_path / "bpf.sock", refuses), bare(tmp_path) as run:
        before = held(run.qemu()), held(run.process.pid), inside(tmp_path)
        told = answer(capsys, *ATTACH, "--require-ebpf", status=4)["error"]
        assert told["code"] == "refused"
        assert told["message"].startswith("'new card': ")
        assert "not for you" in told["message"]
        assert (held(run.qemu()), held(run.process.pid), inside(tmp_path)) == before
        assert wait_until(lambda: not taps.in_namespace(namespace))
        assert main(ATTACH) == 0
        shown = capsys.readouterr().out
        assert "steering: qemu (" in shown
        assert "warning: net1: no eBPF steering, QEMU steers in user space: " in shown


def test_without_a_helper_the_status_is_that_of_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody makes the tap."""
    with bare(tmp_path):
        told = answer(capsys, *ATTACH, status=5)["error"]
        assert told["code"] == "no-helper"
        assert cards(capsys) == []


def test_a_hundred_times_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tap_helper: str, namespace: str
) -> None:
    """No fd, tap, set or object of QEMU more than after the first time."""
    assert tap_helper
    with fake.helper(tmp_path / "bpf.sock", fake.grants()), bare(tmp_path) as run:
        before = _once(tmp_path, capsys, run, 0)
        for number in range(1, 100):
            after = _once(tmp_path, capsys, run, number)
        assert after == before
        assert wait_until(lambda: not taps.in_namespace(namespace))


def _once(
    folder: Path, capsys: pytest.CaptureFixture[str], run: Run, number: int
) -> tuple[object, ...]:
    """Plug a card in and take it out, and return what there is afterwards."""
    assert answer(capsys, *ATTACH)["id"] == f"net{number}"
    assert answer(capsys, "detach-nic", "t", f"net{number}")["id"] == f"net{number}"
    return held(run.qemu()), held(run.process.pid), inside(folder)


def test_the_program_is_that_of_the_running_qemu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gives: fake.Behaviour
) -> None:
    """Its package was upgraded meanwhile: the file has another object now."""
    old = tmp_path / "qemu-system-x86_64"
    digest = _with_another_object(Path(QEMU), old)
    asked: list[Request] = []
    with (
        fake.helper(tmp_path / "tap.sock", gives),
        fake.helper(tmp_path / "bpf.sock", fake.keeps(asked, fake.grants())),
        running(tmp_path, f'qemu = "{old}"\n', arguments=NATIVE, disk=False),
    ):
        upgraded = tmp_path / "new"
        shutil.copy(QEMU, upgraded)
        upgraded.replace(old)
        assert answer(capsys, *ATTACH)["steering"] == "ebpf"
    (load,) = asked
    assert isinstance(load, Load)
    assert load.digest == digest


def _with_another_object(qemu: Path, copy: Path) -> bytes:
    """Copy *qemu* with the last byte of its eBPF object changed; return the object's digest."""
    raw, carried = bytearray(qemu.read_bytes()), probe(str(qemu)).objects["rss"].data
    start, end = raw.index(carried), raw.index(carried) + len(carried)
    raw[end - 1] ^= 1
    copy.write_bytes(raw)
    copy.chmod(0o755)
    return hashlib.sha256(raw[start:end]).digest()
