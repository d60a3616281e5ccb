"""The conditions of a runner: what holds just now, why, and since when."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from tsched.model.records import dataclass
from tsched.model.units import count, format_duration, iso

Standing = Literal["True", "False", "Unknown"]


class Condition(TypedDict):
    """One condition as JSON shows it. `since`: when its status last changed, RFC 3339."""

    type: str
    status: Standing
    reason: str
    message: str
    observed_generation: int
    since: str


UNASKED = Condition(type="Verified", status="Unknown", reason="NotAsked", message="", observed_generation=0, since="")
SIGNED = "the newest commit is signed by "
_QUIET = {"Ready": "True", "Valid": "True", "Verified": "True"}


def notable(condition: Condition) -> bool:
    """Whether a person should look at it."""
    return condition["status"] not in ("Unknown", _QUIET.get(condition["type"], "False"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one pass saw. Times are seconds since the epoch; texts are words for a person, None where all is well.

    `verified`: None where no signature is asked for. `signer`: who signed the newest commit. `last_fetch`: when the
    remote last answered.
    `stale_after`: seconds without an answer after which what is applied counts as stale.
    """

    applied: str | None
    fetched: str | None
    fetch_error: str | None = None
    last_fetch: float | None = None
    stale_after: float = 900.0
    verified: bool | None = None
    signer: str = ""
    rejected: str | None = None
    held: str | None = None
    draining: Sequence[str] = ()  # agents
    suspended: Sequence[str] = ()  # pools
    over_limit: Sequence[str] = ()  # agents
    stopped: Sequence[str] = ()  # local stops in force, in words
    drained_here: Sequence[str] = ()  # agents under a local drain
    errors: Sequence[str] = ()  # of the pass itself, such as a task server that is down


def conditions(previous: Sequence[Condition], facts: Facts, *, generation: int, now: float) -> tuple[Condition, ...]:
    """Every condition, always all ten in the same order. `since` stays as it was while the status does."""
    before = {condition["type"]: condition for condition in previous}

    def since(kind: str, status: Standing) -> str:
        old = before.get(kind)
        return old["since"] if old is not None and old["status"] == status else iso(now)

    return tuple(
        Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            observed_generation=generation,
            since=since(kind, status),
        )
        for kind, status, reason, message in _judged(facts, now)
    )


def _judged(facts: Facts, now: float) -> Sequence[tuple[str, Standing, str, str]]:
    leaving = [*facts.draining, *(name for name in facts.drained_here if name not in facts.draining)]
    return (
        ("Ready", *_ready(facts)),
        ("Reconciling", *_listed(facts.draining, "DrainInProgress", "Settled", "agent", "not deleted yet")),
        ("FetchFailed", *_told(facts.fetch_error, "RemoteUnavailable", "RemoteAnswered")),
        ("Verified", *_verified(facts)),
        ("Valid", *_valid(facts)),
        ("Held", *_told(facts.held, "NeedsApproval", "NothingHeld")),
        ("Draining", *_listed(leaving, "AgentsDraining", "NoneDraining", "agent", "draining")),
        ("Suspended", *_suspended(facts)),
        ("Stale", *_stale(facts, now)),
        ("OverLimit", *_listed(facts.over_limit, "LimitLowered", "WithinLimits", "agent", "over the limit")),
    )


def _ready(facts: Facts) -> tuple[Standing, str, str]:
    if facts.applied is None:
        return "False", "NothingApplied", facts.fetch_error or facts.rejected or "no revision is applied yet"
    if facts.rejected is not None:
        return "False", "Rejected", f"{facts.rejected}; the last good revision {facts.applied[:12]} keeps running"
    if facts.held is not None:
        return "False", "Held", facts.held
    if facts.fetch_error is not None:
        return "False", "FetchFailed", facts.fetch_error
    if facts.errors:
        return "False", "PassFailed", facts.errors[0]
    words = f"revision {facts.applied[:12]} is applied"
    if facts.stopped or facts.drained_here:
        words += "; overridden on this host: see Suspended and Draining"
    return "True", "Applied", words


def _suspended(facts: Facts) -> tuple[Standing, str, str]:
    """An operator's stop comes first: it is what a person who wonders has to know."""
    in_git = _listed(facts.suspended, "PoolsSuspended", "NoneSuspended", "pool", "suspended")
    if not facts.stopped:
        return in_git
    return "True", "Stopped", "; ".join([*facts.stopped, *([in_git[2]] if in_git[2] else [])])


def _verified(facts: Facts) -> tuple[Standing, str, str]:
    if facts.verified is None:
        return "Unknown", "NotAsked", "no allowed signers are set, or no commit was looked at yet"
    if facts.verified:
        return "True", "Signed", f"{SIGNED}{facts.signer or 'an allowed signer'}"
    return "False", "NotSigned", facts.held or "the newest commit is not signed by an allowed signer"


def _valid(facts: Facts) -> tuple[Standing, str, str]:
    if facts.rejected is not None:
        return "False", "Rejected", facts.rejected
    if facts.fetched is None:
        return "Unknown", "NothingFetched", "no revision was read yet"
    return "True", "Accepted", f"revision {facts.fetched[:12]} keeps every rule"


def _stale(facts: Facts, now: float) -> tuple[Standing, str, str]:
    if facts.last_fetch is None:
        return "Unknown", "NeverFetched", "the remote has not answered yet"
    age = now - facts.last_fetch
    if age > facts.stale_after:
        return "True", "NoAnswer", f"the remote has not answered for {format_duration(float(round(age)))}"
    return "False", "Fresh", "the remote answered lately"


def _told(problem: str | None, bad: str, good: str) -> tuple[Standing, str, str]:
    return ("False", good, "") if problem is None else ("True", bad, problem)


def _listed(names: Sequence[str], some: str, none: str, noun: str, what: str) -> tuple[Standing, str, str]:
    if not names:
        return "False", none, ""
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return "True", some, f"{count(len(names), noun)} {what}: {shown}"
