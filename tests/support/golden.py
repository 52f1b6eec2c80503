# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the QEMUs of Debian 12 and 13 can do, as they said it themselves, kept in the repository.

    tests/golden/capabilities/NAME.json       where it comes from, and a summary to be read
    tests/golden/capabilities/NAME.json.xz    the whole, for tests that start no QEMU

``python -m tests.matrix.renew`` asks the QEMUs again and writes both files again.
"""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from bpferry.qemu.capabilities import Capabilities

FOLDER: Final = Path(__file__).parent.parent / "golden" / "capabilities"

QEMU: Final = "/usr/bin/qemu-system-x86_64"
"""Where the QEMU of a record would be if it were installed."""


@cache
def capabilities_of(name: str) -> Capabilities:
    """Return what the QEMU *name*, such as "7.2", can do."""
    data = lzma.decompress((FOLDER / f"{name}.json.xz").read_bytes())
    return msgspec.json.decode(data, type=Capabilities)


def summary_of(name: str) -> dict[str, object]:
    """Return the summary of the QEMU *name* that is kept."""
    record: dict[str, dict[str, object]] = json.loads(
        (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    )
    return record["summary"]


def write(name: str, found: Capabilities, date: str) -> None:
    """Keep *found* as what the QEMU *name* can do, asked on *date*."""
    whole = msgspec.json.encode(as_installed(found), order="deterministic")
    (FOLDER / f"{name}.json.xz").write_bytes(lzma.compress(whole, preset=9))
    record: dict[str, dict[str, object]] = {
        "provenance": {
            "package": f"qemu-system-x86, {found.package}",
            "date": date,
            "command": "python -m tests.matrix.renew",
        },
        "summary": summarize(found),
    }
    (FOLDER / f"{name}.json").write_text(_lines(record), encoding="utf-8")


def as_installed(found: Capabilities) -> Capabilities:
    """Return *found* as if its QEMU were in its usual place."""
    return msgspec.structs.replace(found, qemu=QEMU)


def summarize(found: Capabilities) -> dict[str, object]:
    """Return what a reader wants to compare between QEMUs."""
    return {
        "version": ".".join(str(number) for number in found.version[:2]),
        "arch": found.arch,
        "ebpf": {
            name: {"bytes": len(entry.data), "sha256": entry.digest.hex()}
            for name, entry in found.objects.items()
        },
        "rss": found.has_rss,
        "ebpf-rss-fds": found.takes_ebpf_fds,
        "virtio-net-pci": sorted(found.card_properties),
        "machines": {
            "number": len(found.machines),
            "default": found.default_machine,
            "pc": found.machine_name("pc"),
            "q35": found.machine_name("q35"),
        },
        "processors": len(found.cpu_models),
        "devices": len(found.devices),
        "accelerators": sorted(found.accelerators),
        "netdevs": sorted(found.netdevs),
        "stream": sorted(found.netdevs.get("stream", ())),
        "blockdevs": sorted(found.blockdevs),
        "chardevs": sorted(found.chardevs),
        "displays": sorted(found.displays),
        "audiodevs": sorted(found.audiodevs),
        "tpm": sorted(found.tpm_types),
        "objects": sorted(found.object_types),
        "options": sorted(found.options),
        "run-with": sorted(found.options.get("run-with", ())),
        "json": {"device": found.device_json, "netdev": found.netdev_json},
        "sandbox": found.sandbox,
        "exit-with-parent": found.exit_with_parent,
    }


def _lines(record: dict[str, dict[str, object]]) -> str:
    """Return *record* as JSON with one line for each thing, so that a difference reads well."""
    parts = []
    for part, entries in record.items():
        lines = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
        parts.append(f"  {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"
