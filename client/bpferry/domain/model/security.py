# SPDX-License-Identifier: LGPL-2.1-or-later
"""The trusted platform module."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed
from bpferry.domain.model.base import Device

ProfileName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:-]+$", description="the name of a profile")
]


class Tpm(Device, frozen=True, kw_only=True):
    """A TPM, and what is behind it. Which fields count depends on the back end."""

    model: Placed[Literal["tpm-tis", "tpm-crb", None], At("@model")] = None
    backend: Placed[
        Literal["emulator", "external", "passthrough"], At("backend/@type", always=True)
    ] = "emulator"
    version: Placed[Literal["1.2", "2.0", None], At("backend/@version")] = None
    persistent_state: Placed[bool | None, At("backend/@persistent_state", Form.YES_NO)] = None
    debug: Placed[Annotated[int, msgspec.Meta(ge=0, le=255)] | None, At("backend/@debug")] = None
    """The level of the log that swtpm writes into the folder of the VM's state."""
    source_type: Placed[Literal["file", "dir", "unix", None], At("backend/source/@type")] = None
    path: Placed[str | None, At("backend/source/@path", Form.PLACE)] = None
    """For an emulator its state, for an external TPM its socket."""
    mode: Placed[Literal["connect", None], At("backend/source/@mode")] = None
    sha1: Placed[bool, At("backend/active_pcr_banks/sha1", Form.PRESENT)] = False
    """The active PCR banks; by default the emulator chooses."""
    sha256: Placed[bool, At("backend/active_pcr_banks/sha256", Form.PRESENT)] = False
    sha384: Placed[bool, At("backend/active_pcr_banks/sha384", Form.PRESENT)] = False
    sha512: Placed[bool, At("backend/active_pcr_banks/sha512", Form.PRESENT)] = False
    profile: Placed[ProfileName | None, At("backend/profile/@source")] = None
    """What the TPM can do, by the name of a profile of swtpm 0.10 and newer."""
    profile_remove_disabled: Placed[
        Literal["check", "fips-host", None], At("backend/profile/@removeDisabled")
    ] = None
    device: Placed[str | None, At("backend/device/@path", Form.PLACE)] = None
