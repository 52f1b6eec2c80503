# SPDX-License-Identifier: LGPL-2.1-or-later
"""msgpack to and from plain values, strictly.

Decoding accepts exactly one map with string keys, filling the whole packet. Within it: only maps,
lists, text, bytes, integers and booleans; no duplicate keys, no floats, no nil, no extension
types; bounded depth, length and count (``limits``). msgpack itself accepts more, so each of these
rules is enforced here.

``Fields`` then takes the known keys out of such a map, each with its exact type (``True`` is not a
number), and refuses any others.
"""

from collections.abc import Iterable
from typing import Final, NoReturn, TypeVar, final

import msgpack

from bpferry_wire import limits
from bpferry_wire.errors import BadMessage

T = TypeVar("T")

TYPE_NAMES: Final[dict[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    str: "text",
    bytes: "bytes",
    list: "a list",
    dict: "a map",
}

Pair = tuple[object, object]


def encode(value: dict[str, object]) -> bytes:
    """Return *value* as the bytes of one packet."""
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)  # noqa: S101 - None is for streams, says msgpack
    return packed


def decode(packet: bytes, max_bytes: int) -> dict[str, object]:
    """Return the map that *packet* consists of.

    Raises:
        BadMessage: with a sentence that says which rule was broken.
    """
    if len(packet) > max_bytes:
        raise BadMessage(f"the packet has {len(packet)} bytes, the limit is {max_bytes}")
    value = _unpack(packet)
    if not isinstance(value, dict):
        raise BadMessage(f"the packet holds {_describe(value)}, not a map")
    _check(value, depth=1)
    return value


def _unpack(packet: bytes) -> object:
    # An Unpacker is never reused: msgpack before 1.2.1 may crash after an error
    # (GHSA-6v7p-g79w-8964). All limits are set, so that a header cannot claim more than there is.
    try:
        return msgpack.unpackb(
            packet,
            raw=False,
            strict_map_key=True,
            use_list=True,
            object_pairs_hook=_unique_keys,
            ext_hook=_no_extension,
            max_str_len=limits.MAX_TEXT_BYTES,
            max_bin_len=limits.MAX_TEXT_BYTES,
            max_array_len=limits.MAX_ITEMS,
            max_map_len=limits.MAX_ITEMS,
            max_ext_len=0,
        )
    except BadMessage:
        raise
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise BadMessage(f"the packet is not valid msgpack: {reason}") from error


def _unique_keys(pairs: Iterable[Pair]) -> dict[object, object]:
    # msgpack's C parser gives a list here, its Python parser (MSGPACK_PUREPYTHON) a generator.
    listed = list(pairs)
    # Before anything is hashed: msgpack 1.0's Python parser ignores strict_map_key here.
    if any(type(key) is not str for key, _ in listed):
        raise BadMessage("a key of a map is not text")
    unique = dict(listed)
    if len(unique) != len(listed):
        raise BadMessage("a map has the same key twice")
    return unique


def _no_extension(kind: int, _data: bytes) -> NoReturn:
    raise BadMessage(f"extension type {kind} is not used in this protocol")


def _check(value: object, depth: int) -> None:
    """Raise BadMessage unless *value* consists of the types and depths that we use."""
    if isinstance(value, dict | list) and depth > limits.MAX_DEPTH:
        raise BadMessage(f"more than {limits.MAX_DEPTH} levels of nesting")
    if isinstance(value, dict):
        for item in value.values():
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif type(value) not in TYPE_NAMES:
        raise BadMessage(f"{_describe(value)} is not used in this protocol")


def _describe(value: object) -> str:
    if value is None:
        return "nil"
    return TYPE_NAMES.get(type(value), f"a value of type {type(value).__name__}")


@final
class Fields:
    """The keys of one map, taken one by one; ``done()`` refuses those that nobody took."""

    __slots__ = ("_left", "_where")

    def __init__(self, values: dict[str, object], where: str) -> None:
        """Read from *values*, called *where* in messages. The dict itself is not changed."""
        self._left = dict(values)
        self._where = where

    def has(self, key: str) -> bool:
        """Return whether *key* is there and not yet taken."""
        return key in self._left

    def text(self, key: str, max_bytes: int = limits.MAX_TEXT_BYTES) -> str:
        """Take text of at most *max_bytes* in UTF-8."""
        value = self._take(key, str)
        try:
            length = len(value.encode())
        except UnicodeEncodeError as error:
            raise BadMessage(f"'{key}' in {self._where} has half a character") from error
        if length > max_bytes:
            raise BadMessage(f"'{key}' in {self._where} is longer than {max_bytes} bytes")
        return value

    def octets(self, key: str, length: int) -> bytes:
        """Take exactly *length* bytes."""
        value = self._take(key, bytes)
        if len(value) != length:
            raise BadMessage(
                f"'{key}' in {self._where} has {len(value)} bytes where {length} are wanted"
            )
        return value

    def integer(self, key: str, low: int = 0, high: int = limits.UINT32_MAX) -> int:
        """Take an integer from *low* to *high*, inclusive."""
        value = self._take(key, int)
        if not low <= value <= high:
            raise BadMessage(f"'{key}' in {self._where} is {value}, not within {low} to {high}")
        return value

    def boolean(self, key: str) -> bool:
        """Take a boolean."""
        return self._take(key, bool)

    def fields(self, key: str) -> "Fields":
        """Take a map."""
        return Fields(self._take(key, dict), f"'{key}'")

    def records(self, key: str) -> list["Fields"]:
        """Take a list of maps."""
        values = self._take(key, list)
        for value in values:
            if type(value) is not dict:
                raise BadMessage(f"an entry of '{key}' in {self._where} is not a map")
        return [Fields(value, f"an entry of '{key}'") for value in values]

    def integers(self, key: str) -> tuple[int, ...]:
        """Take a list of 32 bit unsigned integers."""
        values = self._take(key, list)
        for value in values:
            if type(value) is not int or not 0 <= value <= limits.UINT32_MAX:
                raise BadMessage(f"an entry of '{key}' in {self._where} is not a 32 bit number")
        return tuple(values)

    def done(self) -> None:
        """Raise BadMessage if a key is left that this message does not have."""
        if self._left:
            unknown = ", ".join(repr(key) for key in sorted(self._left)[:3])
            raise BadMessage(f"unknown key {unknown} in {self._where}")

    def _take(self, key: str, kind: type[T]) -> T:
        if key not in self._left:
            raise BadMessage(f"'{key}' is missing in {self._where}")
        value = self._left.pop(key)
        # Exact types: isinstance() would let True pass as a number.
        if type(value) is not kind:
            raise BadMessage(
                f"'{key}' in {self._where} is {_describe(value)}, not {TYPE_NAMES[kind]}"
            )
        return value
