# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said about the helpers, as they answer at real sockets."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bpferry.machine.doctor.finding import Finding
from bpferry.machine.doctor.helpers import check_bpf_helper, check_tap_helper
from bpferry.machine.host_files import HostFiles
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.connection import Service
from bpferry.network.tap_helper import TapHelper
from bpferry_wire import VERSION
from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Caller,
    Can,
    CanReply,
    Hello,
    HelloReply,
    Quota,
    QuotaReply,
    Request,
    Tap,
)
from bpferry_wire.packets import decode_request
from tests.client import fake_helper as fake
from tests.client.doctor.support import host, named
from tests.client.support import CAPABILITIES, let_in
from tests.support.people import ALICE, acting_as

YES = CanReply(allowed=True, because="policy.toml:12 (groups.bpferry)")
NO = CanReply(allowed=False, because="policy.toml:3 (users.bob) has no 'br1'", code=Code.REFUSED)
FREE = QuotaReply(1, 16, 2, 256, "kernel")

Answer = Callable[[Tap], CanReply]


def helper_of(
    service: str, version: str = VERSION, quota: QuotaReply = FREE, can: Answer = lambda _: YES
) -> fake.Behaviour:
    """Return a helper that greets, counts and permits as it is told."""
    greeting = HelloReply(service, version, Caller(1000, (1000,), 1), 4096, 16)

    def answer(conn: socket.socket, raw: bytes) -> None:
        request: Request = decode_request(raw)
        match request:
            case Hello():
                reply: HelloReply | QuotaReply | CanReply = greeting
            case Quota():
                reply = quota
            case Can(Tap() as tap):
                reply = can(tap)
            case _:
                reply = can(Tap("", is_network=False, queues=1))
        fake.replies(reply)(conn, raw)

    return answer


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of both sockets."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "tap.sock"))
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(tmp_path / "bpf.sock"))
    return tmp_path


def about_taps(
    folder: Path, behaviour: fake.Behaviour, bridges: tuple[str, ...] = ("br0",)
) -> list[Finding]:
    """Return what is said of a helper for taps that does as *behaviour*."""
    with fake.helper(folder / "tap.sock", behaviour):
        return list(check_tap_helper(HostFiles(folder), bridges, ("default",), lambda _: 4096))


def about_sets(folder: Path, behaviour: fake.Behaviour) -> list[Finding]:
    """Return what is said of a helper for eBPF that does as *behaviour*."""
    with fake.helper(folder / "bpf.sock", behaviour):
        return list(check_bpf_helper(HostFiles(folder), CAPABILITIES))


def test_helpers_that_grant_are_ok(folder: Path) -> None:
    """Both answer, and each answer has the line of the policy."""
    found = [*about_taps(folder, helper_of("tap")), *about_sets(folder, helper_of("bpf"))]

    assert {"ok"} == {one.state for one in found}
    assert "with up to 64 queues (policy.toml:12" in named(found, "policy.bridge").message
    assert "network 'default'" in named(found, "policy.network").message
    assert "you hold 1 of the 16 taps" in named(found, "policy.taps").message
    assert "you hold 1 of the 16 eBPF sets" in named(found, "policy.sets").message
    assert "(policy.toml:12 (groups.bpferry))" in named(found, "policy.object").message


def test_a_helper_of_another_version_is_a_warning(folder: Path) -> None:
    """The command restarts it."""
    found = named(about_taps(folder, helper_of("tap", version="0.0.1")), "helpers.tap")

    assert found.state == "warning"
    assert found.command == "sudo systemctl restart bpferry-tap.service"


def at(path: Path, kind: type[TapHelper | BpfHelper], patch: pytest.MonkeyPatch) -> None:
    """Let the usual socket of *kind* be at *path*, as on a host where no variable names one."""
    unit, _, variable = kind.service
    patch.delenv(variable)
    patch.setattr(kind, "service", Service(unit, str(path), variable))


@pytest.mark.parametrize(
    ("kind", "units", "command"),
    [
        (
            TapHelper,
            {},
            "sudo tools/install  # in a clone of bpferry; or install its bpferry-helper.deb",
        ),
        (
            TapHelper,
            {"/usr/local/lib/systemd/system/bpferry-tap.socket": ""},
            "sudo systemctl enable --now bpferry-tap.socket",
        ),
        (
            BpfHelper,
            {"/usr/lib/systemd/system/bpferry-bpf.socket": ""},
            "sudo systemctl enable --now bpferry-bpf.socket",
        ),
    ],
)
def test_a_helper_that_is_not_there_is_installed_or_started(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[TapHelper | BpfHelper],
    units: dict[str, str],
    command: str,
) -> None:
    """By whether its unit is there. Nothing else is asked."""
    at(folder / "none.sock", kind, monkeypatch)
    files = host(folder, units)
    check = check_tap_helper(files, ()) if kind is TapHelper else check_bpf_helper(files, None)
    [found] = check

    assert ("fault", command) == (found.state, found.command)


@pytest.mark.parametrize("kind", ["socket", "service"])
def test_a_masked_unit_is_unmasked_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Systemd refuses to enable a masked socket, and to start one whose service is masked."""
    at(folder / "none.sock", TapHelper, monkeypatch)
    files = host(folder, {"/usr/local/lib/systemd/system/bpferry-tap.socket": ""})
    unit = f"bpferry-tap.{kind}"
    mask = files.path(f"/etc/systemd/system/{unit}")
    mask.parent.mkdir(parents=True)
    mask.symlink_to("/dev/null")
    [found] = check_tap_helper(files, ())

    assert found.message.endswith(f"; masked: {unit}")
    assert (
        f"sudo systemctl unmask {unit} && sudo systemctl enable --now bpferry-tap.socket"
        == found.command
    )


def test_a_socket_that_a_variable_names_is_called_that(folder: Path) -> None:
    """Installing would not help."""
    [found] = check_tap_helper(HostFiles(folder), ())

    assert ("fault", "") == (found.state, found.command)
    assert "BPFERRY_TAP_SOCKET names this socket" in found.fix


@pytest.mark.privileged
def test_a_user_without_the_group_is_told_which(folder: Path) -> None:
    """And the command that makes him a member."""
    let_in(folder)
    with fake.helper(folder / "tap.sock", helper_of("tap")):
        path = folder / "tap.sock"
        os.chown(path, 0, 1)
        path.chmod(0o660)
        with acting_as(ALICE):
            [found] = check_tap_helper(HostFiles(folder), ("br0",))

    assert found.state == "fault"
    assert "only members of the group" in found.message
    assert "usermod -aG" in found.fix


@pytest.mark.parametrize(
    ("quota", "state", "word"),
    [
        (QuotaReply(15, 16, 20, 256, "kernel"), "ok", "you hold 15 of the 16 taps"),
        (QuotaReply(16, 16, 20, 256, "kernel"), "fault", "you hold 16 of the 16 taps"),
        (QuotaReply(1, 16, 256, 256, "kernel"), "fault", "all users together hold all 256 taps"),
    ],
)
def test_a_quota_that_is_used_up_is_a_fault(
    folder: Path, quota: QuotaReply, state: str, word: str
) -> None:
    """The next VM would get nothing."""
    found = named(about_taps(folder, helper_of("tap", quota=quota)), "policy.taps")

    assert state == found.state
    assert word in found.message
    assert bool(found.fix) is (state == "fault")


@pytest.mark.parametrize("most", [2, 3, 16, 63, 64])
def test_most_queues_that_are_allowed_are_found(folder: Path, most: int) -> None:
    """By some questions, and not by one for each number."""
    asked: list[Request] = []
    behaviour = helper_of("tap", can=lambda tap: NO if tap.queues > most else YES)
    found = about_taps(folder, fake.keeps(asked, behaviour))

    assert f"with up to {most} queues" in named(found, "policy.bridge").message
    assert len([one for one in asked if isinstance(one, Can)]) <= 2 * 8 + 1


def test_taps_with_one_queue_are_a_warning(folder: Path) -> None:
    """There is nothing to spread."""
    found = about_taps(folder, helper_of("tap", can=lambda tap: NO if tap.queues > 1 else YES))

    assert named(found, "policy.bridge").state == "warning"
    assert "one queue only" in named(found, "policy.bridge").message


def test_one_bridge_that_is_refused_is_a_warning(folder: Path) -> None:
    """Since another one is open to the user."""
    behaviour = helper_of("tap", can=lambda tap: NO if tap.source == "br1" else YES)
    found = about_taps(folder, behaviour, ("br0", "br1"))
    states = [one.state for one in found if one.name == "policy.bridge"]

    assert ["ok", "warning"] == states
    assert "'br0'" in named(found, "bridges.learning").message
    assert not [one for one in found if one.name == "policy.bridges"]


def test_a_user_who_may_use_no_bridge_has_a_fault(folder: Path) -> None:
    """It has the line to write into the policy."""
    found = about_taps(folder, helper_of("tap", can=lambda _: NO), ("br0", "br1"))

    assert named(found, "policy.bridges").state == "fault"
    assert 'bridges = ["br0"]' in named(found, "policy.bridges").fix
    assert not [one for one in found if one.name == "policy.network"]


def test_a_helper_that_dies_over_a_question_is_told(folder: Path) -> None:
    """As why there is no tap on that bridge, with where the reason is."""
    good = helper_of("tap")

    def dies(conn: socket.socket, raw: bytes) -> None:
        (fake.hangs_up if isinstance(decode_request(raw), Can) else good)(conn, raw)

    found = named(about_taps(folder, dies), "policy.bridge")

    assert found.state == "warning"
    assert "hung up" in found.message
    assert "journalctl -u bpferry-tap" in found.fix


def test_a_program_that_may_not_be_loaded_is_a_fault(folder: Path) -> None:
    """With what the policy says."""
    found = named(about_sets(folder, helper_of("bpf", can=lambda _: NO)), "policy.object")

    assert found.state == "fault"
    assert "policy.toml:3" in found.message


def test_without_a_qemu_no_program_is_asked_about(folder: Path) -> None:
    """But whether the helper answers."""
    with fake.helper(folder / "bpf.sock", helper_of("bpf")):
        found = list(check_bpf_helper(HostFiles(folder), None))

    assert ["helpers.bpf", "policy.sets"] == [one.name for one in found]


def test_a_mistake_in_the_policy_is_told_once_by_each_helper(folder: Path) -> None:
    """No bridge is said to be closed by it, and no line to be missing in it."""
    mistake = "nothing is granted while the policy has a mistake: line 3"
    refuses = fake.refuses(Code.REFUSED, mistake)
    closed = helper_of("tap", can=lambda _: NO)
    of_taps = about_taps(folder, fake.in_turn(closed, refuses, *[closed] * 2))
    with fake.helper(folder / "bpf.sock", fake.in_turn(helper_of("bpf"), refuses, closed)):
        of_sets = list(check_bpf_helper(HostFiles(folder), CAPABILITIES))

    for found in (of_taps, of_sets):
        [fault] = [one for one in found if one.state != "ok"]
        assert fault.message.endswith(mistake)
