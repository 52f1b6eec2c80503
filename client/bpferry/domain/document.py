# SPDX-License-Identifier: LGPL-2.1-or-later
"""Read a document of either kind into the model, and write the model as either.

Both kinds are held to the types and bounds of the same classes, by msgspec. An error names file,
line, and XPath or key, what was found, and what is possible there.

In XML, a word or number that the model does not know may still be one that libvirt knows, so it is
refused as unsupported; in the native form, whose words are ours, it is bad input.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bpferry.domain import vlan_tags
from bpferry.domain.checks import find_mistakes
from bpferry.domain.conversion import convert
from bpferry.domain.forms import Kind
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins, PassedOver
from bpferry.domain.variables import NOTHING, Given, fill, refuse_values
from bpferry.errors import BadInput, Unsupported, all_in_one

MAX_FILE_BYTES: Final = 1024 * 1024
"""One description. A page of text is a long one."""

IMAGES: Final = (b"QFI\xfb", b"KDMV", b"vhdxfile", b"LUKS\xba\xbe")
"""How disk images begin: qcow2, VMDK, VHDX and LUKS."""

WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
"""How text in UTF-16 begins, where half of the bytes are zeros."""

MAX_HEAD: Final = 512
"""How much of a file is looked at to tell text from something else."""

LIKE_TOML: Final = rb"(?:#[^\n]*\n\s*)*(?:\[|[A-Za-z0-9_.-]+\s*=)"
"""The first lines of TOML: comments, and a table or a key."""


XML_DECLARATION: Final = rb"^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\?>"

BEFORE: Final = (
    b"<domain type='qemu'><name>device</name><memory unit='MiB'>1</memory>"
    b"<os><type>hvm</type></os><devices>"
)
AFTER: Final = b"</devices></domain>"
"""What makes a domain document of one device, on the device's own lines."""


class Document(Struct, frozen=True):
    """A VM, and where its parts were in the document."""

    machine: Machine
    origins: Origins
    kind: Kind
    ignored: tuple[Unsupported, ...] = ()
    """What is not supported and was left out, because the user said so."""
    passed_over: tuple[PassedOver, ...] = ()
    """What a domain document says and QEMU does not need (``ignored``)."""
    mistakes: tuple[BadInput, ...] = ()
    """What is wrong, if it was to be left out: no VM can be started from this."""


def read_in_part(path: Path, given: Given = NOTHING) -> Document:
    """Return the VM that the file *path* describes without what is wrong or not supported.

    What is *given* stands for its variables, and in place of its name.

    Raises:
        BadInput: it cannot be read, or nothing is left of it.
        Unsupported: the same, and something is not supported.
    """
    return read_bytes(_read(path), path, given, ignore_unsupported=True, in_part=True)


def read_file(path: Path, given: Given = NOTHING, *, ignore_unsupported: bool = False) -> Document:
    """Return the VM that the file *path* describes, with what is *given*.

    Raises:
        BadInput: it cannot be read, or says something that is not possible.
        Unsupported: it asks for what bpferry does not do, and *ignore_unsupported* is false.
    """
    return read_bytes(_read(path), path, given, ignore_unsupported=ignore_unsupported)


def read_devices(path: Path, element: str, key: str) -> Document:
    """Return a VM that has only what the file *path* describes.

    That is one element of a domain document, such as *element*, or tables *key* of the native form.

    Raises:
        BadInput: it cannot be read, or has something else in it.
        Unsupported: it asks for what bpferry does not do.
    """
    raw = _read(path)
    _check_name(raw, path)
    if is_xml(raw, path):
        bare = re.sub(XML_DECLARATION, b"", raw)
        if not re.match(rb"\s*(?:<!--.*?-->\s*)*<%s[\s/>]" % element.encode(), bare, re.DOTALL):
            raise BadInput(f"'{path}' does not begin with <{element}>", f"write one <{element}>")
        whole = BEFORE + bare + AFTER
        return _read_xml(whole, path)
    from bpferry.domain import toml  # noqa: PLC0415 - as in _read_toml

    others = set(toml.parse(raw, path)[0]) - {key}
    if others:
        raise BadInput(
            f"'{path}' has '{min(others)}', and only [[{key}]] is read here",
            f"write a file with one [[{key}]] and nothing else",
        )
    return _read_toml(raw, path, base={"name": "device", "memory": "1 MiB"})


def _read(path: Path) -> bytes:
    if str(path) == "-":
        raise BadInput(
            "cannot read '-': a description is read from a file, not from standard input",
            "write it to a file first, as in: virsh dumpxml web > web.xml",
        )
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cannot read '{path}': {getattr(error, 'strerror', error)}",
            "give the path of a libvirt domain document (.xml) or a native description (.toml)",
        ) from error
    _check_text(raw, path)
    if len(raw) > MAX_FILE_BYTES:
        raise BadInput(f"cannot read '{path}': it is larger than {MAX_FILE_BYTES} bytes")
    return raw


def _check_text(raw: bytes, path: Path) -> None:
    """Refuse what is certainly no text, such as an image that is named in place of its VM."""
    is_image = raw.startswith(IMAGES)
    if is_image or (b"\0" in raw[:MAX_HEAD] and not raw.startswith(WIDE)):
        what = "a disk image" if is_image else "a binary file"
        raise BadInput(
            f"'{path}' is {what}, not the description of a VM",
            "give the path of a libvirt domain document (.xml) or a native description (.toml)"
            + (", which names the image as the file of a disk" if is_image else ""),
        )


def read_bytes(
    raw: bytes,
    path: Path,
    given: Given = NOTHING,
    *,
    ignore_unsupported: bool = False,
    in_part: bool = False,
) -> Document:
    """Return the VM that *raw* describes; *path* is for messages and for relative paths.

    With *in_part*, what is wrong is left out as well, if anything is left then.
    """
    _check_name(raw, path)
    if is_xml(raw, path):
        return _read_xml(raw, path, given, ignore_unsupported=ignore_unsupported, in_part=in_part)
    return _read_toml(raw, path, given, in_part=in_part)


def _read_xml(
    raw: bytes,
    path: Path,
    given: Given = NOTHING,
    *,
    ignore_unsupported: bool = False,
    in_part: bool = False,
) -> Document:
    from bpferry.domain import xml, xml_reader  # noqa: PLC0415 - not for a description in TOML

    refuse_values(
        given,
        f"'{path}' is a libvirt document, which has no variables",
        f"turn it into a native description, which can have some: bpferry convert {path}",
    )
    parsed = xml.parse(raw, path, Machine)
    machine = None if parsed.table is None else _with_cpu_mode(parsed.table)
    if machine is not None and given.name is not None:
        machine = msgspec.structs.replace(machine, name=given.name)
    mistakes = (
        *parsed.faults,
        *(() if machine is None else find_mistakes(machine, parsed.origins)),
    )
    # What is missing may be what is refused.
    own = tuple(one for one in mistakes if not isinstance(one, xml_reader.Missing))
    if in_part and machine is not None and mistakes:
        from bpferry.domain.salvage import without_wrong_values  # noqa: PLC0415 - as below

        machine = without_wrong_values(machine, in_xml=True)
        mistakes, told = (), own if parsed.refusals else mistakes
    else:
        told = ()
    if parsed.refusals and (machine is None or not ignore_unsupported):
        raise all_in_one((*parsed.refusals, *own))
    if machine is None or mistakes:
        raise all_in_one(mistakes or told)
    return Document(
        machine,
        parsed.origins,
        "xml",
        ignored=parsed.refusals,
        passed_over=parsed.passed_over,
        mistakes=told,
    )


def _with_cpu_mode(machine: Machine) -> Machine:
    """Return *machine* with the mode that a model of processor alone means (virCPUDefParseXML)."""
    cpu = machine.cpu
    if cpu.mode != "default" or cpu.model is None:
        return machine
    return msgspec.structs.replace(machine, cpu=msgspec.structs.replace(cpu, mode="custom"))


def _read_toml(
    raw: bytes,
    path: Path,
    given: Given = NOTHING,
    *,
    in_part: bool = False,
    base: Mapping[str, object] = {},
) -> Document:
    """Read the description of a VM, which has the keys of *base* as well."""
    from bpferry.domain import shorthand, shorthand_disks, toml  # noqa: PLC0415 - not for XML

    plain, origins = toml.parse(raw, path)
    plain = fill({**base, **plain}, origins, given)
    faults: list[BadInput] = []
    values = toml.to_values(plain, Machine, origins, faults)
    assert isinstance(values, dict)  # noqa: S101 - TOML is a table
    _require_kvm(values)
    shorthand.expand(values)
    shorthand_disks.expand(values)
    vlan_tags.expand(values)
    try:
        machine = convert(values)
    except msgspec.ValidationError as error:
        from bpferry.domain.explain import explain_all  # noqa: PLC0415 - for mistakes only

        told = {fault.element for fault in faults}
        faults += [one for one in explain_all(error, values, origins) if one.element not in told]
    else:
        faults += find_mistakes(machine, origins)
        if not faults:
            return Document(machine, origins, "toml")
    faults.sort(key=lambda one: origins.line_of(one.element or ""))
    from bpferry.domain.salvage import salvage  # noqa: PLC0415 - as above

    left = salvage(values) if in_part else None
    if left is None:
        raise all_in_one(faults)
    return Document(left, origins, "toml", mistakes=tuple(faults))


def _require_kvm(values: dict[str, object]) -> None:
    """Let KVM that is asked for by name be required, as it is by ``<domain type='kvm'>``."""
    if values.get("accelerator") == "kvm":
        values.setdefault("tcg-fallback", False)


def _check_name(raw: bytes, path: Path) -> None:
    """Refuse a document that is certainly not what the name of its file says."""
    text = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise BadInput(
            f"'{path}' is empty",
            "write a libvirt domain document (.xml) or a native description (.toml) into it",
        )
    if text.startswith(b"{"):
        raise BadInput(
            f"'{path}' is neither XML nor TOML: it begins with {{, as JSON does",
            "write it as a libvirt domain document (.xml) or as a native description (.toml)",
        )
    if path.suffix == ".toml" and text.startswith(b"<"):
        raise BadInput(f"'{path}' is XML, although its name ends in .toml", _rename(path, ".xml"))
    if path.suffix == ".xml" and re.match(LIKE_TOML, text):
        raise BadInput(f"'{path}' is TOML, although its name ends in .xml", _rename(path, ".toml"))


def _rename(path: Path, suffix: str) -> str:
    return f"rename it to '{path.with_suffix(suffix).name}'"


def is_xml(raw: bytes, path: Path) -> bool:
    """Say whether *raw* is meant as XML: by the name of its file, or by how it begins."""
    if path.suffix in (".xml", ".toml"):
        return path.suffix == ".xml"
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe", b"\xfe\xff"))


def to_xml(machine: Machine) -> str:
    """Return *machine* as a libvirt domain document."""
    from bpferry.domain import xml  # noqa: PLC0415 - as in _read_xml
    from bpferry.domain.xml_writer import build_element  # noqa: PLC0415 - for `bpferry convert`

    element = build_element("domain", machine)
    vlan_tags.write_as_libvirt(element)
    return xml.format_tree(element)


def to_toml(machine: Machine) -> str:
    """Return *machine* as a native description."""
    from bpferry.domain import shorthand, toml  # noqa: PLC0415 - as in _read_toml

    plain = toml.to_plain(machine)
    shorthand.contract(plain)
    return toml.format_plain(plain)
