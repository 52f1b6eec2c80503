# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing in a document becomes an option of QEMU's: each text stays the one value that it is.

A text is put into one place of a whole document, and the command line is held against that of a
harmless text in the same place. The two have to be the same but for the text itself, or the
document is refused.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bpferry.commandline.build import Built, build
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Companion, Option
from bpferry.domain.binding import PATHS, Table
from bpferry.domain.checks import find_mistakes
from bpferry.domain.conversion import convert
from bpferry.domain.document import read_bytes, read_file, to_toml, to_xml
from bpferry.domain.explain import look_up
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of
from bpferry.domain.origins import Origins
from bpferry.domain.shape import fields_of
from bpferry.errors import BpferryError
from bpferry.qemu.defaults import machine_type_of
from bpferry.steering.plan import HostFacts, plan_card
from tests import documents
from tests.client.support import OWNER
from tests.support.golden import capabilities_of

DOCUMENTS: Final = (Path(__file__).parent / "large.xml", *documents.ALL)

HARMLESS: Final = "harmless"

OWN: Final = ("qemu-arguments", "qemu-environment")
"""What the user passes to QEMU as it is, on purpose."""

WHOLE: Final = ("-append", "-kernel", "-initrd", "-dtb", "-shim", "-bios", "-uuid")
"""Options whose value QEMU takes as one text, commas and all."""

DERIVED: Final = ("name", "uuid", "alias")
"""What other things are called after, such as folders, MACs and ids."""

NASTY: Final = (
    "x,readonly=on,,id=y,",
    "-device",
    '"}{"driver":"usb-mtp","rootdir":"/"}',
    'json:{"driver":"file","filename":"/etc/shadow"}',
    "exec:%s%n%61\\n\\u000a\\;`id`$(id)|&'<>\u202e\U0001f4a3\u00e9\u0663 \u00a0=@/?#",
)

BAD: Final = ("a\nb", "a\rb", "a\tb", "a\x00b", "a\x1b[2Jb", "a\x7fb")
"""What no text may hold."""


@cache
def machine_of(path: Path) -> Machine:
    """Return the VM of the document *path*, without the words that are QEMU's own."""
    machine = read_file(path).machine
    return msgspec.structs.replace(machine, qemu_arguments=(), qemu_environment=())


def places_of(table: Table, prefix: str = "") -> Iterator[str]:
    """Yield the key of each text of *table*, also of those that are not there yet."""
    for bound in fields_of(type(table)):
        value = getattr(table, bound.name)
        key = f"{prefix}{bound.key}"
        if bound.table is not None:
            for index, single in enumerate(value if bound.many else [value]):
                if single is not None:
                    yield from places_of(single, f"{key}[{index}]." if bound.many else f"{key}.")
        elif bound.scalar is str and not bound.choices:
            yield from (f"{key}[{index}]" for index in range(len(value))) if bound.many else (key,)


def all_places() -> Iterator[tuple[Path, str]]:
    """Yield each document with each key of a text that no document before it has."""
    seen: set[str] = set()
    for path in DOCUMENTS:
        new = [key for key in places_of(machine_of(path)) if key not in seen]
        seen.update(new)
        yield from ((path, key) for key in new)


PLACES: Final = tuple(all_places())


def with_text(machine: Machine, key: str, text: str) -> Machine:
    """Return *machine* with *text* at *key*.

    Raises:
        ValidationError: the model does not allow it there.
    """
    plain = msgspec.json.decode(msgspec.json.encode(machine))
    head, _, last = key.rpartition(".")
    around: Any = look_up(plain, head) if head else plain
    name, bracket, index = last.partition("[")
    if bracket:
        around[name][int(index.rstrip("]"))] = text
    else:
        around[name] = text
    # What is null is not there: a document has no word for it.
    return convert({name: value for name, value in plain.items() if value is not None})


def command_line(machine: Machine) -> Built:
    """Return what *machine* becomes, each fd under its name."""
    known = capabilities_of("10.0.2")
    plans = {
        device.id: plan_card(device, known, HostFacts(), default_rss=machine.default_rss)
        for device in cards_of(machine)
    }
    bare = Context(
        machine=machine,
        capabilities=known,
        accelerator=Accelerator.TCG,
        plans=plans,
        owner=OWNER,
        folders=Folders(runtime="/run/user/7/bpferry/vm", state="/home/u/bpferry/vm"),
        fd=str,
        machine_type=machine_type_of(machine, known.arch),
    )
    completed = complete(bare)
    built = build(replace(bare, machine=completed.machine))
    for refusal in (*completed.refusals, *built.refusals):
        raise refusal.error
    return built


def read_again(machine: Machine, form: str) -> Machine:
    """Return *machine* after a way through a document of *form*."""
    text = to_xml(machine) if form == "xml" else to_toml(machine)
    return read_bytes(text.encode(), Path(f"/vms/vm.{form}")).machine


def built_with(path: Path, key: str, text: str, form: str = "") -> Built | None:
    """Return the command line with *text* at *key*; None if it is refused."""
    try:
        machine = with_text(machine_of(path), key, text)
        if any(find_mistakes(machine, Origins(path))):
            return None
        return command_line(read_again(machine, form) if form else machine)
    except (msgspec.ValidationError, BpferryError):
        return None


@cache
def harmless(path: Path, key: str, text: str) -> Built | None:
    """Return the command line with a text at *key* that means nothing."""
    return built_with(path, key, text)


def leaves(option: str, word: str) -> list[tuple[str, str]]:
    """Return the values of a word of a command line, each with the way to it."""
    if option in WHOLE:
        return [("", word)]
    if word.startswith("{"):
        return list(_of_json(json.loads(word), ""))
    found = []
    for item in word.replace(",,", "\0").split(","):
        name, equals, value = item.replace("\0", ",").partition("=")
        found.append((name, value) if equals else ("", name))
    return found


def _of_json(value: object, way: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, single in value.items():
            yield from _of_json(single, f"{way}.{name}")
    elif isinstance(value, list):
        for index, single in enumerate(value):
            yield from _of_json(single, f"{way}[{index}]")
    else:
        yield way, str(value)


def shape_of(built: Built) -> list[tuple[str, list[str]]]:
    """Return the words of a command line without any value: options, and the ways in each."""
    return [(option, [way for way, _ in leaves(option, word)]) for option, word in words_of(built)]


def words_of(built: Built) -> list[tuple[str, str]]:
    """Return each word with the option before it; an option itself comes with nothing.

    QEMU takes the word after an option that has a value as the value, whatever it is
    (system/vl.c, lookup_opt).
    """
    flags = {option.name for option in built.of(Option) if option.value is None}
    words = []
    waiting = ""
    for word in built.argv[1:]:
        if waiting:
            words.append((waiting, word))
            waiting = ""
        else:
            words.append((word, ""))
            waiting = "" if word in flags else word
    return words


def beside(built: Built) -> list[tuple[str, list[str]]]:
    """Return the options of the processes beside QEMU, without their values."""
    return [
        (companion.name, [word.partition("=")[0] for word in companion.argv[1:]])
        if companion.name != "swtpm"
        else (companion.name, [str(len(companion.argv))])
        for companion in built.of(Companion)
    ]


def is_only_the_text(one: str, other: str, harmless_text: str, text: str) -> bool:
    """Say whether *other* is *one* with *text* for the harmless one: as it is, or in a URL.

    Two strokes in a path are one.
    """
    expected = one.replace(harmless_text, text)
    return other in (one, expected) or PurePath(unquote(expected)) == PurePath(unquote(other))


def check(path: Path, key: str, text: str, form: str = "") -> None:
    """See that *text* at *key* changes no more than itself."""
    harmless_text = usual(key)
    built = built_with(path, key, fit(key, text), form)
    expected = harmless(path, key, harmless_text)
    if built is None or expected is None:
        return
    assert shape_of(expected) == shape_of(built)
    assert beside(expected) == beside(built)
    if key.rpartition(".")[2] in DERIVED:
        return
    for (option, one), (_, other) in zip(words_of(expected), words_of(built), strict=True):
        for (_, left), (_, right) in zip(leaves(option, one), leaves(option, other), strict=True):
            assert is_only_the_text(left, right, harmless_text, fit(key, text))


@cache
def form_at(key: str) -> object:
    """Return the form of the field at *key*."""
    table: type[Table] = Machine
    form: object = None
    for step in key.split("."):
        bound = next(b for b in fields_of(table) if b.key == step.partition("[")[0])
        form = bound.at.form
        table = bound.table or table
    return form


def usual(key: str) -> str:
    """Return a harmless text of the kind that is at *key*."""
    return fit(key, HARMLESS)


def fit(key: str, text: str) -> str:
    """Return *text* such that it gets as far as it can: a path, or an id that the user chose."""
    if form_at(key) in PATHS:
        return f"/srv/{text}"
    return f"ua-{text}" if key.endswith("alias") else text


@pytest.mark.parametrize("text", NASTY)
def test_each_place_with_each_text(text: str) -> None:
    """No text of any field gets out of its place."""
    for path, key in PLACES:
        check(path, key, text)


@settings(max_examples=100, deadline=None)
@given(
    place=st.sampled_from(PLACES),
    text=st.text(st.sampled_from("ab,=-\"'{}[]:;%$\\/.\u00e9\u202e "), min_size=1, max_size=12),
    form=st.sampled_from(("xml", "toml")),
)
def test_any_text(place: tuple[Path, str], text: str, form: str) -> None:
    """As above, with texts and a way into the model that nobody has thought of."""
    if text == text.strip():
        check(*place, text, form)


@pytest.mark.parametrize("text", BAD)
def test_control_characters(text: str) -> None:
    """No text of any field may hold them, but for lines of what is for people alone."""
    allowed = ["description"] if text in ("a\nb", "a\tb") else []
    accepted = [key for path, key in PLACES if built_with(path, key, fit(key, text))]

    assert allowed == accepted


def test_most_places_are_tried() -> None:
    """The documents have a place for most texts of the model, and most harmless ones are taken."""
    tried = {key for path, key in PLACES if harmless(path, key, usual(key)) is not None}

    assert len(tried) > len({key for _, key in PLACES}) / 3


@pytest.mark.parametrize(
    "break_out",
    [
        lambda built, text: (*built.argv, "-device", text),
        lambda built, text: (*built.argv, f"-drive=file={text}"),
    ],
)
def test_shape_sees_more_words(break_out: Callable[[Built, str], tuple[str, ...]]) -> None:
    """A command line with one more word has another shape."""
    built = command_line(machine_of(DOCUMENTS[0]))

    broken = replace(built, argv=break_out(built, "x"))

    assert shape_of(built) != shape_of(broken)
