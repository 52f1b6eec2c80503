# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking a QEMU what it can do, and programs that are not QEMU."""

import gc
import hashlib
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from bpferry.errors import QemuError
from bpferry.qemu.asker import decode_object
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.probe import probe
from tests import requires
from tests.client.support import QEMU, group_is_gone, is_gone, script, wait_until

FD = """fd=$(echo "$*" | sed 's/.*fd=\\([0-9]*\\).*/\\1/')"""
"""Finds the monitor's fd, as a script that plays QEMU has to."""

DIES_AFTER_ANSWERS: Final = """\
import os, re, socket, subprocess, sys, threading
qemu, answers, *words = sys.argv[1:]
client = socket.socket(fileno=int(re.search("fd=([0-9]+)", " ".join(words))[1]))
ours, theirs = socket.socketpair()
words = [re.sub("fd=[0-9]+", f"fd={theirs.fileno()}", word) for word in words]
child = subprocess.Popen([qemu, *words], pass_fds=[theirs.fileno()])

def forward():
    while data := client.recv(1 << 16):
        ours.sendall(data)

threading.Thread(target=forward, daemon=True).start()
lines = ours.makefile("rb")
for _ in range(int(answers)):
    client.sendall(lines.readline())
child.send_signal(11)
child.wait()
os._exit(128 + 11)
"""
"""Stands between the client and a real QEMU, until that has a fault in its memory."""


@pytest.fixture(name="installed", scope="module")
def _installed() -> Capabilities:
    """Return what the installed QEMU can do, asked once."""
    requires.qemu()
    return probe(QEMU)


@pytest.mark.qemu
def test_version_and_guests(installed: Capabilities) -> None:
    """The installed QEMU tells its version and what its guests are."""
    assert installed.version >= (9, 0, 0)
    assert installed.arch == "x86_64"


@pytest.mark.qemu
def test_ebpf_object(installed: Capabilities) -> None:
    """Its object is an ELF file, with its digest."""
    rss = installed.objects["rss"]

    assert rss.data.startswith(b"\x7fELF")
    assert hashlib.sha256(rss.data).digest() == rss.digest


@pytest.mark.qemu
def test_card(installed: Capabilities) -> None:
    """What is asked most often about cards is right."""
    assert (True, True, True) == (
        installed.has_rss, installed.takes_ebpf_fds, installed.sandbox,
    )  # fmt: skip
    assert installed.has_property("virtio-net-pci", "tx_queue_size")
    assert not installed.has_property("virtio-net-pci", "no-such-property")


@pytest.mark.qemu
@pytest.mark.parametrize(
    "driver", ["virtio-blk-pci", "ide-hd", "scsi-hd", "usb-tablet", "qxl", "pcie-root-port", "VGA"]
)
def test_devices_are_found(driver: str, installed: Capabilities) -> None:
    """Devices of all kinds are found, also those in loadable modules, such as qxl."""
    assert installed.has_device(driver)


@pytest.mark.qemu
def test_what_is_not_a_device_is_not_found(installed: Capabilities) -> None:
    """Abstract types, processors and inventions are not devices to add."""
    names = ("virtio-device", "qemu64-x86_64-cpu", "no-such-device", "")

    assert [] == [name for name in names if installed.has_device(name)]


@pytest.mark.qemu
def test_machine_by_its_alias(installed: Capabilities) -> None:
    """A machine type is found by its name and by its alias."""
    name = installed.machine_name("q35")

    assert name.startswith("pc-q35-")
    assert installed.find_machine(name) == installed.find_machine("q35")
    assert installed.find_machine("no-such-machine") is None


@pytest.mark.qemu
def test_default_machine(installed: Capabilities) -> None:
    """The machine type that QEMU takes by itself is known."""
    assert installed.default_machine.startswith("pc-i440fx-")


@pytest.mark.qemu
def test_machine_properties(installed: Capabilities) -> None:
    """All members of a family of machine types have its properties."""
    machines = ("q35", "pc-q35-7.2", "pc", "no-such-machine")

    assert [True, True, True, False] == [
        installed.has_machine_property(machine, "vmport") for machine in machines
    ]
    assert not installed.has_machine_property("q35", "no-such-property")


@pytest.mark.qemu
def test_processors(installed: Capabilities) -> None:
    """Models and their features are told apart."""
    assert {"host", "max", "qemu64"} <= installed.cpu_models.keys()
    assert installed.cpu_models["max"].typename == "max-x86_64-cpu"
    assert installed.cpu_properties["avx2"] == "bool"


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("table", "key", "member"),
    [
        ("netdevs", "tap", "vhostfds"),
        ("blockdevs", "qcow2", "discard"),
        ("chardevs", "socket", "addr"),
        ("chardevs", "file", "append"),
        ("audiodevs", "pa", "server"),
        ("displays", "egl-headless", "rendernode"),
        ("object_types", "memory-backend-memfd", "share"),
        ("commands", "device_add", "json-cli-hotplug"),
        ("options", "sandbox", "spawn"),
    ],
)
def test_tables_of_the_schema(table: str, key: str, member: str, installed: Capabilities) -> None:
    """Each table has what QEMU takes there, with the parameters."""
    assert member in getattr(installed, table)[key]


@pytest.mark.qemu
def test_small_tables(installed: Capabilities) -> None:
    """Accelerators and TPMs are listed."""
    assert {"kvm", "tcg"} <= installed.accelerators
    assert installed.tpm_types == {"emulator", "passthrough"}


@pytest.mark.qemu
def test_one_start_of_qemu_is_enough(tmp_path: Path) -> None:
    """Everything is asked in one start."""
    body = f'echo once >> {tmp_path}/starts; exec {QEMU} "$@"'

    probe(script(tmp_path, body))

    assert (tmp_path / "starts").read_text(encoding="ascii") == "once\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/qemu", "cannot start '/nowhere/qemu': No such file or directory"),
        ("/", "cannot start '/': it is a directory"),
        ("/dev/null", "cannot start '/dev/null': it is not a regular file"),
        ("/etc/passwd", "you have no permission to execute it"),
        ("/bin/true", "cannot probe '/bin/true': it does not speak QMP: it closed the connection "),
        ("/bin/false", "(exit status 1)"),
        ("a\0b", "null"),
    ],
)
def test_program_that_is_not_a_qemu(path: str, words: str) -> None:
    """What is not a QEMU is named, with the reason."""
    with pytest.raises(QemuError) as caught:
        probe(path, seconds=5)

    assert words in caught.value.message


def test_text_file_is_not_handed_to_a_shell(tmp_path: Path) -> None:
    """A text file that may be executed is refused, and none of its lines is run."""
    path = tmp_path / "text"
    path.write_text(f"touch {tmp_path}/ran\n", encoding="utf-8")
    path.chmod(0o755)

    with pytest.raises(QemuError, match="neither a program"):
        probe(str(path), seconds=5)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("echo one; echo two >&2; exit 3", "(exit status 3)", "it said: two (and 1 line before)"),
        ("kill -SEGV $$", "(killed by SIGSEGV)", ""),
        (f"{FD}; echo hello >&$fd; exec sleep 60", "does not speak QMP", ""),
        (f"{FD}; echo '{{}}' >&$fd; exec sleep 60", "does not speak QMP", ""),
    ],
    ids=["exits", "crashes", "garbage", "no-greeting"],
)
def test_script_that_is_not_a_qemu(body: str, message: str, hint: str, tmp_path: Path) -> None:
    """A script that ends, crashes or talks nonsense is told apart, in its own words."""
    with pytest.raises(QemuError) as caught:
        probe(script(tmp_path, body), seconds=5)

    assert message in caught.value.message
    assert hint == caught.value.hint


GREETING = (
    '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}, "package": ""}, '
    '"capabilities": []}}'
)


@pytest.mark.parametrize(
    "body",
    [
        "echo about to hang >&2; sleep 60",
        "yes >&2 & sleep 60",
        f"{FD}; echo '{GREETING}' >&$fd; sleep 60",
        "trap '' TERM INT HUP; sleep 60",
    ],
    ids=["silent", "noisy", "after-greeting", "stubborn"],
)
def test_script_that_hangs(body: str, tmp_path: Path) -> None:
    """What does not answer is given up in time, and nothing of it keeps running."""
    path = script(tmp_path, f"echo $$ > {tmp_path}/pid\n{body}")
    began = time.monotonic()

    with pytest.raises(QemuError, match=r"did not answer within 0\.5 s"):
        probe(path, seconds=0.5)

    group = int((tmp_path / "pid").read_text(encoding="ascii"))
    assert time.monotonic() - began < 4
    assert wait_until(lambda: group_is_gone(group))


STUCK: Final = """
import re, socket, subprocess, sys, threading, time
number = re.search(r"fd=(\\d+)", " ".join(sys.argv))[1]
client = socket.socket(fileno=int(number))
ours, theirs = socket.socketpair()
argv = [word.replace(f"fd={number}", f"fd={theirs.fileno()}") for word in sys.argv[1:]]
subprocess.Popen([QEMU, *argv], pass_fds=[theirs.fileno()])

def answer():
    while True:
        client.sendall(ours.recv(65536))

threading.Thread(target=answer, daemon=True).start()
while b"device-list-properties" not in (asked := client.recv(65536)):
    ours.sendall(asked)
time.sleep(600)
"""
"""Stands before a QEMU, and reads nothing more once it is asked about the first devices."""


@pytest.mark.qemu
def test_qemu_that_gets_stuck_is_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Questions are still on their way; that they fail too is not told."""
    body = f"exec python3 - \"$@\" <<'END'\nQEMU = '{QEMU}'\n{STUCK}\nEND"
    with pytest.raises(QemuError, match="did not answer within 5 s"):
        probe(script(tmp_path, body), seconds=5)
    gc.collect()

    assert [] == [record for record in caplog.records if record.name == "asyncio"]


def test_child_of_a_script_does_not_stay(tmp_path: Path) -> None:
    """What a wrapper leaves in the background ends with the probe."""
    body = f"sleep 60 & echo $! > {tmp_path}/pid; exit 0"

    with pytest.raises(QemuError):
        probe(script(tmp_path, body), seconds=5)

    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    assert wait_until(lambda: is_gone(pid))


@pytest.mark.qemu
def test_qemu_that_dies_while_it_is_asked(tmp_path: Path) -> None:
    """A QEMU that ends amid the questions is an error, not one that can do less."""
    (tmp_path / "dies.py").write_text(DIES_AFTER_ANSWERS)
    body = f'exec {sys.executable} -I {tmp_path}/dies.py {QEMU} 4 "$@"'

    with pytest.raises(QemuError, match=r"it ended during '[a-z-]+' \(exit status 139\)"):
        probe(script(tmp_path, body), seconds=20)


@pytest.mark.parametrize("text", ["f0VM\n", "f0V", "!!!!", "", "f0VM===="])
def test_damaged_base64(text: str) -> None:
    """An object that is not clean base64, or empty, is refused."""
    with pytest.raises(QemuError, match="eBPF object 'rss'"):
        decode_object("/qemu", "rss", text)
