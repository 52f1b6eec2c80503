# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is refused of a VM is found in one go; what is left of it stays what the document says."""

import json
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.domain.document import read_bytes
from bpferry.errors import Unsupported
from bpferry.machine.draft import Draft, draft
from tests.client.support import Record

pytestmark = pytest.mark.qemu

DOMAIN = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <devices>
{devices}
  </devices>
</domain>
"""

IDE = "<disk type='file'><source file='/dev/null'/><target dev='hda' bus='ide'/></disk>"
USER = "<interface type='user'><model type='e1000'/></interface>"
IGB = "<interface type='user'><model type='igb'/></interface>"
NO_TAP = "<interface type='ethernet'><model type='virtio'/></interface>"
UNREAD = "<interface type='vds'><switch switchid='0' portid='1' portgroupid='2'/></interface>"
USB_TPM = "<tpm model='tpm-tis'><backend type='emulator'/><address type='usb' port='1'/></tpm>"


def domain(*devices: str, machine: str = "q35") -> str:
    """Return a document with one device on each line from line 6 on."""
    return DOMAIN.format(machine=machine, devices="\n".join(devices))


def left_of(text: str) -> Draft:
    """Return the VM of the document *text* without what is refused of it."""
    document = read_bytes(text.encode(), Path("/vm.xml"), ignore_unsupported=True)
    return draft(document, Record(), ignore_unsupported=True)


def refused(text: str) -> list[tuple[str | None, str]]:
    """Return place and message of all that is refused of a document."""
    with pytest.raises(Unsupported) as caught:
        draft(read_bytes(text.encode(), Path("/vm.xml")), Record())
    return [(one.element, one.message) for one in (caught.value, *caught.value.others)]


def warnings_of(found: Draft) -> list[str]:
    """Return what is told of what is left out."""
    return [error.when_left_out() for error in found.left_out]


def devices_of(found: Draft) -> dict[str, str]:
    """Return the drivers on the command line, by the ids of the devices."""
    return {device.id: device.driver for device in found.built.devices}


def test_unknown_machine_type_leaves_libvirts_own() -> None:
    """A document without a machine type means 'pc'; its IDE disk stays, and one line is told."""
    found = left_of(domain(IDE, machine="pc-i440fx-rhel7.6.0"))

    assert devices_of(found)["ide0-0-0"] == "ide-hd"
    assert "-machine pc," in " ".join(found.built.argv)
    (told,) = warnings_of(found)
    assert told.startswith("left out: '/vm.xml':4: '/domain/os/type/@machine': ")


def test_unknown_machine_type_of_the_native_form_leaves_its_default() -> None:
    """In the native form the default is q35."""
    text = 'name = "vm"\nmemory = "64 MiB"\nmachine-type = "pc-i440fx-rhel7.6.0"\n'
    document = read_bytes(text.encode(), Path("/vm.toml"))

    found = draft(document, Record(), ignore_unsupported=True)

    assert "-machine q35," in " ".join(found.built.argv)
    assert ["machine-type"] == [error.element for error in found.left_out]


def test_all_is_found_at_once_in_the_order_of_the_document() -> None:
    """Cards, disks and characters are built in another order than they are in."""
    text = domain(
        USB_TPM, NO_TAP, IDE, USER, "<redirdev bus='usb' type='spicevmc'/>", machine="q35"
    )

    elements = [element for element, _ in refused(text)]

    assert elements == [
        "/domain/devices/tpm/address",
        "/domain/devices/interface[1]/@type",
        "/domain/devices/disk/target/@bus",
        "/domain/devices/redirdev",
    ]


def test_each_place_is_told_once() -> None:
    """The line and the XPath come before the sentence, and not again in it."""
    ((_, message),) = refused(domain(IDE))

    place = "'/vm.xml':6: '/domain/devices/disk/target/@bus'"
    assert f"{place}: the machine 'q35' has no IDE controller" == message


@pytest.mark.parametrize("first", [NO_TAP, UNREAD])
def test_rest_keeps_ids_and_addresses(first: str) -> None:
    """Where the first card is left out, the second is still net1, with the address it had.

    That is so whether the first was refused by what builds it or by what reads the document.
    """
    whole = left_of(domain(USER, USER))
    less = left_of(domain(first, USER))

    assert devices_of(less)["net1"] == "e1000"
    assert "net0" not in devices_of(less)
    macs = [
        next(one.properties["mac"] for one in found.built.devices if one.id == "net1")
        for found in (whole, less)
    ]
    assert macs[0] == macs[1]


def test_messages_name_the_right_line_after_others_were_left_out() -> None:
    """The third card is found at its own line, though the first is not there any more."""
    found = left_of(domain(NO_TAP, USER, IGB, machine="pc"))

    assert ["'/vm.xml':6", "'/vm.xml':8"] == [told.split(": ")[1] for told in warnings_of(found)]
    assert devices_of(found)["net2"] == "rtl8139"


def test_what_needs_something_that_went_goes_with_it() -> None:
    """It is not the user's fault, and is reported as what it is."""
    serial = "<serial type='dbus'><source channel='a.b'/></serial>"
    text = domain(serial, "<graphics type='dbus'/>", USER)

    found = left_of(text)

    serial_told, graphics_told = warnings_of(found)
    assert ["/domain/devices/graphics"] == [element for element, _ in refused(text)]
    assert "depends on something that was left out: the type 'dbus'" in serial_told
    assert "no bus is named" in graphics_told
    assert {"net0"} == {one for one in devices_of(found) if one.startswith(("serial", "net"))}


def test_what_is_for_a_machine_type_that_went_goes_with_it() -> None:
    """The controllers are refused only since the machine that they are for is not there."""
    controllers = (
        "<controller type='pci' index='0' model='pcie-root'/>",
        "<controller type='pci' index='1' model='pcie-root-port'/>",
    )
    text = domain(*controllers, USER, machine="pc-q35-rhel9.9.0")

    told = warnings_of(left_of(text))

    assert ["/domain/os/type/@machine"] == [element for element, _ in refused(text)]
    assert "it depends on something that was left out" in told[1]
    assert [4, 6, 7] == [int(one.split(":")[2]) for one in told]


def test_device_that_goes_is_told_once() -> None:
    """Not its fields as well, when all of it goes."""
    text = domain(
        "<interface type='ethernet'><model type='virtio'/><rom bar='off' enabled='no'/></interface>"
    )

    told = warnings_of(left_of(text))

    assert 2 == len(refused(text))
    assert 1 == len(told)
    assert "all of '/domain/devices/interface' is left out with it" in told[0]


def test_what_no_vm_can_be_without_is_refused_all_the_same() -> None:
    """The user's word that things may be left out does not help; all else is told too."""
    text = domain(IDE).replace("<memory unit='MiB'>64</memory>", "")

    with pytest.raises(Unsupported) as caught:
        left_of(text)

    assert caught.value.message.endswith("the VM has no memory")
    assert ["/domain/devices/disk/target/@bus"] == [one.element for one in caught.value.others]


def test_addresses_are_refused_all_at_once() -> None:
    """Two cards in the place of a third one, and one in a place that is not there."""
    address = "<address type='pci' bus='0' slot='{}'/>"
    card = "<interface type='user'><model type='e1000'/>{}</interface>"
    slots = ("0x5", "0x5", "0x5", "0x40")

    found = refused(domain(*(card.format(address.format(slot)) for slot in slots)))

    assert [f"/domain/devices/interface[{n}]/address" for n in (2, 3, 4)] == [
        element for element, _ in found
    ]


def test_names_are_refused_with_all_else() -> None:
    """A name that is there twice does not keep other things from being found."""
    named = "<interface type='user'><model type='{}'/><alias name='ua-a'/></interface>"
    text = domain(named.format("e1000"), named.format("e1000"), named.format("igb"), machine="pc")

    elements = [element for element, _ in refused(text)]

    assert elements == [
        "/domain/devices/interface[2]/alias/@name",
        "/domain/devices/interface[3]/model/@type",
        "/domain/devices/interface[3]/alias/@name",
    ]


def test_missing_file_of_what_was_left_out_is_not_missed(tmp_path: Path) -> None:
    """Only what is left has to be there."""
    disk = IDE.replace("/dev/null", f"{tmp_path}/none.img")

    found = left_of(domain(disk))

    assert () == found.document.machine.disks


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return status, standard output and standard error of a command."""
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def test_reader_and_builder_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the document has that nobody knows, and what this QEMU cannot do, by line."""
    file = tmp_path / "vm.xml"
    file.write_text(domain(IDE, "<spaceship/>", NO_TAP, "<starship/>"), encoding="utf-8")

    status, out, _ = run(capsys, "run", "--dry-run=json", str(file))

    error = json.loads(out)["error"]
    assert 3 == status
    assert ["disk/target/@bus", "spaceship", "interface/@type", "starship"] == [
        one["element"].removeprefix("/domain/devices/") for one in (error, *error["others"])
    ]


def test_check_has_the_same_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, by line."""
    file = tmp_path / "vm.xml"
    file.write_text(domain(IDE, "<spaceship/>", NO_TAP, USB_TPM), encoding="utf-8")

    status, out, _ = run(capsys, "check", "--json", str(file))

    assert 3 == status
    assert ["disk/target/@bus", "spaceship", "interface/@type", "tpm/address"] == [
        one["place"].removeprefix("/domain/devices/")
        for one in json.loads(out)["findings"]
        if one["kind"] == "unsupported"
    ]


def test_people_are_told_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own line, with its own place."""
    file = tmp_path / "vm.xml"
    file.write_text(domain(IDE, NO_TAP), encoding="utf-8")

    status, out, err = run(capsys, "run", "--dry-run", str(file))

    errors = [line for line in err.splitlines() if line.startswith("bpferry: error: ")]
    assert (3, "") == (status, out)
    assert [f"'{file}':6", f"'{file}':7"] == [line.split(": ")[2] for line in errors]


@pytest.mark.parametrize(
    ("toml", "xml"),
    [
        (
            'mode = "custom"\nmodel = "nonesuch"',
            "<cpu mode='custom'><model>nonesuch</model></cpu>",
        ),
        ('model = "nonesuch"', "<cpu><model>nonesuch</model></cpu>"),
        ('mode = "host-passthrough"', "<cpu mode='host-passthrough'/>"),
    ],
)
def test_processor_that_is_left_out_is_the_same_in_both_forms(toml: str, xml: str) -> None:
    """A guest that wants a certain processor gets all that there is here, and not the least."""
    native = f'name = "vm"\nmemory = "64 MiB"\naccelerator = "tcg"\n[cpu]\n{toml}\n'
    of_toml = read_bytes(native.encode(), Path("/vms/vm.toml"))

    found = [
        draft(of_toml, Record(), ignore_unsupported=True),
        left_of(domain().replace("<devices>", f"{xml}<devices>")),
    ]

    for one in found:
        argv = one.built.argv
        assert argv[argv.index("-cpu") + 1] == "max"
        assert len(one.refused) == 1
