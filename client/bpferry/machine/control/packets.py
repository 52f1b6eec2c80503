# SPDX-License-Identifier: LGPL-2.1-or-later
"""Requests to a running VM and its replies, in the wire's form.

    request   {"v": 1, "op": OP, ...}
    reply     {"v": 1, "ok": {...}}          its fds travel in the same packet
              {"v": 1, "error": {"code": CODE, "message": TEXT, "hint": TEXT}}

The codes are those of ``errors`` (``BpferryError.code``), so that a command ends with the status
that the error has in the VM's process. A value that is not known is left out: there is no nil.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from bpferry import errors
from bpferry.errors import BadInput, BpferryError
from bpferry_wire import limits
from bpferry_wire.codec import Fields, decode, encode
from bpferry_wire.errors import BadMessage

BAD_REQUEST: Final = "bad-request"
UNKNOWN_OP: Final = "unknown-op"

CLASSES: Final[Mapping[str, type[BpferryError]]] = errors.OF_HELPERS | {
    kind.code: kind
    for kind in (
        errors.BadInput,
        errors.Unsupported,
        errors.Refused,
        errors.NotMember,
        errors.NoHelper,
        errors.NotReady,
        errors.HelperError,
        errors.QemuError,
        errors.TapError,
        errors.CompanionError,
    )
}
"""Which error a code stands for. Any other is a plain failure."""


def encode_request(op: str, fields: Mapping[str, object]) -> bytes:
    """Return the request *op* with its *fields* as a packet.

    Raises:
        BadInput: a text was given as bytes that are not UTF-8.
    """
    try:
        return encode({"v": limits.PROTOCOL_VERSION, "op": op, **fields})
    except UnicodeEncodeError as error:
        raise BadInput(f"'{error.object}' is not UTF-8", "write it in UTF-8") from error


def decode_request(packet: bytes) -> tuple[str, Fields]:
    """Return the op of the request in *packet*, and its other fields.

    Raises:
        BadMessage: it is not a request.
    """
    fields = Fields(decode(packet, limits.MAX_REQUEST_BYTES), "the request")
    _check_version(fields)
    return fields.text("op"), fields


def encode_answer(fields: Mapping[str, object]) -> bytes:
    """Return the packet of a reply that says yes; what is None is left out."""
    return encode({"v": limits.PROTOCOL_VERSION, "ok": without_none(fields)})


def encode_error(error: BpferryError) -> bytes:
    """Return the packet of a reply that says no; what does not fit into it is cut off."""
    body = {
        "code": error.code,
        "message": shortened(error.message),
        "hint": shortened(error.hint),
    }
    return encode({"v": limits.PROTOCOL_VERSION, "error": body})


def decode_reply(packet: bytes) -> dict[str, object]:
    """Return what the reply in *packet* says.

    Raises:
        BpferryError: the reply says no.
        BadMessage: it is not a reply.
    """
    values = decode(packet, limits.MAX_REPLY_BYTES)
    fields = Fields(values, "the reply")
    _check_version(fields)
    if fields.has("error"):
        told = fields.fields("error")
        code, message, hint = told.text("code"), told.text("message"), told.text("hint")
        raise error_of(code, message, hint)
    fields.fields("ok")
    fields.done()
    answer = values["ok"]
    assert isinstance(answer, dict)  # noqa: S101 - it was taken as a map
    return answer


def without_none(fields: Mapping[str, object]) -> dict[str, object]:
    """Return *fields* without those that are None."""
    return {key: value for key, value in fields.items() if value is not None}


def texts(answer: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Return the list of texts that *answer* has under *key*; empty if it has none."""
    values = answer.get(key, ())
    return tuple(map(str, values)) if isinstance(values, Iterable) else ()


def records(answer: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """Return the list of maps that *answer* has under *key*; empty if it has none."""
    values = answer.get(key)
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def error_of(code: str, message: str, hint: str) -> BpferryError:
    """Return the error that *code* stands for, in these words."""
    error = CLASSES.get(code, BpferryError)(message, hint)
    error.code = code
    return error


def shortened(text: str) -> str:
    """Return *text*, or as much of it as fits into a packet."""
    return text.encode()[: limits.MAX_TEXT_BYTES].decode(errors="ignore")


def _check_version(fields: Fields) -> None:
    version = fields.integer("v")
    if version != limits.PROTOCOL_VERSION:
        raise BadMessage(f"version {version} of the protocol is not {limits.PROTOCOL_VERSION}")
