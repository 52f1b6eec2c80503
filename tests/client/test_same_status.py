# SPDX-License-Identifier: LGPL-2.1-or-later
"""`check` ends with the status that `run` would end with, and says why in one style."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bpferry.cli.main import main
from bpferry.qemu import trial
from bpferry_wire.errors import Code
from bpferry_wire.messages import Can, CanReply, Request
from bpferry_wire.packets import decode_request
from tests.client import fake_helper as fake
from tests.client.images import write_qcow2
from tests.client.support import script

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

BASE = 'name = "x"\nmemory = "32 MiB"\naccelerator = "tcg"\n[[serials]]\ntype = "stdio"\n'
CARD = '[[cards]]\nbridge = "br0"\n'
QUEUES = "vcpus = 2\n" + BASE + CARD + "queues = 2\nrss = true\n"


@pytest.fixture(autouse=True)
def _no_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no helper, unless a test serves as one."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "tap.sock"))
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(tmp_path / "bpf.sock"))


def write(folder: Path, text: str) -> str:
    """Write a description and return its path."""
    path = folder / "vm.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@contextlib.contextmanager
def answers_no(folder: Path, code: Code, name: str = "tap") -> Iterator[list[Request]]:
    """Be a helper that does nothing because of *code*; yield what it is asked."""
    asked: list[Request] = []
    no = fake.replies(CanReply(allowed=False, because="why", code=code))
    refuses = fake.refuses(code)

    def answer(conn: Any, request: bytes) -> None:  # noqa: ANN401 - a socket
        (no if isinstance(decode_request(request), Can) else refuses)(conn, request)

    with fake.helper(folder / f"{name}.sock", fake.keeps(asked, answer)):
        yield asked


def statuses(path: str, *options: str) -> tuple[int, int]:
    """Return the status of a check and of a run."""
    return main(["check", path]), main(["run", *options, path])


def checked(path: str, capsys: Captured, *options: str) -> list[dict[str, Any]]:
    """Return the findings of a check."""
    main(["check", "--json", *options, path])
    findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return findings


def test_no_helper(tmp_path: Path) -> None:
    """Nobody can make the tap: 5."""
    assert (5, 5) == statuses(write(tmp_path, BASE + CARD))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.REFUSED, 4), (Code.QUOTA, 4), (Code.NO_SUCH_BRIDGE, 1), (Code.FAILED, 1),
        (Code.UNSUPPORTED, 3),
    ],
)  # fmt: skip
def test_helper_that_would_not_make_the_tap(code: Code, status: int, tmp_path: Path) -> None:
    """What the helper would answer decides."""
    with answers_no(tmp_path, code):
        assert (status, status) == statuses(write(tmp_path, BASE + CARD))


def test_a_check_has_nothing_made(tmp_path: Path) -> None:
    """It asks only whether that would be done: with the card's address, then with another one."""
    with answers_no(tmp_path, Code.REFUSED) as asked:
        main(["check", write(tmp_path, BASE + CARD)])

    assert [Can, Can] == [type(request) for request in asked]


def test_what_the_helper_would_say_is_told_with_the_rest(tmp_path: Path, capsys: Captured) -> None:
    """A run that fails anyway tells it too, and makes no tap."""
    with answers_no(tmp_path, Code.REFUSED) as asked:
        path = write(tmp_path, f'kernel = "/none"\n{BASE}{CARD}')
        assert 4 == main(["run", path])
        err = capsys.readouterr().err

        assert 4 == main(["run", "--json", path])
        answer = json.loads(capsys.readouterr().out)

    assert "'cards[0]': the helper refused: why" in err
    assert "cannot read '/none'" in err
    assert all(isinstance(request, Can) for request in asked)
    assert [("refused", "cards[0]"), ("not-ready", "kernel")] == [
        (one["kind"], one["place"]) for one in answer["findings"]
    ]


def test_no_ebpf_is_a_warning(tmp_path: Path, capsys: Captured) -> None:
    """The VM starts without it, and both say so."""
    with (
        answers_no(tmp_path, Code.REFUSED, "bpf"),
        fake.helper(tmp_path / "tap.sock", fake.permits(fake.hangs_up)),
    ):
        path = write(tmp_path, QUEUES)
        assert 0 == main(["check", path])
        out = capsys.readouterr().out
        main(["run", "--dry-run", path])
        dry = capsys.readouterr().out

    assert "warning" in out
    assert "no eBPF steering, QEMU steers in user space: the helper refused: why" in out
    assert "# warning" in dry
    assert "no eBPF steering, QEMU steers in user space: the helper refused: why" in dry


def test_a_dry_run_shows_what_the_helpers_answers_lead_to(tmp_path: Path, capsys: Captured) -> None:
    """The summary of a card and QEMU's command line agree with the warning about it."""
    with fake.helper(tmp_path / "tap.sock", fake.permits(fake.hangs_up)):
        path = write(tmp_path, QUEUES)
        assert 0 == main(["run", "--dry-run", path])
        without = capsys.readouterr().out
        with fake.helper(tmp_path / "bpf.sock", fake.permits(fake.hangs_up)):
            assert 0 == main(["run", "--dry-run", path])
        answered = capsys.readouterr().out

    assert "# net0: steering by QEMU, queues: 2" in without
    assert "would be asked to load it" not in without
    assert "ebpf-rss-fds" not in without
    assert "# net0: steering by eBPF, queues: 2" in answered
    assert "the helper would be asked to load it" in answered
    assert "ebpf-rss-fds" in answered


@pytest.mark.parametrize("command", ["run", "check"])
def test_help_says_that_the_helpers_are_asked(command: str, capsys: Captured) -> None:
    """They are, by a check and by a dry run, and make nothing."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    words = " ".join(capsys.readouterr().out.split())

    assert "no helper is asked" not in words
    assert "helpers" in words
    assert "only asked" not in words


def test_a_tap_for_two_cards_stops_a_run(tmp_path: Path, capsys: Captured) -> None:
    """A contradiction of the description is 2, and told by all."""
    path = write(tmp_path, BASE + '[[cards]]\ntap = "lo"\n' * 2)

    assert (2, 2) == statuses(path)
    captured = capsys.readouterr()
    assert "another card has 'lo' too" in captured.out
    assert "another card has 'lo' too" in captured.err
    assert 2 == main(["run", "--dry-run", path])


def test_vhost_that_is_not_there_is_missed_before_anybody_is_asked_for_a_tap(
    tmp_path: Path,
) -> None:
    """No tap is made for a card that cannot have the vhost that it asks for by name."""
    card = CARD + 'driver = "vhost"\nvhost-device = "/nosuch"\n'
    asked: list[Request] = []
    with fake.helper(tmp_path / "tap.sock", fake.keeps(asked, fake.permits(fake.hangs_up))):
        assert (1, 1) == statuses(write(tmp_path, BASE + card))

    assert all(isinstance(request, Can) for request in asked)


def test_port_that_vnc_cannot_have(tmp_path: Path, capsys: Captured) -> None:
    """A value out of range is a mistake, wherever it is found."""
    path = write(tmp_path, BASE + '[[graphics]]\ntype = "vnc"\nport = 22\n')

    assert (2, 2) == statuses(path)
    assert "it is 22: expected a number from 5900 to 65535" in capsys.readouterr().out


def test_unsupported_counts_before_a_mistake(tmp_path: Path, capsys: Captured) -> None:
    """And both before what is missing here; each is told."""
    path = write(
        tmp_path,
        f'kernel = "/none"\nmachine-type = "nosuch"\n{BASE}[[graphics]]\ntype = "vnc"\nport = 22\n',
    )

    assert (3, 3) == statuses(path)
    capsys.readouterr()
    assert ["unsupported", "bad-input", "not-ready"] == [
        one["kind"] for one in checked(path, capsys) if one["severity"] == "error"
    ]


def test_worst_first(tmp_path: Path, capsys: Captured) -> None:
    """Errors, what may lose data, warnings, notes."""
    write_qcow2(tmp_path / "i")
    path = write(
        tmp_path,
        f'kernel = "/none"\n{BASE}[[cards]]\ntype = "user"\nmodel = "rtl8139"\n'
        '[[graphics]]\ntype = "vnc"\nlistens = [{ type = "address", address = "0.0.0.0" }]\n'
        '[[disks]]\nfile = "i"\nformat = "raw"\n',
    )

    severities = [one["severity"] for one in checked(path, capsys)]

    assert ["error", "data-loss", "warning", "note"] == severities
    main(["check", path])
    words = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert ["error", "warning, data loss", "warning", "note"] == [
        word for word in words if not word.startswith(" ")
    ]


def test_kvm_that_does_not_work_is_a_warning(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VM that would use KVM is told that it is emulated, and why."""
    monkeypatch.setattr(trial, "KVM_DEVICE", "/nowhere/kvm")
    path = write(tmp_path, BASE.replace('accelerator = "tcg"\n', ""))

    (told,) = checked(path, capsys)

    assert ("warning", "host") == (told["severity"], told["kind"])
    assert told["message"].startswith("QEMU emulates the processor")
    assert told["message"].endswith("cannot open '/nowhere/kvm': No such file or directory")
    assert 'accelerator = "tcg"' in told["hint"]


def test_kvm_by_name_is_required(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes it gets KVM or an error, unless the description allows TCG instead."""
    monkeypatch.setattr(trial, "KVM_DEVICE", "/nowhere/kvm")
    by_name = BASE.replace('"tcg"', '"kvm"')
    path = write(tmp_path, by_name)

    assert (1, 1) == statuses(path)
    capsys.readouterr()
    (told,) = checked(path, capsys)
    assert ("error", "accelerator") == (told["severity"], told["place"])
    assert "cannot open '/nowhere/kvm'" in told["message"]
    assert "tcg-fallback = true" in told["hint"]

    (told,) = checked(write(tmp_path, "tcg-fallback = true\n" + by_name), capsys)
    assert "warning" == told["severity"]


def test_file_of_a_secret_that_is_not_there(tmp_path: Path) -> None:
    """A wrong file on the command line is 2; a wrong one in the description is missing here."""
    (tmp_path / "i").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(2048))
    disk = (
        '[[disks]]\nfile = "i"\nformat = "raw"\n[disks.encryption]\nformat = "luks"\n'
        'secrets = [{ usage = "key" }]\n'
    )
    path = write(tmp_path, BASE + disk)
    assert 2 == main(["check", "--secret", "key=/none", path])
    assert 2 == main(["run", "--secret", "key=/none", path])
    path = write(tmp_path, BASE + '[[secrets]]\nname = "key"\nfile = "/none"\n' + disk)
    assert (1, 1) == statuses(path)


def test_unreadable_description(tmp_path: Path, capsys: Captured) -> None:
    """It is told in the same style as the rest, on standard output."""
    assert 2 == main(["check", str(tmp_path / "none.toml")])
    out, err = capsys.readouterr()
    assert out.startswith(f"error: cannot read '{tmp_path}/none.toml'")
    assert "    fix: " in out
    assert not err


@pytest.mark.parametrize(("content", "status"), [(None, 2), ("text", 2), ("#!/bin/true\n", 1)])
def test_capabilities_of_what_is_no_qemu(content: str | None, status: int, tmp_path: Path) -> None:
    """What cannot be started is a wrong path, and a program that does not answer has failed."""
    path = tmp_path / "qemu"
    if content:
        path = Path(script(tmp_path, "true", "qemu"))
        path.write_text(content, encoding="utf-8")

    assert status == main(["capabilities", str(path)])


MISTAKES = """\
name = "x"
memory = "64 things"
vcpus = "a"
kernel = "/none"
nonsense = 3
[[cards]]
bridge = "br0"
queues = "x"
[[disks]]
fil = "a"
[[disks]]
file = "gone"
format = "raw"
"""


def test_mistakes_hide_nothing_that_is_missing(tmp_path: Path, capsys: Captured) -> None:
    """All is told at once: what is wrong, and what the rest of the description lacks here."""
    path = write(tmp_path, MISTAKES)

    assert (2, 2) == statuses(path)
    capsys.readouterr()
    assert [
        ("bad-input", "memory"), ("bad-input", "vcpus"), ("bad-input", "nonsense"),
        ("bad-input", "cards[0].queues"), ("bad-input", "disks[0].fil"),
        ("no-helper", "cards[0]"), ("not-ready", "kernel"), ("not-ready", "disks[1].file"),
    ] == [
        (one["kind"], one["place"]) for one in checked(path, capsys) if one["severity"] == "error"
    ]  # fmt: skip


def test_mistakes_in_xml_hide_nothing_either(tmp_path: Path, capsys: Captured) -> None:
    """Nor does what is not supported."""
    path = tmp_path / "vm.xml"
    path.write_text(
        "<domain type='qemu'><name>a/b</name><memory unit='MiB'>64</memory>"
        "<os><type machine='q35'>hvm</type><kernel>/none</kernel></os><spaceship/></domain>",
        encoding="utf-8",
    )

    assert (3, 3) == statuses(str(path))
    capsys.readouterr()
    assert [
        ("unsupported", "/domain/spaceship"),
        ("bad-input", "/domain/name"),
        ("not-ready", "/domain/os/kernel"),
    ] == [(one["kind"], one["place"]) for one in checked(str(path), capsys)]


def test_what_follows_from_a_mistake_is_not_told(tmp_path: Path, capsys: Captured) -> None:
    """Without its number of processors, the VM has one; that is no reason to blame the rest."""
    text = f'vcpus = "4"\n{BASE}[cpu]\nsockets = 1\ncores = 4\nthreads = 1\n'

    (told,) = checked(write(tmp_path, text), capsys)

    assert "vcpus" == told["place"]
