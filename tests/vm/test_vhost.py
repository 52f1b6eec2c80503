# SPDX-License-Identifier: LGPL-2.1-or-later
"""vhost and eBPF on a host that has both, with a QEMU that does both and one that does not.

Alice's cards are on the bridge br0: one helper makes her taps, the other loads the programs. QEMU
10.0.13 steers by eBPF with vhost. QEMU 11.1.3 ignores the program of a card with vhost, so that the
plan gives vhost up. Nobody asks for vhost by name; the VMs run with KVM.
"""

import json
from typing import Any, Final

import pytest

from steering_demo.rounds import PACKETS
from tests.vm.documents import BINARIES, NEWER, OWN, QUEUES, domain, on_bridge
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.plans import dry_run, plan_of_card
from tests.vm.rounds import Player, play_round

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

BRIDGE: Final = "br0"

Round = dict[str, Any]


@pytest.fixture(scope="module")
def documents(host: Host) -> dict[str, str]:
    """Return a document for each QEMU."""
    paths = {version: f"/srv/{version}.xml" for version in BINARIES}
    for number, (version, path) in enumerate(paths.items()):
        host.write(path, domain(f"vm{number}", version, on_bridge(BRIDGE)))
    return paths


@pytest.fixture(scope="module")
def rounds(host: Host, documents: dict[str, str]) -> dict[str, Round]:
    """Return what was seen of one VM on each QEMU, one after the other."""
    return {
        version: play_round(host, Player("alice", document, guest))
        for guest, (version, document) in enumerate(documents.items(), start=2)
    }


def test_device_is_for_the_group_kvm(host: Host) -> None:
    """What follows is about the real device, with the owner and the mode that Debian gives it."""
    seen = host.check("stat", "--format=%F %U %G %a", "/dev/vhost-net")

    assert "character special file root kvm 660" == seen


@pytest.mark.parametrize(("version", "vhost"), [(OWN, True), (NEWER, False)])
def test_plan_has_vhost_where_ebpf_leaves_it(
    version: str,
    vhost: bool,  # noqa: FBT001 - a parameter of the test
    host: Host,
    documents: dict[str, str],
) -> None:
    """On both the kernel steers, and vhost is there with the QEMU that does both."""
    card = plan_of_card(host, documents[version])

    assert ("ebpf", vhost, QUEUES) == (card["steering"], card["vhost"], card["queues"])


@pytest.mark.parametrize(("version", "fds"), [(OWN, QUEUES), (NEWER, 0)])
def test_vhost_is_what_was_planned(version: str, fds: int, rounds: dict[str, Round]) -> None:
    """QEMU holds an fd of the device for each queue, or none."""
    assert fds == rounds[version]["vhost_fds"]


@pytest.mark.parametrize(("version", "vhost"), [(OWN, True), (NEWER, False)])
def test_vhost_moves_the_packets(
    version: str,
    vhost: bool,  # noqa: FBT001 - a parameter of the test
    rounds: dict[str, Round],
) -> None:
    """The kernel's threads that serve the queues were woken while flows were sent, or are not."""
    assert vhost == (rounds[version]["vhost_turns"] > 0)


@pytest.mark.parametrize("version", BINARIES)
def test_tap_is_the_helpers_and_has_all_queues(version: str, rounds: dict[str, Round]) -> None:
    """QEMU has one tap with four queues, under a name that the helper gives to what it grants."""
    ((name, queues),) = rounds[version]["taps"].items()

    assert (True, QUEUES) == (name.startswith("bft"), queues)


@pytest.mark.parametrize("version", BINARIES)
def test_every_flow_comes_in_where_it_is_predicted(version: str, rounds: dict[str, Round]) -> None:
    """Not one flow is in another queue of the guest, and every queue has some."""
    seen = rounds[version]

    assert ([], QUEUES) == (seen["mismatches"], len(seen["counted"]))


@pytest.mark.parametrize("version", BINARIES)
def test_kernel_runs_the_program(version: str, rounds: dict[str, Round]) -> None:
    """The program ran in the host's kernel for each packet."""
    seen = rounds[version]

    assert seen["program_runs"] >= seen["flows"] * PACKETS


def test_giving_up_vhost_is_said_with_the_reason(rounds: dict[str, Round]) -> None:
    """The user who starts the VM reads why, and what would help."""
    warning = (
        "bpferry: warning: net0: vhost is given up for RSS: QEMU 10.1 and newer ignores the eBPF "
        "program of a card with vhost; all 4 queues are then served by QEMU's one main loop, since "
        "only vhost has a thread for each (hint: use a QEMU of version 9.0 to 10.0 that was built "
        "with libbpf, which has both; or leave 'rss' out to keep vhost)"
    )

    assert warning in rounds[NEWER]["said"].splitlines()


@pytest.mark.usefixtures("rounds")
def test_taps_leave_the_bridge_with_their_vms(host: Host) -> None:
    """When both VMs have ended, nothing is on the bridge."""
    assert "" == host.check("ip", "-oneline", "link", "show", "master", BRIDGE)


def test_vhost_by_name_is_refused_with_two_ways_out(host: Host) -> None:
    """Who asks for vhost by name on QEMU 11.1.3 has to choose."""
    host.write("/srv/named.xml", domain("named", NEWER, on_bridge(BRIDGE, "name='vhost'")))

    done = dry_run(host, "/srv/named.xml")

    error = json.loads(done.output)["error"]
    ways = (
        "leave out the driver's name to have RSS without vhost; or use a QEMU of version 9.0 to "
        "10.0 that was built with libbpf, which has both; or leave 'rss' out to keep vhost"
    )
    assert (3, "/domain/devices/interface/driver/@name") == (done.status, error["element"])
    assert "QEMU 10.1 and newer ignores the eBPF program of a card with vhost" in error["message"]
    assert ways == error["hint"]


def test_who_is_not_in_the_group_goes_without_vhost(host: Host, documents: dict[str, str]) -> None:
    """The plan names the group that Mallory is not in."""
    card = plan_of_card(host, documents[OWN], user="mallory")

    reason = (
        "no vhost: cannot open '/dev/vhost-net': only members of the group 'kvm' may use it "
        "(root:kvm, mode 0660), and you are not one"
    )
    assert (False, reason) == (card["vhost"], card["because"][-1])


def test_another_member_of_the_group_is_refused(host: Host, documents: dict[str, str]) -> None:
    """Carol may ask, and reads which file does not name her."""
    done = host.run("bpferry", "run", "--json", documents[OWN], user="carol")

    error = json.loads(done.output)["error"]
    assert (4, True) == (done.status, "/etc/bpferry/policy.toml" in error["message"])
