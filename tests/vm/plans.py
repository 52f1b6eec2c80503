# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``bpferry run --dry-run`` says in the host."""

import json
from typing import Any

from tests.vm.host import Done, Host


def dry_run(host: Host, document: str, user: str = "alice") -> Done:
    """Ask for the plan of *document*."""
    return host.run("bpferry", "run", "--dry-run=json", document, user=user)


def plan_of_card(host: Host, document: str, user: str = "alice") -> dict[str, Any]:
    """Return the plan of the one card of *document*."""
    done = dry_run(host, document, user)
    assert done.status == 0, done.output + done.errors
    (card,) = json.loads(done.output)["nics"]
    assert isinstance(card, dict)
    return card
