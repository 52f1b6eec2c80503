# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the unit files say, read as files."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.cli import EXIT_FAILED
from bpferry_helper.errors import EXIT_CRASHED
from bpferry_helper.privilege import CAPABILITIES
from tests import requires
from tests.systemd.unit_file import UNITS, Setting, read_unit, values, words

ROLES: Final = tuple(CAPABILITIES)

THRESHOLDS: Final = {"bpf": 6, "tap": 7}
"""Exposure times ten; ours are 0.6 and 0.7, "safe"."""

NEWER_SETTINGS: Final = {"AcceptFileDescriptors", "PollLimitIntervalSec", "PollLimitBurst"}
"""Settings that systemd 252 does not know, and says so."""

RELAXED: Final = (
    ("bpf", "ExecPaths", "/usr/bin/python3"),
    ("tap", "ExecPaths", "/usr/bin/python3"),
    ("bpf", "PrivateUsers", "no"),
    ("bpf", "ProcSubset", "all"),
    ("bpf", "RestrictAddressFamilies", "AF_UNIX"),
    ("bpf", "SystemCallFilter", "bpf"),
    ("bpf", "SystemCallFilter", "memfd_create"),
    ("bpf", "SystemCallFilter", "capset"),
    ("tap", "PrivateUsers", "no"),
    ("tap", "ProcSubset", "all"),
    ("tap", "RestrictAddressFamilies", "AF_UNIX AF_NETLINK"),
    ("tap", "BindPaths", "-/dev/net/tun"),
    ("tap", "DeviceAllow", "/dev/net/tun rw"),
    ("tap", "BindReadOnlyPaths", "/sys/devices/virtual/net"),
)
"""What is weaker than systemd could make it."""

WEAKENING: Final = (
    ("bpf", "PrivateNetwork"),
    ("bpf", "CapabilityBoundingSet"),
    ("bpf", "SystemCallFilter"),
    ("tap", "PrivateNetwork"),
    ("tap", "CapabilityBoundingSet"),
    ("tap", "SystemCallFilter"),
    ("tap", "PrivateDevices"),
)
"""What each service must not be without."""

LISTENS: Final = {
    "bpf": [("ListenSequentialPacket", "/run/bpferry/bpf.sock")],
    "tap": [
        ("ListenSequentialPacket", "/run/bpferry/tap.sock"),
        *[("ListenNetlink", "route 0")] * 2,
    ],
}

LIMITS: Final = (
    "StartLimitIntervalSec",
    "RestartPreventExitStatus",
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


def service_of(role: str) -> Path:
    """Return the file of the role's service."""
    return UNITS / f"bpferry-{role}.service"


def socket_of(role: str) -> Path:
    """Return the file of the role's socket."""
    return UNITS / f"bpferry-{role}.socket"


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    """Return each role in turn."""
    name: str = request.param
    return name


@pytest.fixture
def service(role: str) -> list[Setting]:
    """Return the settings of the role's service."""
    return read_unit(service_of(role))


@pytest.fixture
def socket_unit(role: str) -> list[Setting]:
    """Return the settings of the role's socket."""
    return read_unit(socket_of(role))


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        [requires.program("systemd-analyze"), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )


def exposure_passes(unit: Path, role: str) -> bool:
    """Say whether *unit* stays below the threshold of *role*."""
    limit = f"--threshold={THRESHOLDS[role]}"
    return analyze("security", "--offline=true", limit, str(unit)).returncode == 0


def complaints(said: str, *units: Path) -> list[str]:
    """Return what systemd-analyze has against *units*; it reads those of this machine too."""
    names = {start for unit in units for start in (f"{unit}:", f"{unit.name}:")}
    return [line for line in said.splitlines() if line.startswith(tuple(names))]


def test_units_are_understood(role: str) -> None:
    """systemd-analyze finds nothing wrong but the settings that it is too old for."""
    units = (service_of(role), socket_of(role))
    done = analyze("verify", *map(str, units))
    wrong = [
        line
        for line in complaints(done.stderr, *units)
        if not any(f"'{key}'" in line for key in NEWER_SETTINGS)
    ]

    assert (0, []) == (done.returncode, wrong)


def test_misspelt_setting_is_noticed(role: str, tmp_path: Path) -> None:
    """The check above can fail: a setting that no systemd knows is complained about."""
    unit = tmp_path / service_of(role).name
    unit.write_text(service_of(role).read_text().replace("UMask=", "Umaks="))
    (tmp_path / socket_of(role).name).write_bytes(socket_of(role).read_bytes())

    said = analyze("verify", str(unit)).stderr

    assert any("Umaks" in line for line in complaints(said, unit))


def test_complaint_about_a_foreign_unit_is_not_about_ours() -> None:
    """Such as libvirt's, which a machine may have: sockets.target starts its sockets."""
    foreign = "/lib/systemd/system/virtlogd-admin.socket:13: Unknown key 'Service', ignoring."

    assert [] == complaints(foreign, service_of("bpf"), socket_of("bpf"))


def test_exposure_is_below_the_threshold(role: str) -> None:
    """systemd-analyze rates the service's exposure at no more than it is now."""
    assert exposure_passes(service_of(role), role)


@pytest.mark.parametrize(("weak_role", "key"), WEAKENING)
def test_weaker_service_is_above_the_threshold(weak_role: str, key: str, tmp_path: Path) -> None:
    """The threshold is tight: without any one of these settings the rating fails."""
    lines = service_of(weak_role).read_text().splitlines(keepends=True)
    weaker = tmp_path / service_of(weak_role).name
    weaker.write_text("".join(line for line in lines if not line.startswith(f"{key}=")))

    assert not exposure_passes(weaker, weak_role)


@pytest.mark.parametrize("key", ["CapabilityBoundingSet", "AmbientCapabilities"])
def test_capabilities_are_those_of_the_code(key: str, role: str, service: list[Setting]) -> None:
    """The unit gives exactly the capabilities that the helper insists on."""
    assert set(CAPABILITIES[role]) == words(service, key)


def test_each_capability_has_its_reason(role: str, service: list[Setting]) -> None:
    """Above the lines that give a capability, a comment names it and says what for."""
    firsts = {name: next(s for s in service if s.value == name) for name in CAPABILITIES[role]}

    assert all(first.comment.startswith(f"{name}: ") for name, first in firsts.items())


@pytest.mark.parametrize(("relaxed_role", "key", "value"), RELAXED)
def test_each_relaxation_has_its_reason(relaxed_role: str, key: str, value: str) -> None:
    """Above each setting that is weaker than it could be, a comment says so."""
    settings = read_unit(service_of(relaxed_role))
    (setting,) = [s for s in settings if (s.key, s.value) == (key, value)]

    assert setting.comment.startswith("Relaxed: ")


@pytest.mark.parametrize("key", LIMITS)
def test_each_limit_has_its_reason(key: str, service: list[Setting]) -> None:
    """Each limit has a comment above it."""
    (setting,) = [s for s in service if s.key == key]

    assert setting.comment


def test_only_group_bpferry_may_connect(socket_unit: list[Setting]) -> None:
    """The socket is root's and the group's, and nobody else's."""
    found = values(socket_unit, "SocketMode") + values(socket_unit, "SocketGroup")

    assert ["0660", "bpferry"] == found


def test_systemd_makes_that_group_and_no_other() -> None:
    """The group is in sysusers.d; kvm is left to the distribution."""
    lines = (UNITS / "bpferry.sysusers").read_text().splitlines()

    assert ["g bpferry -"] == [line for line in lines if line.startswith("g")]


def test_socket_keeps_packets_whole(role: str, socket_unit: list[Setting]) -> None:
    """Clients have one SOCK_SEQPACKET socket; "tap" alone gets netlink ones, of no group."""
    listens = [(s.key, s.value) for s in socket_unit if s.key.startswith("Listen")]

    assert LISTENS[role] == listens


def test_crashes_do_not_close_the_socket(
    service: list[Setting], socket_unit: list[Setting]
) -> None:
    """No limit of systemd turns a crash that can be repeated into a lasting outage.

    The pause after a crash keeps starts below the limit; only starts that fail have no pause.
    """
    trigger = values(socket_unit, "TriggerLimitIntervalSec")
    keys = ("StartLimitIntervalSec", "RestartSec", "StartLimitBurst")
    interval, pause, burst = (int(values(service, key)[0].rstrip("s")) for key in keys)
    failed = values(service, "RestartPreventExitStatus")[0].split()

    assert ["0"] == trigger
    assert interval / pause < burst
    assert (str(EXIT_FAILED) in failed, str(EXIT_CRASHED) in failed) == (True, False)


def test_helper_imports_from_roots_folders_only(role: str, service: list[Setting]) -> None:
    """Python is started isolated, without site-packages, and writes no byte code."""
    (command,) = values(service, "ExecStart")

    launcher = "/usr/local/libexec/bpferry-helper"
    assert f"/usr/bin/python3 -I -S -B {launcher} {role}" == command


def rules_of(role: str) -> list[list[str]]:
    """Return the words of each rule of the role's AppArmor profile."""
    lines = (UNITS / "apparmor" / f"bpferry-{role}").read_text().splitlines()
    return [line.removesuffix(",").split() for line in lines if line.startswith("  ")]


def test_service_has_its_profile(role: str, service: list[Setting]) -> None:
    """It starts without one where AppArmor does not run."""
    assert [f"-bpferry-{role}"] == values(service, "AppArmorProfile")


def test_profile_allows_the_capabilities_of_the_code(role: str) -> None:
    """The ones that the unit gives, and no others."""
    allowed = {f"CAP_{rule[1].upper()}" for rule in rules_of(role) if rule[0] == "capability"}

    assert set(CAPABILITIES[role]) == allowed


def test_profile_allows_no_program(role: str) -> None:
    """No rule for a file has an x."""
    files = [rule for rule in rules_of(role) if rule[0].startswith(("/", "@"))]

    assert [] == [rule for rule in files if "x" in rule[1]]
    assert files


NAME_SERVICES = (
    "/run/nscd/socket",
    "/run/nslcd/socket",
    "/run/samba/winbindd/pipe",
    "/var/lib/sss/pipes/nss",
)
"""Where Debian's libnss packages ask for the names of users: else nobody from there is served."""


def test_profile_lets_name_services_be_asked(role: str) -> None:
    """Each that Debian has, beside systemd's."""
    reached = {rule[0] for rule in rules_of(role) if rule[1:] == ["rw"]}

    assert set(NAME_SERVICES) <= reached


def test_taps_have_an_owner_that_stays() -> None:
    """The service for taps has a user with a fixed number, which sysusers.d makes."""
    settings = read_unit(service_of("tap"))
    (user,) = values(settings, "User")
    lines = (UNITS / "bpferry.sysusers").read_text().splitlines()

    assert [] == values(settings, "DynamicUser")
    assert any(line.startswith(f"u {user} ") for line in lines)


def test_tap_helper_has_one_device() -> None:
    """Beside the ones that every service has, there is /dev/net/tun, and no other is allowed."""
    settings = read_unit(service_of("tap"))

    assert ["yes"] == values(settings, "PrivateDevices")
    assert ["closed"] == values(settings, "DevicePolicy")
    assert ["-/dev/net/tun"] == values(settings, "BindPaths")
    assert ["/dev/net/tun rw"] == values(settings, "DeviceAllow")


def test_tap_helper_has_no_place_to_write() -> None:
    """It keeps nothing between its starts."""
    settings = read_unit(service_of("tap"))

    assert [] == [s.key for s in settings if s.key.endswith("Directory")]
