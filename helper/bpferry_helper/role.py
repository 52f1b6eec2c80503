# SPDX-License-Identifier: LGPL-2.1-or-later
"""What both roles do in the same way: introduce themselves, and apply the current policy."""

from bpferry_helper.errors import PolicyError, RequestError
from bpferry_helper.exchange import Answer
from bpferry_helper.identity import Peer
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.rules import Decision, Policy
from bpferry_helper.rate import FairPace, TokenBuckets
from bpferry_wire import VERSION, limits, messages
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.packets import OPS


def hello(role: str, peer: Peer) -> Answer:
    """Tell *peer* who we are, and who we take it for."""
    caller = messages.Caller(peer.uid, peer.shown, peer.group_count)
    reply = messages.HelloReply(
        role, VERSION, caller, limits.MAX_REQUEST_BYTES, limits.MAX_FDS_PER_REPLY
    )
    return Answer(reply)


def usable_policy(file: PolicyFile) -> Policy:
    """Return the policy in force.

    Raises:
        RequestError: refused, if the file has a mistake.
    """
    try:
        return file.current()
    except PolicyError as error:
        raise RequestError(
            Code.REFUSED,
            f"nothing is granted while the policy has a mistake: {error}",
            "the administrator can find it with: bpferry-helper check-policy",
        ) from error


def check_allowed(
    decision: Decision, peer: Peer, action: str, policy: Policy, code: Code = Code.REFUSED
) -> None:
    """Raise RequestError with *code* unless *decision* lets *peer* do *action*."""
    if not decision.allowed:
        raise RequestError(
            code,
            f"{peer.who} may not {action}: {decision.because}",
            f"ask the administrator to allow it in {policy.path}",
        )


def cannot(error: RequestError) -> messages.CanReply:
    """Return the answer to ``can`` about a request that *error* would be the answer to."""
    return messages.CanReply(allowed=False, because=str(error), code=error.code)


def check_pace(
    buckets: TokenBuckets, peer: Peer, things: str, at_once: int, per_second: int
) -> None:
    """Raise RequestError, busy, if *peer* has asked for too many *things* recently."""
    wait_s = buckets.take(peer.uid, at_once, per_second)
    if wait_s:
        raise RequestError(
            Code.BUSY,
            f"{peer.who} has asked for more than {at_once} {things} at once and "
            f"{per_second} a second",
            f"try again in {wait_s:.1f} s",
        )


def check_fair_pace(pace: FairPace, peer: Peer, things: str) -> None:
    """Raise RequestError, busy, if *peer* asks for too many *things* while others do too."""
    wait_s = pace.take(peer.uid)
    if wait_s:
        raise RequestError(
            Code.BUSY,
            f"{peer.who} has asked for too many {things}, and so have others",
            f"try again in {wait_s:.1f} s",
        )


def check_is_root(peer: Peer) -> None:
    """Raise RequestError, refused, unless *peer* is uid 0, which can see everything anyway."""
    if peer.uid != 0:
        raise RequestError(Code.REFUSED, "only uid 0 may see who holds what", "ask with sudo")


def not_here(role: str, request: messages.Request) -> BadMessage:
    """Return the error for a request that the other role answers."""
    op = OPS[type(request)]
    return BadMessage(f"the helper '{role}' has no operation '{op}'", Code.UNKNOWN_OP)
