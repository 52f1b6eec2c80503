# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial and parallel ports, consoles and channels, and what is behind them."""

import pytest

from bpferry.commandline.parts import Listen, OutputFile, Remark, StandardStreams
from tests.client.commandline.character_parts import (
    devices_in,
    parts_of,
    values,
)
from tests.client.refusals import refusal_of

SPICE = "<graphics type='spice'/>"
PIPE = "<{0} type='pipe'><source path='{1}'/></{0}>"
DBUS = "<graphics type='dbus'/>"

BACK_ENDS = [
    ("null", "", "null,id=charserial0"),
    ("vc", "", "vc,id=charserial0"),
    ("pty", "", "pty,id=charserial0"),
    ("pty", "<source path='/dev/pts/3'/>", "pty,id=charserial0"),
    ("stdio", "", "stdio,id=charserial0"),
    ("dev", "<source path='/dev/ttyS2'/>", "serial,id=charserial0,path=/dev/ttyS2"),
    ("pipe", "<source path='/tmp/p'/>", "pipe,id=charserial0,path=/tmp/p"),
    ("pipe", "<source path='/tmp/a,b'/>", "pipe,id=charserial0,path=/tmp/a,,b"),
    ("pipe", "<source path='p'/>", "pipe,id=charserial0,path=/vms/p"),
    (
        "file",
        "<source path='/tmp/log'/>",
        "file,id=charserial0,path=/dev/fdset/0,append=on",
    ),
    (
        "null",
        "<log file='/tmp/log'/>",
        "null,id=charserial0,logfile=/dev/fdset/0,logappend=on",
    ),
    (
        "tcp",
        "<source mode='bind' host='127.0.0.1' service='9'/>",
        "socket,id=charserial0,host=127.0.0.1,port=9,server=on,wait=off",
    ),
    (
        "tcp",
        "<source host='::1' service='9' tls='no'/><protocol type='raw'/>",
        "socket,id=charserial0,host=::1,port=9",
    ),
    (
        "tcp",
        "<source mode='connect' host='h' service='9'/><protocol type='telnet'/>",
        "socket,id=charserial0,host=h,port=9,telnet=on",
    ),
    (
        "tcp",
        "<source host='h' service='9'><reconnect enabled='yes' timeout='3'/></source>",
        "socket,id=charserial0,host=h,port=9,reconnect-ms=3000",
    ),
    (
        "tcp",
        "<source host='h' service='9'><reconnect enabled='no'/></source>",
        "socket,id=charserial0,host=h,port=9",
    ),
    (
        "unix",
        "<source mode='bind' path='/tmp/s'/>",
        "socket,id=charserial0,fd=serial0.listen,server=on,wait=off",
    ),
    (
        "unix",
        "<source mode='connect' path='/tmp/s'/>",
        "socket,id=charserial0,path=/tmp/s",
    ),
    ("unix", "<source path='/tmp/s'/>", "socket,id=charserial0,path=/tmp/s"),
    (
        "unix",
        "<source path='/tmp/s'><reconnect enabled='yes' timeout='1'/></source>",
        "socket,id=charserial0,path=/tmp/s,reconnect-ms=1000",
    ),
    (
        "udp",
        "<source mode='bind' host='a' service='1'/><source mode='connect' host='b' service='2'/>",
        "udp,id=charserial0,host=b,port=2,localaddr=a,localport=1",
    ),
    (
        "udp",
        "<source mode='connect' service='2'/>",
        "udp,id=charserial0,host=,port=2,localaddr=,localport=0",
    ),
    (
        "spiceport",
        "<source channel='org.x.0'/>" + "</serial>" + SPICE + "<serial type='null'>",
        "spiceport,id=charserial0,name=org.x.0",
    ),
    (
        "dbus",
        "<source channel='org.x.0'/>" + "</serial>" + DBUS + "<serial type='null'>",
        "dbus,id=charserial0,name=org.x.0",
    ),
    (
        "qemu-vdagent",
        "<source><clipboard copypaste='yes'/><mouse mode='server'/></source>",
        "qemu-vdagent,id=charserial0,name=vdagent,clipboard=on,mouse=off",
    ),
]


@pytest.mark.parametrize(("kind", "inner", "expected"), BACK_ENDS)
def test_back_end(kind: str, inner: str, expected: str) -> None:
    """Each type of back end is the chardev that libvirt means by it."""
    parts = parts_of(f"<serial type='{kind}'>{inner}</serial>")

    assert expected == values(parts, "-chardev")[0]


def test_older_qemu_reconnects_in_seconds() -> None:
    """Before 9.2 the time to reconnect was counted in seconds."""
    source = "<source path='/s'><reconnect enabled='yes' timeout='2'/></source>"
    parts = parts_of(f"<serial type='unix'>{source}</serial>", version=(9, 1, 0))

    assert ["socket,id=charserial0,path=/s,reconnect=2"] == values(parts, "-chardev")


def test_socket_to_listen_at_is_inherited() -> None:
    """Where the guest's side listens, bpferry does so for QEMU."""
    parts = parts_of("<serial type='unix'><source mode='bind' path='/tmp/s'/></serial>")

    assert Listen("serial0.listen", "/tmp/s") in parts


@pytest.mark.parametrize(("attribute", "kept"), [("", False), ("append='on'", True)])
def test_file_is_inherited(attribute: str, kept: bool) -> None:  # noqa: FBT001 - a table's column
    """A file is opened by bpferry, cut short unless the document says otherwise."""
    parts = parts_of(f"<serial type='file'><source path='/tmp/f' {attribute}/></serial>")

    assert (
        OutputFile("serial0.source", "/tmp/f", "serials[0].sources[0].path", append=kept) in parts
    )
    assert ["set=0,fd=serial0.source,opaque=serial0.source"] == values(parts, "-add-fd")


def test_each_file_has_a_set_of_its_own() -> None:
    """Two files are never taken for each other."""
    one = "<serial type='file'><source path='/a'/><log file='/b' append='on'/></serial>"
    parts = parts_of(one + one)

    assert [
        "file,id=charserial0,path=/dev/fdset/0,append=on,logfile=/dev/fdset/1,logappend=on",
        "file,id=charserial1,path=/dev/fdset/2,append=on,logfile=/dev/fdset/3,logappend=on",
    ] == values(parts, "-chardev")


def test_standard_streams_are_asked_for() -> None:
    """A console on standard input and output needs them."""
    assert StandardStreams() in parts_of("<serial type='stdio'/>")


REFUSED = [
    ("<serial type='stdio'/><serial type='stdio'/>", "serials[1]"),
    ("<serial type='tcp'><source host='h' service='1' tls='yes'/></serial>", ".sources[0].tls"),
    ("<serial type='tcp'><source host='h'/></serial>", "serials[0]"),
    ("<serial type='unix'/>", "serials[0]"),
    ("<serial type='file'/>", "serials[0]"),
    ("<serial type='null'><source path='/x'/></serial>", ".sources[0].path"),
    ("<serial type='pipe'><source path='/x' append='on'/></serial>", ".sources[0].append"),
    ("<serial type='unix'><source path='/x'/><protocol type='telnet'/></serial>", ".protocol"),
    (
        (
            "<serial type='unix'><source mode='bind' path='/x'>"
            "<reconnect enabled='yes' timeout='1'/></source></serial>"
        ),
        ".sources[0].reconnect",
    ),
    (
        "<serial type='unix'><source path='/x'><reconnect enabled='yes'/></source></serial>",
        ".sources[0].reconnect",
    ),
    ("<serial type='pipe'><source path='/x'/><source path='/y'/></serial>", ".sources[1]"),
    ("<serial type='udp'><source mode='bind' service='1'/></serial>", "serials[0]"),
    ("<serial type='spiceport'><source channel='x'/></serial>", "serials[0]"),
    ("<serial type='dbus'><source channel='x'/></serial>" + SPICE, "serials[0]"),
    ("<serial type='dbus'><source channel='a b'/></serial>" + DBUS, ".sources[0].channel"),
    ("<channel type='spicevmc'><target type='virtio'/></channel>", "channels[0]"),
    ("<serial type='pty'><target port='4'/></serial>", "serials[0].port"),
    ("<serial type='pty'><target type='system-serial'/></serial>", "serials[0].target"),
    (
        "<serial type='pty'><target type='pci-serial'><model name='isa-serial'/></target></serial>",
        "serials[0].model",
    ),
    (
        "<serial type='pty'><target type='usb-serial'/><address type='isa' iobase='1'/></serial>",
        "serials[0].address",
    ),
    ("<parallel type='pty'><target port='3'/></parallel>", "parallels[0].port"),
    (
        "<parallel type='pty'><address type='pci' slot='1'/></parallel>",
        "parallels[0].address",
    ),
    ("<console/><console><target type='serial'/></console>", "consoles[1]"),
    (
        "<channel type='spicevmc'><target type='virtio' name='x'/></channel>" + SPICE,
        "channels[0].name",
    ),
    ("<channel type='pty'><target type='guestfwd' port='1'/></channel>", "channels[0]"),
    (
        "<channel type='pty'><target type='guestfwd' address='::1' port='1'/></channel>",
        "channels[0].guest-address",
    ),
    (
        "<channel type='unix'><target type='guestfwd' address='1.2.3.4' port='1'/></channel>",
        "channels[0]",
    ),
    (
        (
            "<channel type='pty'><target type='virtio'/>"
            "<address type='virtio-serial' controller='0' bus='0' port='31'/></channel>"
        ),
        "channels[0].address.port",
    ),
    (
        (
            "<channel type='pty'><target type='virtio'/>"
            "<address type='virtio-serial' controller='0' bus='1' port='1'/></channel>"
        ),
        "channels[0].address.bus",
    ),
    (
        "<channel type='pty'><target type='virtio'/><address type='pci' slot='1'/></channel>",
        "channels[0].address.type",
    ),
]


@pytest.mark.parametrize(("devices", "element"), REFUSED)
def test_refused(devices: str, element: str) -> None:
    """What cannot be done is refused, with the key of what asks for it."""
    error = refusal_of(parts_of, devices)

    assert (error.element or "").endswith(element)


SERIALS = [
    ("", ("isa-serial", "serial0", {"index": 0})),
    ("<target port='2'/>", ("isa-serial", "serial0", {"index": 2})),
    (
        "<target type='isa-serial' port='1'><model name='isa-serial'/></target>",
        ("isa-serial", "serial0", {"index": 1}),
    ),
    (
        "<address type='isa' iobase='0x3f8' irq='0x4'/>",
        ("isa-serial", "serial0", {"index": 0, "iobase": 0x3F8, "irq": 4}),
    ),
    ("<target type='usb-serial'/>", ("usb-serial", "serial0", {})),
    ("<target type='pci-serial' port='0'/>", ("pci-serial", "serial0", {})),
    (
        "<target type='isa-debug'/><address type='isa' iobase='0x402'/>",
        ("isa-debugcon", "serial0", {"iobase": 0x402}),
    ),
    ("<alias name='ua-mine'/>", ("isa-serial", "ua-mine", {"index": 0})),
]


@pytest.mark.parametrize(("inner", "expected"), SERIALS)
def test_serial_port(inner: str, expected: tuple[str, str, dict[str, object]]) -> None:
    """Each target is QEMU's device of that kind, in its place."""
    driver, device_id, place = expected
    found = devices_in(parts_of(f"<serial type='pty'>{inner}</serial>"))

    assert [(driver, device_id, {"chardev": f"char{device_id}", **place})] == found


def test_serial_ports_count_on_from_the_highest() -> None:
    """A port without a number gets the one after the highest, as in libvirt."""
    parts = parts_of("<serial/><serial><target port='1'/></serial><serial/>")

    assert [2, 1, 3] == [properties["index"] for _, _, properties in devices_in(parts)]


def test_machine_with_a_port_of_its_own_gets_it() -> None:
    """On a machine for arm the serial port is part of the board."""
    parts = parts_of("<serial type='pty'/>", machine_type="virt-10.0")

    assert ["chardev:charserial0"] == values(parts, "-serial")
    assert [] == devices_in(parts)


@pytest.mark.parametrize(
    "console",
    [
        "<console type='pty'><target type='serial' port='0'/></console>",
        "<console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/></console>",
        "<console/>",
    ],
)
def test_console_that_repeats_a_serial_port_adds_nothing(console: str) -> None:
    """The first console is the first serial port by another name."""
    assert parts_of("<serial type='pty'/>") == parts_of(f"<serial type='pty'/>{console}")


@pytest.mark.parametrize(
    ("serial", "consoles"),
    [
        ("<serial type='pty'/>", "<console type='file'><source path='/x'/></console>"),
        ("<serial type='pty'/>", "<console type='stdio'/>"),
        (PIPE.format("serial", "/x"), "<console type='file'><source path='/x'/></console>"),
        (PIPE.format("serial", "/x"), PIPE.format("console", "/y")),
        ("<serial type='pty'/>", "<console type='pty'/><console type='pty'/>"),
    ],
)
def test_console_that_differs_from_the_serial_port_is_left_out(serial: str, consoles: str) -> None:
    """The port stays as it is, as in libvirt, and the user is told."""
    remarks = [part for part in parts_of(serial + consoles) if isinstance(part, Remark)]
    others = [part for part in parts_of(serial + consoles) if not isinstance(part, Remark)]

    assert parts_of(serial) == others
    assert [f"consoles[{consoles.count('<console') - 1}]"] == [part.key for part in remarks]


def test_console_alone_is_a_serial_port() -> None:
    """Where there is no serial port, the console makes one."""
    parts = parts_of("<console type='pipe'><source path='/p'/></console>")

    assert [("isa-serial", "serial0", {"chardev": "charserial0", "index": 0})] == devices_in(parts)
    assert ["pipe,id=charserial0,path=/p"] == values(parts, "-chardev")


def test_parallel_port() -> None:
    """A device of the host behind a parallel port is opened as one."""
    parts = parts_of("<parallel type='dev'><source path='/dev/parport0'/></parallel>")

    assert ["parallel,id=charparallel0,path=/dev/parport0"] == values(parts, "-chardev")
    assert [("isa-parallel", "parallel0", {"chardev": "charparallel0"})] == devices_in(parts)


def test_virtio_console_is_at_port_0() -> None:
    """The first port is the one for a console, and channels stay off it."""
    parts = parts_of(
        "<channel type='pty'><target type='virtio' name='a'/></channel>"
        "<console type='pty'><target type='virtio'/></console>"
    )

    assert [("virtserialport", 1), ("virtconsole", 0)] == [
        (driver, properties["nr"]) for driver, _, properties in devices_in(parts)
    ]


def channel(name: str, address: str = "") -> str:
    """Return a channel called *name*."""
    return f"<channel type='pty'><target type='virtio' name='{name}'/>{address}</channel>"


def port_places(devices: str) -> dict[object, tuple[object, object]]:
    """Return bus and number of each port, by its name."""
    return {
        properties["name"]: (properties["bus"], properties["nr"])
        for _, _, properties in devices_in(parts_of(devices))
    }


def test_ports_with_addresses_keep_them() -> None:
    """Given addresses are kept, and the others get what is free."""
    kept = "<address type='virtio-serial' controller='1' bus='0' port='1'/>"
    partly = "<address type='virtio-serial' controller='1'/>"

    assert {
        "a": ("virtio-serial0.0", 1),
        "b": ("virtio-serial1.0", 2),
        "c": ("virtio-serial1.0", 1),
    } == port_places(channel("a") + channel("b", partly) + channel("c", kept))


def test_full_controller_is_followed_by_another() -> None:
    """Where a controller's ports are taken, the next one is used."""
    few = "<controller type='virtio-serial' index='0' ports='2'/>"

    assert {"a": ("virtio-serial0.0", 1), "b": ("virtio-serial1.0", 1)} == port_places(
        few + channel("a") + channel("b")
    )


def test_controller_with_an_alias_is_found() -> None:
    """A controller that the user named is the port's bus by that name."""
    mine = "<controller type='virtio-serial' index='0'><alias name='ua-bus'/></controller>"

    assert {"a": ("ua-bus.0", 1)} == port_places(mine + channel("a"))


PATHS = [
    ("<target type='virtio' name='org.qemu.guest_agent.0'/>", "org.qemu.guest_agent.0"),
    ("<target type='virtio'/>", "channel0"),
    ("<target type='virtio' name='../evil'/>", "channel0"),
    ("<target type='virtio' name='a/b'/>", "channel0"),
    (
        (
            "<source path='/var/lib/libvirt/qemu/channel/target/domain-old/a'/>"
            "<target type='virtio' name='a'/>"
        ),
        "a",
    ),
    (
        (
            "<source mode='bind' path='/run/user/7/libvirt/qemu/run/channel/3-old/a'/>"
            "<target type='virtio' name='a'/>"
        ),
        "a",
    ),
    (
        (
            "<source mode='bind' path='/var/lib/libvirt/qemu/channel/target/old.a'/>"
            "<target type='virtio' name='a'/>"
        ),
        "a",
    ),
]


@pytest.mark.parametrize(("inner", "expected"), PATHS)
def test_channel_without_a_path_of_its_own(inner: str, expected: str) -> None:
    """A path that nobody chose is one in the VM's folder."""
    parts = parts_of(f"<channel type='unix'>{inner}</channel>")

    assert Listen("channel0.listen", f"/run/user/7/bpferry/vm/{expected}") in parts


def test_path_that_only_looks_like_libvirts_is_kept() -> None:
    """A path whose end is not the channel's name was chosen by somebody."""
    path = "/var/lib/libvirt/qemu/channel/target/domain-old/other"
    source = f"<source mode='bind' path='{path}'/>"
    parts = parts_of(f"<channel type='unix'>{source}<target type='virtio' name='a'/></channel>")

    assert Listen("channel0.listen", path) in parts


def test_channels_of_one_name_have_two_sockets() -> None:
    """Two channels never share a path."""
    one = "<channel type='unix'><target type='virtio' name='a'/></channel>"
    paths = [part.path for part in parts_of(one + one) if isinstance(part, Listen)]

    assert ["/run/user/7/bpferry/vm/channel0", "/run/user/7/bpferry/vm/channel1"] == paths


def test_spice_agent_has_its_name() -> None:
    """A channel of SPICE's agent is found by the guest without being named."""
    parts = parts_of("<channel type='spicevmc'><target type='virtio'/></channel>" + SPICE)

    assert ["spicevmc,id=charchannel0,name=vdagent"] == values(parts, "-chardev")
    assert "com.redhat.spice.0" == devices_in(parts)[0][2]["name"]


def test_forwarded_channel() -> None:
    """A channel at an address of the guest's network is a netdev without a card."""
    target = "<target type='guestfwd' address='10.0.2.1' port='4600'/>"
    parts = parts_of(f"<channel type='pty'>{target}</channel>")

    assert [
        (
            '{"type":"user","guestfwd":[{"str":"tcp:10.0.2.1:4600-chardev:charchannel0"}],'
            '"id":"channel0"}'
        )
    ] == values(parts, "-netdev")
