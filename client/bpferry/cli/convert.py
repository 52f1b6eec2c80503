# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry convert: a libvirt domain document as a native description, and back."""

from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.domain.document import read_file, to_toml, to_xml
from bpferry.domain.variables import NOTHING, Given

METADATA: Final = "/domain/metadata/"
"""Others may need what is there; bpferry has no place for it."""


def convert(
    file: str,
    to: str | None,
    *,
    ignore_unsupported: bool,
    as_json: bool,
    given: Given = NOTHING,
) -> int:
    """Print *file*, with what is *given*, as the other kind of document, or as the kind *to*."""
    document = read_file(Path(file), given, ignore_unsupported=ignore_unsupported)
    for error in document.ignored:
        output.say(f"warning: {error.when_left_out()}")
    for one in document.passed_over:
        if one.place.element.startswith(METADATA):
            output.say(
                f"note: '{file}':{one.place.line}: '{one.place.element}' is not converted: "
                f"{one.reason}"
            )
    kind = to or ("toml" if document.kind == "xml" else "xml")
    text = to_toml(document.machine) if kind == "toml" else to_xml(document.machine)
    if as_json:
        left_out = [error.element for error in document.ignored]
        output.print_json({"format": kind, "text": text, "left_out": left_out})
    else:
        output.print_text(text.rstrip("\n"))
    return 0
