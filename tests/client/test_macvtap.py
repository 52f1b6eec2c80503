# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening the queues of a macvtap that root made, in a network namespace of the test's own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from bpferry.errors import TapError
from bpferry.network import macvtap
from bpferry.network.macvtap import Macvtap, find_macvtap
from tests.support.macvtaps import make_macvtap, make_parent

pytestmark = pytest.mark.privileged

MAC: Final = "52:54:00:12:34:56"
USER: Final = 65534

OPEN: Final = """
import json, os, sys
from bpferry.errors import TapError
from bpferry.network import tun
from bpferry.network.macvtap import find_macvtap
name, queues, uid, address = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([]), os.setresgid(uid, uid, uid), os.setresuid(uid, uid, uid)
found = find_macvtap(name)
held = [found.open(1, found.address) for word in sys.argv[5:] if word == "--held"]
held += [found.open(1, found.address).close() for word in sys.argv[5:] if word == "--released"]
before = len(os.listdir("/proc/self/fd"))
answer = {}
try:
    with found.open(queues, address) as fds:
        seen = {tun.identify(fd) for fd in fds.borrow()}
        answer |= {"queues": len(fds), "seen": sorted(seen)}
        answer["inheritable"] = any(map(os.get_inheritable, fds.borrow()))
except TapError as error:
    answer |= {"error": error.message, "hint": error.hint}
answer["leaked"] = len(os.listdir("/proc/self/fd")) - before
print(json.dumps(answer))
"""


def _run(namespace: str, argv: Sequence[str]) -> str:
    words = ["ip", "netns", "exec", namespace, *argv]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _make(namespace: str, *, owner: int = USER, mode: str = "bridge") -> Path:
    def run(argv: Sequence[str]) -> object:
        return _run(namespace, argv)

    make_parent(run)
    return make_macvtap(run, "m0", MAC, owner, mode)


def _open(namespace: str, queues: int, *more: str, address: str = MAC) -> dict[str, Any]:
    """Open the macvtap in *namespace* as an ordinary user, in a process of its own."""
    words = ["m0", str(queues), str(USER), address, *more]
    path = f"PYTHONPATH={os.pathsep.join(sys.path)}"
    said = _run(namespace, ["env", path, sys.executable, "-B", "-c", OPEN, *words])
    answer: dict[str, Any] = json.loads(said)
    return answer


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
@pytest.mark.parametrize(("queues", "flags"), [(1, 0x5002), (4, 0x5102)])
def test_queues_of_a_macvtap(queues: int, flags: int, mode: str, namespace: str) -> None:
    """The user gets as many queues as are asked for, with the flags that QEMU expects."""
    _make(namespace, mode=mode)

    answer = _open(namespace, queues)

    assert answer == {"queues": queues, "seen": [["m0", flags]], "inheritable": False, "leaked": 0}


def test_device_of_another_user(namespace: str) -> None:
    """A device that root has not given away is told, with the rule that gives it."""
    device = _make(namespace, owner=1234)

    answer = _open(namespace, 2)

    assert answer["error"].startswith(f"cannot open '{device}', of the macvtap 'm0': users may not")
    assert 'SUBSYSTEM=="macvtap", KERNELS=="m0", OWNER="nobody"' in answer["hint"]
    assert answer["leaked"] == 0


def test_card_with_another_address(namespace: str) -> None:
    """The kernel would give the card no frames, and so it is refused; the two ways out are told."""
    _make(namespace)

    answer = _open(namespace, 2, address="52:54:00:00:00:01")

    assert "takes only frames for its own, '52:54:00:12:34:56'" in answer["error"]
    assert "ip link set m0 address 52:54:00:00:00:01" in answer["hint"]


def test_macvtap_that_somebody_uses(namespace: str) -> None:
    """While another VM has it, it is refused: each would get a part of the packets."""
    _make(namespace)

    answer = _open(namespace, 2, "--held")

    assert "another process has it" in answer["error"]
    assert answer["leaked"] == 0


def test_macvtap_that_somebody_has_used(namespace: str) -> None:
    """The mark that it is in use goes with the last fd."""
    _make(namespace)

    assert _open(namespace, 2, "--released")["queues"] == 2


def test_more_queues_than_a_macvtap_has(namespace: str) -> None:
    """The kernel's bound is an error that says so, and everything is closed again."""
    _make(namespace)

    answer = _open(namespace, 257)

    assert answer["error"] == (
        "cannot open queue 256 of the macvtap 'm0': all its queues are in use"
    )
    assert answer["leaked"] == 0


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: path.symlink_to("/dev/null"), "it is not the device of 'm0'"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_path_that_is_something_else(
    make: Any,  # noqa: ANN401 - a table of lambdas
    cause: str,
    tmp_path: Path,
) -> None:
    """What has the device's name and is another is not used."""
    make(tmp_path / "tap7")
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(TapError, match=cause):
        Macvtap("m0", tmp_path / "tap7", os.makedev(246, 1), MAC).open(1, MAC)

    assert before == len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("name", ["lo", "nosuch", "", "../lo", "a\0b", "x" * 300])
def test_what_is_no_macvtap(name: str) -> None:
    """Other interfaces, and names that no interface can have, are no macvtaps."""
    assert find_macvtap(name) is None


def test_sysfs_of_another_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A macvtap of this name with another index is in another namespace."""
    folder = tmp_path / "lo"
    (folder / "macvtap/tap1").mkdir(parents=True)
    (folder / "macvtap/tap1/dev").write_text("246:1\n", encoding="ascii")
    (folder / "address").write_text(f"{MAC}\n", encoding="ascii")
    monkeypatch.setattr(macvtap, "INTERFACES", tmp_path)
    found = {}
    for index in ("1\n", "2\n"):
        (folder / "ifindex").write_text(index, encoding="ascii")
        found[index] = find_macvtap("lo")

    assert found["1\n"] == Macvtap("lo", Path("/dev/tap1"), os.makedev(246, 1), MAC)
    assert found["2\n"] is None
