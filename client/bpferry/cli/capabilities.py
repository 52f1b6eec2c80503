# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry capabilities: what a QEMU can do."""

import os

from bpferry.cli import output
from bpferry.domain.model import default_qemu
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.probe import probe


def show(qemu: str | None, *, as_json: bool) -> int:
    """Probe *qemu*, or the usual one, and print what it can do."""
    capabilities = probe(os.path.abspath(qemu) if qemu else default_qemu())  # noqa: PTH100
    if as_json:
        output.print_json(_fields(capabilities))
    else:
        output.print_text(_table(capabilities))
    return 0


def _fields(capabilities: Capabilities) -> dict[str, object]:
    return {
        "qemu": capabilities.qemu,
        "version": capabilities.version_text,
        "ebpf": {
            name: {"bytes": len(found.data), "sha256": found.digest.hex()}
            for name, found in capabilities.objects.items()
        },
        "virtio_net": {
            name: name in capabilities.card_properties for name in ("rss", "hash", "ebpf-rss-fds")
        },
        "sandbox": capabilities.sandbox,
        "exit_with_parent": capabilities.exit_with_parent,
    }


def _table(capabilities: Capabilities) -> str:
    rows = [("QEMU", f"{capabilities.version_text}, {capabilities.qemu}")]
    for name, found in capabilities.objects.items():
        rows.append((f"eBPF object '{name}'", f"{len(found.data)} bytes"))
        rows.append(("", f"SHA-256 {found.digest.hex()}"))
    if not capabilities.objects:
        rows.append(("eBPF objects", "none"))
    rows += [
        (f"virtio-net '{name}'", _yes(name in capabilities.card_properties))
        for name in ("rss", "hash", "ebpf-rss-fds")
    ]
    rows.append(("sandbox", _yes(capabilities.sandbox)))
    rows.append(("ends with its parent", _yes(capabilities.exit_with_parent)))
    return "\n".join(f"{label:<26}{value}".rstrip() for label, value in rows)


def _yes(value: bool) -> str:  # noqa: FBT001 - a word for a value
    return "yes" if value else "no"
