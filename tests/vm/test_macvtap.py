# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/macvtap.md, done as it says: root makes a macvtap, and alice has it, with vhost."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.vm.documents import OWN, QUEUES, domain
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.plans import dry_run, plan_of_card
from tests.vm.rounds import PYTHON, TREES

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

PAGE: Final = (Path(__file__).parents[2] / "docs/macvtap.md").read_text(encoding="utf-8")
FILES: Final = dict(
    re.findall(r"^```(?:ini|text)\n# (/etc/\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
COMMANDS: Final = re.search(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CARD: Final = re.search(r"^```xml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
DOCUMENT: Final = "/srv/macvtap.xml"

LINK: Final = ("ip", "-json", "-details", "link", "show", "dev", "vtap-alice")

SETTLED: Final = """\
until ip -brief link show dev vtap-alice up 2>/dev/null | grep -q vtap-alice; do sleep 0.2; done
udevadm settle
"""


@pytest.fixture(scope="module")
def page_host(host: Host) -> Iterator[Host]:
    """Yield the host with a card and its cable, set up as the page says; all is taken back."""
    assert COMMANDS is not None
    assert CARD is not None
    host.check("ip", "link", "add", "enp1s0", "type", "veth", "peer", "name", "peer0")
    host.check("ip", "link", "set", "peer0", "up")
    for path, content in FILES.items():
        host.write(path, content)
    try:
        # The courier runs as root, and no sudo is installed.
        host.check("sh", "-ec", COMMANDS[1].replace("sudo ", ""))
        host.check("timeout", "60", "sh", "-c", SETTLED)
        host.write(DOCUMENT, domain("macvtap", OWN, CARD[1]))
        yield host
    finally:
        host.check("sh", "-c", f"rm -f {' '.join(FILES)}; udevadm control --reload")
        host.check("systemctl", "disable", "--now", "systemd-networkd")
        host.check("systemctl", "stop", "systemd-networkd.socket")
        host.check("sh", "-c", "ip link delete enp1s0")


def test_the_page_has_four_files() -> None:
    """Nothing of the page is left out here."""
    assert 4 == len(FILES)


def test_the_page_makes_a_macvtap_of_the_users(page_host: Host) -> None:
    """Its device belongs to alice alone, and the host's kernel takes no part in it."""
    (link,) = json.loads(page_host.check(*LINK))
    owner = page_host.check("stat", "--format=%U %a", f"/dev/tap{link['ifindex']}")

    assert "alice 600" == owner
    assert "52:54:00:12:34:56" == link["address"]
    assert "none" == link["inet6_addr_gen_mode"]
    assert {"ALLMULTI", "UP"} <= set(link["flags"])


def test_plan_has_vhost(page_host: Host) -> None:
    """The VM runs with KVM, so that its card gets vhost."""
    card = plan_of_card(page_host, DOCUMENT)

    assert ("none", True, QUEUES) == (card["steering"], card["vhost"], card["queues"])


def test_another_user_does_not_get_it(page_host: Host) -> None:
    """Whose it is not hears that before anything is started."""
    done = dry_run(page_host, DOCUMENT, user="carol")

    assert "of the macvtap 'vtap-alice': users may not open it (alice:" in done.output


def test_vhost_moves_frames_in_and_out(page_host: Host) -> None:
    """As alice, with the fds that a card would have; the macvtap is there afterwards, as it was."""
    before = json.loads(page_host.check(*LINK))
    program = ["env", f"PYTHONPATH={TREES}", PYTHON, "-B", f"{CLONE}/tests/vm/inside/macvtap.py"]

    answer = json.loads(page_host.check(*program, "alice", "vtap-alice", "peer0"))

    card, other = "52:54:00:12:34:56", "02:00:00:00:00:01"
    assert answer["came_in"].startswith(f"{card}:{other}:88:b5:{b'to the guest'.hex(':')}:")
    assert answer["went_out"].startswith(f"{other}:{card}:88:b5:{b'from the guest'.hex(':')}:")
    assert before == json.loads(page_host.check(*LINK))
