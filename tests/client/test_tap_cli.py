# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry tap: what is asked, what is printed, and that it can be pasted."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.domain.document import read_bytes
from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Bandwidth,
    Create,
    Delete,
    DeleteReply,
    ListReply,
    OwnTap,
    Rate,
    Request,
    Tap,
    TapReply,
)
from tests.client import fake_helper as fake
from tests.client.support import QEMU

NAME = "bfp1a2b3c4d"
MADE = TapReply(NAME, "br0", 1500)
MAC = "52:54:00:12:34:56"
OWN = (
    OwnTap(NAME, "br0", 0, 4, stays=True, closed=False),
    OwnTap("bfp00000003", "br1", 0, 0, stays=True, closed=True),
    OwnTap("bft00000007", "", 4, 4, stays=False, closed=False),
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the helper's socket will be, as the environment says it too."""
    path = tmp_path / "tap.sock"
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(path))
    return path


def test_create_asks_for_what_is_said(path: Path) -> None:
    """Each option is in the request, and nothing else."""
    asked: list[Request] = []
    words = f"--queues 4 --mtu 1400 --mac {MAC} --isolated --vlan 7".split()
    words += ["--inbound", "100 Mbit/s", "--outbound", "12MB/s"]
    behaviour = fake.keeps(asked, fake.replies(MADE))
    with fake.helper(path, behaviour):
        assert main(["tap", "create", "br0"]) == 0
        assert main(["tap", "create", "br0", *words]) == 0
        assert main(["tap", "create", "lan/guests", "--network"]) == 0

    mac = bytes.fromhex(MAC.replace(":", ""))
    assert [
        Create(Tap("br0", is_network=False, queues=1)),
        Create(
            Tap(
                "br0",
                is_network=False,
                queues=4,
                mtu=1400,
                mac=mac,
                isolated=True,
                vlan=7,
                bandwidth=Bandwidth(Rate(12_500_000), Rate(12_000_000)),
            )
        ),
        Create(Tap("lan/guests", is_network=True, queues=1)),
    ] == asked


def test_create_as_json(path: Path, capsys: Captured) -> None:
    """Programs get the name, the bridge, the MTU and the queues."""
    with fake.helper(path, fake.replies(MADE)):
        assert main(["tap", "create", "br0", "--queues", "4", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "interface": NAME,
        "bridge": "br0",
        "mtu": 1500,
        "queues": 4,
    }


def created(path: Path, capsys: Captured, *words: str) -> str:
    """Return what is said about a tap that was made."""
    with fake.helper(path, fake.replies(MADE)):
        assert main(["tap", "create", "br0", *words]) == 0
    return capsys.readouterr().out


def test_create_says_what_was_made(path: Path, capsys: Captured) -> None:
    """The first line has the tap; the last ones how to look at it and to be rid of it."""
    lines = created(path, capsys, "--queues", "4").splitlines()

    assert lines[0] == f"made the tap '{NAME}' on bridge 'br0' for you: 4 queues, MTU 1500"
    assert lines[-2:] == [
        f"as it is now:   ip -details link show dev {NAME}",
        f"to delete it:   bpferry tap delete {NAME}",
    ]


@pytest.mark.parametrize("queues", [1, 4])
@pytest.mark.parametrize("mac", ["", MAC])
def test_libvirt_snippet(queues: int, mac: str, path: Path, capsys: Captured) -> None:
    """The element for a libvirt domain is a card on this tap, with the same queues and address."""
    words = ["--mac", mac] if mac else []
    text = created(path, capsys, "--queues", str(queues), *words)
    found = re.search(r"^ +<interface.*</interface>$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    domain = f"<domain type='kvm'><name>t</name><devices>{found[0]}</devices></domain>"

    (card,) = read_bytes(domain.encode(), Path("vm.xml")).machine.cards

    assert (NAME, False, queues, mac or None, "virtio") == (
        card.tap,
        card.managed,
        card.queues,
        card.mac,
        card.model,
    )


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.parametrize("queues", [1, 4])
@pytest.mark.parametrize("mac", ["", MAC])
def test_qemu_line(queues: int, mac: str, path: Path, capsys: Captured, namespace: str) -> None:
    """QEMU, started with the two options, opens the tap as it was made."""
    words = ["--mac", mac] if mac else []
    text = created(path, capsys, "--queues", str(queues), *words)
    assert "host_mtu" not in text
    options = shlex.split(" ".join(re.findall(r"^ +(-(?:netdev|device) .*)$", text, re.MULTILINE)))
    make = ["ip", "-netns", namespace, "tuntap", "add", "dev", NAME, "mode", "tap", "vnet_hdr"]
    subprocess.run([*make, *(["multi_queue"] if queues > 1 else [])], check=True)

    done = subprocess.run(
        [
            "ip", "netns", "exec", namespace, QEMU, "-machine", "q35,accel=tcg", "-nodefaults",
            "-display", "none", "-S", "-monitor", "stdio", *options,
        ],
        input="info network\nquit\n", capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert done.stdout.count(f"ifname={NAME}") == queues
    assert done.stderr == ""
    if mac:
        assert f"macaddr={mac}" in done.stdout


def test_qemu_line_with_mtu(path: Path, capsys: Captured) -> None:
    """Who asked for frames of a size has the guest told of it; the tap itself may have more."""
    text = created(path, capsys, "--mtu", "1400")

    assert "\n    -device virtio-net-pci,netdev=net0,host_mtu=1400\n" in text


def test_list(path: Path, capsys: Captured) -> None:
    """Each tap has a line: its bridge, the queues that are open, whether it stays."""
    with fake.helper(path, fake.replies(ListReply(OWN))):
        assert main(["tap", "list"]) == 0

    assert capsys.readouterr().out == (
        "TAP          BRIDGE  QUEUES  OPENED BY  KIND\n"
        "bfp1a2b3c4d  br0     0 of 4  nobody     stays until it is deleted\n"
        "bfp00000003  br1     0       nobody     closed: policy no longer allows it; delete it\n"
        "bft00000007  none    4 of 4  others     goes with its VM\n"
    )


def test_list_has_the_limits_of_taps(path: Path, capsys: Captured) -> None:
    """At the end of the line of each that has any."""
    limited = OWN[0]._replace(inbound=1_000_000, outbound=2_000_000)
    with fake.helper(path, fake.replies(ListReply((limited, OWN[2])))):
        assert main(["tap", "list"]) == 0

    _, first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(
        "stays until it is deleted, at most 8 Mbit/s to the VM, at most 16 Mbit/s from it"
    )
    assert second.endswith("goes with its VM")


@pytest.mark.parametrize("rate", ["100", "fast", "1 kbit/s", "-1 MB/s"])
def test_create_wants_a_rate_with_its_unit(rate: str, capsys: Captured) -> None:
    """Bits and bytes are eight apart; a bare number could be either."""
    assert main(["tap", "create", "br0", f"--inbound={rate}"]) == 2
    assert f"'{rate}' must be" in capsys.readouterr().err


def test_list_as_json(path: Path, capsys: Captured) -> None:
    """Programs get the same, an empty bridge where there is none."""
    with fake.helper(path, fake.replies(ListReply(OWN))):
        assert main(["tap", "list", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "taps": [
            OWN[0]._asdict() | {"opened_by": []},
            OWN[1]._asdict() | {"opened_by": []},
            OWN[2]._asdict() | {"opened_by": []},
        ]
    }


@pytest.mark.parametrize(("words", "said"), [([], "you have no taps\n"), (["--json"], None)])
def test_empty_list(words: list[str], said: str | None, path: Path, capsys: Captured) -> None:
    """That there is none is said, and is not a failure."""
    with fake.helper(path, fake.replies(ListReply(()))):
        assert main(["tap", "list", *words]) == 0

    out = capsys.readouterr().out
    assert said == out if said else json.loads(out) == {"taps": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [([], f"deleted the tap '{NAME}'\n"), (["--json"], f'{{\n  "deleted": "{NAME}"\n}}\n')],
)
def test_delete(words: list[str], said: str, path: Path, capsys: Captured) -> None:
    """The tap is asked for by its name, and it is said that it is gone."""
    asked: list[Request] = []
    with fake.helper(path, fake.keeps(asked, fake.replies(DeleteReply(NAME)))):
        assert main(["tap", "delete", NAME, *words]) == 0

    assert [Delete(NAME)] == asked
    assert capsys.readouterr().out == said


COMMANDS = (["tap", "create", "br0"], ["tap", "list"], ["tap", "delete", NAME])


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[1])
@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.REFUSED, 4), (Code.QUOTA, 4), (Code.NO_SUCH_BRIDGE, 1), (Code.FAILED, 1)],
)
def test_helper_that_says_no(
    words: list[str], code: Code, status: int, path: Path, capsys: Captured
) -> None:
    """What the helper says against it is shown with its hint, and as JSON with its code."""
    with fake.helper(path, fake.refuses(code)):
        assert main(words) == status
        text = capsys.readouterr().err
        assert main([*words, "--json"]) == status

    assert text == "bpferry: error: the helper refused: why\nbpferry: hint: what to do\n"
    assert json.loads(capsys.readouterr().out)["error"] == {
        "code": code.value,
        "message": "the helper refused: why",
        "hint": "what to do",
        "element": None,
    }


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[1])
def test_no_helper(words: list[str], capsys: Captured) -> None:
    """Without the helper, status 5 and what to look at."""
    assert main(words) == 5
    assert "systemctl status bpferry-tap.socket" in capsys.readouterr().err
