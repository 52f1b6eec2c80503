# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cloud-init reads at the guest's first boot: its source of data "NoCloud".

A file system with the label "cidata" has three files. They are JSON, which is YAML too. A disk with
an ISO 9660 file system serves all guests: the kernels of clouds have no driver for CD drives.
"""

import json
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Final

from bpferry.errors import BpferryError
from bpferry.machine.creation.wish import NewVm

LABEL: Final = "cidata"

SHORT_NAMES: Final = {
    "meta-data": "/METADATA.;1",
    "user-data": "/USERDATA.;1",
    "network-config": "/NETCONF.;1",
}
"""Names for systems that know neither Rock Ridge nor Joliet; the true ones are in both."""

FILE_MODE: Final = 0o100600


def seed_files(vm: NewVm) -> Mapping[str, str]:
    """Return the files of the seed of *vm*, by name."""
    return {
        "meta-data": _written({"instance-id": vm.instance, "local-hostname": host_name(vm.name)}),
        "user-data": "#cloud-config\n" + _written(_user_data(vm)),
        "network-config": _written(_network_config(vm)),
    }


def host_name(vm_name: str) -> str:
    """Return the guest's name for itself: labels of letters, digits and hyphens (RFC 1123)."""
    labels = re.sub(r"[^a-z0-9.-]", "-", vm_name.lower()).split(".")
    return ".".join(filter(None, (label.strip("-") for label in labels)))


def _user_data(vm: NewVm) -> dict[str, object]:
    login = vm.login
    user: dict[str, object] = {
        "name": login.user,
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": False,
        "plain_text_passwd": login.password,
    }
    if login.keys:
        user["ssh_authorized_keys"] = list(login.keys)
    # Nobody can guess the password over the network.
    return {"users": [user], "ssh_pwauth": False}


def _network_config(vm: NewVm) -> dict[str, object]:
    # By its address: the name of an interface depends on the guest.
    card = {"match": {"macaddress": vm.card.mac}, "dhcp4": True}
    return {"version": 2, "ethernets": {"net0": card}}


def _written(value: Mapping[str, object]) -> str:
    return json.dumps(value, indent=2) + "\n"


def build_image(files: Mapping[str, str]) -> bytes:
    """Return an ISO 9660 file system with *files*.

    Raises:
        BpferryError: the library that writes it is missing, or failed.
    """
    try:
        import pycdlib  # noqa: PLC0415 - only a new VM needs it
    except ImportError as error:
        raise BpferryError(
            "cannot make the seed: Python's package 'pycdlib' is not installed",
            "install it; Debian's package is 'python3-pycdlib'",
        ) from error
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    try:
        for name, text in files.items():
            raw = text.encode()
            image.add_fp(
                BytesIO(raw), len(raw), SHORT_NAMES[name],
                rr_name=name, joliet_path=f"/{name}", file_mode=FILE_MODE,
            )  # fmt: skip
        out = BytesIO()
        image.write_fp(out)
    finally:
        image.close()
    return out.getvalue()
