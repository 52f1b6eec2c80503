# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Linux guest under TCG that finds what is plugged in, uses it, and lets go of it."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpferry.cli.main import main
from bpferry.qemu.probe import probe
from bpferry_wire.messages import TapReply
from guest.build import CACHE, KERNEL_ARGUMENTS, build_guest
from tests.client import bpf, taps
from tests.client import fake_helper as fake
from tests.client.hot_plug.vm import answer, cards
from tests.client.running import Run, start, state, type_in
from tests.client.support import QEMU, wait_until
from tests.support.marks import WITH_A_GUEST

pytestmark = [*WITH_A_GUEST]

VM = f"""\
name = "t"
memory = "256 MiB"
vcpus = 2
accelerator = "tcg"
kernel = "{{kernel}}"
initrd = "{{initrd}}"
command-line = "{KERNEL_ARGUMENTS}"
[[serials]]
type = "stdio"
"""
MARK = "@guest "
ATTACH = ("attach-nic", "t", "--bridge", "br0", "--queues", "2", "--rss", "--require-ebpf")


@pytest.fixture
def helpers(tmp_path: Path, namespace: str) -> Iterator[None]:
    """Serve taps with two queues on a real bridge, and QEMU's own program, really loaded."""
    elf = probe(QEMU).objects["rss"].data
    bridge = ["ip", "-netns", namespace, "link", "add", "br0", "type", "bridge"]
    subprocess.run(bridge, check=True)
    gives = fake.gives_tap(taps.made(namespace, 2, bridge="br0"), TapReply(taps.NAME, "br0", 1500))
    with (
        fake.helper(tmp_path / "tap.sock", gives),
        fake.helper(tmp_path / "bpf.sock", fake.grants(lambda: bpf.load_object(elf))),
    ):
        yield


@pytest.fixture
def linux(tmp_path: Path, helpers: None) -> Iterator[Run]:
    """Run a Linux guest without a card, once its agent has said hello."""
    assert helpers is None
    guest = build_guest(CACHE, lambda _: None)
    with start(tmp_path, VM.format(kernel=guest.kernel, initrd=guest.initrd)) as run:
        assert wait_until(lambda: MARK in run.out(), 120), run.err()
        assert wait_until(lambda: state() == "running")
        yield run


def told(run: Run, do: str, **arguments: object) -> dict[str, Any]:
    """Return what the agent in the guest answers to the command *do*."""
    number = len(re.findall(re.escape(MARK), run.out())) + 1
    type_in(run, json.dumps({"do": do, "id": number, **arguments}).encode() + b"\n")
    pattern = re.compile(rf'{re.escape(MARK)}(\{{.*"id": ?{number}\b.*\}})')
    assert wait_until(lambda: pattern.search(run.out()) is not None, 60), run.out()[-500:]
    found = pattern.search(run.out())
    assert found is not None
    answered: dict[str, Any] = json.loads(found[1])
    return answered


def finds_card(run: Run) -> bool:
    """Say whether the guest has its card now."""
    return bool(told(run, "hello")["device"])


def test_a_guest_uses_a_plugged_card_with_ebpf_and_lets_go_of_it(
    linux: Run, capsys: pytest.CaptureFixture[str], namespace: str
) -> None:
    """Its driver sets RSS up in the card's own maps, and its packets are steered by them."""
    assert answer(capsys, *ATTACH)["steering"] == "ebpf"
    assert wait_until(lambda: finds_card(linux), 60)
    assert "error" not in told(linux, "equal", queues=2)
    assert wait_until(lambda: "seen" in cards(capsys)[0], 60)
    seen = cards(capsys)[0]["seen"]
    assert seen.startswith("net0: steering by eBPF in the host's kernel, 2 queues")
    assert answer(capsys, "detach-nic", "t", "net0", "--timeout", "60")["id"] == "net0"
    assert cards(capsys) == []
    assert not finds_card(linux)
    assert wait_until(lambda: not taps.in_namespace(namespace))


def test_a_guest_finds_a_plugged_disk_and_lets_go_of_it(
    linux: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Twice, under the same name."""
    image = tmp_path / "data.img"
    image.write_bytes(bytes(1 << 20))
    for _ in range(2):
        assert answer(capsys, "attach-disk", "t", str(image))["target"] == "vda"
        assert main(("detach-disk", "t", "vda", "--timeout", "60")) == 0
        assert "error" not in told(linux, "hello")
