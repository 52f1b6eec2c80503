# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes of requests and replies.

    request   {"v": 1, "op": OP, ...}
    reply     {"v": 1, "ok": {...}}          its fds travel in the same packet
              {"v": 1, "error": {"code": CODE, "message": TEXT, "hint": TEXT}}

Each message has one way to become bytes and one way back, and beyond this module nobody sees a
dict. Unknown keys are refused in both directions: what one side does not know it cannot obey.
"""

from collections.abc import Callable
from typing import Final

from bpferry_wire import limits
from bpferry_wire.codec import Fields, decode, encode
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.messages import (
    Caller,
    Can,
    CanReply,
    Create,
    Delete,
    DeleteReply,
    ErrorReply,
    FdDescription,
    Grant,
    Hello,
    HelloReply,
    ListReply,
    ListTaps,
    Load,
    LoadReply,
    OwnTap,
    Quota,
    QuotaReply,
    Reply,
    Request,
    Status,
    StatusReply,
    Tap,
    TapReply,
)

KINDS: Final = ("program", "map")
OPS: Final[dict[type[Request], str]] = {
    Hello: "hello",
    Quota: "quota",
    Status: "status",
    Load: "load",
    Tap: "tap",
    Create: "create",
    ListTaps: "list",
    Delete: "delete",
    Can: "can",
}


def encode_request(request: Request) -> bytes:
    """Return the packet that asks for *request*."""
    return encode({"v": limits.PROTOCOL_VERSION, **_request_map(request)})


def _request_map(request: Request) -> dict[str, object]:
    packet: dict[str, object] = {"op": OPS[type(request)]}
    match request:
        case Load():
            packet |= {"id": request.object_id, "digest": request.digest}
        case Tap():
            packet |= _tap_map(request)
        case Create():
            packet |= _tap_map(request.tap)
        case Delete():
            packet["interface"] = request.interface
        case Can():
            packet["request"] = _request_map(request.request)
    return packet


def _tap_map(tap: Tap) -> dict[str, object]:
    """Return the keys of *tap*; what it does not say is not there."""
    said: dict[str, object | None] = {
        "network" if tap.is_network else "bridge": tap.source,
        "queues": tap.queues,
        "mtu": tap.mtu,
        "mac": tap.mac,
        "isolated": tap.isolated or None,
    }
    return {key: value for key, value in said.items() if value is not None}


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
    if op not in READERS:
        raise BadMessage(f"unknown operation '{op[:32]}'", Code.UNKNOWN_OP)
    return READERS[op](fields)


def _read_load(fields: Fields) -> Load:
    return Load(
        object_id=fields.text("id", limits.MAX_OBJECT_ID_BYTES),
        digest=fields.octets("digest", limits.DIGEST_BYTES),
    )


def _read_tap(fields: Fields) -> Tap:
    is_network = fields.has("network")
    return Tap(
        source=fields.text("network", limits.MAX_NETWORK_BYTES)
        if is_network
        else fields.text("bridge", limits.MAX_INTERFACE_BYTES),
        is_network=is_network,
        queues=fields.integer("queues", 1, limits.MAX_QUEUES),
        mtu=fields.integer("mtu", limits.MIN_MTU, limits.MAX_MTU) if fields.has("mtu") else None,
        mac=fields.octets("mac", limits.MAC_BYTES) if fields.has("mac") else None,
        isolated=fields.boolean("isolated") if fields.has("isolated") else False,
    )


def _read_delete(fields: Fields) -> Delete:
    return Delete(fields.text("interface", limits.MAX_INTERFACE_BYTES))


def _read_can(fields: Fields) -> Can:
    wanted = fields.fields("request")
    op = wanted.text("op")
    if op not in DEEDS:
        raise BadMessage(f"'can' knows nothing about the operation '{op[:32]}'")
    request = Can(DEEDS[op](wanted))
    wanted.done()
    return request


DEEDS: Final[dict[str, Callable[[Fields], Load | Tap | Create]]] = {
    "load": _read_load,
    "tap": _read_tap,
    "create": lambda fields: Create(_read_tap(fields)),
}
"""What ``can`` may be asked about."""

READERS: Final[dict[str, Callable[[Fields], Request]]] = {
    "hello": lambda _: Hello(),
    "quota": lambda _: Quota(),
    "status": lambda _: Status(),
    "list": lambda _: ListTaps(),
    "delete": _read_delete,
    "can": _read_can,
    **DEEDS,
}
"""What takes the keys of each operation."""


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
        case ListReply():
            packed["taps"] = [tap._asdict() for tap in reply.taps]
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
        case Tap() | Create():
            reply = _read_made_tap(fields)
        case ListTaps():
            reply = ListReply(tuple(_read_own_tap(tap) for tap in fields.records("taps")))
        case Delete():
            reply = DeleteReply(fields.text("interface", limits.MAX_INTERFACE_BYTES))
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
        name=fields.text("name", limits.MAX_OBJECT_ID_BYTES),
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


def _read_made_tap(fields: Fields) -> TapReply:
    return TapReply(
        interface=fields.text("interface", limits.MAX_INTERFACE_BYTES),
        bridge=fields.text("bridge", limits.MAX_INTERFACE_BYTES),
        mtu=fields.integer("mtu"),
    )


def _read_own_tap(fields: Fields) -> OwnTap:
    tap = OwnTap(
        interface=fields.text("interface", limits.MAX_INTERFACE_BYTES),
        bridge=fields.text("bridge", limits.MAX_INTERFACE_BYTES),
        queues=fields.integer("queues"),
        stays=fields.boolean("stays"),
    )
    fields.done()
    return tap
