# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry run with a real QEMU: its console, its signals, its fds, its end."""

import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from bpferry_wire.fds import OwnedFds
from tests.client import bpf, guest
from tests.client import fake_helper as fake
from tests.client.running import BASE, BROKEN, CARD, DISK, Run, start, state, type_in
from tests.client.support import children, is_gone, script, wait_until
from tests.support.census import fd_targets

pytestmark = pytest.mark.qemu

LOCKED = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR")


def test_console_and_power_off(tmp_path: Path) -> None:
    """What the guest writes comes out, what is typed comes back, its power-off is status 0."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello from the boot sector")
        type_in(run, b"echo")
        assert run.says("echo")
        type_in(run, b"q")

        assert run.status() == 0
        assert run.out() == guest.GREETING.decode().replace("\r\n", "\n") + "echoq"
        assert run.err().endswith("bpferry: the VM shuts down\nbpferry: the VM has stopped\n")


def test_terminal(tmp_path: Path) -> None:
    """On a terminal, all keys reach the guest at once, Ctrl-C too, and the mode comes back."""
    main_end, terminal = pty.openpty()
    with (
        os.fdopen(main_end, "wb", buffering=0) as keys,
        os.fdopen(terminal, "rb") as line,
    ):
        before = termios.tcgetattr(line)
        setsid = ("setsid", "--ctty")
        with start(tmp_path, BASE + DISK, prefix=setsid, keyboard=line.fileno()) as run:
            assert run.says("hello")
            keys.write(b"ab\x1a\x03")
            assert run.says("ab\x1a\x03")
            keys.write(b"q")

            assert run.status() == 0
        assert before == termios.tcgetattr(line)
        assert "all keys go to the guest of 't', Ctrl-C too; Ctrl-] leaves\n" in run.err()


def test_signals_ask_first_and_then_end(tmp_path: Path) -> None:
    """The first Ctrl-C asks the guest to power down, the second stops QEMU; each is told."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        qemu = run.qemu()
        run.signal(signal.SIGINT)
        assert run.says(
            "asked the guest to power down, within 90 s; press Ctrl-C again to stop QEMU"
        )
        time.sleep(0.3)
        assert not is_gone(qemu)
        run.signal(signal.SIGTERM)

        assert run.status() == 0
        assert is_gone(qemu)
        assert run.err().count("bpferry: stopping QEMU\n") == 1
        assert run.err().endswith("bpferry: the VM has stopped\n")


def test_signal_before_the_vm_runs(tmp_path: Path) -> None:
    """A signal while QEMU is still being asked leaves nothing behind."""
    # Renamed, so that the file is there with all that is in it.
    body = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 60"
    text = BASE + f'qemu = "{script(tmp_path, body)}"\n'
    with start(tmp_path, text) as run:
        assert wait_until((tmp_path / "pid").exists)
        run.signal(signal.SIGTERM)

        assert run.status() == 128 + signal.SIGTERM
        assert run.err() == "bpferry: error: stopped by SIGTERM\n"
        pid = int((tmp_path / "pid").read_text(encoding="ascii"))
        assert is_gone(pid)


def test_stopped_qemu_is_killed_after_a_while(tmp_path: Path) -> None:
    """A QEMU that does not answer is killed; a third signal does it at once."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        qemu = run.qemu()
        os.kill(qemu, signal.SIGSTOP)
        for number, words in (
            (signal.SIGTERM, "asked the guest to power down, within 90 s; another SIGTERM, 1 s"),
            (signal.SIGINT, "stopping QEMU"),
        ):
            run.signal(number)
            assert run.says(words)
        run.signal(signal.SIGINT)

        assert run.status() == 128 + signal.SIGKILL
        assert is_gone(qemu)
        assert run.err().endswith("bpferry: QEMU was killed, and the VM has stopped\n")


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (signal.SIGKILL, "'journalctl -k' or 'dmesg' then has 'Killed process {}'"),
        (signal.SIGSEGV, "that is a bug in QEMU or in a library that it uses"),
    ],
)
def test_killed_qemu(number: signal.Signals, hint: str, tmp_path: Path) -> None:
    """A QEMU that a signal ended gives 128 and the signal's number, and it is said what it was."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        qemu = run.qemu()
        os.kill(qemu, number)

        assert run.status() == 128 + number
        last = run.err().splitlines()[-1]
        assert f"warning: the VM has stopped: QEMU was killed by {number.name} (hint: " in last
        assert hint.format(qemu) in last


def test_killed_bpferry_takes_qemu_along(tmp_path: Path) -> None:
    """When we are killed, QEMU does not stay."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        qemu = run.qemu()
        run.process.kill()

        assert wait_until(lambda: is_gone(qemu))


def test_qemu_that_does_not_start(tmp_path: Path) -> None:
    """What QEMU says at a start that fails is shown, and is status 1."""
    with start(tmp_path, BASE + BROKEN) as run:
        assert run.status() == 1
        assert run.err().count("Invalid parameter 'such'") == 1
        assert "'qemu-arguments': QEMU ended with exit status 1 before it could run" in run.err()


def test_missing_file(tmp_path: Path) -> None:
    """A disk that is not there is named before QEMU starts."""
    with start(tmp_path, BASE + DISK.replace("disk.img", "none.img")) as run:
        assert run.status() == 1
        assert f"'disks[0].file': cannot read '{tmp_path}/none.img': No such file" in run.err()
        assert "hint: correct the path, or create the file" in run.err()


def test_json_at_the_end(tmp_path: Path) -> None:
    """With --json, standard output has one object, and the console goes to standard error."""
    with start(tmp_path, BASE + DISK, "--json") as run:
        assert run.says("hello from the boot sector")
        type_in(run, b"q")

        assert run.status() == 0
        told = json.loads(run.out())
        assert [found["name"] for found in told.pop("endpoints")] == ["qmp"]
        assert told == {"exit_status": 0, "nics": [], "taps": {}, "seen": {}, "warnings": []}
        assert "hello from the boot sector" in run.err()


@pytest.fixture
def tap(namespace: str) -> tuple[str, ...]:
    """Make a tap 't0' in a namespace; return what starts a program there."""
    make = ["ip", "-netns", namespace, "tuntap", "add", "dev", "t0", "mode", "tap"]
    subprocess.run([*make, "multi_queue"], check=True)
    return ("ip", "netns", "exec", namespace)


@pytest.mark.privileged
def test_qemu_has_exactly_its_fds(tmp_path: Path, tap: tuple[str, ...]) -> None:
    """QEMU inherits its monitors, queues, one set and its name's locks, and nothing stray."""
    stray = tmp_path / "stray"
    shell = ("bash", "-c", f'exec 77> {stray}; exec "$@"', "bash")
    with (
        fake.helper(tmp_path / "bpf.sock", fake.grants()),
        start(tmp_path, BASE + CARD, prefix=(*tap, *shell)) as run,
    ):
        qemu = run.qemu()
        assert run.says("qmp: unix socket")
        kinds = sorted(target.split("[")[0] for target in fd_targets(qemu).elements())
        run.signal(signal.SIGINT)
        run.signal(signal.SIGINT)

    own = {"anon_inode:", "/dev/null", "pipe:"}
    inherited = [kind for kind in kinds if kind not in own]
    assert inherited == [
        "/dev/net/tun", "/dev/net/tun", "/dev/net/tun", "/dev/net/tun",
        *sorted(f"{os.environ[name]}/bpferry/.t.lock" for name in LOCKED),
        "anon_inode:bpf-map", "anon_inode:bpf-map", "anon_inode:bpf-map",
        "anon_inode:bpf-prog",
        "socket:", "socket:",
    ]  # fmt: skip


@pytest.mark.privileged
def test_bpferry_keeps_no_copies(tmp_path: Path, tap: tuple[str, ...]) -> None:
    """While QEMU runs, we hold no queue and no program: only the maps, to look at them."""
    with (
        fake.helper(tmp_path / "bpf.sock", fake.grants()),
        start(tmp_path, BASE + CARD, prefix=tap) as run,
    ):
        run.qemu()
        assert run.says("qmp: unix socket")
        wait_until(lambda: kept_by(run) == {"anon_inode:bpf-map": 3})
        kept = kept_by(run)

    assert kept == {"anon_inode:bpf-map": 3}


def kept_by(run: Run) -> dict[str, int]:
    """Return the queues, programs and maps that bpferry holds, and how many."""
    links = fd_targets(run.process.pid)
    return {
        kind: count
        for kind, count in links.items()
        if kind == "/dev/net/tun" or kind.startswith("anon_inode:bpf-")
    }


@pytest.mark.privileged
def test_no_helper_falls_to_qemu_and_says_so(tmp_path: Path, tap: tuple[str, ...]) -> None:
    """Without a helper, one warning has reason and hint, and the VM starts."""
    with start(tmp_path, BASE + CARD, prefix=tap) as run:
        run.qemu()

        warnings = [line for line in run.err().splitlines() if "warning: net0" in line]
        assert len(warnings) == 1
        assert "net0: no eBPF steering, QEMU steers in user space: cannot connect" in warnings[0]
        assert "(hint: is the helper installed" in warnings[0]
        assert "net0: steering by QEMU" in run.err()


@pytest.mark.privileged
@pytest.mark.parametrize("options", [("--require-ebpf",), ("--require-ebpf", "--json")])
def test_required_helper_that_is_not_there(
    options: tuple[str, ...], tmp_path: Path, tap: tuple[str, ...]
) -> None:
    """Where eBPF is demanded, a missing helper is status 5, and no QEMU starts."""
    with start(tmp_path, BASE + CARD, *options, prefix=tap) as run:
        assert run.status() == 5
        assert "cannot connect to the helper" in run.err() + run.out()
        if "--json" in options:
            assert json.loads(run.out())["error"]["code"] == "no-helper"


@pytest.mark.privileged
def test_steering_is_told_when_it_comes(tmp_path: Path, tap: tuple[str, ...]) -> None:
    """When the maps say that the guest has set RSS up, so do we: as a note, and as JSON.

    It has no driver here, so QEMU has switched on one queue of the tap.
    """
    kept: list[OwnedFds] = []

    def make() -> OwnedFds:
        fds = bpf.make_set()
        kept.append(OwnedFds([os.dup(fd) for fd in fds.borrow()]))
        return fds

    table = (0,) * 128
    with (
        fake.helper(tmp_path / "bpf.sock", fake.grants(make)),
        start(tmp_path, BASE + DISK + CARD, "--json", "--require-ebpf", prefix=tap) as run,
    ):
        assert run.says("hello")
        assert "net0: steering by eBPF: QEMU" in run.err()
        with kept[0] as fds:
            bpf.write_maps(fds, bpf.Wanted(types=63, key=bytes(range(40)), table=table))
        assert run.says("net0: nothing is steered, since only one queue is switched on")
        type_in(run, b"q")
        assert run.status() == 0
        answer = json.loads(run.out())

    assert [nic["steering"] for nic in answer["nics"]] == ["ebpf"]
    assert answer["seen"]["net0"]["table"] == list(table)
    assert answer["seen"]["net0"]["key"] == bytes(range(40)).hex()


def runs_vm(parent: int) -> bool:
    """Say whether a child of *parent* is a QEMU with a VM, and not one that is asked something."""
    words = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    lines = [Path(f"/proc/{word}/cmdline").read_bytes().split(b"\0") for word in words]
    return any(b"qemu" in line[0] and b"guest=t,debug-threads=on" in line for line in lines)


def test_closed_standard_streams(tmp_path: Path) -> None:
    """With all standard streams closed, QEMU still gets its own fds and ends as it should."""
    shell = ("bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash")
    with start(tmp_path, BASE + DISK, prefix=shell) as run:
        # It has nowhere to say when the guest runs.
        assert wait_until(lambda: runs_vm(run.process.pid))
        assert wait_until(lambda: state() == "running")
        run.signal(signal.SIGINT)
        assert wait_until(lambda: state() == "stopping")
        run.signal(signal.SIGINT)

        assert run.status() == 0


def test_nothing_of_the_runs_is_left() -> None:
    """The tests above have left no process."""
    assert children() == set()
