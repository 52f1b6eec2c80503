# SPDX-License-Identifier: LGPL-2.1-or-later
"""What images need passwords and keys for: their encryption, and servers that authenticate users.

The objects in QEMU have the names that libvirt gives them: the number that it would give to the
image (qemu_domain.c, qemuDomainStorageIDNew), the node, and what the secret is for.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from msgspec import Struct

from bpferry.commandline.parts import Secret
from bpferry.domain.forms import either
from bpferry.domain.model.disks import Disk, Image, Layer
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.secrets import Cookie, Encryption, Login
from bpferry.domain.names import Named, named

ENCRYPTED: Final = ("raw", "qcow2")
"""Formats of images that QEMU itself decrypts, as in libvirt."""

COOKIE_NAME: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
"""A token (RFC 9110, 5.6.2)."""

COOKIE_VALUE: Final = r"[!#-+\--:<-\[\]-~]*"
"""RFC 6265, 4.1.1; it may be in quotes."""

UNNAMED: Final = "it names no secret"
WITH_A_NAME: Final = "name one by its uuid or its usage"


class Reference(Protocol):
    """How a description calls a secret."""

    @property
    def uuid(self) -> str | None:
        """A UUID."""

    @property
    def usage(self) -> str | None:
        """Or any other name."""


class ImageSecrets(Struct, frozen=True):
    """The secrets of one image."""

    login: Secret | None = None
    cookies: Secret | None = None
    encryption: tuple[Secret, ...] = ()
    """For librbd, that of the image itself comes first."""

    @property
    def all(self) -> tuple[Secret, ...]:
        """All secrets that there are."""
        return (*filter(None, (self.login, self.cookies)), *self.encryption)


def image_numbers(machine: Machine) -> Mapping[str, int]:
    """Return the number of each image by its key, as libvirt counts: from the last disk on."""
    numbers: dict[str, int] = {}
    count = 0
    for disk in reversed(list(named(machine.disks, "disks", "disk"))):
        for image in images_of(disk):
            count += 1
            numbers[image.key] = count
        # Each filter has a number as well.
        count += len(disk.value.throttle_groups)
    return numbers


def images_of(disk: Named[Disk]) -> Iterator[Named[Image]]:
    """Yield each image of *disk* before those below it."""
    image: Named[Layer] | None = disk
    if disk.value.type == "vhostuser":
        return
    while image is not None and image.value.type is not None:
        yield image
        if image.value.data_file is not None:
            yield image.part("data-file", image.value.data_file)
        below = image.value.backing
        image = None if below is None else image.part("backing", below)


def is_decrypted_by_qemu(image: Image) -> bool:
    """Say whether QEMU itself decrypts *image*, and not a library that it uses."""
    return image.encryption is not None and image.encryption.engine != "librbd"


def secrets_of(part: Named[Image], number: int) -> ImageSecrets:
    """Return the secrets of the image that has this *number*.

    Raises:
        Unsupported: they contradict each other or do not fit the image.
    """
    image = part.value
    storage = f"libvirt-{number}-storage"
    return ImageSecrets(
        None if image.login is None else _login(part, image.login, storage),
        _cookies(part, storage) if image.cookies else None,
        () if image.encryption is None else _encryption(part, image.encryption, number),
    )


def _login(part: Named[Image], login: Login, storage: str) -> Secret:
    here = part.part("login", login)
    wanted = "ceph" if part.value.protocol == "rbd" else "iscsi"
    if login.secret is None:
        raise here.mistake("", UNNAMED, "add " + _a_secret(wanted))
    if login.secret.type != wanted:
        raise here.mistake(
            "secret.type",
            f"the secret for {part.value.protocol} is one of type '{wanted}'",
            f"write '{wanted}', or leave the type out",
        )
    # Ceph's own tools print keys in base64, and QEMU hands them to its library in base64 again.
    return Secret(
        f"{storage}-auth-secret0",
        f"{here.key}.secret",
        wanted=_name_of(here.part("secret", login.secret)),
        form="base64" if wanted == "ceph" else "text",
    )


def _a_secret(kind: str) -> str:
    return either(
        f'secret = {{ type = "{kind}", usage = "NAME" }}', f"<secret type='{kind}' usage='NAME'/>"
    )


def _name_of(part: Named[Reference]) -> str:
    reference = part.value
    if reference.uuid is not None and reference.usage is not None:
        raise part.mistake("usage", "it has a uuid already", "keep one of them")
    name = reference.uuid or reference.usage
    if not name:
        raise part.mistake("", "it has no name", WITH_A_NAME)
    return name


def _cookies(part: Named[Image], storage: str) -> Secret:
    for cookie in part.parts("cookies", part.value.cookies):
        _check_cookie(cookie)
    text = "; ".join(f"{cookie.name}={cookie.value}" for cookie in part.value.cookies)
    return Secret(f"{storage}-httpcookie-secret0", f"{part.key}.cookies[0]", text=text)


def _check_cookie(part: Named[Cookie]) -> None:
    if not re.fullmatch(COOKIE_NAME, part.value.name):
        raise part.mistake(
            "name",
            "no cookie can have this name (RFC 6265)",
            "write a name of letters, digits, '-' and '_'",
        )
    value = part.value.value
    quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
    if not re.fullmatch(COOKIE_VALUE, value[1:-1] if quoted else value):
        raise part.mistake(
            "value",
            "no cookie can have this value (RFC 6265)",
            "write a value without spaces, commas, semicolons, quotes and backslashes",
        )


def _encryption(part: Named[Image], encryption: Encryption, number: int) -> tuple[Secret, ...]:
    here = part.part("encryption", encryption)
    _check_engine(part, here)
    if not encryption.secrets:
        hint = either('secrets = [{ usage = "NAME" }]', "<secret type='passphrase' usage='NAME'/>")
        raise here.mistake("", UNNAMED, f"add {hint}")
    has_layer = (part.value.format or "raw") != "raw" or encryption.engine != "librbd"
    node = "format" if has_layer else "storage"
    return tuple(
        Secret(f"libvirt-{number}-{node}-encryption-secret{index}", one.key, wanted=_name_of(one))
        for index, one in enumerate(here.parts("secrets", encryption.secrets))
    )


def _check_engine(part: Named[Image], encryption: Named[Encryption]) -> None:
    image, given = part.value, encryption.value
    if given.engine == "librbd":
        if image.protocol != "rbd":
            raise encryption.mistake("engine", "librbd decrypts only RBD images", "write 'qemu'")
        return
    if given.format != "luks":
        raise encryption.refusal(
            "format",
            "QEMU itself decrypts only LUKS version 1",
            "use an image that 'qemu-img create -f luks' has made, or librbd where it is on RBD",
        )
    if (image.format or "raw") not in ENCRYPTED:
        raise encryption.refusal(
            "", f"QEMU has no encryption for the format {image.format}", "use qcow2, or raw"
        )
    if len(given.secrets) > 1:
        raise encryption.refusal("secrets[1]", "QEMU itself takes only one passphrase", "leave one")
