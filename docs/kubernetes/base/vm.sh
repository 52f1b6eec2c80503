#!/bin/sh
# The pod's only process: bpferry, after this has made the VM's disk. The variables are the pod's, and
# so is the name: web-3 in a Job, lab-1 in a StatefulSet.
set -eu
mkdir -p -m 0700 "$XDG_RUNTIME_DIR"
[ -e "$DISK" ] || qemu-img create -q -f qcow2 -F qcow2 -b /images/debian.qcow2 "$DISK"
exec bpferry run --name "$(hostname)" --set "disk=$DISK" --stop-timeout 90 /vm/vm.toml
