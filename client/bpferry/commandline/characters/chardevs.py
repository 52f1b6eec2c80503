# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind a character device: QEMU's ``-chardev``, and what it inherits for it.

Sockets to listen on and files to write are opened by bpferry and inherited, so that a path that
does not work is found before QEMU starts, and QEMU needs no permission to create anything.

``-chardev`` is written in QEMU's own notation: up to version 10.0 no JSON is taken there.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from bpferry.commandline.context import Context
from bpferry.commandline.parts import (
    Endpoint,
    Found,
    Listen,
    Option,
    OutputFile,
    Part,
    StandardStreams,
    join,
)
from bpferry.domain.forms import called, either
from bpferry.domain.model.characters import Character, Source
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

RECONNECT_MS: Final = (9, 2, 0)
"""The first version that takes the time to reconnect in milliseconds (qapi/char.json)."""

ADDRESS: Final = frozenset({"mode", "host", "service"})
AGAIN: Final = frozenset({"reconnect", "reconnect_seconds"})

COUNTS: Final[Mapping[str, frozenset[str]]] = {
    # The path of a pseudo-terminal is that of a past run; QEMU chooses a new one.
    "pty": frozenset({"path"}),
    "dev": frozenset({"path"}),
    "pipe": frozenset({"path"}),
    "file": frozenset({"path", "append"}),
    "udp": ADDRESS,
    "tcp": ADDRESS | AGAIN | {"tls"},
    "unix": AGAIN | {"mode", "path"},
    "spiceport": frozenset({"channel"}),
    "dbus": frozenset({"channel"}),
    "qemu-vdagent": frozenset({"clipboard", "mouse"}),
}
"""The fields of a source that have a meaning, by type; any other is refused."""

CHANNEL_NAME: Final = r"[A-Za-z0-9_.-]+"

GRAPHICS: Final = {"spicevmc": "spice", "spiceport": "spice", "dbus": "dbus"}
"""The types that are channels of a display, and that display's type."""

Properties = dict[str, object]


class User(Struct, frozen=True):
    """Who has a character device behind it."""

    device: Named[Character]
    """The chardev is called by its id, after ``char``."""
    type: str
    spice: str = "vdagent"
    """What SPICE uses it for (chardev/spice.c: vdagent, usbredir, smartcard)."""
    path: str | None = None
    """Where to listen if the document names no place."""
    parallel: bool = False
    title: str = ""
    """What people call it, if not by its id."""

    @property
    def chardev(self) -> str:
        """The id of its chardev."""
        return f"char{self.device.id}"

    @property
    def source(self) -> Source:
        """What the document says of the source."""
        return self.device.value.sources[0] if self.device.value.sources else Source()

    def refusal(self, field: str, sentence: str, hint: str) -> Unsupported:
        """Return the error that refuses *field* of the source."""
        return self.device.part("sources[0]", self.source).refusal(field, sentence, hint)

    def mistake(self, field: str, sentence: str, hint: str) -> Unsupported:
        """Return the error that *field* of the source cannot be like this."""
        return self.device.part("sources[0]", self.source).mistake(field, sentence, hint)

    def needed(self, field: str) -> str:
        """Return the text in *field* of the source.

        Raises:
            Unsupported: the field is not set.
        """
        value = getattr(self.source, field)
        if not value:
            raise self.device.mistake(
                "",
                f"its type '{self.type}' needs the {field} of its source",
                f"add the source: {_example(self.device, field)}; or choose the type 'pty'",
            )
        return str(value)


class _Made(Struct, frozen=True):
    """A back end with its properties, and what has to come before its chardev."""

    driver: str
    properties: Properties
    needs: tuple[Part, ...] = ()


class BackEnds:
    """Makes the chardevs of one command line; counts the sets of fds that they share."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sets = 0
        self._stdio: str | None = None

    def parts(self, user: User) -> Iterator[Found]:
        """Yield the chardev of *user* and what it needs."""
        yield from _check(user, self._context)
        made = self._make(user)
        yield from made.needs
        properties = made.properties
        log = user.device.value.log
        if log is not None:
            path, needs = self._file(user, "log", log, user.device.value.log_append)
            yield from needs
            properties = {**properties, "logfile": path, "logappend": True}
        yield Option("-chardev", join(made.driver, id=user.chardev, **properties))
        yield from _endpoints(user)

    def _make(self, user: User) -> _Made:
        if user.type == "file":
            path, needs = self._file(user, "source", user.needed("path"), user.source.append)
            return _Made("file", {"path": path, "append": True}, needs)
        if user.type == "tcp":
            return _Made("socket", self._tcp(user))
        if user.type == "unix":
            return self._unix(user)
        if user.type == "stdio":
            return _Made("stdio", {}, (self._standard_streams(user),))
        driver = {"dev": "parallel" if user.parallel else "serial"}.get(user.type, user.type)
        return _Made(driver, PLAIN[user.type](user) if user.type in PLAIN else {})

    def _file(
        self,
        user: User,
        what: str,
        path: str,
        append: bool | None,  # noqa: FBT001 - of the model
    ) -> tuple[str, tuple[Part, ...]]:
        """Return the name under which QEMU finds the file *path*, and what it inherits for it."""
        number, self._sets = self._sets, self._sets + 1
        name = f"{user.device.id}.{what}"
        added = join("", set=number, fd=self._context.fd(name), opaque=name)
        # A file that is to be truncated is truncated when we open it; QEMU always appends.
        field = "log" if what == "log" else "sources[0].path"
        needs = (
            OutputFile(name, path, f"{user.device.key}.{field}", append=bool(append)),
            Option("-add-fd", added),
        )
        return f"/dev/fdset/{number}", needs

    def _standard_streams(self, user: User) -> Part:
        if self._stdio not in (None, user.device.key):
            raise user.device.mistake(
                "", "another device has standard input and output", "choose the type 'pty' for one"
            )
        self._stdio = user.device.key
        return StandardStreams()

    def _tcp(self, user: User) -> Properties:
        source = user.source
        if source.tls:
            raise user.refusal(
                "tls",
                "a domain document does not say where the certificates are (libvirt has that in "
                "its own configuration)",
                "let a program such as stunnel do the encryption",
            )
        return {
            "host": user.needed("host"),
            "port": user.needed("service"),
            "telnet": True if user.device.value.protocol == "telnet" else None,
            **self._role(user, listens=source.mode == "bind"),
        }

    def _unix(self, user: User) -> _Made:
        source = user.source
        path = source.path or user.path
        listens = source.mode == "bind" or not source.path
        if path is None:
            raise user.device.mistake(
                "",
                "its type 'unix' needs the path of its source",
                f"add the source: {_example(user.device, 'path')}; or choose the type 'pty'",
            )
        role = self._role(user, listens=listens)
        if not listens:
            return _Made("socket", {"path": path, **role})
        name = f"{user.device.id}.listen"
        return _Made("socket", {"fd": self._context.fd(name), **role}, (Listen(name, path),))

    def _role(self, user: User, *, listens: bool) -> Properties:
        """Return who connects to whom, and whether that is tried again."""
        source = user.source
        seconds = source.reconnect_seconds
        if not source.reconnect:
            if seconds is not None and source.reconnect is None:
                raise user.mistake(
                    "reconnect_seconds",
                    "it does not say whether to reconnect",
                    "switch it on, or leave the seconds out",
                )
            return {"server": True, "wait": False} if listens else {}
        if listens:
            raise user.mistake(
                "reconnect",
                "a socket that listens does not reconnect",
                "leave it out, or write the mode 'connect'",
            )
        if seconds is None:
            raise user.mistake(
                "reconnect",
                "the number of seconds is missing",
                "add the number of seconds, or switch it off",
            )
        if self._context.capabilities.version < RECONNECT_MS:
            return {"reconnect": seconds}
        return {"reconnect_ms": seconds * 1000}


def _example(device: Named[Character], field: str) -> str:
    """Return how to write *field* of a source, which *device* lacks."""
    table, value = device.key.partition("[")[0], field.upper()
    return either(f'[[{table}.sources]] with {field} = "{value}"', f"<source {field}='{value}'/>")


def _check(user: User, context: Context) -> Iterator[Unsupported]:
    """Refuse fields of a source that have no meaning for its type."""
    counts = COUNTS.get(user.type, frozenset())
    character = user.device.value
    for source in user.device.parts("sources", character.sources):
        for field in source.value.__struct_fields__:
            if getattr(source.value, field) is not None and field not in counts:
                name = called(Source, field)
                sentence = f"{name} has no meaning for a character device of type '{user.type}'"
                yield source.mistake(field, sentence, f"leave out {name}")
    if len(character.sources) > (2 if user.type == "udp" else 1):
        yield user.device.mistake(
            "sources[1]", f"the type '{user.type}' has no second source", "remove the second source"
        )
    if character.protocol == "telnet" and user.type != "tcp":
        yield user.device.mistake(
            "protocol",
            "telnet works over tcp only",
            "leave the protocol out, or choose the type 'tcp'",
        )
    display = GRAPHICS.get(user.type)
    if display and all(graphics.type != display for graphics in context.machine.graphics):
        yield user.device.mistake(
            "",
            f"the type '{user.type}' is a channel of a display of type '{display}', and the VM has "
            "none",
            f"add graphics of type '{display}', or choose another type",
        )


def _endpoints(user: User) -> Iterator[Part]:
    """Yield where somebody can connect to what QEMU offers for *user*."""
    name, key, source = user.title or user.device.id, user.device.key, user.source
    match user.type:
        case "pty":
            yield Endpoint(name, "pty", key, chardev=user.chardev)
        case "pipe":
            yield Endpoint(name, "pipe", key, path=user.needed("path"))
        case "unix" if source.mode == "bind" or not source.path:
            path = source.path or user.path or ""
            yield Endpoint(name, "unix", key, path=path, chardev=user.chardev)
        case "tcp" if source.mode == "bind":
            host, port = user.needed("host"), user.needed("service")
            telnet: Literal["", "telnet"] = (
                "telnet" if user.device.value.protocol == "telnet" else ""
            )
            yield Endpoint(name, "tcp", key, host, port, protocol=telnet, chardev=user.chardev)
        case "udp":
            for here in user.device.value.sources:
                if here.mode == "bind" and here.service:
                    yield Endpoint(name, "udp", key, here.host or "", here.service)


def _udp(user: User) -> Properties:
    """Return where packets go, and where they come from if the document says so."""
    sources = user.device.value.sources
    there = [source for source in sources if source.mode != "bind"]
    here = [source for source in sources if source.mode == "bind"]
    if len(there) > 1 or len(here) > 1:
        raise user.device.mistake(
            "sources[1].mode",
            "both sources have the same mode",
            "write 'bind' for one and 'connect' for the other",
        )
    if not there or not there[0].service:
        raise user.device.mistake(
            "",
            "the port that packets are sent to is missing",
            "add a source of mode 'connect' with the port",
        )
    local = here[0] if here else Source()
    return {
        "host": there[0].host or "",
        "port": there[0].service,
        "localaddr": local.host or "",
        "localport": local.service or "0",
    }


def _named(user: User) -> Properties:
    """Return the channel's name; that of a redirected USB device is known."""
    if user.type == "dbus" and user.spice == "usbredir" and not user.source.channel:
        return {"name": "org.qemu.usbredir"}
    name = user.needed("channel")
    if not re.fullmatch(CHANNEL_NAME, name):
        raise user.mistake(
            "channel",
            "a channel's name has letters, digits, '_', '-' and '.'",
            "use these characters only",
        )
    return {"name": name}


def _agent(user: User) -> Properties:
    mouse = user.source.mouse
    return {
        "name": "vdagent",
        "clipboard": user.source.clipboard,
        "mouse": None if mouse is None else mouse == "client",
    }


def _path(user: User) -> Properties:
    return {"path": user.needed("path")}


PLAIN: Final[Mapping[str, Callable[[User], Properties]]] = {
    "udp": _udp,
    "dev": _path,
    "pipe": _path,
    "spicevmc": lambda user: {"name": user.spice},
    "spiceport": _named,
    "dbus": _named,
    "qemu-vdagent": _agent,
}
"""The types that need nothing besides the chardev. The rest have no properties of their own."""
