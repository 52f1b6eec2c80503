# SPDX-License-Identifier: LGPL-2.1-or-later
"""The value of one option in its two forms: what it says, and how it is changed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.launcher.properties import NotUnderstoodError, read_properties
from bpferry.launcher.typed import to_json

TYPES = {"mq": "bool", "vectors": "uint32", "mac": "str", "disable-legacy": "OnOffAuto"}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("tap,id=n0", "type", "tap"),
        ("type=tap,id=n0", "type", "tap"),
        ("tap,ifname=a,,b,id=n0", "ifname", "a,b"),
        ("tap,ifname=a=b", "ifname", "a=b"),
        ("a,,b,id=n0", "type", "a,b"),
        ("tap,id=n0,id=n1", "id", "n1"),
        ("tap,vhost", "vhost", "on"),
        ("tap,novhost", "vhost", "off"),
        ("tap,", "type", "tap"),
        ("tap,id=", "id", ""),
        ('{"type":"tap", "id" : "n0"}', "id", "n0"),
        ('{ "type":"tap","fds":["a","b"] }', "fds", ["a", "b"]),
    ],
)
def test_a_property_is_read_as_qemu_reads_it(text: str, key: str, value: object) -> None:
    """With doubled commas, flags, repeated keys, and a first word whose key is implied."""
    found = read_properties(text, "type")

    assert (value, text) == (found.get(key), found.text)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"tap"', '{"type":"tap",}', '{"type":"tap"} x', "{'type':'tap'}", "{", "{type}",
        '{"id":"a","id":"b"}', "tap,,x,=a", "tap,,,", "tap,a,,b", '{"a":' * 5000,
    ],
)  # fmt: skip
def test_what_has_neither_form_is_not_understood(text: str) -> None:
    """And raises nothing else. A key that JSON names twice is an error in QEMU too."""
    try:
        found = read_properties(text, "type")
    except NotUnderstoodError:
        return

    # These are odd, and QEMU takes them.
    assert (found.text, found.is_json) == (text, False)


@pytest.mark.parametrize(
    ("text", "values", "changed"),
    [
        ("tap,id=n0", {"fds": "3:4"}, "tap,id=n0,fds=3:4"),
        ("bridge,id=n0", {"type": "tap", "vhost": True}, "tap,id=n0,vhost=on"),
        ("id=n0,type=bridge", {"type": "tap"}, "id=n0,type=tap"),
        ("a,x=1,y=2,x=3", {"x": 4}, "a,y=2,x=4"),
        ("tap,", {"id": "a,b"}, "tap,id=a,,b,"),
        ('{"a" : 1, "b":2}', {"a": 5}, '{"a":5, "b":2}'),
        ('{"a" : 1 , "b":2 }', {"c": [True]}, '{"a" : 1 , "b":2,"c":[true] }'),
    ],
)
def test_only_what_changes_is_written(text: str, values: dict[str, object], changed: str) -> None:
    """A value stays where its key was, a new one comes last, and the rest stays as it was."""
    assert changed == read_properties(text, "type").with_values(values).text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("tap,br=b,id=n", "tap,id=n"),
        ("br=b,id=n", "id=n"),
        ('{"br":"b", "id":1}', '{"id":1}'),
        ('{"id":1, "br":"b" }', '{"id":1 }'),
    ],
)
def test_what_is_taken_out_leaves_no_comma(text: str, left: str) -> None:
    """Whether it came first, between, or last."""
    assert left == read_properties(text, "type").without("br").text


@given(st.text(st.characters(codec=None), max_size=40))
def test_any_text_comes_out_as_it_came_in(text: str) -> None:
    """What was not changed is written as it was read, also bytes that are not UTF-8."""
    try:
        found = read_properties(text, "type")
    except NotUnderstoodError:
        return

    assert text == found.text
    assert text == found.without("no such key").text


@given(
    st.dictionaries(
        st.from_regex("[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(lambda key: key[:2] != "no"),
        st.text(st.characters(exclude_characters="\0", codec=None), max_size=12),
        max_size=6,
    )
)
def test_what_is_written_is_read_again(values: dict[str, str]) -> None:
    """In both forms, whatever is in the values."""
    for text in ("first", '{"first":1}'):
        read = read_properties(text, "driver").with_values(values)
        again = read_properties(read.text, "driver")

        assert values == {key: again.get(key) for key in values}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "virtio-net-pci,mq=on,vectors=0x10,mac=52:54:00:00:00:01,addr=06.1,id=a",
            {"driver": "virtio-net-pci", "mq": True, "vectors": 16, "mac": "52:54:00:00:00:01",
             "addr": "06.1", "id": "a"},
        ),
        ("d,disable-legacy=on,vectors=010", {"driver": "d", "disable-legacy": "on", "vectors": 8}),
        ("d,mq=off,mq=yes,vectors=10", {"driver": "d", "mq": True, "vectors": 10}),
    ],
)  # fmt: skip
def test_in_json_each_property_has_its_type(text: str, expected: dict[str, object]) -> None:
    """Numbers in all forms that QEMU takes, truth values, and texts that look like either."""
    assert expected == json.loads(to_json(read_properties(text, "driver"), TYPES).text)


@pytest.mark.parametrize("text", ["d,x-new=1", "d,mq=perhaps", "d,vectors=many", "d,vectors=09"])
def test_a_value_without_a_type_cannot_be_json(text: str) -> None:
    """A property that the QEMU does not list, or a value that is not of its type."""
    with pytest.raises(NotUnderstoodError):
        to_json(read_properties(text, "driver"), TYPES)
