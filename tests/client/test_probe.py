# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking a QEMU what it can do, and programs that are none."""

import hashlib
import time
from pathlib import Path

import pytest

from bpferry.domain.model import Accelerator
from bpferry.errors import QemuError
from bpferry.qemu import accelerator
from bpferry.qemu.probe import decode_object, find_object_ids, probe
from tests import requires
from tests.client.support import QEMU, group_is_gone, is_gone, script, wait_until
from tests.support.old_qemu import old_qemu

FD = """fd=$(echo "$*" | sed 's/.*fd=\\([0-9]*\\).*/\\1/')"""
"""Finds the monitor's fd, as a script that plays QEMU has to."""


@pytest.mark.qemu
def test_installed_qemu() -> None:
    """The installed QEMU tells its version, its object, and what its cards take."""
    found = probe(QEMU)

    rss = found.objects["rss"]
    assert rss.data.startswith(b"\x7fELF")
    assert hashlib.sha256(rss.data).digest() == rss.digest
    assert found.version >= (9, 0, 0)
    assert (found.has_rss, found.takes_ebpf_fds, found.sandbox) == (True, True, True)


@pytest.mark.qemu
def test_qemu_without_ebpf(tmp_path: Path) -> None:
    """A QEMU from before request-ebpf has no objects, and that is no error."""
    requires.mmdebstrap()
    found = probe(str(old_qemu(tmp_path)))

    assert (found.version[:2], found.objects, found.takes_ebpf_fds) == ((7, 2), {}, False)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/qemu", "cannot start '/nowhere/qemu': No such file or directory"),
        ("/", "cannot start '/': it is a directory"),
        ("/dev/null", "cannot start '/dev/null': it is no regular file"),
        ("/etc/passwd", "it may not be executed by you"),
        ("/bin/true", "cannot probe '/bin/true': it does not speak QMP: EOFError "),
        ("/bin/false", "(exit status 1)"),
        ("a\0b", "null"),
    ],
)
def test_program_that_is_no_qemu(path: str, words: str) -> None:
    """What is no QEMU is named, with the reason."""
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
        ("echo one; echo two >&2; exit 3", "(exit status 3)", "it said: two (and 1 lines before)"),
        ("kill -SEGV $$", "(killed by SIGSEGV)", ""),
        (f"{FD}; echo hello >&$fd; exec sleep 60", "does not speak QMP", ""),
        (f"{FD}; echo '{{}}' >&$fd; exec sleep 60", "does not speak QMP", ""),
    ],
    ids=["exits", "crashes", "garbage", "no-greeting"],
)
def test_script_that_is_no_qemu(body: str, message: str, hint: str, tmp_path: Path) -> None:
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
    assert wait_until(lambda: group_is_gone(group), 5)


def test_child_of_a_script_does_not_stay(tmp_path: Path) -> None:
    """What a wrapper leaves in the background ends with the probe."""
    body = f"sleep 60 & echo $! > {tmp_path}/pid; exit 0"

    with pytest.raises(QemuError):
        probe(script(tmp_path, body), seconds=5)

    pid = int((tmp_path / "pid").read_text(encoding="ascii"))
    assert wait_until(lambda: is_gone(pid), 5)


ENTITIES: list[dict[str, object]] = [
    {"name": "request-ebpf", "meta-type": "command", "arg-type": "7"},
    {"name": "7", "meta-type": "object", "members": [{"name": "id", "type": "9"}]},
    {"name": "9", "meta-type": "enum", "members": [{"name": "rss"}, {"name": "next"}]},
]


def test_every_id_of_the_schema_is_found() -> None:
    """An id that nobody knows yet is found like the others."""
    assert find_object_ids(ENTITIES) == ("rss", "next")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_schema_without_the_command(missing: int) -> None:
    """A schema that lacks a part of the way has no ids."""
    assert find_object_ids([e for n, e in enumerate(ENTITIES) if n != missing]) == ()


@pytest.mark.parametrize("text", ["f0VM\n", "f0V", "!!!!", "", "f0VM===="])
def test_damaged_base64(text: str) -> None:
    """An object that is not clean base64, or empty, is refused."""
    with pytest.raises(QemuError, match="eBPF object 'rss'"):
        decode_object("/qemu", "rss", text)


@pytest.mark.qemu
def test_trial_of_an_accelerator_that_works() -> None:
    """An empty machine under TCG runs its firmware, and the trial sees it."""
    assert accelerator.trial(QEMU, Accelerator.TCG) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo kaputt; exit 1", "kaputt"),
        ("exit 4", "QEMU ended with exit status 4"),
        ("sleep 60", "did not run within 0.3 s"),
    ],
)
def test_trial_of_an_accelerator_that_fails(body: str, words: str, tmp_path: Path) -> None:
    """A trial that fails says why, in time."""
    problem = accelerator.trial(script(tmp_path, body), Accelerator.KVM, seconds=0.3)

    assert words in problem


def test_named_accelerator_is_not_tried() -> None:
    """Who asks for an accelerator by name gets it."""
    chosen, _ = accelerator.choose(Accelerator.KVM, "/nowhere", "q35")

    assert chosen is Accelerator.KVM


@pytest.mark.parametrize(
    ("body", "chosen"),
    [("exit 1", Accelerator.TCG), ("echo x > /proc/self/fd/$FD", Accelerator.KVM)],
)
def test_auto_believes_the_trial(
    body: str, chosen: Accelerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that opens decides nothing; what the trial shows does."""
    monkeypatch.setattr(accelerator, "KVM_DEVICE", "/dev/null")
    find = """FD=$(echo "$*" | sed 's/.*fd\\/\\([0-9]*\\).*/\\1/')"""

    found, _ = accelerator.choose(Accelerator.AUTO, script(tmp_path, f"{find}\n{body}"), "q35")

    assert chosen is found


def test_auto_without_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no KVM, nothing is tried."""
    monkeypatch.setattr(accelerator, "KVM_DEVICE", "/nowhere/kvm")

    chosen, reason = accelerator.choose(Accelerator.AUTO, "/nowhere", "q35")

    assert chosen is Accelerator.TCG
    assert "'/nowhere/kvm' is not there" in reason
