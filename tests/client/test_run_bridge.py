# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry run with cards on a bridge, with a real QEMU and a tap of a helper of the test's own."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.messages import Request, Tap, TapReply
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.running import BASE, BROKEN, DISK, start, type_in
from tests.client.support import is_gone, wait_until
from tests.support.census import fd_targets

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

CARD = '[[cards]]\nbridge = "br0"\nqueues = 4\nrss = true\n'
REPLY = TapReply(taps.NAME, "br0", 1500)


@pytest.fixture
def gives(namespace: str) -> fake.Behaviour:
    """Return what gives a tap with four queues on a real bridge."""
    bridge = ["ip", "-netns", namespace, "link", "add", "br0", "type", "bridge"]
    subprocess.run(bridge, check=True)
    return fake.gives_tap(taps.made(namespace, 4, bridge="br0"), REPLY)


def targets(pid: int) -> list[str]:
    """Return what the fds of *pid* point to, without the numbers of sockets."""
    return sorted(link.split("[")[0] for link in fd_targets(pid).elements())


def test_vm_on_a_bridge(tmp_path: Path, gives: fake.Behaviour, namespace: str) -> None:
    """QEMU alone holds the queues; which tap it is, is told; the tap goes with the VM."""
    with (
        fake.helper(tmp_path / "tap.sock", gives),
        fake.helper(tmp_path / "bpf.sock", fake.grants()),
        start(tmp_path, BASE + DISK + CARD, "--json", "--require-ebpf") as run,
    ):
        assert run.says("hello")
        assert "net0: tap 'bft00000001' on bridge 'br0', 4 queues, MTU 1500\n" in run.err()
        assert "net0: steering by eBPF: QEMU" in run.err()
        assert targets(run.qemu()).count("/dev/net/tun") == 4
        assert "/dev/net/tun" not in targets(run.process.pid)
        assert [taps.NAME] == taps.in_namespace(namespace)
        type_in(run, b"q")

        assert run.status() == 0
        answer = json.loads(run.out())
        assert wait_until(lambda: not taps.in_namespace(namespace))

    assert answer["taps"] == {"net0": {"interface": taps.NAME, "bridge": "br0", "mtu": 1500}}
    assert [nic["steering"] for nic in answer["nics"]] == ["ebpf"]


def test_dry_run_shows_the_addresses_of_the_run(tmp_path: Path, gives: fake.Behaviour) -> None:
    """What a dry run says is asked of the helper and told QEMU is what the run asks and tells."""
    with start(tmp_path, BASE + DISK + CARD, "--dry-run=json") as run:
        assert run.status() == 0
        shown = json.loads(run.out())
    (mac,) = (request["mac"] for request in shown["requests"] if request["service"] == "tap")
    uuid = shown["argv"][shown["argv"].index("-uuid") + 1]
    asked: list[Request] = []
    with (
        fake.helper(tmp_path / "tap.sock", fake.keeps(asked, gives)),
        start(tmp_path, BASE + DISK + CARD) as run,
    ):
        assert run.says("hello")
        words = Path(f"/proc/{run.qemu()}/cmdline").read_text(encoding="utf-8").split("\0")

    (request,) = asked
    assert isinstance(request, Tap)
    assert bytes.fromhex(mac.replace(":", "")) == request.mac
    assert [uuid] == [words[at + 1] for at, word in enumerate(words) if word == "-uuid"]
    assert [mac] == [json.loads(word)["mac"] for word in words if '"virtio-net-pci"' in word]


def test_killed_bpferry_leaves_no_tap(
    tmp_path: Path, gives: fake.Behaviour, namespace: str
) -> None:
    """When we are killed, the tap goes with QEMU."""
    with (
        fake.helper(tmp_path / "tap.sock", gives),
        start(tmp_path, BASE + DISK + CARD) as run,
    ):
        assert run.says("hello")
        qemu = run.qemu()
        run.process.kill()

        assert wait_until(lambda: is_gone(qemu))
        assert wait_until(lambda: not taps.in_namespace(namespace))


def test_qemu_that_does_not_start(tmp_path: Path, gives: fake.Behaviour, namespace: str) -> None:
    """When QEMU does not start, the tap is gone with what it had of it and what we had."""
    with (
        fake.helper(tmp_path / "tap.sock", gives),
        start(tmp_path, BASE + CARD + BROKEN.replace("qemu-a", "\nqemu-a")) as run,
    ):
        assert run.status() != 0
        assert wait_until(lambda: not taps.in_namespace(namespace))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_tap_helper(options: tuple[str, ...], tmp_path: Path) -> None:
    """Without the tap helper, status 5, the place of the card, and the hint."""
    with start(tmp_path, BASE + CARD, *options) as run:
        assert run.status() == 5
        said = run.out() if options else run.err()

    words = (
        f"'{tmp_path}/vm.toml':4: 'cards[0]': cannot connect to the helper at "
        f"'{tmp_path}/tap.sock': No such file or directory"
    )
    assert words in said
    assert "systemctl status bpferry-tap.socket; BPFERRY_TAP_SOCKET names this socket" in said
    if options:
        error = json.loads(said)["error"]
        assert ("no-helper", "cards[0]") == (error["code"], error["element"])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_refused_by_policy(options: tuple[str, ...], tmp_path: Path) -> None:
    """A refusal is status 4, with the line of the policy and the card's place."""
    line = "uid 0 may not use 'br0': /etc/bpferry/policy.toml:12 (groups.bpferry)"
    refuses = fake.refuses(Code.REFUSED, line, "ask the administrator")
    with (
        fake.helper(tmp_path / "tap.sock", refuses),
        start(tmp_path, BASE + CARD, *options) as run,
    ):
        assert run.status() == 4
        message = f"'{tmp_path}/vm.toml':4: 'cards[0]': the helper refused: {line}"
        if options:
            assert json.loads(run.out()) == {
                "error": {
                    "code": "refused",
                    "message": message,
                    "hint": "ask the administrator",
                    "element": "cards[0]",
                }
            }
        else:
            assert run.err() == (
                f"bpferry: error: {message}\nbpferry: hint: ask the administrator\n"
            )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_the_helper_is_awaited(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C while the helper keeps silent ends at once, and no QEMU was started."""
    came = tmp_path / "came"

    def waits(_conn: object, _request: bytes) -> None:
        came.touch()

    with (
        fake.helper(tmp_path / "tap.sock", waits),
        start(tmp_path, BASE + CARD) as run,
    ):
        assert wait_until(came.exists)
        time.sleep(0.2)
        begin = time.monotonic()
        run.signal(number)

        assert run.status() == 128 + number
        assert time.monotonic() - begin < 5
        assert run.err() == f"bpferry: error: stopped by {number.name}\n"


def test_progress_where_somebody_watches(tmp_path: Path) -> None:
    """On a terminal, it is said what is being asked for before the answer is there."""
    main_end, terminal = pty.openpty()
    shell = ("sh", "-c", f'exec "$@" 2>{os.ttyname(terminal)}', "sh")
    with (
        os.fdopen(main_end, "rb", buffering=0) as screen,
        os.fdopen(terminal, "rb"),
        fake.helper(tmp_path / "tap.sock", fake.refuses(Code.BUSY)),
        start(tmp_path, BASE + CARD, prefix=shell) as run,
    ):
        assert run.status() == 1
        shown = screen.read(4096).decode()

    assert "bpferry: asking the helper for a tap on bridge 'br0' for 'net0' ...\r\n" in shown


def test_dry_run_says_what_would_be_asked(tmp_path: Path) -> None:
    """A dry run names the bridge that a tap would be asked for on, and asks nobody."""
    with start(tmp_path, BASE + CARD, "--dry-run") as run:
        assert run.status() == 0
        assert "#     the helper would be asked for a tap on bridge 'br0'\n" in run.out()
