# SPDX-License-Identifier: LGPL-2.1-or-later
"""A move through a real ssh fails, between hosts with real helpers: the VM goes on where it is.

Nothing is left at the other host: no tap, no eBPF set, no process. No guest boots; its QEMU runs
the firmware.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from guest.build import Guest
from steering_demo.stations import FIRST
from steering_demo.vm import client, running_vm
from steering_demo.workplace import BRIDGE
from tests.steering.two_hosts import ADDRESS, PATIENCE_S, URL, Host, two_hosts
from tests.support.census import wait_until

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("nothing_left"),
]

DESCRIPTION: Final = """\
name = "{station.name}"
memory = "{memory} MiB"
vcpus = {station.queues}
accelerator = "tcg"

[[serials]]
type = "stdio"

[[cards]]
bridge = "{bridge}"
mac = "{station.mac}"
mtu = {mtu}
queues = {station.queues}
rss = true
"""

REQUIRED: Final = f"require-ebpf = true\n{DESCRIPTION}"

NO_BRIDGE: Final = "[load]\nusers = [{uid}]\n"
NO_EBPF: Final = f'[load]\nusers = []\n\n[users.{{uid}}]\nbridges = ["{BRIDGE}"]\n'

ASK: Final = "hint: ask the administrator to allow it"
LOWER: Final = "net0 would have the steering 'qemu' here, and has 'ebpf' now"
ALIKE: Final = "hint: make the two hosts alike in this, or move the VM while it does not run"

LOST: Final = f"the connection to '{ADDRESS}' ended before '{FIRST.name}' was there"


@dataclass(frozen=True, slots=True)
class Scene:
    """A VM that runs here, and may move there."""

    here: Host
    there: Host
    before: object
    """What the user had there before any move."""

    def check_stays(self) -> None:
        """Fail unless the VM goes on here, and nothing of it is there."""
        assert wait_until(lambda: self.here.vms() == {FIRST.name: "running"}, PATIENCE_S)
        assert wait_until(lambda: self.there.held() == self.before, PATIENCE_S), self.there.held()
        assert {} == self.there.vms()
        assert {"bpf": 1, "tap": 1} == self.here.held()[1]
        for word in ("pause", "resume"):
            assert 0 == self.here.bpferry(word, FIRST.name).returncode

    @contextmanager
    def moving(self) -> Iterator["subprocess.Popen[str]"]:
        """Begin a move that waits in the middle of QEMU's stream, until ``let_go``."""
        (self.here.place.home / "hold").touch()
        argv = client(self.here.place, self.here.space, ["migrate", FIRST.name, URL])
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert wait_until((self.here.place.home / "held").exists, PATIENCE_S)
                assert {FIRST.name: "being moved"} == self.here.vms()
                assert {"bpf": 1, "tap": 1} == self.there.held()[1]
                yield process
            finally:
                self.let_go()
                process.wait(PATIENCE_S)

    def let_go(self) -> None:
        """Let it go on."""
        (self.here.place.home / "hold").unlink(missing_ok=True)


@contextmanager
def _scene(text: str = REQUIRED) -> Iterator[Scene]:
    with two_hosts() as (here, there):
        before = there.held()
        nothing = Guest(Path(), Path())
        with running_vm(here.place, here.space, nothing, FIRST, text):
            assert wait_until(lambda: here.vms() == {FIRST.name: "running"}, PATIENCE_S)
            yield Scene(here, there, before)


@pytest.mark.parametrize(
    ("text", "policy", "words"),
    [
        (REQUIRED, NO_BRIDGE, ("has no rule about bridges for you", ASK)),
        (REQUIRED, NO_EBPF, ("policy.toml:2 (load.users) names neither you", ASK)),
        (DESCRIPTION, NO_EBPF, (LOWER, "(load.users) names neither you", ALIKE)),
    ],
    ids=["bridge", "ebpf", "lower-rung"],
)
def test_a_policy_there_that_refuses_leaves_the_vm_here(
    text: str, policy: str, words: tuple[str, ...]
) -> None:
    """The error names the host and the reason, and what to do.

    A guest whose queues are steered by eBPF is never moved to where they would not be.
    """
    with _scene(text) as scene:
        path = scene.there.place.etc / "bpferry/policy.toml"
        path.write_text(policy.format(uid=scene.there.place.user_uid), encoding="ascii")
        done = scene.here.bpferry("migrate", FIRST.name, URL)
        assert 0 != done.returncode
        assert f"at '{ADDRESS}': " in done.stderr
        assert "it stays on this host" in done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
        scene.check_stays()


def _cut(scene: Scene) -> None:
    (wire,) = [pid for pid in scene.here.processes() if _is_wire(pid)]
    os.kill(wire, signal.SIGKILL)


def _is_wire(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(word.endswith(b"slow_wire.py") for word in words)


def _kill_qemu(scene: Scene) -> None:
    os.kill(scene.there.qemu(), signal.SIGKILL)


@pytest.mark.parametrize(("fault", "words"), [(_cut, LOST), (_kill_qemu, "it stays on this host")])
def test_what_breaks_in_the_middle_leaves_the_vm_here(
    fault: Callable[[Scene], None], words: str
) -> None:
    """The connection itself, or the QEMU there."""
    with _scene() as scene:
        with scene.moving() as move:
            fault(scene)
            scene.let_go()
            _, said = move.communicate(timeout=PATIENCE_S)
        assert 1 == move.returncode
        assert words in said
        scene.check_stays()


def test_ctrl_c_in_the_middle_leaves_the_vm_here() -> None:
    """And says so; what the other host has made goes when it hears of it."""
    with _scene() as scene:
        with scene.moving() as move:
            move.send_signal(signal.SIGINT)
            assert wait_until(lambda: scene.here.vms() == {FIRST.name: "running"}, PATIENCE_S)
            scene.let_go()
            _, said = move.communicate(timeout=PATIENCE_S)
        assert "cancelling: the VM stays here" in said
        assert 130 == move.returncode
        scene.check_stays()
