# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fuzz one target, led by coverage, until so many inputs were tried or one is wrong.

    python3 -m tests.fuzz TARGET RUNS FOLDER

FOLDER gets what led to new code (``corpus``), and the input that is wrong. It ends with the number
of inputs on standard error ("Done N runs"), or with a traceback and another status than 0.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["bpferry", "bpferry_helper", "bpferry_wire"]):
    from tests.fuzz.seeds import REPOSITORY, seeds, words
    from tests.fuzz.targets import SCRATCH, TARGETS

MOST_BYTES: Final = 65_536
SLOW_S: Final = 10
"""An input that takes longer is wrong: whoever reads it could be held up."""
MOST_MIB: Final = 2048


def main(target: str, runs: str, place: str) -> None:
    """Fuzz; never returns."""
    folder = Path(place)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    found = REPOSITORY / "tests/fuzz/found" / target
    _write(corpus, [*seeds(target), *(path.read_bytes() for path in sorted(found.glob("*")))])
    dictionary = folder / "words"
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in words(target))
    dictionary.write_text("".join(f'"{line}"\n' for line in lines))
    SCRATCH.mkdir(mode=0o700)
    try:
        atheris.Setup(
            [
                sys.argv[0], str(corpus), f"-runs={runs}", f"-dict={dictionary}",
                f"-max_len={MOST_BYTES}", f"-timeout={SLOW_S}", f"-rss_limit_mb={MOST_MIB}",
                f"-artifact_prefix={folder}/",
            ],
            TARGETS[target],
        )  # fmt: skip
        atheris.Fuzz()
    finally:
        shutil.rmtree(SCRATCH)


def _write(corpus: Path, inputs: Iterable[bytes]) -> None:
    for number, content in enumerate(inputs):
        (corpus / f"seed-{number:04}").write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
