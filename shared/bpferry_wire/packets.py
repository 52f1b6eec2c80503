# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bytes of requests and replies.

    request   {"v": 1, "op": OP, ...}
    reply     {"v": 1, "ok": {...}}          its fds travel in the same packet
              {"v": 1, "error": {"code": CODE, "message": TEXT, "hint": TEXT}}

There is one way from each message to bytes and one way back, and only this module, ``requests`` and
``replies`` use a dict. Unknown keys are refused in both directions: neither side can obey a key
that it does not know.
"""

from functools import lru_cache
from typing import Final

from bpferry_wire import limits
from bpferry_wire.codec import Fields, decode, encode
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.messages import ErrorReply, LoadReply, Reply, Request
from bpferry_wire.replies import KINDS, error_map, read_error, read_reply, reply_map
from bpferry_wire.requests import OPS, read_request, request_map

SHORT_BYTES: Final = 128
REMEMBERED: Final = 32
"""Requests up to this length whose meaning is remembered, and how many: clients ask for the same
again and again, and to decode a packet in Python takes as long as all other steps together. What a
packet means depends on nothing but its bytes."""

__all__ = ["KINDS", "OPS", "decode_reply", "decode_request", "encode_reply", "encode_request"]


def encode_request(request: Request) -> bytes:
    """Return *request* as a packet."""
    return encode({"v": limits.PROTOCOL_VERSION, **request_map(request)})


def decode_request(packet: bytes) -> Request:
    """Return the request in *packet*.

    Raises:
        BadMessage: with the code to answer with.
    """
    return _remembered(packet) if len(packet) <= SHORT_BYTES else _decode_request(packet)


def _decode_request(packet: bytes) -> Request:
    fields = Fields(decode(packet, limits.MAX_REQUEST_BYTES), "the request")
    _check_version(fields)
    request = read_request(fields)
    fields.done()
    return request


_remembered = lru_cache(maxsize=REMEMBERED)(_decode_request)


def encode_reply(reply: Reply | ErrorReply) -> bytes:
    """Return *reply* as a packet."""
    return _encode_same(reply) if isinstance(reply, LoadReply) else _encode_reply(reply)


def _encode_reply(reply: Reply | ErrorReply) -> bytes:
    if isinstance(reply, ErrorReply):
        body: dict[str, object] = {"error": error_map(reply)}
    else:
        body = {"ok": reply_map(reply)}
    return encode({"v": limits.PROTOCOL_VERSION, **body})


_encode_same = lru_cache(maxsize=REMEMBERED)(_encode_reply)
"""All sets of one object have the same description."""


def decode_reply(packet: bytes, request: Request) -> Reply | ErrorReply:
    """Return the reply to *request* in *packet*.

    Raises:
        BadMessage: it is not a reply, or not to this request.
    """
    fields = Fields(decode(packet, limits.MAX_REPLY_BYTES), "the reply")
    _check_version(fields)
    reply: Reply | ErrorReply
    if fields.has("error"):
        reply = read_error(fields.fields("error"))
    else:
        reply = read_reply(fields.fields("ok"), request)
    fields.done()
    return reply


def _check_version(fields: Fields) -> None:
    version = fields.integer("v")
    if version != limits.PROTOCOL_VERSION:
        raise BadMessage(
            f"protocol version {version} is not supported, only {limits.PROTOCOL_VERSION}",
            Code.UNSUPPORTED_VERSION,
        )
