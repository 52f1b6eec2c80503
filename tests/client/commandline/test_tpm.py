# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TPM and the process that plays it."""

import pytest

from bpferry.commandline.context import Folders
from bpferry.commandline.parts import Companion, Link
from tests.client.commandline.character_parts import (
    FOLDERS,
    devices_in,
    parts_of,
    values,
)
from tests.client.refusals import refusal_of

STATE = FOLDERS.state


def tpm(backend: str, model: str = "model='tpm-crb'") -> str:
    """Return a TPM with a back end of these attributes and elements."""
    return f"<tpm {model}>{backend}</tpm>"


def emulator(devices: str) -> Companion:
    """Return the process that *devices* need."""
    (found,) = (part for part in parts_of(devices) if isinstance(part, Companion))
    return found


def test_emulator() -> None:
    """The TPM is swtpm's, at a socket that it inherits, with its state kept."""
    found = emulator(tpm("<backend type='emulator' version='2.0'/>"))

    assert (
        "swtpm", "socket", "--ctrl", "type=unixio,clientfd=tpm0.qemu",
        "--tpmstate", f"dir={STATE}/tpm2,mode=0600", "--tpm2", "--terminate",
    ) == found.argv  # fmt: skip
    assert ("", ("tpm0.qemu",)) == (found.socket, found.inherits)
    assert (STATE, f"{STATE}/tpm2") == found.folders


def test_qemu_finds_the_emulator() -> None:
    """QEMU inherits the other end of the emulator's socket."""
    parts = parts_of(tpm("<backend type='emulator'/>"))

    assert Link("tpm0.swtpm", "tpm0.qemu") in parts
    assert ["socket,id=chrtpm,fd=tpm0.swtpm"] == values(parts, "-chardev")
    assert ["emulator,id=tpm-tpm0,chardev=chrtpm"] == values(parts, "-tpmdev")
    assert [("tpm-crb", "tpm0", {"tpmdev": "tpm-tpm0"})] == devices_in(parts)


@pytest.mark.parametrize(
    ("model", "version", "new"),
    [
        ("", "", False),
        ("model='tpm-tis'", "", False),
        ("model='tpm-tis'", "version='2.0'", True),
        ("model='tpm-crb'", "", True),
    ],
)
def test_version(model: str, version: str, new: bool) -> None:  # noqa: FBT001 - a table's column
    """Without a version it is that which libvirt takes for the model."""
    argv = emulator(tpm(f"<backend type='emulator' {version}/>", model)).argv

    assert new == ("--tpm2" in argv)


def test_versions_do_not_share_a_state() -> None:
    """A document that changes its version does not spoil the state of the other."""
    old = emulator(tpm("<backend type='emulator' version='1.2'/>", "model='tpm-tis'"))

    assert f"dir={STATE}/tpm1.2,mode=0600" in old.argv


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<source type='dir' path='/t/dir'/>", "dir=/t/dir,mode=0600"),
        ("<source type='file' path='/t/file'/>", "backend-uri=file:///t/file"),
    ],
)
def test_state_of_the_document(source: str, expected: str) -> None:
    """A place that the document names is where the state is."""
    assert expected in emulator(tpm(f"<backend type='emulator'>{source}</backend>")).argv


def test_first_start_makes_certificates() -> None:
    """A new TPM gets what libvirt gives it, if the tool is there; else the user is told."""
    _, certificates = emulator(tpm("<backend type='emulator'/>")).steps

    assert (
        "swtpm_setup", "--tpm2", "--tpm-state", f"{STATE}/tpm2", "--vmid", "vm", "--createek",
        "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite",
    ) == certificates.argv  # fmt: skip
    assert f"{STATE}/tpm2" == certificates.empty
    assert "no certificates" in certificates.without


def test_banks_are_set_at_each_start() -> None:
    """Banks that the document names are those that are active."""
    inner = "<active_pcr_banks><sha256/><sha512/></active_pcr_banks>"
    *_, banks = emulator(tpm(f"<backend type='emulator'>{inner}</backend>")).steps

    assert (
        "swtpm_setup", "--tpm2", "--tpm-state", f"{STATE}/tpm2", "--pcr-banks", "sha256,sha512",
        "--reconfigure",
    ) == banks.argv  # fmt: skip
    assert (None, "") == (banks.empty, banks.without)


def test_profile_needs_its_tool() -> None:
    """A profile cannot be had without the tool that sets it."""
    inner = "<profile source='local:x' removeDisabled='check' name='noted'/>"
    _, certificates = emulator(tpm(f"<backend type='emulator'>{inner}</backend>")).steps

    assert ("--profile-name", "local:x", "--profile-remove-disable", "check") == tuple(
        certificates.argv[-5:-1]
    )
    assert "" == certificates.without


def test_debug_writes_a_log() -> None:
    """A level of debugging is a log in the VM's folder."""
    argv = emulator(tpm("<backend type='emulator' debug='5'/>")).argv

    assert f"file={STATE}/swtpm.log,level=5" in argv


def test_external_tpm() -> None:
    """A TPM that somebody else runs is connected to, and nothing is started."""
    source = "<source type='unix' mode='connect' path='/t/sock'/>"
    parts = parts_of(tpm(f"<backend type='external'>{source}</backend>"))

    assert ["socket,id=chrtpm,path=/t/sock"] == values(parts, "-chardev")
    assert not any(isinstance(part, Companion) for part in parts)


REFUSED = [
    (tpm("<backend type='passthrough'/>"), "tpms[0].backend"),
    (tpm("<backend type='emulator'/>") * 2, "tpms[1]"),
    (tpm("<backend type='emulator' version='1.2'/>"), "tpms[0].version"),
    (tpm("<backend type='external'/>"), "tpms[0]"),
    (tpm("<backend type='emulator'><source type='dir' path='/a,b'/></backend>"), "tpms[0]"),
    (
        tpm("<backend type='emulator' version='1.2'><active_pcr_banks><sha1/></active_pcr_banks>"
            "</backend>", "model='tpm-tis'"),
        "tpms[0]",
    ),
    (
        tpm("<backend type='emulator'><profile removeDisabled='check'/></backend>"),
        "tpms[0].profile-remove-disabled",
    ),
    (
        tpm("<backend type='emulator'><device path='/dev/tpm0'/></backend>"),
        "tpms[0].device",
    ),
    (
        tpm("<backend type='external' version='2.0'>"
            "<source type='unix' mode='connect' path='/s'/></backend>"),
        "tpms[0].version",
    ),
    (
        tpm("<backend type='emulator'/><address type='isa' iobase='1'/>"),
        "tpms[0].address",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("devices", "element"), REFUSED)
def test_refused(devices: str, element: str) -> None:
    """What cannot be done is refused, with the key of what asks for it."""
    assert element == refusal_of(parts_of, devices).element


def test_folder_with_a_comma_is_refused() -> None:
    """What follows a comma would be another option of swtpm."""
    with pytest.raises(Exception, match="swtpm cannot handle a comma"):
        parts_of(tpm("<backend type='emulator'/>"), folders=Folders("/run", "/state/a,mode=0777"))
