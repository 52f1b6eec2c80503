# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TPM: an emulator, swtpm, in a process of its own, or one that is already there.

The emulator's state is kept in the VM's folder from run to run. Its first start makes a TPM that
guests can use. Before that, swtpm_setup gives it an endorsement key with certificates if it is
installed, as in libvirt; a guest needs them only to prove to others what kind of TPM it has.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Companion, Device, Found, Link, Option, Part, Step, join
from bpferry.domain.identity import named_uuid
from bpferry.domain.model.security import Tpm
from bpferry.domain.names import Named, before, named

CHARDEV: Final = "chrtpm"
TOOLS: Final = "swtpm-tools"

NO_CERTIFICATES: Final = (
    "the new TPM has no certificates: the guest can use it, but cannot attest with it"
)

FOR_EMULATOR: Final = (
    "version", "persistent_state", "debug", "sha1", "sha256", "sha384", "sha512", "profile",
    "profile_remove_disabled",
)  # fmt: skip
"""The fields that only an emulator uses."""


def tpm_parts(context: Context) -> Iterator[Part]:
    """Yield the TPM and the process that it needs."""
    for device in named(context.machine.tpms, "tpms", "tpm"):
        yield from attempt(_tpm, device, context)


def _tpm(device: Named[Tpm], context: Context) -> Iterator[Found]:
    tpm = device.value
    if any(before(device, context.machine.tpms)):
        yield device.refusal("", "a VM can have one TPM", "remove the others")
    if tpm.address is not None:
        yield device.refusal("address", "the address of a TPM is fixed", "leave the address out")
    if tpm.backend == "passthrough":
        raise device.refusal(
            "backend",
            "the host's TPM is not open to users: using it and cancelling its commands need root",
            "use the emulator",
        )
    _check_source(device)
    if tpm.backend == "emulator":
        link = Link(f"{device.id}.swtpm", f"{device.id}.qemu")
        yield link
        yield _emulator(context, device, link)
        yield Option("-chardev", join("socket", id=CHARDEV, fd=context.fd(link.name)))
    else:
        yield Option("-chardev", join("socket", id=CHARDEV, path=tpm.path))
    yield Option("-tpmdev", join("emulator", id=f"tpm-{device.id}", chardev=CHARDEV))
    yield Device(_driver(context, tpm), device.id, device.key, {"tpmdev": f"tpm-{device.id}"})


def _driver(context: Context, tpm: Tpm) -> str:
    model = tpm.model or "tpm-tis"
    return "tpm-tis-device" if model == "tpm-tis" and context.family == "virt" else model


def _check_source(device: Named[Tpm]) -> None:
    """Refuse what does not fit to where the TPM is."""
    tpm = device.value
    if tpm.device is not None:
        raise device.mistake(
            "device", "a device of the host is for passthrough only", "leave the device out"
        )
    if tpm.backend == "external":
        if tpm.path is None or tpm.source_type != "unix":
            raise device.mistake(
                "",
                "an external TPM needs a source: the path of a Unix socket",
                "add a source of type 'unix' with the path",
            )
        for field in FOR_EMULATOR:
            if getattr(tpm, field):
                raise device.refusal(
                    field, "an external TPM decides this itself", f"leave out {field}"
                )


def _version(context: Context, tpm: Tpm) -> str:
    """Return the version; tpm-tis on x86 is a TPM 1.2 by default, as in libvirt."""
    if tpm.version is not None:
        return tpm.version
    return "2.0" if tpm.model == "tpm-crb" or context.family == "virt" else "1.2"


def _emulator(context: Context, device: Named[Tpm], link: Link) -> Companion:
    tpm = device.value
    version = _version(context, tpm)
    if version == "1.2" and _driver(context, tpm) != "tpm-tis":
        raise device.refusal(
            "version",
            "a TPM 1.2 has the model 'tpm-tis', on x86",
            "choose the model 'tpm-tis', or the version '2.0'",
        )
    folder = context.folders.state
    state = _state(device, f"{folder}/{'tpm2' if version == '2.0' else 'tpm1.2'}")
    for path in (state, folder):
        if "," in path:
            raise device.refusal(
                "",
                f"swtpm cannot handle a comma in a path, as in '{path}'",
                "choose a folder without a comma by XDG_STATE_HOME",
            )
    two = ("--tpm2",) if version == "2.0" else ()
    store = f"backend-uri=file://{state}" if tpm.source_type == "file" else f"dir={state},mode=0600"
    control = f"type=unixio,clientfd={context.fd(link.peer)}"
    log = ("--log", f"file={folder}/swtpm.log,level={tpm.debug}") if tpm.debug else ()
    return Companion(
        "swtpm",
        ("swtpm", "socket", "--ctrl", control, "--tpmstate", store, *two, *log, "--terminate"),
        "",
        device.key,
        package="swtpm",
        folders=(folder, *(() if tpm.source_type == "file" else (state,))),
        steps=tuple(_steps(context, device, state, version)),
        inherits=(link.peer,),
    )


def _state(device: Named[Tpm], usual: str) -> str:
    """Return where the emulator keeps its state."""
    tpm = device.value
    if tpm.source_type == "unix" or tpm.mode is not None:
        raise device.mistake(
            "source-type",
            "the state of an emulator is a folder or a file",
            "write 'dir' or 'file', or leave it out",
        )
    if tpm.source_type is not None and tpm.path is None:
        raise device.mistake(
            "source-type", "the path is missing", "add the path, or leave the type of source out"
        )
    return tpm.path or usual


def _steps(context: Context, device: Named[Tpm], state: str, version: str) -> Iterator[Step]:
    """Yield what is done before the emulator starts."""
    tpm = device.value
    banks = [bank for bank in ("sha1", "sha256", "sha384", "sha512") if getattr(tpm, bank)]
    if version == "1.2" and (banks or tpm.profile):
        raise device.mistake("", "only TPM 2.0 has PCR banks and profiles", "set the version")
    if tpm.profile is None and tpm.profile_remove_disabled:
        raise device.mistake(
            "profile-remove-disabled",
            "the name of the profile is missing",
            "add the name of the profile, or leave it out",
        )
    where = f"file://{state}" if tpm.source_type == "file" else state
    two = ("--tpm2",) if version == "2.0" else ()
    empty = None if tpm.source_type == "file" else state
    optional = "" if tpm.profile else NO_CERTIFICATES
    machine = context.machine
    uuid = named_uuid(machine)
    owner = f"{machine.name}:{uuid}" if uuid else machine.name
    certified = ("--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram")
    # The programs that swtpm_setup calls have to find folders that a user may write to.
    yield Step(("swtpm_setup", "--create-config-files", "skip-if-exist"), empty, optional, TOOLS)
    yield Step(
        ("swtpm_setup", *two, "--tpm-state", where, "--vmid", owner, *certified, *_profile(tpm),
         "--not-overwrite"),
        empty, optional, TOOLS,
    )  # fmt: skip
    if banks:
        wanted = ("--pcr-banks", ",".join(banks), "--reconfigure")
        yield Step(("swtpm_setup", "--tpm2", "--tpm-state", where, *wanted), package=TOOLS)


def _profile(tpm: Tpm) -> tuple[str, ...]:
    if tpm.profile is None:
        return ()
    remove = tpm.profile_remove_disabled
    return (
        "--profile-name",
        tpm.profile,
        *(("--profile-remove-disable", remove) if remove else ()),
    )
