# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits are set by systemd, and looked for in the kernel.

A systemctl of our own plays systemd here; tests/vm has the real one.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.commandline.parts import Limit
from bpferry.machine import in_force, limits
from bpferry.machine.in_force import GROUPS, confirm, group_of, look
from bpferry.machine.limits import confined, find_unavailable
from tests.client.support import Record, script

QUOTA = Limit("CPUQuota", "50%", "cpu-tune.global-quota")
WEIGHT = Limit("CPUWeight", "50", "cpu-tune.weight")
MEMORY = Limit("MemoryMax", "1000K", "memory-limits.hard")
IO = Limit("IOWeight", "30", "io-tune.weight")

SYSTEMCTL = """
echo "$@" >> {folder}/asked
[ -e {folder}/manager ] || {{ echo "Failed to connect to bus: No medium found" >&2; exit 1; }}
cat {folder}/manager
"""


class Host:
    """A host with a systemd of the user, and its control groups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.groups = folder / "groups"

    def has_manager(self, *controllers: str, version: str = "252.39-1~deb12u2") -> None:
        """Let there be a systemd of the user, which was given *controllers*."""
        group = self.groups / "user@7.service"
        group.mkdir(parents=True)
        (group / "cgroup.controllers").write_text(" ".join(controllers) + "\n", encoding="ascii")
        text = f"Version={version}\nControlGroup=/user@7.service\n"
        (self.folder / "manager").write_text(text, encoding="ascii")

    def has(self, **files: str) -> Path:
        """Return a control group with *files*, whose dots are underscores here."""
        group = self.groups / "some.scope"
        group.mkdir(parents=True)
        for name, text in files.items():
            (group / name.replace("_", ".")).write_text(text, encoding="ascii")
        return group

    def asked(self) -> list[str]:
        """Return what systemd was asked to change."""
        lines = (self.folder / "asked").read_text(encoding="utf-8").splitlines()
        return [line.removeprefix("--user ") for line in lines if " show " not in line]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host, so far without a systemd of the user."""
    (tmp_path / "bin").mkdir()
    Path(script(tmp_path, SYSTEMCTL.format(folder=tmp_path))).rename(tmp_path / "bin/systemctl")
    Path(script(tmp_path, "exit 1")).rename(tmp_path / "bin/systemd-run")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(in_force, "PAUSE_SECONDS", 0.0)
    return Host(tmp_path)


def confirmed(group: Path, asked: Sequence[Limit]) -> Record:
    """Return who was told which of *asked* are in force in *group*."""
    reporter = Record()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_force, "group_of", lambda _: group)
        asyncio.run(confirm(7, asked, reporter))
    return reporter


def test_without_limits_systemd_is_not_asked(host: Host) -> None:
    """A VM without any starts where there is no systemd."""
    assert [] == list(find_unavailable(()))
    with confined("web", ()) as words:
        assert () == words
    assert not (host.folder / "asked").exists()


def test_without_a_systemd_of_the_user_limits_are_refused(host: Host) -> None:
    """Once for each controller, with the key of the first limit and what can be done."""
    found = list(find_unavailable((WEIGHT, QUOTA, MEMORY), host.groups))

    assert {"cpu-tune.weight", "memory-limits.hard"} == {error.element for error in found}
    for error in found:
        assert "is set by your systemd for the unit of QEMU, and " in error.message
        assert "remove it" in error.hint
        assert "foreground" not in error.hint


def test_controller_that_was_not_delegated_is_refused(host: Host) -> None:
    """The hint has those that there are and the one that lacks."""
    host.has_manager("cpu", "memory", "pids")
    (error,) = find_unavailable((QUOTA, MEMORY, IO), host.groups)

    assert "io-tune.weight" == error.element
    assert "needs the controller 'io', which your systemd was not given" in error.message
    assert "'Delegate=cpu io memory pids'" in error.hint


def test_host_without_control_groups_v2_has_no_controller(host: Host) -> None:
    """Its systemd has nothing to delegate."""
    host.has_manager()
    (error,) = find_unavailable((QUOTA,), host.groups)

    assert "(it has: none)" in error.message


def test_qemu_of_a_run_in_the_foreground_gets_a_scope(host: Host) -> None:
    """systemd-run makes it and becomes QEMU; a new one is told to leave dollar signs alone."""
    host.has_manager("cpu", version="257 (257.9-1)")
    with confined("web", (WEIGHT, QUOTA)) as words:
        assert (
            "systemd-run", "--user", "--scope", "--quiet", "--collect",
            f"--unit=bpferry-web-{os.getpid()}.scope", "--description=QEMU of the VM 'web'",
            "--expand-environment=no", "-p", "CPUWeight=50", "-p", "CPUQuota=50%", "--",
        ) == words  # fmt: skip
    assert [] == host.asked()


def test_old_systemd_run_does_not_get_an_option_that_it_lacks(host: Host) -> None:
    """Version 252 neither has it nor replaces anything."""
    host.has_manager("cpu")
    with confined("web", (QUOTA,)) as words:
        assert "--expand-environment=no" not in words


def test_unit_of_the_vm_has_the_limits_until_the_vm_ends(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later start may have a description without them."""
    host.has_manager("cpu", "io")
    own = Path("/sys/fs/cgroup/user@7.service/app.slice/bpferry@web.service")
    monkeypatch.setattr(limits, "group_of", lambda _: own)
    more = Limit("IODeviceWeight", "/dev/sda 7", ""), Limit("IODeviceWeight", "/dev/sdb 9", "")
    with confined("web", (QUOTA, *more)) as words:
        assert () == words
        set_now = host.asked()

    setting = "set-property --runtime bpferry@web.service"
    assert [
        f"{setting} CPUQuota=50% IODeviceWeight=/dev/sda 7 IODeviceWeight=/dev/sdb 9"
    ] == set_now
    assert [*set_now, f"{setting} CPUQuota= IODeviceWeight="] == host.asked()


def test_what_the_kernel_has_is_told(host: Host) -> None:
    """A quota by its share, memory rounded down to a page, an I/O weight among others."""
    group = host.has(
        cpu_weight="50\n",
        cpu_max="50000 100000\n",
        memory_max="1019904\n",
        io_weight="default 30\n8:0 7\n",
        io_max="8:0 rbps=5 wbps=max riops=max wiops=9\n",
    )
    device = Limit("IODeviceWeight", "/dev/sda 7", "")
    rates = Limit("IOReadBandwidthMax", "/dev/sda 5", ""), Limit("IOWriteIOPSMax", "/dev/sda 9", "")
    told = confirmed(group, (WEIGHT, QUOTA, MEMORY, IO, device, *rates))

    assert [] == told.texts("warning")
    (note,) = told.texts("note")
    assert note.startswith("QEMU's unit 'some.scope' is limited: CPUWeight=50 (cpu.weight: 50); ")
    assert "CPUQuota=50% (cpu.max: 50000 100000); MemoryMax=1000K (memory.max: 1019904)" in note


@pytest.mark.parametrize(
    ("limit", "files"),
    [
        (WEIGHT, {"cpu_weight": "100\n"}),
        (QUOTA, {"cpu_max": "max 100000\n"}),
        (QUOTA, {"cpu_max": "60000 100000\n"}),
        (Limit("CPUQuotaPeriodSec", "20000us", ""), {"cpu_max": "10000 100000\n"}),
        (MEMORY, {"memory_max": "max\n"}),
        (MEMORY, {"memory_max": "8192\n"}),
        (MEMORY, {}),
        (IO, {"io_weight": "default 100\n8:0 30\n"}),
        (Limit("IODeviceWeight", "/dev/sda 7", ""), {"io_weight": "default 7\n"}),
        (Limit("IOReadIOPSMax", "/dev/sda 7", ""), {"io_max": "8:0 rbps=7\n"}),
    ],
)
def test_limit_that_is_not_in_force_is_a_warning(
    host: Host, limit: Limit, files: dict[str, str]
) -> None:
    """Whatever systemd said, the kernel decides."""
    told = confirmed(host.has(**files), (limit,))

    assert [] == told.texts("note")
    (warning,) = told.texts("warning")
    assert f"the limit {limit} is not in force" in warning


def test_vm_that_has_ended_meanwhile_is_not_a_warning(host: Host) -> None:
    """The kernel removes the group, and says so in its name."""
    told = confirmed(host.groups / "some.scope (deleted)", (WEIGHT,))

    assert [] == told.all


def test_group_of_a_process_is_that_of_the_unified_hierarchy() -> None:
    """Which the kernel lists as number 0; a process that is gone has none."""
    assert GROUPS == group_of(2**22 + 1)
    assert group_of("self").is_relative_to(GROUPS)


def test_status_has_what_the_kernel_has_now(host: Host) -> None:
    """It may have been changed since the start."""
    group = host.has(cpu_max="70000 100000\n")

    assert [
        {"name": "CPUQuota", "value": "50%", "file": "cpu.max", "kernel": "70000 100000"},
    ] == look(group, (QUOTA,))


@pytest.mark.qemu
def test_dry_run_shows_what_systemd_is_to_set(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line is there although this host cannot limit anything, with the reason."""
    file = host.folder / "web.toml"
    file.write_text(
        'name = "web"\nmemory = "32 MiB"\naccelerator = "tcg"\n[cpu-tune]\nweight = 50\n',
        encoding="utf-8",
    )
    assert 0 == main(["run", "--dry-run=json", str(file)])
    told = json.loads(capsys.readouterr().out)

    assert [{"name": "CPUWeight", "value": "50"}] == told["limits"]
    (error,) = told["errors"]
    assert f"'{file}':5: 'cpu-tune.weight': 'CPUWeight' is set by your systemd" in error["message"]
    assert "-machine" in told["argv"]
    assert 0 == main(["run", "--dry-run", str(file)])
    assert (
        "# your systemd limits the unit that QEMU runs in: CPUWeight=50" in capsys.readouterr().out
    )
    assert 1 == main(["run", str(file)])
