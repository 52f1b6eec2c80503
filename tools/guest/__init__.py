# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Linux guest that is small enough to boot without KVM, and the host's tools to talk to it.

On the host: build (kernel and initrd from the distribution's packages), netns (a network namespace
with a bridge or a multi-queue tap), console (send commands to the guest), flows (send packets and
find them in the guest's record). In the guest: init, agent, card, packets, qstats. In both:
sending, echo.

Depends on: the standard library, failure, apt-get, dpkg-deb, iproute2, util-linux.
Never does: install a package, start QEMU, import bpferry, write outside its cache folder.
"""
