# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VLAN of a tap: which one, whether it can be had, and what the kernel is told.

What a bridge then does needs a kernel that filters VLANs: see tests/vm.
"""

import struct
from pathlib import Path

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.policy.rules import Port
from bpferry_helper.tap import bridges
from bpferry_helper.tap.bridges import Wanted, default_vlan
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_wire.errors import Code
from tests.helper.tap.own_host import Host, on_own_host, order

BRIDGE = Link(7, "br0", "bridge", master=0, mtu=1500, address="", alias="")
VLANS = Port(vlans=(range(10, 11), range(20, 31)))


def wanted(vlan: int | None, port: Port = VLANS, tagged: tuple[int, ...] = ()) -> Wanted:
    """Return the wish for a port in *vlan*, and in others with tags."""
    return Wanted("br0", port, mtu=None, mac=None, vlan=vlan, tagged=tagged)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Yield what /sys has of br0, which filters VLANs."""
    (tmp_path / "ifindex").write_text("7\n")
    (tmp_path / "vlan_filtering").write_text("1\n")
    (tmp_path / "default_pvid").write_text("1\n")
    monkeypatch.setattr(bridges, "INDEX", f"{tmp_path}/ifindex")
    monkeypatch.setattr(bridges, "BRIDGE_SETTING", f"{tmp_path}/{{1}}")
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "port", "got"),
    [(None, VLANS, 10), (25, VLANS, 25), (None, Port(), None), (3, Port(), 3)],
    ids=["the policy's first", "the one asked for", "none", "one that policy does not have"],
)
def test_which_vlan_a_port_would_be_in(asked: int | None, port: Port, got: int | None) -> None:
    """What is asked for, else what policy has first."""
    assert wanted(asked, port).port_vlan == got


@pytest.mark.parametrize("vlan", [None, 10, 20, 30])
@pytest.mark.usefixtures("settings")
def test_a_vlan_of_the_policy_is_allowed(vlan: int | None) -> None:
    """The first number, and the bounds of a range."""
    bridges._check_vlan(wanted(vlan), BRIDGE)


@pytest.mark.parametrize(
    ("vlan", "port", "words"),
    [
        (11, VLANS, "policy allows 10, 20-30 there"),
        (31, VLANS, "policy allows 10, 20-30 there"),
        (10, Port(), "policy has no 'vlans' for it"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_another_vlan_is_refused_with_the_line_to_write(vlan: int, port: Port, words: str) -> None:
    """The administrator can add it."""
    with pytest.raises(RequestError, match=words) as caught:
        bridges._check_vlan(wanted(vlan, port), BRIDGE)

    assert (caught.value.code, f"vlans = [{vlan}]" in caught.value.hint) == (Code.REFUSED, True)


def test_a_trunk_has_no_untagged_vlan_unless_it_is_asked_for() -> None:
    """The policy's first is for ports in one VLAN."""
    assert [wanted(vlan, tagged=(20, 21)).port_vlan for vlan in (None, 10)] == [None, 10]


@pytest.mark.parametrize(
    ("vlan", "tagged", "port", "expected"),
    [
        (10, (20, 21), VLANS, (10, 20, 21)),
        (None, (20, 21), VLANS, (0, 20, 21)),
        (None, (), VLANS, (10,)),
        (None, (), Port(), (1,)),
    ],
    ids=["both", "tags only", "the policy's first", "the bridge's default"],
)
@pytest.mark.usefixtures("settings")
def test_an_address_is_claimed_in_each_vlan_of_its_port(
    vlan: int | None, tagged: tuple[int, ...], port: Port, expected: tuple[int, ...]
) -> None:
    """Whoever has it in one of them keeps it; 0 is for all."""
    asked = wanted(vlan, port._replace(address_lock=True), tagged)
    claim = asked._replace(mac=bytes.fromhex("525400000001")).claim_on(BRIDGE)

    assert claim is not None
    assert expected == claim.vlans


@pytest.mark.parametrize("vlan", [None, 10])
@pytest.mark.usefixtures("settings")
def test_tagged_vlans_of_the_policy_are_allowed(vlan: int | None) -> None:
    """With one without tags, or alone."""
    bridges._check_vlan(wanted(vlan, tagged=(20, 25, 30)), BRIDGE)


@pytest.mark.parametrize(
    ("vlan", "tagged", "denied"),
    [(None, (20, 31), "31"), (10, (11, 20, 31), "11, 31"), (9, (10, 20), "9")],
)
@pytest.mark.usefixtures("settings")
def test_one_vlan_of_a_trunk_that_policy_does_not_have_refuses_all(
    vlan: int | None, tagged: tuple[int, ...], denied: str
) -> None:
    """Those are named, and the line to write."""
    with pytest.raises(RequestError, match=f"in VLAN {denied}: policy allows 10, 20-30") as caught:
        bridges._check_vlan(wanted(vlan, tagged=tagged), BRIDGE)

    assert f"vlans = [{denied}]" in caught.value.hint


def test_a_trunk_on_a_bridge_that_does_not_filter_is_refused(settings: Path) -> None:
    """Every frame would pass there, whatever its tag."""
    (settings / "vlan_filtering").write_text("0")

    with pytest.raises(RequestError, match="in VLAN 20, 21: the bridge does not filter") as caught:
        bridges._check_vlan(wanted(None, tagged=(20, 21)), BRIDGE)

    assert "ip link set br0 type bridge vlan_filtering 1" in caught.value.hint


@pytest.mark.parametrize("changed", [{"vlan_filtering": "0"}, {"ifindex": "8"}])
def test_a_bridge_that_does_not_filter_is_refused(settings: Path, changed: dict[str, str]) -> None:
    """The tap would be in no VLAN, or in all."""
    for name, value in changed.items():
        (settings / name).write_text(value)
    with pytest.raises(RequestError, match="does not filter VLANs") as caught:
        bridges._check_vlan(wanted(None), BRIDGE)

    assert "ip link set br0 type bridge vlan_filtering 1" in caught.value.hint


@pytest.mark.parametrize(("pvid", "expected"), [("1", 1), ("0", 0), ("77", 77)])
def test_the_vlan_of_new_ports_is_the_bridge_s(settings: Path, pvid: str, expected: int) -> None:
    """0 means none."""
    (settings / "default_pvid").write_text(pvid)

    assert default_vlan(BRIDGE) == expected


class Recorder:
    """Takes messages in place of the kernel."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def change(self, _what: str, message: object, kind: int) -> None:
        """Keep what would be sent."""
        message.encode()  # type: ignore[attr-defined]
        self.sent.append((kind, bytes(message.data)[16:]))  # type: ignore[attr-defined]


def vlan_message(*vlans: tuple[int, int]) -> bytes:
    """Return what ``bridge vlan`` of iproute2 6.1 sends about port 9, as strace shows it.

    It sends one of *vlans* at a time; the kernel takes several (br_afspec).
    """
    ifinfomsg = struct.pack("=BxHiII", 7, 0, 9, 0, 0)
    infos = b"".join(struct.pack("=HHHH", 8, 2, flags, vlan) for vlan, flags in vlans)
    return ifinfomsg + struct.pack("=HH", 4 + len(infos), 26) + infos


@pytest.mark.parametrize(
    ("former", "expected"),
    [
        (1, [(19, vlan_message((10, 6))), (17, vlan_message((1, 0)))]),
        (0, [(19, vlan_message((10, 6)))]),
    ],
    ids=["from the bridge's default", "from none"],
)
def test_the_kernel_is_told_what_iproute2_would_tell_it(
    former: int, expected: list[tuple[int, bytes]]
) -> None:
    """PVID and untagged; and out of the VLAN that the bridge had put it into."""
    recorder = Recorder()
    Links(recorder).set_vlans(9, 10, (), former)  # type: ignore[arg-type]

    assert expected == recorder.sent


@pytest.mark.parametrize(
    ("vlan", "former", "expected"),
    [
        (10, 1, [(19, vlan_message((20, 0), (21, 0), (10, 6))), (17, vlan_message((1, 0)))]),
        (None, 1, [(19, vlan_message((20, 0), (21, 0))), (17, vlan_message((1, 0)))]),
        (None, 20, [(19, vlan_message((20, 0), (21, 0)))]),
    ],
    ids=["with one without tags", "tags only", "the bridge's default, with a tag"],
)
def test_the_kernel_is_told_of_all_vlans_of_a_trunk_at_once(
    vlan: int | None, former: int, expected: list[tuple[int, bytes]]
) -> None:
    """Flags 0: with a tag, and not where frames without one go."""
    recorder = Recorder()
    Links(recorder).set_vlans(9, vlan, (20, 21), former)  # type: ignore[arg-type]

    assert expected == recorder.sent


@pytest.mark.privileged
def test_a_tap_that_cannot_be_put_into_its_vlan_is_not_made() -> None:
    """The kernel's bridge here filters none, so that it refuses; nothing is left."""

    def act(host: Host) -> tuple[str, bool]:
        before = host.left()
        plain = order()
        asked = plain._replace(wanted=plain.wanted._replace(vlan=10, port=VLANS))
        bridge = host.maker.find(plain.wanted)
        try:
            host.maker.make(asked, bridge)
        except RequestError as error:
            return str(error), before == host.left()
        return "made", False

    message, nothing_left = on_own_host(act)

    assert ("into VLAN 10" in message, nothing_left) == (True, True)
