# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards in a real QEMU: each model, each type that needs no tap, and each property."""

import socket
from pathlib import Path

import pytest

from bpferry.commandline.parts import Command
from tests import requires
from tests.client.support import wait_until
from tests.devices.running import Running, domain, running
from tests.support.vhost_user import GET_FEATURES, connecting, serving

pytestmark = pytest.mark.qemu

MAC = "52:54:00:00:00:01"
SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"

PASST = (
    "<model type='virtio'/><backend type='passt'/><mtu size='1400'/>"
    "<ip address='172.17.2.1' family='ipv4' prefix='24'/>"
    "<portForward proto='tcp' address='127.0.0.1'>"
    "<range start='15571' end='15579' to='25571'/><range start='15575' exclude='yes'/>"
    "</portForward><portForward proto='udp'><range start='15580'/></portForward>"
)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the VM leaves in the test's own folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()


def card(kind: str, inner: str = "<model type='virtio'/>", mac: str = MAC) -> str:
    """Return the XML of a card."""
    return f"<interface type='{kind}'><mac address='{mac}'/>{inner}</interface>"


def networks(vm: Running) -> str:
    """Return what QEMU says is behind its cards."""
    return str(vm.execute("human-monitor-command", command_line="info network"))


MODELS = {
    "virtio": "virtio-net-pci",
    "virtio-transitional": "virtio-net-pci-transitional",
    "virtio-non-transitional": "virtio-net-pci-non-transitional",
    "e1000": "e1000",
    "e1000-82544gc": "e1000-82544gc",
    "e1000-82545em": "e1000-82545em",
    "e1000e": "e1000e",
    "igb": "igb",
    "rtl8139": "rtl8139",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
    "vmxnet3": "vmxnet3",
    "tulip": "tulip",
    "i82550": "i82550",
    "i82551": "i82551",
    "i82557a": "i82557a",
    "i82557b": "i82557b",
    "i82557c": "i82557c",
    "i82558a": "i82558a",
    "i82558b": "i82558b",
    "i82559a": "i82559a",
    "i82559b": "i82559b",
    "i82559c": "i82559c",
    "i82559er": "i82559er",
    "i82562": "i82562",
    "i82801": "i82801",
}


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_models(machine: str, tmp_path: Path) -> None:
    """QEMU has made a card of each model, with its address."""
    models = [model for model in MODELS if machine == "q35" or model != "igb"]
    macs = [f"52:54:00:00:01:{number:02x}" for number in range(len(models))]
    devices = "".join(
        card("user", f"<model type='{model}'/>", mac)
        for model, mac in zip(models, macs, strict=True)
    )

    with running(domain(devices, machine=machine), tmp_path) as vm:
        names = [f"net{number}" for number in range(len(models))]
        assert [MODELS[model] for model in models] == [vm.qom_type(name) for name in names]
        assert macs == [vm.property_of(name, "mac") for name in names]


def test_usb_card(tmp_path: Path) -> None:
    """A card on USB finds a bus."""
    text = "<controller type='usb' model='qemu-xhci'/>" + card("user", "<model type='usb-net'/>")

    with running(domain(text), tmp_path) as vm:
        assert "usb-net" == vm.qom_type("net0")


def test_microvm(tmp_path: Path) -> None:
    """Without PCI it is a virtio device on a bus of its own."""
    with running(domain(card("user"), machine="microvm"), tmp_path) as vm:
        assert "virtio-net-device" == vm.qom_type("net0")


LOCAL = "<local address='127.0.0.1' port='15560'/>"
BACK_ENDS = (
    card("user", "<ip address='172.17.2.0' prefix='24'/>"),
    card("mcast", "<source address='230.0.0.1' port='15558'/>"),
    card("udp", f"<source address='127.0.0.1' port='15559'>{LOCAL}</source>"),
    card("server", "<source address='127.0.0.1' port='15561'/>"),
)


def test_back_ends(tmp_path: Path) -> None:
    """QEMU has each back end, with the addresses of the document."""
    with running(domain("".join(BACK_ENDS)), tmp_path) as vm:
        shown = networks(vm)

    assert "hostnet0: index=0,type=user,net=172.17.2.0" in shown
    assert "mcast=230.0.0.1:15558" in shown
    assert "udp=127.0.0.1:15559" in shown
    assert "hostnet3: " in shown


def test_client_finds_its_server(tmp_path: Path) -> None:
    """A card of type client connects to who listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"<source address='127.0.0.1' port='{port}'/>"

        with running(domain(card("client", "<model type='virtio'/>" + source)), tmp_path):
            server.settimeout(5)
            connection, _ = server.accept()
            connection.close()


ATTRIBUTES = {
    "txmode='timer'": ("tx", "timer"),
    "ioeventfd='off'": ("ioeventfd", False),
    "event_idx='off'": ("event_idx", False),
    "rx_queue_size='512'": ("rx_queue_size", 512),
    "tx_queue_size='256'": ("tx_queue_size", 256),
    "rss='on'": ("rss", True),
    "rss_hash_report='on'": ("hash", True),
    "iommu='on'": ("iommu_platform", True),
    "ats='on'": ("ats", True),
    "packed='on'": ("packed", True),
    "page_per_vq='on'": ("page-per-vq", True),
}


def test_attributes_of_the_driver(tmp_path: Path) -> None:
    """What the document says of a virtio card is so in QEMU."""
    inner = f"<model type='virtio'/><driver {' '.join(ATTRIBUTES)}/>"

    with running(domain(card("user", inner)), tmp_path) as vm:
        found = {name: vm.property_of("net0", name) for name, _ in ATTRIBUTES.values()}

    assert dict(ATTRIBUTES.values()) == found


OFFLOADS = {
    "host": {
        "csum": "csum", "gso": "gso", "tso4": "host_tso4", "tso6": "host_tso6",
        "ecn": "host_ecn", "ufo": "host_ufo", "mrg_rxbuf": "mrg_rxbuf",
    },
    "guest": {
        "csum": "guest_csum", "tso4": "guest_tso4", "tso6": "guest_tso6", "ecn": "guest_ecn",
        "ufo": "guest_ufo",
    },
}  # fmt: skip


@pytest.mark.parametrize("side", OFFLOADS)
def test_offloads(side: str, tmp_path: Path) -> None:
    """Offloads that are switched off are off in QEMU, where all are on by themselves."""
    off = " ".join(f"{attribute}='off'" for attribute in OFFLOADS[side])
    inner = f"<model type='virtio'/><driver><{side} {off}/></driver>"

    with running(domain(card("user", inner)), tmp_path) as vm:
        found = {name: vm.property_of("net0", name) for name in OFFLOADS[side].values()}

    assert dict.fromkeys(OFFLOADS[side].values(), False) == found


def test_what_every_card_may_say(tmp_path: Path) -> None:
    """The place in the boot order, the number for names, and the ROM are properties."""
    inner = "<model type='e1000e'/><boot order='2'/><acpi index='7'/><rom enabled='no'/>"

    with running(domain(card("user", inner)), tmp_path) as vm:
        found = [vm.property_of("net0", name) for name in ("bootindex", "acpi-index", "romfile")]
        assert [2, 7, ""] == found


def test_link_that_is_down(tmp_path: Path) -> None:
    """QEMU takes the command by which the link goes down."""
    down = card("user", "<model type='virtio'/><link state='down'/>")

    with running(domain(down), tmp_path) as vm:
        (command,) = vm.draft.built.of(Command)
        assert {} == vm.execute(command.name, **command.arguments)


def test_vhost_user(tmp_path: Path) -> None:
    """QEMU connects to the process that serves the card, and asks what it can."""
    path = tmp_path / "vhost.sock"
    source = f"<source type='unix' path='{path}' mode='client'/>"

    with serving(path) as server:
        with running(domain(card("vhostuser", source), top=SHARED), tmp_path) as vm:
            assert "virtio-net-pci" == vm.qom_type("net0")
            assert "type=vhost-user" in networks(vm)
        server.wait()

    assert GET_FEATURES in server.requests


def test_vhost_user_that_qemu_listens_for(tmp_path: Path) -> None:
    """QEMU makes the socket, and waits for the process that serves the card."""
    path = tmp_path / "vhost.sock"
    source = f"<source type='unix' path='{path}' mode='server'/>"

    with connecting(path) as server:
        with running(domain(card("vhostuser", source), top=SHARED), tmp_path) as vm:
            assert "virtio-net-pci" == vm.qom_type("net0")
        server.wait()

    assert GET_FEATURES in server.requests
    assert not path.exists()


def test_passt(tmp_path: Path) -> None:
    """The process takes our arguments, and QEMU talks to it over what both inherit."""
    requires.program("passt")
    requires.root()
    requires.default_route()

    with running(domain(card("user", PASST)), tmp_path) as vm:
        assert wait_until(lambda: "type=stream,unix:" in networks(vm))
        (passt,) = vm.companions
        assert b"--fd" in Path(f"/proc/{passt.child.pid}/cmdline").read_bytes()
        folder = tmp_path / "run" / "bpferry" / "devices"
        assert {"control.sock", "qmp.sock"} == {path.name for path in folder.iterdir()}
        vm.execute("quit")

        assert passt.child.wait(30)
        assert 0 == passt.child.exit_status()
