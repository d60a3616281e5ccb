"""One cycle, in the order of DESIGN section 3:

fetch → verify → load → check → diff → guard → apply → reap → recover → drain → match → launch → report
"""

from dataclasses import dataclass

from tsched.model.errors import TschedError
from tsched.model.units import about
from tsched.observe.log import PassLog
from tsched.observe.status import NOTHING_SEEN
from tsched.observe.status import Report as LastReport
from tsched.runner.adopt import adopt
from tsched.runner.agree import agree
from tsched.runner.alarm import alarm
from tsched.runner.announce import announce
from tsched.runner.care import care
from tsched.runner.chronicle import chronicled
from tsched.runner.finish import reap, recover, survey
from tsched.runner.host import Host
from tsched.runner.launch import launch
from tsched.runner.matching import find_work
from tsched.runner.override import enforce, follow, heed_view
from tsched.runner.record import Pass
from tsched.runner.report import report, vouched
from tsched.runner.retire import drain
from tsched.runner.revise import Rules, Unchanged, consider, fetch
from tsched.state import applied, breakers, overrides, requests, verdicts
from tsched.state.lock import RunnerLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass comes to: errors logged, seconds until the next one is due, whether it left work to that one."""

    errors: int
    interval: float
    left: bool = False


def cycle(host: Host, lock: RunnerLock) -> Report:
    """Make the machine match the newest good commit, and give the agents work. Every step can be repeated.

    Raises FatalError where going on would break a promise; anything that passes by itself is logged instead.
    """
    lock.refresh()
    with host.log.reconciliation_pass() as log:
        host.executor.attend()
        p = begin(host, log)
        with chronicled(p):
            take_requests(p)
            heed_view(p)
            examine(p)
            with p.step("apply"):
                adopt(p)
                enforce(p)
            with p.step("reap"):
                p.begin_settling()
                reap(p)
            with p.step("recover"):
                recover(p)
                agree(p)
            with p.step("drain"):
                drain(p)
            with p.guarded("task server", kind="task-server"):
                with p.step("match"):
                    assignments = find_work(p)
                with p.step("launch"):
                    launch(p, assignments)
            with p.step("report"):
                welcome(p)
                announce(p)
                with p.guarded("alerts", kind="alert"):
                    alarm(p)
                report(p)
            care(p)
        return Report(errors=len(p.troubles), interval=0.0 if p.left else interval(p), left=p.left)


def begin(host: Host, log: PassLog) -> Pass:
    """What is, before anything is done: the applied record and every run."""
    with host.db.moment():
        p = Pass(
            host=host,
            log=log,
            now=host.clock(),
            applied=applied.load(host.db),
            last=verdicts.get_report(host.db, LastReport, NOTHING_SEEN),
            breakers=breakers.load(host.db),
            overrides=overrides.load(host.db),
        )
    survey(p)
    return p


def examine(p: Pass) -> None:
    """fetch → verify → load → check → diff → guard: a verdict about the remote's tip, and nothing changed."""
    source = p.host.source
    try:
        with p.step("fetch"):
            tip = fetch(source, p.host.remote)
        with p.step("check"):
            p.verdict = consider(
                source, tip, p.applied, rules_of(p), cache=p.host.cache, runs=list(p.runs.values()), kept=p.host.kept
            )
    except TschedError:
        raise
    except Exception as error:  # whatever a commit holds, it must not stop the work that goes on
        p.verdict = Unchanged(tip=None, problem=f"looking at it failed: {type(error).__name__}: {error}")


def take_requests(p: Pass) -> None:
    """Carry out what commands left for the runner. A `sync` has done its work by waking it."""
    asked = requests.pending(p.host.db)
    if not asked:
        return
    with p.commit():
        for request in asked:
            if request.kind == "accept":
                p.applied = applied.accept(p.host.db, p.applied, request.argument)
                p.event(
                    "revision.accepted", f"revision/{request.argument}", f"accepted by {request.author}",
                    revision=request.argument,
                )  # fmt: skip
        follow(p, asked)
        requests.done(p.host.db, [request.id for request in asked])


def welcome(p: Pass) -> None:
    """Say who answers again."""
    for who, patience in (("The fleet repo's remote", p.host.remote), ("The task server", p.host.server)):
        away = patience.returned()
        if away is not None:
            p.log.info(f"{who} answers again, after {about(away)}")


def rules_of(p: Pass) -> Rules:
    """What host settings and operators say about adopting revisions."""
    settings = p.host.settings
    return Rules(
        pools=settings.pools,
        allowed_signers=settings.allowed_signers,
        vouched=vouched(p),
        allow_rewrite=settings.allow_rewrite,
        accepted=p.applied.accepted,
        remembered=verdicts.remembered(p.host.db),
    )


def interval(p: Pass) -> float:
    """Seconds between passes: a flag or host setting, else the fleet's own figure."""
    if p.host.settings.loop_interval is not None:
        return p.host.settings.loop_interval
    return p.applied.fleet.limits.loop_interval if p.applied.fleet is not None else 5.0
