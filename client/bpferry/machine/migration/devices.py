# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a QEMU offers its guest, asked from QEMU itself: the one that runs, and the one that waits.

A guest that found a feature when it booted goes on using it. What of it a QEMU offers depends on
its version, on whether there is vhost and eBPF, and on the host's processor; the command line is
the same for all of these.

Not every QEMU can be asked: 11.1.3 ends itself by an assertion when it is asked for the features of
a card (x-query-virtio-status; qapi/qapi-visit-core.c), and the VM with it.
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from bpferry.machine.migration.messages import Devices
from bpferry.qemu.monitor import CommandRefused, Monitor

PATHS: Final = ("/machine/peripheral/{}/virtio-backend", "/machine/peripheral/{}")
"""Where a card is in QEMU: behind its bus, or itself."""

LAST_ASKED: Final = (10, 0)
"""The newest release of QEMU that was seen to tell features and to live on."""

FEATURE_KEYS: Final = ("transports", "dev-features")
"""Names with their descriptions (VirtioDeviceFeatures of qapi/virtio.json)."""

UNKNOWN_KEYS: Final = ("unknown-dev-features", "unknown-dev-features2")
"""Bits without names."""


async def gather(monitor: Monitor, card_ids: Iterable[str]) -> Devices:
    """Return what the QEMU at *monitor* offers.

    Raises:
        QemuError: it has ended.
    """
    tells = await _tells_features(monitor)
    cards = {card_id: await _features(monitor, card_id) for card_id in card_ids if tells}
    return Devices(
        cards={card_id: found for card_id, found in cards.items() if found},
        processor=await _processor(monitor),
        tells_features=tells,
    )


async def _tells_features(monitor: Monitor) -> bool:
    """Say whether this QEMU, which may not be the one on disk any more, can be asked for them."""
    answer = await monitor.execute("query-version")
    version = answer.get("qemu") if isinstance(answer, dict) else None
    if not isinstance(version, dict):
        return False
    return (version.get("major", 0), version.get("minor", 0)) <= LAST_ASKED


async def _features(monitor: Monitor, card_id: str) -> tuple[str, ...]:
    """Return the names of a card's features; none if it is no virtio card or QEMU is too old."""
    for pattern in PATHS:
        path: dict[str, object] = {"path": pattern.format(card_id)}
        with contextlib.suppress(CommandRefused):
            status = await monitor.execute("x-query-virtio-status", path)
            offered = status.get("host-features") if isinstance(status, dict) else None
            return tuple(sorted(_names(offered))) if isinstance(offered, dict) else ()
    return ()


def _names(features: Mapping[str, object]) -> Iterable[str]:
    for key in FEATURE_KEYS:
        listed = features.get(key)
        for text in listed if isinstance(listed, list) else ():
            yield str(text).partition(":")[0]
    for key in UNKNOWN_KEYS:
        if features.get(key):
            yield f"{key} {features[key]}"


async def _processor(monitor: Monitor) -> dict[str, int]:
    """Return the bits of the first processor; only x86 has them in this form."""
    processors = await monitor.execute("query-cpus-fast")
    first = processors[0] if isinstance(processors, list) and processors else {}
    arguments: dict[str, object] = {"path": str(first.get("qom-path")), "property": "feature-words"}
    with contextlib.suppress(CommandRefused):
        words = await monitor.execute("qom-get", arguments)
        if isinstance(words, list):
            return {_leaf(word): int(word["features"]) for word in words if word["features"]}
    return {}


def _leaf(word: Mapping[str, object]) -> str:
    """Return which register of CPUID a word is (X86CPUFeatureWordInfo)."""
    leaf, sub = word.get("cpuid-input-eax"), word.get("cpuid-input-ecx")
    of = f"{leaf:#x}" if isinstance(leaf, int) else str(leaf)
    return f"CPUID {of}{'' if sub is None else f'.{sub}'} {word.get('cpuid-register')}"
