# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry capabilities: what a QEMU can do."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bpferry.cli import output
from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput, BpferryError, NoProgram
from bpferry.qemu import accelerator, cache, store
from bpferry.qemu.capabilities import Capabilities, MachineType
from bpferry.qemu.defaults import chosen_qemu, machine_type_of
from bpferry.steering.plan import RSS_OBJECT

CARD_PROPERTIES: Final = ("rss", "hash", "ebpf-rss-fds", "mq", "host_mtu")
"""What decides about a card's steering, and what is useful for a launcher."""

TOML: Final = Machine(name="", memory=0)
XML: Final = msgspec.structs.replace(TOML, machine_type="default")
"""VMs that name no machine type."""

LABEL_WIDTH: Final = 29

TEXT_WIDTH: Final = 70
"""The width of a list, in characters; longer ones continue on the next line."""

Row = tuple[str, str]


def show(qemu: str | None, *, as_json: bool, refresh: bool, clear: bool) -> int:
    """Print what *qemu*, or the default one, can do; or empty the cache with *clear*.

    Raises:
        BpferryError: QEMU cannot be asked, or a file of the cache cannot be removed.
    """
    if clear:
        if qemu or refresh:
            raise BadInput("'--clear' takes no path and no '--refresh'")
        return _clear(as_json=as_json)
    path = chosen_qemu(qemu)
    capabilities = _ask(path, refresh=refresh, is_named=bool(qemu))
    accelerators = {
        name: accelerator.describe(name, capabilities, refresh=refresh)
        for name in sorted(capabilities.accelerators)
    }
    if as_json:
        output.print_json(_fields(capabilities, accelerators))
    else:
        rows = _rows(capabilities, accelerators)
        output.print_text("\n".join(f"{name:<{LABEL_WIDTH}}{text}".rstrip() for name, text in rows))
    return 0


def _ask(path: str, *, refresh: bool, is_named: bool) -> Capabilities:
    try:
        return cache.find_or_probe(path, refresh=refresh, note=output.say)
    except NoProgram as error:
        # A wrong path on the command line is one thing, a QEMU that fails is another.
        raise (BadInput(error.message, error.hint) if is_named else error) from error


def _clear(*, as_json: bool) -> int:
    folder = store.folder()
    try:
        removed = cache.clear()
    except OSError as error:
        raise BpferryError(f"cannot clear '{folder}': {error.strerror or error}") from error
    if as_json:
        output.print_json({"removed": removed, "folder": folder})
    else:
        output.print_text(f"removed {removed} {'file' if removed == 1 else 'files'} in '{folder}'")
    return 0


def _fields(capabilities: Capabilities, accelerators: dict[str, str]) -> dict[str, object]:
    """Return all that is known, for programs."""
    fields: dict[str, object] = msgspec.to_builtins(
        msgspec.structs.replace(capabilities, objects={}), order="deterministic"
    )
    del fields["objects"]
    return {
        **fields,
        "version": capabilities.version_text,
        "accelerators": accelerators,
        "ebpf": {
            name: {
                "bytes": len(found.data),
                "sha256": found.digest.hex(),
                "known": name == RSS_OBJECT,
            }
            for name, found in capabilities.objects.items()
        },
        "virtio_net": {name: name in capabilities.card_properties for name in CARD_PROPERTIES},
        "sandbox": capabilities.sandbox,
        "exit_with_parent": capabilities.exit_with_parent,
    }


def _rows(capabilities: Capabilities, accelerators: dict[str, str]) -> Iterator[Row]:
    """Yield what people are told."""
    build = f" ({capabilities.package})" if capabilities.package else ""
    yield "QEMU", capabilities.qemu
    yield "version", f"{capabilities.version_text}{build}"
    yield "architecture of the guests", capabilities.arch
    for name, state in accelerators.items():
        yield f"accelerator '{name}'", state
    yield "machine types", _machines(capabilities)
    yield "default machine type", _default_machine(capabilities)
    yield "processor models", str(len(capabilities.cpu_models))
    yield from _objects(capabilities)
    for name in CARD_PROPERTIES:
        yield f"virtio-net '{name}'", _yes(name in capabilities.card_properties)
    yield "devices", str(len(capabilities.devices))
    yield from _list("netdevs", capabilities.netdevs)
    yield from _list("chardevs", capabilities.chardevs)
    yield from _list("displays", capabilities.displays)
    yield from _list("sound", capabilities.audiodevs)
    yield from _list("TPM", capabilities.tpm_types)
    yield "sandbox", _yes(capabilities.sandbox)
    yield "ends with its parent", _yes(capabilities.exit_with_parent)


def _machines(capabilities: Capabilities) -> str:
    newest = _aliased(capabilities.machines.values())
    parts = [str(len(capabilities.machines))]
    parts += [f"{alias} is {name}" for alias, name in sorted(newest.items())]
    return ", ".join(parts)


def _default_machine(capabilities: Capabilities) -> str:
    """Return what a VM without a machine type gets, which QEMU itself decides otherwise."""
    toml, xml = (machine_type_of(form, capabilities.arch) for form in (TOML, XML))
    ours = f"{toml} in TOML, {xml} in XML" if toml != xml else toml
    return f"{ours}; QEMU's own: {capabilities.default_machine or 'none'}"


def _aliased(machines: Iterable[MachineType]) -> dict[str, str]:
    return {machine.alias: machine.name for machine in machines if machine.alias}


def _objects(capabilities: Capabilities) -> Iterator[Row]:
    for name, found in capabilities.objects.items():
        known = "used by bpferry" if name == RSS_OBJECT else "not used by bpferry"
        yield f"eBPF object '{name}'", f"{len(found.data)} bytes, {known}"
        yield "", f"SHA-256 {found.digest.hex()}"
    if not capabilities.objects:
        yield "eBPF objects", "none"


def _list(label: str, names: Iterable[str]) -> Iterator[Row]:
    """Yield *names* in as many lines as they need."""
    line = ""
    for name in sorted(names):
        if line and len(line) + len(name) > TEXT_WIDTH:
            yield label, f"{line},"
            label, line = "", ""
        line = f"{line}, {name}" if line else name
    yield label, line or "none reported"


def _yes(value: bool) -> str:  # noqa: FBT001 - a word for a value
    return "yes" if value else "no"
