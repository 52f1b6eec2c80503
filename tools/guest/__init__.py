# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Linux guest that is small enough to boot without KVM, and what the host needs to talk to it.

On the host: build (kernel and initrd out of the distribution's own packages), netns (a network
namespace with a bridge, or with a multi-queue tap), console (ask the guest something), flows (have
packets sent, and find them again in the guest's record). In the guest: init, agent, card, packets,
qstats. In both: sending, echo.

Depends on: the standard library, failure, apt-get, dpkg-deb, iproute2, util-linux.
Never does: install a package, start QEMU, import bpferry, write outside its cache folder.
"""
