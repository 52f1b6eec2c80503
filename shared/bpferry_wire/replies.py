# SPDX-License-Identifier: LGPL-2.1-or-later
"""The keys of each reply, in both directions.

A reply's value is a map in the packet, a value inside it is a map too, and a tuple of values is a
list of maps.
"""

from typing import Final

from bpferry_wire import limits
from bpferry_wire.codec import Fields
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
from bpferry_wire.vm_names import KEY, read_vm_name

KINDS: Final = ("program", "map")
"""What an fd of ``load`` may be."""


LIMITS: Final = ("inbound", "outbound")
"""Keys of a tap that has such a limit."""

ONLY_IF_KNOWN: Final = (*LIMITS, "bridge", KEY)
"""Keys of a grant that are left out if they are empty."""


def error_map(reply: ErrorReply) -> dict[str, object]:
    """Return the keys of an error."""
    return {"code": str(reply.code), "message": _cut(reply.message), "hint": _cut(reply.hint)}


def _cut(text: str) -> str:
    """Return *text* shortened to the wire's limit, without characters that UTF-8 cannot encode."""
    raw = text.encode(errors="backslashreplace")[: limits.MAX_TEXT_BYTES]
    return raw.decode(errors="ignore")


def reply_map(reply: Reply) -> dict[str, object]:
    """Return the keys of *reply*."""
    packed: dict[str, object] = dict(reply._asdict())
    match reply:
        case CanReply():
            packed |= {"because": _cut(reply.because), "code": str(reply.code)}
        case HelloReply():
            caller = reply.caller
            packed["caller"] = caller._asdict() | {"gids": list(caller.gids)}
        case StatusReply():
            packed["grants"] = [_without_empty(grant, ONLY_IF_KNOWN) for grant in reply.grants]
            if not reply.ready:
                del packed["ready"]
        case LoadReply():
            packed["fds"] = [fd._asdict() for fd in reply.fds]
        case ListReply():
            packed["taps"] = [_without_empty(tap, LIMITS) for tap in reply.taps]
    return packed


def _without_empty(entry: Grant | OwnTap, optional: tuple[str, ...]) -> dict[str, object]:
    """Return the keys of *entry*, those that are *optional* only if they say something."""
    fields = entry._asdict()
    return {key: value for key, value in fields.items() if value or key not in optional}


def read_error(fields: Fields) -> ErrorReply:
    """Take an error out of *fields*, with all of its keys.

    Raises:
        BadMessage: it is not an error.
    """
    code = fields.text("code")
    if code not in set(Code):
        raise BadMessage(f"unknown error code '{code[:32]}'")
    reply = ErrorReply(Code(code), fields.text("message"), fields.text("hint"))
    fields.done()
    return reply


def read_reply(fields: Fields, request: Request) -> Reply:
    """Take the answer to *request* out of *fields*, with all of its keys.

    Raises:
        BadMessage: it is not an answer to *request*.
    """
    reply: Reply
    match request:
        case Hello():
            reply = _read_hello(fields)
        case Quota():
            reply = _read_quota(fields)
        case Can():
            reply = _read_can(fields)
        case Status():
            grants = tuple(_read_grant(grant) for grant in fields.records("grants"))
            ready = fields.integer("ready") if fields.has("ready") else 0
            reply = StatusReply(grants, fields.text("counted_by"), ready)
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


def _read_can(fields: Fields) -> CanReply:
    reply = CanReply(fields.boolean("allowed"), fields.text("because"), fields.text("code"))
    if reply.code and reply.code not in set(Code):
        raise BadMessage(f"unknown error code '{reply.code[:32]}'")
    return reply


def _read_grant(fields: Fields) -> Grant:
    grant = Grant(
        uid=fields.integer("uid"),
        pid=fields.integer("pid"),
        name=fields.text("name", limits.MAX_OBJECT_ID_BYTES),
        age_s=fields.integer("age_s", high=limits.UINT64_MAX),
        bridge=fields.text("bridge", limits.MAX_INTERFACE_BYTES) if fields.has("bridge") else "",
        vm=read_vm_name(fields),
        **_read_limits(fields),
    )
    fields.done()
    return grant


def _read_fd(fields: Fields) -> FdDescription:
    kind = fields.text("kind")
    if kind not in KINDS:
        raise BadMessage(f"an fd of an unknown kind '{kind[:32]}'")
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
        made_with=fields.integer("made_with"),
        stays=fields.boolean("stays"),
        closed=fields.boolean("closed"),
        **_read_limits(fields),
    )
    fields.done()
    return tap


def _read_limits(fields: Fields) -> dict[str, int]:
    return {key: fields.integer(key) for key in LIMITS if fields.has(key)}
