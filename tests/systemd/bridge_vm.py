# SPDX-License-Identifier: LGPL-2.1-or-later
"""A user's VM on a bridge of a booted system with bpferry installed; this runs inside it, as root.

    bridge_vm.py USER BRIDGE

Lets USER start a domain document with an interface on BRIDGE, four queues and RSS, looks at what
the administrator sees meanwhile, and stops the VM. Prints one JSON object.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

DOCUMENT: Final = """
<domain type='qemu'>
  <name>bridged</name>
  <memory unit='MiB'>64</memory>
  <vcpu>4</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <interface type='bridge'>
      <source bridge='{bridge}'/>
      <model type='virtio'/>
      <driver queues='4' rss='on'/>
    </interface>
  </devices>
</domain>
"""

PATIENCE_S: Final = 20.0


def printed(*command: str) -> str:
    """Return what *command* prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def wait_for_grants(process: "subprocess.Popen[str]") -> None:
    """Return when there is a set and a tap, or *process* has ended, or at last."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        seen = printed("bpferry-helper", "status")
        if " rss " in seen and " bft" in seen:
            return
        time.sleep(0.1)


def start(user: str, description: Path) -> "subprocess.Popen[str]":
    """Start the VM as *user* with all of their groups."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]
    run = ["bpferry", "run", "--json", "--require-ebpf", str(description)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*become, "--", *run],
        stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd="/",
    )  # fmt: skip


def stop(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """End the VM, if it still runs; return what was printed and said."""
    # The firmware ignores the power button; the second signal ends QEMU.
    for _ in range(2):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            # Two within a second are for the same wish.
            time.sleep(1.5)
    return process.communicate(timeout=PATIENCE_S)


def main(user: str, bridge: str) -> None:
    """Do it, and print what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        description = Path(folder, "bridged.xml")
        description.write_text(DOCUMENT.format(bridge=bridge))
        process = start(user, description)
        wait_for_grants(process)
        meanwhile = printed("bpferry-helper", "status")
        ports = json.loads(printed("ip", "-json", "link", "show", "master", bridge))
        output, said = stop(process)
    seen = {
        "status": process.returncode,
        "run": output,
        "said": said,
        "meanwhile": meanwhile,
        "ports": [port["ifname"] for port in ports],
        "after": printed("bpferry-helper", "status"),
    }
    print(json.dumps(seen))  # noqa: T201 - the output


if __name__ == "__main__":
    main(*sys.argv[1:])
