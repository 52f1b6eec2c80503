# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM, from its first process to its last.

    creation      a new VM from an image
    draft         what a description becomes on this host: plan and command line, nothing opened
    verdict       all there is to say before a VM is started
    hindrances    what keeps a VM from starting, found beforehand
    permissions   whether the helpers would give the cards what they need
    preparation   what QEMU needs to start, opened: fds, sockets, files, companions
    emulator      which QEMU it is, and what that can do
    saved         the file of a saved VM
    arrival       how a VM goes on that is not booted
    incoming      start a VM where it was saved
    differences   which devices were plugged in and taken out since its start
    migration     a package: a VM that moves to another host
    starting      QEMU's start, before the supervisor is imported
    supervisor    QEMU's parent, for as long as it runs
    control       a package: commands to a VM that runs, and its answers
    control_socket where they arrive
    own_vms       the descriptions of the user's VMs, by name
    user_manager  the user's own systemd, and its unit for each VM
    journal       what was said about a VM under that systemd
    log_file      what was said about one in the foreground
    service_manager what systemd is told of a VM that is a service
    stopping      how a VM is stopped: through its guest, and harder if that takes too long
    card_watch    what is seen of a card's steering, compared with its plan
    qemu_output   what QEMU writes on its standard error
    ending        how QEMU ended, in words for people
    complaints    where in the document QEMU's complaint about a start has its cause
    remedies      what can be done about such a complaint
    endpoints     where users and programs connect to a VM that runs
    serials       its serial ports, and where each one is
    guest_agent   what the agent in a guest says of its addresses
    guest_addresses how to reach the guest: its addresses, its ssh
    pictures      pictures of a guest's screen
    lint          what is wrong with a design, or could be better, before anything is started
    card_lint     the same for each card
    steering_lint the same for what is planned for the cards
    session_lint  what libvirt's session mode would make of the cards
    faults        one finding about a design
    host          what the plan has to know about this host
    identity      which host this is and who the user is, for addresses that are made
    absent_media  CDs that need not be there
    card_fds      what is behind the cards: taps, eBPF sets, vhost
    folders       where the VM's own files are
    lock_folders  whether its name can be locked
    name_lock     one running VM of each name
    files         files that have to exist
    images        the image files behind the disks, and how QEMU will use each
    image_formats whether they are in the formats that the document says
    image_locks   whether another process has them locked
    image_twins   whether two disks use one image
    character_sources what character devices use: devices, pipes, sockets
    servers       whether processes listen to which QEMU connects for disks and cards
    host_memory   whether the host has as much memory as the guest may use
    bridge_state  whether the bridges of the cards carry frames
    huge_pages    whether the host has enough of them
    access        what this user may not write to
    ports         whether ports and sockets are free
    programs      programs that have to be installed
    exposure      what the network can reach without a password
    open_files    how many files may be open at once
    processes     which process has a file locked or a port taken
    uefi_files    files of a UEFI firmware, which have to fit together
    uefi_access   whether QEMU can use them as the description says
    making        whether the files and folders that the VM needs can be made
    listening     sockets that bpferry listens on for QEMU
    socket_paths  sockets whose paths are too long
    own_sockets   sockets that QEMU makes itself
    output_files  files that QEMU writes to
    device_nodes  device nodes that QEMU uses
    secrets       passwords and keys, read from files and handed over in memory
    certificates  certificates with which VNC and SPICE use TLS
    secret_map    a file that says where secrets are
    processors    processors of the guest that are plugged in before it runs
    pinning       which processors of the host QEMU's threads run on
    limits        how much QEMU may take of the host, set by the user's systemd
    in_force      whether the kernel has these limits
    registration  in the list of the user's machined, for machinectl
    host_devices  devices of the host that the guest gets
    usb_devices   those on USB
    vfio_devices  those on PCI, and mediated ones
    paths         whether there is something at a path, also in a closed folder
    host_files    the files in which the kernel lists them
    locked_memory how much memory QEMU may lock for them
    companions    the processes beside QEMU, such as swtpm
    companion_watch the same while QEMU runs: their output read, their end told
    console       the guest's serial console on our standard streams
    refusals      what is refused, with its places
    reporter      who is told what happens
    doctor        whether this host is ready for a VM, or for any

Depends on: errors, domain, network, qemu, steering, commandline.
Never does: leave a process, a socket, an fd, or a terminal in another mode behind.
"""
