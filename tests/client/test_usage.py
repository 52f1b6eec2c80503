# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said to those who mistype a command or an option."""

import pytest

from bpferry.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lsit"], "did you mean 'list'? See: bpferry --help"),
        (["doktor"], "did you mean 'doctor'? See: bpferry --help"),
        (["tap", "creat"], "did you mean 'create'? See: bpferry tap --help"),
        (["check", "--jsno", "x"], "did you mean '--json'? See: bpferry check --help"),
        (["run", "--secert=a=b", "x"], "did you mean '--secret'? See: bpferry run --help"),
        (["run", "--dry-run=txt", "x"], "did you mean 'text'? See: bpferry run --help"),
        (["frobnicate"], "see: bpferry --help"),
        (["run", "--frobnicate", "x"], "see: bpferry run --help"),
        (["check"], "see: bpferry check --help"),
    ],
)
def test_a_word_that_is_nearly_right_is_named(
    words: list[str], hint: str, capsys: Captured
) -> None:
    """Nothing is guessed for a word that is like no other, or for one that is missing."""
    assert main(words) == 2

    assert f"bpferry: hint: {hint}\n" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_told_without_all_that_do(capsys: Captured) -> None:
    """The list is in the help."""
    main(["lsit"])

    assert "bpferry: error: wrong usage: there is no command 'lsit'\n" in capsys.readouterr().err


def test_two_options_that_are_nearly_right_are_both_named(capsys: Captured) -> None:
    """In the order in which they were given."""
    main(["check", "--jsno", "--secert", "x"])

    assert "did you mean '--json', '--secret'? See" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["", "it's", "two words", "\udc80", "('x')", "a (choose from b)"])
def test_a_strange_word_is_refused_as_well(word: str, capsys: Captured) -> None:
    """It is only wrong usage, whatever is in it."""
    assert main([word]) == 2

    assert "wrong usage" in capsys.readouterr().err
