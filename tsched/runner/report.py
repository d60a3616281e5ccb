"""Step 10: what the pass saw, kept for `tsched status`, and the last of its events."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from tsched import __version__
from tsched.model.fleet import Fleet, Pool
from tsched.model.kept import Kept
from tsched.model.override import OverrideKind
from tsched.model.run import Run
from tsched.model.units import from_iso, iso
from tsched.observe.conditions import SIGNED, UNASKED, Condition, Facts, conditions
from tsched.observe.status import ElsewhereStatus, HeldStatus, RejectedStatus, Report, RunnerStatus
from tsched.runner.override import left_out
from tsched.runner.record import Pass
from tsched.runner.revise import Held, Ready, Rejected, Unchanged
from tsched.runner.roster import homes
from tsched.state import verdicts
from tsched.validate.report import as_object


def report(p: Pass) -> None:
    """Store the report and write what events are left, in one commit."""
    now = p.host.clock()
    seen = Report(
        fetched=fetched(p),
        rejected=None,
        held=None,
        conditions=[],
        elsewhere=[
            ElsewhereStatus(
                task_id=task.id,
                queue=task.queue,
                agent=task.assigned_to,
                run_id=task.claim_run or "",
                runner=task.claim_runner or "",
            )
            for task in p.elsewhere
        ],
        runner=RunnerStatus(
            pid=os.getpid(),
            host=p.host.settings.hostname,
            version=__version__,
            last_cycle=iso(now),
            id=p.host.runner_id,
            selector=str(p.host.settings.pools) or None,
        ),
    )
    match p.verdict:
        case Rejected() as rejected:
            seen["rejected"] = RejectedStatus(
                revision=rejected.tip, diagnostics=[as_object(one) for one in rejected.diagnostics]
            )
        case Held() as held:
            seen["held"] = HeldStatus(revision=held.tip, reason=held.reason)
        case _:
            pass
    seen["conditions"] = list(
        conditions(p.last["conditions"], facts(p, seen), generation=p.applied.generation, now=now)
    )
    same = seen == Report(**{**p.last, "runner": {**p.last["runner"], "last_cycle": seen["runner"]["last_cycle"]}})
    # Of a pass with nothing new only the time is: no disk is waited for.
    with p.host.db.unhurried() if same and not p.pending else nullcontext(), p.commit():
        verdicts.put_report(p.host.db, Report, seen)


def fetched(p: Pass) -> str | None:
    """The remote's tip as last seen: this pass's, or an earlier one's where the remote did not answer."""
    match p.verdict:
        case Unchanged(tip=None) | None:
            return p.last["fetched"]
        case Unchanged() | Ready() | Rejected() | Held():
            return p.verdict.tip


def facts(p: Pass, seen: Report) -> Facts:
    """The pass in the terms of conditions."""
    fleet, leaving = p.applied.fleet, p.applied.lifecycles.leaving
    problem = p.verdict.problem if isinstance(p.verdict, Unchanged) else None
    rejected = seen["rejected"]
    return Facts(
        applied=fleet.revision if fleet is not None else None,
        fetched=seen["fetched"],
        fetch_error=problem,
        last_fetch=last_fetch(p, problem),
        verified=verified(p),
        signer=signer(p),
        rejected=None if rejected is None else f"revision {rejected['revision'][:12]} breaks the rules",
        held=None if seen["held"] is None else seen["held"]["reason"],
        draining=[row.agent for row in leaving],
        suspended=[
            pool.name for pool in (fleet.pools if fleet else ()) if pool.suspend and pool.suspend.holds(p.now)
        ],
        over_limit=p.host.kept(_over, p.host.kept, fleet, p.every_run()) if fleet is not None else [],
        stopped=[str(one) for one in p.overrides if one.kind is OverrideKind.STOP],
        drained_here=sorted(left_out(p)),
        errors=[*(one.message for one in p.troubles), *p.known],
    )


def _over(kept: Kept, fleet: Fleet, runs: Sequence[Run]) -> Sequence[str]:
    """Agents with more runs than their limit, in the fleet's order."""
    running, home = Counter(run.agent for run in runs), homes(kept, fleet, of="applied")
    limits = dict(zip((pool.queue for pool in fleet.pools), kept.each(_limits_in, fleet.pools), strict=True))
    over = {name for name, number in running.items() if name in home and number > limits[home[name]][name]}
    return [name for name in home if name in over] if over else []


def _limits_in(pool: Pool) -> Mapping[str, int]:
    return {agent.name: agent.limit for agent in pool.agents}


def last_fetch(p: Pass, problem: str | None) -> float | None:
    """When the remote last answered (seconds since the epoch): now, or when FetchFailed began."""
    if problem is None:
        return p.now
    failing = [one for one in p.last["conditions"] if one["type"] == "FetchFailed" and one["status"] == "True"]
    return from_iso(failing[0]["since"]) if failing else None


def verified(p: Pass) -> bool | None:
    """Whether the tip's signature is good; None where none is asked for, or none was looked at yet."""
    if p.host.settings.allowed_signers is None:
        return None
    if isinstance(p.verdict, Held) and p.verdict.kind == "signature":
        return False
    if p.verdict is None or (isinstance(p.verdict, Unchanged) and p.verdict.signer is None):
        return {"True": True, "False": False, "Unknown": None}[known(p)["status"]]
    return True


def signer(p: Pass) -> str:
    """Who signed the tip, "" where that is not known."""
    now = None if p.verdict is None else p.verdict.signer
    before = known(p)["message"]
    return now or (before.removeprefix(SIGNED) if before.startswith(SIGNED) else "")


def known(p: Pass) -> Condition:
    """What earlier passes found out about the tip's signature."""
    return next((one for one in p.last["conditions"] if one["type"] == "Verified"), UNASKED)


def vouched(p: Pass) -> str | None:
    """The revision whose signature an earlier pass found good."""
    return p.last["fetched"] if known(p)["status"] == "True" else None
