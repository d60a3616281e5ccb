"""How long somebody who does not answer is left in peace, and when a person is told of it (docs/faults.md)."""

from dataclasses import replace

from tsched.model.records import dataclass

FIRST, LONGEST = 1.0, 60.0  # seconds until the next try, doubled with each that fails
REMIND = 3600.0  # seconds after which an outage that goes on is said again


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """An outage that goes on. Times are seconds of a clock that nobody sets.

    `words` are the newest ones; `until`: nobody asks before; `told`: when a person was last told.
    """

    since: float
    words: str
    failures: int
    until: float
    told: float


def rests(outage: Outage | None, now: float) -> bool:
    """Whether it is too early to ask again."""
    return outage is not None and now < outage.until


def failed(before: Outage | None, words: str, *, began: float, now: float, after: float = 0.0) -> Outage:
    """The outage after one more try that failed. `after`: seconds that the other side asked us to wait.

    What was asked in vain for long is left alone for as long: at least half of the time is the rest of the work's.
    """
    failures = 1 if before is None else before.failures + 1
    wait = max(min(LONGEST, FIRST * 2.0 ** min(failures - 1, 20)), now - began, after)
    due = before is None or now - before.told >= REMIND
    return Outage(
        since=began if before is None else before.since,
        words=words,
        failures=failures,
        until=now + wait,
        told=now if due or before is None else before.told,
    )


def woken(outage: Outage, now: float) -> Outage:
    """Somebody wants it tried at once."""
    return replace(outage, until=now)
