# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where sound goes to and comes from (-audiodev; qapi/audio.json of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Environment, Found, Option, Part, json_of
from bpferry.domain.forms import called
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.sounds import Audio, AudioStream, Sound
from bpferry.domain.names import Named, before, listed
from bpferry.domain.shape import fields_of
from bpferry.errors import Unsupported

DRIVERS: Final = {"file": "wav", "pulseaudio": "pa"}
"""QEMU's name of a back end, if it differs."""

COMMON: Final = frozenset(
    {
        "mixing_engine",
        "fixed_settings",
        "frequency",
        "channels",
        "format",
        "voices",
        "buffer_length",
    }
)

OF_STREAM: Final[dict[str, frozenset[str]]] = {
    "alsa": frozenset({"dev"}),
    "coreaudio": frozenset({"buffer_count"}),
    "jack": frozenset({"server_name", "client_name", "connect_ports", "exact_name"}),
    "oss": frozenset({"dev", "buffer_count", "try_poll"}),
    "pipewire": frozenset({"name", "stream_name", "latency"}),
    "pulseaudio": frozenset({"name", "stream_name", "latency"}),
    "sdl": frozenset({"buffer_count"}),
}
"""The settings of a direction in addition to the common ones, by type."""

OF_AUDIO: Final[dict[str, frozenset[str]]] = {
    "file": frozenset({"path"}),
    "oss": frozenset({"try_mmap", "exclusive", "dsp_policy"}),
    "pipewire": frozenset({"runtime_dir"}),
    "pulseaudio": frozenset({"server"}),
    "sdl": frozenset({"sdl_driver"}),
}
"""The settings of a back end in addition to the common ones, by type."""

OF_ALL: Final = frozenset({"id", "type", "timer_period", "input", "output"})

SETTINGS: Final = ("frequency", "channels", "format")
"""What counts only if the host's side has fixed settings."""


def parts(context: Context) -> Iterator[Part]:
    """Yield the back ends of sound."""
    for device in listed(context.machine.audios, "audios"):
        yield from attempt(_audio, device, context)
    if not context.machine.audios:
        for audio in _audios_of(context.machine):
            yield Option("-audiodev", json_of(_audiodev(audio)))


def _audio(device: Named[Audio], context: Context) -> Iterator[Found]:
    audio = device.value
    if any(one.id == audio.id for one in before(device, context.machine.audios)):
        yield device.mistake(
            "id", f"another audio has the id {audio.id}", "give each audio an id of its own"
        )
    yield from _check(device, context)
    yield from _environment(audio)
    yield Option("-audiodev", json_of(_audiodev(audio)))


def audio_id(device: Named[Graphics | Sound], context: Context) -> str | None:
    """Return QEMU's id of the back end of *device*, or of the first; None if there are none.

    Raises:
        Unsupported: it names a number that no back end has.
    """
    wanted = device.value.audio
    ids = [audio.id for audio in _audios_of(context.machine)]
    if wanted is not None and wanted not in ids:
        raise device.mistake(
            "audio",
            f"there is no audio of id {wanted}",
            "add an audio with this id, or name another one",
        )
    if wanted is None and not ids:
        return None
    return f"audio{wanted or ids[0]}"


def _audios_of(machine: Machine) -> tuple[Audio, ...]:
    """Return the back ends of *machine*: as in libvirt, at least one that fits the displays."""
    if machine.audios:
        return machine.audios
    remote = [single.type for single in machine.graphics if single.type in ("vnc", "spice")]
    if machine.graphics and not remote:
        return ()
    if not machine.graphics and not machine.sounds:
        return ()
    return (Audio(id=1, type="spice" if remote and remote[-1] == "spice" else "none"),)


def _check(device: Named[Audio], context: Context) -> Iterator[Unsupported]:
    """Refuse a back end that this QEMU does not have, and settings without a meaning for it."""
    audio = device.value
    known = context.capabilities
    driver = DRIVERS.get(audio.type, audio.type)
    if known.audiodevs and driver not in known.audiodevs:
        yield device.refusal(
            "type",
            f"'{known.qemu}' was built without the audio driver '{driver}'",
            f"it has {', '.join(sorted(known.audiodevs))}",
        )
    types = [single.type for single in context.machine.graphics]
    if audio.type == "spice" and "spice" not in types:
        yield device.mistake(
            "type",
            "there are no graphics of type spice to go with it",
            "add graphics of type spice, or choose another type",
        )
    of_type = OF_AUDIO.get(audio.type, frozenset())
    yield from refuse_others(device, OF_ALL | of_type, f"an audio of type '{audio.type}'")
    for name, stream in (("input", audio.input), ("output", audio.output)):
        if stream is not None:
            yield from _check_stream(device.part(name, stream), audio.type)


def _check_stream(direction: Named[AudioStream], audio_type: str) -> Iterator[Unsupported]:
    stream = direction.value
    meaningful = COMMON | OF_STREAM.get(audio_type, frozenset())
    yield from refuse_others(direction, meaningful, f"an audio of type '{audio_type}'")
    if stream.fixed_settings and not stream.mixing_engine:
        yield direction.mistake(
            "fixed-settings", f"it needs {called(AudioStream, 'mixing_engine')}", "switch that on"
        )
    for name in SETTINGS:
        if getattr(stream, name) is not None and not stream.fixed_settings:
            yield direction.mistake(
                name, f"it needs {called(AudioStream, 'fixed_settings')}", "switch that on"
            )


def _environment(audio: Audio) -> Iterator[Part]:
    """Yield what the libraries behind a back end read from the environment."""
    if audio.sdl_driver is not None:
        yield Environment("SDL_AUDIODRIVER", audio.sdl_driver)
    if audio.runtime_dir is not None:
        yield Environment("PIPEWIRE_RUNTIME_DIR", audio.runtime_dir)


def _audiodev(audio: Audio) -> dict[str, object]:
    return {
        "id": f"audio{audio.id}",
        "driver": DRIVERS.get(audio.type, audio.type),
        "timer-period": audio.timer_period,
        "server": audio.server,
        "path": audio.path,
        "try-mmap": audio.try_mmap,
        "exclusive": audio.exclusive,
        "dsp-policy": audio.dsp_policy,
        "in": _stream(audio.input),
        "out": _stream(audio.output),
    }


def _stream(stream: AudioStream | None) -> dict[str, object] | None:
    """Return the settings of one direction. The model's keys are QEMU's."""
    if stream is None:
        return None
    values = {field.key: getattr(stream, field.name) for field in fields_of(type(stream))}
    return {key: value for key, value in values.items() if value is not None} or None
