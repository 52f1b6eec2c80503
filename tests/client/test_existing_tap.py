# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening the queues of a tap, in a network namespace of the test's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.errors import TapError
from bpferry.network import existing_tap

pytestmark = pytest.mark.privileged

OPEN = """
import json, os, sys
from bpferry.errors import TapError
from bpferry.network import existing_tap
from bpferry.network.existing_tap import open_tap
existing_tap.TUN_DEVICE = sys.argv[4]
name, queues, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setegid(uid) or os.seteuid(uid)
held = [open_tap(name, queues) for _ in sys.argv[5:] if _ == "--twice"]
before = len(os.listdir("/proc/self/fd"))
try:
    with open_tap(name, queues) as fds:
        answer = {"queues": len(fds), "inheritable": any(map(os.get_inheritable, fds.borrow()))}
except TapError as error:
    answer = {"error": error.message, "hint": error.hint}
answer["leaked"] = len(os.listdir("/proc/self/fd")) - before
print(json.dumps(answer))
"""


def ip(namespace: str, *words: str) -> None:
    """Run the program ip in *namespace*."""
    subprocess.run(["ip", "-netns", namespace, *words], check=True)


def open_in(
    namespace: str,
    name: str,
    queues: int,
    *more: str,
    uid: int = 0,
    device: str = "/dev/net/tun",
    enter: tuple[str, ...] = (),
) -> dict[str, object]:
    """Open the tap in *namespace* as *uid*, in a process of its own."""
    done = subprocess.run(
        [
            *(enter or ("ip", "netns", "exec", namespace)),
            sys.executable,
            "-c",
            OPEN,
            name,
            str(queues),
            str(uid),
            device,
            *more,
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def make(namespace: str, name: str, *words: str) -> None:
    """Make a persistent interface of tun's."""
    ip(namespace, "tuntap", "add", "dev", name, "mode", "tap", *words)


def test_queues_of_a_tap(namespace: str) -> None:
    """A multi-queue tap gives as many queues as are asked for, none of them inheritable."""
    make(namespace, "t0", "multi_queue", "user", "65534")

    answer = open_in(namespace, "t0", 4)

    assert answer == {"queues": 4, "inheritable": False, "leaked": 0}


def test_no_such_tap(namespace: str) -> None:
    """A name that does not exist is an error even for root, and no tap is made."""
    answer = open_in(namespace, "t0", 4)

    assert answer["error"] == "cannot open the tap 't0': there is no such interface"
    assert "ip tuntap add dev t0 mode tap multi_queue" in str(answer["hint"])
    assert b"t0" not in subprocess.check_output(["ip", "-netns", namespace, "link"])


@pytest.mark.parametrize("words", [(), ("vnet_hdr",)])
def test_tap_with_one_queue(namespace: str, words: tuple[str, ...]) -> None:
    """A tap without multi-queue is an error that says so."""
    make(namespace, "t0", *words)

    answer = open_in(namespace, "t0", 2)

    assert answer["error"] == (
        "cannot open queue 0 of the tap 't0': it has a single queue, and 2 are asked for"
    )
    assert "'bpferry tap create BRIDGE --queues 2' makes one for you" in str(answer["hint"])
    assert "ip tuntap add dev t0 mode tap multi_queue vnet_hdr" in str(answer["hint"])
    assert answer["leaked"] == 0


@pytest.mark.parametrize("words", [(), ("vnet_hdr",), ("multi_queue",)])
def test_one_queue_of_any_tap(namespace: str, words: tuple[str, ...]) -> None:
    """A card with one queue can have a tap with one queue, and one queue of a tap with several."""
    make(namespace, "t0", *words)

    answer = open_in(namespace, "t0", 1)

    assert answer == {"queues": 1, "inheritable": False, "leaked": 0}


def test_single_queue_that_somebody_uses(namespace: str) -> None:
    """The one queue of a tap that another holds is an error that says so."""
    make(namespace, "t0")

    answer = open_in(namespace, "t0", 1, "--twice")

    assert "another process has it" in str(answer["error"])


@pytest.mark.parametrize("queues", [1, 2])
def test_tun_that_is_not_a_tap(namespace: str, queues: int) -> None:
    """A tun is an error that says what it is."""
    ip(namespace, "tuntap", "add", "dev", "t0", "mode", "tun", "multi_queue")

    assert "it is a tun device, not a tap" in str(open_in(namespace, "t0", queues)["error"])


def test_sysfs_of_another_namespace(namespace: str) -> None:
    """Where sysfs does not show the tap, the error does not claim to know."""
    make(namespace, "t0")

    answer = open_in(namespace, "t0", 2, enter=("nsenter", f"--net=/run/netns/{namespace}"))

    assert "it is not a tap, or it has a single queue" in str(answer["error"])


def test_interface_that_is_not_a_tap(namespace: str) -> None:
    """Another kind of interface is an error."""
    assert "it is not a tap" in str(open_in(namespace, "lo", 2)["error"])


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("65534", {"queues": 2, "inheritable": False, "leaked": 0}),
        (
            "1234",
            {
                "error": "cannot open queue 0 of the tap 't0': it belongs to another user",
                "leaked": 0,
            },
        ),
    ],
)
def test_tap_and_its_owner(
    owner: str, expected: dict[str, object], namespace: str, open_device: str
) -> None:
    """A tap opens for the ordinary user that owns it, and for no other."""
    make(namespace, "t0", "multi_queue", "user", owner)

    answer = open_in(namespace, "t0", 2, uid=65534, device=open_device)

    assert expected == {key: value for key, value in answer.items() if key != "hint"}


def test_tap_that_somebody_uses(namespace: str) -> None:
    """A tap whose queues another holds is refused, since each would get part of the packets."""
    make(namespace, "t0", "multi_queue")

    answer = open_in(namespace, "t0", 2, "--twice")

    assert "another process has 2 of its queues open" in str(answer["error"])
    assert answer["leaked"] == 0


def test_more_queues_than_a_tap_has(namespace: str) -> None:
    """The kernel's bound is an error that says so, and everything is closed again."""
    make(namespace, "t0", "multi_queue")

    answer = open_in(namespace, "t0", 257)

    assert answer["error"] == "cannot open queue 256 of the tap 't0': all its queues are in use"
    assert answer["leaked"] == 0


def test_tap_that_is_just_made_is_refused(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tap that came into being by our own TUNSETIFF is not used."""
    monkeypatch.setattr(existing_tap, "check_exists", lambda _name, _queues: None)

    with pytest.raises(TapError, match="it is not persistent"):
        existing_tap.open_tap(f"bpf{namespace[-8:]}", 1)

    assert not Path(f"/sys/class/net/bpf{namespace[-8:]}").exists()


def test_device_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /dev/net/tun cannot be opened, the hint says who opens it."""
    monkeypatch.setattr(existing_tap, "TUN_DEVICE", "/nowhere/tun")

    with pytest.raises(TapError, match="cannot open '/nowhere/tun': No such file") as caught:
        existing_tap.open_tap("lo", 1)

    assert "modprobe tun" in caught.value.hint
