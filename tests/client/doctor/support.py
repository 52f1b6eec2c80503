# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts made of files, and findings by their names."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from bpferry.machine.doctor.finding import Finding
from bpferry.machine.host_files import HostFiles


def host(folder: Path, files: Mapping[str, str]) -> HostFiles:
    """Return a host with *files*, by their paths there; one that ends in a slash is a folder."""
    for name, text in files.items():
        path = folder / name.lstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return HostFiles(folder)


def named(findings: Iterable[Finding], name: str) -> Finding:
    """Return the only one of *findings* with this *name*."""
    [found] = [one for one in findings if one.name == name]
    return found
