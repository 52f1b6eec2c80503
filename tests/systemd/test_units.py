# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the unit files say, read as files."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.privilege import CAPABILITIES
from tests import requires
from tests.systemd.unit_file import UNITS, Setting, read_unit, values, words

SERVICE: Final = UNITS / "bpferry-bpf.service"
SOCKET: Final = UNITS / "bpferry-bpf.socket"

THRESHOLD: Final = 6
"""Exposure times ten; ours is 0.6, "safe"."""

NEWER_SETTINGS: Final = {"AcceptFileDescriptors", "PollLimitIntervalSec", "PollLimitBurst"}
"""Settings that systemd 252 does not know, and says so."""

RELAXED: Final = (
    ("PrivateUsers", "no"),
    ("ProcSubset", "all"),
    ("RestrictAddressFamilies", "AF_UNIX"),
    ("SystemCallFilter", "bpf"),
    ("SystemCallFilter", "memfd_create"),
)
"""What is weaker than systemd could make it."""

LIMITS: Final = (
    "StartLimitIntervalSec",
    "RestartSec",
    "WatchdogSec",
    "TimeoutStopSec",
    "LimitNOFILE",
    "LimitCORE",
    "TasksMax",
    "CPUWeight",
    "MemoryHigh",
    "MemoryMax",
)


@pytest.fixture(scope="module")
def service() -> list[Setting]:
    """Return the service's settings."""
    return read_unit(SERVICE)


@pytest.fixture(scope="module")
def socket_unit() -> list[Setting]:
    """Return the socket's settings."""
    return read_unit(SOCKET)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        [requires.program("systemd-analyze"), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )


def exposure_passes(unit: Path) -> bool:
    """Say whether *unit* stays below the threshold."""
    done = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", str(unit))
    return done.returncode == 0


def test_units_are_understood() -> None:
    """systemd-analyze finds nothing wrong but the settings that it is too old for."""
    done = analyze("verify", str(SERVICE), str(SOCKET))
    complaints = [
        line
        for line in done.stderr.splitlines()
        if UNITS.name in line and not any(f"'{key}'" in line for key in NEWER_SETTINGS)
    ]

    assert (0, []) == (done.returncode, complaints)


def test_misspelt_setting_is_noticed(tmp_path: Path) -> None:
    """The check above can fail: a setting that no systemd knows is complained about."""
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("UMask=", "Umaks="))
    (tmp_path / SOCKET.name).write_bytes(SOCKET.read_bytes())

    assert "Umaks" in analyze("verify", str(unit)).stderr


def test_exposure_is_below_the_threshold() -> None:
    """systemd-analyze rates the service's exposure at no more than 0.6."""
    assert exposure_passes(SERVICE)


@pytest.mark.parametrize("key", ["PrivateNetwork", "CapabilityBoundingSet", "SystemCallFilter"])
def test_weaker_service_is_above_the_threshold(key: str, tmp_path: Path) -> None:
    """The threshold is tight: without any one of these settings the rating fails."""
    lines = SERVICE.read_text().splitlines(keepends=True)
    weaker = tmp_path / SERVICE.name
    weaker.write_text("".join(line for line in lines if not line.startswith(f"{key}=")))

    assert not exposure_passes(weaker)


@pytest.mark.parametrize("key", ["CapabilityBoundingSet", "AmbientCapabilities"])
def test_capabilities_are_those_of_the_code(key: str, service: list[Setting]) -> None:
    """The unit gives exactly the capabilities that the helper insists on."""
    assert set(CAPABILITIES["bpf"]) == words(service, key)


@pytest.mark.parametrize("capability", CAPABILITIES["bpf"])
def test_each_capability_has_its_reason(capability: str, service: list[Setting]) -> None:
    """Above the lines that give a capability, a comment names it and says what for."""
    comments = [s.comment for s in service if s.value == capability]

    assert comments and all(c.startswith(f"{capability}: ") for c in comments[:1])  # noqa: PT018


@pytest.mark.parametrize(("key", "value"), RELAXED)
def test_each_relaxation_has_its_reason(key: str, value: str, service: list[Setting]) -> None:
    """Above each setting that is weaker than it could be, a comment says so."""
    (setting,) = [s for s in service if (s.key, s.value) == (key, value)]

    assert setting.comment.startswith("Relaxed: ")


@pytest.mark.parametrize("key", LIMITS)
def test_each_limit_has_its_reason(key: str, service: list[Setting]) -> None:
    """Above each limit stands a comment."""
    (setting,) = [s for s in service if s.key == key]

    assert setting.comment


def test_only_group_kvm_may_connect(socket_unit: list[Setting]) -> None:
    """The socket is root's and the group's, and nobody else's."""
    found = values(socket_unit, "SocketMode") + values(socket_unit, "SocketGroup")

    assert ["0660", "kvm"] == found


def test_socket_keeps_packets_whole(socket_unit: list[Setting]) -> None:
    """It is one SOCK_SEQPACKET socket, and it is not a process for each connection."""
    listens = [s for s in socket_unit if s.key.startswith("Listen")]

    assert [("ListenSequentialPacket", "/run/bpferry/bpf.sock")] == [
        (s.key, s.value) for s in listens
    ]


@pytest.mark.parametrize(
    ("unit", "key"), [(SOCKET, "TriggerLimitIntervalSec"), (SERVICE, "StartLimitIntervalSec")]
)
def test_crashes_do_not_close_the_socket(unit: Path, key: str) -> None:
    """No limit of systemd turns a crash that can be repeated into a lasting outage."""
    assert ["0"] == values(read_unit(unit), key)


def test_helper_imports_from_roots_folders_only(service: list[Setting]) -> None:
    """Python is started isolated, without site-packages, and writes no byte code."""
    (command,) = values(service, "ExecStart")

    assert command.startswith("/usr/bin/python3 -I -S -B /usr/local/libexec/")
