# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry attach-nic, detach-nic and set-link of cards that need no helper, with a real QEMU."""

import sys
from pathlib import Path
from signal import SIGINT, raise_signal

import pytest

from bpferry.cli.main import main
from bpferry.cli.output import StderrReporter
from tests.client.hot_plug.vm import NATIVE, answer, cards, qmp, running
from tests.client.support import wait_until

pytestmark = pytest.mark.qemu

USER_CARD = '[[cards]]\ntype = "user"\n'


def ids(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the ids of the VM's cards."""
    return [card["id"] for card in cards(capsys)]


def test_a_card_is_plugged_in_and_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the status as long as it is there; no card ever gets its id again."""
    with running(tmp_path, USER_CARD, arguments=NATIVE, disk=False):
        assert main(("attach-nic", "t", "--user")) == 0
        told = capsys.readouterr().out
        assert told.startswith("'t' has the card net1: ")
        assert f"until the VM ends; to keep it, add it to '{tmp_path}/vm.toml'" in told
        assert ids(capsys) == ["net0", "net1"]
        assert [card["plugged"] for card in cards(capsys)] == [False, True]
        mac = cards(capsys)[1]["mac"]
        assert main(("status", "t")) == 0
        assert "net1      " in capsys.readouterr().out
        assert main(("detach-nic", "t", mac)) == 0
        assert capsys.readouterr().out == "the card net1 is out of 't'\n"
        assert ids(capsys) == ["net0"]
        assert answer(capsys, "attach-nic", "t", "--user")["id"] == "net2"


def test_the_log_of_the_vm_has_all_that_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads it later finds when a device came and went."""
    (tmp_path / "data.img").write_bytes(bytes(1 << 20))
    with running(tmp_path, arguments=NATIVE, disk=False):
        mac = answer(capsys, "attach-nic", "t", "--user")["mac"]
        assert main(("set-link", "t", "net0", "down")) == 0
        assert main(("detach-nic", "t", "net0")) == 0
        assert main(("attach-disk", "t", str(tmp_path / "data.img"))) == 0
        assert main(("detach-disk", "t", "vda")) == 0
        capsys.readouterr()
        assert main(("log", "t")) == 0
        lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
        assert lines[-5:] == [
            f"net0 is plugged in: {mac}, type 'user', 1 queue; steering: none (it has one queue)",
            "the link of net0 is down",
            "'net0' is out of the VM: the guest has let go of it",
            f"vda is plugged in: '{tmp_path}/data.img' on virtio",
            "'vda' is out of the VM: the guest has let go of it",
        ]


def test_a_vm_with_another_card_is_not_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names the card, why it is in the way, and the command that takes it out."""
    with running(tmp_path, arguments=NATIVE, disk=False):
        answer(capsys, "attach-nic", "t", "--user")
        told = answer(capsys, "save", "t", str(tmp_path / "saved"), status=1)["error"]
        assert told["message"] == (
            "cannot save 't': net0 was plugged in, and a restore would start the VM that "
            f"'{tmp_path}/vm.toml' describes"
        )
        assert told["hint"].startswith("take out what was plugged in: bpferry detach-nic t net0;")
        assert not (tmp_path / "saved").exists()


def test_a_guest_that_does_not_react_keeps_the_card_until_it_lets_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says so and can be repeated; at the VM's reset the card is let go of."""
    with running(tmp_path) as run:
        assert answer(capsys, "attach-nic", "t", "--user")["id"] == "net0"
        for _ in range(2):
            told = answer(capsys, "detach-nic", "t", "net0", "--timeout", "1", status=1)["error"]
            assert told["code"] == "not-ready"
            assert told["message"] == "the guest has not let go of 'net0' within 1 s"
            assert "if it lets go later" in told["hint"]
        assert ids(capsys) == ["net0"]
        assert "hostnet0" in str(qmp(tmp_path, "", human="info network"))
        assert main(("reset", "t")) == 0
        assert run.says("'net0' is out of the VM: the guest has let go of it")
        assert ids(capsys) == []
        assert "hostnet0" not in str(qmp(tmp_path, "", human="info network"))


def test_who_waits_for_a_guest_at_a_terminal_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a second. The control: a program that reads the errors is not."""
    first = []
    with running(tmp_path, USER_CARD):
        assert main(("pause", "t")) == 0
        for is_terminal in (False, True):
            capsys.readouterr()
            monkeypatch.setattr(sys.stderr, "isatty", lambda on=is_terminal: on)
            main(("detach-nic", "t", "net0", "--timeout", "3"))
            first.append(capsys.readouterr().err.splitlines()[0])

    assert first == [
        "bpferry: error: the guest has not let go of 'net0' within 3 s",
        "bpferry: waiting for 't': for its guest to let go of 'net0', for up to 3 s ...",
    ]


def test_who_stops_waiting_is_told_that_the_guest_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the command; the card goes when the guest lets go of it."""
    with running(tmp_path, USER_CARD) as run:
        monkeypatch.setattr(StderrReporter, "progress", lambda *_: raise_signal(SIGINT))
        status = main(("detach-nic", "t", "net0", "--timeout", "60"))
        said = capsys.readouterr().err.splitlines()
        assert main(("reset", "t")) == 0
        assert run.says("'net0' is out of the VM: the guest has let go of it")

    assert status == 128 + SIGINT
    assert said == [
        "bpferry: the guest was asked, and may still let go of 'net0'; see: bpferry status t",
        "bpferry: error: stopped by SIGINT",
    ]


def test_a_paused_guest_is_named_as_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot let go of anything."""
    with running(tmp_path, USER_CARD):
        assert main(("pause", "t")) == 0
        told = answer(capsys, "detach-nic", "t", "net0", "--timeout", "1", status=1)["error"]
        assert told["hint"].startswith("the VM is paused: let it continue")


def test_a_card_of_the_description_can_be_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its address is not given to another card."""
    with running(tmp_path, USER_CARD):
        mac = cards(capsys)[0]["mac"]
        main(("detach-nic", "t", "net0", "--timeout", "1"))
        assert main(("reset", "t")) == 0
        assert wait_until(lambda: ids(capsys) == [])
        assert answer(capsys, "attach-nic", "t", "--user")["mac"] != mac


def test_the_link_of_a_card_goes_down_and_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status shows it."""
    with running(tmp_path, USER_CARD):
        assert main(("set-link", "t", "net0", "down")) == 0
        assert capsys.readouterr().out == "the link of net0 is down\n"
        assert cards(capsys)[0]["link"] == "down"
        assert answer(capsys, "set-link", "t", "net0", "up") == {
            "name": "t", "id": "net0", "link": "up",
        }  # fmt: skip
        assert cards(capsys)[0]["link"] == "up"


def test_an_unknown_card_is_answered_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in other commands that name a card."""
    with running(tmp_path, USER_CARD):
        for words in (("detach-nic", "t", "net7"), ("set-link", "t", "net7", "up")):
            told = answer(capsys, *words, status=2)["error"]
            assert told["message"] == "'t' has no card 'net7'"
            assert told["hint"] == "it has net0"


def test_without_a_free_port_the_reason_and_the_way_out_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The VM goes on with the cards that it has."""
    with running(tmp_path):
        for number in range(7):
            assert answer(capsys, "attach-nic", "t", "--user")["id"] == f"net{number}"
        told = answer(capsys, "attach-nic", "t", "--user", status=1)["error"]
        assert told["message"].startswith("there is no room for another device: all 8 ports of PCI")
        assert 'model = "pcie-root-port"' in told["hint"]
        assert len(ids(capsys)) == 7


def test_a_pc_takes_cards_in_its_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """QEMU chooses the slot."""
    with running(tmp_path, 'machine-type = "pc"\n'):
        assert answer(capsys, "attach-nic", "t", "--user")["id"] == "net0"


XML_CARD = """\
<?xml version='1.0'?>
<interface type='user'><model type='virtio'/><link state='down'/></interface>
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("card.toml", '[[cards]]\ntype = "user"\nmodel = "e1000e"\n'), ("card.xml", XML_CARD)],
)
def test_a_file_describes_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    """In either form, as in the description of a VM."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with running(tmp_path):
        told = answer(capsys, "attach-nic", "t", "--file", str(tmp_path / name))
        assert told["id"] == "net0"
        assert told["link"] == ("down" if "down" in text else "up")


FAULTS = [
    ("vm.toml", 'name = "web"\n[[cards]]\nbridge = "br0"\n', 2, "only [[cards]] is read here"),
    ("two.toml", '[[cards]]\nbridge = "a"\n[[cards]]\nbridge = "b"\n', 2, "describes 2 cards"),
    ("vm.xml", "<domain><name>web</name></domain>", 2, "does not begin with <interface>"),
    ("card.toml", "[[cards]]\nqueue = 4\n", 2, "card.toml':2"),
    ("card.xml", "\n<interface type='user'><foo/></interface>", 3, "card.xml':2"),
    ("card.toml", '[[cards]]\ntype = "user"\nqueues = 4\n', 3, "card.toml': 'queues': a card of"),
    ("card.toml", '[[cards]]\nsocket = "/nosuch"\n', 3, "'type': "),
    ("card.toml", '[[cards]]\ntype = "user"\nmodel = "rtl8139"\n', 3, "conventional PCI"),
    ("card.toml", '[[cards]]\ntype = "user"\nrom-file = "/nosuch"\n', 1, "cannot read '/nosuch'"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_plugged_in_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: tuple[str, str, int, str],
) -> None:
    """The place in the file is told, once, and QEMU has nothing of it."""
    name, text, status, words = fault
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    with running(tmp_path):
        before = qmp(tmp_path, "", human="info network")
        told = answer(capsys, "attach-nic", "t", "--file", str(folder / name), status=status)
        assert words in told["error"]["message"]
        assert ids(capsys) == []
        assert qmp(tmp_path, "", human="info network") == before


def test_options_of_a_card_and_a_file_exclude_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before any VM is asked."""
    told = answer(capsys, "attach-nic", "t", "--file", "x.toml", "--queues", "4", status=2)
    assert told["error"]["message"] == "'--queues' is for a card that no file describes"


def test_a_machine_without_pci_takes_no_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is told, with status 3."""
    with running(tmp_path, 'machine-type = "isapc"\n[features]\nacpi = false\n', disk=False):
        told = answer(capsys, "attach-nic", "t", "--user", status=3)["error"]
        assert "has no PCI, where devices are plugged in" in told["message"]


def test_a_guest_without_acpi_is_not_told_of_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who plugs one in, or waits for the guest to let go of one, reads why nothing happens."""
    (tmp_path / "data.img").write_bytes(bytes(1 << 20))
    add = "write acpi = true in [features], and start the VM again"
    late = "the guest sees it only once it has restarted: without ACPI, nothing tells it before"
    with running(tmp_path, "[features]\nacpi = false\n", disk=False):
        told = answer(capsys, "attach-nic", "t", "--user")
        assert {"message": f"net0: {late}", "hint": add} in told["warnings"]
        told = answer(capsys, "attach-disk", "t", str(tmp_path / "data.img"))
        assert [{"message": f"vda: {late}", "hint": add}] == told["warnings"]
        assert main(("log", "t")) == 0
        assert f"warning: vda: {late} (hint: {add})" in capsys.readouterr().out
        told = answer(capsys, "detach-nic", "t", "net0", "--timeout", "1", status=1)["error"]
        assert f"without ACPI, nothing tells the guest that it is to let go: {add}" == told["hint"]


def test_a_guest_with_acpi_is_told_of_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said about it then."""
    (tmp_path / "data.img").write_bytes(bytes(1 << 20))
    with running(tmp_path, disk=False):
        assert [] == answer(capsys, "attach-nic", "t", "--user")["warnings"]
        assert [] == answer(capsys, "attach-disk", "t", str(tmp_path / "data.img"))["warnings"]
