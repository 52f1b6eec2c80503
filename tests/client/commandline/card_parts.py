# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a command line that the cards of a small document give."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpferry.commandline.context import Context, Folders
from bpferry.commandline.network import build as cards
from bpferry.commandline.parts import Device, Option, Part
from bpferry.domain.document import read_bytes
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.names import cards_of
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import HostFacts, plan_card
from tests.client.commandline.sound import sound
from tests.client.support import OWNER
from tests.support.golden import capabilities_of

NEW = capabilities_of("10.0.2")
NEWEST = capabilities_of("11.1.3")
OLD = capabilities_of("7.2")
VHOST = HostFacts(kvm=True, vhost={"/dev/vhost-net": ""})
MAC = "52:54:00:00:00:01"
SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"
VIRTIO = "<model type='virtio'/>"
TAP = "<target dev='tap0' managed='no'/>"
DOMAIN = """\
<domain type='kvm'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  {top}
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>{devices}</devices>
</domain>
"""


def card(kind: str, inner: str = "", *, mac: str = MAC) -> str:
    """Return the XML of a card."""
    return f"<interface type='{kind}'><mac address='{mac}'/>{inner}</interface>"


def context_of(
    devices: str,
    *,
    top: str = "",
    capabilities: Capabilities = NEW,
    host: HostFacts = VHOST,
    machine_type: str = "q35",
) -> Context:
    """Return the context of a VM with *devices*, its cards planned."""
    text = DOMAIN.format(top=top, devices=devices)
    machine = read_bytes(text.encode(), Path("/vm.xml")).machine
    plans = {
        device.id: plan_card(device, capabilities, host, default_rss=machine.default_rss)
        for device in cards_of(machine)
    }
    return Context(
        machine=machine,
        capabilities=capabilities,
        accelerator=Accelerator.KVM,
        plans=plans,
        owner=OWNER,
        folders=Folders("/run/vm", "/state/vm"),
        fd=str,
        machine_type=machine_type,
    )


def parts_of(devices: str, **options: Any) -> list[Part]:  # noqa: ANN401 - those of context_of
    """Return the parts of the cards of a VM with *devices*."""
    return sound(cards.parts(context_of(devices, **options)))


def netdev_of(parts: list[Part]) -> dict[str, object]:
    """Return the one netdev among *parts*."""
    (found,) = [part for part in parts if isinstance(part, Option) and part.name == "-netdev"]
    return dict(json.loads(found.value or ""))


def device_of(parts: list[Part]) -> Device:
    """Return the one device among *parts*."""
    (found,) = [part for part in parts if isinstance(part, Device)]
    return found


def properties_of(parts: list[Part]) -> Mapping[str, object]:
    """Return the properties of the one device, without those that are not set."""
    found = device_of(parts).properties
    return {name: value for name, value in found.items() if value is not None}
