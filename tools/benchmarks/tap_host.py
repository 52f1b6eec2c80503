# SPDX-License-Identifier: LGPL-2.1-or-later
"""What plays the host for the tap helper: bridges in a separate namespace.

One process holds the namespace, which goes away with it. The helper is started by four programs,
each of which executes the next. All but the first count in the time of a cold start; the rest of
the unit's sandbox is missing:

    nsenter,          into the network namespace with the bridges, and mounts with our /etc;
    activator         listens, and executes the next one when somebody connects
    unshare, setpriv  a new network namespace; a separate user, only CAP_NET_ADMIN
    python3           the helper
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from activation import activator
from activation.capabilities import drop_to
from benchmarks.activated import Place, activated_by, helper_command, make_place
from benchmarks.installed import PYTHON, install_copy
from benchmarks.yardstick import Yardstick, started_by
from guest.netns import Namespace, holder, open_tun

BRIDGES = ("br0", "br1", "br2", "br3")
"""One bridge has 1,024 ports at most (BR_MAX_PORTS, net/bridge/br_private.h)."""

FOLDER = Path(__file__).parent

MOUNTS = """
mount -t overlay -o "lowerdir=$1/etc:/etc" overlay /etc
mount --bind "$1/policy" /etc/bpferry
mount --bind "$1/qemu" /etc/qemu
mount -t sysfs sysfs /sys
"""
"""The host's /etc may not have such folders, and its /sys shows its own network."""

POLICY = """\
[users.root]
bridges = ["*"]
[quota]
taps-per-user = 1024
taps-in-total = 1024
taps-at-once = 1000
taps-per-second = 1000
taps-per-second-in-total = 1000
[service]
idle-exit-seconds = {idle_exit_s}
"""
"""A policy that does not slow down the bench. The client is root."""

DEFAULT_IDLE_EXIT_S = 300


@dataclass(frozen=True, slots=True)
class TapHost:
    """The namespaces, and the helper's folders."""

    space: Namespace
    place: Place

    @contextmanager
    def listening(self, idle_exit_s: int = DEFAULT_IDLE_EXIT_S) -> Iterator[int]:
        """Listen for the helper's first client; end the helper afterwards. Yield its process id."""
        policy = self.place.folder / "policy/policy.toml"
        policy.write_text(POLICY.format(idle_exit_s=idle_exit_s))
        with activated_by(self._command(), self.place) as pid:
            yield pid

    def _command(self) -> list[str]:
        return self.space.command([
            "setpriv", "--pdeathsig=KILL", "env", "MSGPACK_PUREPYTHON=1",
            PYTHON, "-I", "-S", "-B", activator.__file__, "--route", "--become", "--group=0",
            str(self.place.socket), "unshare", "--net", "--",
            *drop_to(self.place.role, self.place.uid), *helper_command(self.place),
        ])  # fmt: skip

    @contextmanager
    def bridge_helper(self) -> Iterator[Yardstick]:
        """Start what times qemu-bridge-helper on the first bridge, and end it afterwards."""
        script = str(FOLDER / "bridge_helper.py")
        argv = self.space.command([PYTHON, "-I", "-S", "-B", script, BRIDGES[0]])
        with started_by(argv, "qemu-bridge-helper") as yardstick:
            yield yardstick

    def add_foreign_links(self, count: int) -> None:
        """Add *count* foreign links (or one more), such as those of containers."""
        pairs = range((count + 1) // 2)
        lines = (f"link add here{pair} type veth peer name there{pair}\n" for pair in pairs)
        self.space.run(["ip", "-batch", "-"], text="".join(lines))


@contextmanager
def tap_host(folder: Path) -> Iterator[TapHost]:
    """Make a host with bridges, for a helper with its folders in *folder*."""
    place = make_place(folder, install_copy(folder), "tap")
    for name in ("etc/qemu", "policy", "qemu"):
        (folder / name).mkdir(parents=True)
    (folder / "qemu/bridge.conf").write_text(f"allow {BRIDGES[0]}\n")
    with holder() as pid:
        space = Namespace(pid, tap="")
        space.run(["sh", "-euc", MOUNTS, "sh", str(folder)])
        open_tun(space)
        space.run(["ip", "link", "set", "lo", "up"])
        for bridge in BRIDGES:
            space.run(["ip", "link", "add", bridge, "type", "bridge"])
            space.run(["ip", "link", "set", bridge, "up"])
        yield TapHost(space, place)
