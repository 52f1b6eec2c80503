# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's packages on a fresh host with vhost: what an ordinary user has after ``apt install``.

The host knows nothing of bpferry before. Its administrator installs the packages with apt, makes a
bridge and says in the policy who may use it.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from guest.build import CACHE, build_guest
from tests import requires
from tests.abuse.amounts import amount
from tests.support.debian_folder import BUILD_SECONDS
from tests.support.debian_packages import build
from tests.vm.apparmor import unexpected
from tests.vm.conftest import BOOTED, PREPARE_SECONDS
from tests.vm.documents import OWN, QUEUES, domain, on_bridge
from tests.vm.freight import CLONE, write_freight
from tests.vm.host import IN_THE_HOST, Done, Host, boot
from tests.vm.image import fresh_image
from tests.vm.rounds import PACKAGED, Player, play_round
from tests.vm.user import PATIENCE_S, kvm_works, wait_until

pytestmark = [
    # The packages and the image may have to be made first.
    pytest.mark.timeout(5 * BUILD_SECONDS),
    *IN_THE_HOST,
    pytest.mark.qemu,
]

DOCUMENT: Final = "/srv/vm.xml"

FIRST_VM: Final = f"""
set -e
cd
python3 -B -c '
import sys
from pathlib import Path
sys.path.append("{CLONE}")
from tests.client import guest
guest.write_obedient_disk(Path("boot.img"))'
bpferry create web --image boot.img --bridge br0 --memory 64MiB >made
bpferry run web >said 2>&1 &
vm=$!
until grep -q 'hello from the boot sector' said; do
    kill -0 $vm || {{ cat said; exit 1; }}
    sleep 0.5
done
bpferry status web --json
bpferry stop web --timeout 600 >stopped
wait $vm
grep -q 'powering down' said
"""
"""As the README has it, with an image that boots in no time, until its guest has powered down."""


RELEASES: Final = amount(("trixie",), ("trixie", "bookworm"))
"""Each takes four minutes, and both of them get the packages in tests/systemd/test_packages.py."""


@pytest.fixture(scope="module", params=RELEASES)
def fresh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """Return a host of a release with the packages, and the three users of ``inside/prepare``."""
    requires.mmdebstrap()
    requires.program("mke2fs")
    requires.qemu()
    folder = tmp_path_factory.mktemp("fresh")
    freight, packages = folder / "freight.tar", build(request.param).glob("*.deb")
    write_freight(freight, build_guest(CACHE, print), sorted(packages), request.param)
    with boot(fresh_image(request.param), freight, folder / "console.log") as booted:
        request.config.stash[BOOTED] = booted
        booted.check(f"{CLONE}/tests/vm/inside/prepare", "packages", timeout=PREPARE_SECONDS)
        assert wait_until(lambda: kvm_works(booted, "alice"))
        # A helper that has just been installed looks at each QEMU before its first answer.
        assert wait_until(lambda: can_i(booted, "alice").status == 0)
        yield booted
        assert [] == unexpected(booted)


def can_i(host: Host, user: str) -> Done:
    """Ask as *user* for a card, with all that it may have."""
    ask = ("bpferry", "can-i", "--bridge", "br0", "--ebpf", "--vhost")
    return host.run(*ask, user=user, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def seen(fresh: Host) -> dict[str, Any]:
    """Return what was seen of a VM of alice's."""
    fresh.write(DOCUMENT, domain("vm", OWN, on_bridge("br0")))
    return play_round(fresh, Player("alice", DOCUMENT, 2), PACKAGED)


def test_vm_of_an_ordinary_user_has_vhost_for_each_queue(seen: dict[str, Any]) -> None:
    """One tap of the helper's, four queues, each with vhost."""
    ((name, queues),) = seen["taps"].items()

    assert (True, QUEUES, QUEUES) == (name.startswith("bft"), queues, seen["vhost_fds"])


def test_every_flow_comes_in_where_ebpf_puts_it(seen: dict[str, Any]) -> None:
    """Not one flow is in another queue than the program was to put it; every queue has some."""
    assert ([], QUEUES) == (seen["mismatches"], len(seen["counted"]))
    assert seen["program_runs"] >= seen["flows"]


def test_first_vm_of_the_readme_runs(fresh: Host) -> None:
    """From an image, with a card that is steered by eBPF and has vhost, to its power button."""
    status = json.loads(fresh.check("sh", "-c", FIRST_VM, user="alice", timeout=PATIENCE_S))

    assert [("ebpf", True)] == [(card["steering"], card["vhost"]) for card in status["cards"]]


def test_nothing_stays_of_the_vms(fresh: Host, seen: dict[str, Any]) -> None:
    """Both have powered down, and neither a tap nor a set is left."""
    assert 0 == seen["status"]
    assert "" == fresh.check("ip", "-oneline", "link", "show", "master", "br0")
    alive = fresh.check("bpferry-helper", "status")
    assert (True, True) == ("no tap is alive" in alive, "no set is alive" in alive)


def test_who_is_in_no_group_reads_which_one_is_missing(fresh: Host) -> None:
    """The packages let nobody in by themselves."""
    done = can_i(fresh, "mallory")

    assert done.status != 0
    assert "only members of the group 'bpferry' may use it" in done.output + done.errors
