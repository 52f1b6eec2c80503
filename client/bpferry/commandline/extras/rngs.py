# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random numbers for the guest."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context, virtio_properties
from bpferry.commandline.parts import Device, Found, Option, Part, json_of, virtio_slot
from bpferry.domain.forms import called
from bpferry.domain.model.characters import Character
from bpferry.domain.model.rngs import Rng
from bpferry.domain.names import Named, named
from bpferry.errors import Unsupported

USUAL_FILE: Final = "/dev/random"
"""As in libvirt."""

PERIOD_MS: Final = 1000
"""As in libvirt."""

DAEMON_TYPES: Final = ("tcp", "udp", "unix", "pty", "dev", "pipe")
"""The types of character devices that can have a daemon at the other end."""

EGD_ONLY: Final = ("type", "sources", "protocol")


def parts(context: Context) -> Iterator[Part]:
    """Yield each source of random numbers with what is behind it."""
    for device in named(context.machine.rngs, "rngs", "rng"):
        yield from attempt(_rng, device, context)


def _rng(device: Named[Rng], context: Context) -> Iterator[Found]:
    rng = device.value
    yield from _check(device)
    behind: dict[str, object] = {"qom-type": f"rng-{rng.backend}", "id": f"obj{device.id}"}
    if rng.backend == "random":
        behind["filename"] = rng.file or USUAL_FILE
    if rng.backend == "egd":
        user = _daemon(device)
        yield from BackEnds(context).parts(user)
        behind["chardev"] = user.chardev
    yield Option("-object", json_of(behind))
    yield Device(
        context.virtio("virtio-rng", rng.model),
        device.id,
        device.key,
        {
            "rng": f"obj{device.id}",
            "max-bytes": rng.max_bytes,
            "period": None if rng.max_bytes is None else rng.period or PERIOD_MS,
            **virtio_properties(rng),
        },
        slot=virtio_slot(rng.model),
        address=rng.address,
    )


def _check(device: Named[Rng]) -> Iterator[Unsupported]:
    rng = device.value
    if rng.file is not None and rng.backend != "random":
        yield device.mistake(
            "file",
            f"the back end '{rng.backend}' has no file",
            "leave the file out, or choose the back end 'random'",
        )
    for name in EGD_ONLY:
        if getattr(rng, name) and rng.backend != "egd":
            yield device.mistake(
                name,
                f"the back end '{rng.backend}' is not a daemon",
                f"leave out {name}, or choose the back end 'egd'",
            )
    if rng.period is not None and rng.max_bytes is None:
        rate, most = called(Rng, "period"), called(Rng, "max_bytes")
        yield device.mistake(
            "period", f"{rate} has no meaning without {most}", f"add {most}, or leave out {rate}"
        )


def _daemon(device: Named[Rng]) -> User:
    rng = device.value
    if rng.type not in DAEMON_TYPES:
        raise device.refusal(
            "type" if rng.type else "",
            f"a daemon can be reached by {', '.join(DAEMON_TYPES)}, and the type is "
            f"'{rng.type or 'missing'}'",
            "choose one of these",
        )
    character = Character(sources=rng.sources, protocol=rng.protocol)
    return User(Named(device.key, device.id, character), rng.type)
