# SPDX-License-Identifier: LGPL-2.1-or-later
"""The requests and replies as frozen values, and their bytes.

    request   {"v": 1, "op": OP, ...}
    reply     {"v": 1, "ok": {...}}          its fds travel in the same packet
              {"v": 1, "error": {"code": CODE, "message": TEXT, "hint": TEXT}}

Each value has one ``encode`` and one ``decode`` here, and behind them nobody sees a dict.
Unknown keys are refused in both directions: what one side does not know it cannot obey.
"""

from typing import Final, NamedTuple

from bpferry_wire import limits
from bpferry_wire.codec import Fields, decode, encode
from bpferry_wire.errors import BadMessage, Code


class Hello(NamedTuple):
    """Who are you, and who am I to you?"""


class Quota(NamedTuple):
    """How much do I hold, and how much may I hold?"""


class Status(NamedTuple):
    """Who holds what? Answered to uid 0 only."""


class Load(NamedTuple):
    """Load the eBPF object of this id and digest, and hand its programs and maps over."""

    object_id: str
    digest: bytes
    """SHA-256 of the ELF file, 32 bytes."""


class Can(NamedTuple):
    """Would you do this for me? Nothing is made."""

    request: Load


Request = Hello | Quota | Status | Load | Can


class Caller(NamedTuple):
    """The client as the helper sees it."""

    uid: int
    gids: tuple[int, ...]
    """The first MAX_GIDS_SHOWN of them."""
    gid_count: int


class HelloReply(NamedTuple):
    """What the helper is."""

    service: str
    version: str
    caller: Caller
    max_request_bytes: int
    max_fds: int


class QuotaReply(NamedTuple):
    """Sets that the caller holds and may hold, and the same for everybody together."""

    held: int
    allowed: int
    held_by_all: int
    allowed_to_all: int
    counted_by: str
    """``kernel`` if the kernel was asked what is alive; ``connections`` where it cannot say."""


class CanReply(NamedTuple):
    """Whether it is allowed, and what decides."""

    allowed: bool
    because: str


class Grant(NamedTuple):
    """One set that is alive, and to whom it was given."""

    uid: int
    pid: int
    """The process that asked. It may be gone, or another one by now: for a person to read."""
    object_id: str
    age_s: int


class StatusReply(NamedTuple):
    """All grants that are alive, oldest first."""

    grants: tuple[Grant, ...]
    counted_by: str


class FdDescription(NamedTuple):
    """What one fd of a reply is. The sizes of a program are 0."""

    name: str
    kind: str
    """``program`` or ``map``."""
    type: int
    """BPF_PROG_TYPE_* or BPF_MAP_TYPE_* of linux/bpf.h."""
    key_size: int = 0
    """Bytes."""
    value_size: int = 0
    """Bytes."""
    entries: int = 0
    flags: int = 0
    """BPF_F_* of linux/bpf.h."""


class LoadReply(NamedTuple):
    """The fds that came with this packet, in their order: programs, then maps."""

    fds: tuple[FdDescription, ...]


class ErrorReply(NamedTuple):
    """The request was not fulfilled."""

    code: Code
    message: str
    hint: str = ""


Reply = HelloReply | QuotaReply | CanReply | StatusReply | LoadReply

KINDS: Final = ("program", "map")
OPS: Final[dict[type[Request], str]] = {
    Hello: "hello",
    Quota: "quota",
    Status: "status",
    Load: "load",
    Can: "can",
}


def encode_request(request: Request) -> bytes:
    """Return the packet that asks for *request*."""
    return encode({"v": limits.PROTOCOL_VERSION, **_request_map(request)})


def _request_map(request: Request) -> dict[str, object]:
    packet: dict[str, object] = {"op": OPS[type(request)]}
    if isinstance(request, Load):
        packet |= {"id": request.object_id, "digest": request.digest}
    if isinstance(request, Can):
        packet["request"] = _request_map(request.request)
    return packet


def decode_request(packet: bytes) -> Request:
    """Return what *packet* asks for.

    Raises:
        BadMessage: with the code to answer with.
    """
    fields = Fields(decode(packet, limits.MAX_REQUEST_BYTES), "the request")
    _check_version(fields)
    request = _read_request(fields)
    fields.done()
    return request


def _check_version(fields: Fields) -> None:
    version = fields.integer("v")
    if version != limits.PROTOCOL_VERSION:
        raise BadMessage(
            f"protocol version {version} is not spoken here, only {limits.PROTOCOL_VERSION}",
            Code.UNSUPPORTED_VERSION,
        )


def _read_request(fields: Fields) -> Request:
    op = fields.text("op")
    match op:
        case "hello":
            return Hello()
        case "quota":
            return Quota()
        case "status":
            return Status()
        case "load":
            return _read_load(fields)
        case "can":
            return _read_can(fields.fields("request"))
    raise BadMessage(f"unknown operation '{op[:32]}'", Code.UNKNOWN_OP)


def _read_load(fields: Fields) -> Load:
    return Load(
        object_id=fields.text("id", limits.MAX_OBJECT_ID_BYTES),
        digest=fields.octets("digest", limits.DIGEST_BYTES),
    )


def _read_can(fields: Fields) -> Can:
    op = fields.text("op")
    if op != "load":
        raise BadMessage(f"'can' knows nothing about the operation '{op[:32]}'")
    request = Can(_read_load(fields))
    fields.done()
    return request


def encode_reply(reply: Reply | ErrorReply) -> bytes:
    """Return the packet that answers with *reply*."""
    if isinstance(reply, ErrorReply):
        body: dict[str, object] = {"error": _error_map(reply)}
    else:
        body = {"ok": _reply_map(reply)}
    return encode({"v": limits.PROTOCOL_VERSION, **body})


def _error_map(reply: ErrorReply) -> dict[str, object]:
    return {"code": str(reply.code), "message": _cut(reply.message), "hint": _cut(reply.hint)}


def _cut(text: str) -> str:
    """Return *text* without anything that the wire cannot carry, and no longer than it can."""
    raw = text.encode(errors="backslashreplace")[: limits.MAX_TEXT_BYTES]
    return raw.decode(errors="ignore")


def _reply_map(reply: Reply) -> dict[str, object]:
    packed: dict[str, object] = dict(reply._asdict())
    match reply:
        case HelloReply():
            caller = reply.caller
            packed["caller"] = caller._asdict() | {"gids": list(caller.gids)}
        case StatusReply():
            packed["grants"] = [grant._asdict() for grant in reply.grants]
        case LoadReply():
            packed["fds"] = [fd._asdict() for fd in reply.fds]
    return packed


def decode_reply(packet: bytes, request: Request) -> Reply | ErrorReply:
    """Return what *packet* answers to *request*.

    Raises:
        BadMessage: it is no reply, or one to another request.
    """
    fields = Fields(decode(packet, limits.MAX_REPLY_BYTES), "the reply")
    _check_version(fields)
    reply: Reply | ErrorReply
    if fields.has("error"):
        reply = _read_error(fields.fields("error"))
    else:
        reply = _read_reply(fields.fields("ok"), request)
    fields.done()
    return reply


def _read_error(fields: Fields) -> ErrorReply:
    code = fields.text("code")
    if code not in set(Code):
        raise BadMessage(f"unknown error code '{code[:32]}'")
    reply = ErrorReply(Code(code), fields.text("message"), fields.text("hint"))
    fields.done()
    return reply


def _read_reply(fields: Fields, request: Request) -> Reply:
    reply: Reply
    match request:
        case Hello():
            reply = _read_hello(fields)
        case Quota():
            reply = _read_quota(fields)
        case Can():
            reply = CanReply(fields.boolean("allowed"), fields.text("because"))
        case Status():
            grants = tuple(_read_grant(grant) for grant in fields.records("grants"))
            reply = StatusReply(grants, fields.text("counted_by"))
        case Load():
            reply = LoadReply(tuple(_read_fd(fd) for fd in fields.records("fds")))
    fields.done()
    return reply


def _read_hello(fields: Fields) -> HelloReply:
    caller = fields.fields("caller")
    reply = HelloReply(
        service=fields.text("service"),
        version=fields.text("version"),
        caller=Caller(caller.integer("uid"), caller.integers("gids"), caller.integer("gid_count")),
        max_request_bytes=fields.integer("max_request_bytes"),
        max_fds=fields.integer("max_fds"),
    )
    caller.done()
    return reply


def _read_quota(fields: Fields) -> QuotaReply:
    return QuotaReply(
        held=fields.integer("held"),
        allowed=fields.integer("allowed"),
        held_by_all=fields.integer("held_by_all"),
        allowed_to_all=fields.integer("allowed_to_all"),
        counted_by=fields.text("counted_by"),
    )


def _read_grant(fields: Fields) -> Grant:
    grant = Grant(
        uid=fields.integer("uid"),
        pid=fields.integer("pid"),
        object_id=fields.text("object_id", limits.MAX_OBJECT_ID_BYTES),
        age_s=fields.integer("age_s", high=limits.UINT64_MAX),
    )
    fields.done()
    return grant


def _read_fd(fields: Fields) -> FdDescription:
    kind = fields.text("kind")
    if kind not in KINDS:
        raise BadMessage(f"an fd of unknown kind '{kind[:32]}'")
    description = FdDescription(
        name=fields.text("name", limits.MAX_NAME_BYTES),
        kind=kind,
        type=fields.integer("type"),
        key_size=fields.integer("key_size"),
        value_size=fields.integer("value_size"),
        entries=fields.integer("entries"),
        flags=fields.integer("flags"),
    )
    fields.done()
    return description
