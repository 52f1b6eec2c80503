# SPDX-License-Identifier: LGPL-2.1-or-later
"""The domain documents of the host's users: the small guest, one card, four queues with RSS."""

from typing import Final

from guest.build import KERNEL_ARGUMENTS
from tests.vm.freight import GUEST
from tests.vm.image import NEWER_QEMU, OWN_QEMU

QUEUES: Final = 4

OWN: Final = "10.0.13"
NEWER: Final = "11.1.3"
BINARIES: Final = {OWN: OWN_QEMU, NEWER: NEWER_QEMU}

DOMAIN: Final = f"""\
<domain type='kvm'>
  <name>{{name}}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>{{vcpus}}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{{guest.kernel}}</kernel>
    <initrd>{{guest.initrd}}</initrd>
    <cmdline>{KERNEL_ARGUMENTS} panic=-1</cmdline>
  </os>
{{features}}  <cpu mode='host-passthrough'/>
  <devices>
    <emulator>{{qemu}}</emulator>
    <serial type='stdio'/>
    {{card}}
    <memballoon model='none'/>
  </devices>
</domain>
"""

ACPI: Final = "  <features><acpi/></features>\n"

CARD: Final = """\
<interface type='bridge'>
      <source bridge='{bridge}'/>
      <model type='virtio'/>
      <driver {driver} queues='{queues}' rss='on'/>
    </interface>"""


def on_bridge(bridge: str, driver: str = "", queues: int = QUEUES) -> str:
    """Return a card on a *bridge*; *driver* may be more attributes of its driver."""
    return CARD.format(bridge=bridge, driver=driver, queues=queues)


def domain(
    name: str, version: str, card: str, vcpus: int = QUEUES, *, has_acpi: bool = False
) -> str:
    """Return the document of a VM on the QEMU of this *version* with one *card*.

    A card can only be plugged in with ACPI.
    """
    qemu, features = BINARIES[version], ACPI if has_acpi else ""
    return DOMAIN.format(
        name=name, qemu=qemu, card=card, guest=GUEST, vcpus=vcpus, features=features
    )
