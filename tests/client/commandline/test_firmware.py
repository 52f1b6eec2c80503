# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware: which one is taken, and where its variables are kept."""

import json

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Copy
from bpferry.errors import Unsupported
from bpferry.qemu.firmware import Descriptor, FlashFile, Mapping_, Target
from tests.client.commandline.system_parts import (
    FOLDERS,
    all_parts,
    context_of,
    of_kind,
    values,
    words,
)
from tests.client.refusals import refusal_of

VARIABLES = f"{FOLDERS.state}/variables.fd"


def flash(
    code: str, *features: str, machines: str = "pc-q35-*", image_format: str = "raw"
) -> Descriptor:
    """Return the descriptor of a firmware whose files begin with *code*."""
    return Descriptor(
        interface_types=("uefi",),
        mapping=Mapping_(
            device="flash",
            executable=FlashFile(f"{code}_CODE", image_format),
            nvram_template=FlashFile(f"{code}_VARS", image_format),
        ),
        targets=(Target("x86_64", (machines,)),),
        features=frozenset(features),
    )


KEYS = flash("/keys", "secure-boot", "enrolled-keys", "requires-smm")
SECURE = flash("/secure", "secure-boot", "requires-smm")
PLAIN = flash("/plain", machines="pc-*")
QCOW2 = flash("/qcow2", image_format="qcow2")
AMD = Descriptor(
    interface_types=("uefi",),
    mapping=Mapping_(device="flash", mode="stateless", executable=FlashFile("/amd")),
    targets=(Target("x86_64", ("pc-q35-*",)),),
)
BIOS = Descriptor(
    interface_types=("bios",),
    mapping=Mapping_(device="memory", filename="/bios.bin"),
    targets=(Target("x86_64", ("pc-*",)),),
)
ALL = (KEYS, SECURE, PLAIN, QCOW2, AMD, BIOS)


def efi(os: str = "", *, machine: str = "q35", top: str = "") -> Context:
    """Return what is known about a document that asks for UEFI."""
    return context_of(top, os=os, machine=machine, firmware="efi", descriptors=ALL)


def files(context: Context) -> list[tuple[str, str, bool]]:
    """Return the file, the format and whether it is read-only, of each piece of flash."""
    nodes = [json.loads(value or "") for value in values(context, "-blockdev")]
    return [(node["file"]["filename"], node["driver"], node["read-only"]) for node in nodes]


def feature(name: str, enabled: str) -> str:
    """Return the wish for a feature of the firmware."""
    return f"<firmware><feature name='{name}' enabled='{enabled}'/></firmware>"


@pytest.mark.parametrize(
    ("os", "code"),
    [
        ("", "/keys"),
        (feature("enrolled-keys", "no"), "/secure"),
        (feature("secure-boot", "no"), "/plain"),
        ("<loader secure='no'/>", "/plain"),
        ("<loader secure='yes'/>", "/keys"),
    ],
)
def test_first_that_fits(os: str, code: str) -> None:
    """Of the firmware of this host the first is taken that is what the document asks for."""
    context = efi(os)

    assert [(f"{code}_CODE", "raw", True), (VARIABLES, "raw", False)] == files(context)
    assert [
        Copy(f"{code}_VARS", VARIABLES, "loader" if "<loader" in os else "firmware")
    ] == of_kind(context, Copy)


def test_machine_type_counts() -> None:
    """Firmware for q35 does not work for pc."""
    assert ("/plain_CODE", "raw", True) in files(efi(machine="pc"))


def test_guest_of_32_bits_has_firmware_of_32_bits() -> None:
    """Descriptors call guests as QEMU does: i386, where documents say i686."""
    small = msgspec.structs.replace(PLAIN, targets=(Target("i386", ("pc-*",)),))

    context = context_of(arch="i686", machine="pc", firmware="efi", descriptors=(KEYS, small))

    assert ("/plain_CODE", "raw", True) in files(context)


def test_formats() -> None:
    """A format that is asked for is one of code and template."""
    context = efi("<loader format='qcow2'/>")

    assert [
        ("/qcow2_CODE", "qcow2", True),
        (f"{FOLDERS.state}/variables.qcow2", "qcow2", False),
    ] == files(context)


def test_stateless() -> None:
    """Firmware without variables has one piece of flash."""
    context = efi("<loader stateless='yes'/>")

    assert files(context) == [("/amd", "raw", True)]
    assert "pflash1" not in (values(context, "-machine")[0] or "")


def test_secure_boot_needs_system_management_mode() -> None:
    """Firmware that needs SMM gets it, and flash that only SMM writes to."""
    context = efi()

    assert {"smm=on", "pflash0=pflash0-format", "pflash1=pflash1-format"} <= words(
        context, "-machine"
    )
    assert "driver=cfi.pflash01,property=secure,value=on" in values(context, "-global")


def test_without_system_management_mode() -> None:
    """A machine without SMM gets firmware that needs none."""
    context = efi(top="<features><smm state='off'/></features>")

    assert ("/plain_CODE", "raw", True) in files(context)


def test_bios() -> None:
    """A BIOS is loaded as a whole."""
    context = context_of(firmware="bios", descriptors=ALL)

    assert ["/bios.bin"] == values(context, "-bios")


@pytest.mark.parametrize(
    ("os", "expected"),
    [
        (
            "<loader readonly='yes' type='pflash'>/x.fd</loader><nvram template='/t.fd'/>",
            [("/x.fd", "raw", True), (VARIABLES, "raw", False)],
        ),
        (
            "<loader readonly='yes' type='pflash'>/plain_CODE</loader><nvram>/n.fd</nvram>",
            [("/plain_CODE", "raw", True), ("/n.fd", "raw", False)],
        ),
        ("<loader type='pflash'>/both.fd</loader>", [("/both.fd", "raw", False)]),
    ],
)
def test_named(os: str, expected: list[tuple[str, str, bool]]) -> None:
    """A document may name the files itself."""
    assert expected == files(context_of(os=os, descriptors=ALL))


def test_template_of_a_named_loader() -> None:
    """The template that the document does not name is that of the loader's descriptor."""
    context = context_of(
        os="<loader readonly='yes' type='pflash'>/plain_CODE</loader>", descriptors=ALL
    )

    assert of_kind(context, Copy) == [Copy("/plain_VARS", VARIABLES, "loader")]


def test_rom() -> None:
    """A loader that is not flash is loaded as a whole."""
    assert ["/b.bin"] == values(context_of(os="<loader>/b.bin</loader>"), "-bios")


@pytest.mark.parametrize(
    ("os", "machine", "key"),
    [
        ("<loader readonly='yes' type='pflash'>/x.fd</loader>", "q35", "loader"),
        ("<loader type='pflash'>/x.fd</loader>", "microvm", "loader"),
        ("<loader type='pflash' secure='yes'>/x.fd</loader>", "q35", "loader.secure"),
        ("<loader secure='yes'>/x.fd</loader>", "q35", "loader"),
        ("<loader type='rom'/>", "q35", "loader"),
        ("<nvram>/n.fd</nvram>", "q35", "nvram"),
        ("<loader>/x.bin</loader><nvram>/n.fd</nvram>", "q35", "nvram"),
        (feature("secure-boot", "yes"), "q35", "firmware-features[0]"),
    ],
)
def test_refusals(os: str, machine: str, key: str) -> None:
    """Firmware that cannot be is refused, with its key."""
    assert refusal_of(all_parts, context_of(os=os, machine=machine)).element == key


def test_template_of_another_format() -> None:
    """Variables are not converted from one format into another."""
    document = "<loader format='raw'/><nvram format='qcow2' template='/plain_VARS'/>"

    assert refusal_of(all_parts, efi(document)).element == "nvram.format"


def test_the_template_decides_which_firmware_is_chosen() -> None:
    """As under libvirt: code and template of one descriptor belong together."""
    context = efi("<nvram template='/plain_VARS'/>")

    assert ("/plain_CODE", "raw", True) in files(context)
    assert [Copy("/plain_VARS", VARIABLES, "nvram")] == of_kind(context, Copy)


def test_a_template_that_no_firmware_of_this_host_has_is_refused() -> None:
    """It is not paired with firmware that it does not fit, and those that fit are named."""
    with pytest.raises(Unsupported, match="uses the template '/other_VARS'") as caught:
        all_parts(efi("<nvram template='/other_VARS'/>"))

    assert caught.value.element == "nvram.template"
    assert "'/plain_VARS'" in caught.value.hint


def test_a_template_of_two_firmwares_is_named_once() -> None:
    """Firmware with and without keys may begin with the same variables."""
    context = replace(efi("<nvram template='/other_VARS'/>"), firmware=(PLAIN, KEYS, PLAIN))

    with pytest.raises(Unsupported) as caught:
        all_parts(context)

    assert caught.value.hint.count("'/plain_VARS'") == 1


def test_nothing_fits() -> None:
    """Where no firmware of this host fits, the wish for one is refused."""
    assert refusal_of(all_parts, context_of(firmware="efi")).element == "firmware"
