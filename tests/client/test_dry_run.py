# SPDX-License-Identifier: LGPL-2.1-or-later
"""A dry run says all that a run would do beside QEMU's command line."""

import json
from pathlib import Path

import pytest

from bpferry.cli.main import main

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

VM = """\
name = "x"
memory = "64 MiB"
accelerator = "tcg"
vcpus = 2

[cpu-tune]
emulator = "0"

[[cpu-tune.vcpus]]
vcpu = 1
processors = "0-1"

[[cpu-tune.vcpu-schedulers]]
vcpus = "0"
policy = "batch"

[[tpms]]
backend = "emulator"
model = "tpm-crb"

[[cards]]
type = "user"
backend = "passt"
link = "down"
"""


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    """Write a VM with processes beside it, threads in their places, and something to tell QEMU."""
    path = tmp_path / "vm.toml"
    path.write_text(VM, encoding="utf-8")
    return path


def test_for_programs(vm: Path, capsys: Captured) -> None:
    """Companions with their steps and argv, commands of QMP, and threads are told."""
    assert main(["run", "--dry-run=json", str(vm)]) == 0

    told = json.loads(capsys.readouterr().out)
    companions = {one["name"]: one for one in told["companions"]}
    assert list(companions) == ["passt", "swtpm"]
    assert companions["passt"]["argv"][:2] == ["passt", "--foreground"]
    assert (companions["passt"]["for"], companions["passt"]["steps"]) == ("cards[0]", [])
    assert [step[0] for step in companions["swtpm"]["steps"]] == ["swtpm_setup", "swtpm_setup"]
    assert told["commands"] == [{"execute": "set_link", "arguments": {"name": "net0", "up": False}}]
    assert told["affinity"] == [
        {"threads": "the emulator", "processors": [0]},
        {"threads": "processor 1 of the guest", "processors": [0, 1]},
    ]
    assert told["scheduling"] == [
        {"threads": "processor 0 of the guest", "policy": "batch", "priority": 0}
    ]
    assert told["plugged_in"] == []


def test_for_people(vm: Path, capsys: Captured) -> None:
    """The same is in the comments, so that the rest is still a command."""
    assert main(["run", "--dry-run", str(vm)]) == 0

    out = capsys.readouterr().out
    comments = [line for line in out.splitlines() if line.startswith("# ")]
    assert "# swtpm runs beside QEMU, for 'tpms[0]':" in comments
    assert any(line.startswith("#     before it: swtpm_setup --tpm2 ") for line in comments)
    assert any(line.startswith("#     passt --foreground --fd net0.qemu") for line in comments)
    assert (
        '# QMP, when QEMU runs: {"execute": "set_link", "arguments": {"name": "net0", "up": false}}'
    ) in comments
    assert "# the emulator runs on the host's processors 0" in comments
    assert "# processor 1 of the guest runs on the host's processors 0-1" in comments
    assert "# processor 0 of the guest is scheduled by 'batch'" in comments


def test_nothing_beside_qemu(tmp_path: Path, capsys: Captured) -> None:
    """A plain VM has nothing of all this."""
    path = tmp_path / "vm.toml"
    path.write_text('name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n', encoding="utf-8")

    assert main(["run", "--dry-run=json", str(path)]) == 0

    told = json.loads(capsys.readouterr().out)
    keys = ("companions", "commands", "plugged_in", "affinity", "scheduling")
    assert [[], [], [], [], []] == [told[key] for key in keys]


@pytest.mark.parametrize(
    ("key", "option", "told"),
    [
        ("", (), (90, "the guest has 90 s, and QEMU is ended then")),
        ("stop-timeout = 300\n", (), (300, "the guest has 300 s, and QEMU is ended then")),
        ("", ("--stop-timeout", "0"), (0, "the guest has as long as it takes")),
    ],
)
def test_how_long_a_stop_may_take(
    key: str,
    option: tuple[str, ...],
    told: tuple[int, str],
    tmp_path: Path,
    capsys: Captured,
) -> None:
    """By the option, the description, or the default."""
    path = tmp_path / "vm.toml"
    path.write_text(f'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n{key}', "utf-8")

    assert main(["run", "--dry-run=json", *option, str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["stop_timeout"] == told[0]
    assert main(["run", "--dry-run", *option, str(path)]) == 0
    assert f"# when the VM is stopped, {told[1]}\n" in capsys.readouterr().out
