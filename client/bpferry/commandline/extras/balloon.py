# SPDX-License-Identifier: LGPL-2.1-or-later
"""The balloon, by which the guest gives memory back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Command, Device, Found, Part, virtio_slot
from bpferry.domain.names import Named, single

if TYPE_CHECKING:
    from bpferry.domain.model.balloon import Balloon


def parts(context: Context) -> Iterator[Part]:
    """Yield the balloon, and the command by which QEMU asks the guest for its statistics.

    They can be read with ``qom-get`` as the property ``guest-stats`` of the device.
    """
    if context.machine.balloon is not None:
        yield from attempt(_balloon, single(context.machine.balloon, "balloon"), context)


def _balloon(device: "Named[Balloon]", context: Context) -> Iterator[Found]:
    balloon = device.value
    if balloon.model == "none":
        # libvirt ignores an address here, so documents may have one.
        yield from refuse_others(device, ("model", "address", "alias"), "a balloon of model 'none'")
        return
    yield Device(
        context.virtio("virtio-balloon", balloon.model),
        device.id,
        device.key,
        {
            "deflate-on-oom": balloon.auto_deflate,
            "free-page-reporting": balloon.free_page_reporting,
            **virtio_properties(balloon),
        },
        slot=virtio_slot(balloon.model),
        address=balloon.address,
    )
    if balloon.stats_period is not None:
        yield Command(
            "qom-set",
            {
                "path": f"/machine/peripheral/{device.id}",
                "property": "guest-stats-polling-interval",
                "value": balloon.stats_period,
            },
            "balloon.stats-period",
        )
