# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helpers under AppArmor, which enforces their profiles on this host."""

from typing import Final

import pytest

from tests.vm.apparmor import PROBES, denials, unexpected
from tests.vm.freight import CLONE
from tests.vm.host import IN_THE_HOST, Host

pytestmark = [*IN_THE_HOST]

ROLES: Final = ("bpf", "tap")

POLICY: Final = "/etc/bpferry/policy.toml"

INSTALL: Final = f"{CLONE}/tools/install"
VENV: Final = "/usr/local/lib/bpferry/venv"

PROBE: Final = """
import errno, os, sys
what, path = sys.argv[1:]
try:
    if what == "read":
        open(path).close()
    elif what == "write":
        open(path, "w").close()
        os.unlink(path)
    elif os.fork() == 0:
        try:
            os.execv(path, [path, "-c", ""])
        except OSError as error:
            os._exit(error.errno)
    else:
        status = os.waitstatus_to_exitcode(os.wait()[1])
        if status:
            raise OSError(status, "failed")
    print("allowed")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
"""Python is what the profiles are for, and may read its own library; root may do all of it."""


def probe(host: Host, what: str, path: str, *properties: str) -> str:
    """Return what comes of it in a service with these *properties*."""
    return host.check(
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties,
        "/usr/bin/python3", "-I", "-S", "-B", "-c", PROBE, what, path,
    )  # fmt: skip


def ask_all(host: Host) -> None:
    """Let alice and root ask for all that the helpers do, each of which is started for it."""
    for role in ROLES:
        # Here, and not by the first request: an emulated processor needs long for it.
        host.check("systemctl", "restart", f"bpferry-{role}.service", timeout=120)
    loaded = host.check("python3", f"{CLONE}/tests/systemd/ask.py", "load", user="alice")
    assert "LoadReply" in loaded
    created = host.check("bpferry", "tap", "create", "br0", "--queues", "2", user="alice")
    tap = created.split("'")[1]
    assert tap in host.check("bpferry", "tap", "list", user="alice")
    assert "alice" in host.check("bpferry-helper", "status")
    host.check("bpferry", "tap", "delete", tap, user="alice")


@pytest.mark.parametrize("role", ROLES)
def test_helpers_have_their_profiles(role: str, host: Host) -> None:
    """The kernel enforces them."""
    ask_all(host)
    pid = host.check("systemctl", "show", "--property=MainPID", "--value", f"bpferry-{role}")

    assert f"bpferry-{role} (enforce)" == host.check("cat", f"/proc/{pid}/attr/current")


def test_nothing_that_the_helpers_do_is_denied(host: Host) -> None:
    """Also after the policy has changed, and when they start again; VMs are in test_vhost."""
    before = host.check("cat", POLICY)
    ask_all(host)
    host.write(POLICY, before + "\n\n[quota]\ntaps-per-user = 3\n")
    ask_all(host)
    host.write(POLICY, before + "\n")
    host.check("bpferry-helper", "check-policy")

    assert [] == unexpected(host)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("what", "path"), PROBES)
def test_profile_denies(what: str, path: str, role: str, host: Host) -> None:
    """Root may do it without the profile; with it, it is refused, and the kernel's log says so."""
    free = probe(host, what, path)
    bound = probe(host, what, path, "--property", f"AppArmorProfile=bpferry-{role}")

    assert ("allowed", "EACCES") == (free, bound)
    assert any(f'profile="bpferry-{role}"' in line and PROBES[what, path] in line
               for line in denials(host))  # fmt: skip


def test_uninstall_removes_the_profiles(host: Host) -> None:
    """From the kernel too; the next installation loads them again."""
    loaded = "/sys/kernel/security/apparmor/profiles"
    files = [f"/etc/apparmor.d/bpferry-{role}" for role in ROLES]
    policy = host.check("cat", POLICY)
    # This host has no network to fetch it from again.
    host.check("cp", "-a", VENV, "/root/venv")
    host.check(INSTALL, "--uninstall", timeout=120)
    without = host.check("cat", loaded)
    left = host.run("ls", *files).output
    host.check("mkdir", "-p", VENV.rpartition("/")[0])
    host.check("mv", "/root/venv", VENV)
    host.check(INSTALL, timeout=240)
    host.write(POLICY, policy + "\n")

    assert "bpferry" not in without
    assert "" == left
    assert "bpferry-bpf (enforce)" in host.check("cat", loaded)
