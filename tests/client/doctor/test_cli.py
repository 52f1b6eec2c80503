# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry doctor: its text, its JSON, its status."""

import io
import json
import sys
from pathlib import Path

import pytest

from bpferry.cli import doctor
from bpferry.cli.colours import coloured, wants_colours
from bpferry.cli.main import main
from bpferry.machine.doctor import examination
from bpferry.machine.doctor.examination import Examination
from bpferry.machine.doctor.finding import Feature, Finding

Captured = pytest.CaptureFixture[str]

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"
FOUND = Examination(
    (
        Finding("kernel.version", "ok", "Linux 6.12", (Feature.TAPS,), fix="not shown"),
        Finding(
            "kernel.btf", "warning", LONG, (Feature.EBPF, Feature.SAFETY), fix=LONG, command=LONG
        ),
        Finding("vm.design", "fault", "it is wrong", (Feature.RUN,)),
    ),
    {Feature.RUN: True, Feature.EBPF: False},
)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host be one about which FOUND is said."""
    monkeypatch.setattr(doctor, "examine", lambda *_: FOUND)


@pytest.mark.usefixtures("found")
def test_text_is_aligned_and_commands_stay_whole(capsys: Captured) -> None:
    """What is ok has one line; a warning says for what it matters and what mends it."""
    assert main(["doctor"]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "Kernel",
        "  ok       Linux 6.12",
        "  warning  one two three four five six seven eight nine ten eleven twelve",
        "           thirteen",
        "           matters for: RSS by eBPF, the host's safety",
        "           fix: one two three four five six seven eight nine ten eleven twelve",
        "           thirteen",
        f"           run: {LONG}",
        "",
        "This VM",
        "  fault    it is wrong",
        "",
        "Works here: any VM. Does not work: RSS by eBPF.",
        "1 fault, 1 warning",
    ]


@pytest.mark.usefixtures("found")
def test_json_is_one_object_with_all_of_it(capsys: Captured) -> None:
    """What is ready, and each finding; what is empty is null."""
    assert main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)

    assert [told["status"], told["ready"]] == [1, {"run": True, "ebpf": False}]
    assert told["findings"][1] == {
        "name": "kernel.btf",
        "state": "warning",
        "for": ["ebpf", "safety"],
        "message": LONG,
        "fix": LONG,
        "command": LONG,
    }
    assert told["findings"][2]["command"] is None


def test_a_quoted_command_is_not_broken(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """It can be copied from the text, and programs find it; an apostrophe is no quote."""
    command = "sudo usermod -aG bpferry alice"
    fix = f"it is the host's matter: ask the administrator to run '{command}', and log in"
    one = Finding("kernel.btf", "warning", "so", (Feature.RUN,), fix=fix)
    monkeypatch.setattr(doctor, "examine", lambda *_: Examination((one,), {}))
    main(["doctor"])
    text = capsys.readouterr().out
    main(["doctor", "--json"])

    assert f"\n           '{command}', and log in\n" in text
    assert [command] == [
        found["command"] for found in json.loads(capsys.readouterr().out)["findings"]
    ]


@pytest.mark.usefixtures("found")
def test_only_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """The state is coloured there, and the columns stay."""
    monkeypatch.setattr(doctor, "wants_colours", lambda _: True)
    main(["doctor"])

    assert "  \x1b[32mok     \x1b[0m  Linux 6.12\n" in capsys.readouterr().out


class Terminal(io.StringIO):
    """A standard output that a person reads."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_users_can_turn_colours_off(environment: dict[str, str], wanted: bool) -> None:  # noqa: FBT001
    """By NO_COLOR, and by a terminal that has none."""
    assert wanted is wants_colours(Terminal(), environment)
    assert not wants_colours(io.StringIO(), environment)
    assert not wants_colours(None, environment)


def test_a_word_without_a_colour_is_plain() -> None:
    """Nothing is added."""
    assert coloured("note", "text") == "text"


@pytest.fixture
def no_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nobody answer at the sockets; return the folder."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "tap.sock"))
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(tmp_path / "bpf.sock"))
    return tmp_path


@pytest.mark.qemu
@pytest.mark.usefixtures("no_helpers")
def test_a_host_without_helpers_is_not_ready(capsys: Captured) -> None:
    """On the real host; every line but a command fits on a terminal."""
    assert main(["doctor", "--deep"]) == 1
    lines = capsys.readouterr().out.splitlines()

    assert "cannot connect to the helper" in "\n".join(lines)
    assert "  fault    no eBPF set could be loaded: cannot connect to the helper at" in lines
    assert [] == [
        line for line in lines if len(line) > 80 and " run: " not in line and "/" not in line
    ]


@pytest.mark.qemu
def test_every_group_of_findings_has_a_title(no_helpers: Path, capsys: Captured) -> None:
    """Of a host and of a VM."""
    file = no_helpers / "vm.toml"
    file.write_text('name = "x"\nmemory = "64 MiB"\n', encoding="utf-8")
    main(["doctor", str(file), "--json", "--deep"])
    groups = {
        one["name"].partition(".")[0] for one in json.loads(capsys.readouterr().out)["findings"]
    }

    assert groups <= set(doctor.TITLES)
    assert {"kernel", "tun", "bridges", "helpers", "qemu", "kvm", "vhost", "vm", "proof"} <= groups


def test_a_file_that_is_not_there_is_status_2(tmp_path: Path, capsys: Captured) -> None:
    """As with every command, and one object of JSON."""
    assert main(["doctor", str(tmp_path / "none.toml"), "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-input"


@pytest.mark.qemu
@pytest.mark.usefixtures("no_helpers")
def test_whoever_waits_sees_the_steps(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """On a terminal, before what may take a second."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(examination, "check_kvm", lambda _: ())
    main(["doctor"])
    capsys.readouterr()

    assert "what it can do ..." in screen.getvalue()
    assert "trying KVM ..." in screen.getvalue()
