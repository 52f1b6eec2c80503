# SPDX-License-Identifier: LGPL-2.1-or-later
"""One call: what it asks of a helper, and what the answer is.

Each call becomes a request of the wire, which is checked as a helper checks it; what comes back was
checked by the client's own code, as for a VM. A call is carried out by ``CALLS``, and its answer is
the parameters of a reply and fds that the caller of this module owns.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final, NamedTuple, TypeVar

from bpferry.errors import BpferryError
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.varlink.interfaces import DESCRIPTIONS, error_name
from bpferry_wire import VERSION
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import Create, Delete, ListReply, Load, Tap
from bpferry_wire.replies import reply_map
from bpferry_wire.requests import OPS, read_request

ADDRESS: Final = "the address of a card"

HEXADECIMAL: Final = re.compile(r"(?:[0-9a-fA-F]{2}:?)*")

Parameters = dict[str, object]

R = TypeVar("R", Tap, Create, Delete, Load)


class CallError(Exception):
    """What varlink answers in place of a reply.

    Attributes:
        name: of the error, with its interface.
        parameters: of the error.
    """

    def __init__(self, name: str, parameters: Parameters) -> None:
        super().__init__(name)
        self.name = name
        self.parameters = parameters


class Answer(NamedTuple):
    """The parameters of a reply, and the fds that go with it."""

    parameters: Parameters
    fds: tuple[BorrowedFd, ...] = ()
    """Alive until the stack that was given with the call is closed."""


class Helpers:
    """The connections to both helpers, made when they are first needed."""

    def __init__(self, stack: ExitStack) -> None:
        """Let *stack* close them."""
        self.tap = stack.enter_context(TapHelper())
        self.bpf = stack.enter_context(BpfHelper())


def carry_out(method: str, parameters: Parameters, helpers: Helpers, stack: ExitStack) -> Answer:
    """Do what the call of *method* asks for; *stack* closes the fds of the answer.

    Raises:
        CallError: what to answer instead.
    """
    interface = method.rpartition(".")[0]
    if interface not in DESCRIPTIONS:
        raise _service_error("InterfaceNotFound", interface=interface)
    if method not in CALLS:
        raise _service_error("MethodNotFound", method=method)
    try:
        return CALLS[method](helpers, _without_nulls(parameters), stack)
    except BadMessage as error:
        raise _service_error("InvalidParameter", parameter=_named_in(str(error))) from error
    except BpferryError as error:
        raise CallError(
            f"{interface}.{error_name(error.code)}",
            {"message": error.message, "hint": error.hint},
        ) from error


def _service_error(name: str, **parameters: object) -> CallError:
    return CallError(f"org.varlink.service.{name}", parameters)


def _named_in(message: str) -> str:
    """Return the parameter that the wire's *message* is about, or all of the message."""
    found = re.match(r"(?:unknown key )?'(\w+)'", message)
    return found[1] if found else message


def _without_nulls(parameters: Parameters) -> Parameters:
    """Return *parameters* without those that are null, which is how varlink leaves one out."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in parameters.items()
        if value is not None
    }


def _fields(parameters: Parameters, **as_bytes: str) -> Fields:
    """Return *parameters* as the wire has them: those of *as_bytes* are hexadecimal text here."""
    changed = dict(parameters)
    for key, what in as_bytes.items():
        text = changed.get(key)
        if text is not None:
            if not isinstance(text, str) or not HEXADECIMAL.fullmatch(text):
                raise BadMessage(f"'{key}' is not {what}")
            changed[key] = bytes.fromhex(text.replace(":", ""))
    return Fields(changed, "the call")


def _read(kind: type[R], parameters: Parameters, **as_bytes: str) -> R:
    """Return *parameters* as the request of this *kind*, checked by the wire's own reader."""
    if "op" in parameters:
        raise BadMessage("unknown key 'op' in the call")
    fields = _fields({**parameters, "op": OPS[kind]}, **as_bytes)
    request = read_request(fields)
    fields.done()
    assert isinstance(request, kind)  # noqa: S101 - what its 'op' is read as
    return request


def _read_tap(parameters: Parameters) -> Tap:
    return _read(Tap, parameters, mac=ADDRESS)


def _read_load(parameters: Parameters) -> Load:
    return _read(Load, parameters, digest="hexadecimal digits")


def _nothing(parameters: Parameters) -> None:
    """Refuse parameters where there are none."""
    _fields(parameters).done()


def _make(helpers: Helpers, parameters: Parameters, stack: ExitStack) -> Answer:
    tap = stack.enter_context(helpers.tap.tap(_read_tap(parameters)))
    named = {"interface": tap.interface, "bridge": tap.bridge, "mtu": tap.mtu}
    return Answer(named, tuple(tap.borrow()))


def _create(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    request = _read(Create, parameters, mac=ADDRESS)
    return Answer(reply_map(helpers.tap.create(request.tap)))


def _can_tap(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    return Answer(reply_map(helpers.tap.can(_read_tap(parameters))))


def _list(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    _nothing(parameters)
    return Answer(reply_map(ListReply(helpers.tap.list())))


def _delete(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    interface = _read(Delete, parameters).interface
    helpers.tap.delete(interface)
    return Answer({"interface": interface})


def _load(helpers: Helpers, parameters: Parameters, stack: ExitStack) -> Answer:
    loaded = stack.enter_context(helpers.bpf.load(_read_load(parameters)))
    return Answer({"names": list(loaded.names)}, tuple(loaded.borrow()))


def _can_load(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    return Answer(reply_map(helpers.bpf.can(_read_load(parameters))))


def _tap_quota(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    _nothing(parameters)
    return Answer(reply_map(helpers.tap.quota()))


def _bpf_quota(helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    _nothing(parameters)
    return Answer(reply_map(helpers.bpf.quota()))


def _info(_helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    _nothing(parameters)
    about = {"vendor": "bpferry", "product": "bpferry-varlink", "version": VERSION, "url": ""}
    return Answer({**about, "interfaces": list(DESCRIPTIONS)})


def _description(_helpers: Helpers, parameters: Parameters, _stack: ExitStack) -> Answer:
    fields = _fields(parameters)
    interface = fields.text("interface")
    fields.done()
    if interface not in DESCRIPTIONS:
        raise _service_error("InterfaceNotFound", interface=interface)
    return Answer({"description": DESCRIPTIONS[interface]})


Call = Callable[[Helpers, Parameters, ExitStack], Answer]

CALLS: Final[Mapping[str, Call]] = {
    "org.varlink.service.GetInfo": _info,
    "org.varlink.service.GetInterfaceDescription": _description,
    "io.bpferry.Tap.Make": _make,
    "io.bpferry.Tap.Create": _create,
    "io.bpferry.Tap.Can": _can_tap,
    "io.bpferry.Tap.List": _list,
    "io.bpferry.Tap.Delete": _delete,
    "io.bpferry.Tap.Quota": _tap_quota,
    "io.bpferry.Bpf.Load": _load,
    "io.bpferry.Bpf.Can": _can_load,
    "io.bpferry.Bpf.Quota": _bpf_quota,
}
"""Every method of the interfaces, and what carries it out."""
