# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two privileged helpers, one per role.

Theory of operation. systemd starts a helper when somebody connects to its socket. The helper then
passes through four stages, in this order and never back:

1. adopt    (activation)  Take the listening socket that systemd opened; the role tap also takes
            two netlink sockets in the host's network namespace.
            Should:       check that each is of the right kind, that there are no others, and that
                          the listening socket is not open to everybody.
            Mustn't:      open a socket to listen on, or go on without one.
2. shrink   (privilege)   Hold exactly the capabilities of this role; do not be traceable.
            Should:       refuse to start with one capability more or less than listed there.
            Mustn't:      drop the role's capabilities: every load and every tap needs them.
3. serve    (server)      The only stage that reads bytes from a client, one packet at a time.
            Should:       decide by what the kernel says about the peer (identity) and what the
                          administrator allows (policy), count what is alive (bpf/ledger,
                          tap/census), and answer.
            Mustn't:      wait for anybody, keep an fd that a client sent, or open a client's path.
4. leave                  Exit after some idle minutes; the socket stays with systemd.
            Should:       leave every grant working: the helper is not in the data path.

A client names things; it never sends code, paths or flags. The role ``bpf`` gets the digest of an
object, finds that object in a QEMU that root installed (bpf/trust), loads it (bpf/loader) and
hands over the fds. The role ``tap`` makes a tap in its own network namespace (tap/nursery), moves
it to a bridge that policy allows (tap/permission, tap/maker) and hands over its queues. They are
two services because they need different privileges; ``privilege`` says what each is for.

Known holes, each explained where it is: a grant cannot be revoked (bpf/ledger); the state folder is
trusted as much as the helper itself (bpf/trust); a tap that its holder made persistent and then
closed stays until the next sweep (tap/census).

    cli         what the administrator and systemd type
    status      what is granted now, and what the policy means, for the administrator
    slurm       what Slurm may place on this host by that policy
    host_check  what on this host does not fit a policy
    attributes  how messages about links are laid out, without pyroute2
    learning    how many addresses a bridge may learn
    server      the loop that serves all clients
    requests    one request, from the packet to the answer
    pacing      whose request has to wait, and until when
    replies     replies and refusals on their way to a client
    connected   the clients that are connected, and which have to go
    bpf         the role that loads objects
    tap         the role that makes taps
    door        who is let in, as which account, and how many at a time
    disposal    how clients' sockets are closed without waiting
    connection  one client's connection
    role        what both roles do in the same way
    work        worker threads for slow jobs
    exchange    the interface between the loop and the service of a role
    activation  the sockets passed by systemd, and notifications to it
    policy      what the administrator allows
    memory      how much freed memory the process keeps
    privilege   the capabilities of each role, and how the process is locked down
    quota       how much may be alive at a time
    rate        how often a user may ask
    identity    who the peer is, according to the kernel
    clock       the clock for the age of grants
    log         lines for the journal
    errors      what ends the helper, or one request

Depends on: the standard library, bpferry_wire, msgpack (through bpferry_wire); bpf/ on libbpf.so.1,
tap/ on the message codecs of pyroute2.
Never does: run a program, send or receive network packets, parse more from a client than one short
packet at a time, or write outside its state folder.
"""
