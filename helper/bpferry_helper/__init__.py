# SPDX-License-Identifier: LGPL-2.1-or-later
"""The small programs that hold a privilege, one for each role, and what they do with it.

Theory of operation. A helper is started by systemd when somebody connects to its socket, and passes
through four stages, in this order and never back:

1. adopt    (activation)  Take the listening socket that systemd opened; the role tap also takes a
            netlink socket of the host's network namespace.
            Should:       make sure that there is no other, of the right kind, not open to all.
            Mustn't:      listen on a socket of its own, or go on without one.
2. shrink   (privilege)   Hold exactly the capabilities of this role; be closed to tracers.
            Should:       refuse to start with one capability more or less than named there.
            Mustn't:      drop the role's capabilities: each load and each tap needs them again.
3. serve    (server)      The only stage that reads bytes from a client, one packet at a time.
            Should:       decide on the kernel's word about the peer (identity) and on the
                          administrator's (policy), count what is alive (bpf/ledger,
                          tap/census), and answer.
            Mustn't:      wait for anybody, keep an fd that a client sent, or open a path of theirs.
4. leave                  Exit after some idle minutes; the socket stays with systemd.
            Should:       leave every grant working: nothing here is in the data path.

A client names things; it never sends code, paths or flags. The role ``bpf`` finds the object that
a client names by its digest in a QEMU that root installed (bpf/trust), loads it (bpf/loader) and
hands the fds over. The role ``tap`` makes a tap in its own network namespace (tap/nursery), moves
it to a bridge that policy allows (tap/permission, tap/maker) and hands its queues over. They are
two services, since they hold two privileges; privilege says what each is needed for.

Known holes, tolerable for the reasons named where they are: a grant cannot be taken back
(bpf/ledger); the state folder is trusted as much as the helper itself (bpf/trust); a tap that its
holder made persistent and left stays until the next sweep (tap/census).

    cli         what the administrator and systemd type
    status      what is granted now, and what the policy means, for the administrator
    server      the loop that serves everybody
    bpf         the role that loads objects
    tap         the role that makes taps
    connection  one client's connection
    role        what both roles do alike
    work        the threads for what takes time
    exchange    what the loop and the service of a role say to each other
    activation  the sockets that systemd opened, and what it is told
    policy      what the administrator allows
    privilege   the capabilities of each role, and the process closed around them
    quota       how much may be alive
    rate        how much may be asked for in a time
    identity    who the peer is, as the kernel says
    clock       the clock that grants are dated by
    log         lines for the journal
    errors      what ends the helper, or one request

Depends on: the standard library, bpferry_wire, msgpack (through bpferry_wire); bpf/ on libbpf.so.1,
tap/ on the message codecs of pyroute2.
Never does: run a program, send or receive a packet of the network, parse more of a client than one
short packet, or write outside its state folder.
"""
