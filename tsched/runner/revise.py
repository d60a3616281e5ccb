"""Steps 1 to 5 of a cycle: from the remote's tip to a verdict about it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tsched import __version__
from tsched.model.diagnostic import Diagnostic, Severity
from tsched.model.errors import ConfigurationError, TransientError
from tsched.model.fleet import LOCAL, Fleet
from tsched.model.kept import Kept
from tsched.model.lifecycle import Lifecycles
from tsched.model.run import Run
from tsched.model.selector import ALL, Selector
from tsched.runner.fleets import FleetSource
from tsched.runner.patience import Patience
from tsched.schedule.drain import adopt
from tsched.schedule.plan import Plan, plan
from tsched.schedule.review import drains, grown
from tsched.state.applied import Applied
from tsched.validate.fleet import FleetCache

ALLOW_REMOVAL = "Tsched-Allow-Removal"
PLAN = "Tsched-Plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """Nothing new to apply. `problem` says why the tip is unknown, None where it is the applied revision.

    `known`: a person has been told of that problem.
    """

    tip: str | None
    problem: str | None = None
    signer: str | None = None  # who signed the tip, where signatures are asked for and it was looked at
    known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The tip breaks rules; the last good revision keeps running."""

    tip: str
    diagnostics: tuple[Diagnostic, ...]
    content_key: str
    known: bool = False  # it was rejected before
    signer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The tip is sound but a person has to agree first. `kind`: signature, history, guard or plan."""

    tip: str
    kind: str
    reason: str
    plan: Plan | None = None
    signer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The tip may be applied."""

    tip: str
    fleet: Fleet
    plan: Plan
    warnings: tuple[Diagnostic, ...] = ()
    signer: str | None = None


Verdict = Unchanged | Rejected | Held | Ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What host settings and operators say about adopting revisions."""

    pools: Selector = ALL  # TSCHED_POOLS: serve these alone; empty: all
    allowed_signers: Path | None = None
    vouched: str | None = None  # the revision whose signature was found good by an earlier pass
    allow_rewrite: bool = False
    accepted: frozenset[str] = frozenset()
    remembered: Mapping[str, tuple[Diagnostic, ...]] = field(default_factory=dict)  # rejections, by content


def fetch(source: FleetSource, patience: Patience) -> str | Unchanged:
    """The tip's commit id, its objects now in the mirror; Unchanged where the remote gives no tip.

    One that does not answer is left alone for a while: what it costs to wait for it is not spent in each pass.
    """
    outage = patience.resting()
    if outage is not None:
        return Unchanged(tip=None, problem=outage.words, known=True)
    began = patience.now()
    try:
        tip = source.poll()
        source.fetch(tip)
    except TransientError as error:
        told = patience.failed(str(error), began=began)
        return Unchanged(tip=None, problem=str(error), known=not told)
    except ConfigurationError as error:
        patience.answered()
        return Unchanged(tip=None, problem=str(error))
    patience.answered()
    return tip


def consider(
    source: FleetSource,
    tip: str | Unchanged,
    applied: Applied,
    rules: Rules,
    *,
    cache: FleetCache,
    runs: Sequence[Run],
    kept: Kept,
) -> Verdict:
    """Verify, load, check, diff and guard the tip, in that order; each may end the matter."""
    if isinstance(tip, Unchanged):
        return tip
    unsure = rules.allowed_signers is not None and rules.vouched != tip
    known = applied.fleet is not None and tip == applied.fleet.revision
    as_wanted = known and not kept(reselected, applied.fleet, applied.lifecycles, rules.pools)
    if as_wanted and not unsure:
        return Unchanged(tip=tip)
    try:
        signer = verify(source, tip, rules)
        if isinstance(signer, Held):
            return signer
        if as_wanted:
            return Unchanged(tip=tip, signer=signer)
        return replace(_judge(source, tip, applied, rules, cache, runs), signer=signer)
    except TransientError as error:
        return Unchanged(tip=None, problem=str(error))


def _judge(
    source: FleetSource, tip: str, applied: Applied, rules: Rules, cache: FleetCache, runs: Sequence[Run]
) -> Rejected | Held | Ready:
    """What becomes of a tip whose signature is no obstacle."""
    held = descends(source, tip, applied, rules)
    loaded = load(source, tip, rules, cache)
    if isinstance(loaded, Rejected):
        return loaded
    fleet, warnings = loaded
    change = plan(served(applied), select(fleet, rules.pools), runs=runs, lifecycles=applied.lifecycles)
    if change.held is not None and not approved(source, tip, applied, rules):
        # With all reasons: whoever accepts it accepts all of them.
        reason = change.held if held is None else f"{held.reason}; and {change.held}"
        return Held(tip=tip, kind="guard" if held is None else held.kind, reason=reason, plan=change)
    if held is not None:
        return held
    if (past := outgrown(source, fleet, applied, rules, runs)) is not None:
        return Held(tip=tip, kind="plan", reason=past, plan=change)
    return Ready(tip=tip, fleet=fleet, plan=change, warnings=warnings)


def verify(source: FleetSource, tip: str, rules: Rules) -> str | Held | None:
    """Who signed the tip, None where nobody asks. An operator's `accept` never overrides this."""
    if rules.allowed_signers is None:
        return None
    try:
        return source.verify(tip, rules.allowed_signers)
    except ConfigurationError as error:
        return Held(tip=tip, kind="signature", reason=str(error))


def descends(source: FleetSource, tip: str, applied: Applied, rules: Rules) -> Held | None:
    """Fast-forward only, unless an operator accepts the tip."""
    if applied.fleet is None or rules.allow_rewrite or tip in rules.accepted:
        return None
    before = applied.fleet.revision
    if before.startswith(LOCAL) or source.is_ancestor(before, tip):  # the first commit after this host's own files
        return None
    return Held(
        tip=tip,
        kind="history",
        reason=f"history was rewritten: {tip[:12]} does not descend from the applied {before[:12]}; "
        f"`tsched accept {tip[:12]}` takes it all the same",
    )


def load(
    source: FleetSource, tip: str, rules: Rules, cache: FleetCache
) -> Rejected | tuple[Fleet, tuple[Diagnostic, ...]]:
    """Load and check the fleet of a commit; a verdict of "rejected" is remembered by content."""
    files = source.files(tip)
    key = f"{files.content_key} {__version__}"
    if key in rules.remembered:
        return Rejected(tip=tip, diagnostics=rules.remembered[key], content_key=key, known=True)
    loaded = source.load(files, cache)
    if loaded.fleet is None:
        return Rejected(tip=tip, diagnostics=loaded.diagnostics, content_key=key)
    return loaded.fleet, tuple(d for d in loaded.diagnostics if d.severity is Severity.WARNING)


def approved(source: FleetSource, tip: str, applied: Applied, rules: Rules) -> bool:
    """Whether a person agreed to the removal: by `accept`, or by the trailer on a commit with the tip's pools."""
    if tip in rules.accepted:
        return True
    return any(value.strip().lower() == "yes" for value in source.trailers(_commit(applied), tip, ALLOW_REMOVAL))


def _commit(applied: Applied) -> str | None:
    """The applied commit; None where what is applied is none."""
    revision = applied.fleet.revision if applied.fleet is not None else None
    return None if revision is None or revision.startswith(LOCAL) else revision


def outgrown(source: FleetSource, new: Fleet, applied: Applied, rules: Rules, runs: Sequence[Run]) -> str | None:
    """Why a change does more by now than its `Tsched-Plan` trailer says was reviewed; None where it does not."""
    if applied.fleet is None or new.revision in rules.accepted:
        return None
    reviewed = source.trailers(_commit(applied), new.revision, PLAN)
    if not reviewed:
        return None
    old = served(applied) or applied.fleet
    reason = grown(reviewed[0], drains(old, select(new, rules.pools), runs))
    return None if reason is None else f"{reason}: look again, then `tsched accept` it, or mend its trailer"


def select(fleet: Fleet, pools: Selector, *, besides: Collection[str] = ()) -> Fleet:
    """The part of a fleet that this runner serves (TSCHED_POOLS); all of it where no selector is set.

    `besides`: queues whose pools are kept in any case.
    """
    if not pools:
        return fleet
    return replace(fleet, pools=tuple(one for one in fleet.pools if pools.chooses(one) or one.queue in besides))


def reselected(fleet: Fleet | None, rows: Lifecycles, pools: Selector) -> bool:
    """Whether TSCHED_POOLS asks for other agents than the lifecycle rows were made for."""
    return fleet is not None and adopt(rows, fleet, select(fleet, pools), now=0.0) != rows


def served(applied: Applied) -> Fleet | None:
    """The part of the applied fleet that has active agents or no agents at all: what was being served until now."""
    if applied.fleet is None:
        return None
    active = applied.lifecycles.admitting
    return replace(applied.fleet, pools=tuple(p for p in applied.fleet.pools if not p.agents or p.queue in active))
