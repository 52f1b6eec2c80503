# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sound cards of the guest, and where their sound goes to and comes from."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.graphics import AudioId

Count = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class Codec(Table, frozen=True, kw_only=True):
    """One codec of an HD Audio controller."""

    type: Placed[Literal["duplex", "micro", "output"], At("@type")]


class Sound(VirtioDevice, frozen=True, kw_only=True):
    """One sound card."""

    model: Placed[
        Literal["sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"], At("@model")
    ]
    audio: Placed[AudioId | None, At("audio/@id")] = None
    """The id of its back end; by default the first one."""
    codecs: Placed[tuple[Codec, ...], At("codec")] = ()
    multichannel: Placed[bool | None, At("@multichannel", Form.YES_NO)] = None
    """For usb: more than stereo."""
    streams: Placed[Count | None, At("@streams")] = None
    """For virtio."""


class AudioStream(Table, frozen=True, kw_only=True):
    """One direction of a back end. Its keys in the native form are QEMU's own (qapi/audio.json)."""

    mixing_engine: Placed[bool | None, At("@mixingEngine", Form.YES_NO)] = None
    fixed_settings: Placed[bool | None, At("@fixedSettings", Form.YES_NO)] = None
    """Whether the host's side has the next three settings, whatever the guest plays."""
    frequency: Placed[Count | None, At("settings/@frequency")] = None
    """Hertz."""
    channels: Placed[Count | None, At("settings/@channels")] = None
    format: Placed[
        Literal["s8", "u8", "s16", "u16", "s32", "u32", "f32", None], At("settings/@format")
    ] = None
    voices: Placed[Count | None, At("@voices")] = None
    buffer_length: Placed[Count | None, At("@bufferLength")] = None
    """Microseconds."""
    buffer_count: Placed[Count | None, At("@bufferCount")] = None
    dev: Placed[str | None, At("@dev")] = None
    """For ALSA its name for a device, for OSS a path."""
    try_poll: Placed[bool | None, At("@tryPoll", Form.YES_NO)] = None
    server_name: Placed[str | None, At("@serverName")] = None
    client_name: Placed[str | None, At("@clientName")] = None
    connect_ports: Placed[str | None, At("@connectPorts")] = None
    """A regular expression for the names of JACK's ports."""
    exact_name: Placed[bool | None, At("@exactName", Form.YES_NO)] = None
    name: Placed[str | None, At("@name")] = None
    """The name of PulseAudio's or PipeWire's sink or source."""
    stream_name: Placed[str | None, At("@streamName")] = None
    latency: Placed[Count | None, At("@latency")] = None
    """Microseconds."""


class Audio(Table, frozen=True, kw_only=True):
    """One audio back end, found by sound cards and displays through its id."""

    id: Placed[AudioId, At("@id")]
    type: Placed[
        Literal[
            "none",
            "alsa",
            "coreaudio",
            "dbus",
            "file",
            "jack",
            "oss",
            "pipewire",
            "pulseaudio",
            "sdl",
            "spice",
        ],
        At("@type"),
    ]
    timer_period: Placed[Count | None, At("@timerPeriod")] = None
    """Microseconds."""
    input: Placed[AudioStream | None, At("input")] = None
    output: Placed[AudioStream | None, At("output")] = None
    server: Placed[str | None, At("@serverName")] = None
    """For PulseAudio."""
    runtime_dir: Placed[str | None, At("@runtimeDir", Form.PLACE)] = None
    """For PipeWire: the folder of its socket."""
    sdl_driver: Placed[Literal["esd", "alsa", "arts", "pulseaudio", None], At("@driver")] = None
    path: Placed[str | None, At("@path", Form.PLACE)] = None
    """For file: the WAV file that is written."""
    try_mmap: Placed[bool | None, At("@tryMMap", Form.YES_NO)] = None
    exclusive: Placed[bool | None, At("@exclusive", Form.YES_NO)] = None
    dsp_policy: Placed[Annotated[int, msgspec.Meta(ge=0, le=10)] | None, At("@dspPolicy")] = None
    """For OSS: timing, from 0 to 10; QEMU's default is 5."""
