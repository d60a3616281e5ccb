"""Plans between revisions, and what a reviewer must see of them. Nothing is changed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tsched.gitops.commits import Commits
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Fleet
from tsched.model.run import Run
from tsched.observe import status as shown
from tsched.runner.execution import executor_of
from tsched.runner.fleets import FleetSource
from tsched.runner.host import Host
from tsched.runner.revise import select
from tsched.schedule.plan import Plan, plan
from tsched.schedule.review import Review, review
from tsched.state import applied
from tsched.validate.fleet import FleetCache

REVIEWED = "Tsched-Reviewed"  # the trailer that owns up to a widening


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What goes on while a plan is looked at: runs, and the queues that hold open tasks."""

    runs: Sequence[Run] = ()
    waiting: Sequence[str] = ()


def live_in(status: shown.Status) -> Live:
    """What a runner's status says of runs and queues. Only who runs what is known of each run."""
    queues = {pool["name"]: pool["queue"] for pool in status["pools"]}
    runs = [
        Run(
            run_id=run["run_id"], task_id=run["task_id"], agent=run["agent"], pool=run["pool"],
            queue=queues.get(run["pool"], run["pool"]), attempt=run["attempt"], revision=run["revision"],
            executor=run["executor"], recipe="", runtime="", evidence="", created_at=0.0,
        )
        for run in status["runs"]
    ]  # fmt: skip
    return Live(runs=runs, waiting=[queue["name"] for queue in status["queues"] if queue["idle"]])


def live_at(where: str | None) -> Live:
    """What goes on at a runner, by its status's file or address; nothing where none is given.

    Raises as read_status does.
    """
    if where is None:
        return Live()
    from tsched.observe.remote import read_status  # the HTTP client is slow to load, and `status` needs none

    return live_in(read_status(where))


def plan_against_applied(host: Host, revision: str | None) -> tuple[str, Plan, Review]:
    """The plan from what is applied to a revision (None: the remote's tip), with the revision's full id."""
    tip = host.source.poll()
    host.source.fetch(tip)
    wanted = tip if revision is None else host.source.resolve(revision)
    record = applied.load(host.db)
    executor = executor_of(host.settings, host.folder)
    runs = [run for run_id in executor.poll() if (run := executor.run(run_id)) is not None]
    pools = host.settings.pools
    old = None if record.fleet is None else select(record.fleet, pools)
    new = select(fleet_at(host.source, wanted), pools)
    found = plan(old, new, runs=runs, lifecycles=record.lifecycles)
    return wanted, found, review(old, new, runs=runs, waiting=[one.name for one in host.tasks.depths() if one.idle])


def plan_between(commits: Commits, old: str, new: str, live: Live) -> tuple[Plan, Review]:
    """The plan from one revision to another. `live`: what goes on somewhere meanwhile."""
    before, after = (fleet_at(commits, commits.resolve(revision)) for revision in (old, new))
    return plan(before, after, runs=live.runs), review(before, after, runs=live.runs, waiting=live.waiting)


def owns_up(commits: Commits, old: str, new: str, what: str) -> bool:
    """Whether a commit of the change, with the newer one's very content, says `Tsched-Reviewed: <what>`."""
    before, after = commits.resolve(old), commits.resolve(new)
    values = commits.trailers(before, after, REVIEWED, bound=("pools", "recipes"))
    return any(word.strip().lower() == what for value in values for word in value.split(","))


def unowned(commits: Commits, old: str, new: str, seen: Review, required: Collection[str]) -> str | None:
    """Why a required review is missing; None where nobody has to own up to anything, or somebody does."""
    if not seen.widened or all(owns_up(commits, old, new, what) for what in required):
        return None
    trailers = " and ".join(f"`{REVIEWED}: {what}`" for what in required)
    return f"agents gain powers: a commit of the change must say {trailers} (git commit --trailer)"


def fleet_at(source: FleetSource | Commits, revision: str) -> Fleet:
    """The fleet of a revision. Raises ConfigurationError, with its first finding, where it breaks rules."""
    loaded = source.load(source.files(revision), FleetCache())
    if loaded.fleet is None:
        raise ConfigurationError(
            f"revision {revision[:12]} breaks the rules: {loaded.diagnostics[0]} "
            f"`tsched validate --revision {revision[:12]}` shows all"
        )
    return loaded.fleet
