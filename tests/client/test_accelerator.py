# SPDX-License-Identifier: LGPL-2.1-or-later
"""KVM is believed only after a guest ran under it."""

import os
import stat
import time
import uuid
from pathlib import Path

import pytest

from bpferry.domain.model.accelerator import Accelerator
from bpferry.qemu import accelerator, store, trial
from bpferry.qemu.capabilities import Capabilities, MachineType
from bpferry.qemu.trial import Outcome, Verdict
from tests.client.support import QEMU, script
from tests.support.people import ALICE, acting_as

SPEAK = """fd=$(echo "$*" | sed 's/.*fd\\/\\([0-9]*\\).*/\\1/'); echo x > /proc/self/fd/$fd"""
"""What a script does that plays a QEMU whose guest runs."""


def _qemu(folder: Path, kvm: str, tcg: str = SPEAK) -> str:
    """Write a QEMU that does *kvm* or *tcg*, by the accelerator, and counts its starts."""
    body = f"""
        echo start >> {folder}/starts
        case "$*" in *"-accel kvm"*) {kvm} ;; *) {tcg} ;; esac
    """
    return script(folder, body)


def _starts(folder: Path) -> int:
    return (folder / "starts").read_text(encoding="ascii").count("start")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is found in a folder of the test, and have a device that opens."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "KVM_DEVICE", "/dev/null")


@pytest.mark.qemu
def test_trial_of_what_works() -> None:
    """An empty machine under TCG runs its firmware, and the trial sees it."""
    assert trial.trial(QEMU, Accelerator.TCG) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo kaputt; exit 1", "kaputt"),
        ("exit 4", "QEMU ended with exit status 4"),
        ("sleep 60", "did not run within 0.3 s"),
    ],
)
def test_trial_of_what_fails(body: str, words: str, tmp_path: Path) -> None:
    """A trial that fails says why, in time."""
    began = time.monotonic()

    problem = trial.trial(script(tmp_path, body), Accelerator.KVM, seconds=0.3)

    assert words in problem
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("kvm", "tcg", "outcome"),
    [
        (SPEAK, "exit 1", Outcome.WORKS),
        ("exit 1", SPEAK, Outcome.FAILS),
        ("sleep 60", SPEAK, Outcome.FAILS),
        ("exit 1", "exit 1", Outcome.UNKNOWN),
        ("sleep 60", "sleep 60", Outcome.UNKNOWN),
    ],
)
def test_failure_is_certain_only_beside_tcg(
    kvm: str, tcg: str, outcome: Outcome, tmp_path: Path
) -> None:
    """Where the guest does not run under TCG either, nothing is known about KVM."""
    assert outcome is trial.find_or_try(_qemu(tmp_path, kvm, tcg), seconds=0.5).outcome


@pytest.mark.parametrize(("kvm", "starts"), [(SPEAK, 1), ("exit 1", 3)])
def test_certain_verdict_is_kept(kvm: str, starts: int, tmp_path: Path) -> None:
    """What is certain is not tried again."""
    qemu = _qemu(tmp_path, kvm)

    assert trial.find_or_try(qemu) == trial.find_or_try(qemu)
    assert starts == _starts(tmp_path)


def test_a_slow_first_start_is_no_verdict(tmp_path: Path) -> None:
    """As right after a boot, when QEMU itself is not in memory yet. The last has more time."""
    first = f"if [ $(wc -l < {tmp_path}/starts) = 1 ]; then sleep 60; fi"
    qemu = _qemu(tmp_path, f"{first}; sleep 1.2; {SPEAK}")

    assert Verdict(Outcome.WORKS) == trial.find_or_try(qemu, seconds=1)
    assert _starts(tmp_path) == 3


def test_uncertain_verdict_is_not_kept(tmp_path: Path) -> None:
    """What could not be told is tried again."""
    qemu = _qemu(tmp_path, "exit 1", "exit 1")

    trial.find_or_try(qemu)
    trial.find_or_try(qemu)

    assert _starts(tmp_path) == 4


def test_refresh_tries_again(tmp_path: Path) -> None:
    """Who asks for it gets a new trial."""
    qemu = _qemu(tmp_path, SPEAK)

    trial.find_or_try(qemu)
    trial.find_or_try(qemu, refresh=True)

    assert _starts(tmp_path) == 2


def test_verdict_ends_with_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next boot it is tried again."""
    qemu = _qemu(tmp_path, SPEAK)
    trial.find_or_try(qemu)
    (tmp_path / "boot_id").write_text("another", encoding="ascii")
    monkeypatch.setattr(trial, "BOOT_ID", str(tmp_path / "boot_id"))

    trial.find_or_try(qemu)

    assert _starts(tmp_path) == 2


def test_verdict_ends_with_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel's module has been loaded again, it is tried again."""
    qemu = _qemu(tmp_path, SPEAK)
    trial.find_or_try(qemu)
    monkeypatch.setattr(trial, "KVM_DEVICE", "/dev/zero")

    trial.find_or_try(qemu)

    assert _starts(tmp_path) == 2


def test_spoilt_verdict_is_not_believed(tmp_path: Path) -> None:
    """A file that holds something else is as good as none."""
    qemu = _qemu(tmp_path, SPEAK)
    trial.find_or_try(qemu)
    (kept,) = (tmp_path / "cache/bpferry/capabilities").iterdir()
    store.write(kept.name, b"\x93\x01\x02\x03")

    assert Outcome.WORKS is trial.find_or_try(qemu).outcome
    assert _starts(tmp_path) == 2


def test_verdict_without_a_folder_to_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be kept, the trial still answers."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")

    assert Verdict(Outcome.WORKS) == trial.find_or_try(_qemu(tmp_path, SPEAK))


def test_named_accelerator_is_not_tried() -> None:
    """Who asks for an accelerator by name gets it."""
    chosen, _ = accelerator.choose(Accelerator.KVM, "/nowhere", "q35")

    assert chosen is Accelerator.KVM


@pytest.mark.parametrize(
    ("kvm", "tcg", "chosen", "reason"),
    [
        ("echo no; exit 1", SPEAK, Accelerator.TCG, "TCG: KVM does not work here: no"),
        ("echo no; exit 1", "exit 1", Accelerator.TCG, "TCG: KVM could not be tested: no"),
        (SPEAK, "exit 1", Accelerator.KVM, "KVM"),
    ],
    ids=["fails", "unknown", "works"],
)
def test_auto_believes_the_trial(
    kvm: str, tcg: str, chosen: Accelerator, reason: str, tmp_path: Path
) -> None:
    """A device that opens decides nothing; what the trial shows does."""
    qemu = _qemu(tmp_path, kvm, tcg)

    assert (chosen, reason) == accelerator.choose(Accelerator.AUTO, qemu, "pc-q35-10.0")


def test_auto_without_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no KVM, nothing is tried."""
    monkeypatch.setattr(trial, "KVM_DEVICE", "/nowhere/kvm")

    chosen, reason = accelerator.choose(Accelerator.AUTO, "/nowhere", "q35")

    assert chosen is Accelerator.TCG
    assert reason.startswith("TCG: cannot open '/nowhere/kvm': No such file or directory (hint: ")


@pytest.mark.privileged
def test_device_that_is_closed_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose it is, which group may use it, and the command that lets the user in, are told."""
    path = Path(f"/dev/bpferry-test-{uuid.uuid4().hex[:8]}")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    monkeypatch.setattr(trial, "KVM_DEVICE", str(path))
    try:
        os.chown(path, 0, 4242)
        path.chmod(0o660)
        with acting_as(ALICE):
            problem, hint = accelerator.find_kvm_problem("/nowhere", "q35")
            _, reason = accelerator.choose(Accelerator.AUTO, "/nowhere", "q35")
    finally:
        path.unlink()

    assert problem == (
        f"cannot open '{path}': only members of the group '4242' may use it (root:4242, mode "
        "0660), and you are not one"
    )
    assert f"sudo usermod -aG 4242 {ALICE.uid}" in hint
    assert reason == f"TCG: {problem} (hint: {hint})"


def test_auto_on_another_kind_of_machine() -> None:
    """Where nothing can be tried, TCG is taken, and that is said."""
    chosen, reason = accelerator.choose(Accelerator.AUTO, "/nowhere", "virt-10.0")

    assert (Accelerator.TCG, True) == (chosen, "ask for it by name" in reason)


@pytest.mark.parametrize(
    ("name", "machine", "kvm", "words"),
    [
        ("tcg", "q35", "exit 1", "works without any privilege"),
        ("xen", "q35", "exit 1", "not used by bpferry"),
        ("kvm", "q35", "echo no; exit 1", "does not work on this host: no"),
        ("kvm", "q35", SPEAK, "works"),
        ("kvm", "virt", SPEAK, "cannot be tested: this QEMU has no machine type 'q35'"),
    ],
)
def test_description(name: str, machine: str, kvm: str, words: str, tmp_path: Path) -> None:
    """Each accelerator is described by what a trial showed."""
    found = Capabilities(
        qemu=_qemu(tmp_path, kvm),
        version=(10, 0, 2),
        machines={machine: MachineType(name=machine)},
    )

    assert words == accelerator.describe(name, found)
