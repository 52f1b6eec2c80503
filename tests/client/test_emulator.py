# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry-qemu-system-x86_64: what libvirt asks it, and what it starts."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

import pytest

from bpferry.cli.emulator import find_qemu, main
from bpferry_wire.messages import TapReply
from tests import requires
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.support import QEMU

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "bpferry-qemu-system-x86_64"

MACHINE: Final = "-M q35,accel=tcg -m 32 -smp 4 -S -display none -nodefaults -qmp stdio"

PROGRAM: Final = f"""#!{sys.executable}
import sys
sys.path[:0] = [{str(ROOT / "client")!r}, {str(ROOT / "shared")!r}]
from bpferry.cli import emulator
sys.exit(emulator.main())
"""


@pytest.fixture
def emulator(tmp_path: Path) -> str:
    """Return the path of a program with the name and the code that tools/install gives it."""
    requires.qemu()
    path = tmp_path / NAME
    path.write_text(PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.qemu
@pytest.mark.parametrize("words", ["-version", "-help", "-cpu help -machine none", "-M help"])
def test_questions_are_answered_as_by_qemu(words: str, emulator: str) -> None:
    """The same words and the same status."""
    answers = [
        subprocess.run([program, *words.split()], capture_output=True, check=True).stdout
        for program in (QEMU, emulator)
    ]

    assert answers[0].replace(QEMU.encode(), b"") == answers[1].replace(QEMU.encode(), b"")


@pytest.mark.qemu
def test_libvirts_probe_finds_a_qemu(emulator: str, tmp_path: Path) -> None:
    """With libvirt's own words: a daemon with a monitor, and a file with its process id."""
    monitor, pid_file = tmp_path / "m", tmp_path / "pid"
    words = "-S -no-user-config -nodefaults -nographic -machine none,accel=tcg -daemonize"
    subprocess.run(
        [emulator, *words.split(), "-qmp", f"unix:{monitor},server=on,wait=off",
         "-pidfile", str(pid_file)],
        check=True, timeout=120,
    )  # fmt: skip
    pid = int(pid_file.read_text())
    program = os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - as text
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rw") as stream:
        sock.connect(str(monitor))
        stream.readline()
        found = [_ask(stream, word) for word in ("qmp_capabilities", "query-kvm", "quit")]
    # Its parent was ours; as a daemon it has none that would wait for it.
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert program == os.path.realpath(QEMU)
    assert all("return" in answer for answer in found)


def _ask(stream: TextIO, command: str) -> dict[str, Any]:
    stream.write(json.dumps({"execute": command}) + "\n")
    stream.flush()
    while True:
        answer: dict[str, Any] = json.loads(stream.readline())
        if "event" not in answer:
            return answer


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Return an environment as libvirt makes it, with the helpers' sockets in a folder."""
    return {
        **requires.environment(),
        "BPFERRY_TAP_SOCKET": str(tmp_path / "tap.sock"),
        "BPFERRY_BPF_SOCKET": str(tmp_path / "bpf.sock"),
    }


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.parametrize("form", ["-netdev", "-nic"])
def test_a_vm_has_what_its_card_lacked(
    form: str, emulator: str, home: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    """A real QEMU takes the command line, and says that its card has several queues and eBPF."""
    words = [
        "-M",
        "q35,accel=tcg",
        "-m",
        "32",
        "-smp",
        "4",
        "-S",
        "-display",
        "none",
        "-nodefaults",
        "-qmp",
        "stdio",
    ]
    words += (
        ["-netdev", "bridge,id=n0", "-device", "virtio-net-pci,netdev=n0,id=c0"]
        if form == "-netdev"
        else ["-nic", "bridge,model=virtio"]
    )
    made = taps.made(namespace, 4)
    with (
        fake.helper(
            tmp_path / "tap.sock",
            fake.permits(fake.gives_tap(made, TapReply(taps.NAME, "br0", 1500))),
        ),
        fake.helper(tmp_path / "bpf.sock", fake.grants()),
    ):
        done = subprocess.run(
            [emulator, *words], env=home, capture_output=True, text=True, check=False, timeout=120,
            input='{"execute":"qmp_capabilities"}\n{"execute":"query-rx-filter"}\n'
            '{"execute":"human-monitor-command","arguments":{"command-line":"info qtree"}}\n'
            '{"execute":"quit"}\n',
        )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]

    assert 0 == done.returncode, done.stderr
    tree = next(answer["return"] for answer in answers if "bus: main" in str(answer.get("return")))
    assert "mq = true" in tree
    assert "vectors = 10 (0xa)" in tree
    assert "rss = true" in tree
    assert "steering by eBPF" in done.stderr


def test_a_name_without_a_qemu(capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, with the status of a shell."""
    assert 127 == main(["/usr/local/bin/bpferry-qemu-system-nosuch", "-version"])
    assert "there is no such QEMU" in capsys.readouterr().err
    assert [None, None] == [find_qemu(name) for name in ("bpferry-sh", "qemu-system-x86_64")]


def test_little_is_imported_for_a_question() -> None:
    """Neither what reads options, nor msgspec, nor asyncio."""
    code = (
        "import sys, bpferry.cli.emulator; "
        "print({'argparse', 'msgspec', 'asyncio', 'json', 'pathlib'} & set(sys.modules))"
    )
    path = os.pathsep.join((str(ROOT / "client"), str(ROOT / "shared")))
    said = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": path}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip

    assert "set()" == said.stdout.strip()


SLOW: Final = {
    *("argparse", "asyncio", "copy", "ipaddress", "pathlib", "random", "shlex", "urllib.parse"),
    *("bpferry.cli.main", "bpferry.network.neighbours"),
}
"""What is slow to import, and of no use to a start."""

START: Final = f"""
import sys
before = set(sys.modules)
from bpferry.cli import emulator, exec
from bpferry.network import tap_bridge
def become(*_arguments, **_fds):
    print({SLOW!r} & (set(sys.modules) - before))
    return OSError(1, "not here")
exec.become = become
emulator.main([{NAME!r}, *{MACHINE!r}.split(), "-netdev", "bridge,id=n0", "-device",
               "virtio-net-pci,netdev=n0"])
"""


@pytest.mark.qemu
def test_little_is_imported_for_a_start(home: dict[str, str]) -> None:
    """Each module that is not needed makes all VMs of a launcher start later."""
    requires.qemu()
    path = os.pathsep.join((str(ROOT / "client"), str(ROOT / "shared")))
    # Once more if QEMU had to be asked first, which takes asyncio.
    said = [
        subprocess.run(
            [sys.executable, "-c", START], env={**home, "PYTHONPATH": path}, check=True,
            capture_output=True, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip

    assert "set()" == said[-1].stdout.strip(), said[-1].stderr
