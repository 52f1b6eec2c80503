# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords and keys: read from files that nobody else can read, and handed to QEMU in memory.

A file with a secret belongs to the user, or root, and is closed to all others; a pipe works too.
QEMU inherits a sealed memfd with the contents, which it reads when it starts.
"""

import binascii
import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Secret
from bpferry.domain.binding import Form
from bpferry.domain.checks import texts_of
from bpferry.domain.document import Document
from bpferry.domain.forms import either
from bpferry.errors import BadInput, BpferryError, NotReady
from bpferry.steering.plan import Notice

MAX_BYTES: Final = 65536
"""The longest secret. cryptsetup takes passphrases of up to 512 bytes."""

OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

UUID: Final = r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}"

SecretFiles = Mapping[str, str]
"""The path of each secret's file, by the secret's name."""

NO_SECRETS: Final[SecretFiles] = MappingProxyType({})


class NamedSecrets(dict[str, str]):
    """Secret files that the user has given, and which of them the command line names itself."""

    def __init__(self, files: SecretFiles, named: Collection[str]) -> None:
        super().__init__(files)
        self.named = named


def name_of(text: str) -> str:
    """Return the name of a secret for comparing: a UUID in one spelling, others unchanged."""
    return text.lower().replace("-", "") if re.fullmatch(UUID, text, re.IGNORECASE) else text


def files_of(document: Document, given: SecretFiles) -> SecretFiles:
    """Return where secrets are: what the user has *given* takes precedence over the document."""
    held = {one.name: one.file for one in document.machine.secrets}
    merged = {name_of(name): path for name, path in (*held.items(), *given.items())}
    return NamedSecrets(merged, [name_of(name) for name in _named(given)])


def _named(files: SecretFiles) -> Collection[str]:
    return files.named if isinstance(files, NamedSecrets) else ()


def find_exposed(document: Document) -> Iterator[Notice]:
    """Yield a warning if others can read a password that *document* holds itself."""
    held = [
        key
        for key, bound, text in texts_of(document.machine)
        if bound.at.form is Form.SECRET and text
    ]
    if not held:
        return
    path = document.origins.path
    with contextlib.suppress(OSError):
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISREG(found.st_mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            place = document.origins.describe(held[0])
            yield Notice(
                f"{place}: others can read this secret (the file has mode {mode:04o})",
                f"chmod 600 {path}",
            )


def find_unused(built: Built, secrets: SecretFiles) -> Iterator[Notice]:
    """Yield a warning for each of *secrets* that the command line names and nothing uses."""
    wanted = sorted({secret.wanted for secret in built.of(Secret) if secret.text is None})
    known = {name_of(name) for name in wanted}
    # A file of --secrets may be about many VMs.
    for name in _named(secrets):
        if name_of(name) in known:
            continue
        import difflib  # noqa: PLC0415 - rarely needed

        near = difflib.get_close_matches(name, wanted, 1)
        if near:
            hint = f"did you mean '{near[0]}'?"
        elif wanted:
            hint = f"the secrets of this VM are {', '.join(wanted)}"
        else:
            hint = "remove the option: this VM needs no secret"
        yield Notice(f"nothing uses the secret '{name}' of --secret", hint)


def find_problems(built: Built, files: SecretFiles) -> Iterator[BpferryError]:
    """Yield what is wrong with the secrets of *built*, without opening anything.

    Each error's element is a key of the model.
    """
    for secret in built.of(Secret):
        if secret.text is not None:
            continue
        path = files.get(name_of(secret.wanted))
        if path is None:
            yield _unnamed(secret)
            continue
        try:
            _check_private(path, os.stat(path), secret)  # noqa: PTH116 - a path such as /dev/fd/3
        except OSError as error:
            yield _unreadable(path, error, secret, files)
        except NotReady as problem:
            yield problem


def describe(secret: Secret, files: SecretFiles, document: Document) -> str:
    """Return where *secret* comes from and what it is for, but nothing of the secret itself."""
    place = document.origins.describe(secret.key)
    path = files.get(name_of(secret.wanted))
    return f"the secret in '{path}' for {place}" if path else f"the secret of {place}"


@contextlib.contextmanager
def open_secret(secret: Secret, files: SecretFiles) -> Iterator[int]:
    """Yield the fd of a sealed file in memory that holds *secret*; it is closed with the block.

    Raises:
        BadInput: the command line names a file for it that cannot be read.
        NotReady: no file is named for it, or the file cannot be used.
    """
    fd = os.memfd_create("bpferry-secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(_content(secret, files))
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        yield fd
    finally:
        os.close(fd)


def _content(secret: Secret, files: SecretFiles) -> bytes:
    if secret.text is not None:
        return secret.text.encode()
    path = files.get(name_of(secret.wanted))
    if path is None:
        raise _unnamed(secret)
    return _checked(_read(path, secret, files), path, secret)


def _read(path: str, secret: Secret, files: SecretFiles) -> bytes:
    try:
        fd = os.open(path, OPEN_FLAGS)
        try:
            _check_private(path, os.fstat(fd), secret)
            found = b""
            while len(found) <= MAX_BYTES and (more := os.read(fd, MAX_BYTES + 1 - len(found))):
                found += more
        finally:
            os.close(fd)
    except OSError as error:
        raise _unreadable(path, error, secret, files) from error
    return found


def _checked(found: bytes, path: str, secret: Secret) -> bytes:
    """Return the secret in what was *found*, without the newline that editors add."""
    content = found.removesuffix(b"\n")
    problem = ""
    if not content:
        problem = "it is empty"
    elif len(found) > MAX_BYTES:
        problem = f"it has more than {MAX_BYTES} bytes"
    elif secret.form == "base64":
        problem = "" if _is_base64(content) else "a Ceph key is base64, but this is not"
    elif not _is_text(content):
        problem = "QEMU needs UTF-8 text, but this is not"
    if problem:
        raise NotReady(
            f"cannot use '{path}' as the secret '{secret.wanted}': {problem}",
            "write only the password or key into the file"
            if secret.form == "text"
            else "write what 'ceph auth get-key NAME' prints into the file",
            secret.key,
        )
    return content


def _is_base64(content: bytes) -> bool:
    import base64  # noqa: PLC0415 - for keys of Ceph only

    try:
        base64.b64decode(content, validate=True)
    except binascii.Error:
        return False
    return True


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _check_private(path: str, found: os.stat_result, secret: Secret) -> None:
    """Raise NotReady unless the file *path* is one that nobody else can read or change."""
    what = f"cannot use '{path}' as the secret '{secret.wanted}'"
    if stat.S_ISFIFO(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise NotReady(f"{what}: it is neither a file nor a pipe", "name a file", secret.key)
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotReady(
            f"{what}: others can use it too (mode {mode:04o})", f"chmod 600 {path}", secret.key
        )
    if found.st_uid not in (0, os.geteuid()):
        raise NotReady(
            f"{what}: it belongs to user {found.st_uid}", "make your own copy", secret.key
        )


def _unreadable(
    path: str, error: OSError, secret: Secret, files: SecretFiles
) -> BadInput | NotReady:
    """Return the error about a file: it counts as a mistake if the command line names it."""
    is_argument = name_of(secret.wanted) in _named(files)
    return (BadInput if is_argument else NotReady)(
        f"cannot read '{path}', the secret '{secret.wanted}': {error.strerror}",
        "correct the path, or create the file with mode 0600",
        secret.key,
    )


def _unnamed(secret: Secret) -> NotReady:
    name = secret.wanted
    import shlex  # noqa: PLC0415 - where there is something to tell

    option = shlex.quote(f"{name}=FILE")
    return NotReady(
        f"it needs the secret '{name}', and no file is named for it",
        f"write the password or key into a file of mode 0600, and name it: --secret {option}"
        + either(f'; or [[secrets]] with name = "{name}" and file = "FILE"', ""),
        secret.key,
    )
