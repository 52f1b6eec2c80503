# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs as jobs of a cluster: Slurm on booted nodes of one machine."""
