# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which firmware a VM has: QEMU's own, one that it names, or one that this host has.

The first of this host's descriptors that matches what the document asks for is used.
"""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msgspec import Struct

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.domain.architectures import qemu_name
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.firmware import Loader, Nvram
    from bpferry.domain.model.machine import Machine
    from bpferry.qemu.firmware import Descriptor

FLASH_FAMILIES = ("pc", "q35", "virt")
"""The machine types that have flash for firmware."""


class Flash(Struct, frozen=True):
    """Firmware in flash."""

    code: str
    code_format: str
    read_only: bool
    secure: bool
    """Whether only code in system management mode can write to the flash."""
    template: str | None
    template_format: str
    needs_smm: bool = False


class Rom(Struct, frozen=True):
    """Firmware that QEMU loads as a whole."""

    path: str


Firmware = Flash | Rom


def firmware_of(context: Context) -> Firmware | None:
    """Return the firmware of the VM; None for QEMU's own."""
    machine = context.machine
    if machine.firmware_features and machine.firmware is None:
        raise mistaken(
            "firmware-features[0]",
            "features select firmware, and the description asks for none",
            "set firmware to efi",
        )
    if machine.firmware is not None:
        found = _described(context, machine.firmware)
    elif machine.loader is not None:
        found = _named(context, machine.loader)
    else:
        if machine.nvram is not None:
            raise mistaken("nvram", "there is no loader that would use it", "name the loader")
        return None
    if isinstance(found, Flash):
        _check_flash(context, found)
    elif machine.nvram is not None:
        raise mistaken(
            "nvram",
            "firmware that is not in flash has no variable store",
            "leave nvram out, or write the type 'pflash' for the loader",
        )
    return found


def loader_of(machine: "Machine") -> "Loader":
    """Return what the description says of the loader, which may be nothing."""
    from bpferry.domain.model.firmware import Loader  # noqa: PLC0415 - not for QEMU's own firmware

    return machine.loader or Loader()


def nvram_of(machine: "Machine") -> "Nvram":
    """Return what the description says of the file with the variables."""
    from bpferry.domain.model.firmware import Nvram  # noqa: PLC0415 - as above

    return machine.nvram or Nvram()


def _check_flash(context: Context, flash: Flash) -> None:
    if context.family not in FLASH_FAMILIES:
        raise unsupported(
            "loader",
            f"'{context.machine_type}' has no flash for firmware",
            "leave the loader out, or choose another machine type, such as 'q35'",
        )
    if flash.secure and context.family != "q35":
        raise unsupported(
            "loader.secure",
            "only q35 machines have secure flash",
            "choose the machine type 'q35', or leave it out",
        )
    smm = context.machine.features.smm
    if flash.secure and not flash.needs_smm and not smm:
        raise mistaken("loader.secure", "it needs SMM", "turn on features.smm too")
    if flash.needs_smm and smm is False:
        raise mistaken(
            "features.smm",
            "the firmware needs system management mode",
            "switch it on, or choose firmware without secure boot",
        )


def _named(context: Context, loader: "Loader") -> Firmware:
    """Return the firmware whose program the document names."""
    if loader.path is None:
        raise mistaken("loader", "it names no file", "name one, or set firmware to 'efi'")
    if loader.type != "pflash":
        # A file that is not flash is loaded as a whole; there is nothing to write to.
        if loader.secure or loader.read_only is False or loader.format == "qcow2":
            raise mistaken(
                "loader",
                "this is for the type 'pflash' only",
                "leave it out, or write the type 'pflash'",
            )
        return Rom(loader.path)
    known = _by_path(context, loader.path)
    template = context.machine.nvram.template if context.machine.nvram else None
    chosen = known.mapping.nvram_template if known else None
    return Flash(
        code=loader.path,
        code_format=loader.format or "raw",
        read_only=bool(loader.read_only),
        secure=bool(loader.secure),
        template=template or (chosen.filename if chosen else None),
        template_format=_template_format(context, chosen.format if chosen else "raw"),
    )


def _template_format(context: Context, usual: str) -> str:
    nvram = context.machine.nvram
    if nvram is None or nvram.template is None:
        return usual
    return nvram.template_format or "raw"


def _by_path(context: Context, path: str) -> "Descriptor | None":
    for found in context.firmware:
        if found.mapping.executable is not None and found.mapping.executable.filename == path:
            return found
    return None


def _described(context: Context, kind: str) -> Firmware:
    """Return the first firmware of this host that matches what the document asks for."""
    for found in context.firmware:
        if _fits(context, found, kind):
            mapping = found.mapping
            if mapping.device == "memory" and mapping.filename is not None:
                return Rom(mapping.filename)
            if mapping.executable is not None:
                return _flash(context, found)
    if context.machine.nvram is not None and context.machine.nvram.template is not None:
        raise _no_firmware_for_template(context, context.machine.nvram.template)
    raise unsupported(
        "firmware",
        f"no firmware on this host matches what is asked for on a machine '{context.machine_type}'",
        "install it (Debian: ovmf), or name the file in loader"
        if kind == "efi"
        else "leave it out: a PC of QEMU has a BIOS built in",
    )


def _no_firmware_for_template(context: Context, template: str) -> Unsupported:
    """Return the refusal of a template if no firmware that could be chosen has it."""
    known = [d.mapping for d in context.firmware if _targets(context, d)]
    # Several firmwares may have one template, such as those with and without Secure Boot.
    pairs = dict.fromkeys(f"'{m.nvram_template.filename}'" for m in known if m.nvram_template)
    there = f"; templates of this host's firmware: {', '.join(pairs)}" if pairs else ""
    return unsupported(
        "nvram.template",
        f"no matching firmware on this host uses the template '{template}'",
        f"leave the template out, or name the firmware that it is from in loader{there}",
    )


def _flash(context: Context, found: "Descriptor") -> Flash:
    executable, template = found.mapping.executable, found.mapping.nvram_template
    assert executable is not None  # noqa: S101 - the caller has looked
    nvram = nvram_of(context.machine)
    usual = template.filename if template else None
    return Flash(
        code=executable.filename,
        code_format=executable.format,
        read_only=True,
        secure="requires-smm" in found.features,
        template=None if found.mapping.mode == "stateless" else nvram.template or usual,
        template_format=_template_format(context, template.format if template else "raw"),
        needs_smm="requires-smm" in found.features,
    )


def _fits(context: Context, found: "Descriptor", kind: str) -> bool:
    machine, loader = context.machine, loader_of(context.machine)
    wanted = {feature.name: feature.enabled for feature in machine.firmware_features}
    if loader.secure is not None:
        wanted.setdefault("secure-boot", loader.secure)
    return (
        {"efi": "uefi", "bios": "bios"}[kind] in found.interface_types
        and _targets(context, found)
        and all((name in found.features) is enabled for name, enabled in wanted.items())
        and not (machine.features.smm is False and "requires-smm" in found.features)
        and _fits_loader(context, found, loader)
    )


def _targets(context: Context, found: "Descriptor") -> bool:
    name = context.capabilities.machine_name(context.machine_type) or context.machine_type
    return any(
        target.architecture == qemu_name(context.machine.arch or context.capabilities.arch)
        and any(fnmatchcase(name, pattern) for pattern in target.machines)
        for target in found.targets
    )


def _fits_loader(context: Context, found: "Descriptor", loader: "Loader") -> bool:
    mapping, nvram = found.mapping, nvram_of(context.machine)
    file = mapping.executable
    if mapping.device == "memory":
        return loader.type != "pflash" and loader.path in (None, mapping.filename)
    if file is None or loader.type == "rom":
        return False
    stateless = mapping.mode == "stateless"
    template = mapping.nvram_template
    wanted = loader.format or (None if loader.path else nvram.format)
    return (
        mapping.device == "flash"
        and mapping.mode in ("split", "stateless")
        and stateless is bool(loader.stateless)
        and (stateless or template is not None)
        and loader.path in (None, file.filename)
        and nvram.template in (None, template.filename if template else None)
        and file.format == (wanted or "raw")
    )
