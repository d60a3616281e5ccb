"""What commands that only look ask: the status object, and plans between revisions. Nothing is changed."""

from contextlib import closing

from tsched.gitops.mirror import Mirror
from tsched.model.errors import ConfigurationError
from tsched.model.fleet import Fleet
from tsched.observe import status as shown
from tsched.runner.host import Host, executor_of, folder_of
from tsched.runner.revise import select
from tsched.schedule.plan import Plan, plan
from tsched.settings import Settings
from tsched.state import applied, verdicts
from tsched.state.database import Database
from tsched.state.leases import Leases
from tsched.tasks.embedded import EmbeddedTasks
from tsched.validate.fleet import load_fleet


def look(settings: Settings, *, now: float) -> shown.Status:
    """The status of this host's runner, read without touching anything. `now`: seconds since the epoch."""
    folder = folder_of(settings)
    with (
        closing(Database.read_only(folder.db) or Database.empty()) as db,
        closing(EmbeddedTasks(folder.tasks_db, read_only=True)) as tasks,
    ):
        record = applied.load(db)
        return shown.status(
            fleet=record.fleet,
            lifecycles=record.lifecycles,
            leases=Leases(folder.running).read_all().leases.values(),
            depths=tasks.depths(),
            report=verdicts.get_report(db, shown.Report, shown.NOTHING_SEEN),
            generation=record.generation,
            now=now,
        )


def plan_against_applied(host: Host, revision: str | None) -> tuple[str, Plan]:
    """The plan from what is applied to a revision (None: the remote's tip), with the revision's full id."""
    tip = host.mirror.poll()
    host.mirror.fetch(tip)
    wanted = tip if revision is None else host.mirror.resolve(revision)
    record = applied.load(host.db)
    executor = executor_of(host.settings, host.folder)
    runs = [run for run_id in executor.poll() if (run := executor.run(run_id)) is not None]
    pools = host.settings.pools
    old = None if record.fleet is None else select(record.fleet, pools)
    new = select(fleet_at(host.mirror, wanted), pools)
    return wanted, plan(old, new, runs=runs, lifecycles=record.lifecycles)


def plan_between(mirror: Mirror, old: str, new: str) -> Plan:
    """The plan from one revision to another, with no live runs in it."""
    mirror.fetch(mirror.poll())
    return plan(fleet_at(mirror, mirror.resolve(old)), fleet_at(mirror, mirror.resolve(new)))


def fleet_at(mirror: Mirror, revision: str) -> Fleet:
    """The fleet of a revision. Raises ConfigurationError, with its first finding, where it breaks rules."""
    loaded = load_fleet(mirror.files(revision))
    if loaded.fleet is None:
        raise ConfigurationError(
            f"revision {revision[:12]} breaks the rules: {loaded.diagnostics[0]} "
            f"`tsched validate --revision {revision[:12]}` shows all"
        )
    return loaded.fleet
