# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a real QEMU for its eBPF object, in plain QMP without the client's code."""

import base64
import json
import subprocess
from functools import cache
from typing import IO, Any

from tests import requires


@cache
def rss_object() -> bytes:
    """Return what ``request-ebpf`` of the installed QEMU gives for "rss"."""
    command = [
        requires.qemu(), "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        answers = []
        for line in (
            {"execute": "qmp_capabilities"},
            {"execute": "request-ebpf", "arguments": {"id": "rss"}},
            {"execute": "quit"},
        ):
            process.stdin.write(json.dumps(line).encode())
            process.stdin.flush()
            answers.append(_answer(process.stdout))
        process.communicate(timeout=20)
    return base64.b64decode(answers[1]["object"])


def _answer(lines: IO[bytes]) -> dict[str, Any]:
    """Return the next answer, passing over events."""
    for line in lines:
        message: dict[str, Any] = json.loads(line)
        if "event" not in message:
            answer: dict[str, Any] = message["return"]
            return answer
    raise AssertionError("QEMU ended without an answer")
